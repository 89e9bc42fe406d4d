#include <string.h>

#include "runtime/base/err.h"
#include "runtime/plan/reader.h"

static bool is_visible(const struct rml_plan_stage *stage, uint32_t column)
{
    return (stage->visible[column / 64] >> (column % 64) & 1) != 0;
}

static int columns_output(const struct rml_frame *frame, struct rml_plan_stage *stage,
                          struct rml_err *err)
{
    bool has_nulls = false;
    for (uint32_t i = 0; i < frame->column_count; i++)
        has_nulls = has_nulls || (is_visible(stage, i) && frame->columns[i].nullable);
    rml_schema_init(&stage->output, stage->name, has_nulls);
    for (uint32_t i = 0; i < frame->column_count; i++) {
        if (!is_visible(stage, i))
            continue;
        uint32_t field = stage->output.field_count;
        int rc = rml_schema_add(&stage->output, frame->columns[i].name, frame->columns[i].type,
                                frame->columns[i].nullable, err);
        if (rc < 0)
            return rc;
        stage->output_columns[field] = i;
    }
    return 0;
}

static int window_output(const struct rml_frame *frame, struct rml_plan_stage *stage,
                         struct rml_err *err)
{
    bool has_nulls = false;
    for (uint32_t a = 0; a < stage->aggregate_count; a++)
        has_nulls = has_nulls || stage->aggregates[a].nullable;
    struct rml_schema *output = &stage->output;
    rml_schema_init(output, stage->name, has_nulls);
    int rc = rml_schema_add(output, "window_start", RML_TIME, false, err);
    if (rc == 0)
        rc = rml_schema_add(output, "window_end", RML_TIME, false, err);
    for (uint32_t k = 0; k < stage->key_count && rc == 0; k++) {
        const struct rml_frame_column *column = &frame->columns[stage->key_columns[k]];
        rc = rml_schema_add(output, column->name, column->type, false, err);
    }
    if (rc == 0)
        rc = rml_schema_add(output, "revision", RML_U32, false, err);
    if (rc == 0 && stage->window.kind == RML_WINDOW_SESSION)
        rc = rml_schema_add(output, "retracted", RML_BOOL, false, err);
    if (rc == 0 && rml_plan_gives_early(&stage->window))
        rc = rml_schema_add(output, "partial", RML_BOOL, false, err);
    if (rc == 0 && rml_plan_evicts(stage))
        rc = rml_schema_add(output, "evicted", RML_BOOL, false, err);
    for (uint32_t a = 0; a < stage->aggregate_count && rc == 0; a++)
        rc = rml_schema_add(output, stage->aggregates[a].name, stage->aggregates[a].type,
                            stage->aggregates[a].nullable, err);
    return rc;
}

int rml_resolve_output(struct rml_plan *plan, struct rml_plan_stage *stage, struct rml_err *err)
{
    const struct rml_frame *frame = &plan->sources[stage->source].frame;
    int rc = stage->kind == RML_STAGE_WINDOW ? window_output(frame, stage, err)
                                             : columns_output(frame, stage, err);
    if (rc == 0)
        rc = rml_schema_seal(&stage->output, err);
    return rc;
}
