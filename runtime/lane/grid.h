/*
 * grid - the times between which no window can tell a difference.
 *
 * Watermarks are rounded down to a grid of `granule_ns` starting at `origin_ns`, so that a producer
 * need not mark every small step of time. Granule 1 is exact. Arithmetic saturates.
 */
#ifndef RML_LANE_GRID_H
#define RML_LANE_GRID_H

#include "runtime/time/time.h"

struct rml_lane_grid {
    int64_t origin_ns;
    int64_t granule_ns;  // at least 1
};

/* Which step of the grid `time` lies on; RML_TIME_NONE, which is before all times, has none. */
static inline int64_t rml_lane_step(struct rml_lane_grid grid, int64_t time)
{
    return rml_time_floor_div(rml_time_sub(time, grid.origin_ns), grid.granule_ns);
}

/* The least time on a later step than `time`; RML_TIME_END where there may be none. */
static inline int64_t rml_lane_next_step(struct rml_lane_grid grid, int64_t time)
{
    if (time == RML_TIME_NONE)
        return RML_TIME_NONE + 1;
    int64_t offset;
    if (__builtin_mul_overflow(rml_lane_step(grid, time) + 1, grid.granule_ns, &offset))
        return RML_TIME_END;
    return rml_time_add(grid.origin_ns, offset);
}

#endif
