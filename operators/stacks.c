#include "operators/stacks.h"

#include <errno.h>
#include <stdlib.h>

#include "runtime/base/check.h"
#include "runtime/state/roots.h"
#include "runtime/time/time.h"

#define GROUP     16u  // slots that move their splits together: their rows lie side by side
#define COUNT_MIN 8u   // with no more windows than these it is as good to merge each anew
#define KEEP_MAX  16u  // with sketches: a suffix for each so many-th window at least

struct merged {
    uint64_t records;
    unsigned char state[];
};

uint32_t rml_stacks_keep(const struct rml_aggregator *aggregator, uint32_t count)
{
    for (uint32_t i = 0; i < aggregator->fold_count; i++) {
        if (aggregator->folds[i].needs == RML_FOLD_KEPT)
            return 0;
    }
    if (count <= COUNT_MIN || aggregator->sketches == NULL)
        return count > COUNT_MIN;
    // The root of their number: as many suffixes as panes to be merged one by one.
    uint32_t keep = 1;
    while (keep < KEEP_MAX && keep * keep < count)
        keep++;
    return keep;
}

bool rml_stacks_have_room(const struct rml_aggregator *aggregator, const struct rml_pages *pages)
{
    return pages->limit - pages->in_use > pages->limit / 4
           && rml_aggregator_has_room(aggregator, 1);
}

int rml_stacks_open(struct rml_stacks *stacks, const struct rml_aggregator *aggregator,
                    struct rml_pages *pages, struct rml_stacks_panes panes, uint32_t size,
                    uint32_t step)
{
    uint32_t count = (size + step - 1) / step, keep = rml_stacks_keep(aggregator, count);
    RML_CHECK(keep > 0);
    *stacks = (struct rml_stacks){
        .aggregator = aggregator,
        .pages = pages,
        .panes = panes,
        .shape = rml_rows_shape((uint32_t)sizeof(struct merged) + aggregator->state_bytes),
        .size = size,
        .step = step,
        .count = count,
        .keep = keep,
        .ring = count / keep + 2,
        .retry = INT64_MIN,
    };
    stacks->suffix = calloc(stacks->ring, sizeof *stacks->suffix);
    return stacks->suffix != NULL ? 0 : -ENOMEM;
}

void rml_stacks_close(struct rml_stacks *stacks)
{
    free(stacks->suffix);
    *stacks = (struct rml_stacks){0};
}

/* Windows, and where their keys' splits are */

static int64_t first_of(const struct rml_stacks *stacks, int64_t window)
{
    return window * stacks->step + stacks->phase;
}

static int64_t last_of(const struct rml_stacks *stacks, int64_t window)
{
    return first_of(stacks, window) + stacks->size - 1;
}

// The last window that has a suffix, of those that begin up to a pane.
static int64_t kept_up_to(const struct rml_stacks *stacks, int64_t pane)
{
    int64_t window = rml_time_floor_div(pane - stacks->phase, stacks->step);
    return rml_time_floor_div(window, stacks->keep) * stacks->keep;
}

static void set_window(struct rml_stacks *stacks, int64_t window)
{
    stacks->window = window;
    stacks->kept = -rml_time_floor_div(-window, stacks->keep) * stacks->keep;
    stacks->turn = (uint32_t)(window - rml_time_floor_div(window, stacks->count) * stacks->count);
}

static struct rml_rows *suffix_of(const struct rml_stacks *stacks, int64_t window)
{
    int64_t number = window / stacks->keep;
    return &stacks->suffix[number - rml_time_floor_div(number, stacks->ring) * stacks->ring];
}

void rml_stacks_roots(struct rml_stacks *stacks, struct rml_roots *roots)
{
    rml_roots_same(roots, stacks->count);
    rml_roots_same(roots, stacks->ring);
    RML_ROOTS_WALK(roots, stacks->good);
    RML_ROOTS_WALK(roots, stacks->phase);
    RML_ROOTS_WALK(roots, stacks->begun);
    RML_ROOTS_WALK(roots, stacks->window);
    RML_ROOTS_WALK(roots, stacks->retry);
    RML_ROOTS_WALK(roots, stacks->slots);
    rml_roots_walk(roots, stacks->suffix, stacks->ring * sizeof *stacks->suffix);
    RML_ROOTS_WALK(roots, stacks->back);
    if (rml_roots_have(roots))
        set_window(stacks, stacks->window);
}

