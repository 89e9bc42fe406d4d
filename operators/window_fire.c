#include "operators/window_fire.h"

#include "operators/window_row.h"

#define STACKS_ENDS (INT64_MAX / 2)  // pane numbers this far out are left to the plain way

void rml_window_give(struct rml_window *w, const struct rml_window_result *result)
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

uint64_t rml_window_combine(struct rml_window *w, uint32_t slot, rml_int128 end,
                            const void **ret_state)
{
    // a window may begin before all times, or end after them
    int64_t first = rml_pane_clamp(rml_pane_first(&w->spec, end));
    int64_t count = rml_pane_clamp(rml_pane_last(&w->spec, end)) - first + 1;
    uint64_t records = 0;
    *ret_state = w->combined;
    for (int64_t i = 0; i < count; i++) {
        const struct rml_pane_row *row = rml_window_find_row(w, first + i, slot);
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

uint32_t rml_window_more_results(const struct rml_window *w, rml_int128 end, uint32_t slot)
{
    rml_int128 last = rml_pane_last(&w->spec, end);
    const struct rml_pane_row *row =
        last <= INT64_MAX ? rml_window_find_row(w, (int64_t)last, slot) : NULL;
    return row != NULL ? row->more : 0;
}

// Give the result of every key of the leaf that begins at slot `first`.
static uint64_t fire_leaf(struct rml_window *w, rml_int128 end, uint32_t first,
                          const struct rml_window_pane *const *panes, uint32_t pane_count)
{
    uint32_t leaf_rows = 1u << w->row_shape.leaf_log;
    uint64_t fired = 0;
    for (uint32_t slot = first; slot < first + leaf_rows && slot < rml_keyed_end(&w->keyed);
         slot++) {
        struct rml_window_result result = {
            .slot = slot, .end = end, .fire = rml_pane_clamp(end), .state = w->combined};
        for (uint32_t i = 0; i < pane_count; i++) {
            const struct rml_pane_row *row =
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
            result.revision = w->is_early ? rml_window_more_results(w, end, slot) : 0;
            rml_window_give(w, &result);
            fired++;
        }
    }
    return fired;
}

const void *rml_window_pane_state(const void *context, int64_t index, uint32_t slot,
                                  uint64_t *ret_records)
{
    const struct rml_window *w = context;
    const struct rml_pane_row *row = rml_window_find_row(w, index, slot);
    if (row == NULL || row->records == 0)
        return NULL;
    *ret_records = row->records;
    return row->state;
}

// Fire from what is kept merged. False: that is not to be had for this window.
static bool fire_stacked(struct rml_window *w, rml_int128 end)
{
    rml_int128 first = rml_pane_first(&w->spec, end), last = rml_pane_last(&w->spec, end);
    uint32_t slots = rml_keyed_end(&w->keyed);
    if (!w->is_stacked || first < -STACKS_ENDS || last > STACKS_ENDS
        || !rml_stacks_cover(&w->stacks, (int64_t)first, slots))
        return false;
    uint64_t fired = 0;
    for (uint32_t slot = 0; slot < slots; slot++) {
        struct rml_window_result result = {
            .slot = slot, .end = end, .fire = rml_pane_clamp(end), .state = w->combined};
        result.records = rml_stacks_result(&w->stacks, slot, w->combined);
        if (result.records > 0) {
            result.revision = w->is_early ? rml_window_more_results(w, end, slot) : 0;
            rml_window_give(w, &result);
            fired++;
        }
    }
    rml_count(&w->env.counts[RML_STAGE_windows_fired], fired);
    return true;
}

static void fire(struct rml_window *w, rml_int128 end)
{
    if (fire_stacked(w, end))
        return;
    const struct rml_window_pane *panes[RML_PANES_MAX];
    uint32_t pane_count = 0;
    rml_int128 first = rml_pane_first(&w->spec, end), last = rml_pane_last(&w->spec, end);
    for (uint32_t i = 0; i < w->open_count; i++) {
        const struct rml_window_pane *pane = &w->panes[w->open[i]];
        if (pane->index >= first && pane->index <= last)
            panes[pane_count++] = pane;
    }
    uint64_t fired = 0;
    for (uint32_t slot = 0; slot < rml_keyed_end(&w->keyed); slot += 1u << w->row_shape.leaf_log)
        fired += fire_leaf(w, end, slot, panes, pane_count);
    rml_count(&w->env.counts[RML_STAGE_windows_fired], fired);
}

static bool has_records(const struct rml_window *w, int64_t index, uint32_t slot)
{
    const struct rml_pane_row *row = rml_window_find_row(w, index, slot);
    return row != NULL && row->records > 0;
}

bool rml_window_next_end(const struct rml_window *w, uint32_t slot, rml_int128 after,
                         rml_int128 *ret_end)
{
    rml_int128 least = RML_PANE_NO_END, grid = rml_pane_end_after(&w->spec, after);
    for (uint32_t i = 0; i < w->open_count; i++) {
        int64_t index = w->panes[w->open[i]].index;
        if (slot != RML_EVERY_SLOT && !has_records(w, index, slot))
            continue;
        rml_int128 end = rml_pane_first_end(&w->spec, index);
        end = end > grid ? end : grid;
        if (end <= rml_pane_last_end(&w->spec, index) && end < least)
            least = end;
    }
    *ret_end = least;
    return least != RML_PANE_NO_END;
}

void rml_window_show_state(struct rml_window *w)
{
    rml_count_set(&w->env.counts[RML_STAGE_keys], w->keyed.has_key ? w->keyed.keys.count : 0);
    rml_count_set(&w->env.counts[RML_STAGE_panes], w->open_count);
    rml_count_set(&w->env.counts[RML_STAGE_state_bytes],
                  (uint64_t)w->env.pages->in_use * RML_PAGE_BYTES);
}

void rml_window_advance(struct rml_operator *op, int64_t watermark)
{
    struct rml_window *w = rml_window_of(op);
    rml_int128 end, fired = w->fired;
    while (rml_window_next_end(w, RML_EVERY_SLOT, fired, &end)
           && end <= rml_pane_reach(watermark)) {
        fire(w, end);
        fired = end;
    }
    w->fired = watermark;
    for (uint32_t i = w->open_count; i-- > 0;) {
        rml_int128 kept = rml_pane_last_end(&w->spec, w->panes[w->open[i]].index);
        if (kept + w->spec.late_ns <= watermark || watermark == RML_TIME_END)
            rml_window_free_pane(w, i);
    }
    if (w->open_count == 0) {
        rml_rows_clear(&w->looks, w->env.pages);
        rml_stacks_clear(&w->stacks);
    }
    rml_window_show_state(w);
}
