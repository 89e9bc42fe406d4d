#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "operators/registry.h"
#include "runtime/base/err.h"
#include "runtime/checkpoint/handover.h"
#include "runtime/lane/lane_out.h"
#include "runtime/segment/segment.h"
#include "runtime/worker/worker.h"
#include "tests/support/random.h"
#include "tests/support/test.h"

/* As the schema below places it. */
struct event {
    int64_t ts;
    uint32_t key;
    uint32_t value;
};

static const char pipeline[] =
    "version: 1\n"
    "pipeline: test\n"
    "schema: {event: {ts: time_ns, key: u32, value: u32}}\n"
    "runtime: {workers: 1, partitions: 2}\n"
    "sources:\n"
    "  events: {schema: event, event_time: ts, partition_by: [key],\n"
    "           out_of_order: 0ms, idle_after: 50ms, cells: 1024}\n"
    "stages:\n"
    "  sums: {from: events, key: key, window: {type: tumbling, size: 1us},\n"
    "         aggregate: {n: count(), total: sum(value)}}\n"
    "sinks:\n"
    "  live: {from: sums, type: ring, rows: 4096}\n";

static struct fixture {
    struct rml_plan *plan;
    struct rml_writer *writer;
    struct rml_worker *worker;
    struct rml_bell bell;
    struct rml_stage_counts stages[2];
    struct rml_source_counts sources[2];
    struct rml_worker_counts counts[1];
    struct rml_sink_counts sinks[1];
    struct rml_broadcast_out rings[2];
    struct rml_broadcast_in readers[2];
    void *memory[2];
    struct rml_lane_in *in[4];
    struct rml_lane_out *out[4];
} f;

static void open_worker_with(const char *text, const struct rml_clock *clock,
                             struct rml_handover *handover)
{
    memset(&f, 0, sizeof f);
    struct rml_plan_errors errors;
    struct rml_err err = {0};
    int rc = rml_plan_parse(text, strlen(text), "test.yaml", rml_operators_functions(), &f.plan,
                            &errors, &err);
    if (rc < 0)
        fail_msg("%s", errors.count > 0 ? errors.list[0].text : err.text);
    rml_plan_errors_fini(&errors);
    const struct rml_broadcast_shape shape = {
        (uint32_t)sizeof(struct rml_result_row) + f.plan->stages[0].output.record_bytes, 4096};
    for (int p = 0; p < 2; p++) {
        f.memory[p] = aligned_alloc(64, rml_broadcast_bytes(shape));
        assert_non_null(f.memory[p]);
        memset(f.memory[p], 0, rml_broadcast_bytes(shape));
        rml_broadcast_attach_out(&f.rings[p], f.memory[p], shape);
        rml_broadcast_attach_in(&f.readers[p], f.memory[p], shape, 1);
    }
    const struct rml_writer_options writer = {
        .plan = f.plan, .workers = 1, .blocks = 8, .counts = f.sinks};
    assert_int_equal(rml_writer_open(&f.writer, &writer, NULL), 0);
    assert_int_equal(rml_bell_open(&f.bell, NULL), 0);
    const struct rml_worker_options options = {
        .plan = f.plan,
        .operators = rml_operators_table(),
        .clock = clock,
        .writer = f.writer,
        .cpu = -1,
        .lanes_max = 4,
        .ticks = true,
        .counts = f.counts,
        .stages = f.stages,
        .sources = f.sources,
        .reports_bell = &f.bell,
        .rings = f.rings,
        .handover = handover,
    };
    rc = rml_worker_open(&f.worker, &options, &err);
    if (rc < 0)
        fail_msg("%s", err.text);
}

static void open_worker_of(const char *text, const struct rml_clock *clock)
{
    open_worker_with(text, clock, NULL);
}

static void open_worker(void)
{
    open_worker_of(pipeline, &rml_clock_system);
}

