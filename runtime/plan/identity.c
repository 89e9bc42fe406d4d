#include "runtime/plan/identity.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/check.h"

/* Text being written; what does not fit is counted and cut. */
struct text {
    char *at;
    size_t used, room;
};

__attribute__((format(printf, 2, 3))) static void say(struct text *text, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    size_t left = text->used < text->room ? text->room - text->used : 0;
    int bytes = vsnprintf(left > 0 ? text->at + text->used : NULL, left, format, args);
    va_end(args);
    text->used += bytes > 0 ? (size_t)bytes : 0;
}

static void say_columns(struct text *text, const struct rml_frame *frame, const uint32_t *columns,
                        uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        say(text, " %s %s", frame->columns[columns[i]].name,
            rml_type_info[frame->columns[columns[i]].type].name);
}

static void say_pipeline(struct text *text, const struct rml_plan *plan)
{
    say(text, "partitions %u", plan->partitions);
}

static void say_source(struct text *text, const struct rml_plan *plan, uint32_t index)
{
    const struct rml_plan_source *source = &plan->sources[index];
    say(text, "event_time %s, partition_by", source->schema.fields[source->time_field].name);
    say_columns(text, &source->frame, source->partition_fields, source->partition_field_count);
    say(text, ", fields");
    for (uint32_t i = 0; i < source->schema.field_count; i++)
        say(text, " %s %s", source->schema.fields[i].name,
            rml_type_info[source->schema.fields[i].type].name);
}

static void say_window(struct text *text, const struct rml_plan_window *w)
{
    say(text, "window %d", (int)w->kind);
    say(text, ", late %" PRId64, w->late_ns);
    say(text, ", size %" PRId64 ", every %" PRId64 ", offset %" PRId64, w->size_ns, w->every_ns,
        w->offset_ns);
    say(text, ", gap %" PRId64 ", max %" PRId64, w->gap_ns, w->max_ns);
    say(text, ", size %u records, every %u records", w->size_records, w->every_records);
    say(text, ", trigger %u records, %" PRId64, w->trigger.count, w->trigger.every_ns);
}

static void say_stage(struct text *text, const struct rml_plan *plan, uint32_t index)
{
    static const char *const kinds[] = {
        [RML_STAGE_FILTER] = "filter", [RML_STAGE_MAP] = "map", [RML_STAGE_WINDOW] = "window"};
    const struct rml_plan_stage *stage = &plan->stages[index];
    say(text, "source %s, %s", plan->sources[stage->source].name, kinds[stage->kind]);
    if (stage->kind != RML_STAGE_WINDOW)
        return;
    const struct rml_frame *frame = &plan->sources[stage->source].frame;
    say(text, ", key");
    say_columns(text, frame, stage->key_columns, stage->key_count);
    say(text, ", ");
    say_window(text, &stage->window);
    say(text, ", when_full %d %d", (int)stage->when_full, (int)stage->window.when_full);
    for (uint32_t i = 0; i < stage->mapped_count; i++) {
        char expr[512];
        rml_expr_print(stage->mapped[i].expr, expr, sizeof expr);
        say(text, ", of %s", expr);
    }
    for (uint32_t i = 0; i < stage->aggregate_count; i++) {
        const struct rml_plan_aggregate *a = &stage->aggregates[i];
        if (a->call != NULL)
            say(text, ", %s of a plug-in, %u to %u bytes", a->call->plugin->name,
                a->call->state_bytes, a->call->state_bytes_max);
        const char *argument = a->column != RML_FIELD_ABSENT ? frame->columns[a->column].name : "";
        say(text, ", %s: %u.%u(%s %s) %s", a->name, a->function, a->part, argument,
            a->parameters_text != NULL ? a->parameters_text : "", rml_type_info[a->type].name);
    }
}

uint32_t rml_identity_count(const struct rml_plan *plan)
{
    return 1 + plan->source_count + plan->stage_count;
}

void rml_identity_part(const struct rml_plan *plan, uint32_t index,
                       struct rml_identity *ret_identity)
{
    struct text text = {.at = ret_identity->text, .room = sizeof ret_identity->text};
    RML_CHECK(index < rml_identity_count(plan));
    if (index == 0) {
        snprintf(ret_identity->name, sizeof ret_identity->name, "pipeline");
        say_pipeline(&text, plan);
        return;
    }
    uint32_t source = index - 1;
    if (source < plan->source_count) {
        snprintf(ret_identity->name, sizeof ret_identity->name, "source %s",
                 plan->sources[source].name);
        say_source(&text, plan, source);
        return;
    }
    uint32_t stage = source - plan->source_count;
    snprintf(ret_identity->name, sizeof ret_identity->name, "stage %s", plan->stages[stage].name);
    say_stage(&text, plan, stage);
}

bool rml_identity_holds_state(const char *text, size_t bytes)
{
    static const char *const without[] = {", filter", ", map"};
    for (size_t i = 0; i < sizeof without / sizeof without[0]; i++) {
        size_t length = strlen(without[i]);
        if (bytes >= length && memcmp(text + bytes - length, without[i], length) == 0)
            return false;
    }
    return true;
}
