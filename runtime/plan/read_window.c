#include <stdio.h>
#include <string.h>

#include "runtime/plan/reader.h"
#include "runtime/state/pages.h"

bool rml_reader_is_reserved(const char *name)
{
    return strcmp(name, "window_start") == 0 || strcmp(name, "window_end") == 0
           || strcmp(name, "revision") == 0 || strcmp(name, "retracted") == 0
           || strcmp(name, "partial") == 0 || strcmp(name, "evicted") == 0;
}

static void visible_names(const struct rml_frame *frame, const uint64_t *visible,
                          struct rml_names *ret_names)
{
    for (uint32_t i = 0; i < frame->column_count; i++)
        if ((visible[i / 64] >> (i % 64) & 1) != 0)
            rml_names_add(ret_names, frame->columns[i].name);
}

// Why a column is no key; NULL: it is one.
static const char *no_key(const struct rml_frame_column *column)
{
    if (rml_type_info[column->type].kind == RML_KIND_FLOAT)
        return "is a float, and floats that look the same can differ";
    if (column->nullable)
        return "can be null, and null is no key";
    return NULL;
}

static void read_key_column(struct rml_reader *reader, const struct rml_reader_stage *draft,
                            struct rml_plan_stage *stage, const struct rml_yaml_node *node)
{
    const char *what = draft->values.what;
    if (rml_reader_is_reserved(node->text)) {
        rml_report_add(reader->report, node->place, NULL,
                       "%s: key: %s is the name of a result column of every window", what,
                       node->text);
        return;
    }
    const struct rml_frame *frame = &reader->plan->sources[draft->source].frame;
    uint32_t index = rml_reader_column(frame, stage->visible, node->text, node->text_length);
    if (index == RML_FIELD_ABSENT) {
        if (rml_reader_is_lost(reader, draft->source, node->text, node->text_length))
            return;
        struct rml_names names = {0};
        visible_names(frame, stage->visible, &names);
        char hint[160];
        rml_names_hint(&names, node->text, hint, sizeof hint);
        rml_report_add(reader->report, node->place, hint, "%s: key: there is no column %.60s", what,
                       node->text);
        return;
    }
    const struct rml_frame_column *column = &frame->columns[index];
    const char *reason = no_key(column);
    if (reason != NULL) {
        rml_report_add(reader->report, node->place,
                       column->nullable ? "map it with coalesce(..., a value) first"
                                        : "use an integer, a bool, a time or a string",
                       "%s: key: %s %s", what, node->text, reason);
        return;
    }
    for (uint32_t k = 0; k < stage->key_count; k++) {
        if (stage->key_columns[k] == index) {
            rml_report_add(reader->report, node->place, NULL, "%s: key names %s twice", what,
                           node->text);
            return;
        }
    }
    stage->key_columns[stage->key_count++] = index;
    stage->key_bytes += rml_type_info[column->type].cell_bytes;
}

static void read_key(struct rml_reader *reader, const struct rml_reader_stage *draft,
                     struct rml_plan_stage *stage, bool columns_known)
{
    const struct rml_yaml_node *list[RML_KEY_FIELDS_MAX];
    uint32_t count =
        rml_reader_scalars(reader, &draft->values, RML_SET_STAGE_KEY, list, RML_KEY_FIELDS_MAX);
    for (uint32_t i = 0; columns_known && i < count; i++)
        read_key_column(reader, draft, stage, list[i]);
    if (stage->key_bytes > RML_KEY_BYTES_MAX) {
        rml_report_add(reader->report, draft->values.at[RML_SET_STAGE_KEY]->key->place,
                       "use shorter strings", "%s: the key has %u bytes, at most %d go",
                       draft->values.what, stage->key_bytes, RML_KEY_BYTES_MAX);
    }
}

static void read_limits(struct rml_reader *reader, const struct rml_reader_stage *draft,
                        struct rml_plan_stage *stage)
{
    const struct rml_values *values = &draft->values;

    const enum rml_setting of_keys[] = {RML_SET_STAGE_MAX_KEYS, RML_SET_STAGE_WHEN_FULL};

    for (uint32_t i = 0; values->at[RML_SET_STAGE_KEY] == NULL && i < 2; i++) {
        const struct rml_yaml_node *node = values->at[of_keys[i]];
        if (node != NULL)
            rml_report_add(reader->report, node->key->place, "add  key: ...",
                           "%s: without a key there are no keys to limit by %s", values->what,
                           node->key->text);
    }
    int64_t keys_max = reader->plan->keys_max;
    uint32_t when_full = RML_WHEN_FULL_REFUSE;
    if (values->at[RML_SET_STAGE_MAX_KEYS] != NULL)
        rml_reader_number(reader, values, RML_SET_STAGE_MAX_KEYS, &keys_max);
    rml_reader_choice(reader, values, RML_SET_STAGE_WHEN_FULL, &when_full);
    stage->keys_max = (uint32_t)keys_max;
    stage->when_full = (enum rml_when_full)when_full;
}

/* A key's panes of records lie in one page: each has two times, and the states of its aggregates. */
static void check_counted_panes(struct rml_reader *reader, const struct rml_reader_stage *draft,
                                const struct rml_plan_stage *stage)
{
    const struct rml_plan_window *window = &stage->window;
    if (window->kind != RML_WINDOW_COUNT || window->pane_records == 0)
        return;
    uint64_t most = (RML_PAGE_BYTES - 8) / rml_plan_pane_bytes(stage);
    uint32_t panes = window->size_records / window->pane_records;
    if (panes > most)
        rml_report_add(
            reader->report, draft->values.at[RML_SET_STAGE_WINDOW]->key->place,
            "choose a size that is a small multiple of every",
            "%s: a key would have %u panes of %u records, at most %u of these aggregates "
            "go",
            draft->values.what, panes, window->pane_records, (unsigned)most);
}

void rml_read_window(struct rml_reader *reader, const struct rml_reader_stage *draft,
                     struct rml_plan_stage *stage, bool columns_known)
{
    rml_read_shape(reader, draft, &stage->window);
    read_key(reader, draft, stage, columns_known);
    read_limits(reader, draft, stage);
    rml_read_aggregates(reader, draft, stage, columns_known);
    check_counted_panes(reader, draft, stage);
}