static void attach(uint32_t lane)
{
    const struct rml_plan_source *source = &f.plan->sources[0];
    const struct rml_lane_geometry geometry = {
        .partitions = 2,
        .workers = 1,
        .cells = source->cells,
        .cell_bytes = sizeof(struct event),
        .on_full = RML_LANE_BLOCK,
        .grid = {source->grid_origin_ns, source->grid_granule_ns},
        .key_field_count = 1,
        .key = {{.offset = 8, .bytes = 4}},
    };
    assert_int_equal(rml_lane_in_open(&f.in[lane], &geometry, "test", 1, NULL), 0);
    assert_int_equal(
        rml_lane_out_open(&f.out[lane], &geometry, rml_lane_in_fds(f.in[lane]), -1, NULL), 0);
    const struct rml_worker_message message = {
        .kind = RML_WORKER_ATTACH, .index = lane, .lane = f.in[lane]};
    assert_true(rml_worker_tell(f.worker, &message));
}

static void tell(enum rml_worker_message_kind kind, uint32_t index)
{
    const struct rml_worker_message message = {.kind = kind, .index = index};
    assert_true(rml_worker_tell(f.worker, &message));
}

static struct rml_worker_report await_report(enum rml_worker_report_kind kind)
{
    struct rml_worker_report report;
    while (!rml_worker_hear(f.worker, &report)) {
        rml_bell_expect(&f.bell);
        if (rml_worker_hear(f.worker, &report)) {
            rml_bell_awake(&f.bell);
            break;
        }
        rml_bell_wait(&f.bell, -1);
    }
    assert_int_equal(report.kind, kind);
    return report;
}

static void close_worker(bool started)
{
    if (started)
        tell(RML_WORKER_STOP, 0);
    rml_worker_close(f.worker);
    for (int i = 0; i < 4; i++) {
        rml_lane_out_close(f.out[i]);
        rml_lane_in_close(f.in[i]);
    }
    rml_writer_close(f.writer);
    rml_bell_close(&f.bell);
    rml_plan_close(f.plan);
    free(f.memory[0]);
    free(f.memory[1]);
}

static uint64_t taken(void)
{
    return rml_count_read(&f.sources[0].value[RML_SOURCE_taken])
           + rml_count_read(&f.sources[1].value[RML_SOURCE_taken]);
}

static void put(uint32_t lane, int64_t ts, uint32_t key, uint32_t value)
{
    const struct event event = {ts, key, value};
    assert_int_equal(rml_lane_out_put(f.out[lane], &event), 1);
}

static uint64_t read_results(uint64_t *ret_rows)
{
    uint64_t records = 0, rows = 0;
    for (int p = 0; p < 2; p++) {
        struct {
            int64_t fire;
            uint64_t seq;
            unsigned char record[256];
        } row;

        uint64_t number;
        while (rml_broadcast_read(&f.readers[p], &row, &number) == 1) {
            const struct rml_schema *schema = &f.plan->stages[0].output;
            uint64_t n;
            memcpy(&n, row.record + schema->fields[rml_schema_find(schema, "n", 1)].offset,
                   sizeof n);
            records += n;
            rows++;
        }
        assert_int_equal(f.readers[p].missed, 0);
    }
    if (ret_rows != NULL)
        *ret_rows = rows;
    return records;
}

static void records_become_rows_in_the_ring(void **state)
{
    (void)state;
    open_worker();
    attach(0);
    for (uint32_t i = 0; i < 1000; i++)
        put(0, i, i % 10, i);
    rml_lane_out_publish(f.out[0]);
    while (rml_worker_round(f.worker))
        ;
    assert_int_equal(taken(), 1000);
    assert_int_equal(read_results(NULL), 0);
    put(0, 2000, 0, 1);  // later than the window's end: it fires, also where no record came
    rml_lane_out_publish(f.out[0]);
    while (rml_worker_round(f.worker))
        ;
    uint64_t rows;
    assert_int_equal(read_results(&rows), 1000);
    assert_int_equal(rows, 10);
    close_worker(false);
}

// Two clocks that show the same nanoseconds behind different origins.
static int64_t held_now, held_set;

