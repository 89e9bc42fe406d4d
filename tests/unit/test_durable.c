/*
 * What a producer is told of its records that are durable: never more than are, never less than it could be
 * told, and in time for who waits.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "runtime/lane/durable.h"
#include "runtime/lane/lane_in.h"
#include "runtime/lane/lane_out.h"
#include "runtime/lane/layout.h"
#include "runtime/segment/segment.h"
#include "tests/support/patience.h"
#include "tests/support/random.h"
#include "tests/support/test.h"

#define PARTITIONS 3u
#define RECORDS    4000u
#define FOREVER    (-1)

static uint64_t seed;

static uint64_t draw(uint64_t below)
{
    return rml_test_random(&seed) % below;
}

/* Notes */

/* All records of a producer: where each went, and which of them were noted. */
struct stream {
    uint32_t partition[RECORDS];
    uint64_t committed[PARTITIONS], durable[PARTITIONS];
    uint64_t written;
};

// The first so many whose rings are durable beyond them.
static uint64_t truth(const struct stream *s)
{
    uint64_t at[PARTITIONS] = {0};
    for (uint64_t i = 0; i < s->written; i++) {
        if (++at[s->partition[i]] > s->durable[s->partition[i]])
            return i;
    }
    return s->written;
}

static void write_some(struct stream *s, struct rml_durable *d)
{
    for (uint64_t n = 1 + draw(20); n > 0 && s->written < RECORDS; n--) {
        s->partition[s->written] = (uint32_t)draw(PARTITIONS);
        s->committed[s->partition[s->written++]]++;
    }
    uint64_t *positions = rml_durable_publish(d, s->written);
    if (positions != NULL)
        memcpy(positions, s->committed, sizeof s->committed);
}

// As a lane does.
static uint64_t look(const struct stream *s, struct rml_durable *d)
{
    uint64_t records = rml_durable_look(d, s->durable);
    uint64_t *positions = rml_durable_note_last(d, s->written);
    if (positions == NULL)
        return records;
    memcpy(positions, s->committed, sizeof s->committed);
    return rml_durable_look(d, s->durable);
}

static void make_some_durable(struct stream *s, uint64_t at_most)
{
    for (uint32_t p = 0; p < PARTITIONS; p++) {
        uint64_t left = s->committed[p] - s->durable[p];
        uint64_t more = draw(at_most);
        s->durable[p] += more < left ? more : left;
    }
}

static void follow_a_stream(uint64_t at_most)
{
    struct rml_durable d;
    struct stream *s = calloc(1, sizeof *s);
    uint64_t told = 0, most = 0;
    assert_non_null(s);
    assert_int_equal(rml_durable_open(&d, PARTITIONS), 0);
    while (s->written < RECORDS) {
        write_some(s, &d);
        if (draw(3) == 0)
            make_some_durable(s, at_most);
        if (draw(2) == 0)
            continue;
        uint64_t is = truth(s), now = look(s, &d);
        assert_true(now <= is && now >= told);
        told = now;
        // A publish has 20 records at most. Steps are for what was on its way at some time, of which half may be left.
        most = s->written - told > most ? s->written - told : most;
        assert_true(is - told <= 2 * 20 + most / 8);
    }
    memcpy(s->durable, s->committed, sizeof s->durable);
    assert_int_equal(look(s, &d), RECORDS);
    rml_durable_close(&d);
    free(s);
}

static void what_is_told_is_true_and_soon_told_however_much_is_on_its_way(void **state)
{
    (void)state;
    seed = rml_test_seed();
    for (uint64_t at_most = 1; at_most < 200; at_most += 1 + at_most / 3)
        follow_a_stream(at_most);
}

static void with_few_publishes_on_their_way_each_is_told_by_itself(void **state)
{
    (void)state;
    struct rml_durable d;
    assert_int_equal(rml_durable_open(&d, 1), 0);
    for (uint64_t i = 1; i <= 1000; i++) {
        *rml_durable_publish(&d, i * 7) = i * 7;
        if (i < RML_DURABLE_NOTES)
            continue;
        uint64_t durable = (i - RML_DURABLE_NOTES + 1) * 7 + 6;  // the next but one record
        assert_int_equal(rml_durable_look(&d, &durable), durable / 7 * 7);
    }
    rml_durable_close(&d);
}

