/*
 * panes - where windows begin and end, in whole panes: arithmetic alone.
 *
 * A window is cut into panes whose length divides both its size and its period, so that one record
 * touches one pane however many windows overlap (J. Li, D. Maier, K. Tufte, V. Papadimos, P. Tucker,
 * "No Pane, No Gain: Efficient Evaluation of Sliding-Window Aggregates over Data Streams", 2005).
 * Pane p covers [offset + p * length, offset + (p + 1) * length). Ends beyond int64 saturate.
 */
#ifndef RML_OPERATORS_PANES_H
#define RML_OPERATORS_PANES_H

#include "runtime/base/int128.h"
#include "runtime/plan/plan.h"
#include "runtime/time/time.h"

static inline int64_t rml_pane_clamp(rml_int128 value)
{
    return value > INT64_MAX ? INT64_MAX : value < INT64_MIN ? INT64_MIN : (int64_t)value;
}

static inline int64_t rml_pane_of(const struct rml_plan_window *w, int64_t time)
{
    return rml_time_floor_div(rml_time_sub(time, w->offset_ns), w->pane_ns);
}

/* The greatest window end <= time, as a wide number: it may lie before the beginning of time. */
static inline rml_int128 rml_pane_end_up_to(const struct rml_plan_window *w, int64_t time)
{
    rml_int128 from_first = (rml_int128)time - w->offset_ns - w->size_ns;
    rml_int128 periods = from_first / w->every_ns - (from_first % w->every_ns < 0);
    return periods * w->every_ns + w->offset_ns + w->size_ns;
}

/* The least window end > time. */
static inline rml_int128 rml_pane_end_after(const struct rml_plan_window *w, int64_t time)
{
    return rml_pane_end_up_to(w, time) + w->every_ns;
}

/* Ends of the first and the last window that contain pane p. */
static inline rml_int128 rml_pane_first_end(const struct rml_plan_window *w, int64_t pane)
{
    rml_int128 start = (rml_int128)pane * w->pane_ns;  // offset left out
    rml_int128 need = start + w->pane_ns - w->size_ns;
    rml_int128 periods = need / w->every_ns + (need % w->every_ns > 0);
    return periods * w->every_ns + w->offset_ns + w->size_ns;
}

static inline rml_int128 rml_pane_last_end(const struct rml_plan_window *w, int64_t pane)
{
    rml_int128 start = (rml_int128)pane * w->pane_ns;
    rml_int128 periods = start / w->every_ns - (start % w->every_ns < 0);
    return periods * w->every_ns + w->offset_ns + w->size_ns;
}

#endif
