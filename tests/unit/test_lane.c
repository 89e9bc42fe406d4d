#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/base/err.h"
#include "runtime/lane/lane_in.h"
#include "runtime/lane/lane_out.h"
#include "runtime/lane/layout.h"
#include "runtime/lane/route.h"
#include "runtime/segment/segment.h"
#include "tests/support/patience.h"
#include "tests/support/random.h"
#include "tests/support/test.h"

struct record {
    int64_t time;
    uint64_t sequence;
    char name[16];
};

static struct rml_lane_geometry geometry_of(uint32_t partitions, uint32_t workers, uint32_t cells)
{
    struct rml_lane_geometry geometry = {
        .partitions = partitions,
        .workers = workers,
        .cells = cells,
        .cell_bytes = sizeof(struct record),
        .time_offset = offsetof(struct record, time),
        .on_full = RML_LANE_BLOCK,
        .grid = {.origin_ns = 0, .granule_ns = 1},
        .key_field_count = 1,
        .key = {{.offset = offsetof(struct record, name), .bytes = 16, .is_str = 1}}};
    for (uint32_t p = 0; p < partitions; p++)
        geometry.worker_of[p] = (uint8_t)(p % workers);
    return geometry;
}

static struct rml_lane_in *in;
static struct rml_lane_out *out;
static struct rml_mark marks[512];
static struct rml_lane_run run;

static void open_lane(const struct rml_lane_geometry *geometry, int peer_fd)
{
    assert_int_equal(rml_lane_in_open(&in, geometry, "test", 7, NULL), 0);
    assert_int_equal(rml_lane_out_open(&out, geometry, rml_lane_in_fds(in), peer_fd, NULL), 0);
}

static void close_lane(void)
{
    rml_lane_out_close(out);
    rml_lane_in_close(in);
}

static struct record record_of(uint64_t sequence, int64_t time)
{
    return (struct record){.time = time, .sequence = sequence, .name = "a"};
}

static void put(uint64_t sequence, int64_t time)
{
    struct record record = record_of(sequence, time);
    assert_int_equal(rml_lane_out_put(out, &record), 1);
}

// One record into a partition of the test's choice, whatever its key.
static void commit(uint32_t partition, uint64_t sequence, int64_t time)
{
    void *cells;
    assert_true(rml_lane_out_claim(out, partition, 1, &cells) == 1);
    *(struct record *)cells = record_of(sequence, time);
    rml_lane_out_commit(out, partition, 1);
}

static void take_all(uint32_t partition)
{
    int32_t rows;
    while ((rows = rml_lane_in_peek(in, partition, 512, marks, &run)) > 0) {
        rml_lane_in_take(in, partition, (uint32_t)rows);
        rml_lane_in_release(in, partition, (uint32_t)rows);
    }
    assert_int_equal(rows, 0);
}

static void a_record_put_and_published_comes_out_with_its_time(void **state)
{
    (void)state;
    struct rml_lane_geometry geometry = geometry_of(1, 1, 64);
    open_lane(&geometry, -1);
    assert_int_equal(rml_lane_in_time(in), RML_TIME_NONE);
    put(1, 500);
    put(2, -100);
    assert_int_equal(rml_lane_in_peek(in, 0, 10, marks, &run), 0);
    rml_lane_out_publish(out);
    assert_int_equal(rml_lane_in_peek(in, 0, 10, marks, &run), 2);
    const struct record *records = run.records;
    assert_int_equal(records[0].sequence, 1);
    assert_int_equal(records[1].sequence, 2);
    assert_int_equal(run.mark_count, 0);
    assert_int_equal(run.vouches, 500);
    assert_int_equal(rml_lane_in_is_drained(in, 0), 0);
    rml_lane_in_take(in, 0, 2);
    assert_int_equal(rml_lane_in_is_drained(in, 0), 1);
    rml_lane_in_release(in, 0, 2);

    struct rml_lane_counts counts;
    rml_lane_in_counts(in, &counts);
    assert_int_equal(counts.published, 2);
    assert_int_equal(counts.taken, 2);
    assert_int_equal(counts.released, 2);
    close_lane();
}

static void put_publishes_by_itself_every_so_many_records(void **state)
{
    (void)state;
    struct rml_lane_geometry geometry = geometry_of(1, 1, 64);
    open_lane(&geometry, -1);
    rml_lane_out_publish_every(out, 3);
    for (uint64_t i = 0; i < 7; i++)
        put(i, 0);
    assert_int_equal(rml_lane_in_peek(in, 0, 10, marks, &run), 6);
    rml_lane_out_close(out);  // publishes what is left
    assert_int_equal(rml_lane_in_peek(in, 0, 10, marks, &run), 7);
    rml_lane_in_close(in);
}

static void part_of_what_is_there_vouches_for_no_time(void **state)
{
    (void)state;
    struct rml_lane_geometry geometry = geometry_of(2, 1, 64);
    open_lane(&geometry, -1);
    commit(0, 1, 10);
    commit(0, 2, 20);
    rml_lane_out_publish(out);
    assert_int_equal(rml_lane_in_peek(in, 0, 1, marks, &run), 1);
    assert_int_equal(run.vouches, RML_TIME_NONE);
    assert_int_equal(rml_lane_in_peek(in, 1, 1, marks, &run), 0);
    assert_int_equal(run.vouches, 20);
    close_lane();
}

static void a_string_key_ends_at_its_first_nul(void **state)
{
    (void)state;
    struct rml_lane_geometry geometry = geometry_of(256, 1, 64);
    uint64_t seed = rml_test_seed();
    static const uint32_t lengths[] = {8, 16, 32, 64};
    for (uint32_t i = 0; i < 20000; i++) {
        geometry.key[0] =
            (struct rml_lane_key_field){.offset = i % 3, .bytes = lengths[i % 4], .is_str = 1};
        unsigned char record[80], clean[64] = {0};
        rml_test_bytes(&seed, record, sizeof record);
        unsigned char *name = record + geometry.key[0].offset;
        name[rml_test_random(&seed) % 66 % geometry.key[0].bytes] = 0;
        for (uint32_t c = 0; c < geometry.key[0].bytes && name[c] != 0; c++)
            clean[c] = name[c];
        uint64_t hash = rml_key_hash_bytes(clean, geometry.key[0].bytes);
        uint32_t expected = (uint32_t)((hash >> 32) * 256 >> 32);
        assert_int_equal(rml_route(&geometry, rml_route_kind(&geometry), record), expected);
    }
}

