/*
 * sim_engine - the whole engine in one thread, from a seed, with everything that can befall it.
 *
 *     sim_engine                       the standard seeds; every point must have been hit
 *     sim_engine --minutes 10 --jobs 2 --from 1000
 *                                      other seeds, for so long; one that fails is made small
 *     sim_engine --seed 7 --trace      one, and all that happens in it
 *     sim_engine --twice               each seed two times: does it go the same way?
 *     sim_engine --wrong NAME          built in on purpose: is it found? `all`: each
 *     sim_engine --shrink NAME         and how small does it get?
 *     sim_engine --seed 7 --limits turns=900,producers=1 --without kill_asleep
 *                                      a seed kept to less than it draws (limits.def, points.def)
 */
#include <dirent.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "runtime/base/check.h"
#include "tests/sim/hunt.h"
#include "tests/sim/judge.h"
#include "tests/sim/known.h"
#include "tests/sim/ledger.h"
#include "tests/sim/process.h"
#include "tests/sim/sim.h"
#include "tests/sim/world.h"
#include "tests/support/random.h"

#define SEEDS        50u
#define TURNS        30000u
#define SHRINK_TRIES 120u
#define FIND_SEEDS   400u  // in which a wrong behaviour must be found

static char folder[64];
static char stdout_buffer[1 << 16];

static struct {
    uint64_t first, seeds, turns;
    double minutes;
    uint32_t jobs;
    struct limits limits;
    const char *program, *wrong, *shrink;
    bool is_all;  // of the standard seeds: every point is to be hit
    bool is_twice, is_known;
} options = {.first = 1, .seeds = SEEDS, .turns = TURNS, .jobs = 1, .is_all = true};

static uint64_t turns_so_far(void)
{
    return world_sums().turns;
}

