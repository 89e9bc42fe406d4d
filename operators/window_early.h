/*
 * window_early - results that triggers bring before a window fires.
 */
#ifndef RML_OPERATORS_WINDOW_EARLY_H
#define RML_OPERATORS_WINDOW_EARLY_H

#include "operators/window_state.h"

/* To what moment results belong that are given between the ends of windows, at this watermark ... */
int64_t rml_window_fire_between(const struct rml_window *w, int64_t watermark);

/* ... or by record `at` of a run. */
int64_t rml_window_fire_at_record(const struct rml_window *w, const struct rml_run *run,
                                  uint16_t at);

/* Counts a record that was taken: may it have brought an early result? With a trigger of records only. */
bool rml_window_is_due(struct rml_window *w, int64_t index, const struct rml_pane_row *row,
                       uint32_t slot);

/* Record `at` of the run, for which that is so, has come to a slot of a pane: give what is due. */
void rml_window_show_due(struct rml_window *w, const struct rml_run *run, uint16_t at,
                         int64_t index, uint32_t slot);

/* Of the operator: the wall clock is at `now`. */
void rml_window_tick(struct rml_operator *op, int64_t now, int64_t watermark);

#endif
