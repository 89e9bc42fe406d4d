#include <inttypes.h>
#include <string.h>

#include "runtime/plan/units.h"
#include "runtime/time/time.h"
#include "tools/explain.h"

#define EXPR_TEXT 512

static const char *duration(int64_t ns, char text[32])
{
    rml_duration_print(ns, text);
    return text;
}

static const char *about(uint64_t bytes, char text[32])
{
    rml_size_print_about(bytes, text);
    return text;
}

static void indent(FILE *out, uint32_t depth)
{
    for (uint32_t i = 0; i < depth; i++)
        fputs("  ", out);
}

static void show_runtime(const struct rml_plan *plan, FILE *out)
{
    char text[32];
    fprintf(out, "pipeline %s\n", plan->name);
    fprintf(out, "  workers      %u", plan->workers);
    for (uint32_t i = 0; i < plan->cpu_count; i++)
        fprintf(out, "%s%u", i == 0 ? ", on CPUs " : " ", plan->cpus[i]);
    char prefault[32];
    rml_size_print(plan->state_bytes_max, text);
    rml_size_print(plan->state_prefault_bytes, prefault);
    fprintf(out,
            "\n  partitions   %u\n"
            "  state        up to %s in each partition, %s at once and the rest where needed\n"
            "  keys         up to %u of a stage in each partition\n"
            "  producers    up to %u at once\n",
            plan->partitions, text, prefault, plan->keys_max, plan->lanes_max);
    for (uint32_t p = 0; p < plan->plugin_count; p++) {
        const struct rml_plugin *plugin = plan->plugins[p].library.plugin;
        fprintf(out, "  plug-in      %s:", plan->plugins[p].path);
        for (uint32_t i = 0; i < plugin->aggregate_count; i++)
            fprintf(out, "%s %s", i == 0 ? "" : ",", plugin->aggregates[i].name);
        fprintf(out, "\n");
    }
}

static bool is_partition_field(const struct rml_plan_source *source, uint32_t field)
{
    for (uint32_t i = 0; i < source->partition_field_count; i++)
        if (source->partition_fields[i] == field)
            return true;
    return false;
}

static void show_record(const struct rml_plan_source *source, FILE *out)
{
    const struct rml_schema *schema = &source->schema;
    fprintf(out, "  record %s, %u bytes\n", schema->name, schema->record_bytes);
    for (uint32_t i = 0; i < schema->field_count; i++) {
        const struct rml_field *field = &schema->fields[i];
        const char *role = i == source->time_field         ? "event time"
                           : is_partition_field(source, i) ? "partition key"
                                                           : "";
        fprintf(out, "    %4u  %-8s %s%s%s\n", field->offset, rml_type_info[field->type].name,
                field->name, role[0] != '\0' ? "  - " : "", role);
    }
}

static void show_times(const struct rml_plan_source *source, FILE *out)
{
    char a[32];
    fprintf(out, "  times        out of order by up to %s", duration(source->out_of_order_ns, a));
    if (source->idle_after_ns > 0)
        fprintf(out, "; a silent producer is idle after %s\n", duration(source->idle_after_ns, a));
    else
        fprintf(out, "; a silent producer holds results back until it goes\n");
    if (source->max_ahead_ns > 0)
        fprintf(out, "               refused more than %s ahead of the wall clock\n",
                duration(source->max_ahead_ns, a));
    if (source->grid_granule_ns == RML_TIME_END) {
        fprintf(out, "  grid         none: no window looks at the time\n");
    } else {
        char b[32];
        fprintf(out, "  grid         event times matter each %s, from %s on\n",
                duration(source->grid_granule_ns, a), duration(source->grid_origin_ns, b));
    }
}

static void show_source(const struct rml_plan *plan, const struct rml_plan_source *source,
                        FILE *out)
{
    char text[32];
    fprintf(out, "\nsource %s\n", source->name);
    show_record(source, out);
    fprintf(out, "  partitioned  ");
    for (uint32_t i = 0; i < source->partition_field_count; i++)
        fprintf(out, "%s%s", i == 0 ? "by " : ", ",
                source->schema.fields[source->partition_fields[i]].name);
    fprintf(out, "%s\n", source->partition_field_count == 0 ? "by nothing" : "");
    show_times(source, out);
    fprintf(out, "  lane         %s for %s: %u cells of %u bytes for each partition\n",
            about(rml_explain_lane_bytes(plan, source), text),
            source->is_shared ? "all producers together" : "each producer", source->cells,
            source->schema.record_bytes);
    fprintf(out, "  when full    %s\n",
            source->on_full == RML_ON_FULL_BLOCK ? "the producer waits"
                                                 : "the newest records are dropped, and counted");
    if (source->journal)
        fprintf(out,
                "  journal      records are on the disk before they are taken, in %s at most\n",
                about(plan->journal_bytes_max, text));
}

