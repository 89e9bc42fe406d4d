#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "operators/registry.h"
#include "runtime/base/err.h"
#include "runtime/checkpoint/handover.h"
#include "runtime/lane/lane_out.h"
#include "runtime/partition/partition.h"
#include "runtime/state/restored.h"
#include "runtime/worker/schedule.h"
#include "runtime/worker/worker.h"
#include "tests/support/patience.h"
#include "tests/support/random.h"
#include "tests/support/test.h"

/*
 * A worker that is killed and started again, with lanes, rings and schedules that outlive it as a keeper
 * sees to, and snapshots that are durable when this test says so. An oracle of loops knows what the rows
 * must add up to, whatever happened between.
 */

#define LANES      4u
#define PARTITIONS 2u
#define KEYS       7u
#define SPANS      400u  // of a microsecond
#define STEPS      256u
#define ROWS       8192u
#define STREAMS    200u

struct event {
    int64_t ts;
    uint32_t key, value;
};

static const char pipeline[] =
    "version: 1\n"
    "pipeline: test\n"
    "schema: {event: {ts: time_ns, key: u32, value: u32}}\n"
    "runtime: {workers: 1, partitions: 2}\n"
    "sources:\n"
    "  events: {schema: event, event_time: ts, partition_by: [key], out_of_order: 20us, cells: 1024}\n"
    "stages:\n"
    "  sums: {from: events, key: key, window: {type: tumbling, size: 1us},\n"
    "         aggregate: {n: count(), total: sum(value), mid: median(value)}}\n"
    "sinks:\n"
    "  live: {from: sums, type: ring, rows: 8192}\n";

struct stream {
    unsigned char *bytes;
    size_t count, room;
};

struct kept_lane {
    struct rml_lane_geometry geometry;
    struct rml_lane_in *in;
    struct rml_lane_out *out;
    void *returns;  // a mapping that outlives `in`
    int fds[RML_LANE_KEPT_FDS(1)];
    uint64_t serial;
};

static struct fixture {
    struct rml_plan *plan;
    // What a keeper would have.
    struct kept_lane lanes[LANES];
    void *ring_memory[PARTITIONS], *schedule_memory[PARTITIONS];
    struct rml_broadcast_in readers[PARTITIONS];
    struct rml_stage_counts stages[PARTITIONS];
    struct rml_source_counts sources[PARTITIONS];
    // What lies on the disk.
    struct stream streams[PARTITIONS][STREAMS];
    uint64_t durable;  // checkpoints
    uint32_t needs[PARTITIONS],
        needs_then[PARTITIONS];  // of the last durable one, of the one to come
    // The engine's.
    struct rml_broadcast_out rings[PARTITIONS];
    struct rml_worker_counts counts[1];
    struct rml_sink_counts sinks[1];
    struct rml_bell bell, news;
    struct rml_handover handover;
    struct rml_writer *writer;
    struct rml_worker *worker;
    uint32_t buffers;
    bool is_saving;
    uint32_t parts_left;
    // What there is to know.
    uint64_t n[KEYS][SPANS], total[KEYS][SPANS], put;
    uint64_t seen_n[KEYS][SPANS], seen_total[KEYS][SPANS], seen, rows[PARTITIONS];
    uint64_t wants;
} f;

static uint64_t seed;

static uint64_t draw(uint64_t below)
{
    return rml_test_random(&seed) % below;
}

static struct rml_broadcast_shape shape(void)
{
    return (struct rml_broadcast_shape){
        (uint32_t)sizeof(struct rml_result_row) + f.plan->stages[0].output.record_bytes, ROWS};
}

static void *zeros(size_t bytes)
{
    void *memory = aligned_alloc(64, (bytes + 63) / 64 * 64);
    assert_non_null(memory);
    return memset(memory, 0, bytes);
}

