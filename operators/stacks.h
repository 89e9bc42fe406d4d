/*
 * stacks - results of sliding windows at a cost that does not grow with size / every.
 *
 * Windows that overlap share most of their panes. Two stacks for each key keep what is shared merged: of
 * the panes up to some point, the split, what is merged from the start of each window up to the split;
 * and of those behind it, what is merged so far. A window's result is one merge of the two, whatever is
 * merged, also where nothing can be taken away again (least, greatest, sums of floats). When a window
 * begins behind the split, the split moves to the newest pane, and the panes up to there are merged once
 * from the back to the front.
 *
 *     panes          1  2  3  4  5  6  7  8          windows of 5, every 1
 *     split at 5     1-5                              suffixes, one for each start
 *                       2-5
 *                          3-5  4-5  5
 *                                     6-8             and what has come since
 *     window 4..8  = 4-5 merged with 6-8
 *
 * K. Tangwongsan, M. Hirzel, S. Schneider, K.-L. Wu, "General Incremental Sliding-Window Aggregation",
 * VLDB 2015, where the two stacks are told of with their history.
 *
 * Each key has its turn to move the split at another window, by its slot, so that none has to wait until
 * all of them have: of the windows that cover one moment, each moves an equal part of the splits.
 *
 * Sketches are large once they hold much. With them only some starts have a suffix, and a window that
 * begins between two of them merges the panes up to the next one by one.
 */
#ifndef RML_OPERATORS_STACKS_H
#define RML_OPERATORS_STACKS_H

#include "operators/aggregate.h"
#include "runtime/state/rows.h"

struct rml_roots;

/* Where the panes' own states are: of one pane and slot, with its number of records; NULL: none. */
struct rml_stacks_panes {
    const void *(*state)(const void *context, int64_t pane, uint32_t slot, uint64_t *ret_records);
    const void *context;
};

struct rml_stacks {
    const struct rml_aggregator *aggregator;
    struct rml_pages *pages;
    struct rml_stacks_panes panes;
    struct rml_rows_shape shape;
    uint32_t size;   // panes of a window
    uint32_t step;   // panes from the start of a window to that of the next
    uint32_t count;  // windows that cover one moment
    uint32_t keep;   // each so many-th window has a suffix
    uint32_t ring;   // suffixes

    // Windows are numbered by their starts; window n begins with pane n * step + phase.
    bool good;
    int64_t phase;
    int64_t begun;            // the window at which all splits were moved
    int64_t window;           // the last one covered
    int64_t kept;             // the first from there on that has a suffix
    uint32_t turn;            // its number among `count`
    int64_t retry;            // there was no room: not before this window
    uint32_t slots;           // that have been asked for are below
    struct rml_rows *suffix;  // by window, in a ring: what is merged from its start to the split
    struct rml_rows back;     // what is merged from behind the split
};

/*
 * Each how many-th start is worth a suffix, where so many windows cover one moment. 0: to merge them
 * anew is as good, or there are values that an aggregate keeps one by one, which stay in their panes.
 */
uint32_t rml_stacks_keep(const struct rml_aggregator *aggregator, uint32_t count);

/* Is there room to merge into a state that is kept, and to begin one? A quarter of all pages is left to
 * records: results can be had without this, at their price. */
bool rml_stacks_have_room(const struct rml_aggregator *aggregator, const struct rml_pages *pages);

/* For windows of `size` panes, a start every `step` of them, which are worth it. 0 or -ENOMEM. */
int rml_stacks_open(struct rml_stacks *stacks, const struct rml_aggregator *aggregator,
                    struct rml_pages *pages, struct rml_stacks_panes panes, uint32_t size,
                    uint32_t step);
void rml_stacks_close(struct rml_stacks *stacks);  // pages are left to whoever closes them

/* runtime/state/roots.h */
void rml_stacks_roots(struct rml_stacks *stacks, struct rml_roots *roots);

/*
 * Be ready for the window that begins with pane `first`, behind every one asked for before, and in
 * which nothing will change but by rml_stacks_change. False: there is no room, and nothing is merged.
 */
bool rml_stacks_cover(struct rml_stacks *stacks, int64_t first, uint32_t slots_end);

/* Merge what the covered window has of a slot into `state`, which is begun by this. Returns how many
 * records that is; 0: none, and `state` is void. */
uint64_t rml_stacks_result(const struct rml_stacks *stacks, uint32_t slot, void *state);

/* There is no pane any more: give back what is merged. */
void rml_stacks_clear(struct rml_stacks *stacks);

/* The state of a slot in a pane has changed. */
void rml_stacks_change(struct rml_stacks *stacks, int64_t pane, uint32_t slot);

#endif
