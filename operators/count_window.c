/*
 * COUNT WINDOWS
 *
 * A key's records are numbered as they arrive, and time has no part in which window they are in. A
 * tumbling window of N is complete with its N-th record; of a sliding one, each M-th record of the key
 * gives the result of the last N, or of all that there were so far (as countWindow(N, M) of Apache
 * Flink's DataStream API does). What is not complete when the input ends gives nothing.
 *
 * A key has one row, a ring of panes of gcd(N, M) records each:
 *
 *     N = 6, M = 4: panes of 2      record   1 2 | 3 4 | 5 6 | 7 8 | 9 ...
 *                                   pane      0     1     2     0     1
 *                                   result          ^           ^        of 1-4, of 3-8
 *
 * Between a pane's last record and the first that takes its place there are N - gcd(N, M) others, so a
 * result lies between them: what is still to be folded when a pane is begun anew is never for it.
 *
 * Where windows overlap much, the panes of a row are two stacks (operators/stacks.h) in their places: once
 * the split has passed them, panes are needed no more but as what is merged from them up to the split,
 * and turn into that. What has come since the split is merged in one state more.
 *
 * A key that is evicted gives its next result early, over what there is of it, if it has records that
 * were in no result yet.
 */
#include "operators/count_window.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "operators/aggregate.h"
#include "operators/keyed.h"
#include "operators/stacks.h"
#include "operators/window_row.h"
#include "runtime/base/check.h"
#include "runtime/base/err.h"
#include "runtime/partition/operator.h"
#include "runtime/state/roots.h"
#include "runtime/time/time.h"

struct pane {
    int64_t first, last;  // least and greatest event time
    unsigned char state[];
};

struct row {
    uint64_t records;  // of the key so far; tumbling: of its window. 0: nothing of this key is here
    unsigned char panes[];
};

/* Behind the panes, and before the pane of what is merged from the split on. Panes by number. */
struct stacks {
    uint64_t split;
    uint64_t lowest;  // of the panes that turned into what is merged up to the split
    uint64_t upto;    // panes from the split to before this one are merged
};

struct count_window {
    struct rml_operator_env env;
    struct rml_plan_window spec;
    struct rml_aggregator aggregator;
    struct rml_keyed keyed;
    struct rml_rows_shape row_shape;
    struct rml_rows rows;  // by slot
    uint32_t pane_bytes, pane_count;
    uint32_t keep;   // each so many-th pane turns into what is merged from there; 0: none does
    void *gathered;  // a state

    // Working room for one run.
    uint16_t rows_chosen[RML_BATCH_ROWS];
    uint16_t folded_rows[RML_BATCH_ROWS];
    void *folded_states[RML_BATCH_ROWS];
    uint32_t folded_count;
    const struct rml_batch *batch;
    struct rml_keyed_block block;
};

static struct count_window *window_of(struct rml_operator *op)
{
    return (void *)op;
}

static size_t pane_offset(const struct count_window *w, uint64_t pane)
{
    return (size_t)(pane % w->pane_count) * w->pane_bytes;
}

static const struct pane *pane_at(const struct count_window *w, const struct row *row,
                                  uint64_t pane)
{
    return (const void *)(row->panes + pane_offset(w, pane));
}

// Bring the states up to the records that were taken; before anything reads, merges or frees one.
static void fold(struct count_window *w)
{
    if (w->folded_count == 0)
        return;
    uint64_t skipped = rml_aggregator_fold(&w->aggregator, w->batch->columns, w->folded_states,
                                           w->folded_rows, w->folded_count);
    if (skipped > 0)
        rml_count(&w->env.counts[RML_STAGE_null_skipped], skipped);
    w->folded_count = 0;
}

/* Two stacks in the places of panes */

static size_t stacks_offset(const struct count_window *w)
{
    return (size_t)w->pane_count * w->pane_bytes;
}

static struct pane *change_pane(const struct count_window *w, struct row *row, uint64_t pane)
{
    return (void *)(row->panes + pane_offset(w, pane));
}

static struct stacks *change_stacks(const struct count_window *w, struct row *row)
{
    return (void *)(row->panes + stacks_offset(w));
}

static struct pane *change_back(const struct count_window *w, struct row *row)
{
    return (void *)(change_stacks(w, row) + 1);
}

static bool may_merge(const struct count_window *w)
{
    return w->aggregator.sketches == NULL || rml_stacks_have_room(&w->aggregator, w->env.pages);
}