static void every_kind_of_key_routes_as_its_bytes_do(void **state)
{
    (void)state;
    struct rml_lane_geometry geometry = geometry_of(7, 1, 64);
    uint64_t seed = rml_test_seed();
    for (uint32_t i = 0; i < 20000; i++) {
        uint32_t bytes = (uint32_t)1 << i % 5;
        geometry.key[0] = (struct rml_lane_key_field){.offset = 8, .bytes = bytes};
        geometry.key[1] = (struct rml_lane_key_field){.offset = 3, .bytes = 2};
        geometry.key_field_count = i / 5 % 2 + 1;
        unsigned char record[32], key[18];
        rml_test_bytes(&seed, record, sizeof record);
        memcpy(key, record + 8, bytes);
        memcpy(key + bytes, record + 3, 2);
        uint32_t key_bytes = geometry.key_field_count == 1 ? bytes : bytes + 2;
        uint32_t expected = (uint32_t)((rml_key_hash_bytes(key, key_bytes) >> 32) * 7 >> 32);
        assert_int_equal(rml_route(&geometry, rml_route_kind(&geometry), record), expected);
    }
}

static void a_key_of_no_fields_keeps_to_one_partition(void **state)
{
    (void)state;
    struct rml_lane_geometry geometry = geometry_of(4, 1, 64);
    geometry.key_field_count = 0;
    open_lane(&geometry, -1);
    for (uint64_t i = 0; i < 10; i++)
        put(i, 0);
    rml_lane_out_publish(out);
    assert_int_equal(rml_lane_in_peek(in, 0, 100, marks, &run), 10);
    close_lane();
}

enum { STREAM = 4000 };

static int64_t lane_time_before[STREAM];  // by sequence: the greatest time committed before
static int64_t known[RML_LANE_PARTITIONS_MAX], vouched[RML_LANE_PARTITIONS_MAX];
static uint64_t seen_total;

static int64_t rounded(const struct rml_lane_geometry *geometry, int64_t time)
{
    return time == RML_TIME_NONE ? INT64_MIN : rml_lane_step(geometry->grid, time);
}