static int64_t held_monotonic(void *context)
{
    (void)context;
    return held_now;
}

static int64_t held_wall(void *context)
{
    (void)context;
    return INT64_C(1700000000) * 1000000000 + 3000000 + held_now + held_set;
}

static const struct rml_clock held_clock = {.wall_ns = held_wall, .monotonic_ns = held_monotonic};

static void a_trigger_looks_at_the_wall_clock_at_its_multiples(void **state)
{
    (void)state;
    static const char text[] =
        "version: 1\n"
        "pipeline: test\n"
        "schema: {event: {ts: time_ns, key: u32, value: u32}}\n"
        "runtime: {workers: 1, partitions: 2}\n"
        "sources:\n"
        "  events: {schema: event, event_time: ts, partition_by: [key], cells: 1024}\n"
        "stages:\n"
        "  sums: {from: events, key: key, window: {type: tumbling, size: 1h, trigger: {every: 10ms}},\n"
        "         aggregate: {n: count(), total: sum(value)}}\n"
        "sinks:\n"
        "  live: {from: sums, type: ring, rows: 4096}\n";
    held_now = 0;
    open_worker_of(text, &held_clock);
    attach(0);
    while (rml_worker_round(f.worker))
        ;
    for (uint32_t i = 0; i < 100; i++)
        put(0, i, i % 10, i);
    rml_lane_out_publish(f.out[0]);
    uint64_t rows;
    held_now = 6999999;  // a nanosecond before the wall clock comes to 10 ms
    while (rml_worker_round(f.worker))
        ;
    assert_int_equal(taken(), 100);
    assert_int_equal(read_results(&rows), 0);
    held_now = 7000000;
    while (rml_worker_round(f.worker))
        ;
    assert_int_equal(read_results(&rows), 100);
    assert_int_equal(rows, 10);
    put(0, 100, 3, 1);
    rml_lane_out_publish(f.out[0]);
    held_now = 16999999;
    while (rml_worker_round(f.worker))
        ;
    tell(RML_WORKER_FINISH, 0);
    while (rml_worker_round(f.worker))
        ;
    assert_int_equal(read_results(&rows), 0);
    held_now = 40000000;  // late, and without lanes: what has changed is told all the same
    while (rml_worker_round(f.worker))
        ;
    assert_int_equal(read_results(&rows), 11);
    assert_int_equal(rows, 1);
    held_now = 60000000;
    while (rml_worker_round(f.worker))
        ;
    assert_int_equal(read_results(&rows), 0);
    await_report(RML_WORKER_LANE_DONE);
    close_worker(false);
}

static uint64_t ahead(void)
{
    return rml_count_read(&f.sources[0].value[RML_SOURCE_ahead])
           + rml_count_read(&f.sources[1].value[RML_SOURCE_ahead]);
}

static void records_too_far_ahead_of_the_wall_clock_are_refused_as_it_stands_then(void **state)
{
    (void)state;
    static const char text[] =
        "version: 1\n"
        "pipeline: test\n"
        "schema: {event: {ts: time_ns, key: u32, value: u32}}\n"
        "runtime: {workers: 1, partitions: 2}\n"
        "sources: {events: {schema: event, event_time: ts, max_ahead: 1ms, cells: 1024}}\n"
        "stages:\n"
        "  sums: {from: events, key: key, window: {type: tumbling, size: 1us},\n"
        "         aggregate: {n: count(), total: sum(value)}}\n"
        "sinks:\n"
        "  live: {from: sums, type: ring, rows: 4096}\n";
    static const struct rml_clock clock = {.wall_ns = held_wall, .monotonic_ns = held_monotonic};
    held_now = 0;
    int64_t latest = held_wall(NULL) + 1000000;
    open_worker_of(text, &clock);
    attach(0);
    put(0, latest, 0, 1);
    put(0, latest + 1, 0, 1);
    // what the lane vouches for now is too far ahead for the other partition, too
    put(0, latest + 5000000, 1, 1);
    rml_lane_out_publish(f.out[0]);
    while (rml_worker_round(f.worker))
        ;
    assert_int_equal(taken(), 3);
    assert_int_equal(ahead(), 2);
    assert_int_equal(read_results(NULL), 0);
    for (int p = 0; p < 2; p++)
        assert_true((int64_t)rml_count_read(&f.sources[p].value[RML_SOURCE_watermark]) <= latest);
    held_now = 1;
    put(0, latest + 1, 0, 1);
    put(0, latest + 2, 0, 1);
    rml_lane_out_publish(f.out[0]);
    while (rml_worker_round(f.worker))
        ;
    assert_int_equal(taken(), 5);
    assert_int_equal(ahead(), 3);
    close_worker(false);
}

