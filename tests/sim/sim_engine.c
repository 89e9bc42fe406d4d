/*
 * sim_engine - the whole engine in one thread, from a seed, with everything that can befall it.
 *
 *     sim_engine                       the standard seeds; every point must have been hit
 *     sim_engine --minutes 10          other seeds, for so long
 *     sim_engine --seed 7 --trace      one, and all that happens in it
 *     sim_engine --twice               each seed two times: does it go the same way?
 *     sim_engine --wrong NAME          built in on purpose: is it found? `all`: each
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
#include "tests/sim/judge.h"
#include "tests/sim/process.h"
#include "tests/sim/sim.h"
#include "tests/sim/world.h"
#include "tests/support/random.h"

#define SEEDS      50u
#define TURNS      30000u
#define FIND_SEEDS 400u  // in which a wrong behaviour must be found

static char folder[64];
static char stdout_buffer[1 << 16];

static struct {
    uint64_t first, seeds, turns;
    double minutes;
    const char *wrong;
    bool is_all;  // of the standard seeds: every point is to be hit
    bool is_twice;
} options = {.first = 1, .seeds = SEEDS, .turns = TURNS, .is_all = true};

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
    uint64_t hash = world_run(seed, options.turns, folder);
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
static bool is_enough(uint64_t seeds, double seconds)
{
    if (options.minutes > 0)
        return seconds >= options.minutes * 60;
    bool wants_more = options.is_all && missed_points() > 0;
    return seeds >= options.seeds * (wants_more ? 4 : 1);
}

static int run_seeds(void)
{
    double from = now_s();
    uint64_t all = 0, seed = options.first;
    for (uint64_t i = 0; !is_enough(i, now_s() - from); i++, seed++) {
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
        "%llu keepers, %llu engines, %llu checkpoints, %llu steps of partitions, %llu records, %llu rows, %llu of them judged\n",
        (unsigned long long)sums.keepers, (unsigned long long)sums.engines,
        (unsigned long long)sums.checkpoints, (unsigned long long)sums.steps,
        (unsigned long long)sums.records, (unsigned long long)sums.rows,
        (unsigned long long)judge_rows_judged());
    printf("%llu turns in %.1f s: %.2f million a minute\n", (unsigned long long)sums.turns, took,
           (double)sums.turns / took * 60 / 1e6);
    if (missing > 0 && options.is_all)
        printf("%d points were never hit\n", missing);
    return missing > 0 && options.is_all ? 1 : 0;
}

/* A run in a process of its own. Returns whether it failed, and what it said last but one. */
static bool fails(uint64_t seed, char why[300])
{
    int pipes[2];
    fflush(stdout);
    if (pipe(pipes) < 0)
        return false;
    pid_t child = fork();
    if (child == 0) {
        alarm(120);
        if (dup2(pipes[1], STDOUT_FILENO) < 0 || freopen("/dev/null", "w", stderr) == NULL)
            _exit(2);
        (void)run(seed);
        _exit(0);
    }
    close(pipes[1]);
    FILE *said = fdopen(pipes[0], "r");
    char line[300] = "";
    why[0] = '\0';
    while (said != NULL && fgets(line, sizeof line, said) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        if (strncmp(line, "seed ", 5) == 0)
            memcpy(why, line, sizeof line);
    }
    if (said != NULL)
        fclose(said);
    int status = 0;
    waitpid(child, &status, 0);
    return status != 0;
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

// "seed 7, turn 1234, ..."
static uint64_t turns_of(const char *why)
{
    const char *turn = strstr(why, "turn ");
    return turn != NULL ? strtoull(turn + 5, NULL, 10) : 0;
}

static int find_wrong(enum sim_wrong wrong)
{
    sim.wrong = wrong;
    for (uint64_t seed = options.first; seed < options.first + FIND_SEEDS; seed++) {
        char why[300];
        if (!fails(seed, why))
            continue;
        printf("%-22s found behind %6llu turns of %3llu seeds: %s\n", sim_wrong_name(wrong),
               (unsigned long long)((seed - options.first) * options.turns + turns_of(why)),
               (unsigned long long)(seed - options.first + 1), why);
        return 0;
    }
    printf("%s: not found by %u seeds\n", sim_wrong_name(wrong), FIND_SEEDS);
    return 1;
}

static int find_wrongs(void)
{
    int missed = 0, known = 0;
    for (int i = SIM_nothing_wrong + 1; i < SIM_WRONGS; i++) {
        bool is_wanted = strcmp(options.wrong, "all") == 0
                         || strcmp(options.wrong, sim_wrong_name((enum sim_wrong)i)) == 0;
        if (!is_wanted)
            continue;
        known++;
        missed += find_wrong((enum sim_wrong)i);
    }
    return known > 0 && missed == 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
    setvbuf(stdout, stdout_buffer, _IOLBF, sizeof stdout_buffer);
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (strcmp(argv[i], "--trace") == 0) {
            sim.is_traced = true;
            continue;
        }
        if (strcmp(argv[i], "--twice") == 0) {
            options.is_twice = true;
            continue;
        }
        if (strcmp(argv[i], "--seed") == 0) {
            options.first = strtoull(value, NULL, 0);
            options.seeds = 1;
            options.is_all = false;
        } else if (strcmp(argv[i], "--seeds") == 0) {
            options.seeds = strtoull(value, NULL, 0);
            options.is_all = false;
        } else if (strcmp(argv[i], "--minutes") == 0) {
            options.minutes = strtod(value, NULL);
            options.first = 1000;
            options.is_all = false;
        } else if (strcmp(argv[i], "--turns") == 0) {
            options.turns = strtoull(value, NULL, 0);
        } else if (strcmp(argv[i], "--wrong") == 0) {
            options.wrong = value;
        } else {
            fprintf(stderr, "usage: sim_engine [--seed N] [--seeds N] [--turns N] [--minutes N] "
                            "[--trace] [--twice] [--wrong NAME]\n");
            return 2;
        }
        i++;
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
    return options.wrong != NULL ? find_wrongs() : options.is_twice ? run_twice() : run_seeds();
}
