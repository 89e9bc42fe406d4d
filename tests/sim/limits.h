/*
 * limits - what a run is kept to beside its seed, and how that is written in a command.
 */
#ifndef TESTS_SIM_LIMITS_H
#define TESTS_SIM_LIMITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/sim/sim.h"

enum sim_limit {

#define SIM_LIMIT(name, least, sentence) LIMIT_##name,
#include "tests/sim/limits.def"
    LIMITS
};

#define LIMIT_NONE UINT64_MAX

struct limits {
    uint64_t most[LIMITS];
    sim_points without;  // those that do not strike
};

struct limits limits_none(void);

/* What was drawn, or less. */
uint64_t limits_keep(const struct limits *limits, enum sim_limit which, uint64_t drawn);

uint64_t limits_least(enum sim_limit which);

/* "producers=1,keys=2", and names of points; false: there is no such thing. */
bool limits_read(struct limits *limits, const char *text);
bool limits_read_without(struct limits *limits, const char *text);
bool limits_read_only(struct limits *limits, const char *text);

/* A command's arguments that make a run again, but for --trace. */
void limits_print(const struct limits *limits, uint64_t seed, char *text, size_t bytes);

#endif
