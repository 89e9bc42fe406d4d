/*
 * A worker and its journal, driven in one thread over a disk on tape, with faults; and what another worker takes up
 * of it after the power went at any moment.
 *
 * Whatever a producer had been told to be durable must be there, of each partition the first so many of its records, in
 * order, once, and as they were written; and the worker that takes them up must have taken as many.
 *
 *     RML_POWER_LOSSES=20000 test_journaling_power     so many losses; about a hundred without
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "operators/registry.h"
#include "runtime/base/check.h"
#include "runtime/base/err.h"
#include "runtime/checkpoint/handover.h"
#include "runtime/control/journaler.h"
#include "runtime/lane/lane_out.h"
#include "runtime/ring/bell.h"
#include "runtime/worker/journaling.h"
#include "runtime/worker/schedule.h"
#include "runtime/worker/worker.h"
#include "tests/support/crash.h"
#include "tests/support/folder.h"
#include "tests/support/random.h"
#include "tests/support/tape.h"
#include "tests/support/test.h"

#define LOSSES     (RML_TEST_SLOW ? 30u : 120u)
#define LANES      3u
#define PARTITIONS 2u
#define STREAMS    24u    // producers, one after the other
#define NUMBERS    2000u  // records of one, at most
#define STEPS      16384u
#define ROUNDS     1200u
#define MARKS      8192u

struct event {
    int64_t ts;
    uint32_t key, stream;
    uint64_t number, salt;
};

static const char pipeline[] =
    "version: 1\n"
    "pipeline: test\n"
    "schema: {event: {ts: time_ns, key: u32, stream: u32, number: u64, salt: u64}}\n"
    "runtime: {workers: 1, partitions: 2, state: ./state, journal: {max: 64MiB}}\n"
    "sources:\n"
    "  events: {schema: event, event_time: ts, partition_by: [key], out_of_order: 1h, cells: 16384,\n"
    "           journal: true}\n"
    "stages:\n"
    "  sums: {from: events, key: key, window: {type: tumbling, size: 1s}, aggregate: {n: count()}}\n"
    "sinks: {live: {from: sums, type: ring}}\n";

static uint64_t seed;

static uint64_t draw(uint64_t below)
{
    return rml_test_random(&seed) % below;
}

// A clock that goes on a millisecond each time somebody looks: what is tried again soon is tried at once.
static int64_t tick(void *context)
{
    int64_t *now = context;
    return *now += 1000000;
}

static int64_t now;
static const struct rml_clock clock_of_test = {
    .context = &now, .monotonic_ns = tick, .wall_ns = tick};

/* What producers did */

static struct stream {
    uint32_t partition[NUMBERS];  // of each record
    uint32_t count;
    uint32_t lane;
    struct rml_lane_in *in;  // NULL: it is over
    struct rml_lane_out *out;
    uint64_t serial;
    bool finishing;
} streams[STREAMS];

static uint32_t stream_count;

struct moment {
    uint16_t durable[STREAMS];
};

static struct moment moments[MARKS];
static uint64_t marks;

static struct event event_of(uint32_t stream, uint64_t number)
{
    uint64_t from = (uint64_t)stream << 32 | number;
    struct event event = {.stream = stream, .number = number};
    event.salt = rml_test_random(&from);
    event.ts = (int64_t)(event.salt % 1000000);
    event.key = (uint32_t)(event.salt >> 40);
    return event;
}

/* A worker and its journal */

static struct engine {
    struct rml_stage_counts stages[PARTITIONS];
    struct rml_source_counts sources[PARTITIONS];
    struct rml_worker_counts counts[1];
    struct rml_sink_counts sinks[1];
    void *ring_memory[PARTITIONS], *schedule_memory[PARTITIONS];
    struct rml_broadcast_out rings[PARTITIONS];
    struct rml_bell bell, news;
    struct rml_handover handover;
    struct rml_writer *writer;
    struct rml_worker *worker;
    struct rml_journaler *journaler;
} e;

static struct rml_plan *plan;