static int64_t later(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

// Take some of a partition, and hold each record's watermark against the list made while committing.
static void check_some(const struct rml_lane_geometry *geometry, uint32_t p, uint32_t want,
                       uint32_t take)
{
    int32_t rows = rml_lane_in_peek(in, p, want, marks, &run);
    assert_true(rows >= 0);
    const struct record *records = run.records;
    uint32_t taken = (uint32_t)rows < take ? (uint32_t)rows : take;
    uint32_t m = 0;
    for (uint32_t row = 0; row < taken; row++) {
        for (; m < run.mark_count && marks[m].row == row; m++)
            known[p] = later(known[p], marks[m].time);
        int64_t before = lane_time_before[records[row].sequence];
        assert_int_equal(rounded(geometry, known[p]), rounded(geometry, before));
        assert_true(before >= vouched[p]);
        known[p] = later(known[p], records[row].time);
    }
    assert_true(m == run.mark_count || marks[m].row >= taken);
    if (taken == (uint32_t)rows) {
        known[p] = later(known[p], run.vouches);
        vouched[p] = later(vouched[p], run.vouches);
    }
    rml_lane_in_take(in, p, taken);
    rml_lane_in_release(in, p, taken);
    seen_total += taken;
}

static int64_t random_time(uint64_t *seed, int64_t around)
{
    static const int64_t ends[] = {INT64_MIN, INT64_MIN + 1, INT64_MAX, INT64_MAX - 1, 0, -1};
    uint64_t chance = rml_test_random(seed) % 4000;
    if (chance < 6)
        return ends[chance];
    return around + (int64_t)(rml_test_random(seed) % 400) - 200;
}

static void one_stream(uint64_t *seed)
{
    static const int64_t granules[] = {1, 2, 10, 97, 1000, INT64_MAX};
    struct rml_lane_geometry geometry =
        geometry_of((uint32_t)(rml_test_random(seed) % 9 + 1), 1, 64);
    geometry.grid.granule_ns = granules[rml_test_random(seed) % 6];
    geometry.grid.origin_ns = random_time(seed, 0);
    open_lane(&geometry, -1);
    for (uint32_t p = 0; p < geometry.partitions; p++)
        known[p] = vouched[p] = RML_TIME_NONE;
    seen_total = 0;

    int64_t lane_time = RML_TIME_NONE, around = -1000;
    for (uint64_t sequence = 0; sequence < STREAM;) {
        uint32_t p = (uint32_t)(rml_test_random(seed) % geometry.partitions);
        void *cells;
        int32_t room =
            rml_lane_out_claim(out, p, (uint32_t)(rml_test_random(seed) % 20 + 1), &cells);
        assert_true(room > 0);
        uint32_t count = 0;
        for (; count < (uint32_t)room && sequence < STREAM; count++, sequence++) {
            around += (int64_t)(rml_test_random(seed) % 8);
            lane_time_before[sequence] = lane_time;
            int64_t time = random_time(seed, around);
            ((struct record *)cells)[count] = record_of(sequence, time);
            lane_time = later(lane_time, time);
        }
        rml_lane_out_commit(out, p, count);
        if (rml_test_random(seed) % 3 == 0)
            rml_lane_out_publish(out);
        // Some partitions wait long, but none so long that its ring is full.
        for (uint32_t q = 0; q < geometry.partitions; q++) {
            struct rml_lane_counts counts;
            rml_lane_in_partition_counts(in, q, &counts);
            if (rml_test_random(seed) % 4 == 0 || q == p) {
                rml_lane_out_publish(out);
                check_some(&geometry, q, 40, (uint32_t)(rml_test_random(seed) % 40 + 1));
            }
        }
    }
    rml_lane_out_publish(out);
    for (uint32_t p = 0; p < geometry.partitions; p++) {
        while (rml_lane_in_is_drained(in, p) == 0)
            check_some(&geometry, p, 512, 512);
        check_some(&geometry, p, 1, 1);
        assert_int_equal(known[p], lane_time);
    }
    assert_int_equal(seen_total, STREAM);
    close_lane();
}

static void marks_give_each_record_the_watermark_of_the_whole_lane(void **state)
{
    (void)state;
    uint64_t seed = rml_test_seed();
    for (int i = 0; i < 60; i++)
        one_stream(&seed);
}

static void one_partition_needs_no_marks_even_at_the_end_of_time(void **state)
{
    (void)state;
    struct rml_lane_geometry geometry = geometry_of(1, 1, 64);
    open_lane(&geometry, -1);
    commit(0, 0, INT64_MAX);
    commit(0, 1, INT64_MAX);
    struct rml_lane_out_counts counts;
    rml_lane_out_counts(out, &counts);
    assert_int_equal(counts.marks, 0);
    assert_int_equal(counts.committed, 2);
    close_lane();
}

// The producer's segment as a hostile producer has it: writable, with no library in between.
static struct rml_segment hostile;

static void open_hostile(const struct rml_lane_geometry *geometry)
{
    open_lane(geometry, -1);
    assert_int_equal(rml_segment_attach(&hostile, rml_lane_in_fds(in)->records,
                                        rml_lane_records_bytes(geometry), true, NULL),
                     0);
}

static void close_hostile(void)
{
    rml_segment_close(&hostile);
    close_lane();
}

static void scribble(_Atomic uint64_t *word, uint64_t value)
{
    atomic_store_explicit(word, value, memory_order_relaxed);
}

static void positions_that_cannot_be_true_are_refused(void **state)
{
    (void)state;
    struct rml_lane_geometry geometry = geometry_of(2, 1, 8);
    open_hostile(&geometry);
    commit(1, 1, 1);
    rml_lane_out_publish(out);
    struct rml_lane_record_line *lines = rml_lane_record_lines(hostile.memory);
    static const uint64_t wrong[] = {9, UINT64_MAX, 1ull << 63};
    for (int i = 0; i < 3; i++) {
        scribble(&lines[1].published, wrong[i]);
        assert_int_equal(rml_lane_in_peek(in, 1, 8, marks, &run), -EPROTO);
        assert_int_equal(rml_lane_in_is_drained(in, 1), -EPROTO);
    }
    assert_int_equal(rml_lane_in_peek(in, 0, 8, marks, &run), 0);  // the other one is as it was
    close_hostile();
}

static void scribble_mark(const struct rml_lane_geometry *geometry, uint32_t m, uint64_t position,
                          int64_t time)
{
    struct rml_lane_layout layout = rml_lane_layout(geometry);
    struct rml_lane_mark_cell *cells = rml_lane_marks(hostile.memory, &layout, 0);
    atomic_store_explicit(&cells[m].position, position, memory_order_relaxed);
    atomic_store_explicit(&cells[m].time, time, memory_order_relaxed);
}

static void marks_that_cannot_be_true_are_refused(void **state)
{
    (void)state;
    struct rml_lane_geometry geometry = geometry_of(2, 1, 8);
    open_hostile(&geometry);
    for (uint64_t i = 0; i < 6; i++)
        commit(0, i, 0);
    rml_lane_out_publish(out);
    assert_int_equal(rml_lane_in_peek(in, 0, 2, marks, &run), 2);
    rml_lane_in_take(in, 0, 2);

    struct rml_lane_record_line *lines = rml_lane_record_lines(hostile.memory);
    scribble(&lines[0].marks, 2);
    scribble_mark(&geometry, 0, 3, 5);
    scribble_mark(&geometry, 1, 4, 6);
    assert_int_equal(rml_lane_in_peek(in, 0, 8, marks, &run), 4);
    assert_int_equal(run.mark_count, 2);
    assert_int_equal(marks[0].row, 1);
    assert_int_equal(marks[1].row, 2);

    scribble_mark(&geometry, 1, 3, 6);  // the same row again
    assert_int_equal(rml_lane_in_peek(in, 0, 8, marks, &run), -EPROTO);
    scribble_mark(&geometry, 1, 4, 5);  // no later time
    assert_int_equal(rml_lane_in_peek(in, 0, 8, marks, &run), -EPROTO);
    scribble_mark(&geometry, 1, 4, 6);
    scribble_mark(&geometry, 0, 1, 5);  // a row already taken
    assert_int_equal(rml_lane_in_peek(in, 0, 8, marks, &run), -EPROTO);
    scribble_mark(&geometry, 0, 100, 5);  // a row that there cannot be yet
    assert_int_equal(rml_lane_in_peek(in, 0, 8, marks, &run), -EPROTO);
    scribble_mark(&geometry, 0, 3, 5);
    scribble(&lines[0].marks, 9);  // more marks than cells
    assert_int_equal(rml_lane_in_peek(in, 0, 8, marks, &run), -EPROTO);
    close_hostile();
}

static void a_full_lane_that_may_not_wait_says_so(void **state)
{
    (void)state;
    struct rml_lane_geometry geometry = geometry_of(1, 1, 8);
    open_lane(&geometry, -1);
    rml_lane_out_wait_max(out, 0);
    for (uint64_t i = 0; i < 8; i++)
        put(i, 0);
    void *cells;
    assert_int_equal(rml_lane_out_claim(out, 0, 1, &cells), -ETIMEDOUT);
    rml_lane_out_wait_max(out, 1000000);
    assert_int_equal(rml_lane_out_claim(out, 0, 1, &cells), -ETIMEDOUT);
    // What was committed became visible, or nobody could ever make room.
    assert_int_equal(rml_lane_in_peek(in, 0, 8, marks, &run), 8);
    rml_lane_in_take(in, 0, 3);
    rml_lane_in_release(in, 0, 3);
    assert_int_equal(rml_lane_out_claim(out, 0, 8, &cells), 3);
    close_lane();
}

static void a_full_lane_that_may_drop_counts_what_it_drops(void **state)
{
    (void)state;
    struct rml_lane_geometry geometry = geometry_of(1, 1, 8);
    geometry.on_full = RML_LANE_DROP_NEWEST;
    open_lane(&geometry, -1);
    for (uint64_t i = 0; i < 11; i++) {
        struct record record = record_of(i, 0);
        assert_int_equal(rml_lane_out_put(out, &record), i < 8);
    }
    struct rml_lane_counts counts;
    rml_lane_in_counts(in, &counts);
    assert_int_equal(counts.published, 8);
    assert_int_equal(counts.dropped, 3);
    close_lane();
}

static void *wait_for_room(void *ret_rc)
{
    void *cells;
    *(int32_t *)ret_rc = rml_lane_out_claim(out, 0, 1, &cells);
    return NULL;
}

static int32_t claimed_while(void (*then)(void), int peer_fd)
{
    struct rml_lane_geometry geometry = geometry_of(1, 1, 8);
    open_lane(&geometry, peer_fd);
    rml_lane_out_wait_max(out, -1);
    for (uint64_t i = 0; i < 8; i++)
        put(i, 0);
    int32_t rc = 0;
    pthread_t producer;
    assert_int_equal(pthread_create(&producer, NULL, wait_for_room, &rc), 0);
    then();
    assert_int_equal(pthread_join(producer, NULL), 0);
    return rc;
}

static void detach(void)
{
    rml_lane_in_detach(in, ECONNRESET,
                       "the pipeline is being stopped, and this is too long to keep");
}

static int peers[2];

static void hang_up(void)
{
    close(peers[0]);
}

static void make_room(void)
{
    while (rml_lane_in_peek(in, 0, 8, marks, &run) == 0)
        sched_yield();
    take_all(0);
}

static void whoever_waits_for_room_learns_that_the_lane_is_detached(void **state)
{
    (void)state;
    uint32_t code = 0;
    char text[48];
    assert_int_equal(claimed_while(detach, -1), -EPIPE);
    assert_int_equal(rml_lane_out_state(out, &code, text), -EPIPE);
    assert_int_equal(code, ECONNRESET);
    assert_string_equal(text, "the pipeline is being stopped, and this is too ");
    close_lane();
}

static void whoever_waits_for_room_learns_that_the_engine_is_gone(void **state)
{
    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, peers), 0);
    assert_int_equal(claimed_while(hang_up, peers[1]), -EPIPE);
    close(peers[1]);
    close_lane();
}

