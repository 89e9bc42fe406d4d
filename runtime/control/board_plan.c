#include <errno.h>
#include <string.h>

#include "runtime/base/check.h"
#include "runtime/base/err.h"
#include "runtime/control/board_state.h"

void rml_board_copy_text(char *to, size_t bytes, const char *from)
{
    size_t length = strnlen(from, bytes - 1);
    memcpy(to, from, length);
    to[length] = '\0';
}

void rml_board_copy_path(char to[RML_BOARD_PATH], const char *from)
{
    size_t length = strlen(from);
    rml_board_copy_text(to, RML_BOARD_PATH,
                        length < RML_BOARD_PATH ? from : from + length - RML_BOARD_PATH + 1);
}

static void fill_sources(struct rml_board *board, const struct rml_plan *plan)
{
    for (uint32_t i = 0; i < plan->source_count; i++) {
        const struct rml_plan_source *from = &plan->sources[i];
        struct rml_board_source *to = &board->sources[i];
        rml_board_copy_text(to->name, sizeof to->name, from->name);
        rml_board_copy_text(to->schema, sizeof to->schema, from->schema.name);
        to->schema_hash = from->schema.hash;
        to->record_bytes = from->schema.record_bytes;
        to->cells = from->cells;
        to->on_full = from->on_full;
        to->has_journal = from->journal;
        to->out_of_order_ns = from->out_of_order_ns;
        to->idle_after_ns = from->idle_after_ns;
    }
}

static void fill_stages(struct rml_board *board, const struct rml_plan *plan)
{
    for (uint32_t i = 0; i < plan->stage_count; i++) {
        const struct rml_plan_stage *from = &plan->stages[i];
        struct rml_board_stage *to = &board->stages[i];
        rml_board_copy_text(to->name, sizeof to->name, from->name);
        to->kind = from->kind;
        to->source = from->source;
        to->from = from->from;
        to->from_late = from->from_late;
        to->window = from->window.kind;
        to->size_ns = from->window.size_ns;
        to->every_ns = from->window.every_ns;
        to->gap_ns = from->window.gap_ns;
        to->size_records = from->window.size_records;
        to->every_records = from->window.every_records;
        to->late_ns = from->window.late_ns;
    }
}

static void fill_sinks(struct rml_board *board, const struct rml_plan *plan)
{
    for (uint32_t i = 0; i < plan->sink_count; i++) {
        const struct rml_plan_sink *from = &plan->sinks[i];
        struct rml_board_sink *to = &board->sinks[i];
        rml_board_copy_text(to->name, sizeof to->name, from->name);
        rml_board_copy_path(to->path, from->path != NULL ? from->path : "");
        to->kind = from->kind;
        to->from_count = from->from_count;
        for (uint32_t j = 0; j < from->from_count; j++)
            to->from[j] = from->from[j].stage * 2 + from->from[j].late;
    }
}

static void fill_schema(struct rml_board_schema *to, const struct rml_schema *from)
{
    rml_board_copy_text(to->name, sizeof to->name, from->name);
    to->hash = from->hash;
    to->has_nulls = from->has_nulls;
    to->field_count = from->field_count;
    for (uint32_t i = 0; i < from->field_count; i++) {
        rml_board_copy_text(to->fields[i].name, sizeof to->fields[i].name, from->fields[i].name);
        to->fields[i].type = from->fields[i].type;
        to->fields[i].nullable = from->fields[i].nullable;
    }
}

static void fill_schemas(struct rml_board *board, const struct rml_plan *plan)
{
    for (uint32_t i = 0; i < plan->source_count; i++)
        fill_schema(&board->schemas[i], &plan->sources[i].schema);
    for (uint32_t i = 0; i < plan->stage_count; i++)
        fill_schema(&board->schemas[plan->source_count + i], &plan->stages[i].output);
}

void rml_board_fill_plan(struct rml_board *board, const struct rml_plan *plan)
{
    fill_sources(board, plan);
    fill_stages(board, plan);
    fill_sinks(board, plan);
    fill_schemas(board, plan);
}

/* What somebody else may have written. */

static bool is_text(const char *text, size_t room)
{
    return memchr(text, '\0', room) != NULL;
}