static void show_readers(const struct rml_plan *plan, uint32_t stage, bool late, uint32_t depth,
                         FILE *out)
{
    bool any = false;
    for (uint32_t s = 0; s < plan->sink_count; s++) {
        for (uint32_t f = 0; f < plan->sinks[s].from_count; f++) {
            if (plan->sinks[s].from[f].stage == stage && plan->sinks[s].from[f].late == late) {
                if (!any)
                    indent(out, depth);
                fprintf(out, "%s%s", any ? ", " : late ? "late to " : "to ", plan->sinks[s].name);
                any = true;
            }
        }
    }
    if (any)
        fprintf(out, "\n");
}

static void show_window(const struct rml_plan *plan, const struct rml_plan_stage *stage,
                        uint32_t depth, FILE *out)
{
    const struct rml_plan_window *window = &stage->window;
    const struct rml_frame *frame = &plan->sources[stage->source].frame;
    char text[32], argument[EXPR_TEXT];
    bool session = window->kind == RML_WINDOW_SESSION, counted = window->kind == RML_WINDOW_COUNT;
    bool global = window->kind == RML_WINDOW_GLOBAL;
    if (global)
        fprintf(out, "global window");
    else if (counted)
        fprintf(out, "window of %u records", window->size_records);
    else
        fprintf(out, "%s window of %s", rml_explain_window_kinds[window->kind],
                duration(session ? window->gap_ns : window->size_ns, text));
    if (session)
        fprintf(out, " of silence");
    if (window->max_ns != 0)
        fprintf(out, ", at most %s long", duration(window->max_ns, text));
    if (window->kind == RML_WINDOW_SLIDING)
        fprintf(out, ", every %s", duration(window->every_ns, text));
    if (counted && window->every_records < window->size_records)
        fprintf(out, ", every %u", window->every_records);
    if (window->offset_ns != 0)
        fprintf(out, ", offset %s", duration(window->offset_ns, text));
    if (window->late_ns != 0)
        fprintf(out, ", corrected for %s", duration(window->late_ns, text));
    if (window->trigger.count == 1)
        fprintf(out, ", an early row for each record");
    if (window->trigger.count > 1)
        fprintf(out, ", an early row each %u records", window->trigger.count);
    if (window->trigger.every_ns != 0)
        fprintf(out, ", early rows each %s of the wall clock (in a replay: none)",
                duration(window->trigger.every_ns, text));
    fprintf(out, "\n");

    indent(out, depth);
    fprintf(out, "key ");
    for (uint32_t k = 0; k < stage->key_count; k++)
        fprintf(out, "%s%s", k == 0 ? "" : ", ", frame->columns[stage->key_columns[k]].name);
    fprintf(out, "%s", stage->key_count == 0 ? "none: one group of all records" : "");
    if (stage->key_count > 0 && stage->keys_max != plan->keys_max)
        fprintf(out, ", up to %u in each partition", stage->keys_max);
    if (stage->when_full == RML_WHEN_FULL_EVICT_OLDEST)
        fprintf(out, "; when full, a new one evicts the one used longest ago");
    fprintf(out, "\n");
    for (uint32_t a = 0; a < stage->aggregate_count; a++) {
        const struct rml_plan_aggregate *aggregate = &stage->aggregates[a];
        rml_explain_argument(plan, stage, aggregate, argument, sizeof argument);
        indent(out, depth);
        fprintf(out, "%s = %s(%s), %s%s\n", aggregate->name,
                plan->functions.list[aggregate->function].name, argument,
                rml_type_info[aggregate->type].name, aggregate->nullable ? " or null" : "");
    }
    indent(out, depth);
    if (session)
        fprintf(out, "at most %u open at once a key%s", window->session_limit,
                window->when_full == RML_WHEN_FULL_EVICT_OLDEST
                    ? ", then a new one evicts the earliest"
                    : "");
    else if (global)
        fprintf(out, "one window a key, to the end of the input");
    else if (counted)
        fprintf(out, "panes of %u records, %u of each key", window->pane_records,
                window->size_records / window->pane_records);
    else
        fprintf(out, "panes of %s, %" PRIu64 " open at once", duration(window->pane_ns, text),
                rml_explain_panes(plan, stage));
    fprintf(out, "; state about %s a key and %s, %u bytes of key\n",
            about(rml_plan_pane_bytes(stage), text),
            session  ? "session"
            : global ? "window"
                     : "pane",
            stage->key_bytes);
    indent(out, depth);
    fprintf(out, "a result row has %u bytes\n", stage->output.record_bytes);
}