static void whoever_waits_for_room_is_woken_by_room(void **state)
{
    (void)state;
    assert_true(claimed_while(make_room, -1) > 0);
    close_lane();
}

/* ------------------------------------------------------------- sleeping and waking, in two threads */

enum { SLEEPERS_WORKERS = 2 };

static uint64_t stream_records;  // to be sent by `producer`
static uint64_t stream_seed;

static bool publish_some(uint64_t *seed, uint64_t *sent)
{
    uint32_t want = (uint32_t)(rml_test_random(seed) % 3 + 1);
    uint32_t p = (uint32_t)(rml_test_random(seed) % SLEEPERS_WORKERS);
    void *cells;
    int32_t room = rml_lane_out_claim(out, p, want, &cells);
    if (room <= 0)
        return false;
    if ((uint64_t)room > stream_records - *sent)
        room = (int32_t)(stream_records - *sent);
    for (int32_t i = 0; i < room; i++)
        ((struct record *)cells)[i] = record_of((*sent)++, 1);
    rml_lane_out_commit(out, p, (uint32_t)room);
    rml_lane_out_publish(out);
    return true;
}

static _Atomic uint64_t stream_seen;  // by the workers

// Sends, and now and then goes on only when all was seen: a wake-up that is lost then stays lost.
static void *producer(void *ret_ok)
{
    uint64_t seed = stream_seed, sent = 0;
    bool ok = true;
    while (ok && sent < stream_records) {
        ok = publish_some(&seed, &sent);
        for (uint64_t idle = rml_test_random(&seed) % 40; idle > 0; idle--)
            sched_yield();
        if (rml_test_random(&seed) % 4 != 0)
            continue;
        while (atomic_load_explicit(&stream_seen, memory_order_relaxed) < sent)
            sched_yield();
    }
    *(bool *)ret_ok = ok;
    return NULL;
}

struct worker {
    uint32_t index;
    uint64_t begins, sleeps;  // of saying that it sleeps, and of doing so
};

// As a worker of the engine: take, else say that it sleeps, look again, poll.
static void *worker(void *argument)
{
    struct worker *self = argument;
    struct rml_mark own_marks[8];
    struct rml_lane_run own_run;
    for (;;) {
        uint64_t publishes = rml_lane_in_publishes(in);
        int32_t rows = rml_lane_in_peek(in, self->index, 8, own_marks, &own_run);
        if (rows < 0)
            return NULL;
        if (rows > 0) {
            rml_lane_in_take(in, self->index, (uint32_t)rows);
            rml_lane_in_release(in, self->index, (uint32_t)rows);
            atomic_fetch_add_explicit(&stream_seen, (uint64_t)rows, memory_order_relaxed);
            patience_renew();
            continue;
        }
        if (atomic_load_explicit(&stream_seen, memory_order_relaxed) >= stream_records)
            return NULL;
        self->begins++;
        rml_lane_in_sleep_begin(in, self->index);
        if (rml_lane_in_publishes(in) == publishes) {
            self->sleeps++;
            struct pollfd bell = {.fd = rml_lane_in_fds(in)->wake[self->index], .events = POLLIN};
            poll(&bell, 1, -1);
        }
        rml_lane_in_sleep_end(in, self->index);
    }
}