static void *zeros(size_t bytes)
{
    void *memory = aligned_alloc(64, (bytes + 63) / 64 * 64);
    assert_non_null(memory);
    return memset(memory, 0, bytes);
}

static struct rml_broadcast_shape shape(void)
{
    return (struct rml_broadcast_shape){
        (uint32_t)sizeof(struct rml_result_row) + plan->stages[0].output.record_bytes, 64};
}

static int open_journaler(const char *folder, const struct rml_disk_way *const *ways,
                          unsigned broken, struct rml_err *err)
{
    static const uint64_t covered[PARTITIONS];
    const struct rml_journaler_options options = {
        .plan = plan,
        .folder = folder,
        .vault = (const unsigned char *)"sixteen bytes..",
        .life = 7,
        .covered = covered,
        .clock = &clock_of_test,
        .bell = &e.bell,
        .ways = ways,
        .broken_rules = broken,
    };
    return rml_journaler_open(&e.journaler, &options, err);
}

static void open_worker(void)
{
    struct rml_err err = {0};
    static const struct rml_writer_note notes[RML_SINKS_MAX];
    static const uint64_t journaled[PARTITIONS];
    for (uint32_t p = 0; p < PARTITIONS; p++) {
        e.ring_memory[p] = zeros(rml_broadcast_bytes(shape()));
        e.schedule_memory[p] = zeros(rml_schedule_bytes(STEPS));
        rml_broadcast_resume_out(&e.rings[p], e.ring_memory[p], shape());
    }
    const struct rml_writer_options writer = {.plan = plan,
                                              .notes = notes,
                                              .marked = &e.news,
                                              .workers = 1,
                                              .blocks = 8,
                                              .counts = e.sinks};
    assert_int_equal(rml_writer_open(&e.writer, &writer, NULL), 0);
    assert_int_equal(rml_handover_open(&e.handover, 8, &e.news, NULL), 0);
    const struct rml_worker_options options = {
        .plan = plan,
        .operators = rml_operators_table(),
        .clock = &clock_of_test,
        .writer = e.writer,
        .cpu = -1,
        .lanes_max = LANES,
        .counts = e.counts,
        .stages = e.stages,
        .sources = e.sources,
        .reports_bell = &e.bell,
        .rings = e.rings,
        .handover = &e.handover,
        .schedules = e.schedule_memory,
        .schedule_steps = STEPS,
        .journal = rml_journaler_queue(e.journaler, 0),
        .journaled = journaled,
    };
    if (rml_worker_open(&e.worker, &options, &err) < 0)
        fail_msg("%s", err.text);
}

static void close_engine(void)
{
    rml_worker_close(e.worker);
    rml_journaler_close(e.journaler);
    rml_writer_close(e.writer);
    rml_handover_close(&e.handover);
    rml_bell_close(&e.bell);
    rml_bell_close(&e.news);
    for (uint32_t p = 0; p < PARTITIONS; p++) {
        free(e.ring_memory[p]);
        free(e.schedule_memory[p]);
    }
    memset(&e, 0, sizeof e);
}

static void open_bells(void)
{
    assert_int_equal(rml_bell_open(&e.bell, NULL), 0);
    assert_int_equal(rml_bell_open(&e.news, NULL), 0);
}

// All that the journal has is handed over twice, as an engine does: before and after what schedules have.
static int feed_one(void *context, const struct rml_journal_entry *entry, struct rml_err *err)
{
    (void)context;
    return rml_worker_feed(e.worker, entry, err);
}

static int take_up(struct rml_err *err)
{
    static const struct rml_worker_kept none[LANES];
    struct rml_journal *journal = rml_journaler_journal(e.journaler);
    int rc = rml_journal_read(journal, feed_one, NULL, err);
    if (rc == 0)
        rc = rml_worker_take_again(e.worker, none, err);
    if (rc == 0)
        rc = rml_journal_read(journal, feed_one, NULL, err);
    return rc == 0 ? rml_worker_settle(e.worker, none, err) : rc;
}

/* A history */

