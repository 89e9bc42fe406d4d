#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/check.h"
#include "runtime/base/err.h"
#include "runtime/plan/reader.h"
#include "runtime/record/text.h"
#include "runtime/time/time.h"

/* The rows of one source or output while they are read. */
struct rows {
    struct rml_reader *reader;
    const struct rml_values *values;  // of the test
    const char *name;                 // of the source or output
    const struct rml_schema *schema;  // NULL: not known, values are not checked
    uint32_t time_field;              // that each row must hold; RML_FIELD_ABSENT: none
    bool expected;                    // null and `window` may stand
};

/*
 * A time in a test may be written as a duration since the epoch (`ts: 1500ms`): it becomes integer
 * nanoseconds here, which is how every reader of times takes it.
 */
static char *time_text(struct rml_reader *reader, const struct rml_yaml_node *node)
{
    int64_t ns;
    if (rml_duration_parse(node->text, node->text_length, &ns) < 0)
        return rml_arena_text(reader->arena, node->text, node->text_length);
    char text[32];
    int length = snprintf(text, sizeof text, "%" PRId64, ns);
    return rml_arena_text(reader->arena, text, (size_t)length);
}

// Text that the field cannot hold is an error of the file, found before any test is run.
static void check_value(const struct rows *rows, const struct rml_field *field,
                        const struct rml_yaml_node *node, const char *text)
{
    struct rml_field alone = *field;
    alone.offset = 0;
    unsigned char cell[64];  // str64 is the longest
    struct rml_err err;
    RML_CHECK(rml_type_info[field->type].bytes <= sizeof cell);
    if (rml_text_field_parse(&alone, text, strlen(text), cell, &err) < 0)
        rml_report_add(rows->reader->report, node->place, NULL, "%s: %s: %.200s",
                       rows->values->what, field->name, err.text);
}

static void add_value(const struct rows *rows, struct rml_plan_test_row *row,
                      const struct rml_yaml_node *node, const char *name)
{
    struct rml_reader *reader = rows->reader;
    struct rml_plan_test_value *value = &row->values[row->count++];
    value->name = rml_arena_text(reader->arena, name, strlen(name));
    value->line = node->line;
    value->column = node->column;

    uint32_t index =
        rows->schema == NULL ? RML_FIELD_ABSENT : rml_schema_find(rows->schema, name, strlen(name));
    const struct rml_field *field = index == RML_FIELD_ABSENT ? NULL : &rows->schema->fields[index];
    if (rml_yaml_is_null(node)) {
        if (field != NULL && !(rows->expected && field->nullable))
            rml_report_add(reader->report, node->place, NULL, "%s: %s is never null",
                           rows->values->what, name);
        return;
    }
    if (node->kind != RML_YAML_SCALAR) {
        if (node->kind != RML_YAML_BROKEN)
            rml_report_add(reader->report, node->place, NULL, "%s: %s must be a single value",
                           rows->values->what, name);
        return;
    }
    bool time = field != NULL && field->type == RML_TIME;
    value->text = time ? time_text(reader, node)
                       : rml_arena_text(reader->arena, node->text, node->text_length);
    if (field != NULL)
        check_value(rows, field, node, value->text);
}

static bool knows_field(const struct rows *rows, const struct rml_yaml_node *node)
{
    if (rows->schema == NULL
        || rml_schema_find(rows->schema, node->key->text, node->key->text_length)
               != RML_FIELD_ABSENT)
        return true;
    struct rml_names names = {0};
    for (uint32_t i = 0; i < rows->schema->field_count; i++)
        rml_names_add(&names, rows->schema->fields[i].name);
    char hint[160];
    rml_names_hint(&names, node->key->text, hint, sizeof hint);
    rml_report_add(rows->reader->report, node->key->place, hint, "%s: %s has no %s %.60s",
                   rows->values->what, rows->name, rows->expected ? "column" : "field",
                   node->key->text);
    return false;
}

