#include "operators/window_early.h"

#include <stddef.h>

#include "operators/window_fire.h"

int64_t rml_window_fire_between(const struct rml_window *w, int64_t watermark)
{
    return watermark == RML_TIME_NONE ? RML_TIME_NONE
                                      : rml_pane_clamp(rml_pane_end_up_to(&w->spec, watermark));
}

int64_t rml_window_fire_at_record(const struct rml_window *w, const struct rml_run *run,
                                  uint16_t at)
{
    // no end of a window says where in time a result of the global one belongs
    return rml_pane_is_all(&w->spec) ? run->clock[at] : rml_window_fire_between(w, run->watermark);
}

static size_t early_offset(const struct rml_window *w)
{
    return offsetof(struct rml_pane_row, state) + w->aggregator.state_bytes;
}

static const struct rml_pane_early *early_in(const struct rml_window *w,
                                             const struct rml_pane_row *row)
{
    return (const void *)((const unsigned char *)row + early_offset(w));
}

static struct rml_pane_early *early_to_change(const struct rml_window *w, struct rml_pane_row *row)
{
    return (void *)((unsigned char *)row + early_offset(w));
}

// How many records of a slot lie in the panes from..to, some of which may lie outside of all times.
static uint64_t records_in(const struct rml_window *w, rml_int128 from, rml_int128 to,
                           uint32_t slot)
{
    uint64_t records = 0;
    for (rml_int128 p = from; p <= to; p++) {
        const struct rml_pane_row *row =
            rml_pane_clamp(p) == p ? rml_window_find_row(w, (int64_t)p, slot) : NULL;
        records += row != NULL ? row->records : 0;
    }
    return records;
}

/*
 * Give an early result of the window that ends at `end` and has so many records of the slot, if `least` of
 * them have come since the last one. Returns how many more are needed for the next. There is none where
 * it cannot be remembered: no room for a row, or a last pane outside of all times.
 */
static uint64_t show(struct rml_window *w, rml_int128 end, uint32_t slot, uint64_t records,
                     uint64_t least, int64_t fire)
{
    rml_int128 last = rml_pane_last(&w->spec, end);
    if (last > INT64_MAX)
        return least;
    const struct rml_pane_row *old = rml_window_find_row(w, (int64_t)last, slot);
    uint64_t since = records - (old != NULL ? early_in(w, old)->shown : 0);
    if (since < least)
        return least - since;
    struct rml_window_pane *pane = rml_window_reach_pane(w, (int64_t)last);
    struct rml_pane_row *row = pane != NULL ? rml_window_reach_row(w, pane, slot) : NULL;
    if (row == NULL)
        return least;
    early_to_change(w, row)->shown = records;
    struct rml_window_result result = {
        .slot = slot, .end = end, .revision = row->more++, .is_partial = true, .fire = fire};
    result.records = rml_window_combine(w, slot, end, &result.state);
    rml_window_give(w, &result);
    return least;
}

// The same of all open windows around a pane. Returns for how many records of it none needs a look.
static uint64_t show_around(struct rml_window *w, int64_t index, uint32_t slot, uint64_t least,
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

bool rml_window_is_due(struct rml_window *w, int64_t index, const struct rml_pane_row *row,
                       uint32_t slot)
{
    if (!w->overlaps)
        return row->records - early_in(w, row)->shown >= w->spec.trigger.count;
    struct rml_window_look *look = rml_rows_reach(&w->looks, w->env.pages, w->look_shape, slot);
    if (look == NULL || look->pane != index || look->left <= 1)
        return true;
    look->left--;
    return false;
}

void rml_window_show_due(struct rml_window *w, const struct rml_run *run, uint16_t at,
                         int64_t index, uint32_t slot)
{
    int64_t fire_at = rml_window_fire_at_record(w, run, at);
    uint64_t left = show_around(w, index, slot, w->spec.trigger.count, run->watermark, fire_at);
    struct rml_window_look *look =
        w->overlaps ? rml_rows_reach(&w->looks, w->env.pages, w->look_shape, slot) : NULL;
    if (look != NULL)
        *look = (struct rml_window_look){index, left};
}

// Give the results of the windows around a pane that have changed, of all its slots.
static void tick_pane(struct rml_window *w, struct rml_window_pane *pane, int64_t watermark,
                      int64_t fire_at)
{
    pane->is_changed = false;
    for (uint32_t slot = 0; slot < rml_keyed_end(&w->keyed); slot++) {
        const struct rml_pane_row *row =
            rml_rows_find(&pane->rows, w->env.pages, w->row_shape, slot);
        if (row == NULL || !row->is_started || row->records == early_in(w, row)->ticked)
            continue;
        struct rml_pane_row *changed = rml_change(w->env.pages, row, w->row_shape.stride);
        early_to_change(w, changed)->ticked = row->records;
        show_around(w, pane->index, slot, 1, watermark, fire_at);
    }
}

void rml_window_tick(struct rml_operator *op, int64_t now, int64_t watermark)
{
    struct rml_window *w = rml_window_of(op);
    if (!rml_ticks_pass(&w->ticks, now))
        return;
    int64_t fire_at = rml_window_fire_between(w, watermark);
    if (rml_pane_is_all(&w->spec))
        fire_at = watermark > w->clock ? watermark : w->clock;
    // panes that are opened meanwhile lie behind, and have nothing in them
    for (uint32_t i = 0; i < w->open_count; i++) {
        struct rml_window_pane *pane = &w->panes[w->open[i]];
        if (pane->is_changed)
            tick_pane(w, pane, watermark, fire_at);
    }
}