static double now_s(void)
{
    struct timespec now;
    syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void remove_all(const char *path)
{
    DIR *there = opendir(path);
    if (there == NULL)
        return;
    for (struct dirent *entry; (entry = readdir(there)) != NULL;) {
        char inner[400];
        snprintf(inner, sizeof inner, "%.120s/%s", path, entry->d_name);
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (entry->d_type == DT_DIR)
            remove_all(inner);
        else
            remove(inner);
    }
    closedir(there);
    rmdir(path);
}

static void make_folder(void)
{
    snprintf(folder, sizeof folder, "/dev/shm/rml-sim-XXXXXX");
    if (mkdtemp(folder) == NULL) {
        perror(folder);
        exit(1);
    }
}

static void leave(void)
{
    remove_all(folder);
}

static uint64_t run(uint64_t seed)
{
    make_folder();
    limits_print(&options.limits, seed, sim.again, sizeof sim.again);
    uint64_t hash = world_run(seed, options.turns, &options.limits, folder);
    remove_all(folder);
    return hash;
}

static int run_twice(void)
{
    for (uint64_t seed = options.first; seed < options.first + options.seeds; seed++) {
        uint64_t first = run(seed), second = run(seed);
        printf("seed %llu: %016llx, %016llx\n", (unsigned long long)seed, (unsigned long long)first,
               (unsigned long long)second);
        if (first != second)
            return 1;
    }
    return 0;
}

static void print_points(void)
{
    const struct sim_point_count *counts = sim_point_counts();
    for (int i = 0; i < SIM_POINTS; i++) {
        printf("%-32s %12llu %8llu  %s\n", sim_point_name((enum sim_point)i),
               (unsigned long long)counts[i].come_to, (unsigned long long)counts[i].struck,
               sim_point_sentence((enum sim_point)i));
    }
}

static int missed_points(void)
{
    int missed = 0;
    for (int i = 0; i < SIM_POINTS; i++)
        missed += sim_point_counts()[i].struck == 0;
    return missed;
}

// Which points a seed meets is changed by whatever changes the engine's way: a few more may be needed.
static bool is_enough(uint64_t seeds)
{
    bool wants_more = options.is_all && missed_points() > 0;
    return seeds >= options.seeds * (wants_more ? 4 : 1);
}

static int run_seeds(void)
{
    double from = now_s();
    uint64_t all = 0, seed = options.first;
    for (uint64_t i = 0; !is_enough(i); i++, seed++) {
        uint64_t hash = run(seed);
        all = all * 31 + hash;
        if (options.seeds == 1 || sim.is_traced)
            printf("seed %llu: %016llx\n", (unsigned long long)seed, (unsigned long long)hash);
    }
    double took = now_s() - from;
    struct world_sums sums = world_sums();
    int missing = missed_points();
    print_points();
    printf("\nseeds %llu to %llu: %016llx\n", (unsigned long long)options.first,
           (unsigned long long)seed - 1, (unsigned long long)all);
    printf(
        "%llu keepers, %llu engines, %llu checkpoints, %llu steps of partitions, %llu records, %llu rows\n"
        "%llu rows judged, %llu not since a wall clock has a part in them, %llu not of sessions that can be taken back\n",
        (unsigned long long)sums.keepers, (unsigned long long)sums.engines,
        (unsigned long long)sums.checkpoints, (unsigned long long)sums.steps,
        (unsigned long long)sums.records, (unsigned long long)sums.rows,
        (unsigned long long)judge_sums().judged, (unsigned long long)judge_sums().wall_clock,
        (unsigned long long)judge_sums().sessions);
    printf("%llu turns in %.1f s: %.2f million a minute\n", (unsigned long long)sums.turns, took,
           (double)sums.turns / took * 60 / 1e6);
    if (missing > 0 && options.is_all)
        printf("%d points were never hit\n", missing);
    return missing > 0 && options.is_all ? 1 : 0;
}

// A check that fails, or worse: say where in the run that was.
static void hear(const char *sentence)
{
    sim_fail("%s", sentence);
}

static void hear_signal(int number)
{
    signal(number, SIG_DFL);
    sim_fail("signal %d", number);
}

static void run_one(uint64_t seed, const struct limits *limits)
{
    options.limits = *limits;
    (void)run(seed);
}

// The first seed that fails, of so many. Returns how many it took, 0: none did.
static uint64_t find(struct shrink_run *ret_run)
{
    for (uint64_t i = 0; i < FIND_SEEDS; i++) {
        *ret_run = (struct shrink_run){.seed = options.first + i, .limits = options.limits};
        if (shrink_fails(run_one, ret_run))
            return i + 1;
    }
    printf("%s: not found by %u seeds\n", sim_wrong_name(sim.wrong), FIND_SEEDS);
    return 0;
}

static bool find_wrong(void)
{
    struct shrink_run run;
    uint64_t seeds = find(&run);
    if (seeds > 0)
        printf("%-22s found behind %6llu turns of %3llu seeds: %s\n", sim_wrong_name(sim.wrong),
               (unsigned long long)((seeds - 1) * options.turns + run.turn),
               (unsigned long long)seeds, run.why);
    return seeds > 0;
}

// What was made small must fail again, by the command that is printed.
static bool fails_again(const struct shrink_run *run, const char *again)
{
    char command[sizeof sim.again + 100];
    snprintf(command, sizeof command, "exec %s %s > /dev/null 2>&1", options.program, again);
    struct shrink_run same = *run;
    int status = system(command);
    return shrink_fails(run_one, &same) && same.turn == run->turn && status != 0;
}

static bool shrink_wrong(void)
{
    struct shrink_run run;
    if (find(&run) == 0)
        return false;
    uint64_t before = run.turn;
    uint32_t tries = shrink(run_one, &run, SHRINK_TRIES);
    char again[sizeof sim.again];
    limits_print(&run.limits, run.seed, again, sizeof again);
    printf("%s: from %llu turns to %llu, in %u tries: %s\n  sim_engine %s\n",
           sim_wrong_name(sim.wrong), (unsigned long long)before, (unsigned long long)run.turn,
           tries, run.why, again);
    if (!fails_again(&run, again)) {
        printf("and that does not fail\n");
        return false;
    }
    return run.turn < before;  // how much depends on what comes after the seed: see known.h
}

static bool is_in_list(const char *list, const char *name)
{
    size_t length = strlen(name);
    for (const char *at = list; (at = strstr(at, name)) != NULL; at += length) {
        bool begins = at == list || at[-1] == ',';
        if (begins && (at[length] == '\0' || at[length] == ','))
            return true;
    }
    return strcmp(list, "all") == 0;
}

static int each_wrong(const char *list, bool (*is_right)(void))
{
    int wrong = 0, known = 0;
    for (int i = SIM_nothing_wrong + 1; i < SIM_WRONGS; i++) {
        sim.wrong = (enum sim_wrong)i;
        if (!is_in_list(list, sim_wrong_name(sim.wrong)))
            continue;
        known++;
        wrong += !is_right();
    }
    return known > 0 && wrong == 0 ? 0 : 1;
}

static int hunt_seeds(void)
{
    const struct hunt_options wanted = {.minutes = options.minutes,
                                        .first = options.first,
                                        .jobs = options.jobs,
                                        .limits = options.limits,
                                        .turns = turns_so_far,
                                        .records = ledger_records};
    return hunt(run_one, &wanted);
}

/* Arguments */

static bool set_wrong(const char *name)
{
    for (int i = SIM_nothing_wrong + 1; i < SIM_WRONGS; i++) {
        if (strcmp(name, sim_wrong_name((enum sim_wrong)i)) == 0)
            sim.wrong = (enum sim_wrong)i;
    }
    return sim.wrong != SIM_nothing_wrong;
}

static bool read_argument(const char *name, const char *value)
{
    if (strcmp(name, "--seed") == 0) {
        options.first = strtoull(value, NULL, 0);
        options.seeds = 1;
        options.is_all = false;
    } else if (strcmp(name, "--from") == 0) {
        options.first = strtoull(value, NULL, 0);
    } else if (strcmp(name, "--seeds") == 0) {
        options.seeds = strtoull(value, NULL, 0);
        options.is_all = false;
    } else if (strcmp(name, "--minutes") == 0) {
        options.minutes = strtod(value, NULL);
        options.is_all = false;
    } else if (strcmp(name, "--jobs") == 0) {
        options.jobs = (uint32_t)strtoul(value, NULL, 0);
        return options.jobs >= 1 && options.jobs <= 64;
    } else if (strcmp(name, "--turns") == 0) {
        options.turns = strtoull(value, NULL, 0);
    } else if (strcmp(name, "--limits") == 0) {
        return limits_read(&options.limits, value);
    } else if (strcmp(name, "--without") == 0) {
        return limits_read_without(&options.limits, value);
    } else if (strcmp(name, "--only") == 0) {
        return limits_read_only(&options.limits, value);
    } else if (strcmp(name, "--with") == 0) {
        return set_wrong(value);
    } else if (strcmp(name, "--wrong") == 0) {
        options.wrong = value;
    } else if (strcmp(name, "--shrink") == 0) {
        options.shrink = value;
    } else {
        return false;
    }
    return true;
}

static bool read_arguments(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--trace") == 0)
            sim.is_traced = true;
        else if (strcmp(argv[i], "--twice") == 0)
            options.is_twice = true;
        else if (strcmp(argv[i], "--shrink-known") == 0)
            options.is_known = true;
        else if (i + 1 == argc || !read_argument(argv[i], argv[i + 1]))
            return false;
        else
            i++;
    }
    return true;
}

