/*
 * ends - the first and the last value by time, mergeable.
 *
 * Of values of the same time, the first is the one that came first, the last the one that came last;
 * in a merge, what `into` has came before what `from` has. Who keeps an end knows how many bytes a
 * value has, and whether there is one yet (`any`).
 */
#ifndef RML_STATS_ENDS_H
#define RML_STATS_ENDS_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

struct rml_end {
    int64_t time;
    unsigned char value[];
};

/* An end whose value has so many bytes is a whole number of words. */
static inline uint32_t rml_end_bytes(uint32_t value_bytes)
{
    return (uint32_t)sizeof(struct rml_end) + (value_bytes + 7) / 8 * 8;
}

static inline void rml_end_set(struct rml_end *end, int64_t time, const void *value, uint32_t bytes)
{
    end->time = time;
    memcpy(end->value, value, bytes);
}

/* Hold the newcomer against the first / last value so far. */
static inline void rml_end_first(struct rml_end *end, bool any, int64_t time, const void *value,
                                 uint32_t bytes)
{
    if (!any || time < end->time)
        rml_end_set(end, time, value, bytes);
}

static inline void rml_end_last(struct rml_end *end, bool any, int64_t time, const void *value,
                                uint32_t bytes)
{
    if (!any || time >= end->time)
        rml_end_set(end, time, value, bytes);
}

#endif
