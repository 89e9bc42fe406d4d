/*
 * sim - what all parts of the simulation share: chance, time, what happened, and where the engine stands.
 *
 * One seed decides everything. All that happens goes into one hash, in order: a seed that gives the same
 * hash again went the same way.
 */
#ifndef TESTS_SIM_SIM_H
#define TESTS_SIM_SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/time/clock.h"

/* Points at which something can fail. */
enum sim_point {

#define SIM_POINT(name, one_in, sentence) SIM_##name,
#include "tests/sim/points.def"
    SIM_POINTS
};

/* Points, a bit for each. */
__extension__ typedef unsigned __int128 sim_points;

#define SIM_BIT(point) ((sim_points)1 << (point))

/* What is wrong on purpose. */
enum sim_wrong {
    SIM_nothing_wrong,

#define SIM_WRONG(name, sentence) SIM_##name,
#include "tests/sim/wrongs.def"
    SIM_WRONGS
};

/* Doors: where the engine's code calls out, and others get a turn. */
enum sim_door {
    DOOR_NONE,
    DOOR_CLOCK,
    DOOR_SPIN,
    DOOR_SLEEP,
    DOOR_BELL,
    DOOR_KEEP,
    DOOR_KEPT,
    DOOR_THREAD,
    DOOR_NAME,
    DOOR_EXTENTS_WRITE,
    DOOR_EXTENTS_REAP,
    DOOR_EXTENTS_FLUSH,
    DOOR_JOURNAL_WRITE,
    DOOR_JOURNAL_REAP,
    DOOR_JOURNAL_FLUSH,
    DOOR_CATALOG_WRITE,
    DOOR_CATALOG_FLUSH,
    DOOR_FILE_WRITE,
    DOOR_FILE_WRITTEN,
    DOOR_FILE_FLUSH,
    DOOR_FILE_CUT,
    DOOR_ATOM,
    DOORS
};

extern struct sim {
    uint64_t seed;
    uint64_t turns;  // given so far
    int64_t now_ns;  // monotonic
    int64_t wall_ahead_ns;
    enum sim_wrong wrong;
    bool is_traced;       // print all that happens
    bool is_calm;         // nothing fails any more
    bool is_full;         // the disk: a part of the last write of rows found room
    uint32_t atoms_each;  // one access to shared words in about so many is a door; 0: none is
    uint32_t faults_of;   // points strike so many times as often as they say, in quarters
    sim_points without;   // those that do not
    uint64_t hash;
    char again[2600];  // the arguments of a command that does it again
} sim;

void sim_begin(uint64_t seed);

uint64_t sim_draw(uint64_t below);

/* In the engine's threads and in producers: others get a turn. */
void sim_door(enum sim_door door);

/* In a thread of the engine, or a producer: what comes between these is not its doing, and no access is a door. */
bool sim_go_outside(void);
void sim_go_back(bool was);

/* The door at which the fiber that had the last turn stands. */
enum sim_door sim_last_door(void);

/* Something else sleeps in such a fiber until `is_over` says so or the time has come; INT64_MAX: never. */
void sim_sleep(bool (*is_over)(void *context), void *context, int64_t until_ns);

/* When the fiber that sleeps longest wants to be woken, INT64_MAX: never; is one asleep? */
int64_t sim_wakes_at(uint32_t fiber);
bool sim_is_asleep(uint32_t fiber);

/* Does it fail here? Counts both. */
bool sim_strikes(enum sim_point point);

/* It failed here; the same of what is too common to be told. */
void sim_struck(enum sim_point point);
void sim_count(enum sim_point point);

struct sim_point_count {
    uint64_t come_to, struck;
};

const struct sim_point_count *sim_point_counts(void);
const char *sim_point_name(enum sim_point point);
const char *sim_point_sentence(enum sim_point point);
const char *sim_wrong_name(enum sim_wrong wrong);

/* Note what happened: into the hash, and into the list of what happened last. */
__attribute__((format(printf, 1, 2))) void sim_say(const char *format, ...);

/* Numbers that are part of what happens and too many to be told. */
void sim_mix(uint64_t word);

/* The promise is broken: print the seed, what happened last, and how to see it again; exit 1. */
__attribute__((noreturn, format(printf, 1, 2))) void sim_fail(const char *format, ...);

extern const struct rml_clock sim_clock;

#endif
