/*
 * panes - where windows begin and end, in whole panes: arithmetic alone.
 *
 * A window is cut into panes whose length divides both its size and its period, so that one record
 * touches one pane however many windows overlap (J. Li, D. Maier, K. Tufte, V. Papadimos, P. Tucker,
 * "No Pane, No Gain: Efficient Evaluation of Sliding-Window Aggregates over Data Streams", 2005).
 * Pane p covers [p * length + offset, (p + 1) * length + offset), the offset taken modulo the length, so
 * that every time has a pane whose number is an int64. Near the ends of int64 a window may
 * begin before all times or end after them: where it lies is computed wide, what is shown of it is
 * clamped, and an end beyond all times is reached when time ends.
 *
 * The global window is one pane that no time lies outside of, and its only end is RML_PANE_ALL.
 */
#ifndef RML_OPERATORS_PANES_H
#define RML_OPERATORS_PANES_H

#include "runtime/base/int128.h"
#include "runtime/plan/plan.h"
#include "runtime/time/time.h"

/* After every end there is. */
#define RML_PANE_NO_END ((rml_int128)1 << 100)

/* The end of all time, and behind it. */
#define RML_PANE_ALL ((rml_int128)1 << 90)

static inline bool rml_pane_is_all(const struct rml_plan_window *w)
{
    return w->kind == RML_WINDOW_GLOBAL;
}

static inline int64_t rml_pane_clamp(rml_int128 value)
{
    return value > INT64_MAX ? INT64_MAX : value < INT64_MIN ? INT64_MIN : (int64_t)value;
}

static inline int64_t rml_pane_of(const struct rml_plan_window *w, int64_t time)
{
    int64_t shifted;
    if (rml_pane_is_all(w))
        return 0;
    if (!__builtin_sub_overflow(time, w->pane_offset_ns, &shifted))
        return rml_time_floor_div(shifted, w->pane_ns);
    rml_int128 wide = (rml_int128)time - w->pane_offset_ns;
    return (int64_t)(wide / w->pane_ns - (wide % w->pane_ns < 0));
}

/* The panes of the window that ends at `end`: some may lie outside of all times. */
static inline rml_int128 rml_pane_last(const struct rml_plan_window *w, rml_int128 end)
{
    if (rml_pane_is_all(w))
        return end >= RML_PANE_ALL ? 0 : -1;
    return (end - w->pane_offset_ns) / w->pane_ns - 1;
}

static inline rml_int128 rml_pane_first(const struct rml_plan_window *w, rml_int128 end)
{
    if (rml_pane_is_all(w))
        return rml_pane_last(w, end);
    return (end - w->size_ns - w->pane_offset_ns) / w->pane_ns;
}

/* When a window begins, as far as there is time. */
static inline int64_t rml_pane_start(const struct rml_plan_window *w, rml_int128 end)
{
    return rml_pane_is_all(w) ? INT64_MIN : rml_pane_clamp(end - w->size_ns);
}

/* Window ends up to here are reached by a watermark; RML_TIME_END reaches them all. */
static inline rml_int128 rml_pane_reach(int64_t watermark)
{
    return watermark == RML_TIME_END ? RML_PANE_NO_END : watermark;
}

/* The greatest window end <= time, as a wide number: it may lie before the beginning of time. */
static inline rml_int128 rml_pane_end_up_to(const struct rml_plan_window *w, rml_int128 time)
{
    if (rml_pane_is_all(w))
        return time >= RML_PANE_ALL ? RML_PANE_ALL : RML_PANE_ALL - w->every_ns;
    rml_int128 from_first = time - w->offset_ns - w->size_ns;
    rml_int128 periods = from_first / w->every_ns - (from_first % w->every_ns < 0);
    return periods * w->every_ns + w->offset_ns + w->size_ns;
}

/* The least window end > time. */
static inline rml_int128 rml_pane_end_after(const struct rml_plan_window *w, rml_int128 time)
{
    return rml_pane_end_up_to(w, time) + w->every_ns;
}

/* Ends of the first and the last window that contain pane p. */
static inline rml_int128 rml_pane_first_end(const struct rml_plan_window *w, int64_t pane)
{
    if (rml_pane_is_all(w))
        return RML_PANE_ALL;
    rml_int128 start = (rml_int128)pane * w->pane_ns + w->pane_offset_ns - w->offset_ns;
    rml_int128 need = start + w->pane_ns - w->size_ns;
    rml_int128 periods = need / w->every_ns + (need % w->every_ns > 0);
    return periods * w->every_ns + w->offset_ns + w->size_ns;
}

static inline rml_int128 rml_pane_last_end(const struct rml_plan_window *w, int64_t pane)
{
    if (rml_pane_is_all(w))
        return RML_PANE_ALL;
    rml_int128 start = (rml_int128)pane * w->pane_ns + w->pane_offset_ns - w->offset_ns;
    rml_int128 periods = start / w->every_ns - (start % w->every_ns < 0);
    return periods * w->every_ns + w->offset_ns + w->size_ns;
}

#endif