static void begin_stream(uint32_t lane)
{
    struct stream *s = &streams[stream_count];
    *s = (struct stream){.lane = lane, .serial = stream_count + 1};
    struct rml_lane_geometry geometry = {
        .partitions = PARTITIONS,
        .workers = 1,
        .cells = 16384,
        .cell_bytes = sizeof(struct event),
        .on_full = RML_LANE_BLOCK,
        .grid = {plan->sources[0].grid_origin_ns, plan->sources[0].grid_granule_ns},
        .key_field_count = 1,
        .key = {{.offset = offsetof(struct event, key), .bytes = 4}},
        .durable = RML_LANE_DURABLE_JOURNAL,
    };
    assert_int_equal(rml_lane_in_open(&s->in, &geometry, "test", 1, NULL), 0);
    assert_int_equal(rml_lane_out_open(&s->out, &geometry, rml_lane_in_fds(s->in), -1, NULL), 0);
    rml_lane_out_wait_max(s->out, 0);
    const struct rml_worker_message message = {
        .kind = RML_WORKER_ATTACH, .index = lane, .number = s->serial, .lane = s->in};
    assert_true(rml_worker_tell(e.worker, &message));
    stream_count++;
}

static void write_some(uint32_t stream)
{
    struct stream *s = &streams[stream];
    for (uint64_t n = draw(12); n > 0 && s->count < NUMBERS; n--) {
        const struct event event = event_of(stream, s->count);
        s->partition[s->count++] = rml_lane_out_route(s->out, &event);
        assert_int_equal(rml_lane_out_put(s->out, &event), 1);
    }
    if (draw(2) == 0)
        rml_lane_out_publish(s->out);
}

static void end_stream(struct stream *s)
{
    const struct rml_worker_message message = {.kind = RML_WORKER_FINISH, .index = s->lane};
    rml_lane_out_publish(s->out);
    s->finishing = true;
    assert_true(rml_worker_tell(e.worker, &message));
}

static void close_stream(struct stream *s)
{
    rml_lane_out_close(s->out);
    rml_lane_in_close(s->in);
    s->in = NULL;
}

static struct stream *stream_of(uint32_t lane)
{
    for (uint32_t i = 0; i < stream_count; i++) {
        if (streams[i].in != NULL && streams[i].lane == lane)
            return &streams[i];
    }
    return NULL;
}

// What each producer is told now. Those that are over were told of all.
static void mark(void)
{
    struct moment moment = marks > 0 ? moments[marks - 1] : (struct moment){0};
    for (uint32_t i = 0; i < stream_count; i++) {
        uint64_t records;
        if (streams[i].in == NULL)
            continue;
        assert_int_equal(rml_lane_out_durable(streams[i].out, &records), 0);
        assert_in_range(records, moment.durable[i], streams[i].count);
        moment.durable[i] = (uint16_t)records;
    }
    if (marks > 0 && memcmp(&moment, &moments[marks - 1], sizeof moment) == 0)
        return;
    assert_true(marks < MARKS);
    moments[marks] = moment;
    tape_mark(marks++);
}

static void hear(void)
{
    struct rml_worker_report report;
    while (rml_worker_hear(e.worker, &report)) {
        if (report.kind != RML_WORKER_LANE_DONE)
            continue;
        struct stream *s = stream_of(report.index);
        RML_CHECK(s != NULL);
        mark();
        // it was taken to its end, and a journal is how
        assert_int_equal(moments[marks - 1].durable[s - streams], s->count);
        close_stream(s);
    }
}

static void one_round(void)
{
    uint32_t lane = (uint32_t)draw(LANES);
    struct stream *s = stream_of(lane);
    if (s == NULL && stream_count < STREAMS && draw(4) == 0)
        begin_stream(lane);
    else if (s != NULL && !s->finishing && draw(60) == 0)
        end_stream(s);
    else if (s != NULL && !s->finishing)
        write_some((uint32_t)(s - streams));
    (void)rml_worker_round(e.worker);
    if (draw(3) != 0)
        (void)rml_journaler_round(e.journaler);
    hear();
    mark();
}