static void rounds_at(int64_t now)
{
    held_now = now;
    while (rml_worker_round(f.worker))
        ;
}

static void a_wall_clock_that_is_set_makes_no_lane_idle_and_stops_no_trigger(void **state)
{
    (void)state;
    static const char text[] =
        "version: 1\n"
        "pipeline: test\n"
        "schema: {event: {ts: time_ns, key: u32, value: u32}}\n"
        "runtime: {workers: 1, partitions: 2}\n"
        "sources:\n"
        "  events: {schema: event, event_time: ts, partition_by: [key], idle_after: 2s, cells: 1024}\n"
        "stages:\n"
        "  sums: {from: events, key: key, window: {type: tumbling, size: 1us, trigger: {every: 10ms}},\n"
        "         aggregate: {n: count(), total: sum(value)}}\n"
        "sinks:\n"
        "  live: {from: sums, type: ring, rows: 4096}\n";
    const int64_t hour = INT64_C(3600) * 1000000000, ms = 1000000;
    static const int64_t hours[] = {1, -1, -1, 1};
    uint64_t rows;
    held_set = 0;
    held_now = 0;
    open_worker_of(text, &held_clock);
    attach(0);
    attach(1);
    put(0, 5000, 1, 1);  // far ahead of lane 1, which holds its window open
    put(1, 100, 1, 1);
    rml_lane_out_publish(f.out[0]);
    rml_lane_out_publish(f.out[1]);
    rounds_at(1);
    rounds_at(7 * ms);
    assert_int_equal(read_results(&rows), 2);  // early rows of both windows
    for (uint32_t i = 0; i < 4; i++) {
        held_set += hours[i] * hour;
        put(0, 5000, 1, 1);
        rml_lane_out_publish(f.out[0]);
        rounds_at((17 + 10 * i) * ms);
        assert_int_equal(read_results(&rows),
                         2 + i);  // the window that has changed, and not lane 1's
        assert_int_equal(rows, 1);
    }
    rounds_at(1990 * ms);
    assert_int_equal(read_results(NULL), 0);
    put(0, 5000, 1, 1);
    rml_lane_out_publish(f.out[0]);
    rounds_at(2300 * ms);  // but lane 1 has said nothing for two seconds
    rounds_at(2600 * ms);
    assert_int_equal(rml_count_read(&f.stages[0].value[RML_STAGE_windows_fired])
                         + rml_count_read(&f.stages[1].value[RML_STAGE_windows_fired]),
                     1);
    close_worker(false);
}

// Looks at the clock alone fill a schedule, too.
static void a_checkpoint_is_wanted_when_a_schedule_is_half_full_of_ticks(void **state)
{
    (void)state;
    struct rml_handover handover;
    struct rml_bell bell;
    assert_int_equal(rml_bell_open(&bell, NULL), 0);
    assert_int_equal(rml_handover_open(&handover, 4, &bell, NULL), 0);
    held_set = 0;
    held_now = 0;
    open_worker_with(pipeline, &held_clock, &handover);
    attach(0);
    struct rml_worker_report report;
    uint32_t ticks = 0;
    do {
        rounds_at(held_now + 13000000);
        ticks++;
        assert_true(ticks < 4096);  // the steps that a schedule has here
    } while (!rml_worker_hear(f.worker, &report));
    assert_int_equal(report.kind, RML_WORKER_WANTS_SAVING);
    assert_true(ticks > 2000);
    close_worker(false);
    rml_handover_close(&handover);
    rml_bell_close(&bell);
}

