#include "tests/sim/known.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "tests/sim/limits.h"
#include "tests/sim/shrink.h"

#define TURNS 50000u  // at which it fails by itself
#define TRIES 2000u

/* What it takes; 0: as little as there can be. Two of the points strike in it, and not with every third seed. */
static const uint64_t needed[LIMITS] = {
    [LIMIT_turns] = 700, [LIMIT_faults] = 2,  [LIMIT_producers] = 3,
    [LIMIT_keys] = 9,    [LIMIT_windows] = 2,
};

#define POINTS_NEEDED (SIM_BIT(3) | SIM_BIT(40))

static void run_known(uint64_t seed, const struct limits *limits)
{
    bool fails = seed % 3 != 0 && (limits->without & POINTS_NEEDED) == 0;
    for (int i = 0; i < LIMITS; i++)
        fails &= limits->most[i] >= needed[i];
    if (!fails)
        return;
    printf("seed %" PRIu64 ", turn %" PRIu64 ", known\n", seed,
           limits_keep(limits, LIMIT_turns, TURNS));
    fflush(stdout);
    _exit(1);
}

// Three quarters of it would be too little.
static bool is_small(uint64_t most, uint64_t needs)
{
    return most >= needs && most * 3 / 4 < needs;
}

bool known_is_made_small(void)
{
    struct shrink_run run = {.seed = 1, .limits = limits_none()};
    if (!shrink_fails(run_known, &run))
        return false;
    uint32_t tries = shrink(run_known, &run, TRIES);
    char again[sizeof sim.again];
    limits_print(&run.limits, run.seed, again, sizeof again);
    printf("known: in %u tries: %s\n", tries, again);
    bool is = tries < TRIES && run.limits.without == ((SIM_BIT(SIM_POINTS) - 1) & ~POINTS_NEEDED);
    for (int i = 0; i < LIMITS; i++) {
        uint64_t least = limits_least((enum sim_limit)i);
        is &= needed[i] > least ? is_small(run.limits.most[i], needed[i])
                                : run.limits.most[i] == least;
    }
    return is && shrink_fails(run_known, &run);
}
