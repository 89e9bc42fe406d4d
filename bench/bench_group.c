/*
 * bench_group - what it costs to share the rows of a ring.
 *
 *     bench_group [--rounds 40] [--rows 65536]
 *
 * A ring holds so many rows of 64 bytes, all given already. In a round each contender reads all of them, in processes
 * that begin at once: `broadcast`, one reader by itself, and `group`, one to four members that share them, each
 * acknowledging every row. Each process counts its CPU time, and all that were read are added up: every row must have been
 * read once. What is told is the CPU time of all of them for each row, and its ratio to that of the broadcast of the same
 * round; and the rows a second of the wall clock. One line of JSON for each contender.
 */
#include <sched.h>
#include <signal.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bench/support/arguments.h"
#include "bench/support/figures.h"
#include "runtime/base/check.h"
#include "runtime/ring/group.h"
#include "runtime/ring/roster.h"

enum { MEMBERS_MAX = 4, CONTENDERS = MEMBERS_MAX + 1, WORDS = 8, BROADCAST = 0 };

static uint32_t rounds = 40, row_count = 65536;
static struct rml_group_shape shape;
static unsigned char *ring, *memory;
static struct rml_roster *roster;

static struct arena {
    _Atomic uint32_t ready, go;

    struct {
        alignas(64) uint64_t rows, sum;
        int64_t cpu_ns, end_ns;
    } of[MEMBERS_MAX];
} * arena;

static struct bench_figures cpu[CONTENDERS], ratio[CONTENDERS], rate[CONTENDERS];

static void *shared(size_t bytes)
{
    void *made = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    RML_CHECK(made != MAP_FAILED);
    return made;
}

