/*
 * Nothing allocates between source and sink: this program has a malloc and an mmap of its own, which
 * count what the engine's workers and the producer ask for while records flow, also through libc.
 * Whoever reads a worker's clock is a worker, and that is how a thread is known as one.
 */
#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "operators/registry.h"
#include "runtime/base/err.h"
#include "runtime/control/engine.h"
#include "runtime/lane/lane_out.h"
#include "tests/support/test.h"

#define RECORDS 300000u
#define WORKERS 2u

/* ---- the memory of this program ---- */

static _Thread_local bool is_main, is_worker, is_counted;
static atomic_uint workers_seen;
static atomic_uint calls;

// What glibc's own malloc is called beneath the name that a program may take over.
extern void *__libc_malloc(size_t bytes);
extern void *__libc_calloc(size_t count, size_t bytes);
extern void *__libc_realloc(void *old, size_t bytes);
extern void *__libc_memalign(size_t alignment, size_t bytes);
extern void __libc_free(void *memory);

// Seen by libc too, which calls them where it allocates itself.
#pragma GCC visibility push(default)

static void count_call(void)
{
    if (is_counted)
        atomic_fetch_add_explicit(&calls, 1, memory_order_relaxed);
}

void *malloc(size_t bytes)
{
    count_call();
    return __libc_malloc(bytes);
}

void *calloc(size_t count, size_t bytes)
{
    count_call();
    return __libc_calloc(count, bytes);
}

void *realloc(void *old, size_t bytes)
{
    count_call();
    return __libc_realloc(old, bytes);
}

void *aligned_alloc(size_t alignment, size_t bytes)
{
    count_call();
    return __libc_memalign(alignment, bytes);
}

void *memalign(size_t alignment, size_t bytes);

void *memalign(size_t alignment, size_t bytes)
{
    count_call();
    return __libc_memalign(alignment, bytes);
}

int posix_memalign(void **ret_memory, size_t alignment, size_t bytes)
{
    count_call();
    *ret_memory = __libc_memalign(alignment, bytes);
    return *ret_memory != NULL ? 0 : ENOMEM;
}

void free(void *memory)
{
    if (memory != NULL)
        count_call();
    __libc_free(memory);
}

void *mmap(void *address, size_t bytes, int protection, int flags, int fd, off_t offset)
{
    count_call();
    return (void *)syscall(SYS_mmap, address, bytes, protection, flags, fd, offset);
}

int munmap(void *address, size_t bytes)
{
    count_call();
    return (int)syscall(SYS_munmap, address, bytes);
}

#pragma GCC visibility pop

/* ---- the engine ---- */

static void *volatile kept;
static atomic_bool misbehave;  // the next worker that reads the clock allocates

static int64_t monotonic_ns(void *context)
{
    (void)context;
    if (!is_main && !is_worker) {
        is_worker = is_counted = true;
        atomic_fetch_add_explicit(&workers_seen, 1, memory_order_relaxed);
    }
    if (is_worker && atomic_exchange_explicit(&misbehave, false, memory_order_relaxed)) {
        kept = strdup("allocated by libc, on our behalf");
        free(kept);
        kept = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        munmap(kept, 4096);
    }
    return rml_clock_system.monotonic_ns(rml_clock_system.context);
}

static int64_t wall_ns(void *context)
{
    (void)context;
    return rml_clock_system.wall_ns(rml_clock_system.context);
}

static const struct rml_clock counting_clock = {.monotonic_ns = monotonic_ns, .wall_ns = wall_ns};

struct record {
    int64_t ts;
    char name[16];
    uint64_t key;
    int64_t n;
};

static const char pipeline[] =
    "version: 1\npipeline: allocations\n"
    "schema: {event: {ts: time_ns, name: str16, key: u64, n: i64}}\n"
    "runtime: {workers: 2, partitions: 4, state_limit: 256MiB}\n"
    "sources: {in: {schema: event, event_time: ts, partition_by: [name], out_of_order: 50ns, "
    "idle_after: 1s, cells: 4096}}\n"
    "stages:\n"
    "  odd: {from: in, filter: n % 2 != 0}\n"
    "  marked: {from: odd, map: {x: 'n / 3', big: n > 500}}\n"
    "  each: {from: marked, key: [name, key], window: {type: tumbling, size: 10us, late: 2us}, "
    "aggregate: {c: count(), s: sum(n), a: avg(x), b: count_if(big), l: min(n), g: max(x)}}\n"
    "  slide: {from: marked, key: name, window: {type: sliding, size: 50us, every: 5us}, "
    "aggregate: {c: count(), s: sum(x)}}\n"
    "  bursts: {from: marked, key: name, window: {type: session, gap: 100ns}, aggregate: {c: count()}}\n"
    "sinks:\n"
    "  lines: {from: [each, slide, bursts], type: jsonl, path: rows.jsonl}\n"
    "  table: {from: each, type: csv, path: rows.csv}\n"
    "  behind: {from: each.late, type: jsonl, path: late.jsonl}\n"
    "  live: {from: each, type: ring}\n";

