/*
 * emit - rows into blocks: how a partition's results become memory that can be handed away.
 *
 * Each output of a partition has one block being filled at most. At the end of a step every block
 * with rows is given away, so that nothing waits for a block to fill up.
 */
#ifndef RML_PARTITION_EMIT_H
#define RML_PARTITION_EMIT_H

#include "runtime/partition/result.h"
#include "runtime/plan/plan.h"
#include "runtime/record/batch.h"

struct rml_roots;

struct rml_emit {
    const struct rml_plan *plan;
    struct rml_result_door door;
    uint32_t partition;
    uint32_t output_count;
    struct rml_output outputs[RML_OUTPUTS_MAX];
    struct rml_result_block *filling[RML_OUTPUTS_MAX];
    uint64_t next_seq[RML_OUTPUTS_MAX];
    int64_t announced[RML_SOURCES_MAX];  // the last progress that a reader was told
};

void rml_emit_init(struct rml_emit *emit, const struct rml_plan *plan, uint32_t partition,
                   const struct rml_result_door *door);

/* What comes next of each output (runtime/state/roots.h), which is known by the name of its stage. Between
 * steps. */
void rml_emit_roots(struct rml_emit *emit, struct rml_roots *roots);

/* The index of a stage's output, or RML_OUTPUTS_MAX when nobody reads it. */
uint32_t rml_emit_output(const struct rml_emit *emit, uint32_t stage, bool late);

/* Room for one row of `output`; its record's bytes are zero. */
struct rml_result_row *rml_emit_row(struct rml_emit *emit, uint32_t output, int64_t fire);

/* A row for each selected record: field i of `schema` from column `columns[i]` (NULL: column i). */
void rml_emit_batch(struct rml_emit *emit, uint32_t output, const struct rml_schema *schema,
                    const uint32_t *columns, const struct rml_batch *batch, const int64_t *clock);

/* The step is over: every later row of `source` has fire >= progress. */
void rml_emit_step_end(struct rml_emit *emit, uint32_t source, int64_t progress);

#endif