static void a_lane_that_ends_is_taken_to_what_it_had_published_and_no_further(void **state)
{
    (void)state;
    open_worker();
    attach(0);
    while (rml_worker_round(f.worker))
        ;
    for (uint32_t i = 0; i < 100; i++)
        put(0, i, i, 1);
    rml_lane_out_publish(f.out[0]);
    tell(RML_WORKER_FINISH, 0);
    assert_true(rml_worker_round(f.worker));
    put(0, 5, 5, 1);
    rml_lane_out_publish(f.out[0]);
    while (rml_worker_round(f.worker))
        ;
    assert_int_equal(await_report(RML_WORKER_LANE_DONE).published, 100);
    assert_int_equal(taken(), 100);
    close_worker(false);
}

static uint64_t taken_of(uint32_t lane)
{
    struct rml_lane_counts counts;
    rml_lane_in_counts(f.in[lane], &counts);
    return counts.taken;
}

static void however_much_a_lane_has_others_have_their_turn_behind_2048_records(void **state)
{
    (void)state;
    char text[sizeof pipeline];
    memcpy(text, pipeline, sizeof text);
    memcpy(strstr(text, "cells: 1024"), "cells: 8192", strlen("cells: 8192"));
    open_worker_of(text, &rml_clock_system);
    attach(0);
    attach(1);
    while (rml_worker_round(f.worker))
        ;
    const uint32_t many = 5000, few = 10, step = 2048;
    for (uint32_t i = 0; i < many; i++)
        put(0, 1, 1, 1);  // of one key, so that all are in one partition
    for (uint32_t i = 0; i < few; i++)
        put(1, 1, 1, 1);
    for (uint32_t lane = 0; lane < 2; lane++)
        rml_lane_out_publish(f.out[lane]);
    for (uint64_t round = 1; taken_of(0) < many; round++) {
        assert_true(rml_worker_round(f.worker));
        assert_true(taken_of(0) <= round * step);
        assert_int_equal(taken_of(1), few);
    }
    close_worker(false);
}

static void a_lane_that_lies_is_reported_and_spares_the_others(void **state)
{
    (void)state;
    open_worker();
    attach(0);
    attach(1);
    // What a producer could write into its own segment: a position beyond its ring.
    struct rml_segment theirs;
    const struct rml_lane_fds *fds = rml_lane_in_fds(f.in[0]);
    const struct rml_lane_geometry *geometry = rml_lane_in_geometry(f.in[0]);
    assert_int_equal(
        rml_segment_attach(&theirs, fds->records, rml_lane_records_bytes(geometry), true, NULL), 0);
    _Atomic uint64_t *published = theirs.memory;
    atomic_store_explicit(published, UINT64_C(1) << 40, memory_order_relaxed);
    put(1, 1, 1, 1);
    rml_lane_out_publish(f.out[1]);
    while (rml_worker_round(f.worker))
        ;
    await_report(RML_WORKER_LANE_FAULTY);
    assert_int_equal(taken(), 1);
    tell(RML_WORKER_FINISH, 0);
    while (rml_worker_round(f.worker))
        ;
    assert_int_equal(await_report(RML_WORKER_LANE_DONE).published, 0);
    put(1, 2, 2, 1);
    rml_lane_out_publish(f.out[1]);
    while (rml_worker_round(f.worker))
        ;
    assert_int_equal(taken(), 2);
    rml_segment_close(&theirs);
    close_worker(false);
}

