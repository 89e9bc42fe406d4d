#include <stdio.h>
#include <string.h>

#include "runtime/base/check.h"
#include "runtime/base/err.h"
#include "runtime/plan/reader.h"

static const enum rml_setting kind_keys[] = {
    [RML_STAGE_FILTER] = RML_SET_STAGE_FILTER,
    [RML_STAGE_MAP] = RML_SET_STAGE_MAP,
    [RML_STAGE_WINDOW] = RML_SET_STAGE_WINDOW,
};

#define STAGE_KINDS (sizeof kind_keys / sizeof kind_keys[0])

static void start_stage(struct rml_reader *reader, const struct rml_yaml_node *node)
{
    struct rml_reader_stage *draft = &reader->stages[reader->stage_count++];
    *draft = (struct rml_reader_stage){
        .name = node->key, .from = UINT32_MAX, .source = UINT32_MAX, .place = UINT32_MAX};
    if (rml_reader_name(reader, node->key, "stage")
        && rml_plan_source_find(reader->plan, node->key->text) != UINT32_MAX)
        rml_report_add(reader->report, node->key->place, "choose another name for one of them",
                       "%s is a source already: a stage needs a name of its own", node->key->text);
    draft->readable = rml_reader_section(reader, RML_SECTION_STAGE, node, node->key->place,
                                         node->key->text, &draft->values);
}

static void unknown_from(struct rml_reader *reader, const struct rml_reader_stage *draft,
                         const struct rml_yaml_node *node, const char *name)
{
    struct rml_names names = {0};
    for (uint32_t i = 0; i < reader->plan->source_count; i++)
        rml_names_add(&names, reader->sources[i].name->text);
    for (uint32_t i = 0; i < reader->stage_count; i++)
        if (&reader->stages[i] != draft)
            rml_names_add(&names, reader->stages[i].name->text);
    char hint[160];
    rml_names_hint(&names, name, hint, sizeof hint);
    rml_report_add(reader->report, node->place, hint, "%s: there is no source or stage %.60s",
                   draft->values.what, node->text);
}

static uint32_t source_draft_find(const struct rml_reader *reader, const char *name)
{
    for (uint32_t i = 0; i < reader->plan->source_count; i++)
        if (strcmp(reader->sources[i].name->text, name) == 0)
            return i;
    return UINT32_MAX;
}

static void resolve_from(struct rml_reader *reader, struct rml_reader_stage *draft)
{
    const struct rml_yaml_node *node =
        rml_reader_scalar(reader, &draft->values, RML_SET_STAGE_FROM);
    if (node == NULL)
        return;
    char name[RML_NAME_MAX + 1];
    draft->from_late = rml_reader_split_late(node, name);
    uint32_t source = source_draft_find(reader, name);
    uint32_t stage = rml_reader_stage_find(reader, name);
    if (source != UINT32_MAX) {
        if (draft->from_late) {
            rml_report_add(reader->report, node->place, NULL,
                           "%s: %s is a source: only window stages have a late output",
                           draft->values.what, name);
        }
        draft->from_source = true;
        draft->from = source;
        return;
    }
    if (stage == UINT32_MAX) {
        unknown_from(reader, draft, node, name);
        return;
    }
    bool window = reader->stages[stage].values.at[RML_SET_STAGE_WINDOW] != NULL;
    if (draft->from_late && !window) {
        rml_report_add(reader->report, node->place, NULL,
                       "%s: %s has no late output: only window stages do", draft->values.what,
                       name);
    }
    if (!draft->from_late && window) {
        char hint[160];
        snprintf(hint, sizeof hint, "write its results to a sink, or read %s.late", name);
        rml_report_add(reader->report, node->place, hint,
                       "%s: the results of window stage %s cannot feed another stage in this "
                       "version",
                       draft->values.what, name);
    }
    draft->from = stage;
}

// Whether a walk towards the source comes back to `start`, which stands first in the file of all met.
static bool heads_a_cycle(const struct rml_reader *reader, uint32_t start)
{
    uint32_t at = start, least = start;
    for (uint32_t steps = 0; steps < reader->stage_count; steps++) {
        const struct rml_reader_stage *draft = &reader->stages[at];
        if (draft->from_source || draft->from == UINT32_MAX)
            return false;
        at = draft->from;
        least = at < least ? at : least;
        if (at == start)
            return least == start;
    }
    return false;
}

static void refuse_cycles(struct rml_reader *reader)
{
    for (uint32_t i = 0; i < reader->stage_count; i++) {
        const struct rml_reader_stage *draft = &reader->stages[i];
        if (draft->place == UINT32_MAX && heads_a_cycle(reader, i)) {
            rml_report_add(reader->report, draft->values.at[RML_SET_STAGE_FROM]->place,
                           "begin at a source", "%s reads, by way of %s, from itself",
                           draft->values.what, reader->stages[draft->from].name->text);
        }
    }
}