// `window: [a, b]` stands for window_start: a, window_end: b.
static bool read_window_pair(const struct rows *rows, struct rml_plan_test_row *row,
                             const struct rml_yaml_node *node)
{
    if (!rows->expected || strcmp(node->key->text, "window") != 0
        || (rows->schema != NULL
            && rml_schema_find(rows->schema, "window_start", 12) == RML_FIELD_ABSENT))
        return false;
    if (node->kind != RML_YAML_SEQUENCE || node->count != 2) {
        if (node->kind != RML_YAML_BROKEN)
            rml_report_add(rows->reader->report, node->key->place, "such as  window: [0s, 1s]",
                           "%s: window is a list of its start and its end", rows->values->what);
        return true;
    }
    add_value(rows, row, node->first, "window_start");
    add_value(rows, row, node->first->next, "window_end");
    return true;
}

static void read_row(const struct rows *rows, struct rml_plan_test_row *row,
                     const struct rml_yaml_node *node)
{
    row->line = node->line;
    row->column = node->column;
    if (node->kind != RML_YAML_MAPPING) {
        if (node->kind != RML_YAML_BROKEN)
            rml_report_add(rows->reader->report, node->place, "such as  {ts: 0ms, tokens: 3}",
                           "%s: a row is a mapping of names to values", rows->values->what);
        return;
    }
    row->values = rml_arena_give(rows->reader->arena, node->count + 1, sizeof *row->values);
    for (const struct rml_yaml_node *n = node->first; n != NULL; n = n->next)
        if (!read_window_pair(rows, row, n) && knows_field(rows, n))
            add_value(rows, row, n, n->key->text);
    if (rows->time_field == RML_FIELD_ABSENT)
        return;
    const char *time = rows->schema->fields[rows->time_field].name;
    if (rml_yaml_find(node, time) == NULL) {
        rml_report_add(rows->reader->report, node->place, NULL,
                       "%s: a record fed to %s needs its event time, %s", rows->values->what,
                       rows->name, time);
    }
}

static void read_rows(const struct rows *rows, const struct rml_yaml_node *node,
                      struct rml_plan_test_list *list)
{
    char what[sizeof rows->values->what + RML_NAME_MAX + 10];
    snprintf(what, sizeof what, "%s: %s", rows->values->what, rows->name);
    if (!rml_reader_is_list(rows->reader, node, what))
        return;
    list->rows = rml_arena_give(rows->reader->arena, node->count + 1, sizeof *list->rows);
    for (const struct rml_yaml_node *n = node->first; n != NULL; n = n->next)
        read_row(rows, &list->rows[list->row_count++], n);
}

static void read_feed(struct rml_reader *reader, const struct rml_values *values,
                      struct rml_plan_test *test)
{
    const struct rml_yaml_node *node =
        rml_reader_mapping(reader, values, RML_SET_TEST_FEED, RML_SOURCES_MAX);
    if (node == NULL)
        return;
    test->feed = rml_arena_give(reader->arena, node->count, sizeof *test->feed);
    for (const struct rml_yaml_node *n = node->first; n != NULL; n = n->next) {
        uint32_t index = rml_plan_source_find(reader->plan, n->key->text);
        if (index == UINT32_MAX) {
            struct rml_names names = {0};
            for (uint32_t i = 0; i < reader->plan->source_count; i++)
                rml_names_add(&names, reader->sources[i].name->text);
            char hint[160];
            rml_names_hint(&names, n->key->text, hint, sizeof hint);
            rml_report_add(reader->report, n->key->place, hint, "%s: there is no source %.60s",
                           values->what, n->key->text);
            continue;
        }
        struct rml_plan_test_list *list = &test->feed[test->feed_count++];
        list->index = index;
        const struct rml_plan_source *source = &reader->plan->sources[index];
        bool known = !reader->sources[index].unknown && source->schema.record_bytes > 0;
        struct rows rows = {.reader = reader,
                            .values = values,
                            .name = source->name,
                            .schema = known ? &source->schema : NULL,
                            .time_field = known ? source->time_field : RML_FIELD_ABSENT};
        read_rows(&rows, n, list);
    }
}

