/*
 * ticks - whether the wall clock has come to another multiple of a trigger's `every`.
 *
 * Ticks come when the worker gets to it: whatever multiples lie between two of them are one.
 */
#ifndef RML_OPERATORS_TICKS_H
#define RML_OPERATORS_TICKS_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/time/time.h"

struct rml_ticks {
    int64_t every_ns;
    int64_t last;  // multiple; RML_TIME_NONE: there was no tick
};

static inline void rml_ticks_init(struct rml_ticks *ticks, int64_t every_ns)
{
    *ticks = (struct rml_ticks){every_ns, RML_TIME_NONE};
}

/* Also where the clock was set back. */
static inline bool rml_ticks_pass(struct rml_ticks *ticks, int64_t now)
{
    int64_t multiple = rml_time_floor_div(now, ticks->every_ns);
    bool is_another = multiple != ticks->last;
    ticks->last = multiple;
    return is_another;
}

#endif