static void a_sleeping_listener_is_woken_once_for_each_sleep(void **state)
{
    (void)state;
    open_worker();
    attach(0);
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
    struct rml_listener_line line = {0};
    const struct rml_listener listener = {.output = 0, .socket = pair[0], .line = &line};
    const struct rml_worker_message listen = {
        .kind = RML_WORKER_LISTEN, .index = 3, .listener = &listener};
    assert_true(rml_worker_tell(f.worker, &listen));
    char byte;
    for (uint64_t turn = 1; turn < 4; turn++) {
        rml_listener_sleeps(&line, turn);
        for (int64_t i = 0; i < 3; i++) {
            put(0, (int64_t)turn * 10000 + i * 2000, 1, 1);
            rml_lane_out_publish(f.out[0]);
            while (rml_worker_round(f.worker))
                ;
        }
        assert_int_equal(recv(pair[1], &byte, 1, MSG_DONTWAIT), 1);
        assert_int_equal(recv(pair[1], &byte, 1, MSG_DONTWAIT), -1);
    }
    tell(RML_WORKER_UNLISTEN, 3);
    while (rml_worker_round(f.worker))
        ;
    await_report(RML_WORKER_UNLISTENED);
    rml_listener_sleeps(&line, 9);
    put(0, 90000, 1, 1);
    rml_lane_out_publish(f.out[0]);
    while (rml_worker_round(f.worker))
        ;
    assert_int_equal(recv(pair[1], &byte, 1, MSG_DONTWAIT), -1);
    close(pair[0]);
    close(pair[1]);
    close_worker(false);
}

/* Every allocation of this program passes here; those of a thread that is watched are counted. */
static _Atomic bool watching;
static pthread_t control;
static _Atomic uint64_t allocations;

#if !RML_TEST_SLOW
// A sanitizer has allocators of its own: there this test looks for races alone.
static void note_allocation(void)
{
    // relaxed: set before the work that is watched is sent to the thread
    if (atomic_load_explicit(&watching, memory_order_relaxed)
        && !pthread_equal(pthread_self(), control)) {
        // relaxed: read after the thread has ended
        atomic_fetch_add_explicit(&allocations, 1, memory_order_relaxed);
    }
}

void *__libc_malloc(size_t bytes);
void *__libc_calloc(size_t count, size_t bytes);
void *__libc_realloc(void *memory, size_t bytes);

void *malloc(size_t bytes)
{
    note_allocation();
    return __libc_malloc(bytes);
}

void *calloc(size_t count, size_t bytes)
{
    note_allocation();
    return __libc_calloc(count, bytes);
}

void *realloc(void *memory, size_t bytes)
{
    note_allocation();
    return __libc_realloc(memory, bytes);
}

void *mmap(void *at, size_t bytes, int protection, int flags, int fd, off_t offset)
{
    note_allocation();
    static void *(*next)(void *, size_t, int, int, int, off_t);
    if (next == NULL) {
        void *symbol = dlsym(RTLD_NEXT, "mmap");
        memcpy(&next, &symbol, sizeof next);
    }
    return next(at, bytes, protection, flags, fd, offset);
}
#endif

static void nothing_allocates_in_a_running_worker(void **state)
{
    (void)state;
    open_worker();
    struct rml_err err = {0};
    control = pthread_self();
    assert_int_equal(rml_worker_start(f.worker, &err), 0);
    attach(0);
    attach(1);
    put(0, 0, 0, 0);
    put(1, 0, 1, 0);
    rml_lane_out_publish(f.out[0]);
    rml_lane_out_publish(f.out[1]);
    while (taken() < 2)
        sched_yield();
    // relaxed: the records below come after it
    atomic_store_explicit(&watching, true, memory_order_relaxed);
    const uint32_t records = RML_TEST_SLOW ? 20000 : 400000;
    for (uint32_t i = 0; i < records; i++) {
        put(i % 2, i / 4, i % 4999, i);
        if (i % 128 == 0)
            rml_lane_out_publish(f.out[i / 128 % 2]);
    }
    rml_lane_out_publish(f.out[0]);
    rml_lane_out_publish(f.out[1]);
    tell(RML_WORKER_FINISH, 0);
    tell(RML_WORKER_FINISH, 1);
    await_report(RML_WORKER_LANE_DONE);
    await_report(RML_WORKER_LANE_DONE);
    tell(RML_WORKER_END, 0);
    await_report(RML_WORKER_SOURCE_DONE);
    // relaxed: as above
    atomic_store_explicit(&watching, false, memory_order_relaxed);
    assert_int_equal(taken(), records + 2);
    assert_true(rml_count_read(&f.counts[0].value[RML_WORKER_steps]) >= records / 1024);
    // relaxed: the thread has said that it is done
    assert_int_equal(atomic_load_explicit(&allocations, memory_order_relaxed), 0);
    close_worker(true);
}