// Switches, so that the compiler asks for a kind that is new.
static bool is_stage_kind(uint32_t kind)
{
    switch ((enum rml_stage_kind)kind) {
    case RML_STAGE_FILTER:
    case RML_STAGE_MAP:
    case RML_STAGE_WINDOW:
        return true;
    }
    return false;
}

static bool is_window_kind(uint32_t kind)
{
    switch ((enum rml_window_kind)kind) {
    case RML_WINDOW_TUMBLING:
    case RML_WINDOW_SLIDING:
    case RML_WINDOW_SESSION:
    case RML_WINDOW_GLOBAL:
    case RML_WINDOW_COUNT:
        return true;
    }
    return false;
}

static bool is_sink_kind(uint32_t kind)
{
    switch ((enum rml_sink_kind)kind) {
    case RML_SINK_JSONL:
    case RML_SINK_CSV:
    case RML_SINK_RING:
    case RML_SINK_TABLE:
        return true;
    }
    return false;
}

static bool are_sources_sound(const struct rml_board *board)
{
    for (uint32_t i = 0; i < board->head->sources; i++) {
        const struct rml_board_source *source = &board->sources[i];
        if (!is_text(source->name, sizeof source->name)
            || !is_text(source->schema, sizeof source->schema)
            || source->on_full > RML_ON_FULL_DROP_NEWEST)
            return false;
    }
    return true;
}

static bool are_stages_sound(const struct rml_board *board)
{
    for (uint32_t i = 0; i < board->head->stages; i++) {
        const struct rml_board_stage *stage = &board->stages[i];
        if (!is_text(stage->name, sizeof stage->name) || !is_stage_kind(stage->kind)
            || !is_window_kind(stage->window) || stage->source >= board->head->sources
            || (stage->from >= i && stage->from != RML_NO_STAGE))
            return false;
    }
    return true;
}

static bool are_sinks_sound(const struct rml_board *board)
{
    for (uint32_t i = 0; i < board->head->sinks; i++) {
        const struct rml_board_sink *sink = &board->sinks[i];
        if (!is_text(sink->name, sizeof sink->name) || !is_text(sink->path, sizeof sink->path)
            || !is_sink_kind(sink->kind) || sink->from_count > RML_STAGES_MAX)
            return false;
        for (uint32_t j = 0; j < sink->from_count; j++) {
            if (sink->from[j] / 2 >= board->head->stages)
                return false;
        }
    }
    return true;
}

bool rml_board_is_sound(const struct rml_board *board)
{
    return is_text(board->head->pipeline, RML_BOARD_NAME)
           && is_text(board->head->path, RML_BOARD_PATH)
           && is_text(board->head->state_folder, RML_BOARD_STATE)
           && is_text(board->head->allocator, sizeof board->head->allocator)
           && are_sources_sound(board) && are_stages_sound(board) && are_sinks_sound(board);
}

static int make_schema(const struct rml_board_schema *from, struct rml_schema *schema,
                       struct rml_err *err)
{
    if (!is_text(from->name, sizeof from->name) || from->field_count > RML_FIELDS_MAX)
        return RML_FAIL(err, -EPROTO, "a name or a number of fields that cannot be");
    rml_schema_init(schema, from->name, from->has_nulls != 0);
    for (uint32_t i = 0; i < from->field_count; i++) {
        const struct rml_board_field *field = &from->fields[i];
        if (!is_text(field->name, sizeof field->name) || field->type >= RML_TYPES
            || (field->nullable != 0 && from->has_nulls == 0))
            return RML_FAIL(err, -EPROTO, "field %u cannot be", i);
        if (rml_schema_add(schema, field->name, (enum rml_type)field->type, field->nullable != 0,
                           err)
            < 0)
            return -EPROTO;
    }
    if (rml_schema_seal(schema, err) < 0)
        return -EPROTO;
    if (schema->hash != from->hash)
        return RML_FAIL(err, -EPROTO, "its fields do not lie as the engine says");
    return 0;
}

int rml_board_rows(const struct rml_board *board, uint32_t stage, bool late,
                   struct rml_schema *ret_schema, struct rml_err *err)
{
    RML_CHECK(stage < board->head->stages);
    uint32_t index = late ? board->stages[stage].source : board->head->sources + stage;
    int rc = make_schema(&board->schemas[index], ret_schema, err);
    return rc < 0 ? RML_WRAP(err, rc, "the rows of %s%s", board->stages[stage].name,
                             late ? ".late" : "")
                  : 0;
}