static void read_expect_list(struct rml_reader *reader, const struct rml_values *values,
                             const struct rml_yaml_node *node, struct rml_plan_test *test)
{
    char name[RML_NAME_MAX + 1];
    bool late = rml_reader_split_late(node->key, name);
    uint32_t draft = rml_reader_stage_find(reader, name);
    if (draft == UINT32_MAX) {
        struct rml_names names = {0};
        for (uint32_t i = 0; i < reader->stage_count; i++)
            rml_names_add(&names, reader->stages[i].name->text);
        char hint[160];
        rml_names_hint(&names, name, hint, sizeof hint);
        rml_report_add(reader->report, node->key->place, hint, "%s: there is no stage %.60s",
                       values->what, node->key->text);
        return;
    }
    struct rml_plan_test_list *list = &test->expect[test->expect_count++];
    list->index = reader->stages[draft].place;
    list->late = late;
    const struct rml_plan_stage *stage = &reader->plan->stages[list->index];
    if (late && reader->stages[draft].values.at[RML_SET_STAGE_WINDOW] == NULL) {
        rml_report_add(reader->report, node->key->place, NULL,
                       "%s: %s has no late output: only window stages do", values->what, name);
        return;
    }
    const struct rml_schema *schema = &stage->output;
    if (late)
        schema = stage->source != UINT32_MAX ? &reader->plan->sources[stage->source].schema : NULL;
    // columns are only missed where no error took any away
    bool known = reader->report->count == 0 && schema != NULL && schema->record_bytes > 0;
    struct rows rows = {.reader = reader,
                        .values = values,
                        .name = node->key->text,
                        .schema = known ? schema : NULL,
                        .time_field = RML_FIELD_ABSENT,
                        .expected = true};
    read_rows(&rows, node, list);
}

static void read_test(struct rml_reader *reader, const struct rml_yaml_node *node)
{
    struct rml_plan_test *test = &reader->plan->tests[reader->plan->test_count++];
    test->line = node->line;
    test->advance_ns = RML_TIME_NONE;
    struct rml_values values;
    const struct rml_yaml_node *name =
        node->kind == RML_YAML_MAPPING ? rml_yaml_find(node, "name") : NULL;
    bool named = name != NULL && name->kind == RML_YAML_SCALAR;
    if (!rml_reader_section(reader, RML_SECTION_TEST, node, named ? name->place : node->place,
                            named ? name->text : NULL, &values))
        return;
    const struct rml_yaml_node *text = rml_reader_scalar(reader, &values, RML_SET_TEST_NAME);
    if (text != NULL)
        test->name = rml_arena_text(reader->arena, text->text, text->text_length);
    rml_reader_number(reader, &values, RML_SET_TEST_ADVANCE, &test->advance_ns);
    read_feed(reader, &values, test);

    const struct rml_yaml_node *expect =
        rml_reader_mapping(reader, &values, RML_SET_TEST_EXPECT, 2 * RML_STAGES_MAX);
    if (expect == NULL)
        return;
    test->expect = rml_arena_give(reader->arena, expect->count, sizeof *test->expect);
    for (const struct rml_yaml_node *n = expect->first; n != NULL; n = n->next)
        read_expect_list(reader, &values, n, test);
}

void rml_read_tests(struct rml_reader *reader, const struct rml_values *file)
{
    const struct rml_yaml_node *node = file->at[RML_SET_FILE_TESTS];
    if (node == NULL || !rml_reader_is_list(reader, node, "tests"))
        return;
    reader->plan->tests =
        rml_arena_give(reader->arena, node->count + 1, sizeof *reader->plan->tests);
    for (const struct rml_yaml_node *n = node->first; n != NULL; n = n->next)
        read_test(reader, n);
}
