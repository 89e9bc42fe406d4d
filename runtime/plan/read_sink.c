#include <stdio.h>
#include <string.h>

#include "runtime/base/check.h"
#include "runtime/plan/reader.h"

static void read_output(struct rml_reader *reader, const struct rml_values *values,
                        const struct rml_yaml_node *node, struct rml_plan_sink *sink)
{
    char name[RML_NAME_MAX + 1];
    bool late = rml_reader_split_late(node, name);
    uint32_t draft = rml_reader_stage_find(reader, name);
    if (draft == UINT32_MAX) {
        struct rml_names names = {0};
        for (uint32_t i = 0; i < reader->stage_count; i++)
            rml_names_add(&names, reader->stages[i].name->text);
        char hint[160];
        rml_names_hint(&names, name, hint, sizeof hint);
        bool source = rml_plan_source_find(reader->plan, name) != UINT32_MAX;
        rml_report_add(reader->report, node->place,
                       source ? "put a stage between, such as  filter: true" : hint,
                       source ? "%s: %.60s is a source: a sink takes what a stage puts out"
                              : "%s: there is no stage %.60s",
                       values->what, node->text);
        return;
    }
    uint32_t stage = reader->stages[draft].place;
    if (late && reader->stages[draft].values.at[RML_SET_STAGE_WINDOW] == NULL) {
        rml_report_add(reader->report, node->place, NULL,
                       "%s: %s has no late output: only window stages do", values->what, name);
        return;
    }
    for (uint32_t i = 0; i < sink->from_count; i++) {
        if (sink->from[i].stage == stage && sink->from[i].late == late) {
            rml_report_add(reader->report, node->place, NULL, "%s: from names %s twice",
                           values->what, node->text);
            return;
        }
    }
    sink->from[sink->from_count++] = (struct rml_plan_output){stage, late};
}

static const struct rml_schema *output_schema(const struct rml_plan *plan,
                                              struct rml_plan_output output)
{
    const struct rml_plan_stage *stage = &plan->stages[output.stage];
    if (output.late)
        return stage->source == UINT32_MAX ? NULL : &plan->sources[stage->source].schema;
    return &stage->output;
}

static bool same_columns(const struct rml_schema *a, const struct rml_schema *b)
{
    if (a->field_count != b->field_count)
        return false;
    for (uint32_t i = 0; i < a->field_count; i++)
        if (strcmp(a->fields[i].name, b->fields[i].name) != 0)
            return false;
    return true;
}

// What can be in one file or ring: JSON lines of any kind, CSV of one header, a ring of one stage.
static void check_outputs(struct rml_reader *reader, const struct rml_values *values,
                          const struct rml_plan_sink *sink)
{
    const struct rml_yaml_node *from = values->at[RML_SET_SINK_FROM];
    if (sink->from_count < 2)
        return;
    if (sink->kind == RML_SINK_RING) {
        rml_report_add(reader->report, from->key->place, "make a sink for each",
                       "%s: a ring carries the rows of one stage", values->what);
        return;
    }
    const struct rml_schema *first = output_schema(reader->plan, sink->from[0]);
    for (uint32_t i = 1; i < sink->from_count && sink->kind == RML_SINK_CSV; i++) {
        const struct rml_schema *other = output_schema(reader->plan, sink->from[i]);
        if (first == NULL || other == NULL || same_columns(first, other))
            continue;
        rml_report_add(reader->report, from->key->place, "make a sink for each, or use jsonl",
                       "%s: a csv file has one header, and these outputs have different columns",
                       values->what);
        return;
    }
}

/*
 * The path with "./" and doubled slashes taken out, so that two ways of writing one file look
 * alike. Links are not followed: the file need not exist yet.
 */
static void plain_path(const char *path, char *plain)
{
    size_t used = 0;
    bool starts = true;  // a component starts here
    for (const char *at = path; *at != '\0';) {
        if (starts && at[0] == '.' && at[1] == '/') {
            at += 2;
            while (*at == '/')
                at++;
            continue;
        }
        starts = *at == '/';
        plain[used++] = *at++;
        while (starts && *at == '/')
            at++;
    }
    plain[used] = '\0';
}

static void read_path(struct rml_reader *reader, const struct rml_values *values,
                      struct rml_plan_sink *sink)
{
    const struct rml_yaml_node *written = values->at[RML_SET_SINK_PATH];
    if (written == NULL) {
        rml_report_add(reader->report, values->place, "such as  path: results.jsonl",
                       "%s: a file needs a path", values->what);
        return;
    }
    const struct rml_yaml_node *node = rml_reader_scalar(reader, values, RML_SET_SINK_PATH);
    if (node == NULL)
        return;
    if (node->text[node->text_length - 1] == '/') {
        rml_report_add(reader->report, node->place, "name a file in it", "%s: %.60s is a folder",
                       values->what, node->text);
        return;
    }
    sink->path = rml_arena_give(reader->arena, node->text_length + 1, 1);
    plain_path(node->text, sink->path);
    for (const struct rml_plan_sink *other = reader->plan->sinks; other < sink; other++) {
        if (other->path != NULL && strcmp(other->path, sink->path) == 0) {
            rml_report_add(reader->report, node->place, "give each sink a file of its own",
                           "%s: sink %s writes to %.60s already", values->what, other->name,
                           node->text);
            return;
        }
    }
}

