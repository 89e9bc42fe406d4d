/*
 * hunt - seed after seed on several cores, for so long, until one fails; that is made small.
 */
#ifndef TESTS_SIM_HUNT_H
#define TESTS_SIM_HUNT_H

#include <stdint.h>

#include "tests/sim/shrink.h"

struct hunt_options {
    double minutes;
    uint64_t first;  // seed
    uint32_t jobs;
    struct limits limits;
    uint64_t (*turns)(void);    // of all runs of this process so far
    uint64_t (*records)(void);  // likewise
};

/* Says how far it is every ten seconds. Returns what a program exits with: 1 when a seed failed. */
int hunt(shrink_runner *runner, const struct hunt_options *options);

#endif