static void show_stage(const struct rml_plan *plan, uint32_t index, uint32_t depth, FILE *out)
{
    const struct rml_plan_stage *stage = &plan->stages[index];
    char text[EXPR_TEXT];
    indent(out, depth);
    fprintf(out, "%s%s: ", stage->name, stage->from_late ? " (of the late records)" : "");
    if (stage->kind == RML_STAGE_FILTER) {
        rml_expr_print(stage->filter, text, sizeof text);
        fprintf(out, "filter %s\n", text);
    } else if (stage->kind == RML_STAGE_MAP) {
        fprintf(out, "map\n");
        for (uint32_t m = 0; m < stage->mapped_count; m++) {
            const struct rml_frame_column *column =
                &plan->sources[stage->source].frame.columns[stage->mapped[m].column];
            rml_expr_print(stage->mapped[m].expr, text, sizeof text);
            indent(out, depth + 2);
            fprintf(out, "%s = %s, %s%s\n", column->name, text, rml_type_info[column->type].name,
                    column->nullable ? " or null" : "");
        }
    } else {
        show_window(plan, stage, depth + 2, out);
    }
    show_readers(plan, index, false, depth + 2, out);
    show_readers(plan, index, true, depth + 2, out);
}

// The stages below `parent`, each followed by its own; a parent stands before its children.
static void show_tree(const struct rml_plan *plan, uint32_t source, uint32_t parent, uint32_t depth,
                      FILE *out)
{
    for (uint32_t i = 0; i < plan->stage_count; i++) {
        if (plan->stages[i].source == source && plan->stages[i].from == parent) {
            show_stage(plan, i, depth, out);
            show_tree(plan, source, i, depth + 1, out);
        }
    }
}

static void show_table(const struct rml_plan_sink *sink, FILE *out)
{
    char keep[32];
    rml_duration_print(sink->keep_ns, keep);
    fprintf(out, " to %s in the state folder", sink->from_count > 1 ? "a table each" : "a table");
    if (sink->keep_ns > 0)
        fprintf(out, ", rows of the last %s", keep);
    if (sink->rows_max > 0)
        fprintf(out, ", at most %" PRIu64 " rows", sink->rows_max);
    fprintf(out, sink->keep_ns == 0 && sink->rows_max == 0 ? ", all rows\n" : "\n");
}

static void show_sinks(const struct rml_plan *plan, FILE *out)
{
    char text[32], output[RML_NAME_MAX + 8];
    for (uint32_t s = 0; s < plan->sink_count; s++) {
        const struct rml_plan_sink *sink = &plan->sinks[s];
        fprintf(out, "%ssink %s: ", s == 0 ? "\n" : "", sink->name);
        for (uint32_t f = 0; f < sink->from_count; f++) {
            rml_explain_output(plan, sink->from[f], output, sizeof output);
            fprintf(out, "%s%s", f == 0 ? "" : ", ", output);
        }
        if (sink->kind == RML_SINK_RING) {
            fprintf(
                out, " to a ring of %u rows, %s\n", sink->rows,
                about((uint64_t)sink->rows * plan->stages[sink->from[0].stage].output.record_bytes,
                      text));
        } else if (sink->kind == RML_SINK_TABLE) {
            show_table(sink, out);
        } else {
            fprintf(out, " to %s as %s, times %s\n",
                    strcmp(sink->path, "-") == 0 ? "standard output" : sink->path,
                    rml_explain_sink_kinds[sink->kind], sink->rfc3339 ? "rfc3339" : "ns");
        }
    }
}

void rml_explain_text(const struct rml_plan *plan, FILE *out)
{
    show_runtime(plan, out);
    for (uint32_t s = 0; s < plan->source_count; s++) {
        show_source(plan, &plan->sources[s], out);
        fprintf(out, "  stages\n");
        show_tree(plan, s, RML_NO_STAGE, 2, out);
    }
    show_sinks(plan, out);
    if (plan->test_count > 0)
        fprintf(out, "\n%u test%s\n", plan->test_count, plan->test_count == 1 ? "" : "s");
    if (plan->default_count > 0)
        fprintf(out, "\nnot in the file, at their defaults\n");
    for (uint32_t i = 0; i < plan->default_count; i++)
        fprintf(out, "  %s: %s: %s\n", plan->defaults[i].what, plan->defaults[i].key,
                plan->defaults[i].standard);
}