static void open_all(void)
{
    memset(&f, 0, sizeof f);
    f.buffers = 8;
    seed = rml_test_seed();
    struct rml_plan_errors errors;
    struct rml_err err = {0};
    int rc = rml_plan_parse(pipeline, strlen(pipeline), "test.yaml", rml_operators_functions(),
                            &f.plan, &errors, &err);
    if (rc < 0)
        fail_msg("%s", errors.count > 0 ? errors.list[0].text : err.text);
    rml_plan_errors_fini(&errors);
    for (uint32_t p = 0; p < PARTITIONS; p++) {
        f.ring_memory[p] = zeros(rml_broadcast_bytes(shape()));
        f.schedule_memory[p] = zeros(rml_schedule_bytes(STEPS));
        rml_broadcast_attach_in(&f.readers[p], f.ring_memory[p], shape(), 1);
    }
}

/* The engine */

static void read_streams(uint32_t partition, struct rml_restored *past)
{
    if (f.durable == 0)
        return;
    struct rml_err err = {0};
    int rc = rml_restored_open(past, f.plan->state_bytes_max, &err);
    for (uint32_t i = 0; rc == 0 && i <= f.needs[partition]; i++) {
        const struct stream *s = &f.streams[partition][f.durable - 1 - i];
        rc = rml_restored_stream(past, &err);
        if (rc == 0)
            rc = rml_restored_bytes(past, s->bytes, s->count, &err);
    }
    if (rc < 0 || rml_restored_end(past, &err) < 0)
        fail_msg("%s", err.text);
}

static void open_engine(void)
{
    struct rml_err err = {0};
    struct rml_restored past[PARTITIONS] = {0};
    for (uint32_t p = 0; p < PARTITIONS; p++) {
        rml_broadcast_resume_out(&f.rings[p], f.ring_memory[p], shape());
        read_streams(p, &past[p]);
        memset(&f.stages[p], 0, sizeof f.stages[p]);
        memset(&f.sources[p], 0, sizeof f.sources[p]);
    }
    assert_int_equal(rml_bell_open(&f.bell, NULL), 0);
    assert_int_equal(rml_bell_open(&f.news, NULL), 0);
    static const struct rml_writer_note notes[RML_SINKS_MAX];
    const struct rml_writer_options writer = {.plan = f.plan,
                                              .notes = notes,
                                              .marked = &f.news,
                                              .workers = 1,
                                              .blocks = 8,
                                              .counts = f.sinks};
    assert_int_equal(rml_writer_open(&f.writer, &writer, NULL), 0);
    assert_int_equal(rml_writer_start(f.writer, NULL), 0);  // it gives blocks back
    assert_int_equal(rml_handover_open(&f.handover, f.buffers, &f.news, NULL), 0);
    const struct rml_worker_options options = {
        .plan = f.plan,
        .operators = rml_operators_table(),
        .clock = &rml_clock_system,
        .writer = f.writer,
        .cpu = -1,
        .lanes_max = LANES,
        .counts = f.counts,
        .stages = f.stages,
        .sources = f.sources,
        .reports_bell = &f.bell,
        .rings = f.rings,
        .handover = &f.handover,
        .schedules = f.schedule_memory,
        .schedule_steps = STEPS,
        .past = past,
    };
    if (rml_worker_open(&f.worker, &options, &err) < 0)
        fail_msg("%s", err.text);
    for (uint32_t p = 0; p < PARTITIONS; p++)
        rml_restored_close(&past[p]);
}

// As a kill does: nothing is told to anybody, and nothing goes on.
static void kill_engine(void)
{
    rml_worker_close(f.worker);
    rml_writer_close(f.writer);
    rml_handover_close(&f.handover);
    rml_bell_close(&f.bell);
    rml_bell_close(&f.news);
    f.is_saving = false;
    for (uint64_t i = f.durable; i < STREAMS; i++) {
        for (uint32_t p = 0; p < PARTITIONS; p++)
            f.streams[p][i].count = 0;
    }
}

static void tell_attach(uint32_t lane)
{
    const struct rml_worker_message message = {.kind = RML_WORKER_ATTACH,
                                               .index = lane,
                                               .number = f.lanes[lane].serial,
                                               .lane = f.lanes[lane].in};
    assert_true(rml_worker_tell(f.worker, &message));
}

