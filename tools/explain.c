#include "tools/explain.h"

#include <string.h>

const char *const rml_explain_stage_kinds[] = {
    [RML_STAGE_FILTER] = "filter", [RML_STAGE_MAP] = "map", [RML_STAGE_WINDOW] = "window"};
const char *const rml_explain_window_kinds[] = {
    [RML_WINDOW_TUMBLING] = "tumbling", [RML_WINDOW_SLIDING] = "sliding",
    [RML_WINDOW_SESSION] = "session",   [RML_WINDOW_GLOBAL] = "global",
    [RML_WINDOW_COUNT] = "count",
};
const char *const rml_explain_when_full[] = {
    [RML_WHEN_FULL_REFUSE] = "refuse", [RML_WHEN_FULL_EVICT_OLDEST] = "evict_oldest"};
const char *const rml_explain_sink_kinds[] = {[RML_SINK_JSONL] = "jsonl",
                                              [RML_SINK_CSV] = "csv",
                                              [RML_SINK_RING] = "ring",
                                              [RML_SINK_TABLE] = "lmdb"};

uint64_t rml_explain_lane_bytes(const struct rml_plan *plan, const struct rml_plan_source *source)
{
    uint64_t cells = source->cells;
    if (source->is_shared)
        cells += rml_plan_log_cells(plan, source);
    return cells * source->schema.record_bytes * plan->partitions;
}

uint64_t rml_explain_panes(const struct rml_plan *plan, const struct rml_plan_stage *stage)
{
    const struct rml_plan_window *window = &stage->window;
    int64_t open_ns =
        window->size_ns + window->late_ns + plan->sources[stage->source].out_of_order_ns;
    // what windows have given early is kept with their last panes
    if (rml_plan_gives_early(window))
        open_ns += window->size_ns - window->pane_ns;
    return (uint64_t)(open_ns / window->pane_ns) + 1 + (open_ns % window->pane_ns != 0);
}

static void argument(const struct rml_plan *plan, const struct rml_plan_stage *stage,
                     const struct rml_plan_aggregate *aggregate, char *text, size_t bytes)
{
    text[0] = '\0';
    if (aggregate->column == RML_FIELD_ABSENT)
        return;
    for (uint32_t m = 0; m < stage->mapped_count; m++) {
        if (stage->mapped[m].column == aggregate->column) {
            rml_expr_print(stage->mapped[m].expr, text, bytes);
            return;
        }
    }
    snprintf(text, bytes, "%s", plan->sources[stage->source].frame.columns[aggregate->column].name);
}

void rml_explain_argument(const struct rml_plan *plan, const struct rml_plan_stage *stage,
                          const struct rml_plan_aggregate *aggregate, char *text, size_t bytes)
{
    argument(plan, stage, aggregate, text, bytes);
    size_t length = strlen(text);
    if (aggregate->parameters_text != NULL)
        snprintf(text + length, bytes - length, ", %s", aggregate->parameters_text);
}

void rml_explain_output(const struct rml_plan *plan, struct rml_plan_output output, char *text,
                        size_t bytes)
{
    snprintf(text, bytes, "%s%s", plan->stages[output.stage].name, output.late ? ".late" : "");
}
