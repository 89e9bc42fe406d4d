/*
 * Any bytes as a pipeline file: an error with its place, or a plan whose figures can be true.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/check.h"
#include "runtime/base/err.h"
#include "runtime/plan/plan.h"
#include "runtime/plan/print.h"
#include "tests/support/functions.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_errors(const struct rml_plan_errors *errors)
{
    RML_CHECK(errors->count > 0 && errors->count <= RML_PLAN_ERRORS_MAX);
    for (uint32_t i = 0; i < errors->count; i++) {
        const struct rml_plan_error *error = &errors->list[i];
        RML_CHECK(error->line > 0 && error->column > 0 && error->length > 0);
        RML_CHECK(error->text[0] != '\0');
        RML_CHECK(i == 0 || errors->list[i - 1].line <= error->line);
    }
    char shown[65536];
    FILE *out = fmemopen(shown, sizeof shown, "w");
    RML_CHECK(out != NULL);
    rml_plan_errors_print(errors, "fuzz", true, out);
    fclose(out);
}

static void check_window(const struct rml_plan_window *window, const struct rml_plan_source *source)
{
    switch (window->kind) {
    case RML_WINDOW_TUMBLING:
    case RML_WINDOW_SLIDING:
        RML_CHECK(window->pane_ns > 0 && window->size_ns % window->pane_ns == 0
                  && window->every_ns % window->pane_ns == 0);
        RML_CHECK(window->offset_ns >= 0 && window->offset_ns < window->every_ns);
        RML_CHECK(window->size_ns / window->pane_ns <= RML_PANES_MAX);
        RML_CHECK(window->every_ns % source->grid_granule_ns == 0);
        break;
    case RML_WINDOW_SESSION:
        RML_CHECK(window->gap_ns > 0 && window->session_limit > 0);
        RML_CHECK(source->grid_granule_ns == 1);
        break;
    case RML_WINDOW_GLOBAL:
        RML_CHECK(window->late_ns == 0 && window->offset_ns == 0);
        break;
    case RML_WINDOW_COUNT:
        RML_CHECK(window->pane_records > 0 && window->size_records % window->pane_records == 0
                  && window->every_records % window->pane_records == 0);
        break;
    }
}

static void check_stage(const struct rml_plan *plan, uint32_t index)
{
    const struct rml_plan_stage *stage = &plan->stages[index];
    RML_CHECK(stage->source < plan->source_count);
    RML_CHECK(stage->from == RML_NO_STAGE || stage->from < index);
    RML_CHECK(stage->output.record_bytes > 0 && stage->output.record_bytes <= RML_RECORD_MAX);
    if (stage->kind == RML_STAGE_FILTER)
        RML_CHECK(rml_expr_type(stage->filter) == RML_BOOL);
    if (stage->kind != RML_STAGE_WINDOW)
        return;
    const struct rml_plan_source *source = &plan->sources[stage->source];
    check_window(&stage->window, source);
    RML_CHECK(stage->aggregate_count > 0 && stage->key_bytes <= RML_KEY_BYTES_MAX);
    for (uint32_t k = 0; k < stage->key_count; k++)
        RML_CHECK(stage->key_columns[k] < source->frame.column_count);
}

static void check_plan(const struct rml_plan *plan)
{
    RML_CHECK(plan->partitions >= plan->workers && plan->workers > 0);
    RML_CHECK(plan->partitions <= RML_PARTITIONS_MAX);
    for (uint32_t i = 0; i < plan->source_count; i++)
        RML_CHECK(plan->sources[i].time_field < plan->sources[i].schema.field_count);
    for (uint32_t i = 0; i < plan->stage_count; i++)
        check_stage(plan, i);
    for (uint32_t i = 0; i < plan->sink_count; i++)
        RML_CHECK(plan->sinks[i].from_count > 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rml_plan *plan = NULL;
    struct rml_plan_errors errors;
    struct rml_err err = {0};
    int rc =
        rml_plan_parse((const char *)data, size, "fuzz", plan_functions(), &plan, &errors, &err);
    if (rc == 0)
        check_plan(plan);
    else if (rc == -EINVAL)
        check_errors(&errors);
    rml_plan_errors_fini(&errors);
    rml_plan_close(plan);
    return 0;
}