static const struct tape_fault faults[] = {
    {.how = TAPE_SHORT, .after = 1},
    {.how = TAPE_NOT, .error = EIO},
    {.how = TAPE_NOT_SURE, .error = EIO},
    {.is_flush = true, .how = TAPE_NOT, .error = EIO},
    {.is_flush = true, .how = TAPE_NOT_SURE, .error = EIO, .times = 2},
    {.how = TAPE_NOT, .error = ENOSPC},
};

static struct tape record(const struct rml_disk_way *const *ways, unsigned broken)
{
    struct rml_err err = {0};
    struct folder folder = folder_make("/tmp");
    memset(streams, 0, sizeof streams);
    stream_count = 0;
    marks = 0;
    tape_start(folder.path);
    open_bells();
    if (open_journaler(folder.path, ways, broken, &err) < 0)
        fail_msg("%s", err.text);
    open_worker();
    if (take_up(&err) < 0)
        fail_msg("%s", err.text);
    rml_journaler_begin(e.journaler);
    for (uint32_t i = 0; i < ROUNDS; i++) {
        if (broken == 0 && draw(100) == 0)
            tape_arm(faults[draw(sizeof faults / sizeof faults[0])]);
        one_round();
        if (draw(20) == 0)
            tape_disarm();
    }
    tape_disarm();
    for (uint32_t i = 0; i < stream_count; i++) {
        if (streams[i].in != NULL)
            close_stream(&streams[i]);
    }
    close_engine();
    folder_remove(&folder);
    return tape_stop();
}

/* What is taken up */

static struct reading {
    uint32_t next[STREAMS][PARTITIONS];  // number from which a record of it is expected
    uint64_t records;
    const char *wrong;
} r;

static void read_record(const struct event *event, uint32_t partition)
{
    if (event->stream >= stream_count || event->number >= streams[event->stream].count) {
        r.wrong = "a record that nobody wrote";
        return;
    }
    const struct stream *s = &streams[event->stream];
    const struct event was = event_of(event->stream, event->number);
    uint32_t *next = &r.next[event->stream][partition];
    while (*next < s->count && s->partition[*next] != partition)
        ++*next;
    if (memcmp(&was, event, sizeof was) != 0)
        r.wrong = "a record that was changed";
    else if (event->number != *next)
        r.wrong = event->number < *next ? "a record twice" : "a gap";
    ++*next;
    r.records++;
}

static int read_entry(void *context, const struct rml_journal_entry *entry, struct rml_err *err)
{
    (void)context;
    struct rml_journaled journaled;
    if (rml_journaling_read(entry, &journaled) < 0)
        return RML_FAIL(err, -EPROTO, "an entry that cannot be");
    const struct event *events = journaled.input.records;
    uint32_t rows = journaled.step.kind == RML_STEP_BATCH ? journaled.step.count : 0;
    for (uint32_t i = 0; i < rows && r.wrong == NULL; i++)
        read_record(&events[i], journaled.partition);
    return 0;
}

// Is each of the first so many records of each producer there?
static void judge(const struct moment *moment)
{
    for (uint32_t i = 0; i < stream_count; i++) {
        for (uint32_t n = 0; n < moment->durable[i] && r.wrong == NULL; n++) {
            if (r.next[i][streams[i].partition[n]] <= n)
                r.wrong = "a record that its producer was told is durable is missing";
        }
    }
    uint64_t taken = 0;
    for (uint32_t p = 0; p < PARTITIONS; p++)
        taken += rml_count_read(&e.sources[p].value[RML_SOURCE_taken]);
    if (r.wrong == NULL && taken != r.records)
        r.wrong = "the worker did not take what the journal has";
}

static void check_image(const char *folder, const struct moment *moment)
{
    static const struct rml_disk_way *const plain[] = {&rml_disk_way_buffered, NULL};
    struct rml_err err = {0};
    memset(&r, 0, sizeof r);
    open_bells();
    if (open_journaler(folder, plain, 0, &err) < 0) {
        r.wrong = "it cannot be opened";
        rml_bell_close(&e.bell);
        rml_bell_close(&e.news);
        memset(&e, 0, sizeof e);
        return;
    }
    open_worker();
    if (take_up(&err) < 0
        || rml_journal_read(rml_journaler_journal(e.journaler), read_entry, NULL, &err) < 0)
        r.wrong = "it cannot be taken up";
    judge(moment);
    if (r.wrong != NULL && err.text[0] != '\0')
        print_message("%s\n", err.text);
    close_engine();
}

