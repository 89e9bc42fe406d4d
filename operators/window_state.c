#include "operators/window_state.h"

#include <string.h>

/* Panes */

struct rml_window_pane *rml_window_reach_pane(struct rml_window *w, int64_t index)
{
    struct rml_window_pane *pane = rml_window_find_pane(w, index);
    uint32_t *place = &w->by_index[(uint64_t)index & (RML_WINDOW_PANES_MAX - 1)];
    if (pane != NULL || *place != RML_WINDOW_NO_PANE)
        return pane;
    *place = w->free_pane != RML_WINDOW_NO_PANE ? w->free_pane : w->fresh_pane++;
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

void rml_window_release_row(struct rml_window *w, const struct rml_pane_row *row, uint32_t slot)
{
    rml_aggregator_release(&w->aggregator, row->state);
    rml_keyed_release(&w->keyed, slot);
}

void rml_window_free_pane(struct rml_window *w, uint32_t at)
{
    struct rml_window_pane *pane = &w->panes[w->open[at]];
    uint32_t leaf_rows = 1u << w->row_shape.leaf_log;
    for (uint32_t first = 0; first < rml_keyed_end(&w->keyed); first += leaf_rows) {
        uint32_t leaf = rml_rows_leaf(&pane->rows, w->env.pages, w->row_shape, first);
        for (uint32_t i = 0; leaf != RML_NO_PAGE && i < leaf_rows; i++) {
            const struct rml_pane_row *row =
                rml_rows_in_leaf(w->env.pages, w->row_shape, leaf, first + i);
            if (row->is_started)
                rml_window_release_row(w, row, first + i);
        }
    }
    rml_rows_clear(&pane->rows, w->env.pages);
    w->by_index[(uint64_t)pane->index & (RML_WINDOW_PANES_MAX - 1)] = RML_WINDOW_NO_PANE;
    pane->next_free = w->free_pane;
    w->free_pane = w->open[at];
    w->open_count--;
    memmove(&w->open[at], &w->open[at + 1], (w->open_count - at) * sizeof w->open[0]);
}

/* Rows */

struct rml_pane_row *rml_window_reach_row(struct rml_window *w, struct rml_window_pane *pane,
                                          uint32_t slot)
{
    struct rml_pane_row *row = rml_rows_reach(&pane->rows, w->env.pages, w->row_shape, slot);
    if (row == NULL || row->is_started)
        return row;
    row->is_started = true;
    rml_aggregator_reset(&w->aggregator, row->state);
    rml_keyed_use(&w->keyed, slot);
    return row;
}