/* A lane */

struct record {
    int64_t time;
    uint64_t key;
};

static struct rml_lane_in *in;
static struct rml_lane_out *out;

static void open_lane(uint32_t partitions, uint32_t cells, enum rml_lane_durable durable,
                      int peer_fd)
{
    const struct rml_lane_geometry geometry = {
        .partitions = partitions,
        .workers = 1,
        .cells = cells,
        .cell_bytes = sizeof(struct record),
        .time_offset = offsetof(struct record, time),
        .on_full = RML_LANE_BLOCK,
        .grid = {.origin_ns = 0, .granule_ns = 1},
        .key_field_count = 1,
        .key = {{.offset = offsetof(struct record, key), .bytes = 8}},
        .durable = durable};
    assert_int_equal(rml_lane_in_open(&in, &geometry, "test", 7, NULL), 0);
    assert_int_equal(rml_lane_out_open(&out, &geometry, rml_lane_in_fds(in), peer_fd, NULL), 0);
}

static void close_lane(void)
{
    rml_lane_out_close(out);
    rml_lane_in_close(in);
}

static void put(uint64_t key)
{
    const struct record record = {.time = (int64_t)key, .key = key};
    assert_int_equal(rml_lane_out_put(out, &record), 1);
}

static uint32_t partition_of(uint64_t key)
{
    const struct record record = {.key = key};
    return rml_lane_out_route(out, &record);
}

static uint64_t told(void)
{
    uint64_t records = UINT64_MAX;
    assert_int_equal(rml_lane_out_durable(out, &records), 0);
    return records;
}

static void take_all(uint32_t partition)
{
    static struct rml_mark marks[512];
    struct rml_lane_run run;
    int32_t rows;
    while ((rows = rml_lane_in_peek(in, partition, 512, marks, &run)) > 0)
        rml_lane_in_take(in, partition, (uint32_t)rows);
    assert_int_equal(rows, 0);
}

static void a_producer_is_told_of_its_first_records_wherever_they_went(void **state)
{
    (void)state;
    open_lane(PARTITIONS, 64, RML_LANE_DURABLE_JOURNAL, -1);
    assert_int_equal(told(), 0);
    uint64_t counts[PARTITIONS] = {0};
    for (uint64_t key = 0; key < 30; key++) {
        put(key);
        counts[partition_of(key)]++;
        rml_lane_out_publish(out);
    }
    uint32_t last = partition_of(29);
    for (uint32_t p = 0; p < PARTITIONS; p++) {
        assert_true(counts[p] > 1);
        take_all(p);
        rml_lane_in_durable(in, p, counts[p] - (p == last));
        rml_lane_in_durable(in, p, 1);  // is behind that
    }
    assert_int_equal(told(), 29);
    rml_lane_in_durable(in, last, counts[last]);
    assert_int_equal(told(), 30);
    put(1);
    assert_int_equal(told(), 30);  // it is not published yet
    // when the engine is gone, too
    rml_lane_in_detach(in, 1, "gone");
    assert_int_equal(told(), 30);
    close_lane();
}

static void records_from_before_the_first_question_are_told_of(void **state)
{
    (void)state;
    open_lane(1, 64, RML_LANE_DURABLE_CHECKPOINT, -1);
    put(1);
    put(2);
    rml_lane_out_publish(out);
    put(3);
    take_all(0);
    rml_lane_in_all_durable(in);
    assert_int_equal(told(), 2);
    rml_lane_out_publish(out);
    take_all(0);
    assert_int_equal(told(), 2);
    rml_lane_in_all_durable(in);
    assert_int_equal(told(), 3);
    close_lane();
}