static int64_t clock_ns(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

static void give_rows(void)
{
    struct rml_broadcast_out out;
    rml_broadcast_attach_out(&out, ring, shape.ring);
    for (uint64_t n = 0; n < row_count; n++) {
        const uint64_t row[WORDS] = {n};
        rml_broadcast_give(&out, row);
    }
    rml_broadcast_announce(&out);
}

static void read_alone(uint64_t *ret_rows, uint64_t *ret_sum)
{
    struct rml_broadcast_in in;
    uint64_t row[WORDS], number;
    rml_broadcast_attach_in(&in, ring, shape.ring, 1);
    while (rml_broadcast_read(&in, row, &number) == 1) {
        ++*ret_rows;
        *ret_sum += row[0];
    }
}

static void read_shared(uint32_t member, uint64_t *ret_rows, uint64_t *ret_sum)
{
    struct rml_group_in in;
    struct rml_group_lane lane;
    struct rml_group_row taken;
    uint64_t row[WORDS];
    rml_group_attach(&in, shape, memory, roster, ring, &lane, member,
                     rml_roster_turn(roster, member));
    while (rml_group_take(&in, row, &taken) == 1) {
        ++*ret_rows;
        *ret_sum += row[0];
        RML_CHECK(rml_group_done(&in, &taken));
    }
}

static void be_reader(uint32_t contender, uint32_t member)
{
    uint64_t rows = 0, sum = 0;
    // relaxed: only counted
    atomic_fetch_add_explicit(&arena->ready, 1, memory_order_relaxed);
    // relaxed: a starting shot
    while (atomic_load_explicit(&arena->go, memory_order_relaxed) == 0)
        sched_yield();
    int64_t begin_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    if (contender == BROADCAST)
        read_alone(&rows, &sum);
    else
        read_shared(member, &rows, &sum);
    arena->of[member].cpu_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - begin_ns;
    arena->of[member].end_ns = clock_ns(CLOCK_MONOTONIC);
    arena->of[member].rows = rows;
    arena->of[member].sum = sum;
    _exit(0);
}

// A group that nobody has taken a row of yet.
static void prepare(void)
{
    const uint64_t before[RML_ROSTER_MEMBERS_MAX] = {0};
    uint32_t member;
    uint64_t turn;
    memset(memory, 0, rml_group_bytes(shape));
    memset((void *)roster, 0, rml_roster_bytes(1));
    for (uint32_t i = 0; i < MEMBERS_MAX; i++)
        RML_CHECK(rml_roster_admit(roster, before, &member, &turn) == 0);
}

// CPU nanoseconds of all readers for one row.
static double run(uint32_t contender)
{
    uint32_t readers = contender == BROADCAST ? 1 : contender;
    pid_t children[MEMBERS_MAX], parent = getpid();
    *arena = (struct arena){.ready = 0};
    prepare();
    for (uint32_t i = 0; i < readers; i++) {
        children[i] = fork();
        RML_CHECK(children[i] >= 0);
        if (children[i] == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            RML_CHECK(getppid() == parent);
            be_reader(contender, i);
        }
    }
    // relaxed: only counted
    while (atomic_load_explicit(&arena->ready, memory_order_relaxed) < readers)
        sched_yield();
    int64_t begin_ns = clock_ns(CLOCK_MONOTONIC), end_ns = begin_ns, cpu_ns = 0;
    // relaxed: a starting shot
    atomic_store_explicit(&arena->go, 1, memory_order_relaxed);
    uint64_t rows = 0, sum = 0;
    for (uint32_t i = 0; i < readers; i++) {
        int status;
        RML_CHECK(waitpid(children[i], &status, 0) == children[i] && status == 0);
        rows += arena->of[i].rows;
        sum += arena->of[i].sum;
        cpu_ns += arena->of[i].cpu_ns;
        end_ns = arena->of[i].end_ns > end_ns ? arena->of[i].end_ns : end_ns;
    }
    RML_CHECK(rows == row_count && sum == (uint64_t)row_count * (row_count - 1) / 2);
    bench_figures_add(&rate[contender], 1e3 * (double)rows / (double)(end_ns - begin_ns));
    return (double)cpu_ns / (double)rows;
}

static void print(uint32_t contender)
{
    struct bench_quartiles c = bench_figures_quartiles(&cpu[contender]);
    struct bench_quartiles x = bench_figures_quartiles(&ratio[contender]);
    struct bench_quartiles r = bench_figures_quartiles(&rate[contender]);
    printf("{\"bench\":\"group\",\"contender\":\"%s\",\"readers\":%u,\"rows\":%u,\"rounds\":%u,"
           "\"cpu_ns_per_row\":{\"q1\":%.1f,\"median\":%.1f,\"q3\":%.1f},"
           "\"to_broadcast\":{\"q1\":%.2f,\"median\":%.2f,\"q3\":%.2f},"
           "\"million_rows_per_s\":{\"q1\":%.2f,\"median\":%.2f,\"q3\":%.2f}}\n",
           contender == BROADCAST ? "broadcast" : "group", contender == BROADCAST ? 1 : contender,
           row_count, rounds, c.q1, c.median, c.q3, x.q1, x.median, x.q3, r.q1, r.median, r.q3);
}

int main(int argc, char **argv)
{
    const struct bench_count counts[] = {{"--rounds", &rounds, 100000},
                                         {"--rows", &row_count, RML_BROADCAST_ROWS_MAX}};
    if (!bench_counts_read(argc, argv, counts, 2) || row_count < 64
        || (row_count & (row_count - 1)) != 0) {
        fprintf(stderr, "usage: bench_group [--rounds N] [--rows POWER_OF_TWO]\n");
        return 2;
    }
    shape = (struct rml_group_shape){{WORDS * 8, row_count}, 1};
    ring = shared(rml_broadcast_bytes(shape.ring));
    memory = shared(rml_group_bytes(shape));
    roster = shared(rml_roster_bytes(1));
    arena = shared(sizeof *arena);
    give_rows();
    for (uint32_t c = 0; c < CONTENDERS; c++)
        RML_CHECK(bench_figures_init(&cpu[c], rounds) == 0
                  && bench_figures_init(&ratio[c], rounds) == 0
                  && bench_figures_init(&rate[c], rounds) == 0);
    for (uint32_t round = 0; round < rounds; round++) {
        double ns[CONTENDERS];
        for (uint32_t i = 0; i < CONTENDERS; i++) {
            uint32_t contender = (round + i) % CONTENDERS;  // another begins each time
            ns[contender] = run(contender);
        }
        for (uint32_t c = 0; c < CONTENDERS; c++) {
            bench_figures_add(&cpu[c], ns[c]);
            bench_figures_add(&ratio[c], ns[c] / ns[BROADCAST]);
        }
    }
    for (uint32_t c = 0; c < CONTENDERS; c++) {
        print(c);
        bench_figures_fini(&cpu[c]);
        bench_figures_fini(&ratio[c]);
        bench_figures_fini(&rate[c]);
    }
    return 0;
}
