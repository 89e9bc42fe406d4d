#include "tests/sim/shrink.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/sim/sim.h"

#define SEEDS 6u  // for each limit

static uint64_t turn_of(const char *why)
{
    const char *turn = strstr(why, "turn ");
    return turn != NULL ? strtoull(turn + 5, NULL, 10) : 0;
}

static void run_in_child(shrink_runner *runner, const struct shrink_run *run, int said)
{
    alarm(120);
    if (dup2(said, STDOUT_FILENO) < 0 || freopen("/dev/null", "w", stderr) == NULL)
        _exit(2);
    sim.is_traced = false;
    runner(run->seed, &run->limits);
    _exit(0);
}

bool shrink_fails(shrink_runner *runner, struct shrink_run *run)
{
    int pipes[2];
    fflush(stdout);
    if (pipe(pipes) < 0)
        return false;
    pid_t child = fork();
    if (child == 0)
        run_in_child(runner, run, pipes[1]);
    close(pipes[1]);
    FILE *said = fdopen(pipes[0], "r");
    char line[SHRINK_WHY] = "", why[SHRINK_WHY] = "";
    while (said != NULL && fgets(line, sizeof line, said) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        if (strncmp(line, "seed ", 5) == 0)
            memcpy(why, line, sizeof line);
    }
    if (said != NULL)
        fclose(said);
    int status = 0;
    if (child < 0 || waitpid(child, &status, 0) != child || status == 0)
        return false;
    memcpy(run->why, why, sizeof why);
    run->turn = turn_of(why);
    return true;
}

struct shrinking {
    shrink_runner *runner;
    struct shrink_run *best;
    uint32_t tries, tries_max;
};

// With these limits, from the same seed or one of those behind it.
static bool try_limits(struct shrinking *s, const struct limits *limits)
{
    for (uint32_t i = 0; i < SEEDS && s->tries < s->tries_max; i++) {
        struct shrink_run run = {.seed = s->best->seed + i, .limits = *limits};
        s->tries++;
        if (!shrink_fails(s->runner, &run))
            continue;
        *s->best = run;
        return true;
    }
    return false;
}

// At its least; else half of what it is, or three quarters, as often as that goes.
static bool lower(struct shrinking *s, enum sim_limit which, uint64_t from)
{
    struct limits limits = s->best->limits;
    uint64_t now = limits.most[which] < from ? limits.most[which] : from;
    if (now <= limits_least(which))
        return false;
    limits.most[which] = limits_least(which);
    if (try_limits(s, &limits))
        return true;
    bool any = false;
    for (uint64_t quarters = 2; quarters < 4 && now * quarters / 4 > limits_least(which);) {
        limits = s->best->limits;
        limits.most[which] = now * quarters / 4;
        if (limits.most[which] == now || !try_limits(s, &limits)) {
            quarters++;
            continue;
        }
        now = limits.most[which];
        any = true;
    }
    return any;
}

static bool lower_all(struct shrinking *s)
{
    // what it is worth to begin with, where there is no limit yet
    static const uint64_t from[LIMITS] = {
        [LIMIT_faults] = 16, [LIMIT_producers] = 6, [LIMIT_partitions] = 4,
        [LIMIT_workers] = 4, [LIMIT_windows] = 4,   [LIMIT_extras] = 1,
        [LIMIT_doors] = 1,   [LIMIT_keys] = 32,     [LIMIT_burst] = 8,
    };
    bool any = false;
    for (int i = 0; i < LIMITS; i++) {
        bool is_time = i == LIMIT_turns || i == LIMIT_fault_turns;
        any |= lower(s, (enum sim_limit)i, is_time ? s->best->turn + 1 : from[i]);
    }
    return any;
}

// Many points at once first.
static bool leave_out(struct shrinking *s)
{
    bool any = false;
    for (uint32_t size = SIM_POINTS / 2; size > 0; size /= 2) {
        for (uint32_t at = 0; at < SIM_POINTS && s->best->limits.most[LIMIT_faults] > 0;
             at += size) {
            struct limits limits = s->best->limits;
            limits.without |= (SIM_BIT(size) - 1) << at;
            limits.without &= SIM_BIT(SIM_POINTS) - 1;
            if (limits.without != s->best->limits.without)
                any |= try_limits(s, &limits);
        }
    }
    return any;
}

uint32_t shrink(shrink_runner *runner, struct shrink_run *run, uint32_t tries_max)
{
    struct shrinking s = {.runner = runner, .best = run, .tries_max = tries_max};
    while (s.tries < s.tries_max && lower_all(&s))
        continue;
    if (leave_out(&s))
        (void)lower_all(&s);
    return s.tries;
}
