#include "tests/sim/sim.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/check.h"
#include "tests/sim/atoms.h"
#include "tests/sim/fibers.h"
#include "tests/sim/process.h"
#include "tests/support/random.h"

#define LINES      64  // of what happened last
#define LINE_BYTES 160
#define WALL_NS    INT64_C(1700000000000000000)
#define LOOK_NS    700  // that a look at the clock takes

struct sim sim;

static uint64_t chance;
static struct sim_point_count counts[SIM_POINTS];
static char lines[LINES][LINE_BYTES];
static uint64_t line_count;

static const struct {
    const char *name, *sentence;
    uint32_t one_in;
} points[] = {

#define SIM_POINT(name, one_in, sentence) {#name, sentence, one_in},
#include "tests/sim/points.def"
};

static const char *const wrongs[] = {
    "nothing",
#define SIM_WRONG(name, sentence) #name,
#include "tests/sim/wrongs.def"
};

static struct {
    enum sim_door door;
    bool is_asleep;
    int64_t until_ns;
} fibers[FIBERS_MAX];

static enum sim_door last_door;
static bool is_hushed;
static uint64_t atoms_left;  // before the next one that is a door

void sim_begin(uint64_t seed)
{
    sim.seed = seed;
    sim.turns = 0;
    sim.now_ns = 1000000000;
    sim.wall_ahead_ns = WALL_NS;
    sim.is_calm = sim.is_full = false;
    sim.atoms_each = 0;
    atoms_left = 0;
    sim.hash = seed;
    chance = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
    line_count = 0;
    memset(fibers, 0, sizeof fibers);
}

uint64_t sim_draw(uint64_t below)
{
    return (rml_test_random(&chance) >> 11) % below;
}

/* Doors */

void sim_door(enum sim_door door)
{
    uint32_t fiber = fiber_now();
    last_door = door;
    if (fiber == FIBERS_NONE)
        return;
    fibers[fiber].door = door;
    bool was = process_turn(false);
    fiber_pause();
    process_turn(was);
    fibers[fiber].door = DOOR_NONE;
}

bool sim_go_outside(void)
{
    is_hushed = true;
    return process_turn(false);
}

void sim_go_back(bool was)
{
    is_hushed = false;
    process_turn(was);
}

void sim_atom(void)
{
    if (sim.atoms_each == 0 || is_hushed || fiber_now() == FIBERS_NONE)
        return;
    if (atoms_left > 0) {
        atoms_left--;
        return;
    }
    atoms_left = sim_draw(2 * (uint64_t)sim.atoms_each);
    sim_door(DOOR_ATOM);
}

enum sim_door sim_last_door(void)
{
    return last_door;
}

void sim_sleep(bool (*is_over)(void *context), void *context, int64_t until_ns)
{
    uint32_t fiber = fiber_now();
    RML_CHECK(fiber != FIBERS_NONE);
    fibers[fiber].until_ns = until_ns;
    while (!is_over(context) && sim.now_ns < until_ns) {
        fibers[fiber].is_asleep = true;
        sim_door(DOOR_SLEEP);
    }
    fibers[fiber].is_asleep = false;
    fibers[fiber].until_ns = INT64_MAX;
}

int64_t sim_wakes_at(uint32_t fiber)
{
    return fibers[fiber].is_asleep ? fibers[fiber].until_ns : INT64_MAX;
}

bool sim_is_asleep(uint32_t fiber)
{
    return fibers[fiber].is_asleep;
}

/* Points */

bool sim_strikes(enum sim_point point)
{
    counts[point].come_to++;
    if (sim.is_calm || sim.faults_of == 0 || (sim.without >> point & 1) != 0)
        return false;
    bool strikes = sim_draw((uint64_t)points[point].one_in * 4) < sim.faults_of;
    if (strikes)
        sim_struck(point);
    return strikes;
}

void sim_count(enum sim_point point)
{
    counts[point].come_to++;
    counts[point].struck++;
}

void sim_struck(enum sim_point point)
{
    counts[point].struck++;
    sim_say("! %s", points[point].name);
}

const struct sim_point_count *sim_point_counts(void)
{
    return counts;
}

const char *sim_point_name(enum sim_point point)
{
    return points[point].name;
}

const char *sim_point_sentence(enum sim_point point)
{
    return points[point].sentence;
}

const char *sim_wrong_name(enum sim_wrong wrong)
{
    return wrongs[wrong];
}

/* What happened */

void sim_mix(uint64_t word)
{
    sim.hash = (sim.hash ^ word) * UINT64_C(0x9e3779b97f4a7c15);
    sim.hash ^= sim.hash >> 29;
}

void sim_say(const char *format, ...)
{
    char *line = lines[line_count++ % LINES];
    int used = snprintf(line, LINE_BYTES, "%8llu %11.3f us  ", (unsigned long long)sim.turns,
                        (double)sim.now_ns / 1000);
    va_list more;
    va_start(more, format);
    vsnprintf(line + used, (size_t)(LINE_BYTES - used), format, more);
    va_end(more);
    for (const char *at = line; *at != '\0'; at++)
        sim_mix((unsigned char)*at);
    if (sim.is_traced) {
        bool was = process_turn(false);
        puts(line);
        process_turn(was);
    }
}

void sim_fail(const char *format, ...)
{
    process_turn(false);
    uint64_t from = line_count > LINES ? line_count - LINES : 0;
    for (uint64_t i = from; i < line_count && !sim.is_traced; i++)
        puts(lines[i % LINES]);
    printf("seed %llu, turn %llu%s%s: ", (unsigned long long)sim.seed,
           (unsigned long long)sim.turns, sim.wrong != SIM_nothing_wrong ? ", built in: " : "",
           sim.wrong != SIM_nothing_wrong ? wrongs[sim.wrong] : "");
    va_list more;
    va_start(more, format);
    vprintf(format, more);
    va_end(more);
    printf("\nagain, and all of it: sim_engine %s --trace\n", sim.again);
    fflush(stdout);
    exit(1);
}

/* Time */

static int64_t monotonic_ns(void *context)
{
    (void)context;
    sim_door(DOOR_CLOCK);
    return sim.now_ns += LOOK_NS;
}

static int64_t wall_ns(void *context)
{
    (void)context;
    return sim.now_ns + sim.wall_ahead_ns;
}

const struct rml_clock sim_clock = {.wall_ns = wall_ns, .monotonic_ns = monotonic_ns};
