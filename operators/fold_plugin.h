/*
 * fold_plugin - aggregates of plug-ins (runtime/plugin/plugin.h): a count of values, then the plug-in's bytes.
 *
 * A plug-in is told of values alone: what is null or NaN is taken out here, numbers that it wants as doubles
 * become doubles, states without a value are neither merged nor asked for a result. What it gives back is
 * made a well-formed cell of the result's type.
 */
#ifndef RML_OPERATORS_FOLD_PLUGIN_H
#define RML_OPERATORS_FOLD_PLUGIN_H

#include "operators/fold_own.h"

/* Are both of no plug-in, or the same call of one but for the parameters? */
bool rml_fold_plugin_same(const struct rml_fold *a, const struct rml_fold *b);

/* Bytes behind the count, a multiple of 8. */
uint32_t rml_fold_plugin_bytes(const struct rml_fold *fold);

/* Begin a state; `at` is zeroed. */
void rml_fold_plugin_init(const struct rml_fold *fold, unsigned char *at);

/* As rml_fold_own_add; a plug-in may take several columns. */
uint64_t rml_fold_plugin_add(const struct rml_fold *fold, const struct rml_column *columns,
                             const struct rml_fold_walk *walk);

/* Behind the counts, which the caller adds up; that of `from` is not 0. */
void rml_fold_plugin_merge(const struct rml_fold *fold, unsigned char *into,
                           const unsigned char *from);

/* The result of `values` values as a cell of a column of `type`; false: null. */
bool rml_fold_plugin_result(const struct rml_fold *fold, const unsigned char *at, uint64_t values,
                            int64_t length_ns, enum rml_type type, void *cell);

#endif