static void merge_pane(const struct count_window *w, struct pane *into, const struct pane *from)
{
    rml_aggregator_merge(&w->aggregator, into->state, from->state);
    into->first = from->first < into->first ? from->first : into->first;
    into->last = from->last > into->last ? from->last : into->last;
}

static void release_back(struct count_window *w, struct row *row)
{
    struct stacks *stacks = change_stacks(w, row);
    if (stacks->upto > stacks->split)
        rml_aggregator_release(&w->aggregator, change_back(w, row)->state);
    stacks->upto = stacks->split;
}

// Move the split to `to`, and merge the panes from `from` up to there, from the back to the front, as far
// as there is room.
static void move_split(struct count_window *w, struct row *row, uint64_t from, uint64_t to)
{
    struct stacks *stacks = change_stacks(w, row);
    release_back(w, row);
    *stacks = (struct stacks){to, to, to};
    for (uint64_t p = (to - 1) / w->keep * w->keep; p >= from && may_merge(w); p -= w->keep) {
        struct pane *into = change_pane(w, row, p);
        for (uint64_t own = p + 1; own < p + w->keep && own < to; own++)
            merge_pane(w, into, pane_at(w, row, own));
        if (p + w->keep < to)
            merge_pane(w, into, pane_at(w, row, p + w->keep));
        stacks->lowest = p;
        if (p < w->keep)
            return;
    }
}

static void add_behind(struct count_window *w, struct row *row, uint64_t to)
{
    struct stacks *stacks = change_stacks(w, row);
    struct pane *back = change_back(w, row);
    for (; stacks->upto < to && may_merge(w); stacks->upto++) {
        const struct pane *pane = pane_at(w, row, stacks->upto);
        if (stacks->upto == stacks->split) {
            rml_aggregator_reset(&w->aggregator, back->state);
            back->first = pane->first;
            back->last = pane->last;
        }
        merge_pane(w, back, pane);
    }
}

/* Results */

// What a result is of: one pane as it is, or several that are gathered.
struct gathered {
    const struct pane *only;
    uint32_t count;
    int64_t first, last;
};

static void gather(struct count_window *w, struct gathered *to, const struct pane *pane)
{
    if (to->count++ == 0) {
        *to = (struct gathered){pane, 1, pane->first, pane->last};
        return;
    }
    if (to->count == 2) {
        rml_aggregator_gather(&w->aggregator, w->gathered);
        rml_aggregator_merge(&w->aggregator, w->gathered, to->only->state);
    }
    rml_aggregator_merge(&w->aggregator, w->gathered, pane->state);
    to->first = pane->first < to->first ? pane->first : to->first;
    to->last = pane->last > to->last ? pane->last : to->last;
}

static void gather_panes(struct count_window *w, struct gathered *to, const struct row *row,
                         uint64_t from, uint64_t end)
{
    for (uint64_t p = from; p < end; p++)
        gather(w, to, pane_at(w, row, p));
}

// Of the panes from `from` to before `to`, where each window begins and ends behind the one before.
static void gather_stacked(struct count_window *w, struct gathered *all, struct row *row,
                           uint64_t from, uint64_t to)
{
    struct stacks *stacks = change_stacks(w, row);
    if (from >= stacks->split)
        move_split(w, row, from, to);
    else
        add_behind(w, row, to);
    uint64_t merged = (from + w->keep - 1) / w->keep * w->keep;
    merged = merged < stacks->lowest ? stacks->lowest : merged;
    gather_panes(w, all, row, from, merged < stacks->split ? merged : stacks->split);
    if (merged < stacks->split)
        gather(w, all, pane_at(w, row, merged));
    if (stacks->upto > stacks->split)
        gather(w, all, change_back(w, row));
    gather_panes(w, all, row, stacks->upto, to);
}

// Of the window that the key's last record is in, complete or not.
static void give_result(struct count_window *w, uint32_t slot, struct row *row, int64_t clock)
{
    uint64_t every = w->spec.every_records, size = w->spec.size_records;
    uint64_t missing = (every - row->records % every) % every;
    uint64_t end = row->records + missing;
    uint64_t first = end > size ? end - size : 0;
    uint64_t from = first / w->spec.pane_records;
    uint64_t to = (row->records - 1) / w->spec.pane_records + 1;
    struct gathered all = {0};
    fold(w);
    if (w->keep > 0)
        gather_stacked(w, &all, row, from, to);
    else
        gather_panes(w, &all, row, from, to);
    struct rml_window_row result = {
        .start = all.first,
        .end = rml_time_add(all.last, 1),
        .fire = clock,
        .slot = slot,
        .records = row->records - first,
        .evicted = missing > 0,
        .state = all.count > 1 ? w->gathered : all.only->state,
    };
    result.length_ns = rml_time_sub(result.end, result.start);
    rml_window_row_emit(&w->env, &w->keyed, &w->aggregator, &result);
    rml_count(&w->env.counts[RML_STAGE_windows_fired], 1);
}

