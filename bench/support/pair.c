#include "bench/support/pair.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "runtime/ring/stream.h"

#define PROBE_CHUNKS 9
#define PROBE_TRIPS  32
#define JOB_STOP     UINT32_MAX
#define LINES_BYTES  4096

const char *const bench_class_name[BENCH_CLASSES] = {"near", "mid", "far"};

struct bench_pair_lines {
    alignas(128) _Atomic uint32_t ordered;  // orders ever given, by the first side
    uint32_t job;                           // carried by bench.order
    alignas(128) _Atomic uint32_t done;     // orders ever done, by the second
    long preempted;                         // carried by bench.done
    alignas(128) _Atomic uint32_t ping;
    alignas(128) _Atomic uint32_t pong;
};

_Static_assert(sizeof(struct bench_pair_lines) <= LINES_BYTES, "one page");

static int64_t clock_ns(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

int64_t bench_now_ns(void)
{
    return clock_ns(CLOCK_MONOTONIC);
}

int64_t bench_cpu_ns(void)
{
    return clock_ns(CLOCK_THREAD_CPUTIME_ID);
}

void bench_wait(uint32_t *spins)
{
    if (++*spins % 4096 == 0)
        sched_yield();
    else
        rml_pause();
}

// In a probe nothing but the line's way is to take time, so there is no pause.
static void probe_wait(uint32_t *spins)
{
    if (++*spins % 65536 == 0)
        sched_yield();
}

static long preemptions(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_nivcsw;
}

static int by_value(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

// The first side sends; the median of a few chunks is robust against one interruption.
static double probe_send(struct bench_pair_lines *lines)
{
    double chunk_ns[PROBE_CHUNKS];
    // relaxed: our own word, which goes on from probe to probe
    uint32_t trip = atomic_load_explicit(&lines->ping, memory_order_relaxed);
    for (int chunk = 0; chunk < PROBE_CHUNKS; chunk++) {
        int64_t start = bench_now_ns();
        for (int i = 0; i < PROBE_TRIPS; i++) {
            trip++;
            // release: bench.ping
            atomic_store_explicit(&lines->ping, trip, memory_order_release);
            uint32_t spins = 0;
            // acquire: bench.pong
            while (atomic_load_explicit(&lines->pong, memory_order_acquire) != trip)
                probe_wait(&spins);
        }
        chunk_ns[chunk] = (double)(bench_now_ns() - start) / PROBE_TRIPS;
    }
    qsort(chunk_ns, PROBE_CHUNKS, sizeof(double), by_value);
    return chunk_ns[PROBE_CHUNKS / 2];
}

static void probe_answer(struct bench_pair_lines *lines)
{
    // relaxed: our own word
    uint32_t trip = atomic_load_explicit(&lines->pong, memory_order_relaxed);
    for (int i = 0; i < PROBE_CHUNKS * PROBE_TRIPS; i++) {
        trip++;
        uint32_t spins = 0;
        // acquire: bench.ping
        while (atomic_load_explicit(&lines->ping, memory_order_acquire) != trip)
            probe_wait(&spins);
        // release: bench.pong
        atomic_store_explicit(&lines->pong, trip, memory_order_release);
    }
}

static void give_order(struct bench_pair_lines *lines, uint32_t job)
{
    lines->job = job;
    // relaxed: our own word
    uint32_t number = atomic_load_explicit(&lines->ordered, memory_order_relaxed) + 1;
    // release: bench.order
    atomic_store_explicit(&lines->ordered, number, memory_order_release);
}

static uint32_t take_order(struct bench_pair_lines *lines, uint32_t number)
{
    uint32_t spins = 0;
    // acquire: bench.order
    while (atomic_load_explicit(&lines->ordered, memory_order_acquire) != number)
        bench_wait(&spins);
    return lines->job;
}

static void report_done(struct bench_pair_lines *lines, uint32_t number)
{
    // release: bench.done
    atomic_store_explicit(&lines->done, number, memory_order_release);
}

static void await_done(struct bench_pair_lines *lines)
{
    uint32_t spins = 0;
    // relaxed: our own word
    uint32_t number = atomic_load_explicit(&lines->ordered, memory_order_relaxed);
    // acquire: bench.done
    while (atomic_load_explicit(&lines->done, memory_order_acquire) != number)
        bench_wait(&spins);
}

// A job is three orders: probe, part, probe.
static void serve(struct bench_pair_lines *lines, void *memory, bench_part *part)
{
    for (uint32_t number = 1;; number += 3) {
        if (take_order(lines, number) == JOB_STOP)
            _exit(0);
        long before = preemptions();
        probe_answer(lines);
        report_done(lines, number);

        part(memory, take_order(lines, number + 1));
        report_done(lines, number + 1);

        take_order(lines, number + 2);
        probe_answer(lines);
        lines->preempted = preemptions() - before;
        report_done(lines, number + 2);
    }
}

static int choose_cpus(cpu_set_t *ret_allowed, size_t cpus[2])
{
    if (sched_getaffinity(0, sizeof *ret_allowed, ret_allowed) < 0)
        return -errno;
    int found = 0;
    for (size_t cpu = 0; cpu < CPU_SETSIZE && found < 2; cpu++)
        if (CPU_ISSET(cpu, ret_allowed))
            cpus[found++] = cpu;
    return found < 2 ? -ENODEV : 0;
}

static int stay_on(size_t cpu)
{
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    return sched_setaffinity(0, sizeof one, &one) < 0 ? -errno : 0;
}

int bench_stay_on(uint32_t which)
{
    static cpu_set_t allowed;
    static size_t cpus[2];
    static int rc = 1;
    if (rc == 1)
        rc = choose_cpus(&allowed, cpus);
    if (rc == 0 && which == BENCH_ANYWHERE)
        return sched_setaffinity(0, sizeof allowed, &allowed) < 0 ? -errno : 0;
    return rc < 0 ? rc : stay_on(cpus[which]);
}

// The first side may be waiting for the child anywhere, also in a job of the caller's.
static void child_is_gone(int signal)
{
    static const char text[] = "bench: the second process died; nothing was measured\n";
    (void)signal;
    (void)!write(STDERR_FILENO, text, sizeof text - 1);
    _exit(1);
}

static void watch_child(bool on)
{
    struct sigaction action = {.sa_handler = on ? child_is_gone : SIG_DFL,
                               .sa_flags = SA_NOCLDSTOP};
    sigaction(SIGCHLD, &action, NULL);
}

int bench_pair_open(struct bench_pair *pair, size_t memory_bytes, bench_part *part)
{
    size_t cpus[2] = {0};
    cpu_set_t allowed;
    int rc = choose_cpus(&allowed, cpus);
    if (rc < 0)
        return rc;
    unsigned char *memory = mmap(NULL, LINES_BYTES + memory_bytes, PROT_READ | PROT_WRITE,
                                 MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (memory == MAP_FAILED)
        return -errno;
    *pair = (struct bench_pair){.lines = (void *)memory,
                                .memory = memory + LINES_BYTES,
                                .memory_bytes = memory_bytes,
                                .allowed = allowed};
    pid_t parent = getpid();
    watch_child(true);
    pair->peer = fork();
    if (pair->peer < 0) {
        rc = -errno;
        watch_child(false);
        munmap(memory, LINES_BYTES + memory_bytes);
        return rc;
    }
    if (pair->peer == 0) {
        watch_child(false);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent || stay_on(cpus[1]) < 0)
            _exit(1);
        serve(pair->lines, pair->memory, part);
    }
    rc = stay_on(cpus[0]);
    if (rc < 0)
        bench_pair_close(pair);
    return rc;
}

void bench_pair_close(struct bench_pair *pair)
{
    watch_child(false);
    give_order(pair->lines, JOB_STOP);
    waitpid(pair->peer, NULL, 0);
    munmap(pair->lines, LINES_BYTES + pair->memory_bytes);
    (void)sched_setaffinity(0, sizeof pair->allowed, &pair->allowed);
    *pair = (struct bench_pair){0};
}

static enum bench_class class_of(double round_trip_ns)
{
    if (round_trip_ns < 90)
        return BENCH_NEAR;
    return round_trip_ns < 250 ? BENCH_MID : BENCH_FAR;
}

static double probe(struct bench_pair_lines *lines, uint32_t job)
{
    give_order(lines, job);
    double round_trip_ns = probe_send(lines);
    await_done(lines);
    return round_trip_ns;
}

struct bench_segment bench_pair_run(struct bench_pair *pair, uint32_t job, bench_part *part)
{
    struct bench_segment segment;
    long before = preemptions();
    segment.before_ns = probe(pair->lines, job);
    give_order(pair->lines, job);
    part(pair->memory, job);
    await_done(pair->lines);
    segment.after_ns = probe(pair->lines, job);
    bool preempted = preemptions() != before || pair->lines->preempted != 0;
    segment.distance = class_of(segment.before_ns);
    segment.kept = !preempted && class_of(segment.after_ns) == segment.distance;
    return segment;
}