// Sixteen names; of the keys half come again and again and half are new; some records are late.
static struct record record_at(uint32_t i)
{
    uint64_t mixed = (i + 1) * UINT64_C(0x9e3779b97f4a7c15);
    int64_t behind = (int64_t)(mixed >> 32 & 31);
    if (i % 97 == 0)
        behind = 1500;
    if (i % 1009 == 0)
        behind = 200000;
    struct record record = {.ts = (int64_t)i * 3 - behind,
                            .key = i % 4 < 2 ? mixed >> 56 : i,
                            .n = (int64_t)(mixed >> 40 & 1023)};
    record.name[0] = (char)('a' + (mixed >> 60));
    return record;
}

static void feed(struct rml_engine *engine)
{
    struct rml_err err = {0};
    uint32_t index;
    assert_int_equal(rml_engine_attach(engine, 0, NULL, &index, &err), 0);
    struct rml_lane_in *in = rml_engine_lane(engine, index);
    struct rml_lane_out *out;
    assert_int_equal(
        rml_lane_out_open(&out, rml_lane_in_geometry(in), rml_lane_in_fds(in), -1, &err), 0);
    int put = 1;
    is_counted = true;
    for (uint32_t i = 0; i < RECORDS && put == 1; i++) {
        struct record record = record_at(i);
        put = rml_lane_out_put(out, &record);
    }
    is_counted = false;
    assert_int_equal(put, 1);
    rml_lane_out_close(out);
}

static void remove_files(const char *folder)
{
    static const char *const names[] = {"rows.jsonl", "rows.csv", "late.jsonl"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char path[128];
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        assert_int_equal(unlink(path), 0);
    }
    assert_int_equal(rmdir(folder), 0);
}

// Run the records through an engine from its start to its end; returns how often was allocated.
static uint32_t count_of_run(bool replay, bool misbehaving, struct rml_board_totals *ret_totals)
{
    char folder[] = "/tmp/ringmill-allocations-XXXXXX";
    assert_non_null(mkdtemp(folder));
    struct rml_plan *plan = NULL;
    struct rml_plan_errors errors = {0};
    struct rml_err err = {0};
    assert_int_equal(rml_plan_parse(pipeline, sizeof pipeline - 1, "allocations",
                                    rml_operators_functions(), &plan, &errors, &err),
                     0);
    rml_plan_errors_fini(&errors);
    struct rml_engine *engine = NULL;
    const struct rml_engine_options options = {.plan = plan,
                                               .operators = rml_operators_table(),
                                               .clock = &counting_clock,
                                               .replay = replay,
                                               .folder = folder};
    is_main = true;
    atomic_store_explicit(&workers_seen, 0, memory_order_relaxed);
    atomic_store_explicit(&calls, 0, memory_order_relaxed);
    atomic_store_explicit(&misbehave, misbehaving, memory_order_relaxed);
    assert_int_equal(rml_engine_open(&engine, &options, &err), 0);
    assert_int_equal(rml_engine_start(engine, &err), 0);
    while (atomic_load_explicit(&workers_seen, memory_order_relaxed) < WORKERS)
        sched_yield();
    feed(engine);
    rml_engine_drain(engine);
    assert_int_equal(rml_engine_stop(engine), 0);
    rml_engine_totals(engine, ret_totals);
    uint32_t counted = atomic_load_explicit(&calls, memory_order_relaxed);
    rml_engine_close(engine);
    rml_plan_close(plan);
    remove_files(folder);
    return counted;
}

static struct rml_board_totals totals;

static void nothing_is_allocated_between_source_and_sink(void **state)
{
    (void)state;
    for (int replay = 0; replay < 2; replay++) {
        assert_int_equal(count_of_run(replay != 0, false, &totals), 0);
        // the run was what it is meant to be: all doors and rows, keys of their own by thousands
        assert_int_equal(totals.source[0][RML_SOURCE_taken], RECORDS);
        assert_true(totals.stage[0][RML_STAGE_filtered] > 0);
        assert_true(totals.stage[2][RML_STAGE_aggregated] > RECORDS / 4);
        assert_true(totals.stage[2][RML_STAGE_corrections] > 0);
        assert_true(totals.stage[2][RML_STAGE_late] > 0);
        assert_true(totals.stage[2][RML_STAGE_rows_out] > RECORDS / 8);
        assert_true(totals.stage[3][RML_STAGE_rows_out] > 0);
        assert_true(totals.stage[4][RML_STAGE_rows_out] > 0);
    }
}

// What proves that the count sees workers: the same run, where one of them allocates.
static void what_a_worker_allocates_is_counted(void **state)
{
    (void)state;
    assert_int_equal(count_of_run(false, true, &totals), 4);
}

TEST_MAIN(CLAIM(nothing_is_allocated_between_source_and_sink),
          CLAIM(what_a_worker_allocates_is_counted))
