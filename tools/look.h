/*
 * look - what a board said at one moment, and what came to pass between two of them.
 */
#ifndef RML_TOOLS_LOOK_H
#define RML_TOOLS_LOOK_H

#include <stdint.h>

#include "runtime/control/board.h"

struct rml_look {
    int64_t at_ns;  // by the machine's monotonic clock
    struct rml_board_totals totals;
    uint64_t asleep_ns[RML_WORKERS_MAX];  // in all, a sleep that goes on included
};

void rml_look_take(struct rml_look *look, const struct rml_board *board, int64_t now_ns);

/* What a counter gained per second; 0 where no time passed. */
double rml_look_rate(const struct rml_look *before, const struct rml_look *after, uint64_t was,
                     uint64_t is);

/* The share of the time, 0 to 1, that a worker was awake. */
double rml_look_busy(const struct rml_look *before, const struct rml_look *after, uint32_t worker);

/* Records that a filter or map handed on, or result rows that a window made. */
uint64_t rml_look_out(const struct rml_look *look, const struct rml_board *board, uint32_t stage);

#endif
