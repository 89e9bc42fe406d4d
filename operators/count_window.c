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
 * A key that is evicted gives its next result early, over what there is of it, if it has records that
 * were in no result yet.
 */
#include "operators/count_window.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "operators/aggregate.h"
#include "operators/keyed.h"
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

struct count_window {
    struct rml_operator_env env;
    struct rml_plan_window spec;
    struct rml_aggregator aggregator;
    struct rml_keyed keyed;
    struct rml_rows_shape row_shape;
    struct rml_rows rows;  // by slot
    uint32_t pane_bytes, pane_count;
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

/* Results */

// Of the panes from `from` to before `to`: what they span, and their state.
static const void *gather(struct count_window *w, const struct row *row, uint64_t from, uint64_t to,
                          struct rml_window_row *result)
{
    const struct pane *oldest = pane_at(w, row, from);
    int64_t first = oldest->first, last = oldest->last;
    if (to - from > 1)
        rml_aggregator_gather(&w->aggregator, w->gathered);
    for (uint64_t p = from; p < to; p++) {
        const struct pane *pane = pane_at(w, row, p);
        first = pane->first < first ? pane->first : first;
        last = pane->last > last ? pane->last : last;
        if (to - from > 1)
            rml_aggregator_merge(&w->aggregator, w->gathered, pane->state);
    }
    result->start = first;
    result->end = rml_time_add(last, 1);
    result->length_ns = rml_time_sub(result->end, first);
    return to - from > 1 ? w->gathered : oldest->state;
}

// Of the window that the key's last record is in, complete or not.
static void give_result(struct count_window *w, uint32_t slot, const struct row *row, int64_t clock)
{
    uint64_t every = w->spec.every_records, size = w->spec.size_records;
    uint64_t missing = (every - row->records % every) % every;
    uint64_t end = row->records + missing;
    uint64_t first = end > size ? end - size : 0;
    fold(w);
    struct rml_window_row result = {
        .fire = clock, .slot = slot, .records = row->records - first, .evicted = missing > 0};
    result.state = gather(w, row, first / w->spec.pane_records,
                          (row->records - 1) / w->spec.pane_records + 1, &result);
    rml_window_row_emit(&w->env, &w->keyed, &w->aggregator, &result);
    rml_count(&w->env.counts[RML_STAGE_windows_fired], 1);
}

/* Keys */

// Nothing of the key is left.
static void leave(struct count_window *w, uint32_t slot, struct row *row)
{
    uint64_t begun = (row->records - 1) / w->spec.pane_records + 1;
    uint64_t kept = begun < w->pane_count ? begun : w->pane_count;
    for (uint64_t p = 0; p < kept; p++)
        rml_aggregator_release(&w->aggregator, pane_at(w, row, p)->state);
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
    struct pane *pane = (void *)(row->panes + pane_offset(w, row->records / w->spec.pane_records));
    if (row->records == 0)
        rml_keyed_use(&w->keyed, slot);
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
    w->row_shape = rml_rows_shape((uint32_t)sizeof(struct row) + w->pane_count * w->pane_bytes);
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
