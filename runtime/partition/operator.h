/*
 * operator - what stands between a partition and the stages it runs: take a batch, hand batches on.
 *
 * A partition calls the operators of one source's tree with runs: batches in which the watermark
 * stays on one side of every operator's deadline. So an operator judges all records of a run by one
 * watermark and still does what it would have done record by record. (One whose deadlines come with
 * the records is `by_row`: it is told the watermark of each.) An operator is used by one
 * thread at a time and sees neither lanes nor workers.
 */
#ifndef RML_PARTITION_OPERATOR_H
#define RML_PARTITION_OPERATOR_H

#include "runtime/observe/counters.h"
#include "runtime/partition/result.h"
#include "runtime/plan/plan.h"
#include "runtime/record/batch.h"
#include "runtime/state/pages.h"

struct rml_err;
struct rml_operator;
struct rml_roots;

/* By what a run's records are judged. Arrays are by row of the batch. */
struct rml_run {
    int64_t watermark;         // of the source in this partition, before the run and throughout
    const int64_t *time;       // event time
    const int64_t *clock;      // the lane's greatest event time up to and with the row; NULL where
                               // nobody asked for it
    const int64_t *judge;      // the watermark before each row, as it was when the row's turn came;
                               // NULL where no operator is by_row
    const uint64_t *key_hash;  // rml_key_hash_bytes of the partition key; NULL when not computed
};

/* What an operator may use and call. The partition owns it all. */
struct rml_operator_env {
    const struct rml_plan *plan;
    uint32_t stage;
    uint32_t output;  // index of its main output, RML_OUTPUTS_MAX: nobody reads it
    struct rml_pages *pages;
    struct rml_expr_scratch *scratch;
    struct rml_column *columns;  // of the source's frame; a map fills its own
    uint8_t *const *nulls;       // null array of each frame column
    _Atomic uint64_t *counts;    // RML_STAGE_COUNTERS words
    /* Hand records on: to the main output's readers, or to the late output's. */
    void (*pass)(void *context, uint32_t stage, bool late, const struct rml_batch *batch,
                 const struct rml_run *run);
    /* Room for one row of output `output`: the caller fills all of its record. */
    struct rml_result_row *(*row)(void *context, uint32_t output, int64_t fire);
    void *context;
};

struct rml_operator_kind {
    const char *name;
    bool by_row;       // judges each row by run->judge; runs are not cut at its deadlines
    bool wants_clock;  // reads run->clock
    /* Set up for one stage of one partition. Everything it needs later is reserved here. */
    int (*open)(struct rml_operator **ret_operator, const struct rml_operator_env *env,
                struct rml_err *err);
    void (*close)(struct rml_operator *op);
    /* Take a run: count `in` and every record's door. */
    void (*take)(struct rml_operator *op, const struct rml_batch *batch, const struct rml_run *run);
    /* The watermark rose to `watermark`. NULL: it does not care. */
    void (*advance)(struct rml_operator *op, int64_t watermark);
    /* Of a stage with a trigger by the wall clock: that is `now`, and the watermark this. NULL: it has
     * none. */
    void (*tick)(struct rml_operator *op, int64_t now, int64_t watermark);
    /* The least watermark above the given one at which `advance` might do something, whatever
     * records come until then (by_row: if none come); RML_TIME_END when none. NULL: never. */
    int64_t (*deadline)(const struct rml_operator *op, int64_t watermark);
    /* The least `fire` that a later row of it can have, now that the watermark is this. NULL: the
     * watermark. */
    int64_t (*settled)(const struct rml_operator *op, int64_t watermark);
    /* Walk what it knows outside of pages and must know to go on from a checkpoint; reading: it has
     * just been opened (runtime/state/roots.h). NULL: nothing. */
    void (*roots)(struct rml_operator *op, struct rml_roots *roots);
};

struct rml_operators {
    const struct rml_operator_kind *filter, *map;
    const struct rml_operator_kind *window[RML_WINDOW_COUNT + 1];  // by enum rml_window_kind
};

/* Copy one cell of a column of `type` into a record's field: the column's kind becomes the type again. */
void rml_cell_store(enum rml_type type, const void *cell, void *field);

#endif
