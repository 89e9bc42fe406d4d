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

#include "operators/window_early.h"
#include "operators/window_fire.h"
#include "operators/window_state.h"
#include "runtime/base/err.h"
#include "runtime/partition/operator.h"
#include "runtime/state/roots.h"

static int64_t window_deadline(const struct rml_operator *op, int64_t watermark)
{
    const struct rml_window *w = (const void *)op;
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
    const struct rml_window *w = (const void *)op;
    // Only windows that end later give rows, or there are others; END and NONE are no times.
    if ((w->spec.late_ns == 0 && !w->is_early && !w->keyed.evicts) || watermark == RML_TIME_NONE
        || watermark == RML_TIME_END)
        return watermark;
    return rml_pane_clamp(rml_pane_end_up_to(&w->spec, watermark));
}

/* Eviction */

// Give what the key has of windows that have not fired or can be corrected, and forget it.
static void evict(struct rml_window *w, uint32_t slot, int64_t watermark, int64_t fire_at)
{
    struct rml_window_result result = {.slot = slot, .evicted = true, .fire = fire_at};
    uint64_t open = 0, given = 0;
    for (rml_int128 after = rml_time_sub(watermark, w->spec.late_ns);
         rml_window_next_end(w, slot, after, &result.end); after = result.end) {
        result.revision = rml_window_more_results(w, result.end, slot) + (result.end <= watermark);
        result.records = rml_window_combine(w, slot, result.end, &result.state);
        rml_window_give(w, &result);
        open += result.end > watermark;
        given++;
    }
    rml_count(&w->env.counts[RML_STAGE_windows_fired], open);
    rml_count(&w->env.counts[RML_STAGE_windows_evicted], given);
    rml_count(&w->env.counts[RML_STAGE_evicted], 1);
    for (uint32_t i = 0; i < w->open_count; i++) {
        const struct rml_window_pane *pane = &w->panes[w->open[i]];
        const struct rml_pane_row *row =
            rml_rows_find(&pane->rows, w->env.pages, w->row_shape, slot);
        if (row == NULL || !row->is_started)
            continue;
        rml_window_release_row(w, row, slot);
        memset(rml_change(w->env.pages, row, w->row_shape.stride), 0, w->row_shape.stride);
        if (w->is_stacked)
            rml_stacks_change(&w->stacks, pane->index, slot);
    }
}

// Slots of rows as of rml_keyed_reach; for a row that stands alone room is made, if there is none.
static uint32_t reach_slots(struct rml_window *w, const struct rml_batch *batch,
                            const struct rml_run *run, const uint16_t *rows, uint32_t count,
                            uint32_t *slots)
{
    uint32_t reached = rml_keyed_reach(&w->keyed, batch, run, rows, count, slots);
    if (reached > 0 || count > 1 || !rml_keyed_must_evict(&w->keyed))
        return reached;
    evict(w, rml_keyed_oldest(&w->keyed), run->watermark,
          rml_window_fire_at_record(w, run, rows[0]));
    return rml_keyed_reach(&w->keyed, batch, run, rows, count, slots);
}

/* Records */

/*
 * Where the states of slots are in a pane, and one record more counted for each: up to the first that
 * there is no room for. Returns how many. Rows are looked at where they lie or would lie, so that they
 * are all on their way before the first is needed; one that was not started, or is not there, shows it.
 * A record that may bring an early result is the last one.
 */
static uint32_t find_states(struct rml_window *w, struct rml_window_pane *pane,
                            const uint32_t *slots, uint32_t count, void **states, bool *ret_due)
{
    const struct rml_pane_row *seen[RML_KEYS_BLOCK];
    for (uint32_t i = 0; i < count; i++) {
        seen[i] = rml_rows_look(&pane->rows, w->env.pages, w->row_shape, slots[i]);
        __builtin_prefetch(seen[i], 1);
    }
    for (uint32_t i = 0; i < count; i++) {
        struct rml_pane_row *row = seen[i]->is_started
                                       ? rml_change(w->env.pages, seen[i], w->row_shape.stride)
                                       : rml_window_reach_row(w, pane, slots[i]);
        if (row == NULL)
            return i;
        row->records++;
        states[i] = row->state;
        if (w->spec.trigger.count > 0 && rml_window_is_due(w, pane->index, row, slots[i])) {
            *ret_due = true;
            return i + 1;
        }
    }
    return count;
}

