/*
 * knock - how a producer sleeps until the engine knocks, and wakes workers that sleep.
 *
 * What has to be stored and looked at before and after is layout.h's (SLEEP); the calls here are what is
 * done in between.
 */
#ifndef RML_LANE_KNOCK_H
#define RML_LANE_KNOCK_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/lane/layout.h"

struct rml_knock {
    int room;             // a socket that the engine knocks at
    int peer;             // its end is the engine's; -1: none
    int64_t wait_max_ns;  // 0: not at all; < 0: for ever
    uint64_t waits;       // times slept
    bool is_gone;         // the engine was seen to be, and its keeper
    int64_t look_ns;      // of CLOCK_MONOTONIC_COARSE: not to be looked at the peer again before
};

/* When a wait that begins now ends. */
int64_t rml_knock_until(const struct rml_knock *knock);

/* Sleep until somebody knocks, the engine is gone, or the time is up: 0 (also for no reason), -EPIPE or
 * -ETIMEDOUT. */
int rml_knock_wait(struct rml_knock *knock, int64_t until_ns);

/*
 * Look whether the engine is gone, and its keeper: who is killed leaves no word in a lane, and a producer with
 * much room, and little to write, would not sleep and learn of it for hours. A system call ten times a second
 * at most, else a look at a clock.
 */
bool rml_knock_is_gone(struct rml_knock *knock);

/* The workers of a lane, as a producer wakes them: once for each sleep. */
struct rml_ringing {
    const struct rml_lane_sleep_line *sleepers;
    const int *wake;
    uint32_t workers;
    uint64_t rings;
    uint64_t rung_for[RML_LANE_WORKERS_MAX];
};

/*
 * Something was published, and counted, in partitions of `workers` (a bit for each): ring those that sleep. All of
 * them when the producer's time came from `before` to a new step of a grid, for then a window may be due
 * where no record went; an exact grid has a step for every time, and there nobody is woken for time alone.
 */
void rml_ringing_ring(struct rml_ringing *ringing, uint64_t workers, struct rml_lane_grid grid,
                      int64_t before, int64_t time);

#endif
