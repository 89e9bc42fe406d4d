#include "runtime/control/rings.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "runtime/base/err.h"
#include "runtime/control/kept.h"
#include "runtime/keeper/keeping.h"

// The most rows that a sink of type ring wants of this output, or 0.
static uint32_t rows_wanted(const struct rml_plan *plan, const struct rml_output *output)
{
    uint32_t rows = 0;
    for (uint32_t i = 0; i < plan->sink_count; i++) {
        const struct rml_plan_sink *sink = &plan->sinks[i];
        for (uint32_t j = 0; sink->kind == RML_SINK_RING && j < sink->from_count; j++) {
            if (sink->from[j].stage == output->stage && sink->from[j].late == output->late)
                rows = sink->rows > rows ? sink->rows : rows;
        }
    }
    return rows;
}

static int open_ring(struct rml_rings *rings, const struct rml_plan *plan, uint32_t index,
                     struct rml_keeping *keeping, struct rml_err *err)
{
    const struct rml_output *output = &rings->outputs[index];
    struct rml_ring *ring = &rings->ring[index];
    uint32_t rows = rows_wanted(plan, output);
    if (rows == 0)
        return 0;
    const char *stage = plan->stages[output->stage].name;
    const struct rml_broadcast_shape shape = {
        (uint32_t)sizeof(struct rml_result_row) + output->row_bytes, rows};
    size_t bytes = rml_broadcast_bytes(shape);
    if (bytes == 0)
        return RML_FAIL(err, -EINVAL, "a ring of %u rows of %u bytes for %s cannot be", rows,
                        shape.row_bytes, stage);
    char name[64];
    snprintf(name, sizeof name, "ringmill-%.20s-%.20s", plan->name, stage);
    const struct rml_keeping_segment wanted = {.id = RML_KEPT_ID(RML_KEPT_RING, index),
                                               .name = name,
                                               .bytes = bytes * plan->partitions,
                                               .mark_at = RML_KEEPER_DEATHMARK_NONE};
    bool again;
    int rc = rml_keeping_segment(keeping, &wanted, &ring->segment, &again, err);
    if (rc < 0)
        return RML_WRAP(err, rc, "the ring of %s", stage);
    ring->shape = shape;
    unsigned char *memory = ring->segment.memory;
    struct rml_broadcast_out *ends = &rings->ends[(size_t)index * plan->partitions];
    for (uint32_t p = 0; p < plan->partitions; p++) {
        if (again)
            rml_broadcast_resume_out(&ends[p], memory + p * bytes, shape);
        else
            rml_broadcast_attach_out(&ends[p], memory + p * bytes, shape);
    }
    return 0;
}

int rml_rings_open(struct rml_rings *rings, const struct rml_plan *plan,
                   struct rml_keeping *keeping, struct rml_err *err)
{
    *rings = (struct rml_rings){.partitions = plan->partitions};
    rings->output_count = rml_outputs_list(plan, rings->outputs);
    for (uint32_t o = 0; o < RML_OUTPUTS_MAX; o++)
        rings->ring[o].segment = RML_SEGMENT_CLOSED;
    if (rings->output_count == 0)
        return 0;
    rings->ends = calloc((size_t)rings->output_count * plan->partitions, sizeof *rings->ends);
    if (rings->ends == NULL)
        return RML_FAIL(err, -ENOMEM, "no memory for result rings");
    int rc = 0;
    for (uint32_t o = 0; o < rings->output_count && rc == 0; o++)
        rc = open_ring(rings, plan, o, keeping, err);
    return rc;
}

void rml_rings_close(struct rml_rings *rings)
{
    for (uint32_t o = 0; o < rings->output_count; o++)
        rml_segment_close(&rings->ring[o].segment);
    free(rings->ends);
    *rings = (struct rml_rings){0};
}

uint32_t rml_rings_find(const struct rml_rings *rings, uint32_t stage, bool late)
{
    for (uint32_t o = 0; o < rings->output_count; o++) {
        if (rings->outputs[o].stage == stage && rings->outputs[o].late == late
            && rings->ring[o].shape.row_bytes > 0)
            return o;
    }
    return UINT32_MAX;
}
