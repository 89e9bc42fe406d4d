/*
 * ends - the first and the last value by time, mergeable.
 *
 * Of values of the same time, the first is the one that came first, the last the one that came last;
 * in a merge, what `into` has came before what `from` has. Who keeps an end knows whether it has a
 * value yet (`any`).
 */
#ifndef RML_STATS_ENDS_H
#define RML_STATS_ENDS_H

#include <stdbool.h>
#include <stdint.h>

struct rml_end {
    int64_t time;
    uint64_t cell;  // the value, as bits
};

_Static_assert(sizeof(struct rml_end) == 16, "an end is two words of a state");

/* Hold the newcomer against the first / last value so far. */
static inline void rml_end_first(struct rml_end *end, bool any, int64_t time, uint64_t cell)
{
    if (!any || time < end->time)
        *end = (struct rml_end){time, cell};
}

static inline void rml_end_last(struct rml_end *end, bool any, int64_t time, uint64_t cell)
{
    if (!any || time >= end->time)
        *end = (struct rml_end){time, cell};
}

#endif