static void place_stage(struct rml_reader *reader, struct rml_reader_stage *draft)
{
    draft->place = reader->plan->stage_count++;
    struct rml_plan_stage *stage = &reader->plan->stages[draft->place];
    snprintf(stage->name, sizeof stage->name, "%s", draft->name->text);
    stage->line = draft->name->line;
    stage->from = RML_NO_STAGE;
    stage->from_late = draft->from_late;
    if (draft->from_source) {
        draft->source = draft->from;
    } else if (draft->from != UINT32_MAX) {
        draft->source = reader->stages[draft->from].source;
        stage->from = reader->stages[draft->from].place;
    }
    stage->source = draft->source;
}

// Parents first; among those that are ready, the order of the file.
static void sort_stages(struct rml_reader *reader)
{
    for (uint32_t before = UINT32_MAX; before != reader->plan->stage_count;) {
        before = reader->plan->stage_count;
        for (uint32_t i = 0; i < reader->stage_count; i++) {
            struct rml_reader_stage *draft = &reader->stages[i];
            bool ready = draft->from == UINT32_MAX || draft->from_source
                         || reader->stages[draft->from].place != UINT32_MAX;
            if (draft->place == UINT32_MAX && ready)
                place_stage(reader, draft);
        }
    }
}

static bool columns_known(const struct rml_reader *reader, const struct rml_reader_stage *draft)
{
    return draft->source != UINT32_MAX && !reader->sources[draft->source].unknown;
}

static void see_parent(struct rml_reader *reader, const struct rml_reader_stage *draft,
                       struct rml_plan_stage *stage)
{
    if (!columns_known(reader, draft))
        return;
    if (stage->from != RML_NO_STAGE) {
        memcpy(stage->visible, reader->plan->stages[stage->from].visible, sizeof stage->visible);
        return;
    }
    uint32_t fields = reader->plan->sources[draft->source].schema.field_count;
    for (uint32_t i = 0; i < fields; i++)
        stage->visible[i / 64] |= UINT64_C(1) << (i % 64);
}

static void read_filter(struct rml_reader *reader, const struct rml_reader_stage *draft,
                        struct rml_plan_stage *stage)
{
    const struct rml_yaml_node *node =
        rml_reader_scalar(reader, &draft->values, RML_SET_STAGE_FILTER);
    if (node == NULL || !columns_known(reader, draft))
        return;
    stage->filter =
        rml_reader_expr(reader, draft->source, stage->visible, node, 0, node->text_length);
    if (stage->filter != NULL && rml_expr_type(stage->filter) != RML_BOOL) {
        rml_report_add(reader->report, node->place, "compare it with something",
                       "%s: a filter is true or false, this is a %s", draft->values.what,
                       rml_type_info[rml_expr_type(stage->filter)].name);
    }
}

static void read_mapped(struct rml_reader *reader, const struct rml_reader_stage *draft,
                        struct rml_plan_stage *stage, const struct rml_yaml_node *node)
{
    if (!rml_reader_name(reader, node->key, "column"))
        return;
    if (node->kind != RML_YAML_SCALAR || node->text_length == 0) {
        if (node->kind != RML_YAML_BROKEN)
            rml_report_add(reader->report, node->key->place, "such as  failed: status >= 500",
                           "%s: %s needs an expression", draft->values.what, node->key->text);
        return;
    }
    if (!columns_known(reader, draft))
        return;
    const struct rml_frame *frame = &reader->plan->sources[draft->source].frame;
    if (rml_reader_column(frame, stage->visible, node->key->text, node->key->text_length)
        != RML_FIELD_ABSENT) {
        rml_report_add(reader->report, node->key->place, "choose another name",
                       "%s: there is a column %s already", draft->values.what, node->key->text);
        return;
    }
    struct rml_expr *expr =
        rml_reader_expr(reader, draft->source, stage->visible, node, 0, node->text_length);
    uint32_t column = RML_FIELD_ABSENT;
    if (expr != NULL)
        column = rml_reader_add_mapped(reader, draft, stage, node->key->text, expr, node->place);
    if (column == RML_FIELD_ABSENT)
        rml_reader_lose(reader, draft->source, node->key->text);
    else
        stage->visible[column / 64] |= UINT64_C(1) << (column % 64);
}

static void read_map(struct rml_reader *reader, const struct rml_reader_stage *draft,
                     struct rml_plan_stage *stage)
{
    const struct rml_yaml_node *node =
        rml_reader_mapping(reader, &draft->values, RML_SET_STAGE_MAP, RML_FIELDS_MAX);
    if (node == NULL)
        return;
    for (const struct rml_yaml_node *n = node->first; n != NULL; n = n->next)
        read_mapped(reader, draft, stage, n);
}

