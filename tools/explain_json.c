#include "tools/explain.h"
#include "tools/json.h"

#define EXPR_TEXT 512

static void put_expr(struct rml_json *json, const char *key, const struct rml_expr *expr)
{
    char text[EXPR_TEXT];
    rml_expr_print(expr, text, sizeof text);
    rml_json_text(json, key, text);
}

static void put_record(struct rml_json *json, const char *key, const struct rml_schema *schema)
{
    rml_json_open(json, key, '{');
    rml_json_text(json, "name", schema->name);
    rml_json_unsigned(json, "bytes", schema->record_bytes);
    rml_json_open(json, "fields", '[');
    for (uint32_t i = 0; i < schema->field_count; i++) {
        const struct rml_field *field = &schema->fields[i];
        rml_json_open(json, NULL, '{');
        rml_json_text(json, "name", field->name);
        rml_json_text(json, "type", rml_type_info[field->type].name);
        rml_json_unsigned(json, "offset", field->offset);
        rml_json_bool(json, "nullable", field->nullable);
        rml_json_close(json, '}');
    }
    rml_json_close(json, ']');
    rml_json_close(json, '}');
}

static void put_source(struct rml_json *json, const struct rml_plan *plan,
                       const struct rml_plan_source *source)
{
    rml_json_open(json, NULL, '{');
    rml_json_text(json, "name", source->name);
    put_record(json, "record", &source->schema);
    rml_json_text(json, "event_time", source->schema.fields[source->time_field].name);
    rml_json_open(json, "partition_by", '[');
    for (uint32_t i = 0; i < source->partition_field_count; i++)
        rml_json_text(json, NULL, source->schema.fields[source->partition_fields[i]].name);
    rml_json_close(json, ']');
    rml_json_integer(json, "out_of_order_ns", source->out_of_order_ns);
    rml_json_integer(json, "idle_after_ns", source->idle_after_ns);
    rml_json_integer(json, "max_ahead_ns", source->max_ahead_ns);
    rml_json_integer(json, "grid_origin_ns", source->grid_origin_ns);
    rml_json_integer(json, "grid_granule_ns", source->grid_granule_ns);
    rml_json_unsigned(json, "cells", source->cells);
    rml_json_text(json, "lane", source->is_shared ? "shared" : "exclusive");
    rml_json_text(json, "on_full", source->on_full == RML_ON_FULL_BLOCK ? "block" : "drop_newest");
    rml_json_bool(json, "journal", source->journal);
    rml_json_unsigned(json, "lane_bytes", rml_explain_lane_bytes(plan, source));
    rml_json_close(json, '}');
}

static void put_window(struct rml_json *json, const struct rml_plan *plan,
                       const struct rml_plan_stage *stage)
{
    const struct rml_plan_window *window = &stage->window;
    rml_json_open(json, "window", '{');
    rml_json_text(json, "type", rml_explain_window_kinds[window->kind]);
    rml_json_integer(json, "late_ns", window->late_ns);
    rml_json_unsigned(json, "trigger_count", window->trigger.count);
    rml_json_integer(json, "trigger_every_ns", window->trigger.every_ns);
    if (window->kind == RML_WINDOW_SESSION) {
        rml_json_integer(json, "gap_ns", window->gap_ns);
        rml_json_integer(json, "max_ns", window->max_ns);
        rml_json_unsigned(json, "window_limit", window->session_limit);
        rml_json_text(json, "when_full", rml_explain_when_full[window->when_full]);
    } else if (window->kind == RML_WINDOW_COUNT) {
        rml_json_unsigned(json, "size_records", window->size_records);
        rml_json_unsigned(json, "every_records", window->every_records);
        rml_json_unsigned(json, "pane_records", window->pane_records);
    } else if (window->kind != RML_WINDOW_GLOBAL) {
        rml_json_integer(json, "size_ns", window->size_ns);
        rml_json_integer(json, "every_ns", window->every_ns);
        rml_json_integer(json, "offset_ns", window->offset_ns);
        rml_json_integer(json, "pane_ns", window->pane_ns);
        rml_json_unsigned(json, "open_panes", rml_explain_panes(plan, stage));
    }
    rml_json_close(json, '}');

    rml_json_open(json, "key", '[');
    for (uint32_t k = 0; k < stage->key_count; k++)
        rml_json_text(json, NULL,
                      plan->sources[stage->source].frame.columns[stage->key_columns[k]].name);
    rml_json_close(json, ']');
    rml_json_unsigned(json, "key_bytes", stage->key_bytes);
    rml_json_unsigned(json, "max_keys", stage->keys_max);
    rml_json_text(json, "when_full", rml_explain_when_full[stage->when_full]);
    rml_json_unsigned(json, "pane_bytes_about", rml_plan_pane_bytes(stage));
    rml_json_open(json, "aggregate", '[');
    for (uint32_t a = 0; a < stage->aggregate_count; a++) {
        const struct rml_plan_aggregate *aggregate = &stage->aggregates[a];
        char argument[EXPR_TEXT];
        rml_explain_argument(plan, stage, aggregate, argument, sizeof argument);
        rml_json_open(json, NULL, '{');
        rml_json_text(json, "name", aggregate->name);
        rml_json_text(json, "function", plan->functions.list[aggregate->function].name);
        rml_json_text(json, "argument", argument[0] != '\0' ? argument : NULL);
        rml_json_text(json, "type", rml_type_info[aggregate->type].name);
        rml_json_bool(json, "nullable", aggregate->nullable);
        rml_json_close(json, '}');
    }
    rml_json_close(json, ']');
}

