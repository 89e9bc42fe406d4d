/*
 * world - one run of the simulation: a pipeline, producers, a keeper and its engines, and what befalls them.
 *
 * The engine is the one that `ringmill run` has: its control thread, workers, writer and checkpointer are
 * fibers that begin where threads would. In each turn one of them, a producer, the clock or fate moves.
 */
#ifndef TESTS_SIM_WORLD_H
#define TESTS_SIM_WORLD_H

#include <stdint.h>

struct limits;

struct world_sums {
    uint64_t turns, engines, keepers, checkpoints, records, steps, rows;
};

/* One run from its beginning to its end, of so many turns where no limit says less; sim.wrong is set by the caller.
 * Files go to `folder`, which exists and is empty. Returns the hash of all that happened. */
uint64_t world_run(uint64_t seed, uint64_t turns, const struct limits *limits, const char *folder);

/* Of all runs. */
struct world_sums world_sums(void);

/* Of doors.c: a thread of the engine begins; it has ended and is forgotten. */
void world_add_thread(uint32_t fiber);
void world_drop_thread(uint32_t fiber);
void world_name_thread(uint32_t fiber, const char *name);

#endif
