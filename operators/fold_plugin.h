/*
 * fold_plugin - aggregates of plug-ins (runtime/plugin/plugin.h): a count of values, then the plug-in's bytes.
 *
 * A plug-in is told of values alone: what is null or NaN is taken out here, numbers that it wants as doubles
 * become doubles, states without a value are neither merged nor asked for a result. What it gives back is
 * made a well-formed cell of the result's type. States that grow lie in slots of sketches
 * (operators/fold_sketch.h), which use what of this is the same for both.
 */
#ifndef RML_OPERATORS_FOLD_PLUGIN_H
#define RML_OPERATORS_FOLD_PLUGIN_H

#include "operators/fold_own.h"

/* Are both of no plug-in, or the same call of one? */
bool rml_fold_plugin_same(const struct rml_fold *a, const struct rml_fold *b);

/* Bytes behind the count, a multiple of 8. */
uint32_t rml_fold_plugin_bytes(const struct rml_fold *fold);

/* Begin a plug-in's state of so many bytes, which are zeroed. */
void rml_fold_plugin_init(const struct rml_fold *fold, void *state, uint32_t bytes);

/* The rows of a walk that a plug-in is told of. */
struct rml_fold_plugin_rows {
    uint32_t count;
    uint16_t rows[RML_BATCH_ROWS];
    uint16_t from[RML_BATCH_ROWS];  // where in the walk
    const void *columns[RML_PLUGIN_ARGUMENTS_MAX];
    double doubles[RML_PLUGIN_ARGUMENTS_MAX][RML_BATCH_ROWS];
};

void rml_fold_plugin_choose(const struct rml_fold *fold, const struct rml_column *columns,
                            const struct rml_fold_walk *walk, struct rml_fold_plugin_rows *rows);

/* Have rows from `from` on added to as many states; how many were taken. `bytes` as of the plug-in's block. */
uint32_t rml_fold_plugin_give(const struct rml_fold *fold, const struct rml_fold_walk *walk,
                              const struct rml_fold_plugin_rows *rows, uint32_t from,
                              void *const *states, const uint32_t *bytes);

/* As rml_fold_own_add; a plug-in may take several columns. */
uint64_t rml_fold_plugin_add(const struct rml_fold *fold, const struct rml_column *columns,
                             const struct rml_fold_walk *walk);

/* Behind the counts, which the caller adds up; that of `from` is not 0. */
void rml_fold_plugin_merge(const struct rml_fold *fold, unsigned char *into,
                           const unsigned char *from);

/* The result of a plug-in's state of at least one value as a cell of a column of `type`; false: null. */
bool rml_fold_plugin_result(const struct rml_fold *fold, const void *state,
                            const struct rml_plugin_window *window, enum rml_type type, void *cell);

#endif