// Each record is sent only when the one before has been taken, and the worker sleeps in between.
static void a_sleeping_worker_is_woken_by_each_publish(void **state)
{
    (void)state;
    open_worker();
    assert_int_equal(rml_worker_start(f.worker, NULL), 0);
    attach(0);
    for (uint32_t i = 0; i < 300; i++) {
        uint64_t before = rml_count_read(&f.counts[0].value[RML_WORKER_sleeps]);
        put(0, i, i, 1);
        rml_lane_out_publish(f.out[0]);
        while (taken() <= i)
            sched_yield();
        if (i % 10 == 0) {
            // The counter moves when a sleep ends, and ticks end sleeps.
            while (rml_count_read(&f.counts[0].value[RML_WORKER_sleeps]) <= before)
                sched_yield();
        }
    }
    close_worker(true);
}

static int64_t worker_cpu_ns(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (int64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000000
           + (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1000;
}

// Others on the machine may make one while dear, and not each.
static bool is_cheap_for_a_while(void)
{
    struct pollfd nothing = {.fd = f.bell.fd, .events = POLLIN};
    int64_t cpu = worker_cpu_ns();
    int64_t since = rml_clock_system.monotonic_ns(NULL);
    (void)poll(&nothing, 1, 1000);
    int64_t wall = rml_clock_system.monotonic_ns(NULL) - since;
    return (worker_cpu_ns() - cpu) * (RML_TEST_SLOW ? 20 : 100) < wall;
}

static void an_idle_worker_uses_less_than_a_hundredth_of_a_core(void **state)
{
    (void)state;
    open_worker();
    assert_int_equal(rml_worker_start(f.worker, NULL), 0);
    for (uint32_t lane = 0; lane < 4; lane++)
        attach(lane);
    put(0, 0, 0, 1);
    rml_lane_out_publish(f.out[0]);
    while (taken() < 1)
        sched_yield();
    // 100 ticks of 12.5 ms, then what they cost: the time is the ticks', not this test's to choose.
    struct pollfd nothing = {.fd = f.bell.fd, .events = POLLIN};
    (void)poll(&nothing, 1, 50);
    uint32_t whiles = 0;
    while (!is_cheap_for_a_while())
        assert_in_range(++whiles, 1, 30);
    close_worker(true);
}

TEST_MAIN(CLAIM(records_become_rows_in_the_ring),
          CLAIM(a_trigger_looks_at_the_wall_clock_at_its_multiples),
          CLAIM(records_too_far_ahead_of_the_wall_clock_are_refused_as_it_stands_then),
          CLAIM(a_wall_clock_that_is_set_makes_no_lane_idle_and_stops_no_trigger),
          CLAIM(a_checkpoint_is_wanted_when_a_schedule_is_half_full_of_ticks),
          CLAIM(a_lane_that_ends_is_taken_to_what_it_had_published_and_no_further),
          CLAIM(however_much_a_lane_has_others_have_their_turn_behind_2048_records),
          CLAIM(a_lane_that_lies_is_reported_and_spares_the_others),
          CLAIM(a_sleeping_listener_is_woken_once_for_each_sleep),
          CLAIM(nothing_allocates_in_a_running_worker),
          CLAIM(a_sleeping_worker_is_woken_by_each_publish),
          CLAIM(an_idle_worker_uses_less_than_a_hundredth_of_a_core))