static void no_wake_up_is_lost_in_either_direction(void **state)
{
    (void)state;
    struct rml_lane_geometry geometry = geometry_of(SLEEPERS_WORKERS, SLEEPERS_WORKERS, 4);
    open_lane(&geometry, -1);
    rml_lane_out_wait_max(out, -1);
    stream_records = RML_TEST_SLOW ? 30000 : 200000;
    stream_seed = rml_test_seed();
    atomic_store_explicit(&stream_seen, 0, memory_order_relaxed);
    struct worker workers[SLEEPERS_WORKERS];
    pthread_t threads[SLEEPERS_WORKERS + 1];
    bool ok = false;
    patience_renew();  // a lost wake-up is a hang
    assert_int_equal(pthread_create(&threads[SLEEPERS_WORKERS], NULL, producer, &ok), 0);
    for (uint32_t w = 0; w < SLEEPERS_WORKERS; w++) {
        workers[w] = (struct worker){.index = w};
        assert_int_equal(pthread_create(&threads[w], NULL, worker, &workers[w]), 0);
    }
    assert_int_equal(pthread_join(threads[SLEEPERS_WORKERS], NULL), 0);
    // The last to see a record is not the last to sleep: one ring from outside ends the other.
    while (atomic_load_explicit(&stream_seen, memory_order_relaxed) < stream_records)
        sched_yield();
    uint64_t one = 1;
    for (uint32_t w = 0; w < SLEEPERS_WORKERS; w++) {
        assert_int_equal(write(rml_lane_in_fds(in)->wake[w], &one, sizeof one), sizeof one);
        assert_int_equal(pthread_join(threads[w], NULL), 0);
    }
    patience_ends();
    assert_true(ok);
    assert_int_equal(atomic_load_explicit(&stream_seen, memory_order_relaxed), stream_records);
    struct rml_lane_out_counts counts;
    rml_lane_out_counts(out, &counts);
    print_message("workers slept %llu times, were rung %llu times; the producer slept %llu times\n",
                  (unsigned long long)(workers[0].sleeps + workers[1].sleeps),
                  (unsigned long long)counts.rings, (unsigned long long)counts.waits);
    assert_true(workers[0].sleeps + workers[1].sleeps > 0);
    assert_true(counts.rings <= workers[0].begins + workers[1].begins);
    close_lane();
}

static void a_worker_is_rung_once_for_each_sleep(void **state)
{
    (void)state;
    struct rml_lane_geometry geometry = geometry_of(2, 2, 64);
    open_lane(&geometry, -1);
    struct rml_lane_out_counts counts;
    rml_lane_in_sleep_begin(in, 0);
    rml_lane_in_sleep_begin(in, 1);
    for (uint64_t i = 0; i < 5; i++) {
        commit(0, i, 1);
        rml_lane_out_publish(out);
    }
    rml_lane_out_counts(out, &counts);
    assert_int_equal(counts.rings, 1);  // worker 0, once; nothing is there for worker 1
    rml_lane_in_sleep_end(in, 0);
    struct pollfd bell = {.fd = rml_lane_in_fds(in)->wake[0], .events = POLLIN};
    assert_int_equal(poll(&bell, 1, 0), 0);
    rml_lane_in_sleep_begin(in, 0);
    commit(0, 5, 1);
    rml_lane_out_publish(out);
    rml_lane_out_counts(out, &counts);
    assert_int_equal(counts.rings, 2);
    close_lane();
}

static void a_new_step_of_time_wakes_workers_without_records(void **state)
{
    (void)state;
    struct rml_lane_geometry geometry = geometry_of(2, 2, 64);
    geometry.grid.granule_ns = 100;
    open_lane(&geometry, -1);
    commit(0, 0, 150);
    rml_lane_out_publish(out);
    struct rml_lane_out_counts counts;
    rml_lane_in_sleep_begin(in, 1);
    commit(0, 1, 199);
    rml_lane_out_publish(out);
    rml_lane_out_counts(out, &counts);
    assert_int_equal(counts.rings, 0);
    commit(0, 2, 200);
    rml_lane_out_publish(out);
    rml_lane_out_counts(out, &counts);
    assert_int_equal(counts.rings, 1);
    close_lane();
}

/* -------------------------------------------------------------------------------- two processes */

enum { SENT_TOTAL = 300000 };

static int produce_in_a_child(const struct rml_lane_geometry *geometry,
                              enum rml_ring_variant variant)
{
    struct rml_lane_out *child_out;
    if (rml_lane_out_open(&child_out, geometry, rml_lane_in_fds(in), -1, NULL) < 0)
        return 1;
    if (rml_lane_out_force_variant(child_out, variant) < 0)
        return 2;
    rml_lane_out_wait_max(child_out, -1);
    for (uint64_t i = 0; i < SENT_TOTAL; i++) {
        struct record record = record_of(i, (int64_t)i);
        snprintf(record.name, sizeof record.name, "k%u", (unsigned)(i % 50));
        if (rml_lane_out_put(child_out, &record) != 1)
            return 3;
    }
    rml_lane_out_close(child_out);
    return 0;
}