static void fold(struct rml_window *w, const struct rml_batch *batch, void *const *states,
                 const uint16_t *rows, uint32_t count)
{
    uint64_t skipped = rml_aggregator_fold(&w->aggregator, batch->columns, states, rows, count);
    rml_count(&w->env.counts[RML_STAGE_aggregated], count);
    if (skipped > 0)
        rml_count(&w->env.counts[RML_STAGE_null_skipped], skipped);
}

// Take rows of one pane, at most RML_KEYS_BLOCK, up to the first that there is no room for, or with
// *ret_due to one that may have brought an early result. Returns how many.
static uint32_t take_block(struct rml_window *w, const struct rml_batch *batch,
                           const struct rml_run *run, struct rml_window_pane *pane,
                           const uint16_t *rows, uint32_t count, bool *ret_due)
{
    uint32_t slots[RML_KEYS_BLOCK];
    void *states[RML_KEYS_BLOCK];
    uint32_t reached = reach_slots(w, batch, run, rows, count, slots);
    uint32_t taken = find_states(w, pane, slots, reached, states, ret_due);
    fold(w, batch, states, rows, taken);
    rml_keyed_seen(&w->keyed, slots, taken);
    if (*ret_due)
        rml_window_show_due(w, run, rows[taken - 1], pane->index, slots[taken - 1]);
    rml_keyed_forget_unused(&w->keyed, slots + taken, count - taken);
    return taken;
}

/*
 * Rows of one pane, none of whose windows has fired. A row that finds no room is looked at once more
 * alone, where it may evict a key, or else is refused; what was prepared for those behind it in the
 * block is done again: while room is short, blocks are short. So they are while many rows bring early
 * results.
 */
static void take_on_time(struct rml_window *w, const struct rml_batch *batch,
                         const struct rml_run *run, int64_t index, const uint16_t *rows,
                         uint32_t count)
{
    struct rml_window_pane *pane = rml_window_reach_pane(w, index);
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
static uint32_t next_revision(struct rml_window *w, rml_int128 end, uint32_t slot)
{
    struct rml_window_pane *pane = rml_window_reach_pane(w, (int64_t)rml_pane_last(&w->spec, end));
    struct rml_pane_row *row = pane != NULL ? rml_window_reach_row(w, pane, slot) : NULL;
    return row != NULL ? ++row->more : 1;
}

// One record of a window that has fired and may still be corrected.
static void take_correction(struct rml_window *w, const struct rml_batch *batch,
                            const struct rml_run *run, int64_t index, uint16_t at)
{
    if (!rml_aggregator_has_room(&w->aggregator, 1)) {
        rml_count(&w->env.counts[RML_STAGE_refused], 1);
        return;
    }
    uint32_t slot = RML_NO_SLOT;
    struct rml_window_pane *pane = rml_window_reach_pane(w, index);
    bool reached = pane != NULL && reach_slots(w, batch, run, &at, 1, &slot) == 1;
    struct rml_pane_row *row = reached ? rml_window_reach_row(w, pane, slot) : NULL;
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
    int64_t fire_at = rml_window_fire_between(w, run->watermark);
    for (rml_int128 end = first > kept ? first : kept; end <= last && end <= run->watermark;
         end += w->spec.every_ns) {
        struct rml_window_result result = {.slot = slot, .end = end, .fire = fire_at};
        result.records = rml_window_combine(w, slot, result.end, &result.state);
        if (result.records > 1)
            result.revision = next_revision(w, result.end, slot);
        rml_window_give(w, &result);
    }
    if (w->spec.trigger.count > 0)
        rml_window_show_due(w, run, at, index, slot);
}

// Panes below `gone` are beyond correction; panes below `fired` lie in a window that has fired.
struct bounds {
    rml_int128 gone, fired;
};

static struct bounds bounds_at(const struct rml_window *w, int64_t watermark)
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
static void take_in_order(struct rml_window *w, const struct rml_batch *batch,
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
    struct rml_window *w = rml_window_of(op);
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
            rml_window_show_state(w);  // time comes to no window's end meanwhile
        return;
    }
    w->late_count = 0;
    take_in_order(w, batch, run, &bounds, rows, count);
    rml_keyed_pass_late(&w->env, batch, run, w->late, w->late_count);
}