static void start_again(void)
{
    struct rml_err err = {0};
    struct rml_worker_kept kept[LANES] = {0};
    open_engine();
    for (uint32_t i = 0; i < LANES; i++) {
        struct kept_lane *lane = &f.lanes[i];
        if (lane->in == NULL)
            continue;
        int fds[RML_LANE_KEPT_FDS(1)];
        for (uint32_t d = 0; d < RML_LANE_KEPT_FDS(1); d++)
            fds[d] = dup(lane->fds[d]);
        rml_lane_in_close(lane->in);
        size_t bytes = rml_lane_returns_bytes(&lane->geometry);
        void *returns = mremap(lane->returns, 0, bytes, MREMAP_MAYMOVE);
        assert_true(returns != MAP_FAILED);
        assert_int_equal(rml_lane_in_adopt(&lane->in, &lane->geometry, fds, returns, &err), 0);
        kept[i] = (struct rml_worker_kept){lane->in, lane->serial};
    }
    if (rml_worker_take_again(f.worker, kept, &err) < 0
        || rml_worker_settle(f.worker, kept, &err) < 0)
        fail_msg("%s", err.text);
    for (uint32_t i = 0; i < LANES; i++) {
        if (f.lanes[i].in != NULL)
            tell_attach(i);
    }
}

static void attach(uint32_t index)
{
    static uint64_t serials;
    const struct rml_plan_source *source = &f.plan->sources[0];
    struct kept_lane *lane = &f.lanes[index];
    lane->geometry = (struct rml_lane_geometry){
        .partitions = PARTITIONS,
        .workers = 1,
        .cells = source->cells,
        .cell_bytes = sizeof(struct event),
        .on_full = RML_LANE_BLOCK,
        .grid = {source->grid_origin_ns, source->grid_granule_ns},
        .key_field_count = 1,
        .key = {{.offset = 8, .bytes = 4}},
    };
    lane->serial = ++serials;
    assert_int_equal(rml_lane_in_make(&lane->in, &lane->geometry, "test", 1, NULL), 0);
    int fds[RML_LANE_KEPT_FDS(1)];
    rml_lane_in_kept(lane->in, fds);
    for (uint32_t d = 0; d < RML_LANE_KEPT_FDS(1); d++)
        lane->fds[d] = dup(fds[d]);
    lane->returns = mmap(NULL, rml_lane_returns_bytes(&lane->geometry), PROT_READ | PROT_WRITE,
                         MAP_SHARED, fds[0], 0);
    assert_true(lane->returns != MAP_FAILED);
    assert_int_equal(rml_lane_in_seal(lane->in, NULL), 0);
    assert_int_equal(
        rml_lane_out_open(&lane->out, &lane->geometry, rml_lane_in_fds(lane->in), -1, NULL), 0);
    rml_lane_out_wait_max(lane->out, 0);  // the engine is this very thread
    tell_attach(index);
}

/* The checkpointer */

static void begin_saving(void)
{
    const struct rml_worker_message message = {.kind = RML_WORKER_SAVE, .number = f.durable};
    assert_true(f.durable < STREAMS);
    assert_true(rml_worker_tell(f.worker, &message));
    f.is_saving = true;
    f.parts_left = PARTITIONS;
}

static void store(const struct rml_handover_message *message)
{
    struct stream *s = &f.streams[message->partition][f.durable];
    assert_int_equal(message->number, f.durable);
    assert_int_equal(message->is_first, s->count == 0);
    f.needs_then[message->partition] = message->needs;
    if (s->count + message->bytes > s->room) {
        s->room = 2 * (s->count + message->bytes);
        s->bytes = realloc(s->bytes, s->room);
        assert_non_null(s->bytes);
    }
    memcpy(s->bytes + s->count, message->buffer, message->bytes);
    s->count += message->bytes;
    f.parts_left -= message->is_last != 0;
}

static void end_saving(bool is_durable)
{
    const struct rml_worker_message message = {.kind = is_durable ? RML_WORKER_SAVED
                                                                  : RML_WORKER_UNSAVED};
    assert_true(rml_worker_tell(f.worker, &message));
    for (uint32_t p = 0; p < PARTITIONS && !is_durable; p++)
        f.streams[p][f.durable].count = 0;
    if (is_durable)
        memcpy(f.needs, f.needs_then, sizeof f.needs);
    f.durable += is_durable;
    f.is_saving = false;
}

