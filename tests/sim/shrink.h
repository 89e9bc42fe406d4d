/*
 * shrink - a run that fails is made small: shorter, with fewer producers, windows and keys, and fewer sorts of faults,
 * as long as it still fails. (A. Zeller, R. Hildebrandt, "Simplifying and Isolating Failure-Inducing Input", 2002.)
 *
 * A run with another limit is another run from its first draw on, so for each limit some seeds are tried. Each
 * try is a process of its own.
 */
#ifndef TESTS_SIM_SHRINK_H
#define TESTS_SIM_SHRINK_H

#include <stdbool.h>
#include <stdint.h>

#include "tests/sim/limits.h"

#define SHRINK_WHY 300

struct shrink_run {
    uint64_t seed;
    struct limits limits;
    uint64_t turn;         // at which it failed
    char why[SHRINK_WHY];  // and what it said then
};

/* What runs, in a process that ends when that returns. */
typedef void shrink_runner(uint64_t seed, const struct limits *limits);

/* Does it fail? Then run->turn and run->why are told. */
bool shrink_fails(shrink_runner *runner, struct shrink_run *run);

/* Make one that fails small, in at most so many tries. Returns how many it took. */
uint32_t shrink(shrink_runner *runner, struct shrink_run *run, uint32_t tries_max);

#endif
