/*
 * window_state - what a stage of windows keeps, shared by the files that make up that operator: panes and
 * their rows here, results in window_fire.h, early ones in window_early.h. The essay is in window.c.
 */
#ifndef RML_OPERATORS_WINDOW_STATE_H
#define RML_OPERATORS_WINDOW_STATE_H

#include "operators/aggregate.h"
#include "operators/keyed.h"
#include "operators/panes.h"
#include "operators/stacks.h"
#include "operators/ticks.h"
#include "runtime/partition/operator.h"

/* Panes open at once; a power of two. */
#define RML_WINDOW_PANES_MAX 8192u
#define RML_WINDOW_NO_PANE   UINT32_MAX

struct rml_pane_row {
    uint64_t records;
    uint32_t more;  // results of the window whose last pane this is, besides the one when it fired
    uint32_t is_started;  // it uses its key, and has a state
    unsigned char state[];
};

// Behind the state, in stages with a trigger.
struct rml_pane_early {
    uint64_t shown;   // records of the window whose last pane this is, in its last early result
    uint64_t ticked;  // records of the row when the wall clock last triggered results
};

// Of a slot: that `left` records more of this pane are needed for an early result, unless records of
// others come between. What another key left behind in the slot is never too much for a new one.
struct rml_window_look {
    int64_t pane;
    uint64_t left;
};

struct rml_window_pane {
    int64_t index;
    uint32_t next_free;
    uint32_t is_changed;  // since the wall clock last triggered results
    struct rml_rows rows;
};

struct rml_window {
    struct rml_operator_env env;
    const struct rml_plan_stage *stage;
    struct rml_plan_window spec;
    struct rml_aggregator aggregator;
    struct rml_keyed keyed;
    struct rml_rows_shape row_shape;
    int64_t fired;  // every window that ends up to here has fired

    struct rml_window_pane *panes;
    uint32_t free_pane, fresh_pane;
    uint32_t *by_index;  // RML_WINDOW_PANES_MAX places, by the low bits of the pane's index
    uint32_t open[RML_WINDOW_PANES_MAX];  // open panes in the order of their indices
    uint32_t open_count;

    // Working room for one run.
    uint16_t rows[RML_BATCH_ROWS];
    uint16_t late[RML_BATCH_ROWS];
    uint32_t late_count;
    uint64_t *combined;  // one state

    bool is_early;  // results are given before windows fire
    struct rml_ticks ticks;
    int64_t clock;  // of a global window: the greatest of the lanes'
    uint32_t step;  // panes from the start of a window to that of the next
    bool overlaps;  // a pane lies in several windows
    struct rml_rows_shape look_shape;
    struct rml_rows looks;  // by slot, where is_early and overlaps

    bool is_stacked;  // windows overlap so much that what they share is kept merged
    struct rml_stacks stacks;
};

/* The operator is the first thing in its state. */
static inline struct rml_window *rml_window_of(struct rml_operator *op)
{
    return (void *)op;
}

/* Panes */

/* The open pane of this number, or NULL. */
static inline struct rml_window_pane *rml_window_find_pane(const struct rml_window *w,
                                                           int64_t index)
{
    uint32_t at = w->by_index[(uint64_t)index & (RML_WINDOW_PANES_MAX - 1)];
    return at != RML_WINDOW_NO_PANE && w->panes[at].index == index ? &w->panes[at] : NULL;
}

/* The same, opened if it is not. NULL when another pane, too far away, holds the place. */
struct rml_window_pane *rml_window_reach_pane(struct rml_window *w, int64_t index);

/* Give back open[at] with all its rows. */
void rml_window_free_pane(struct rml_window *w, uint32_t at);

/* Rows */

/* The row of a slot in the pane of this number, or NULL. */
static inline const struct rml_pane_row *rml_window_find_row(const struct rml_window *w,
                                                             int64_t index, uint32_t slot)
{
    const struct rml_window_pane *pane = rml_window_find_pane(w, index);
    return pane != NULL ? rml_rows_find(&pane->rows, w->env.pages, w->row_shape, slot) : NULL;
}

/* The row of a slot in a pane, to be changed, started if it is new; NULL when there is no room for it. */
struct rml_pane_row *rml_window_reach_row(struct rml_window *w, struct rml_window_pane *pane,
                                          uint32_t slot);

/* What a started row holds is given back. */
void rml_window_release_row(struct rml_window *w, const struct rml_pane_row *row, uint32_t slot);

#endif
