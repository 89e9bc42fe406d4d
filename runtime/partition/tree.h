/*
 * tree - the stages below one source in one partition: columns filled once, handed from stage to stage.
 */
#ifndef RML_PARTITION_TREE_H
#define RML_PARTITION_TREE_H

#include "runtime/observe/counters.h"
#include "runtime/partition/emit.h"
#include "runtime/plan/plan.h"
#include "runtime/record/batch.h"
#include "runtime/state/pages.h"

struct rml_err;
struct rml_operator;
struct rml_operators;
struct rml_roots;
struct rml_run;

struct rml_tree_options {
    const struct rml_plan *plan;
    uint32_t source;
    uint32_t partition;
    const struct rml_operators *operators;
    struct rml_pages *pages;
    struct rml_emit *emit;
    struct rml_stage_counts *stage_counts;    // of all stages of the plan
    struct rml_source_counts *source_counts;  // of this source
};

/* Records that one watermark judges; see operator.h for what a run is. */
struct rml_tree_run {
    const void *records;
    const void *ahead;  // as many records that come later, to be fetched meanwhile; or NULL
    uint32_t rows;      // at most RML_BATCH_ROWS
    int64_t watermark;
    const int64_t *time;   // of each record, read already
    const int64_t *clock;  // NULL unless wants_clock
    const int64_t *judge;  // NULL unless by_row
    int64_t latest;        // records with a later time are refused
};

struct rml_tree {
    struct rml_tree_options options;
    _Atomic uint64_t *counts;  // RML_SOURCE_COUNTERS words
    bool wants_clock;          // some output gives records themselves, or an operator asks
    bool by_row;               // some operator is: see operator.h
    bool checks_partition;     // more than one partition: a record can lie in the wrong one
    uint64_t wanted[RML_COLUMNS_MAX / 64];  // columns that are loaded from records
    struct rml_column columns[RML_COLUMNS_MAX];
    uint8_t *nulls[RML_COLUMNS_MAX];
    unsigned char *memory;  // of all columns and null arrays
    struct rml_operator *operators[RML_STAGES_MAX];
    struct rml_expr_scratch *scratch;
    uint64_t key_hash[RML_BATCH_ROWS];
    uint16_t select[RML_BATCH_ROWS];  // of the rows that are not refused
    unsigned char key[RML_KEY_BYTES_MAX];
};

int rml_tree_open(struct rml_tree *tree, const struct rml_tree_options *options,
                  struct rml_err *err);
void rml_tree_close(struct rml_tree *tree);

void rml_tree_take(struct rml_tree *tree, const struct rml_tree_run *run);
void rml_tree_advance(struct rml_tree *tree, int64_t watermark);
void rml_tree_tick(struct rml_tree *tree, int64_t now, int64_t watermark);

/* The least `fire` that a later row of any stage can have at this watermark. */
int64_t rml_tree_settled(const struct rml_tree *tree, int64_t watermark);

/*
 * Operators and counters (runtime/state/roots.h). Stages are known by their names, so what is read may have
 * others than the tree: it is left out, like that of the stages in `renewed` (by bit). Reading tells which
 * stages were `found`, and by owners[old] who has the pages of one now.
 */
struct rml_tree_found {
    uint64_t renewed, found;
    uint8_t owners[RML_OWNERS_MAX];
};

void rml_tree_roots(struct rml_tree *tree, struct rml_roots *roots, struct rml_tree_found *found);

/* Begin the stages that were not found anew, with what is at the watermark already behind them. 0, or as
 * rml_tree_open. */
int rml_tree_renew(struct rml_tree *tree, uint64_t found, int64_t watermark, struct rml_err *err);

/*
 * Least watermark above the given one at which a stage acts; RML_TIME_END when none does. With `cuts`
 * only of stages for which runs have to be cut there.
 */
int64_t rml_tree_deadline(const struct rml_tree *tree, int64_t watermark, bool cuts);

#endif