/* Checkpoints */

static void window_roots(struct rml_operator *op, struct rml_roots *roots)
{
    struct rml_window *w = rml_window_of(op);
    rml_keyed_roots(&w->keyed, roots);
    rml_aggregator_roots(&w->aggregator, roots);
    RML_ROOTS_WALK(roots, w->fired);
    RML_ROOTS_WALK(roots, w->looks);
    RML_ROOTS_WALK(roots, w->free_pane);
    rml_roots_count(roots, &w->fresh_pane, RML_WINDOW_PANES_MAX);
    rml_roots_walk(roots, w->panes, w->fresh_pane * sizeof w->panes[0]);
    rml_roots_count(roots, &w->open_count, RML_WINDOW_PANES_MAX);
    rml_roots_walk(roots, w->open, w->open_count * sizeof w->open[0]);
    for (uint32_t i = 0; rml_roots_have(roots) && i < w->open_count; i++)
        w->by_index[(uint64_t)w->panes[w->open[i]].index & (RML_WINDOW_PANES_MAX - 1)] = w->open[i];
    RML_ROOTS_WALK(roots, w->ticks.last);
    RML_ROOTS_WALK(roots, w->clock);
    if (w->is_stacked)
        rml_stacks_roots(&w->stacks, roots);
}

/* Setting up */

static void window_close(struct rml_operator *op)
{
    struct rml_window *w = rml_window_of(op);
    rml_keyed_close(&w->keyed);
    free(w->panes);
    free(w->by_index);
    free(w->combined);
    rml_stacks_close(&w->stacks);
    rml_aggregator_close(&w->aggregator);
    free(w);
}

static int reserve(struct rml_window *w)
{
    w->panes = calloc(RML_WINDOW_PANES_MAX, sizeof *w->panes);
    w->by_index = malloc(RML_WINDOW_PANES_MAX * sizeof *w->by_index);
    w->combined = calloc(1, w->aggregator.state_bytes + sizeof *w->combined);
    if (w->panes == NULL || w->by_index == NULL || w->combined == NULL)
        return -ENOMEM;
    memset(w->by_index, 0xff, RML_WINDOW_PANES_MAX * sizeof *w->by_index);
    w->free_pane = RML_WINDOW_NO_PANE;
    return 0;
}

// As many keys as rows can be numbered for, unless that is fewer than there would be room for.
static int limit_keys(struct rml_window *w, uint32_t row_bytes, struct rml_err *err)
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

static int open_stacks(struct rml_window *w, struct rml_err *err)
{
    uint32_t size = (uint32_t)(w->spec.size_ns / w->spec.pane_ns);
    w->is_stacked = rml_stacks_keep(&w->aggregator, size / w->step) > 0;
    if (!w->is_stacked)
        return 0;
    const struct rml_stacks_panes panes = {.state = rml_window_pane_state, .context = w};
    int rc = rml_stacks_open(&w->stacks, &w->aggregator, w->env.pages, panes, size, w->step);
    return rc < 0 ? RML_FAIL(err, rc, "no memory for panes") : 0;
}

static int window_open(struct rml_operator **ret_operator, const struct rml_operator_env *env,
                       struct rml_err *err)
{
    struct rml_window *w = calloc(1, sizeof *w);
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
    uint32_t row_bytes = (uint32_t)sizeof(struct rml_pane_row) + w->aggregator.state_bytes;
    w->is_early = rml_plan_gives_early(&w->spec);
    rml_ticks_init(&w->ticks, w->spec.trigger.every_ns);
    w->clock = RML_TIME_NONE;
    w->step = (uint32_t)(w->spec.every_ns / w->spec.pane_ns);
    w->overlaps = w->spec.size_ns > w->spec.pane_ns;
    w->look_shape = rml_rows_shape((uint32_t)sizeof(struct rml_window_look));
    if (w->is_early)
        row_bytes += (uint32_t)sizeof(struct rml_pane_early);
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
    .advance = rml_window_advance,
    .tick = rml_window_tick,
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
    .advance = rml_window_advance,
    .tick = rml_window_tick,
    .deadline = window_deadline,
    .roots = window_roots,
};