static void another_process_sends_each_record_once_and_in_order(void **state)
{
    (void)state;
    struct rml_lane_geometry geometry = geometry_of(3, 1, 1024);
    for (int v = 0; v < RML_RING_VARIANTS; v++) {
        assert_int_equal(rml_lane_in_open(&in, &geometry, "test", 7, NULL), 0);
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0)
            _exit(produce_in_a_child(&geometry, (enum rml_ring_variant)v));

        uint64_t seen = 0, sum = 0, disorder = 0, last[3] = {0};
        patience_renew();
        while (seen < SENT_TOTAL) {
            uint64_t before = seen;
            for (uint32_t p = 0; p < 3; p++) {
                int32_t rows = rml_lane_in_peek(in, p, 512, marks, &run);
                assert_true(rows >= 0);
                for (int32_t i = 0; i < rows; i++) {
                    uint64_t sequence = ((const struct record *)run.records)[i].sequence;
                    disorder += last[p] > sequence;
                    last[p] = sequence;
                    sum += sequence;
                }
                seen += (uint64_t)rows;
                rml_lane_in_take(in, p, (uint32_t)rows);
                rml_lane_in_release(in, p, (uint32_t)rows);
            }
            if (seen == before)
                sched_yield();
            else
                patience_renew();
        }
        patience_ends();
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_int_equal(status, 0);
        assert_int_equal(disorder, 0);
        assert_int_equal(sum, (uint64_t)SENT_TOTAL * (SENT_TOTAL - 1) / 2);
        rml_lane_in_close(in);
    }
}

static void a_geometry_that_cannot_be_is_named(void **state)
{
    (void)state;
    struct rml_err err = {0};
    struct rml_lane_geometry geometry = geometry_of(4, 2, 64);
    geometry.worker_of[3] = 2;
    assert_int_equal(rml_lane_in_open(&in, &geometry, "g", 0, &err), -EINVAL);
    assert_string_equal(err.text, "lane g: worker_of[3] is 2 of 2 workers");
    geometry = geometry_of(4, 2, 64);
    geometry.key[0].offset = 20;
    assert_int_equal(rml_lane_geometry_check(&geometry, &err), -EINVAL);
    assert_string_equal(err.text, "key field 0: 16 bytes at 20 in a record of 32");
    geometry = geometry_of(4, 2, 64);
    geometry.key[0].bytes = UINT32_MAX;
    assert_int_equal(rml_lane_geometry_check(&geometry, &err), -EINVAL);
    geometry = geometry_of(4, 2, 64);
    geometry.partitions = 257;
    assert_int_equal(rml_lane_geometry_check(&geometry, &err), -EINVAL);
    geometry = geometry_of(4, 2, 64);
    geometry.time_offset = 28;
    assert_int_equal(rml_lane_geometry_check(&geometry, &err), -EINVAL);
    geometry.time_offset = 32;
    assert_int_equal(rml_lane_geometry_check(&geometry, &err), -EINVAL);
    geometry.time_offset = 24;
    geometry.grid.granule_ns = 0;
    assert_int_equal(rml_lane_geometry_check(&geometry, &err), -EINVAL);
    geometry.grid.granule_ns = 1;
    assert_int_equal(rml_lane_geometry_check(&geometry, &err), 0);
}

static void a_producer_refuses_memory_of_another_lane(void **state)
{
    (void)state;
    struct rml_err err = {0};
    struct rml_lane_geometry geometry = geometry_of(1, 1, 64);
    open_lane(&geometry, -1);
    struct rml_lane_geometry larger = geometry_of(1, 1, 4096);
    struct rml_lane_out *other;
    assert_int_equal(rml_lane_out_open(&other, &larger, rml_lane_in_fds(in), -1, &err), -EPROTO);
    assert_non_null(strstr(err.text, "lane: records: the memfd has"));
    close_lane();
}

/* An engine that dies, and the one after it: descriptors and the mapping outlive the first one's lane. */

#define LIVES 20

static struct {
    uint32_t count;
    void *list[LIVES];  // further mappings of the returns segment, made before it was sealed
} mappings;

static struct rml_lane_fds theirs;  // the producer's, which has its own

static struct rml_lane_fds copy_fds(const struct rml_lane_fds *from, uint32_t workers)
{
    struct rml_lane_fds to;
    rml_lane_fds_init(&to);
    to.records = fcntl(from->records, F_DUPFD_CLOEXEC, 3);
    to.returns = fcntl(from->returns, F_DUPFD_CLOEXEC, 3);
    to.room = fcntl(from->room, F_DUPFD_CLOEXEC, 3);
    for (uint32_t w = 0; w < workers; w++)
        to.wake[w] = fcntl(from->wake[w], F_DUPFD_CLOEXEC, 3);
    return to;
}

static void open_kept(const struct rml_lane_geometry *geometry)
{
    assert_int_equal(rml_lane_in_make(&in, geometry, "test", 7, NULL), 0);
    for (mappings.count = 0; mappings.count < LIVES; mappings.count++)
        mappings.list[mappings.count] =
            mmap(NULL, rml_lane_returns_bytes(geometry), PROT_READ | PROT_WRITE, MAP_SHARED,
                 rml_lane_in_fds(in)->returns, 0);
    assert_int_equal(rml_lane_in_seal(in, NULL), 0);
    theirs = copy_fds(rml_lane_in_fds(in), geometry->workers);
    assert_int_equal(rml_lane_out_open(&out, geometry, &theirs, -1, NULL), 0);
}

static void close_kept(void)
{
    rml_lane_out_abandon(out);
    rml_lane_fds_close(&theirs);
    rml_lane_in_close(in);
}

static void engine_dies(const struct rml_lane_geometry *geometry)
{
    int fds[RML_LANE_KEPT_FDS(RML_LANE_WORKERS_MAX)];
    rml_lane_in_kept(in, fds);
    for (uint32_t i = 0; i < RML_LANE_KEPT_FDS(geometry->workers); i++)
        fds[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 3);
    rml_lane_in_close(in);
    void *returns = mappings.list[--mappings.count];
    assert_int_equal(rml_lane_in_adopt(&in, geometry, fds, returns, NULL), 0);
}

// As an engine without checkpoints: behind what was taken, which nobody needs any more.
static void go_on(uint32_t partition)
{
    struct rml_lane_counts counts;
    rml_lane_in_partition_counts(in, partition, &counts);
    assert_int_equal(rml_lane_in_go_on(in, partition, counts.taken), 0);
    rml_lane_in_release(in, partition, (uint32_t)(counts.taken - counts.released));
}