static void put_map(struct rml_json *json, const struct rml_plan *plan,
                    const struct rml_plan_stage *stage)
{
    rml_json_open(json, "map", '[');
    for (uint32_t m = 0; m < stage->mapped_count; m++) {
        const struct rml_frame_column *column =
            &plan->sources[stage->source].frame.columns[stage->mapped[m].column];
        rml_json_open(json, NULL, '{');
        rml_json_text(json, "name", column->name);
        put_expr(json, "expression", stage->mapped[m].expr);
        rml_json_text(json, "type", rml_type_info[column->type].name);
        rml_json_bool(json, "nullable", column->nullable);
        rml_json_close(json, '}');
    }
    rml_json_close(json, ']');
}

static void put_stage(struct rml_json *json, const struct rml_plan *plan,
                      const struct rml_plan_stage *stage)
{
    rml_json_open(json, NULL, '{');
    rml_json_text(json, "name", stage->name);
    rml_json_text(json, "kind", rml_explain_stage_kinds[stage->kind]);
    rml_json_text(json, "source", plan->sources[stage->source].name);
    rml_json_text(json, "from",
                  stage->from != RML_NO_STAGE ? plan->stages[stage->from].name
                                              : plan->sources[stage->source].name);
    rml_json_bool(json, "from_late", stage->from_late);
    if (stage->kind == RML_STAGE_FILTER)
        put_expr(json, "filter", stage->filter);
    else if (stage->kind == RML_STAGE_MAP)
        put_map(json, plan, stage);
    else
        put_window(json, plan, stage);
    put_record(json, "output", &stage->output);
    rml_json_close(json, '}');
}

static void put_sink(struct rml_json *json, const struct rml_plan *plan,
                     const struct rml_plan_sink *sink)
{
    rml_json_open(json, NULL, '{');
    rml_json_text(json, "name", sink->name);
    rml_json_text(json, "type", rml_explain_sink_kinds[sink->kind]);
    rml_json_open(json, "from", '[');
    for (uint32_t f = 0; f < sink->from_count; f++) {
        char output[RML_NAME_MAX + 8];
        rml_explain_output(plan, sink->from[f], output, sizeof output);
        rml_json_text(json, NULL, output);
    }
    rml_json_close(json, ']');
    if (sink->kind == RML_SINK_RING) {
        rml_json_unsigned(json, "rows", sink->rows);
    } else if (sink->kind == RML_SINK_TABLE) {
        rml_json_integer(json, "keep_ns", sink->keep_ns);
        rml_json_unsigned(json, "max_rows", sink->rows_max);
    } else {
        rml_json_text(json, "path", sink->path);
        rml_json_text(json, "times", sink->rfc3339 ? "rfc3339" : "ns");
    }
    rml_json_close(json, '}');
}

static void put_runtime(struct rml_json *json, const struct rml_plan *plan)
{
    rml_json_open(json, "runtime", '{');
    rml_json_unsigned(json, "workers", plan->workers);
    rml_json_unsigned(json, "partitions", plan->partitions);
    rml_json_open(json, "cpus", '[');
    for (uint32_t i = 0; i < plan->cpu_count; i++)
        rml_json_unsigned(json, NULL, plan->cpus[i]);
    rml_json_close(json, ']');
    rml_json_unsigned(json, "state_limit_bytes", plan->state_bytes_max);
    rml_json_unsigned(json, "state_prefault_bytes", plan->state_prefault_bytes);
    rml_json_unsigned(json, "max_keys", plan->keys_max);
    rml_json_unsigned(json, "lanes_max", plan->lanes_max);
    rml_json_close(json, '}');
}

static void put_plugin(struct rml_json *json, const struct rml_plan_plugin *plugin)
{
    rml_json_open(json, NULL, '{');
    rml_json_text(json, "path", plugin->path);
    rml_json_open(json, "functions", '[');
    for (uint32_t i = 0; i < plugin->library.plugin->aggregate_count; i++)
        rml_json_text(json, NULL, plugin->library.plugin->aggregates[i].name);
    rml_json_close(json, ']');
    rml_json_close(json, '}');
}

void rml_explain_json(const struct rml_plan *plan, FILE *out)
{
    struct rml_json json = {.out = out};
    rml_json_open(&json, NULL, '{');
    rml_json_unsigned(&json, "schema_version", 1);
    rml_json_text(&json, "pipeline", plan->name);
    put_runtime(&json, plan);
    rml_json_open(&json, "plugins", '[');
    for (uint32_t i = 0; i < plan->plugin_count; i++)
        put_plugin(&json, &plan->plugins[i]);
    rml_json_close(&json, ']');
    rml_json_open(&json, "sources", '[');
    for (uint32_t i = 0; i < plan->source_count; i++)
        put_source(&json, plan, &plan->sources[i]);
    rml_json_close(&json, ']');
    rml_json_open(&json, "stages", '[');
    for (uint32_t i = 0; i < plan->stage_count; i++)
        put_stage(&json, plan, &plan->stages[i]);
    rml_json_close(&json, ']');
    rml_json_open(&json, "sinks", '[');
    for (uint32_t i = 0; i < plan->sink_count; i++)
        put_sink(&json, plan, &plan->sinks[i]);
    rml_json_close(&json, ']');
    rml_json_unsigned(&json, "tests", plan->test_count);
    rml_json_open(&json, "defaults", '[');
    for (uint32_t i = 0; i < plan->default_count; i++) {
        rml_json_open(&json, NULL, '{');
        rml_json_text(&json, "of", plan->defaults[i].what);
        rml_json_text(&json, "key", plan->defaults[i].key);
        rml_json_text(&json, "value", plan->defaults[i].standard);
        rml_json_close(&json, '}');
    }
    rml_json_close(&json, ']');
    rml_json_close(&json, '}');
    fputc('\n', out);
}
