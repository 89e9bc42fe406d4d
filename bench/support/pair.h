/*
 * pair - two processes on two CPUs that run short jobs together, and how far apart they are.
 *
 * The virtual CPUs of a rented machine move between physical cores from second to second. So a
 * measurement is cut into segments of a few milliseconds; before and after each the pair measures
 * the round trip of a cache line, and a segment counts only where both agree on the class and
 * neither process was pushed off its CPU.
 */
#ifndef RML_BENCH_PAIR_H
#define RML_BENCH_PAIR_H

#include <sched.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum bench_class {
    BENCH_NEAR,  // a round trip below 90 ns
    BENCH_MID,   // below 250 ns
    BENCH_FAR,
    BENCH_CLASSES
};

extern const char *const bench_class_name[BENCH_CLASSES];

/* One side's part of a job; `memory` is shared, and lies at the same address on both sides. */
typedef void bench_part(void *memory, uint32_t job);

struct bench_pair_lines;

struct bench_pair {
    struct bench_pair_lines *lines;  // shared by the two, pair.c's
    void *memory;                    // shared too, the caller's; page-aligned, zeroed at first
    size_t memory_bytes;
    pid_t peer;
    cpu_set_t allowed;  // where this process might run before
};

struct bench_segment {
    double before_ns, after_ns;  // round trip of a line
    enum bench_class distance;   // where both agree
    bool kept;                   // they agree, and nobody was preempted
};

/*
 * Start the pair: until close this process stays on the first CPU that it may use, and a child on
 * the second, which runs `part` for every bench_pair_run. 0, -ENODEV where there are fewer than two
 * CPUs, or another negative errno. The child dies with its parent; if it dies first, the program says
 * so and exits with 1, whatever it was waiting for (SIGCHLD is the pair's from open to close).
 */
int bench_pair_open(struct bench_pair *pair, size_t memory_bytes, bench_part *part);
void bench_pair_close(struct bench_pair *pair);

/* Both sides run their part of `job`, which is not UINT32_MAX, at the same time, between probes. */
struct bench_segment bench_pair_run(struct bench_pair *pair, uint32_t job, bench_part *part);

/* Let this thread, and those that it starts, run on the first CPU alone (0) or on the second (1) of those
 * that it had at first, or on all of these. 0, or -ENODEV where there are fewer than two. */
#define BENCH_ANYWHERE 2u
int bench_stay_on(uint32_t which);

/* The monotonic clock, and the time for which this thread has had a CPU. */
int64_t bench_now_ns(void);
int64_t bench_cpu_ns(void);

/* Between two looks at what the other side will change: pauses, and now and then gives the CPU up,
 * since the other may be waiting for it. `*spins` starts at 0. */
void bench_wait(uint32_t *spins);

#endif
