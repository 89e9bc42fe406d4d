#include <stdio.h>
#include <string.h>

#include "runtime/base/check.h"
#include "runtime/base/err.h"
#include "runtime/plan/reader.h"
#include "runtime/time/time.h"

void rml_resolve_readers(struct rml_reader *reader)
{
    struct rml_plan *plan = reader->plan;
    for (uint32_t i = 0; i < plan->stage_count; i++) {
        const struct rml_plan_stage *stage = &plan->stages[i];
        if (stage->from == RML_NO_STAGE)
            continue;
        if (stage->from_late)
            plan->stages[stage->from].late_has_reader = true;
        else
            plan->stages[stage->from].has_reader = true;
    }
    for (uint32_t i = 0; i < plan->sink_count; i++) {
        for (uint32_t k = 0; k < plan->sinks[i].from_count; k++) {
            struct rml_plan_stage *stage = &plan->stages[plan->sinks[i].from[k].stage];
            if (plan->sinks[i].from[k].late)
                stage->late_has_reader = true;
            else
                stage->has_reader = true;
        }
    }
}

static bool key_has_field(const struct rml_plan *plan, const struct rml_plan_stage *stage,
                          uint32_t field)
{
    const struct rml_frame *frame = &plan->sources[stage->source].frame;
    for (uint32_t k = 0; k < stage->key_count; k++)
        if (frame->columns[stage->key_columns[k]].field == field)
            return true;
    return false;
}

static const struct rml_reader_stage *draft_of(const struct rml_reader *reader, uint32_t place)
{
    for (uint32_t i = 0; i < reader->stage_count; i++)
        if (reader->stages[i].place == place)
            return &reader->stages[i];
    RML_UNREACHABLE("every stage of the plan came from the file");
}

static struct rml_place key_place(const struct rml_reader_stage *draft)
{
    const struct rml_yaml_node *key = draft->values.at[RML_SET_STAGE_KEY];
    return key != NULL ? key->kind == RML_YAML_SCALAR ? key->place : key->key->place
                       : draft->values.place;
}

// A group whose records can lie in several partitions would come out once in each, and wrong.
static void check_keys(struct rml_reader *reader, uint32_t index)
{
    const struct rml_plan *plan = reader->plan;
    const struct rml_plan_source *source = &plan->sources[index];
    for (uint32_t i = 0; i < plan->stage_count; i++) {
        const struct rml_plan_stage *stage = &plan->stages[i];
        if (stage->kind != RML_STAGE_WINDOW || stage->source != index)
            continue;
        const struct rml_reader_stage *draft = draft_of(reader, i);
        if (draft->values.at[RML_SET_STAGE_KEY] == NULL) {
            rml_report_add(reader->report, draft->values.place,
                           "add a key, or write  runtime: {partitions: 1}",
                           "%s: without a key its one group would be spread over several "
                           "partitions",
                           draft->values.what);
            continue;
        }
        for (uint32_t p = 0; p < source->partition_field_count; p++) {
            const char *name = source->schema.fields[source->partition_fields[p]].name;
            if (key_has_field(plan, stage, source->partition_fields[p]))
                continue;
            char hint[160];
            snprintf(hint, sizeof hint,
                     "add %s to the key, take it out of partition_by, or write partitions: 1",
                     name);
            rml_report_add(reader->report, key_place(draft), hint,
                           "%s: the key must contain %s, by which source %s is partitioned",
                           draft->values.what, name, source->name);
        }
    }
}

// Take out of the candidates what this stage's key does not contain.
static void keep_common(const struct rml_plan *plan, const struct rml_plan_stage *stage,
                        struct rml_plan_source *source)
{
    uint32_t kept = 0;
    for (uint32_t p = 0; p < source->partition_field_count; p++)
        if (key_has_field(plan, stage, source->partition_fields[p]))
            source->partition_fields[kept++] = source->partition_fields[p];
    source->partition_field_count = kept;
}

static void start_common(const struct rml_plan *plan, const struct rml_plan_stage *stage,
                         struct rml_plan_source *source)
{
    const struct rml_frame *frame = &plan->sources[stage->source].frame;
    for (uint32_t k = 0; k < stage->key_count; k++) {
        if (frame->columns[stage->key_columns[k]].field != RML_FIELD_ABSENT)
            source->partition_fields[source->partition_field_count++] =
                frame->columns[stage->key_columns[k]].field;
    }
}

// What all keys below the source have in common, in the order of the first; how many there are.
static uint32_t choose_partition_key(struct rml_plan *plan, uint32_t index)
{
    uint32_t windows = 0;
    for (uint32_t i = 0; i < plan->stage_count; i++) {
        const struct rml_plan_stage *stage = &plan->stages[i];
        if (stage->kind != RML_STAGE_WINDOW || stage->source != index || stage->key_count == 0)
            continue;
        if (windows++ == 0)
            start_common(plan, stage, &plan->sources[index]);
        else
            keep_common(plan, stage, &plan->sources[index]);
    }
    return windows;
}

static bool any_key_is_unreadable(const struct rml_reader *reader, uint32_t index)
{
    for (uint32_t i = 0; i < reader->stage_count; i++) {
        const struct rml_reader_stage *draft = &reader->stages[i];
        if (draft->source != index || draft->values.at[RML_SET_STAGE_KEY] == NULL)
            continue;
        const struct rml_yaml_node *key = draft->values.at[RML_SET_STAGE_KEY];
        uint32_t written = key->kind == RML_YAML_SEQUENCE ? key->count : 1;
        if (reader->plan->stages[draft->place].key_count != written)
            return true;
    }
    return false;
}

static void resolve_partition_key(struct rml_reader *reader, uint32_t index)
{
    struct rml_plan *plan = reader->plan;
    struct rml_plan_source *source = &plan->sources[index];
    const struct rml_reader_source *draft = &reader->sources[index];
    if (draft->unknown || any_key_is_unreadable(reader, index))
        return;
    // the file alone decides whether it is good: a machine with one CPU must not hide the question
    bool one_partition = reader->partitions_written && plan->partitions == 1;
    bool written = draft->values.at[RML_SET_SOURCE_PARTITION_BY] != NULL;
    uint32_t windows = written ? 0 : choose_partition_key(plan, index);
    if (windows > 0 && source->partition_field_count == 0 && !one_partition) {
        rml_report_add(reader->report, draft->values.place,
                       "give the keys a field in common, or write  runtime: {partitions: 1}",
                       "%s: the keys of its stages have no field of the record in common to "
                       "partition it by",
                       draft->values.what);
    }
    if (!one_partition)
        check_keys(reader, index);
}

static bool key_is_partition_key(const struct rml_plan *plan, const struct rml_plan_stage *stage)
{
    const struct rml_plan_source *source = &plan->sources[stage->source];
    if (stage->key_count == 0 || stage->key_count != source->partition_field_count)
        return false;
    for (uint32_t k = 0; k < stage->key_count; k++)
        if (source->frame.columns[stage->key_columns[k]].field != source->partition_fields[k])
            return false;
    return true;
}

void rml_resolve_partition_keys(struct rml_reader *reader)
{
    struct rml_plan *plan = reader->plan;
    for (uint32_t s = 0; s < plan->source_count; s++)
        resolve_partition_key(reader, s);
    for (uint32_t i = 0; i < plan->stage_count; i++) {
        struct rml_plan_stage *stage = &plan->stages[i];
        stage->key_is_partition_key = stage->kind == RML_STAGE_WINDOW && stage->source != UINT32_MAX
                                      && key_is_partition_key(plan, stage);
    }
}
