#include "tests/sim/hunt.h"

#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "runtime/base/check.h"
#include "tests/sim/sim.h"

#define JOBS_MAX   64u
#define SAY_EACH_S 10
#define TRIES      400u  // of shrinking

/* One of them, as the parent sees it. */
struct job {
    _Atomic uint64_t seed, runs, turns, records, cpu_ms;
    pid_t child;
};

static struct job *jobs;

static double clock_s(clockid_t which)
{
    struct timespec now;
    syscall(SYS_clock_gettime, which, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void set(_Atomic uint64_t *word, uint64_t value)
{
    // relaxed: statistics, and a seed that is read once its process has ended
    atomic_store_explicit(word, value, memory_order_relaxed);
}

static uint64_t get(const _Atomic uint64_t *word)
{
    // relaxed: likewise
    return atomic_load_explicit(word, memory_order_relaxed);
}

static void run_job(shrink_runner *runner, const struct hunt_options *options, uint32_t number)
{
    int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (nowhere < 0 || dup2(nowhere, STDOUT_FILENO) < 0)
        _exit(2);
    struct job *job = &jobs[number];
    for (uint64_t seed = options->first + number;; seed += options->jobs) {
        set(&job->seed, seed);
        runner(seed, &options->limits);
        set(&job->runs, get(&job->runs) + 1);
        set(&job->turns, options->turns());
        set(&job->records, options->records());
        set(&job->cpu_ms, (uint64_t)(clock_s(CLOCK_PROCESS_CPUTIME_ID) * 1000));
    }
}

static void say(const struct hunt_options *options, double seconds)
{
    uint64_t runs = 0, turns = 0, records = 0, cpu_ms = 1;
    for (uint32_t i = 0; i < options->jobs; i++) {
        runs += get(&jobs[i].runs);
        turns += get(&jobs[i].turns);
        records += get(&jobs[i].records);
        cpu_ms += get(&jobs[i].cpu_ms);
    }
    printf(
        "%6.1f min: %llu seeds from %llu on, %.1f million turns (%.2f million a minute of a processor), "
        "%llu records\n",
        seconds / 60, (unsigned long long)runs, (unsigned long long)options->first,
        (double)turns / 1e6, (double)turns / (double)cpu_ms * 60 / 1000,
        (unsigned long long)records);
    fflush(stdout);
}

// The number of one that has ended, which is one that failed; UINT32_MAX: none has.
static uint32_t ended(const struct hunt_options *options)
{
    int status;
    pid_t child = waitpid(-1, &status, WNOHANG);
    for (uint32_t i = 0; i < options->jobs; i++) {
        if (child > 0 && jobs[i].child == child) {
            jobs[i].child = 0;
            return i;
        }
    }
    return UINT32_MAX;
}

static void end_all(const struct hunt_options *options)
{
    for (uint32_t i = 0; i < options->jobs; i++) {
        if (jobs[i].child <= 0)
            continue;
        kill(jobs[i].child, SIGTERM);
        waitpid(jobs[i].child, NULL, 0);
    }
}

static int report(shrink_runner *runner, const struct hunt_options *options, uint64_t seed)
{
    struct shrink_run run = {.seed = seed, .limits = options->limits};
    printf("seed %llu fails; making it small\n", (unsigned long long)seed);
    fflush(stdout);
    if (!shrink_fails(runner, &run)) {
        printf("seed %llu does not fail alone: what it found was left by the runs before it\n",
               (unsigned long long)seed);
        return 1;
    }
    printf("%s\n", run.why);
    uint32_t tries = shrink(runner, &run, TRIES);
    char again[sizeof sim.again];
    limits_print(&run.limits, run.seed, again, sizeof again);
    printf("behind %u tries: %s\nagain: sim_engine %s\n", tries, run.why, again);
    return 1;
}

int hunt(shrink_runner *runner, const struct hunt_options *options)
{
    RML_CHECK(options->jobs >= 1 && options->jobs <= JOBS_MAX);
    jobs = mmap(NULL, JOBS_MAX * sizeof *jobs, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
                -1, 0);
    RML_CHECK(jobs != MAP_FAILED);
    fflush(stdout);
    for (uint32_t i = 0; i < options->jobs; i++) {
        jobs[i].child = fork();
        RML_CHECK(jobs[i].child >= 0);
        if (jobs[i].child == 0)
            run_job(runner, options, i);
    }
    double from = clock_s(CLOCK_MONOTONIC), said = from, now = from;
    uint32_t failed = UINT32_MAX;
    while (now - from < options->minutes * 60 && failed == UINT32_MAX) {
        const struct timespec pause = {.tv_nsec = 100000000};
        syscall(SYS_nanosleep, &pause, NULL);
        failed = ended(options);
        now = clock_s(CLOCK_MONOTONIC);
        if (now - said >= SAY_EACH_S) {
            say(options, now - from);
            said = now;
        }
    }
    end_all(options);
    say(options, now - from);
    return failed == UINT32_MAX ? 0 : report(runner, options, get(&jobs[failed].seed));
}