static void carry(void)
{
    struct rml_handover_message message;
    while (rml_handover_take(&f.handover, &message)) {
        store(&message);
        rml_handover_put_back(&f.handover, message.buffer);
    }
}

/* Records and rows */

static void put(uint32_t lane, int64_t now)
{
    const struct event event = {.ts = now + (int64_t)draw(20000),
                                .key = (uint32_t)draw(KEYS),
                                .value = (uint32_t)draw(1000)};
    if (rml_lane_out_put(f.lanes[lane].out, &event) != 1)
        return;  // full
    if (draw(3) == 0)
        rml_lane_out_publish(f.lanes[lane].out);
    f.n[event.key][event.ts / 1000]++;
    f.total[event.key][event.ts / 1000] += event.value;
    f.put++;
}

static void read_rows(void)
{
    const struct rml_schema *schema = &f.plan->stages[0].output;
    for (uint32_t p = 0; p < PARTITIONS; p++) {
        struct {
            int64_t fire;
            uint64_t seq;
            unsigned char record[256];
        } row;

        uint64_t number;
        while (rml_broadcast_read(&f.readers[p], &row, &number) == 1) {
            int64_t start;
            uint32_t key;
            uint64_t n, total;
            assert_int_equal(row.seq, f.rows[p]++);
            memcpy(&start, row.record + schema->fields[0].offset, sizeof start);
            memcpy(&key, row.record + schema->fields[rml_schema_find(schema, "key", 3)].offset,
                   sizeof key);
            memcpy(&n, row.record + schema->fields[rml_schema_find(schema, "n", 1)].offset,
                   sizeof n);
            memcpy(&total, row.record + schema->fields[rml_schema_find(schema, "total", 5)].offset,
                   sizeof total);
            f.seen_n[key][start / 1000] += n;
            f.seen_total[key][start / 1000] += total;
            f.seen += n;
        }
        assert_int_equal(f.readers[p].missed, 0);
    }
}

static void hear(uint32_t *lanes_done)
{
    struct rml_worker_report report;
    while (rml_worker_hear(f.worker, &report)) {
        if (report.kind == RML_WORKER_LANE_DONE)
            ++*lanes_done;
        else if (report.kind == RML_WORKER_WANTS_SAVING)
            f.wants++;
    }
}

static void close_all(void)
{
    kill_engine();
    for (uint32_t i = 0; i < LANES; i++) {
        if (f.lanes[i].in == NULL)
            continue;
        munmap(f.lanes[i].returns, rml_lane_returns_bytes(&f.lanes[i].geometry));
        rml_lane_out_close(f.lanes[i].out);
        rml_lane_in_close(f.lanes[i].in);
        for (uint32_t d = 0; d < RML_LANE_KEPT_FDS(1); d++)
            close(f.lanes[i].fds[d]);
    }
    for (uint32_t p = 0; p < PARTITIONS; p++) {
        for (uint32_t i = 0; i < STREAMS; i++)
            free(f.streams[p][i].bytes);
        free(f.ring_memory[p]);
        free(f.schedule_memory[p]);
    }
    rml_plan_close(f.plan);
}