// How many windows ago it was a slot's turn.
static uint32_t since_turn(const struct rml_stacks *stacks, uint32_t slot)
{
    return (slot / GROUP + stacks->turn) % stacks->count;
}

static int64_t split_of(const struct rml_stacks *stacks, uint32_t slot)
{
    int64_t turn = stacks->window - since_turn(stacks, slot);
    return last_of(stacks, turn > stacks->begun ? turn : stacks->begun);
}

/* Merged rows */

static const struct merged *find(const struct rml_stacks *stacks, const struct rml_rows *rows,
                                 uint32_t slot)
{
    const struct merged *m = rml_rows_find(rows, stacks->pages, stacks->shape, slot);
    return m != NULL && m->records > 0 ? m : NULL;
}

static void void_row(struct rml_stacks *stacks, const struct rml_rows *rows, uint32_t slot)
{
    if (find(stacks, rows, slot) == NULL)
        return;
    struct merged *m = rml_rows_change(rows, stacks->pages, stacks->shape, slot);
    rml_aggregator_release(stacks->aggregator, m->state);
    m->records = 0;
}

static void clear_rows(struct rml_stacks *stacks, struct rml_rows *rows)
{
    for (uint32_t slot = 0; stacks->aggregator->sketches != NULL && slot < stacks->slots; slot++) {
        const struct merged *m = find(stacks, rows, slot);
        if (m != NULL)
            rml_aggregator_release(stacks->aggregator, m->state);
    }
    rml_rows_clear(rows, stacks->pages);
}

static void clear(struct rml_stacks *stacks)
{
    for (uint32_t i = 0; i < stacks->ring; i++)
        clear_rows(stacks, &stacks->suffix[i]);
    clear_rows(stacks, &stacks->back);
    stacks->good = false;
}

void rml_stacks_clear(struct rml_stacks *stacks)
{
    if (stacks->good)
        clear(stacks);
}

// There was no room, and trying again has its price too.
static void give_up(struct rml_stacks *stacks)
{
    clear(stacks);
    stacks->retry = stacks->window + stacks->count;
}

// Merge a state into the row of a slot. False: there is no room.
static bool add(struct rml_stacks *stacks, struct rml_rows *rows, uint32_t slot, const void *state,
                uint64_t records)
{
    bool grows = stacks->aggregator->sketches != NULL
                 || rml_rows_leaf(rows, stacks->pages, stacks->shape, slot) == RML_NO_PAGE;
    if (grows && !rml_stacks_have_room(stacks->aggregator, stacks->pages))
        return false;
    struct merged *m = rml_rows_reach(rows, stacks->pages, stacks->shape, slot);
    if (m == NULL)
        return false;
    if (m->records == 0)
        rml_aggregator_reset(stacks->aggregator, m->state);
    rml_aggregator_merge(stacks->aggregator, m->state, state);
    m->records += records;
    return true;
}

static bool add_panes(struct rml_stacks *stacks, struct rml_rows *rows, uint32_t slot, int64_t from,
                      int64_t to)
{
    for (int64_t pane = from; pane <= to; pane++) {
        uint64_t records;
        const void *state = stacks->panes.state(stacks->panes.context, pane, slot, &records);
        if (state != NULL && !add(stacks, rows, slot, state, records))
            return false;
    }
    return true;
}

// Merge one suffix of a slot anew, from its own panes and the suffix behind it.
static bool merge_suffix(struct rml_stacks *stacks, int64_t window, uint32_t slot, int64_t split)
{
    struct rml_rows *rows = suffix_of(stacks, window);
    int64_t next = first_of(stacks, window + stacks->keep);
    void_row(stacks, rows, slot);
    if (!add_panes(stacks, rows, slot, first_of(stacks, window), next <= split ? next - 1 : split))
        return false;
    if (next > split)
        return true;
    const struct merged *behind = find(stacks, suffix_of(stacks, window + stacks->keep), slot);
    return behind == NULL || add(stacks, rows, slot, behind->state, behind->records);
}

// Of slots with one split, all that is to be had from panes up to `upto`: from the back to the front.
static bool merge_suffixes(struct rml_stacks *stacks, uint32_t from, uint32_t to, int64_t upto)
{
    int64_t split = split_of(stacks, from);
    for (int64_t w = kept_up_to(stacks, upto); w >= stacks->window; w -= stacks->keep)
        for (uint32_t slot = from; slot < to; slot++)
            if (!merge_suffix(stacks, w, slot, split))
                return false;
    return true;
}