uint32_t rml_reader_add_mapped(struct rml_reader *reader, const struct rml_reader_stage *draft,
                               struct rml_plan_stage *stage, const char *name,
                               struct rml_expr *expr, struct rml_place place)
{
    struct rml_frame *frame = &reader->plan->sources[draft->source].frame;
    if (frame->column_count == RML_COLUMNS_MAX) {
        rml_report_add(reader->report, place, NULL,
                       "%s: the stages below one source use more than %d columns",
                       draft->values.what, RML_COLUMNS_MAX);
        rml_expr_free(expr);
        return RML_FIELD_ABSENT;
    }
    uint32_t index = frame->column_count++;
    struct rml_frame_column *column = &frame->columns[index];
    snprintf(column->name, sizeof column->name, "%.*s", RML_NAME_MAX, name);
    column->type = rml_expr_type(expr);
    column->nullable = rml_expr_nullable(expr);
    column->field = RML_FIELD_ABSENT;
    stage->mapped[stage->mapped_count++] = (struct rml_plan_mapped){index, expr};
    return index;
}

// Exactly one of filter, map, window says what a stage is; key and aggregate go with window.
static bool read_kind(struct rml_reader *reader, const struct rml_reader_stage *draft,
                      enum rml_stage_kind *ret_kind)
{
    const struct rml_values *values = &draft->values;
    uint32_t written = 0;
    for (uint32_t k = 0; k < STAGE_KINDS; k++) {
        if (values->at[kind_keys[k]] != NULL) {
            written++;
            *ret_kind = (enum rml_stage_kind)k;
        }
    }
    if (written > 1)
        rml_report_add(reader->report, values->place, "make two stages of it",
                       "%s: only one of filter, map and window can stand in a stage", values->what);
    bool window = values->at[RML_SET_STAGE_WINDOW] != NULL;

    static const enum rml_setting with_window[] = {RML_SET_STAGE_KEY, RML_SET_STAGE_AGGREGATE,
                                                   RML_SET_STAGE_MAX_KEYS, RML_SET_STAGE_WHEN_FULL};

    for (size_t i = 0; i < sizeof with_window / sizeof with_window[0]; i++) {
        const struct rml_yaml_node *node = values->at[with_window[i]];
        if (!window && node != NULL)
            rml_report_add(reader->report, node->key->place, "add  window: {type: ..., size: ...}",
                           "%s: %s stands only beside a window", values->what, node->key->text);
        window = window || node != NULL;
    }
    if (written == 0 && !window)
        rml_report_add(reader->report, values->place, NULL,
                       "%s: one of filter, map and window must say what it does", values->what);
    return written > 0;
}

static void read_stage(struct rml_reader *reader, const struct rml_reader_stage *draft)
{
    struct rml_plan_stage *stage = &reader->plan->stages[draft->place];
    stage->mapped = rml_arena_give(reader->arena, RML_COLUMNS_MAX, sizeof *stage->mapped);
    see_parent(reader, draft, stage);
    if (!draft->readable || !read_kind(reader, draft, &stage->kind))
        return;
    if (draft->values.at[RML_SET_STAGE_FILTER] != NULL)
        read_filter(reader, draft, stage);
    if (draft->values.at[RML_SET_STAGE_MAP] != NULL)
        read_map(reader, draft, stage);
    if (draft->values.at[RML_SET_STAGE_WINDOW] != NULL)
        rml_read_window(reader, draft, stage, columns_known(reader, draft));

    struct rml_err err = {0};
    if (columns_known(reader, draft) && rml_resolve_output(reader->plan, stage, &err) < 0)
        rml_report_add(reader->report, draft->values.place, NULL, "%s: %s", draft->values.what,
                       err.text);
}

void rml_read_stages(struct rml_reader *reader, const struct rml_values *file)
{
    const struct rml_yaml_node *stages =
        rml_reader_mapping(reader, file, RML_SET_FILE_STAGES, RML_STAGES_MAX);
    if (stages == NULL)
        return;
    for (const struct rml_yaml_node *n = stages->first; n != NULL; n = n->next)
        start_stage(reader, n);
    for (uint32_t i = 0; i < reader->stage_count; i++)
        resolve_from(reader, &reader->stages[i]);
    sort_stages(reader);
    refuse_cycles(reader);
    // what no source leads to is in no plan, but its own mistakes are still worth saying
    for (uint32_t i = 0; i < reader->stage_count; i++)
        if (reader->stages[i].place == UINT32_MAX)
            place_stage(reader, &reader->stages[i]);
    for (uint32_t place = 0; place < reader->plan->stage_count; place++) {
        for (uint32_t i = 0; i < reader->stage_count; i++)
            if (reader->stages[i].place == place)
                read_stage(reader, &reader->stages[i]);
    }
}