static void a_worker_killed_at_any_moment_gives_every_row_once(void **state)
{
    (void)state;
    open_all();
    open_engine();
    uint32_t kills = 0, attached = 0, done = 0;
    for (uint32_t round = 0; round < 20000; round++) {
        int64_t now = (int64_t)round * 18;
        if (attached < LANES && draw(500) == 0)
            attach(attached++);
        for (uint64_t i = draw(4); attached > 0 && i > 0; i--)
            put((uint32_t)draw(attached), now);
        (void)rml_worker_round(f.worker);
        hear(&done);
        if (!f.is_saving && f.durable < STREAMS && draw(300) == 0)
            begin_saving();
        if (draw(3) == 0)
            carry();
        if (f.is_saving && f.parts_left == 0)
            end_saving(draw(5) != 0);
        if (draw(200) == 0) {
            kill_engine();
            start_again();
            kills++;
        }
        if (draw(20) == 0)
            read_rows();
    }
    if (f.is_saving) {
        while (f.parts_left > 0) {
            (void)rml_worker_round(f.worker);
            carry();
        }
        end_saving(true);
    }
    // A schedule that is full up waits for a checkpoint: from here on there is one after another.
    for (uint32_t i = 0; i < attached; i++) {
        rml_lane_out_publish(f.lanes[i].out);
        const struct rml_worker_message message = {.kind = RML_WORKER_FINISH, .index = i};
        assert_true(rml_worker_tell(f.worker, &message));
    }
    done = 0;
    while (done < attached) {
        if (!f.is_saving)
            begin_saving();
        (void)rml_worker_round(f.worker);
        carry();
        if (f.parts_left == 0)
            end_saving(true);
        hear(&done);
    }
    const struct rml_worker_message end = {.kind = RML_WORKER_END};
    assert_true(rml_worker_tell(f.worker, &end));
    (void)rml_worker_round(f.worker);
    read_rows();
    printf("%u kills, %llu checkpoints, %llu records\n", kills, (unsigned long long)f.durable,
           (unsigned long long)f.put);
    assert_true(kills > 50 && f.durable > 10 && f.wants > 0);
    assert_int_equal(f.seen, f.put);
    assert_memory_equal(f.seen_n, f.n, sizeof f.n);
    assert_memory_equal(f.seen_total, f.total, sizeof f.total);
    uint64_t delivered = 0;
    for (uint32_t p = 0; p < PARTITIONS; p++)
        delivered += rml_count_read(&f.sources[p].value[RML_SOURCE_delivered]);
    assert_int_equal(delivered, f.put);
    close_all();
}

// A record of a key that nobody else has.
static void put_key(uint32_t lane, uint32_t key)
{
    const struct event event = {.ts = 1000, .key = key, .value = 1};
    assert_int_equal(rml_lane_out_put(f.lanes[lane].out, &event), 1);
}

static void take_all(void)
{
    for (uint32_t i = 0; i < LANES; i++)
        rml_lane_out_publish(f.lanes[i].out);
    while (rml_worker_round(f.worker))
        ;
}

static void save_all(void)
{
    begin_saving();
    while (f.parts_left > 0) {
        (void)rml_worker_round(f.worker);
        carry();
    }
    end_saving(true);
    (void)rml_worker_round(f.worker);
}

static uint64_t taken(void)
{
    uint64_t sum = 0;
    for (uint32_t p = 0; p < PARTITIONS; p++)
        sum += rml_count_read(&f.sources[p].value[RML_SOURCE_taken]);
    return sum;
}

static void
what_changes_under_a_snapshot_finds_a_buffer_while_the_rest_waits_for_a_disk(void **state)
{
    (void)state;
    open_all();
    f.buffers = 2;
    open_engine();
    for (uint32_t i = 0; i < LANES; i++)
        attach(i);
    const uint32_t batch = 3600, batches = 15;  // so much the lanes hold
    for (uint32_t b = 0; b < batches; b++) {
        for (uint32_t i = 0; i < batch; i++)
            put_key(i % LANES, b * batch + i);
        take_all();
        save_all();
    }
    // Keys that lie far from each other, so that each has a granule of its own: more than the buffers hold.
    for (uint32_t i = 0; i < batch; i++)
        put_key(i % LANES, i * batches);
    take_all();
    begin_saving();
    uint32_t rounds = 0;
    while (rml_worker_round(f.worker))
        rounds++;
    assert_true(rounds > 5);
    assert_int_equal(f.parts_left, PARTITIONS);  // all buffers but some are with the disk
    uint64_t before = taken();
    patience_renew();  // for lack of a buffer the worker would wait for ever
    for (uint32_t i = batch - 100; i < batch; i++)
        put_key(i % LANES, i * batches);
    take_all();
    patience_ends();
    assert_int_equal(taken() - before, 100);
    while (f.parts_left > 0) {
        carry();
        (void)rml_worker_round(f.worker);
    }
    end_saving(true);
    kill_engine();
    start_again();
    assert_int_equal(taken(), (batches + 1) * batch + 100);
    close_all();
}

TEST_MAIN(CLAIM(a_worker_killed_at_any_moment_gives_every_row_once),
          CLAIM(what_changes_under_a_snapshot_finds_a_buffer_while_the_rest_waits_for_a_disk))
