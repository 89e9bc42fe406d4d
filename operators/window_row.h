/*
 * window_row - write one result row of a window stage, of whatever kind its windows are.
 */
#ifndef RML_OPERATORS_WINDOW_ROW_H
#define RML_OPERATORS_WINDOW_ROW_H

#include "operators/aggregate.h"
#include "operators/keyed.h"

struct rml_window_row {
    int64_t start, end;
    int64_t length_ns;  // of the window, also where its bounds are cut at the ends of time
    int64_t fire;       // see struct rml_result_row
    uint32_t slot;
    uint32_t revision;
    uint64_t records;
    bool evicted;       // before its time, to make room
    const void *state;  // NULL: the result is retracted, its aggregates are null or 0
    bool is_partial;    // its window has not fired
};

/* Count a row out and, where somebody reads it, write it. */
void rml_window_row_emit(const struct rml_operator_env *env, const struct rml_keyed *keyed,
                         const struct rml_aggregator *aggregator, const struct rml_window_row *row);

#endif
