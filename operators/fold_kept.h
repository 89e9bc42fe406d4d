/*
 * fold_kept - aggregates that keep their values: exact quantiles.
 *
 * Values lie in a chain of chunks, the newest first, each twice as large as the one before until it is
 * a page; nothing is ever moved. Where panes are put together to give a result, only their
 * slots are listed, and the quantile is found over all their chains where they are.
 */
#ifndef RML_OPERATORS_FOLD_KEPT_H
#define RML_OPERATORS_FOLD_KEPT_H

#include "operators/fold_own.h"

struct rml_chunks;

struct rml_kept_slot {
    uint64_t values;
    uint32_t chunk;  // the newest, RML_NO_CHUNK: none
    uint32_t bytes;  // of it
};

/* The slots that one result is over, in room for RML_PANES_MAX. */
struct rml_kept_list {
    uint32_t count;
    const struct rml_kept_slot *slots[RML_PANES_MAX];
};

/* Add values as rml_fold_own_add does, where the chunks have room. */
uint64_t rml_fold_kept_add(const struct rml_fold *fold, struct rml_chunks *chunks,
                           const struct rml_fold_walk *walk);

/* Take all values of `from`, which then has none. */
void rml_fold_kept_absorb(struct rml_chunks *chunks, struct rml_kept_slot *into,
                          struct rml_kept_slot *from);

/* Give all pieces back; the slot is void then. */
void rml_fold_kept_release(struct rml_chunks *chunks, const struct rml_kept_slot *slot);

/* The quantile over all listed slots, as rml_exact_quantile. */
bool rml_fold_kept_quantile(const struct rml_chunks *chunks, const struct rml_kept_list *list,
                            double q, double *ret_value);

#endif
