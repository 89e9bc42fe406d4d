/*
 * KEYED WINDOWS
 *
 * State lies pane by pane: a pane has one row for each key that has records in it, at the key's slot.
 *
 *                slot  0    1    2    3 ...
 *     pane 41        [row][   ][row][   ]      a row: how many records, what was corrected, and
 *     pane 42        [row][row][   ][   ]             the words of the aggregates
 *
 * A record touches one row. When the watermark passes a window's end, one sweep over the window's
 * panes gives a result for each key with records there; no key has a timer. A pane goes, and its
 * memory with it, when the last window that contains it can no longer be corrected. Where many
 * windows overlap, what they share is kept merged (operators/stacks.h).
 *
 * A late record is one whose pane lies in a window that has fired. It is taken alone: it is folded
 * into its pane, and every fired window around it that may still be corrected gives a new result.
 * Which revision that is, the row of the window's last pane remembers.
 *
 * With a trigger of so many records a window gives results before it fires. The row of its last pane
 * remembers how many records the last one had. Where windows overlap, a record counts in several, and
 * looking at all of them each time would cost what panes save: so a look says after how many records
 * more of the same key and pane the next one is worth it. A look goes over the panes of the windows around
 * its pane once, and about every look finds a result to give.
 *
 * A key that is evicted gives a last result of each window that could have got another, from what it has
 * in that window's panes, and leaves them all.
 *
 * The global window has one pane, and fires when time ends.
 */
#include "operators/window.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "operators/aggregate.h"
#include "operators/keyed.h"
#include "operators/panes.h"
#include "operators/stacks.h"
#include "operators/ticks.h"
#include "operators/window_row.h"
#include "runtime/base/check.h"
#include "runtime/base/err.h"
#include "runtime/partition/operator.h"
#include "runtime/state/roots.h"

#define PANES_LIMIT 8192u  // open at once; a power of two
#define NO_PANE     UINT32_MAX
#define STACKS_ENDS (INT64_MAX / 2)  // pane numbers this far out are left to the plain way

struct row {
    uint64_t records;
    uint32_t more;  // results of the window whose last pane this is, besides the one when it fired
    uint32_t is_started;  // it uses its key, and has a state
    unsigned char state[];
};

// Behind the state, in stages with a trigger.
struct early {
    uint64_t shown;   // records of the window whose last pane this is, in its last early result
    uint64_t ticked;  // records of the row when the wall clock last triggered results
};

// Of a slot: that `left` records more of this pane are needed for an early result, unless records of
// others come between. What another key left behind in the slot is never too much for a new one.
struct look {
    int64_t pane;
    uint64_t left;
};

struct pane {
    int64_t index;
    uint32_t next_free;
    uint32_t is_changed;  // since the wall clock last triggered results
    struct rml_rows rows;
};

struct window {
    struct rml_operator_env env;
    const struct rml_plan_stage *stage;
    struct rml_plan_window spec;
    struct rml_aggregator aggregator;
    struct rml_keyed keyed;
    struct rml_rows_shape row_shape;
    int64_t fired;  // every window that ends up to here has fired

    struct pane *panes;
    uint32_t free_pane, fresh_pane;
    uint32_t *by_index;          // PANES_LIMIT places, by the low bits of the pane's index
    uint32_t open[PANES_LIMIT];  // open panes in the order of their indices
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

static struct window *window_of(struct rml_operator *op)
{
    return (void *)op;
}

/* Panes */

static struct pane *find_pane(const struct window *w, int64_t index)
{
    uint32_t at = w->by_index[(uint64_t)index & (PANES_LIMIT - 1)];
    return at != NO_PANE && w->panes[at].index == index ? &w->panes[at] : NULL;
}

// NULL when another pane, too far away, holds the place.
static struct pane *reach_pane(struct window *w, int64_t index)
{
    struct pane *pane = find_pane(w, index);
    uint32_t *place = &w->by_index[(uint64_t)index & (PANES_LIMIT - 1)];
    if (pane != NULL || *place != NO_PANE)
        return pane;
    *place = w->free_pane != NO_PANE ? w->free_pane : w->fresh_pane++;
    pane = &w->panes[*place];
    if (*place == w->free_pane)
        w->free_pane = pane->next_free;
    pane->index = index;

