/*
 * fold_own - aggregates that share nothing with others: each has words of its own in the state.
 *
 * The words begin with how many values went in; what follows is the struct of the sketch or the
 * statistic (runtime/stats/), all zeros when there was no value.
 */
#ifndef RML_OPERATORS_FOLD_OWN_H
#define RML_OPERATORS_FOLD_OWN_H

#include "operators/aggregate.h"

/* What one fold walks: row rows[i] of the column into states[i]. */
struct rml_fold_walk {
    const void *data;
    const uint8_t *null;  // NULL: none is
    const int64_t *time;  // event times
    void *const *states;
    const uint16_t *rows;
    uint32_t count;
};

/* A cell of the column as a double; false: it is null or no number. */
static inline bool rml_fold_number(const struct rml_fold *fold, const struct rml_fold_walk *walk,
                                   uint32_t row, double *ret_x)
{
    if (walk->null != NULL && walk->null[row])
        return false;
    const int64_t *ints = walk->data;
    const uint64_t *uints = walk->data;
    const double *floats = walk->data;
    *ret_x = fold->kind == RML_KIND_FLOAT  ? floats[row]
             : fold->kind == RML_KIND_UINT ? (double)uints[row]
                                           : (double)ints[row];
    return *ret_x == *ret_x;
}

/* Bytes in the state, a multiple of 8. */
uint32_t rml_fold_own_bytes(const struct rml_fold *fold);

/* Add the values in order. Returns how many were skipped because they were null or NaN. */
uint64_t rml_fold_own_add(const struct rml_fold *fold, const struct rml_fold_walk *walk);

void rml_fold_own_merge(const struct rml_fold *fold, unsigned char *into,
                        const unsigned char *from);

/* What lies behind the count. */
static inline const void *rml_fold_own_words(const unsigned char *at)
{
    return at + sizeof(uint64_t);
}

#endif