/* Keys */

static void enter(struct count_window *w, uint32_t slot, struct row *row)
{
    rml_keyed_use(&w->keyed, slot);
    if (w->keep > 0)
        *change_stacks(w, row) = (struct stacks){0};
}

// Nothing of the key is left.
static void leave(struct count_window *w, uint32_t slot, struct row *row)
{
    uint64_t begun = (row->records - 1) / w->spec.pane_records + 1;
    uint64_t kept = begun < w->pane_count ? begun : w->pane_count;
    for (uint64_t p = 0; p < kept; p++)
        rml_aggregator_release(&w->aggregator, pane_at(w, row, p)->state);
    if (w->keep > 0)
        release_back(w, row);
    row->records = 0;
    rml_keyed_block_release(&w->keyed, &w->block, slot);
}

static void evict(struct count_window *w, uint32_t slot, int64_t clock)
{
    struct row *row = rml_rows_change(&w->rows, w->env.pages, w->row_shape, slot);
    fold(w);
    if (row->records % w->spec.every_records != 0) {
        give_result(w, slot, row, clock);
        rml_count(&w->env.counts[RML_STAGE_windows_evicted], 1);
    }
    leave(w, slot, row);
    rml_count(&w->env.counts[RML_STAGE_evicted], 1);
}

static void leave_all(struct count_window *w)
{
    uint32_t end = rml_keyed_end(&w->keyed);
    for (uint32_t slot = 0; slot < end; slot++) {
        const struct row *row = rml_rows_find(&w->rows, w->env.pages, w->row_shape, slot);
        if (row != NULL && row->records > 0)
            leave(w, slot, rml_rows_change(&w->rows, w->env.pages, w->row_shape, slot));
    }
    rml_rows_clear(&w->rows, w->env.pages);
}

static void show_state(struct count_window *w)
{
    rml_count_set(&w->env.counts[RML_STAGE_keys], w->keyed.has_key ? w->keyed.keys.count : 0);
    rml_count_set(&w->env.counts[RML_STAGE_state_bytes],
                  (uint64_t)w->env.pages->in_use * RML_PAGE_BYTES);
}

// Only the end of the input ends anything here.
static void count_window_advance(struct rml_operator *op, int64_t watermark)
{
    struct count_window *w = window_of(op);
    if (watermark != RML_TIME_END)
        return;
    leave_all(w);
    show_state(w);
}

/* Records */

static bool has_room(struct count_window *w)
{
    if (rml_aggregator_has_room(&w->aggregator, w->folded_count + 1))
        return true;
    fold(w);
    return rml_aggregator_has_room(&w->aggregator, 1);
}

static void begin_pane(struct count_window *w, const struct row *row, struct pane *pane,
                       int64_t time)
{
    if (row->records >= w->spec.size_records)
        rml_aggregator_release(&w->aggregator, pane->state);
    rml_aggregator_reset(&w->aggregator, pane->state);
    pane->first = pane->last = time;
}

// The slot of the next record's key, if need be in the place of another.
static uint32_t find_key(struct count_window *w, int64_t clock)
{
    uint32_t slot = rml_keyed_block_next(&w->keyed, &w->block);
    if (slot != RML_NO_SLOT || !rml_keyed_must_evict(&w->keyed))
        return slot;
    evict(w, rml_keyed_oldest(&w->keyed), clock);
    return rml_keyed_block_retry(&w->keyed, &w->block);
}

static void take_row(struct count_window *w, const struct rml_run *run, uint16_t at)
{
    uint32_t slot = find_key(w, run->clock[at]);
    bool taken = slot != RML_NO_SLOT && slot < rml_rows_max(w->row_shape) && has_room(w);
    struct row *row = taken ? rml_rows_reach(&w->rows, w->env.pages, w->row_shape, slot) : NULL;
    if (row == NULL) {
        rml_keyed_block_forget(&w->keyed, &w->block, slot);
        rml_count(&w->env.counts[RML_STAGE_refused], 1);
        return;
    }
    struct pane *pane = change_pane(w, row, row->records / w->spec.pane_records);
    if (row->records == 0)
        enter(w, slot, row);
    if (row->records % w->spec.pane_records == 0)
        begin_pane(w, row, pane, run->time[at]);
    pane->first = run->time[at] < pane->first ? run->time[at] : pane->first;
    pane->last = run->time[at] > pane->last ? run->time[at] : pane->last;
    row->records++;
    rml_keyed_seen(&w->keyed, &slot, 1);
    w->folded_states[w->folded_count] = pane->state;
    w->folded_rows[w->folded_count++] = at;
    rml_count(&w->env.counts[RML_STAGE_aggregated], 1);
    if (row->records % w->spec.every_records != 0)
        return;
    give_result(w, slot, row, run->clock[at]);
    if (w->spec.every_records == w->spec.size_records)
        leave(w, slot, row);
}