    uint32_t at = w->open_count++;
    for (; at > 0 && w->panes[w->open[at - 1]].index > index; at--)
        w->open[at] = w->open[at - 1];
    w->open[at] = *place;
    return pane;
}

// What a started row holds is given back.
static void release_row(struct window *w, const struct row *row, uint32_t slot)
{
    rml_aggregator_release(&w->aggregator, row->state);
    rml_keyed_release(&w->keyed, slot);
}

static void free_pane(struct window *w, uint32_t at)
{
    struct pane *pane = &w->panes[w->open[at]];
    uint32_t leaf_rows = 1u << w->row_shape.leaf_log;
    for (uint32_t first = 0; first < rml_keyed_end(&w->keyed); first += leaf_rows) {
        uint32_t leaf = rml_rows_leaf(&pane->rows, w->env.pages, w->row_shape, first);
        for (uint32_t i = 0; leaf != RML_NO_PAGE && i < leaf_rows; i++) {
            const struct row *row = rml_rows_in_leaf(w->env.pages, w->row_shape, leaf, first + i);
            if (row->is_started)
                release_row(w, row, first + i);
        }
    }
    rml_rows_clear(&pane->rows, w->env.pages);
    w->by_index[(uint64_t)pane->index & (PANES_LIMIT - 1)] = NO_PANE;
    pane->next_free = w->free_pane;
    w->free_pane = w->open[at];
    w->open_count--;
    memmove(&w->open[at], &w->open[at + 1], (w->open_count - at) * sizeof w->open[0]);
}

/* Rows */

// The row of a slot in a pane, started if it is new; NULL when there is no room for it.
static struct row *reach_row(struct window *w, struct pane *pane, uint32_t slot)
{
    struct row *row = rml_rows_reach(&pane->rows, w->env.pages, w->row_shape, slot);
    if (row == NULL || row->is_started)
        return row;
    row->is_started = true;
    rml_aggregator_reset(&w->aggregator, row->state);
    rml_keyed_use(&w->keyed, slot);
    return row;
}

static const struct row *find_row(const struct window *w, int64_t index, uint32_t slot)
{
    const struct pane *pane = find_pane(w, index);
    return pane != NULL ? rml_rows_find(&pane->rows, w->env.pages, w->row_shape, slot) : NULL;
}

static bool has_records(const struct window *w, int64_t index, uint32_t slot)
{
    const struct row *row = find_row(w, index, slot);
    return row != NULL && row->records > 0;
}

/* Results */

struct result {
    uint32_t slot;
    rml_int128 end;
    const void *state;
    uint64_t records;
    uint32_t revision;
    bool is_partial;
    bool evicted;
    int64_t fire;
};

static void emit(struct window *w, const struct result *result)
{
    const struct rml_window_row row = {
        .start = rml_pane_start(&w->spec, result->end),
        .end = rml_pane_clamp(result->end),
        .length_ns = w->spec.size_ns,
        .fire = result->fire,
        .slot = result->slot,
        .revision = result->revision,
        .is_partial = result->is_partial,
        .records = result->records,
        .evicted = result->evicted,
        .state = result->state,
    };
    rml_window_row_emit(&w->env, &w->keyed, &w->aggregator, &row);
}

// The state of `slot` over the window that ends at `end`. Returns how many records it has.
static uint64_t combine(struct window *w, uint32_t slot, rml_int128 end, const void **ret_state)
{
    // a window may begin before all times, or end after them
    int64_t first = rml_pane_clamp(rml_pane_first(&w->spec, end));
    int64_t count = rml_pane_clamp(rml_pane_last(&w->spec, end)) - first + 1;
    uint64_t records = 0;
    *ret_state = w->combined;
    for (int64_t i = 0; i < count; i++) {
        const struct row *row = find_row(w, first + i, slot);
        if (row == NULL || row->records == 0)
            continue;
        if (!w->overlaps) {
            *ret_state = row->state;
            return row->records;
        }
        if (records == 0)
            rml_aggregator_gather(&w->aggregator, w->combined);
        rml_aggregator_merge(&w->aggregator, w->combined, row->state);
        records += row->records;
    }
    return records;
}

// How many results a window has given, besides the one when it fired.
static uint32_t more_results(const struct window *w, rml_int128 end, uint32_t slot)
{
    rml_int128 last = rml_pane_last(&w->spec, end);
    const struct row *row = last <= INT64_MAX ? find_row(w, (int64_t)last, slot) : NULL;
    return row != NULL ? row->more : 0;
}

// Give the result of every key of the leaf that begins at slot `first`.
static uint64_t fire_leaf(struct window *w, rml_int128 end, uint32_t first,
                          const struct pane *const *panes, uint32_t pane_count)
{
    uint32_t leaf_rows = 1u << w->row_shape.leaf_log;
    uint64_t fired = 0;
    for (uint32_t slot = first; slot < first + leaf_rows && slot < rml_keyed_end(&w->keyed);
         slot++) {
        struct result result = {
            .slot = slot, .end = end, .fire = rml_pane_clamp(end), .state = w->combined};
        for (uint32_t i = 0; i < pane_count; i++) {
            const struct row *row =
                rml_rows_find(&panes[i]->rows, w->env.pages, w->row_shape, slot);
            if (row == NULL || row->records == 0)
                continue;
            if (pane_count == 1) {
                result.state = row->state;
            } else {
                if (result.records == 0)
                    rml_aggregator_gather(&w->aggregator, w->combined);
                rml_aggregator_merge(&w->aggregator, w->combined, row->state);
            }
            result.records += row->records;
        }
        if (result.records > 0) {
            result.revision = w->is_early ? more_results(w, end, slot) : 0;
            emit(w, &result);
            fired++;
        }
    }
    return fired;
}

static const void *pane_state(const void *context, int64_t index, uint32_t slot,
                              uint64_t *ret_records)
{
    const struct window *w = context;
    const struct row *row = find_row(w, index, slot);
    if (row == NULL || row->records == 0)
        return NULL;
    *ret_records = row->records;
    return row->state;
}

// Fire from what is kept merged. False: that is not to be had for this window.
static bool fire_stacked(struct window *w, rml_int128 end)
{
    rml_int128 first = rml_pane_first(&w->spec, end), last = rml_pane_last(&w->spec, end);
    uint32_t slots = rml_keyed_end(&w->keyed);
    if (!w->is_stacked || first < -STACKS_ENDS || last > STACKS_ENDS
        || !rml_stacks_cover(&w->stacks, (int64_t)first, slots))
        return false;
    uint64_t fired = 0;
    for (uint32_t slot = 0; slot < slots; slot++) {
        struct result result = {
            .slot = slot, .end = end, .fire = rml_pane_clamp(end), .state = w->combined};
        result.records = rml_stacks_result(&w->stacks, slot, w->combined);
        if (result.records > 0) {
            result.revision = w->is_early ? more_results(w, end, slot) : 0;
            emit(w, &result);
            fired++;
        }
    }
    rml_count(&w->env.counts[RML_STAGE_windows_fired], fired);
    return true;
}

static void fire(struct window *w, rml_int128 end)
{
    if (fire_stacked(w, end))
        return;
    const struct pane *panes[RML_PANES_MAX];
    uint32_t pane_count = 0;
    rml_int128 first = rml_pane_first(&w->spec, end), last = rml_pane_last(&w->spec, end);
    for (uint32_t i = 0; i < w->open_count; i++) {
        const struct pane *pane = &w->panes[w->open[i]];
        if (pane->index >= first && pane->index <= last)
            panes[pane_count++] = pane;
    }
    uint64_t fired = 0;
    for (uint32_t slot = 0; slot < rml_keyed_end(&w->keyed); slot += 1u << w->row_shape.leaf_log)
        fired += fire_leaf(w, end, slot, panes, pane_count);
    rml_count(&w->env.counts[RML_STAGE_windows_fired], fired);
}

#define EVERY_SLOT RML_NO_SLOT

// The least end after `after` of a window in which some pane is open, or in which the slot has records;
// false when there is none.
static bool next_end(const struct window *w, uint32_t slot, rml_int128 after, rml_int128 *ret_end)
{
    rml_int128 least = RML_PANE_NO_END, grid = rml_pane_end_after(&w->spec, after);
    for (uint32_t i = 0; i < w->open_count; i++) {
        int64_t index = w->panes[w->open[i]].index;
        if (slot != EVERY_SLOT && !has_records(w, index, slot))
            continue;
        rml_int128 end = rml_pane_first_end(&w->spec, index);
        end = end > grid ? end : grid;
        if (end <= rml_pane_last_end(&w->spec, index) && end < least)
            least = end;
    }
    *ret_end = least;
    return least != RML_PANE_NO_END;
}

static void show_state(struct window *w)
{
    rml_count_set(&w->env.counts[RML_STAGE_keys], w->keyed.has_key ? w->keyed.keys.count : 0);
    rml_count_set(&w->env.counts[RML_STAGE_panes], w->open_count);
    rml_count_set(&w->env.counts[RML_STAGE_state_bytes],
                  (uint64_t)w->env.pages->in_use * RML_PAGE_BYTES);
}

static void window_advance(struct rml_operator *op, int64_t watermark)
{
    struct window *w = window_of(op);
    rml_int128 end, fired = w->fired;
    while (next_end(w, EVERY_SLOT, fired, &end) && end <= rml_pane_reach(watermark)) {
        fire(w, end);
        fired = end;
    }
    w->fired = watermark;
    for (uint32_t i = w->open_count; i-- > 0;) {
        rml_int128 kept = rml_pane_last_end(&w->spec, w->panes[w->open[i]].index);
        if (kept + w->spec.late_ns <= watermark || watermark == RML_TIME_END)
            free_pane(w, i);
    }
    if (w->open_count == 0) {
        rml_rows_clear(&w->looks, w->env.pages);
        rml_stacks_clear(&w->stacks);
    }
    show_state(w);
}

static int64_t window_deadline(const struct rml_operator *op, int64_t watermark)
{
    const struct window *w = (const void *)op;
    if (watermark == RML_TIME_NONE)
        return RML_TIME_NONE + 1;
    if (watermark == RML_TIME_END)
        return RML_TIME_END;
    rml_int128 fires = rml_pane_end_after(&w->spec, watermark);
    rml_int128 frees =
        rml_pane_end_after(&w->spec, rml_time_sub(watermark, w->spec.late_ns)) + w->spec.late_ns;
    return rml_pane_clamp(fires < frees ? fires : frees);
}

static int64_t window_settled(const struct rml_operator *op, int64_t watermark)
{
    const struct window *w = (const void *)op;
    // Only windows that end later give rows, or there are others; END and NONE are no times.
    if ((w->spec.late_ns == 0 && !w->is_early && !w->keyed.evicts) || watermark == RML_TIME_NONE
        || watermark == RML_TIME_END)
        return watermark;
    return rml_pane_clamp(rml_pane_end_up_to(&w->spec, watermark));
}

/* Early results */

// To what moment results belong that are given between the ends of windows, at this watermark ...
static int64_t fire_between(const struct window *w, int64_t watermark)
{
    return watermark == RML_TIME_NONE ? RML_TIME_NONE
                                      : rml_pane_clamp(rml_pane_end_up_to(&w->spec, watermark));
}

// ... or by record `at` of a run.
static int64_t fire_at_record(const struct window *w, const struct rml_run *run, uint16_t at)
{
    // no end of a window says where in time a result of the global one belongs
    return rml_pane_is_all(&w->spec) ? run->clock[at] : fire_between(w, run->watermark);
}

static size_t early_offset(const struct window *w)
{
    return offsetof(struct row, state) + w->aggregator.state_bytes;
}

static const struct early *early_in(const struct window *w, const struct row *row)
{
    return (const void *)((const unsigned char *)row + early_offset(w));
}

static struct early *early_to_change(const struct window *w, struct row *row)
{
    return (void *)((unsigned char *)row + early_offset(w));
}

// How many records of a slot lie in the panes from..to, some of which may lie outside of all times.
static uint64_t records_in(const struct window *w, rml_int128 from, rml_int128 to, uint32_t slot)
{
    uint64_t records = 0;
    for (rml_int128 p = from; p <= to; p++) {
        const struct row *row = rml_pane_clamp(p) == p ? find_row(w, (int64_t)p, slot) : NULL;
        records += row != NULL ? row->records : 0;
    }
    return records;
}

/*
 * Give an early result of the window that ends at `end` and has so many records of the slot, if `least` of
 * them have come since the last one. Returns how many more are needed for the next. There is none where
 * it cannot be remembered: no room for a row, or a last pane outside of all times.
 */
static uint64_t show(struct window *w, rml_int128 end, uint32_t slot, uint64_t records,
                     uint64_t least, int64_t fire)
{
    rml_int128 last = rml_pane_last(&w->spec, end);
    if (last > INT64_MAX)
        return least;
    const struct row *old = find_row(w, (int64_t)last, slot);
    uint64_t since = records - (old != NULL ? early_in(w, old)->shown : 0);
    if (since < least)
        return least - since;
    struct pane *pane = reach_pane(w, (int64_t)last);
    struct row *row = pane != NULL ? reach_row(w, pane, slot) : NULL;
    if (row == NULL)
        return least;
    early_to_change(w, row)->shown = records;
    struct result result = {
        .slot = slot, .end = end, .revision = row->more++, .is_partial = true, .fire = fire};
    result.records = combine(w, slot, end, &result.state);
    emit(w, &result);
    return least;
}

// The same of all open windows around a pane. Returns for how many records of it none needs a look.
static uint64_t show_around(struct window *w, int64_t index, uint32_t slot, uint64_t least,
                            int64_t watermark, int64_t fire_at)
{
    rml_int128 end = rml_pane_first_end(&w->spec, index);
    rml_int128 last_end = rml_pane_last_end(&w->spec, index);
    rml_int128 open = rml_pane_end_after(&w->spec, watermark);
    if (watermark != RML_TIME_NONE && open > end)
        end = open;
    uint64_t left = least, records = 0;
    for (bool begun = false; end <= last_end; end += w->spec.every_ns, begun = true) {
        rml_int128 first = rml_pane_first(&w->spec, end), last = rml_pane_last(&w->spec, end);
        if (!begun)
            records = records_in(w, first, last, slot);
        else
            records += records_in(w, last - w->step + 1, last, slot)
                       - records_in(w, first - w->step, first - 1, slot);
        uint64_t more = show(w, end, slot, records, least, fire_at);
        left = more < left ? more : left;
    }
    return left;
}

// Counts a record that was taken: may it have brought an early result?
static bool is_due(struct window *w, int64_t index, const struct row *row, uint32_t slot)
{
    if (!w->overlaps)
        return row->records - early_in(w, row)->shown >= w->spec.trigger.count;
    struct look *look = rml_rows_reach(&w->looks, w->env.pages, w->look_shape, slot);
    if (look == NULL || look->pane != index || look->left <= 1)
        return true;
    look->left--;
    return false;
}

// The record `at` of the run has come to a slot of a pane.
static void show_due(struct window *w, const struct rml_run *run, uint16_t at, int64_t index,
                     uint32_t slot)
{
    int64_t fire_at = fire_at_record(w, run, at);
    uint64_t left = show_around(w, index, slot, w->spec.trigger.count, run->watermark, fire_at);
    struct look *look =
        w->overlaps ? rml_rows_reach(&w->looks, w->env.pages, w->look_shape, slot) : NULL;
    if (look != NULL)
        *look = (struct look){index, left};
}

// Give the results of the windows around a pane that have changed, of all its slots.
static void tick_pane(struct window *w, struct pane *pane, int64_t watermark, int64_t fire_at)
{
    pane->is_changed = false;
    for (uint32_t slot = 0; slot < rml_keyed_end(&w->keyed); slot++) {
        const struct row *row = rml_rows_find(&pane->rows, w->env.pages, w->row_shape, slot);
        if (row == NULL || !row->is_started || row->records == early_in(w, row)->ticked)
            continue;
        struct row *changed = rml_change(w->env.pages, row, w->row_shape.stride);
        early_to_change(w, changed)->ticked = row->records;
        show_around(w, pane->index, slot, 1, watermark, fire_at);
    }
}

static void window_tick(struct rml_operator *op, int64_t now, int64_t watermark)
{
    struct window *w = window_of(op);
    if (!rml_ticks_pass(&w->ticks, now))
        return;
    int64_t fire_at = fire_between(w, watermark);
    if (rml_pane_is_all(&w->spec))
        fire_at = watermark > w->clock ? watermark : w->clock;
    // panes that are opened meanwhile lie behind, and have nothing in them
    for (uint32_t i = 0; i < w->open_count; i++) {
        struct pane *pane = &w->panes[w->open[i]];
        if (pane->is_changed)
            tick_pane(w, pane, watermark, fire_at);
    }
}

/* Eviction */

// Give what the key has of windows that have not fired or can be corrected, and forget it.
static void evict(struct window *w, uint32_t slot, int64_t watermark, int64_t fire_at)
{
    struct result result = {.slot = slot, .evicted = true, .fire = fire_at};
    uint64_t open = 0, given = 0;
    for (rml_int128 after = rml_time_sub(watermark, w->spec.late_ns);
         next_end(w, slot, after, &result.end); after = result.end) {
        result.revision = more_results(w, result.end, slot) + (result.end <= watermark);
        result.records = combine(w, slot, result.end, &result.state);
        emit(w, &result);
        open += result.end > watermark;
        given++;
    }
    rml_count(&w->env.counts[RML_STAGE_windows_fired], open);
    rml_count(&w->env.counts[RML_STAGE_windows_evicted], given);
    rml_count(&w->env.counts[RML_STAGE_evicted], 1);
    for (uint32_t i = 0; i < w->open_count; i++) {
        const struct pane *pane = &w->panes[w->open[i]];
        const struct row *row = rml_rows_find(&pane->rows, w->env.pages, w->row_shape, slot);
        if (row == NULL || !row->is_started)
            continue;
        release_row(w, row, slot);
        memset(rml_change(w->env.pages, row, w->row_shape.stride), 0, w->row_shape.stride);
        if (w->is_stacked)
            rml_stacks_change(&w->stacks, pane->index, slot);
    }
}

// Slots of rows as of rml_keyed_reach; for a row that stands alone room is made, if there is none.
static uint32_t reach_slots(struct window *w, const struct rml_batch *batch,
                            const struct rml_run *run, const uint16_t *rows, uint32_t count,
                            uint32_t *slots)
{
    uint32_t reached = rml_keyed_reach(&w->keyed, batch, run, rows, count, slots);
    if (reached > 0 || count > 1 || !rml_keyed_must_evict(&w->keyed))
        return reached;
    evict(w, rml_keyed_oldest(&w->keyed), run->watermark, fire_at_record(w, run, rows[0]));
    return rml_keyed_reach(&w->keyed, batch, run, rows, count, slots);
}

/* Records */

/*
 * Where the states of slots are in a pane, and one record more counted for each: up to the first that
 * there is no room for. Returns how many. Rows are looked at where they lie or would lie, so that they
 * are all on their way before the first is needed; one that was not started, or is not there, shows it.
 * A record that may bring an early result is the last one.
 */
static uint32_t find_states(struct window *w, struct pane *pane, const uint32_t *slots,
                            uint32_t count, void **states, bool *ret_due)
{
    const struct row *seen[RML_KEYS_BLOCK];
    for (uint32_t i = 0; i < count; i++) {
        seen[i] = rml_rows_look(&pane->rows, w->env.pages, w->row_shape, slots[i]);
        __builtin_prefetch(seen[i], 1);
    }
    for (uint32_t i = 0; i < count; i++) {
        struct row *row = seen[i]->is_started
                              ? rml_change(w->env.pages, seen[i], w->row_shape.stride)
                              : reach_row(w, pane, slots[i]);
        if (row == NULL)
            return i;
        row->records++;
        states[i] = row->state;
        if (w->spec.trigger.count > 0 && is_due(w, pane->index, row, slots[i])) {
            *ret_due = true;
            return i + 1;
        }
    }
    return count;
}

static void fold(struct window *w, const struct rml_batch *batch, void *const *states,
                 const uint16_t *rows, uint32_t count)
{
    uint64_t skipped = rml_aggregator_fold(&w->aggregator, batch->columns, states, rows, count);
    rml_count(&w->env.counts[RML_STAGE_aggregated], count);
    if (skipped > 0)
        rml_count(&w->env.counts[RML_STAGE_null_skipped], skipped);
}

// Take rows of one pane, at most RML_KEYS_BLOCK, up to the first that there is no room for, or with
// *ret_due to one that may have brought an early result. Returns how many.
static uint32_t take_block(struct window *w, const struct rml_batch *batch,
                           const struct rml_run *run, struct pane *pane, const uint16_t *rows,
                           uint32_t count, bool *ret_due)
{
    uint32_t slots[RML_KEYS_BLOCK];
    void *states[RML_KEYS_BLOCK];
    uint32_t reached = reach_slots(w, batch, run, rows, count, slots);
    uint32_t taken = find_states(w, pane, slots, reached, states, ret_due);
    fold(w, batch, states, rows, taken);
    rml_keyed_seen(&w->keyed, slots, taken);
    if (*ret_due)
        show_due(w, run, rows[taken - 1], pane->index, slots[taken - 1]);
    rml_keyed_forget_unused(&w->keyed, slots + taken, count - taken);
    return taken;
}

/*
 * Rows of one pane, none of whose windows has fired. A row that finds no room is looked at once more
 * alone, where it may evict a key, or else is refused; what was prepared for those behind it in the
 * block is done again: while room is short, blocks are short. So they are while many rows bring early
 * results.
 */
static void take_on_time(struct window *w, const struct rml_batch *batch, const struct rml_run *run,
                         int64_t index, const uint16_t *rows, uint32_t count)
{
    struct pane *pane = reach_pane(w, index);
    if (pane == NULL) {
        rml_count(&w->env.counts[RML_STAGE_refused], count);
        return;
    }
    pane->is_changed = true;
    uint32_t most = RML_KEYS_BLOCK;
    for (uint32_t done = 0; done < count;) {
        uint32_t block = count - done < most ? count - done : most;
        if (!rml_aggregator_has_room(&w->aggregator, block))
            block = 1;
        bool has_room = rml_aggregator_has_room(&w->aggregator, block);
        bool due = false;
        uint32_t taken = has_room ? take_block(w, batch, run, pane, rows + done, block, &due) : 0;
        done += taken;
        if (taken == 0 && block == 1) {
            rml_count(&w->env.counts[RML_STAGE_refused], 1);
            done++;
        }
        bool cut = due || taken < block;
        most = cut ? 1 : most < RML_KEYS_BLOCK ? 2 * most : most;
    }
}

// The next revision of the window that ends at `end`, which had a result before.
static uint32_t next_revision(struct window *w, rml_int128 end, uint32_t slot)
{
    struct pane *pane = reach_pane(w, (int64_t)rml_pane_last(&w->spec, end));
    struct row *row = pane != NULL ? reach_row(w, pane, slot) : NULL;
    return row != NULL ? ++row->more : 1;
}

// One record of a window that has fired and may still be corrected.
static void take_correction(struct window *w, const struct rml_batch *batch,
                            const struct rml_run *run, int64_t index, uint16_t at)
{
    if (!rml_aggregator_has_room(&w->aggregator, 1)) {
        rml_count(&w->env.counts[RML_STAGE_refused], 1);
        return;
    }
    uint32_t slot = RML_NO_SLOT;
    struct pane *pane = reach_pane(w, index);
    bool reached = pane != NULL && reach_slots(w, batch, run, &at, 1, &slot) == 1;
    struct row *row = reached ? reach_row(w, pane, slot) : NULL;
    if (row == NULL) {
        rml_count(&w->env.counts[RML_STAGE_refused], 1);
        rml_keyed_forget_unused(&w->keyed, &slot, 1);
        return;
    }
    row->records++;
    pane->is_changed = true;
    void *state = row->state;
    fold(w, batch, &state, &at, 1);
    rml_keyed_seen(&w->keyed, &slot, 1);
    if (w->is_stacked)
        rml_stacks_change(&w->stacks, index, slot);
    rml_count(&w->env.counts[RML_STAGE_corrections], 1);

    rml_int128 first = rml_pane_first_end(&w->spec, index);
    rml_int128 kept = rml_pane_end_after(&w->spec, rml_time_sub(run->watermark, w->spec.late_ns));
    rml_int128 last = rml_pane_last_end(&w->spec, index);
    int64_t fire_at = fire_between(w, run->watermark);
    for (rml_int128 end = first > kept ? first : kept; end <= last && end <= run->watermark;
         end += w->spec.every_ns) {
        struct result result = {.slot = slot, .end = end, .fire = fire_at};
        result.records = combine(w, slot, result.end, &result.state);
        if (result.records > 1)
            result.revision = next_revision(w, result.end, slot);
        emit(w, &result);
    }
    if (w->spec.trigger.count > 0)
        show_due(w, run, at, index, slot);
}

// Panes below `gone` are beyond correction; panes below `fired` lie in a window that has fired.
struct bounds {
    rml_int128 gone, fired;
};

static struct bounds bounds_at(const struct window *w, int64_t watermark)
{
    if (watermark == RML_TIME_NONE)
        return (struct bounds){INT64_MIN, INT64_MIN};
    if (watermark == RML_TIME_END)
        return (struct bounds){RML_PANE_NO_END, RML_PANE_NO_END};
    // A pane is gone when the start of its last window is not after watermark - late - size.
    int64_t kept = rml_time_sub(watermark, w->spec.late_ns);
    return (struct bounds){rml_pane_first(&w->spec, rml_pane_end_after(&w->spec, kept)),
                           rml_pane_last(&w->spec, rml_pane_end_up_to(&w->spec, watermark)) + 1};
}

// Rows in the order they came: stretches of one pane on time together, late ones alone.
static void take_in_order(struct window *w, const struct rml_batch *batch,
                          const struct rml_run *run, const struct bounds *bounds,
                          const uint16_t *rows, uint32_t count)
{
    for (uint32_t i = 0; i < count;) {
        int64_t index = rml_pane_of(&w->spec, run->time[rows[i]]);
        if (index < bounds->gone) {
            w->late[w->late_count++] = rows[i++];
            continue;
        }
        if (index < bounds->fired) {
            take_correction(w, batch, run, index, rows[i++]);
            continue;
        }
        uint32_t from = i++;
        while (i < count && rml_pane_of(&w->spec, run->time[rows[i]]) == index)
            i++;
        take_on_time(w, batch, run, index, rows + from, i - from);
    }
}

struct span {
    int64_t least, greatest;
};

static struct span span_of(const int64_t *times, const uint16_t *rows, uint32_t count)
{
    struct span span = {times[rows[0]], times[rows[0]]};
    if (rml_rows_are_adjacent(rows, count)) {
        times += rows[0];
        for (uint32_t i = 0; i < count; i++) {
            span.least = times[i] < span.least ? times[i] : span.least;
            span.greatest = times[i] > span.greatest ? times[i] : span.greatest;
        }
        return span;
    }
    for (uint32_t i = 0; i < count; i++) {
        int64_t time = times[rows[i]];
        span.least = time < span.least ? time : span.least;
        span.greatest = time > span.greatest ? time : span.greatest;
    }
    return span;
}

static void window_take(struct rml_operator *op, const struct rml_batch *batch,
                        const struct rml_run *run)
{
    struct window *w = window_of(op);
    rml_count(&w->env.counts[RML_STAGE_in], batch->selected);
    uint32_t count;
    const uint16_t *rows = rml_keyed_begin(&w->keyed, &w->env, batch, w->rows, &count);
    if (count == 0)
        return;

    if (rml_pane_is_all(&w->spec) && run->clock[rows[count - 1]] > w->clock)
        w->clock = run->clock[rows[count - 1]];
    struct span span = span_of(run->time, rows, count);
    struct bounds bounds = bounds_at(w, run->watermark);
    int64_t first = rml_pane_of(&w->spec, span.least);
    if (first >= bounds.fired && first == rml_pane_of(&w->spec, span.greatest)) {
        take_on_time(w, batch, run, first, rows, count);
        if (rml_pane_is_all(&w->spec))
            show_state(w);  // time comes to no window's end meanwhile
        return;
    }
    w->late_count = 0;
    take_in_order(w, batch, run, &bounds, rows, count);
    rml_keyed_pass_late(&w->env, batch, run, w->late, w->late_count);
}

/* Checkpoints */

static void window_roots(struct rml_operator *op, struct rml_roots *roots)
{
    struct window *w = window_of(op);
    rml_keyed_roots(&w->keyed, roots);
    rml_aggregator_roots(&w->aggregator, roots);
    RML_ROOTS_WALK(roots, w->fired);
    RML_ROOTS_WALK(roots, w->looks);
    RML_ROOTS_WALK(roots, w->free_pane);
    rml_roots_count(roots, &w->fresh_pane, PANES_LIMIT);
    rml_roots_walk(roots, w->panes, w->fresh_pane * sizeof w->panes[0]);
    rml_roots_count(roots, &w->open_count, PANES_LIMIT);
    rml_roots_walk(roots, w->open, w->open_count * sizeof w->open[0]);
    for (uint32_t i = 0; rml_roots_have(roots) && i < w->open_count; i++)
        w->by_index[(uint64_t)w->panes[w->open[i]].index & (PANES_LIMIT - 1)] = w->open[i];
    RML_ROOTS_WALK(roots, w->ticks.last);
    RML_ROOTS_WALK(roots, w->clock);
    if (w->is_stacked)
        rml_stacks_roots(&w->stacks, roots);
}

/* Setting up */

static void window_close(struct rml_operator *op)
{
    struct window *w = window_of(op);
    rml_keyed_close(&w->keyed);
    free(w->panes);
    free(w->by_index);
    free(w->combined);
    rml_stacks_close(&w->stacks);
    rml_aggregator_close(&w->aggregator);
    free(w);
}

static int reserve(struct window *w)
{
    w->panes = calloc(PANES_LIMIT, sizeof *w->panes);
    w->by_index = malloc(PANES_LIMIT * sizeof *w->by_index);
    w->combined = calloc(1, w->aggregator.state_bytes + sizeof *w->combined);
    if (w->panes == NULL || w->by_index == NULL || w->combined == NULL)
        return -ENOMEM;
    memset(w->by_index, 0xff, PANES_LIMIT * sizeof *w->by_index);
    w->free_pane = NO_PANE;
    return 0;
}

// As many keys as rows can be numbered for, unless that is fewer than there would be room for.
static int limit_keys(struct window *w, uint32_t row_bytes, struct rml_err *err)
{
    uint64_t rows_max = rml_rows_max(w->row_shape);
    if (!w->keyed.has_key || w->stage->keys_max <= rows_max)
        return 0;
    // Within state_limit there is no room for so many rows anyway, unless it is very large.
    if (w->env.plan->state_bytes_max > RML_ROWS_BYTES_MAX)
        return RML_FAIL(err, -EINVAL, "max_keys %u: states of %u bytes allow %llu",
                        w->stage->keys_max, row_bytes, (unsigned long long)rows_max);
    w->keyed.keys.keys_max = (uint32_t)rows_max;
    return 0;
}

static int open_stacks(struct window *w, struct rml_err *err)
{
    uint32_t size = (uint32_t)(w->spec.size_ns / w->spec.pane_ns);
    w->is_stacked = rml_stacks_keep(&w->aggregator, size / w->step) > 0;
    if (!w->is_stacked)
        return 0;
    const struct rml_stacks_panes panes = {.state = pane_state, .context = w};
    int rc = rml_stacks_open(&w->stacks, &w->aggregator, w->env.pages, panes, size, w->step);
    return rc < 0 ? RML_FAIL(err, rc, "no memory for panes") : 0;
}

static int window_open(struct rml_operator **ret_operator, const struct rml_operator_env *env,
                       struct rml_err *err)
{
    struct window *w = calloc(1, sizeof *w);
    if (w == NULL)
        return RML_FAIL(err, -ENOMEM, "no memory");
    w->env = *env;
    w->stage = &env->plan->stages[env->stage];
    w->spec = w->stage->window;
    w->fired = RML_TIME_NONE;
    int rc = rml_aggregator_open(&w->aggregator, w->stage, &env->plan->sources[w->stage->source],
                                 env->pages, err);
    if (rc < 0)
        goto fail;
    rc = reserve(w);
    if (rc < 0) {
        rml_err_set(err, rc, "no memory for panes");
        goto fail;
    }
    uint32_t row_bytes = (uint32_t)sizeof(struct row) + w->aggregator.state_bytes;
    w->is_early = rml_plan_gives_early(&w->spec);
    rml_ticks_init(&w->ticks, w->spec.trigger.every_ns);
    w->clock = RML_TIME_NONE;
    w->step = (uint32_t)(w->spec.every_ns / w->spec.pane_ns);
    w->overlaps = w->spec.size_ns > w->spec.pane_ns;
    w->look_shape = rml_rows_shape((uint32_t)sizeof(struct look));
    if (w->is_early)
        row_bytes += (uint32_t)sizeof(struct early);
    w->row_shape = rml_rows_shape(row_bytes);
    rc = rml_keyed_open(&w->keyed, env, err);
    if (rc == 0)
        rc = limit_keys(w, row_bytes, err);
    if (rc == 0)
        rc = open_stacks(w, err);
    if (rc < 0)
        goto fail;
    *ret_operator = (void *)w;
    return 0;
fail:
    window_close((void *)w);
    return rc;
}

const struct rml_operator_kind rml_operator_window = {
    .name = "window",
    .open = window_open,
    .close = window_close,
    .take = window_take,
    .advance = window_advance,
    .tick = window_tick,
    .deadline = window_deadline,
    .settled = window_settled,
    .roots = window_roots,
};

const struct rml_operator_kind rml_operator_global_window = {
    .name = "global_window",
    .wants_clock = true,
    .open = window_open,
    .close = window_close,
    .take = window_take,
    .advance = window_advance,
    .tick = window_tick,
    .deadline = window_deadline,
    .roots = window_roots,
};