// Merge what has come from pane `first` on.
static bool add_behind(struct rml_stacks *stacks, uint32_t from, uint32_t to, int64_t first)
{
    int64_t last = last_of(stacks, stacks->window);
    for (uint32_t slot = from; slot < to; slot++)
        if (!add_panes(stacks, &stacks->back, slot, first, last))
            return false;
    return true;
}

// Of slots whose split has moved.
static bool merge_group(struct rml_stacks *stacks, uint32_t from, uint32_t to)
{
    int64_t split = split_of(stacks, from);
    for (uint32_t slot = from; slot < to; slot++)
        void_row(stacks, &stacks->back, slot);
    return merge_suffixes(stacks, from, to, split) && add_behind(stacks, from, to, split + 1);
}

static uint32_t group_end(const struct rml_stacks *stacks, uint32_t from)
{
    return stacks->slots - from < GROUP ? stacks->slots : from + GROUP;
}

/* Moving on */

static bool begin(struct rml_stacks *stacks, int64_t window, int64_t first)
{
    stacks->phase = first - window * stacks->step;
    stacks->begun = window;
    set_window(stacks, window);
    for (uint32_t from = 0; from < stacks->slots; from += GROUP)
        if (!merge_group(stacks, from, group_end(stacks, from)))
            return false;
    return true;
}

static bool go_on(struct rml_stacks *stacks, int64_t window)
{
    int64_t passed = window - stacks->window, covered = last_of(stacks, stacks->window);
    for (int64_t w = stacks->kept; w < window; w += stacks->keep)
        clear_rows(stacks, suffix_of(stacks, w));
    set_window(stacks, window);
    for (uint32_t from = 0, to; from < stacks->slots; from = to) {
        to = group_end(stacks, from);
        bool has_moved = since_turn(stacks, from) < passed;
        if (!(has_moved ? merge_group(stacks, from, to)
                        : add_behind(stacks, from, to, covered + 1)))
            return false;
    }
    return true;
}

bool rml_stacks_cover(struct rml_stacks *stacks, int64_t first, uint32_t slots_end)
{
    int64_t window = rml_time_floor_div(first, stacks->step);
    bool goes_on = stacks->good && window - stacks->window < stacks->count;
    stacks->slots = slots_end;
    if (!goes_on && stacks->good)
        clear(stacks);
    if (!goes_on && window < stacks->retry)
        return false;
    stacks->good = goes_on ? go_on(stacks, window) : begin(stacks, window, first);
    if (!stacks->good)
        give_up(stacks);
    return stacks->good;
}

// What is gathered for one result.
struct gathered {
    const struct rml_aggregator *aggregator;
    void *state;
    uint64_t records;
};

static void gather(struct gathered *to, const void *state, uint64_t records)
{
    if (to->records == 0)
        rml_aggregator_gather(to->aggregator, to->state);
    rml_aggregator_merge(to->aggregator, to->state, state);
    to->records += records;
}

uint64_t rml_stacks_result(const struct rml_stacks *stacks, uint32_t slot, void *state)
{
    struct gathered result = {stacks->aggregator, state, 0};
    int64_t split = split_of(stacks, slot), kept = first_of(stacks, stacks->kept);
    bool has_suffix = kept <= split;
    int64_t to = has_suffix ? kept - 1 : split;
    for (int64_t pane = first_of(stacks, stacks->window); pane <= to; pane++) {
        uint64_t records;
        const void *own = stacks->panes.state(stacks->panes.context, pane, slot, &records);
        if (own != NULL)
            gather(&result, own, records);
    }
    const struct merged *front =
        has_suffix ? find(stacks, suffix_of(stacks, stacks->kept), slot) : NULL;
    const struct merged *back = find(stacks, &stacks->back, slot);
    if (front != NULL)
        gather(&result, front->state, front->records);
    if (back != NULL)
        gather(&result, back->state, back->records);
    return result.records;
}

void rml_stacks_change(struct rml_stacks *stacks, int64_t pane, uint32_t slot)
{
    int64_t last = last_of(stacks, stacks->window);
    if (!stacks->good || pane < first_of(stacks, stacks->window) || pane > last)
        return;
    int64_t split = split_of(stacks, slot);
    bool done;
    if (pane > split) {
        void_row(stacks, &stacks->back, slot);
        done = add_panes(stacks, &stacks->back, slot, split + 1, last);
    } else {
        done = merge_suffixes(stacks, slot, slot + 1, pane);
    }
    if (!done)
        give_up(stacks);
}