/* Records and marks that came to each partition, as (sequence, time of the mark before it). */
struct came {
    uint32_t count;

    struct {
        uint64_t sequence;
        int64_t mark;
    } list[4096];
};

static uint32_t take_some(uint32_t partition, uint32_t want, bool release, struct came *came)
{
    int32_t rows = rml_lane_in_peek(in, partition, want, marks, &run);
    assert_true(rows >= 0);
    const struct record *records = run.records;
    for (int32_t i = 0, m = 0; i < rows; i++) {
        bool marked = m < (int32_t)run.mark_count && marks[m].row == (uint32_t)i;
        came->list[came->count].sequence = records[i].sequence;
        came->list[came->count++].mark = marked ? marks[m].time : RML_TIME_NONE;
        m += marked;
    }
    rml_lane_in_take(in, partition, (uint32_t)rows);
    if (release)
        rml_lane_in_release(in, partition, (uint32_t)rows);
    return (uint32_t)rows;
}

// The same stream through a lane whose engine dies again and again, or never does.
static void feed_through(bool dying, struct came came[3])
{
    struct rml_lane_geometry geometry = geometry_of(3, 2, 64);
    uint64_t seed = 20261121, sequence = 0;
    memset(came, 0, 3 * sizeof *came);
    open_kept(&geometry);
    for (int life = 0; life < LIVES; life++) {
        for (int turn = 0; turn < 20; turn++) {
            uint32_t count = (uint32_t)(rml_test_random(&seed) % 16);
            for (uint32_t i = 0; i < count; i++, sequence++) {
                uint32_t partition = (uint32_t)(rml_test_random(&seed) % 3);
                commit(partition, sequence, (int64_t)(rml_test_random(&seed) % 50 + sequence * 10));
            }
            rml_lane_out_publish(out);
            for (uint32_t p = 0; p < 3; p++)
                take_some(p, 1 + (uint32_t)(rml_test_random(&seed) % 20), true, &came[p]);
            for (uint32_t p = 0; p < 3; p++)
                take_some(p, 64, true, &came[p]);
            for (uint32_t p = 0; p < 3; p++)
                take_some(p, 64, true, &came[p]);  // the rest, where memory ended
        }
        for (uint32_t i = 0; i < 30; i++, sequence++)
            commit(i % 3, sequence, (int64_t)sequence * 10);
        rml_lane_out_publish(out);
        uint32_t taken = take_some(0, 4, false, &came[0]);  // and not released
        take_some(1, 4, true, &came[1]);
        if (dying) {
            engine_dies(&geometry);
            for (uint32_t p = 0; p < 3; p++)
                go_on(p);
        } else {
            rml_lane_in_release(in, 0, taken);
        }
        for (uint32_t p = 0; p < 3; p++) {
            while (take_some(p, 64, true, &came[p]) > 0)
                continue;
        }
    }
    close_kept();
}

static struct came whole[3], in_lives[3];

static void an_adopted_lane_gives_what_it_would_have_given(void **state)
{
    (void)state;
    feed_through(false, whole);
    feed_through(true, in_lives);
    uint32_t marked = 0;
    for (uint32_t p = 0; p < 3; p++) {
        assert_int_equal(in_lives[p].count, whole[p].count);
        assert_memory_equal(in_lives[p].list, whole[p].list,
                            whole[p].count * sizeof whole[p].list[0]);
        for (uint32_t i = 0; i < whole[p].count; i++)
            marked += whole[p].list[i].mark != RML_TIME_NONE;
    }
    assert_true(marked > 1000);
}

static void an_adopted_lane_wakes_who_slept_when_its_engine_died(void **state)
{
    (void)state;
    struct rml_lane_geometry geometry = geometry_of(1, 1, 64);
    open_kept(&geometry);
    rml_lane_in_sleep_begin(in, 0);
    put(1, 1);
    rml_lane_out_publish(out);  // rings, and the worker that is to hear it dies
    engine_dies(&geometry);
    go_on(0);
    rml_lane_in_sleep_begin(in, 0);  // refused where somebody still sleeps
    rml_lane_in_sleep_end(in, 0);
    rml_lane_in_sleep_begin(in, 0);
    struct pollfd bell = {.fd = rml_lane_in_fds(in)->wake[0], .events = POLLIN};
    assert_int_equal(poll(&bell, 1, 0), 0);
    put(2, 2);
    rml_lane_out_publish(out);
    assert_int_equal(poll(&bell, 1, 0), 1);
    rml_lane_in_sleep_end(in, 0);

    // The producer waits for room; the engine gave it, and died before it knocked.
    for (uint64_t i = 2; i < 64; i++)
        put(i, 1);
    rml_lane_out_publish(out);
    assert_int_equal(rml_lane_in_peek(in, 0, 64, marks, &run), 64);
    struct rml_segment records;
    assert_int_equal(rml_segment_attach(&records, rml_lane_in_fds(in)->records,
                                        rml_lane_records_bytes(&geometry), true, NULL),
                     0);
    rml_lane_in_take(in, 0, 64);
    rml_lane_in_release(in, 0, 64);
    struct rml_lane_record_line *lines = rml_lane_record_lines(records.memory);
    atomic_store_explicit(&lines->room_at, 32, memory_order_relaxed);
    atomic_store_explicit(&lines->waiting, RML_LANE_WAIT(1, 0), memory_order_relaxed);
    struct pollfd door = {.fd = rml_lane_in_fds(in)->room, .events = POLLIN};
    assert_int_equal(poll(&door, 1, 0), 0);
    engine_dies(&geometry);
    door.fd = rml_lane_in_fds(in)->room;
    assert_int_equal(poll(&door, 1, 0), 0);
    assert_int_equal(rml_lane_in_go_on(in, 0, 64), 0);
    assert_int_equal(poll(&door, 1, 0), 1);

    // Or it waits for what is durable.
    char knock;
    assert_int_equal(recv(door.fd, &knock, 1, 0), 1);
    rml_lane_in_durable(in, 0, 64);
    atomic_store_explicit(&lines->waiting, RML_LANE_WAIT(2, 0) | RML_LANE_WAIT_DURABLE,
                          memory_order_relaxed);
    engine_dies(&geometry);
    door.fd = rml_lane_in_fds(in)->room;
    assert_int_equal(poll(&door, 1, 0), 0);
    assert_int_equal(rml_lane_in_go_on(in, 0, 64), 0);
    assert_int_equal(poll(&door, 1, 0), 1);
    rml_segment_close(&records);
    close_kept();
}

