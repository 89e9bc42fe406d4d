/*
 * window_fire - results of windows: what a key has in a window's panes, and giving it.
 */
#ifndef RML_OPERATORS_WINDOW_FIRE_H
#define RML_OPERATORS_WINDOW_FIRE_H

#include "operators/window_state.h"

struct rml_window_result {
    uint32_t slot;
    rml_int128 end;
    const void *state;
    uint64_t records;
    uint32_t revision;
    bool is_partial;
    bool evicted;
    int64_t fire;
};

void rml_window_give(struct rml_window *w, const struct rml_window_result *result);

/* The state of `slot` over the window that ends at `end`: in *ret_state until the next call or change.
 * Returns how many records it has. */
uint64_t rml_window_combine(struct rml_window *w, uint32_t slot, rml_int128 end,
                            const void **ret_state);

/* How many results a window has given, besides the one when it fired. */
uint32_t rml_window_more_results(const struct rml_window *w, rml_int128 end, uint32_t slot);

#define RML_EVERY_SLOT RML_NO_SLOT

/*
 * The least end after `after` of a window in which some pane is open, or in which the slot has records;
 * false when there is none.
 */
bool rml_window_next_end(const struct rml_window *w, uint32_t slot, rml_int128 after,
                         rml_int128 *ret_end);

/* What rml_stacks_panes.state asks for; the context is the rml_window. */
const void *rml_window_pane_state(const void *context, int64_t index, uint32_t slot,
                                  uint64_t *ret_records);

/* Show in the stage's counters what is kept. */
void rml_window_show_state(struct rml_window *w);

/* Of the operator: fire every window that ends up to the watermark, and free what nothing can change. */
void rml_window_advance(struct rml_operator *op, int64_t watermark);

#endif