int main(int argc, char **argv)
{
    setvbuf(stdout, stdout_buffer, _IOLBF, sizeof stdout_buffer);
    options.program = argv[0];
    options.limits = limits_none();
    if (!read_arguments(argc, argv)) {
        fprintf(
            stderr,
            "usage: sim_engine [--seed N | --from N] [--seeds N] [--turns N] [--minutes N "
            "[--jobs N]]\n"
            "    [--limits NAME=N,...] [--without POINT,... | --only POINT,...] [--trace] [--twice]\n"
            "    [--with WRONG | --wrong all | --shrink WRONG,... | --shrink-known]\n");
        return 2;
    }
    // a short life would spend its time on clearing large pages
    (void)prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
    process_init();
    atexit(leave);
    rml_check_listen(hear);
    signal(SIGTERM, hear_signal);
    signal(SIGALRM, hear_signal);
    if (!RML_TEST_SLOW)  // a sanitizer says more
        signal(SIGSEGV, hear_signal);
    if (options.wrong != NULL)
        return each_wrong(options.wrong, find_wrong);
    if (options.is_known)
        return known_is_made_small() ? 0 : 1;
    if (options.shrink != NULL)
        return each_wrong(options.shrink, shrink_wrong);
    if (options.minutes > 0)
        return hunt_seeds();
    return options.is_twice ? run_twice() : run_seeds();
}
