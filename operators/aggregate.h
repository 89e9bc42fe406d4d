/*
 * aggregate - what a stage computes of each key and pane: a small block of words, folded by columns.
 *
 * Aggregates of one argument share what they have in common: count, sum, avg, min and max of x walk
 * the column of x once and keep one sum. Such a group's words lie side by side:
 *
 *     values  how many inputs were neither null nor NaN
 *     sum     FLOAT: sum and compensation (A. Neumaier, "Rundungsfehleranalyse einiger Verfahren zur
 *             Summation endlicher Summen", 1974); INT, UINT: 128 bits, which no count of 64-bit
 *             values can overflow
 *     least, greatest
 *
 * What shares nothing has words of its own (operators/fold_own.h), or a plug-in's bytes
 * (operators/fold_plugin.h), and what grows is a sketch that may leave its row for chunks of pages
 * (operators/fold_sketch.h); such states are released.
 *
 * States merge: of panes that were folded apart, the merged state is that of all records, where for
 * floats the order of merging is the order of panes.
 */
#ifndef RML_OPERATORS_AGGREGATE_H
#define RML_OPERATORS_AGGREGATE_H

#include "runtime/plan/functions.h"
#include "runtime/plan/plan.h"
#include "runtime/record/batch.h"

#define RML_FOLD_SUM  1u
#define RML_FOLD_MIN  2u
#define RML_FOLD_MAX  4u
#define RML_FOLD_ALL  7u
#define RML_FOLD_TRUE 8u

/* Folds that share words with no other (operators/fold_own.h): one bit each, alone. */
#define RML_FOLD_MOMENTS   16u
#define RML_FOLD_FIRST     32u
#define RML_FOLD_LAST      64u
#define RML_FOLD_DECAY     128u
#define RML_FOLD_HISTOGRAM 256u
#define RML_FOLD_PLUGIN    512u

/* Those whose state grows (operators/fold_sketch.h). */
#define RML_FOLD_QUANTILE 1024u
#define RML_FOLD_DISTINCT 2048u
#define RML_FOLD_TOP      4096u
#define RML_FOLD_KEPT     8192u
#define RML_FOLD_GROWING  16384u  // of a plug-in

#define RML_CELL_BYTES_MAX 64u  // of any column: a str64

struct rml_err;
struct rml_pages;
struct rml_roots;
struct rml_sketches;

/* One argument's words in the state. */
struct rml_fold {
    uint32_t index;  // of the fold
    uint32_t column;
    enum rml_kind kind;
    uint32_t cell_bytes;
    unsigned needs;   // RML_FOLD_ bits
    uint32_t offset;  // bytes from the state's start
    uint32_t parameter_count;
    const double *parameters;          // the plan's
    const struct rml_plan_call *call;  // of a plug-in
};

struct rml_aggregator {
    uint32_t fold_count;
    struct rml_fold folds[RML_AGGREGATES_MAX];
    uint32_t state_bytes;  // a multiple of 8
    uint32_t result_count;
    uint32_t time_column;           // of event times
    struct rml_sketches *sketches;  // NULL: there is none

    struct {
        uint32_t function;
        uint32_t part;  // struct rml_plan_aggregate's
        double q;       // of a quantile
        uint32_t fold;  // UINT32_MAX: count(), which the caller knows
        enum rml_type type;
    } results[RML_AGGREGATES_MAX];
};

extern const struct rml_functions rml_aggregate_functions;

/*
 * Lay out the state of a window stage's aggregates. The plan and the pages, which states may grow
 * into, must outlive it. 0 or -ENOMEM.
 */
int rml_aggregator_open(struct rml_aggregator *aggregator, const struct rml_plan_stage *stage,
                        const struct rml_plan_source *source, struct rml_pages *pages,
                        struct rml_err *err);

/* Pages that states still have are left to whoever closes the pages. All zeros is fine. */
void rml_aggregator_close(struct rml_aggregator *aggregator);

/* What states have in pages beside their rows (runtime/state/roots.h). */
void rml_aggregator_roots(const struct rml_aggregator *aggregator, struct rml_roots *roots);

static inline bool rml_fold_is_sketch(const struct rml_fold *fold)
{
    return fold->needs >= RML_FOLD_QUANTILE;
}

/*
 * Is there room to take `count` records more, whatever is in them? Ask before anything is made for
 * them; where there is none, they are refused. Without sketches there is always room.
 */
bool rml_aggregator_has_room(const struct rml_aggregator *aggregator, uint32_t count);

/* The state of no records. `state` is 8-byte aligned. What a state grew into is its own until it is
 * released. */
void rml_aggregator_reset(const struct rml_aggregator *aggregator, void *state);
void rml_aggregator_release(const struct rml_aggregator *aggregator, const void *state);

/* The same for the one state that others are merged into to give a result: it takes no room, is not
 * released, and is void when the next one is begun. */
void rml_aggregator_gather(const struct rml_aggregator *aggregator, void *state);

/*
 * Fold `count` rows in order: row rows[i] of the columns into states[i]. Returns how many inputs were
 * skipped because they were null or NaN.
 */
uint64_t rml_aggregator_fold(const struct rml_aggregator *aggregator,
                             const struct rml_column *columns, void *const *states,
                             const uint16_t *rows, uint32_t count);

/* Add the records of `from` to those of `into`, which gathers; or, where no values are kept, which has
 * room for one record. */
void rml_aggregator_merge(const struct rml_aggregator *aggregator, void *into, const void *from);

/* Move the records of `from` to those of `into`, where there is room for one record. `from` is to be
 * released. */
void rml_aggregator_absorb(const struct rml_aggregator *aggregator, void *into, void *from);

/*
 * Result `index` of a state over `records` records of a window of `length_ns`, as a cell of its
 * type's column; false: null. `cell` has RML_CELL_BYTES_MAX bytes. Parts of one function are asked for
 * in order.
 */
bool rml_aggregator_result(const struct rml_aggregator *aggregator, uint32_t index,
                           const void *state, uint64_t records, int64_t length_ns, void *cell);

#endif
