/*
 * rings - the result rings of a pipeline: where workers put rows that other processes read.
 *
 * An output that a sink of type ring takes has one segment, in which a broadcast ring for each
 * partition lies, one behind the other. The engine alone can write it; a subscriber maps it
 * read-only. A row in it is a struct rml_result_row.
 */
#ifndef RML_CONTROL_RINGS_H
#define RML_CONTROL_RINGS_H

#include "runtime/partition/result.h"
#include "runtime/plan/plan.h"
#include "runtime/ring/broadcast.h"
#include "runtime/segment/segment.h"

struct rml_err;
struct rml_keeping;

struct rml_ring {
    struct rml_segment segment;
    struct rml_broadcast_shape shape;  // row_bytes 0: no ring takes this output
};

struct rml_rings {
    uint32_t output_count, partitions;
    struct rml_output outputs[RML_OUTPUTS_MAX];
    struct rml_ring ring[RML_OUTPUTS_MAX];
    struct rml_broadcast_out *ends;  // [output][partition], for workers; NULL: there are no outputs
};

/* Set up the rings of a plan, or go on with those that `keeping` has of an engine that died. 0, or a
 * negative errno and a sentence; close it in either case. */
int rml_rings_open(struct rml_rings *rings, const struct rml_plan *plan,
                   struct rml_keeping *keeping, struct rml_err *err);

/* Accepts one of zeros, and one that is half open. */
void rml_rings_close(struct rml_rings *rings);

/* The output of a stage's main or late rows that has a ring, or UINT32_MAX. */
uint32_t rml_rings_find(const struct rml_rings *rings, uint32_t stage, bool late);

#endif