struct outcome {
    uint32_t images, wrong;
    const char *first;
};

static struct outcome lose_power(const struct tape *tape, uint64_t wanted)
{
    struct outcome outcome = {0};
    struct folder folder = folder_make("/dev/shm");
    struct crash *crash = crash_open(tape);
    static const struct moment nothing;
    const struct moment *moment = &nothing;
    for (size_t at = 0; at < tape->count; at++) {
        crash_step(crash);
        if (tape->events[at].kind == TAPE_MARK)
            moment = &moments[tape->events[at].mark];
        uint64_t due = wanted * (at + 1) / tape->count - wanted * at / tape->count;
        for (; due > 0; due--) {
            crash_draw(crash, folder.path, &seed);
            check_image(folder.path, moment);
            outcome.images++;
            outcome.wrong += r.wrong != NULL;
            outcome.first = outcome.first == NULL ? r.wrong : outcome.first;
            folder_empty(&folder);
        }
    }
    crash_close(crash);
    folder_remove(&folder);
    return outcome;
}

static uint32_t losses(void)
{
    const char *set = getenv("RML_POWER_LOSSES");
    return set != NULL ? (uint32_t)strtoul(set, NULL, 10) : LOSSES;
}

static void nothing_is_lost(const struct rml_disk_way *const *ways)
{
    struct tape tape = record(ways, 0);
    uint64_t told = 0;
    for (uint32_t i = 0; i < stream_count; i++)
        told += moments[marks - 1].durable[i];
    struct outcome outcome = lose_power(&tape, losses() / 2);
    print_message("%u images, %u producers, %llu records were durable in the end\n", outcome.images,
                  stream_count, (unsigned long long)told);
    assert_true(told > 1000 && stream_count > LANES);
    tape_free(&tape);
    if (outcome.wrong > 0)
        fail_msg("%u of %u wrong; the first: %s", outcome.wrong, outcome.images, outcome.first);
}

static void what_a_producer_was_told_is_taken_up_after_any_loss_of_power(void **state)
{
    (void)state;
    nothing_is_lost(tape_ways);
}

static void so_it_is_through_the_page_cache(void **state)
{
    (void)state;
    nothing_is_lost(tape_ways + 2);
}

static void being_told_before_the_flush_is_noticed(void **state)
{
    (void)state;
    struct tape tape = record(tape_ways, RML_JOURNAL_ACKNOWLEDGES_EARLY);
    struct outcome outcome = lose_power(&tape, losses() / 2);
    tape_free(&tape);
    print_message("%u of %u images: %s\n", outcome.wrong, outcome.images,
                  outcome.first != NULL ? outcome.first : "nothing");
    assert_true(outcome.wrong > 0);
}

static int begin(void **state)
{
    (void)state;
    seed = rml_test_seed();
    struct rml_plan_errors errors = {0};
    struct rml_err err = {0};
    int rc = rml_plan_parse(pipeline, strlen(pipeline), "test.yaml", rml_operators_functions(),
                            &plan, &errors, &err);
    if (rc < 0)
        print_error("%s\n", errors.count > 0 ? errors.list[0].text : err.text);
    rml_plan_errors_fini(&errors);
    return rc;
}

static int end(void **state)
{
    (void)state;
    rml_plan_close(plan);
    return 0;
}

int main(void)
{
    const struct CMUnitTest claims[] = {
        CLAIM(what_a_producer_was_told_is_taken_up_after_any_loss_of_power),
        CLAIM(so_it_is_through_the_page_cache),
        CLAIM(being_told_before_the_flush_is_noticed),
    };
    return cmocka_run_group_tests(claims, begin, end);
}