// Time has ended: what still comes is late for everything.
static void refuse_all_as_late(struct count_window *w, const struct rml_batch *batch,
                               const struct rml_run *run)
{
    rml_count(&w->env.counts[RML_STAGE_late], batch->selected);
    w->env.pass(w->env.context, w->env.stage, true, batch, run);
}

static void count_window_take(struct rml_operator *op, const struct rml_batch *batch,
                              const struct rml_run *run)
{
    struct count_window *w = window_of(op);
    RML_CHECK(run->clock != NULL);
    rml_count(&w->env.counts[RML_STAGE_in], batch->selected);
    if (run->watermark == RML_TIME_END) {
        refuse_all_as_late(w, batch, run);
        return;
    }
    uint32_t count;
    const uint16_t *rows = rml_keyed_begin(&w->keyed, &w->env, batch, w->rows_chosen, &count);
    w->batch = batch;
    for (uint32_t done = 0; done < count; done += w->block.count) {
        rml_keyed_block_begin(&w->keyed, &w->block, batch, run, rows + done, count - done);
        for (uint32_t i = 0; i < w->block.count; i++)
            take_row(w, run, rows[done + i]);
    }
    fold(w);
    show_state(w);
}

/* Checkpoints */

static void count_window_roots(struct rml_operator *op, struct rml_roots *roots)
{
    struct count_window *w = window_of(op);
    rml_keyed_roots(&w->keyed, roots);
    rml_aggregator_roots(&w->aggregator, roots);
    rml_roots_same(roots, w->pane_count);
    rml_roots_same(roots, w->keep);
    RML_ROOTS_WALK(roots, w->rows);
}

/* Setting up */

static void count_window_close(struct rml_operator *op)
{
    struct count_window *w = window_of(op);
    rml_keyed_close(&w->keyed);
    rml_aggregator_close(&w->aggregator);
    free(w->gathered);
    free(w);
}

static int set_up(struct count_window *w, struct rml_err *err)
{
    const struct rml_plan_stage *stage = &w->env.plan->stages[w->env.stage];
    int rc = rml_aggregator_open(&w->aggregator, stage, &w->env.plan->sources[stage->source],
                                 w->env.pages, err);
    if (rc < 0)
        return rc;
    w->gathered = calloc(1, w->aggregator.state_bytes + sizeof(uint64_t));
    if (w->gathered == NULL)
        return RML_FAIL(err, -ENOMEM, "no memory");
    w->pane_count = w->spec.size_records / w->spec.pane_records;
    w->pane_bytes = (uint32_t)sizeof(struct pane) + w->aggregator.state_bytes;
    uint32_t row_bytes = (uint32_t)sizeof(struct row) + w->pane_count * w->pane_bytes;
    uint32_t stacked_bytes = row_bytes + (uint32_t)sizeof(struct stacks) + w->pane_bytes;
    uint32_t windows = w->spec.size_records / w->spec.every_records;
    w->keep = stacked_bytes <= RML_PAGE_BYTES ? rml_stacks_keep(&w->aggregator, windows) : 0;
    w->row_shape = rml_rows_shape(w->keep > 0 ? stacked_bytes : row_bytes);
    return rml_keyed_open(&w->keyed, &w->env, err);
}

static int count_window_open(struct rml_operator **ret_operator, const struct rml_operator_env *env,
                             struct rml_err *err)
{
    struct count_window *w = calloc(1, sizeof *w);
    if (w == NULL)
        return RML_FAIL(err, -ENOMEM, "no memory");
    w->env = *env;
    w->spec = env->plan->stages[env->stage].window;
    int rc = set_up(w, err);
    if (rc < 0) {
        count_window_close((void *)w);
        return rc;
    }
    *ret_operator = (void *)w;
    return 0;
}

const struct rml_operator_kind rml_operator_count_window = {
    .name = "count_window",
    .wants_clock = true,
    .open = count_window_open,
    .close = count_window_close,
    .take = count_window_take,
    .advance = count_window_advance,
    .roots = count_window_roots,
};