static void refuse(struct rml_reader *reader, const struct rml_values *values,
                   enum rml_setting setting, const char *kind)
{
    const struct rml_yaml_node *node = values->at[setting];
    if (node != NULL)
        rml_report_add(reader->report, node->key->place, "leave it away", "%s: a %s has no %s",
                       values->what, kind, node->key->text);
}

// A table has the name of its stage, so there is one of each.
static bool has_table(const struct rml_plan_sink *sink, struct rml_plan_output output)
{
    for (uint32_t i = 0; sink->kind == RML_SINK_TABLE && i < sink->from_count; i++)
        if (sink->from[i].stage == output.stage && sink->from[i].late == output.late)
            return true;
    return false;
}

static void read_table(struct rml_reader *reader, const struct rml_values *values,
                       struct rml_plan_sink *sink)
{
    struct rml_plan *plan = reader->plan;
    const struct rml_yaml_node *type = values->at[RML_SET_SINK_TYPE];
    if (plan->state == NULL)
        rml_report_add(reader->report, type->place, "such as  runtime: {state: ./state}",
                       "%s: a table is kept with checkpoints, and the file has no runtime.state",
                       values->what);
    for (const struct rml_plan_sink *other = plan->sinks; other < sink; other++) {
        for (uint32_t i = 0; i < sink->from_count; i++) {
            if (!has_table(other, sink->from[i]))
                continue;
            rml_report_add(reader->report, values->at[RML_SET_SINK_FROM]->key->place,
                           "a stage has one table", "%s: sink %s keeps a table of %s%s already",
                           values->what, other->name, plan->stages[sink->from[i].stage].name,
                           sink->from[i].late ? ".late" : "");
            return;
        }
    }
    int64_t rows_max = values->at[RML_SET_SINK_KEEP] != NULL ? 0 : RML_TABLE_ROWS_STANDARD;
    if (values->at[RML_SET_SINK_KEEP] != NULL)
        rml_reader_number(reader, values, RML_SET_SINK_KEEP, &sink->keep_ns);
    if (values->at[RML_SET_SINK_MAX_ROWS] != NULL)
        rml_reader_number(reader, values, RML_SET_SINK_MAX_ROWS, &rows_max);
    sink->rows_max = (uint64_t)rows_max;
}

static void read_sink(struct rml_reader *reader, const struct rml_yaml_node *node)
{
    struct rml_plan_sink *sink = &reader->plan->sinks[reader->plan->sink_count++];
    if (rml_reader_name(reader, node->key, "sink"))
        snprintf(sink->name, sizeof sink->name, "%s", node->key->text);
    struct rml_values values;
    if (!rml_reader_section(reader, RML_SECTION_SINK, node, node->key->place, node->key->text,
                            &values))
        return;
    const struct rml_yaml_node *list[RML_STAGES_MAX];
    uint32_t count = rml_reader_scalars(reader, &values, RML_SET_SINK_FROM, list, RML_STAGES_MAX);
    for (uint32_t i = 0; i < count; i++)
        read_output(reader, &values, list[i], sink);

    uint32_t kind = 0, times = 0;
    if (!rml_reader_choice(reader, &values, RML_SET_SINK_TYPE, &kind))
        return;
    sink->kind = (enum rml_sink_kind)kind;
    check_outputs(reader, &values, sink);
    const char *name = sink->kind == RML_SINK_RING    ? "ring"
                       : sink->kind == RML_SINK_TABLE ? "table"
                                                      : "file";
    if (sink->kind != RML_SINK_TABLE) {
        refuse(reader, &values, RML_SET_SINK_KEEP, name);
        refuse(reader, &values, RML_SET_SINK_MAX_ROWS, name);
    }
    if (sink->kind != RML_SINK_RING) {
        refuse(reader, &values, RML_SET_SINK_ROWS, name);
        refuse(reader, &values, RML_SET_SINK_GROUPS, name);
        refuse(reader, &values, RML_SET_SINK_ALLOW, name);
    }
    if (sink->kind == RML_SINK_RING || sink->kind == RML_SINK_TABLE) {
        refuse(reader, &values, RML_SET_SINK_PATH, name);
        refuse(reader, &values, RML_SET_SINK_TIMES, name);
    }
    if (sink->kind == RML_SINK_TABLE) {
        read_table(reader, &values, sink);
        return;
    }
    if (sink->kind == RML_SINK_RING) {
        int64_t rows = 0, groups = 0;
        rml_reader_number(reader, &values, RML_SET_SINK_ROWS, &rows);
        rml_reader_number(reader, &values, RML_SET_SINK_GROUPS, &groups);
        sink->rows = (uint32_t)rows;
        sink->groups = (uint32_t)groups;
        rml_read_allow(reader, &values, RML_SET_SINK_ALLOW, values.what, &sink->allow);
        return;
    }
    read_path(reader, &values, sink);
    rml_reader_choice(reader, &values, RML_SET_SINK_TIMES, &times);
    sink->rfc3339 = times == 1;
}

void rml_read_sinks(struct rml_reader *reader, const struct rml_values *file)
{
    _Static_assert(RML_SINK_JSONL == 0 && RML_SINK_CSV == 1 && RML_SINK_RING == 2
                       && RML_SINK_TABLE == 3,
                   "in the order of the table's choices");
    const struct rml_yaml_node *sinks =
        rml_reader_mapping(reader, file, RML_SET_FILE_SINKS, RML_SINKS_MAX);
    if (sinks == NULL)
        return;
    for (const struct rml_yaml_node *n = sinks->first; n != NULL; n = n->next)
        read_sink(reader, n);
}