static void a_producer_that_lies_while_its_engine_is_dead_is_found_out(void **state)
{
    (void)state;
    for (uint64_t lie = 0; lie < 3; lie++) {
        struct rml_lane_geometry geometry = geometry_of(1, 1, 64);
        open_kept(&geometry);
        for (uint64_t i = 0; i < 10; i++)
            put(i, 1);
        rml_lane_out_publish(out);
        take_all(0);
        struct rml_segment records;
        assert_int_equal(rml_segment_attach(&records, rml_lane_in_fds(in)->records,
                                            rml_lane_records_bytes(&geometry), true, NULL),
                         0);
        struct rml_lane_record_line *lines = rml_lane_record_lines(records.memory);
        const uint64_t lies[] = {9, 75, UINT64_MAX};
        atomic_store_explicit(&lines->published, lies[lie], memory_order_relaxed);
        engine_dies(&geometry);
        go_on(0);
        assert_int_equal(rml_lane_in_peek(in, 0, 10, marks, &run), -EPROTO);
        assert_int_equal(rml_lane_in_go_on(in, 0, 75), -EPROTO);  // our own words say otherwise
        assert_false(rml_lane_in_is_detached(in));
        rml_lane_in_detach(in, EPROTO, "lies");
        engine_dies(&geometry);
        assert_true(rml_lane_in_is_detached(in));
        rml_segment_close(&records);
        close_kept();
    }
}

static void what_was_taken_is_given_again_whatever_its_producer_shows_by_now(void **state)
{
    (void)state;
    static const uint64_t lies[] = {0, 9, 10, 75, UINT64_MAX};
    for (size_t lie = 0; lie < sizeof lies / sizeof lies[0]; lie++) {
        struct rml_lane_geometry geometry = geometry_of(2, 1, 64);
        open_kept(&geometry);
        for (uint64_t i = 0; i < 10; i++)
            commit(0, i, 1);
        rml_lane_out_publish(out);
        assert_int_equal(rml_lane_in_peek(in, 0, 64, marks, &run), 10);
        rml_lane_in_take(in, 0, 10);
        struct rml_segment records;
        assert_int_equal(rml_segment_attach(&records, rml_lane_in_fds(in)->records,
                                            rml_lane_records_bytes(&geometry), true, NULL),
                         0);
        struct rml_lane_record_line *lines = rml_lane_record_lines(records.memory);
        atomic_store_explicit(&lines->published, lies[lie], memory_order_relaxed);
        atomic_store_explicit(&lines->marks, lies[lie], memory_order_relaxed);
        engine_dies(&geometry);
        assert_int_equal(rml_lane_in_go_on(in, 0, 0), 0);
        assert_int_equal(rml_lane_in_peek_again(in, 0, 65, marks, &run), -EPROTO);
        assert_int_equal(rml_lane_in_peek_again(in, 0, 4, marks, &run), 0);
        rml_lane_in_take(in, 0, 4);
        assert_int_equal(rml_lane_in_peek_again(in, 0, 6, marks, &run), 0);
        assert_int_equal(run.rows, 6);
        assert_int_equal(((const struct record *)run.records)->sequence, 4);
        rml_lane_in_take(in, 0, 6);
        assert_int_equal(rml_lane_in_position(in, 0), 10);
        // who lies is found out once more is asked for than was there
        assert_int_equal(rml_lane_in_peek(in, 0, 10, marks, &run), lies[lie] == 10 ? 0 : -EPROTO);
        rml_segment_close(&records);
        close_kept();
    }
}

TEST_MAIN(
    CLAIM(what_was_taken_is_given_again_whatever_its_producer_shows_by_now),
    CLAIM(an_adopted_lane_gives_what_it_would_have_given),
    CLAIM(an_adopted_lane_wakes_who_slept_when_its_engine_died),
    CLAIM(a_producer_that_lies_while_its_engine_is_dead_is_found_out),
    CLAIM(a_record_put_and_published_comes_out_with_its_time),
    CLAIM(put_publishes_by_itself_every_so_many_records),
    CLAIM(part_of_what_is_there_vouches_for_no_time), CLAIM(a_string_key_ends_at_its_first_nul),
    CLAIM(every_kind_of_key_routes_as_its_bytes_do),
    CLAIM(a_key_of_no_fields_keeps_to_one_partition),
    CLAIM(marks_give_each_record_the_watermark_of_the_whole_lane),
    CLAIM(one_partition_needs_no_marks_even_at_the_end_of_time),
    CLAIM(positions_that_cannot_be_true_are_refused), CLAIM(marks_that_cannot_be_true_are_refused),
    CLAIM(a_full_lane_that_may_not_wait_says_so),
    CLAIM(a_full_lane_that_may_drop_counts_what_it_drops),
    CLAIM(whoever_waits_for_room_learns_that_the_lane_is_detached),
    CLAIM(whoever_waits_for_room_learns_that_the_engine_is_gone),
    CLAIM(whoever_waits_for_room_is_woken_by_room), CLAIM(no_wake_up_is_lost_in_either_direction),
    CLAIM(a_worker_is_rung_once_for_each_sleep),
    CLAIM(a_new_step_of_time_wakes_workers_without_records),
    CLAIM(another_process_sends_each_record_once_and_in_order),
    CLAIM(a_geometry_that_cannot_be_is_named), CLAIM(a_producer_refuses_memory_of_another_lane))