// Who has waited asks for the first time, and then again with more on its way than is noted one by one.
static void what_a_wait_has_told_is_not_taken_back(void **state)
{
    (void)state;
    open_lane(1, 1024, RML_LANE_DURABLE_JOURNAL, -1);
    put(1);
    put(2);
    rml_lane_out_publish(out);
    take_all(0);
    rml_lane_in_all_durable(in);
    assert_int_equal(rml_lane_out_wait_durable(out, FOREVER), 0);
    put(3);
    rml_lane_out_publish(out);
    assert_int_equal(told(), 2);
    uint64_t records = 3;
    for (; records < 3 + 3 * RML_DURABLE_NOTES; records++) {
        put(records + 1);
        rml_lane_out_publish(out);
    }
    take_all(0);
    rml_lane_in_all_durable(in);
    assert_int_equal(rml_lane_out_wait_durable(out, FOREVER), 0);
    put(records + 1);
    rml_lane_out_publish(out);
    assert_int_equal(told(), records);
    take_all(0);
    rml_lane_in_all_durable(in);
    assert_int_equal(told(), records + 1);
    close_lane();
}

static void an_engine_without_a_state_makes_nothing_durable(void **state)
{
    (void)state;
    uint64_t records;
    open_lane(1, 64, RML_LANE_DURABLE_NEVER, -1);
    assert_int_equal(rml_lane_out_durable(out, &records), -ENOTSUP);
    assert_int_equal(rml_lane_out_wait_durable(out, FOREVER), -ENOTSUP);
    close_lane();
}

static void more_than_was_published_is_not_believed(void **state)
{
    (void)state;
    uint64_t records;
    open_lane(1, 64, RML_LANE_DURABLE_JOURNAL, -1);
    put(1);
    rml_lane_out_publish(out);
    rml_lane_in_durable(in, 0, 2);
    assert_int_equal(rml_lane_out_durable(out, &records), -EPROTO);
    assert_int_equal(rml_lane_out_wait_durable(out, FOREVER), -EPROTO);
    close_lane();
}

static void who_waits_learns_that_its_time_is_up_or_the_engine_gone(void **state)
{
    (void)state;
    int peer[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, peer), 0);
    open_lane(1, 64, RML_LANE_DURABLE_JOURNAL, peer[0]);
    assert_int_equal(rml_lane_out_wait_durable(out, 1), 0);  // for nothing nobody waits
    put(1);
    assert_int_equal(rml_lane_out_wait_durable(out, 1000000), -ETIMEDOUT);
    rml_lane_in_detach(in, 1, "gone");  // what is published may become durable yet
    assert_int_equal(rml_lane_out_wait_durable(out, 1000000), -ETIMEDOUT);
    close(peer[1]);
    assert_int_equal(rml_lane_out_wait_durable(out, FOREVER), -EPIPE);
    // but what it said last is what counts
    take_all(0);
    rml_lane_in_all_durable(in);
    assert_int_equal(rml_lane_out_wait_durable(out, FOREVER), 0);
    close(peer[0]);
    close_lane();
}

/* Threads: a producer that waits after each batch, and an engine that takes its time. */

static uint64_t batches;
static struct rml_segment words;
static _Atomic uint32_t is_over;

static void *producer(void *context)
{
    uint64_t state = rml_test_seed();
    bool *ok = context;
    *ok = true;
    uint64_t written = 0;
    for (uint64_t b = 0; b < batches && *ok; b++) {
        for (uint64_t n = 1 + rml_test_random(&state) % 4; n > 0; n--, written++) {
            const struct record record = {.time = (int64_t)written, .key = written};
            *ok = *ok && rml_lane_out_put(out, &record) == 1;
        }
        uint64_t records = 0;
        *ok = *ok && rml_lane_out_wait_durable(out, FOREVER) == 0
              && rml_lane_out_durable(out, &records) == 0 && records == written;
    }
    atomic_store_explicit(&is_over, 1, memory_order_release);
    return NULL;
}

// It has published something, and cannot go on without us.
static void until_waiting(void)
{
    const struct rml_lane_record_line *line = rml_lane_record_lines(words.memory);
    while (atomic_load_explicit(&line->waiting, memory_order_relaxed) == 0)
        sched_yield();
}

static void map_words(void)
{
    assert_int_equal(rml_segment_attach(&words, rml_lane_in_fds(in)->records,
                                        rml_lane_records_bytes(rml_lane_in_geometry(in)), true,
                                        NULL),
                     0);
}

static void no_wake_up_is_lost_by_who_waits(void **state)
{
    (void)state;
    pthread_t thread;
    bool ok = false;
    uint64_t turn = rml_test_seed();
    batches = RML_TEST_SLOW ? 300 : 500;  // each may wait for a processor several times
    open_lane(PARTITIONS, 4, RML_LANE_DURABLE_JOURNAL, -1);
    map_words();
    assert_int_equal(told(), 0);
    rml_lane_out_wait_max(out, FOREVER);
    patience_renew();  // a lost wake-up is a hang
    assert_int_equal(pthread_create(&thread, NULL, producer, &ok), 0);
    while (atomic_load_explicit(&is_over, memory_order_acquire) == 0) {
        for (uint32_t p = 0; p < PARTITIONS; p++) {
            uint64_t before = rml_lane_in_position(in, p);
            take_all(p);
            uint64_t taken = rml_lane_in_position(in, p);
            if (taken > before)
                patience_renew();
            if (taken > before && rml_test_random(&turn) % 8 == 0)
                until_waiting();
            // in two parts, of which the first must not count as the answer
            if (taken > before + 1)
                rml_lane_in_durable(in, p, before + 1);
            rml_lane_in_durable(in, p, taken);
            rml_lane_in_release(in, p, (uint32_t)(taken - before));
        }
    }
    assert_int_equal(pthread_join(thread, NULL), 0);
    patience_ends();
    assert_true(ok);
    struct rml_lane_out_counts counts;
    rml_lane_out_counts(out, &counts);
    print_message("%llu batches, slept %llu times\n", (unsigned long long)batches,
                  (unsigned long long)counts.waits);
    assert_true(counts.waits > batches / 100);
    rml_segment_close(&words);
    close_lane();
}

/* Knocks, one by one: what a producer says of itself is written here in its place. */

static void say_waiting(uint64_t waiting, uint64_t position)
{
    struct rml_lane_record_line *line = rml_lane_record_lines(words.memory);
    atomic_store_explicit(&line->room_at, position, memory_order_relaxed);
    atomic_store_explicit(&line->waiting, waiting, memory_order_seq_cst);
}

static bool is_knocked(void)
{
    char knock;
    return recv(rml_lane_in_fds(in)->room, &knock, 1, MSG_DONTWAIT) == 1;
}

static void who_waits_for_room_and_who_waits_for_the_disk_are_not_taken_for_each_other(void **state)
{
    (void)state;
    open_lane(1, 64, RML_LANE_DURABLE_JOURNAL, -1);
    map_words();
    for (uint64_t key = 0; key < 20; key++)
        put(key);
    rml_lane_out_publish(out);
    take_all(0);
    say_waiting(RML_LANE_WAIT(1, 0), 4);
    rml_lane_in_durable(in, 0, 4);
    assert_false(is_knocked());
    rml_lane_in_release(in, 0, 4);
    assert_true(is_knocked());

    say_waiting(RML_LANE_WAIT(2, 0) | RML_LANE_WAIT_DURABLE, 8);
    rml_lane_in_release(in, 0, 6);
    rml_lane_in_durable(in, 0, 7);
    assert_false(is_knocked());
    rml_lane_in_durable(in, 0, 8);
    assert_true(is_knocked());
    rml_lane_in_durable(in, 0, 9);
    assert_false(is_knocked());  // once for each wait
    rml_segment_close(&words);
    close_lane();
}

TEST_MAIN(CLAIM(what_is_told_is_true_and_soon_told_however_much_is_on_its_way),
          CLAIM(with_few_publishes_on_their_way_each_is_told_by_itself),
          CLAIM(a_producer_is_told_of_its_first_records_wherever_they_went),
          CLAIM(records_from_before_the_first_question_are_told_of),
          CLAIM(what_a_wait_has_told_is_not_taken_back),
          CLAIM(an_engine_without_a_state_makes_nothing_durable),
          CLAIM(more_than_was_published_is_not_believed),
          CLAIM(who_waits_learns_that_its_time_is_up_or_the_engine_gone),
          CLAIM(no_wake_up_is_lost_by_who_waits),
          CLAIM(who_waits_for_room_and_who_waits_for_the_disk_are_not_taken_for_each_other))
