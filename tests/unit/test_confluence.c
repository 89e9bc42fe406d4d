/* A lane that several producers share, from both sides: its order, its time, deaths at every instruction. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/base/err.h"
#include "runtime/lane/lane_in.h"
#include "runtime/lane/layout.h"
#include "runtime/lane/share_out.h"
#include "runtime/segment/segment.h"
#include "tests/support/random.h"
#include "tests/support/stepping.h"
#include "tests/support/test.h"

#define OWNERS 8u
#define CELLS  64u

struct record {
    int64_t time;
    uint64_t owner, sequence;
};

static struct rml_lane_geometry geometry;
static struct rml_lane_in *in;
static struct rml_share_out *outs[OWNERS + 1];  // by number
static int sockets[OWNERS + 1][2];
static void *kept;  // the returns, as a keeper maps them
static struct rml_mark marks[4096];
static struct rml_lane_run run;

static void open_lane(uint32_t partitions, uint32_t cells, uint32_t log_cells)
{
    geometry = (struct rml_lane_geometry){
        .partitions = partitions,
        .workers = 1,
        .cells = cells,
        .cell_bytes = sizeof(struct record),
        .time_offset = offsetof(struct record, time),
        .on_full = RML_LANE_BLOCK,
        .owners = OWNERS,
        .log_cells = log_cells,
        .grid = {.origin_ns = 0, .granule_ns = 1},
        .key_field_count = 1,
        .key = {{.offset = offsetof(struct record, sequence), .bytes = 8}}};
    struct rml_err err = {0};
    assert_int_equal(rml_lane_in_make(&in, &geometry, "test", 7, &err), 0);
    kept = mmap(NULL, rml_lane_returns_bytes(&geometry), PROT_READ | PROT_WRITE, MAP_SHARED,
                rml_lane_in_fds(in)->returns, 0);
    assert_ptr_not_equal(kept, MAP_FAILED);
    assert_int_equal(rml_lane_in_seal(in, &err), 0);
    for (uint32_t i = 0; i <= OWNERS; i++)
        sockets[i][0] = sockets[i][1] = -1;
}

static uint32_t join(void)
{
    int pair[2];
    uint32_t owner;
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    assert_int_equal(rml_lane_owners_add(rml_lane_in_owners(in), pair[0], &owner), 0);
    memcpy(sockets[owner], pair, sizeof pair);
    assert_int_equal(
        rml_share_out_open(&outs[owner], &geometry, rml_lane_in_fds(in), pair[1], owner, NULL), 0);
    rml_share_out_publish_every(outs[owner], UINT32_MAX);
    return owner;
}

// Its number stays another's until the lane has settled that.
static void hang_up(uint32_t owner)
{
    close(sockets[owner][0]);
    close(sockets[owner][1]);
    sockets[owner][0] = sockets[owner][1] = -1;
    if (outs[owner] != NULL)
        rml_share_out_close(outs[owner]);
    outs[owner] = NULL;
}

static void close_lane(void)
{
    for (uint32_t i = 1; i <= OWNERS; i++) {
        if (outs[i] != NULL)
            hang_up(i);
    }
    rml_lane_in_close(in);
    if (kept != NULL)
        munmap(kept, rml_lane_returns_bytes(&geometry));
    kept = NULL;
}

static void put(uint32_t owner, uint64_t sequence, int64_t time)
{
    const struct record record = {.time = time, .owner = owner, .sequence = sequence};
    assert_int_equal(rml_share_out_put(outs[owner], &record), 1);
}

static void publish(uint32_t owner, uint64_t sequence, int64_t time)
{
    put(owner, sequence, time);
    assert_int_equal(rml_share_out_publish(outs[owner]), 0);
}

// A run that its owner has claimed and does not publish.
static void claim(uint32_t owner, uint32_t count)
{
    const struct rml_lane_layout layout = rml_lane_layout(&geometry);
    struct rml_segment records, returns;
    assert_int_equal(rml_segment_attach(&records, rml_lane_in_fds(in)->records,
                                        layout.records_bytes, true, NULL),
                     0);
    assert_int_equal(rml_segment_attach(&returns, rml_lane_in_fds(in)->returns,
                                        layout.returns_bytes, false, NULL),
                     0);
    const struct rml_shared_place place =
        rml_lane_shared(&geometry, &layout, records.memory, returns.memory, 0);
    struct rml_shared_out out;
    rml_shared_attach_out(&out, &place, owner);
    void *cells;
    assert_int_equal(rml_shared_claim(&out, count, &cells), count);
    rml_segment_close(&records);
    rml_segment_close(&returns);
}

static const struct record *peek(uint32_t partition, int32_t rows)
{
    assert_int_equal(rml_lane_in_peek(in, partition, 512, marks, &run), rows);
    return run.records;
}

static void take(uint32_t partition, int32_t rows)
{
    (void)peek(partition, rows);
    rml_lane_in_take(in, partition, (uint32_t)rows);
    rml_lane_in_release(in, partition, (uint32_t)rows);
}

static void leaves(uint32_t owner, enum rml_lane_owner_state how)
{
    rml_lane_owners_left(rml_lane_in_owners(in), owner, how);
}

static void what_several_publish_comes_in_one_order(void **state)
{
    (void)state;
    open_lane(1, CELLS, CELLS);
    uint32_t a = join(), b = join();
    publish(a, 1, 10);
    publish(b, 1, 20);
    put(a, 2, 30);
    put(a, 3, 40);
    (void)peek(0, 2);  // what is put and not published stays with its producer
    assert_int_equal(rml_share_out_publish(outs[a]), 0);
    const struct record *records = peek(0, 4);
    const uint64_t wanted[4][2] = {{a, 1}, {b, 1}, {a, 2}, {a, 3}};
    for (int i = 0; i < 4; i++) {
        assert_int_equal(records[i].owner, wanted[i][0]);
        assert_int_equal(records[i].sequence, wanted[i][1]);
    }
    struct rml_lane_counts counts;
    rml_lane_in_take(in, 0, 4);
    rml_lane_in_release(in, 0, 3);
    rml_lane_in_counts(in, &counts);
    assert_int_equal(counts.published, 4);
    assert_int_equal(counts.taken, 4);
    assert_int_equal(counts.released, 3);
    close_lane();
}

static void the_least_clock_holds(void **state)
{
    (void)state;
    open_lane(1, CELLS, CELLS);
    uint32_t a = join(), b = join();
    publish(a, 1, 1000);
    (void)peek(0, 1);
    assert_int_equal(run.vouches, RML_TIME_NONE);  // b has said nothing yet
    publish(b, 1, 500);
    (void)peek(0, 2);
    assert_int_equal(run.vouches, 500);
    publish(b, 2, 2000);
    take(0, 3);
    assert_int_equal(run.vouches, 1000);
    close_lane();
}

static void before_a_record_stands_how_far_time_had_come(void **state)
{
    (void)state;
    open_lane(1, CELLS, CELLS);
    uint32_t a = join();
    publish(a, 1, 100);
    take(0, 1);
    assert_int_equal(run.mark_count, 0);
    publish(a, 2, 200);
    publish(a, 3, 150);
    take(0, 2);
    assert_int_equal(run.mark_count, 1);
    assert_int_equal(marks[0].row, 0);
    assert_int_equal(marks[0].time, 100);  // what the two say holds behind both
    assert_int_equal(run.vouches, 200);
    close_lane();
}

static void a_clock_holds_only_where_all_that_came_before_it_is_taken(void **state)
{
    (void)state;
    open_lane(1, CELLS, 16);  // a log that cannot take all
    uint32_t a = join();
    for (uint64_t i = 1; i <= 40; i++)
        put(a, i, (int64_t)i);
    assert_int_equal(rml_share_out_publish(outs[a]), 0);
    take(0, 16);
    assert_int_equal(run.vouches, RML_TIME_NONE);
    take(0, 16);
    assert_int_equal(run.vouches, RML_TIME_NONE);
    take(0, 8);
    assert_int_equal(run.vouches, 40);
    close_lane();
}

static void who_stands_still_holds_time_back_and_no_records(void **state)
{
    (void)state;
    open_lane(1, CELLS, CELLS);
    uint32_t slow = join(), quick = join();
    publish(slow, 1, 100);
    publish(quick, 1, 100);
    take(0, 2);
    claim(slow, 3);
    for (uint64_t i = 2; i < 1000; i++) {
        publish(quick, i, (int64_t)i * 100);
        take(0, 1);
        assert_int_equal(run.vouches, 100);
    }
    struct rml_lane_counts counts;
    rml_lane_in_counts(in, &counts);
    assert_int_equal(counts.passed, 1);
    close_lane();
}

static void who_left_holds_nothing_back(void **state)
{
    (void)state;
    open_lane(2, CELLS, CELLS);
    uint32_t a = join(), b = join();
    publish(a, 1, 100);
    publish(b, 1, 1000);
    leaves(a, RML_LANE_OWNER_LEFT);
    for (uint32_t p = 0; p < 2; p++)
        take(p, rml_lane_in_peek(in, p, 512, marks, &run));
    assert_int_equal(run.vouches, 1000);
    close_lane();
}

static void the_last_one_to_leave_leaves_its_clock(void **state)
{
    (void)state;
    open_lane(1, CELLS, CELLS);
    uint32_t a = join();
    publish(a, 1, 100);
    leaves(a, RML_LANE_OWNER_LEFT);
    take(0, 1);
    assert_int_equal(run.vouches, 100);
    close_lane();
}

static int64_t monotonic;

static int64_t see_monotonic(void *context)
{
    (void)context;
    return monotonic;
}

static void who_says_nothing_for_long_holds_nothing_back(void **state)
{
    (void)state;
    const struct rml_clock clock = {.monotonic_ns = see_monotonic};
    open_lane(1, CELLS, CELLS);
    rml_lane_in_watch(in, 1000, 0, &clock);
    uint32_t a = join(), b = join();
    publish(a, 1, 100);
    publish(b, 1, 50);
    take(0, 2);
    monotonic = 999;
    publish(a, 2, 200);
    take(0, 1);
    assert_int_equal(run.vouches, 50);
    monotonic = 1000;
    (void)peek(0, 0);
    assert_int_equal(run.vouches, 200);  // b has been silent for that long
    monotonic = 2000;
    (void)peek(0, 0);
    assert_int_equal(run.vouches, 200);  // both: the furthest decides
    publish(b, 2, 60);
    publish(a, 3, 300);
    take(0, 2);
    assert_int_equal(run.vouches, 200);  // b is back, and time never goes back
    close_lane();
}

static void a_number_comes_free_once_all_partitions_have_taken_what_it_published(void **state)
{
    (void)state;
    open_lane(2, CELLS, CELLS);
    struct rml_lane_owners *owners = rml_lane_in_owners(in);
    uint32_t a = join();
    publish(a, 1, 100);
    leaves(a, RML_LANE_OWNER_LEFT);
    assert_int_equal(rml_lane_owners_settle(owners), 1);
    (void)rml_lane_in_peek(in, 0, 512, marks, &run);
    assert_int_equal(rml_lane_owners_settle(owners), 1);
    (void)rml_lane_in_peek(in, 1, 512, marks, &run);
    assert_int_equal(rml_lane_owners_settle(owners), 0);
    assert_int_equal(rml_lane_owners_state(owners, a), RML_LANE_OWNER_FREE);
    hang_up(a);
    assert_int_equal(join(), a);
    close_lane();
}

static void who_only_hangs_up_keeps_its_number_until_it_is_dead(void **state)
{
    (void)state;
    open_lane(1, CELLS, CELLS);
    struct rml_lane_owners *owners = rml_lane_in_owners(in);
    uint32_t a = join(), b = join();
    publish(a, 1, 100);
    publish(b, 1, 200);
    leaves(a, RML_LANE_OWNER_LOST);
    take(0, 2);
    assert_int_equal(run.vouches, 200);
    assert_int_equal(rml_lane_owners_settle(owners), 0);
    assert_int_equal(rml_lane_owners_state(owners, a), RML_LANE_OWNER_LOST);
    publish(a, 2, 300);  // it lives, and what it publishes is taken
    take(0, 1);
    claim(a, 5);
    leaves(a, RML_LANE_OWNER_DEAD);
    (void)peek(0, 0);
    assert_int_equal(rml_lane_owners_settle(owners), 0);
    assert_int_equal(rml_lane_owners_state(owners, a), RML_LANE_OWNER_FREE);
    struct rml_lane_counts counts;
    rml_lane_in_counts(in, &counts);
    assert_int_equal(counts.tombstones, 5);
    close_lane();
}

// Nobody looks between the coming and the death of the second one, as while a log has no room.
static void what_the_second_one_of_a_number_had_claimed_comes_free_when_it_dies_too(void **state)
{
    (void)state;
    open_lane(1, CELLS, CELLS);
    struct rml_lane_owners *owners = rml_lane_in_owners(in);
    uint32_t a = join();
    leaves(a, RML_LANE_OWNER_DEAD);
    (void)peek(0, 0);
    assert_int_equal(rml_lane_owners_settle(owners), 0);
    hang_up(a);
    assert_int_equal(join(), a);
    claim(a, 5);
    leaves(a, RML_LANE_OWNER_DEAD);
    (void)peek(0, 0);
    assert_int_equal(rml_lane_owners_settle(owners), 0);
    struct rml_lane_counts counts;
    rml_lane_in_counts(in, &counts);
    assert_int_equal(counts.tombstones, 5);
    close_lane();
}

static void there_are_only_so_many_numbers(void **state)
{
    (void)state;
    open_lane(1, CELLS, CELLS);
    for (uint32_t i = 1; i <= OWNERS; i++)
        assert_int_equal(join(), i);
    uint32_t owner;
    assert_int_equal(rml_lane_owners_add(rml_lane_in_owners(in), 0, &owner), -EMFILE);
    assert_int_equal(rml_lane_owners_here(rml_lane_in_owners(in)), OWNERS);
    close_lane();
}

static void who_waits_for_room_is_knocked_at_when_half_of_it_is_there(void **state)
{
    (void)state;
    open_lane(1, CELLS, CELLS);
    uint32_t a = join();
    rml_share_out_wait_max(outs[a], 0);
    for (uint64_t i = 1; i <= CELLS; i++)
        put(a, i, 1);
    for (uint64_t i = 1; i <= 16; i++)
        put(a, CELLS + i, 1);  // these stay with it
    assert_int_equal(rml_share_out_publish(outs[a]), -ETIMEDOUT);
    rml_share_out_wait_max(outs[a], 1);
    assert_int_equal(rml_share_out_publish(outs[a]), -ETIMEDOUT);
    struct pollfd door = {.fd = sockets[a][1], .events = POLLIN};
    assert_int_equal(poll(&door, 1, 0), 0);
    take(0, CELLS);
    assert_int_equal(poll(&door, 1, 0), 0);  // it has stopped waiting
    assert_int_equal(rml_share_out_publish(outs[a]), 0);
    take(0, 16);
    close_lane();
}

static void *publish_waiting(void *context)
{
    uint32_t owner = *(uint32_t *)context;
    for (uint64_t i = 1; i <= 2000; i++)
        publish(owner, i, (int64_t)i);
    return NULL;
}

static void no_wake_up_is_lost(void **state)
{
    (void)state;
    open_lane(1, CELLS, CELLS);
    uint32_t some[3] = {join(), join(), join()};
    pthread_t threads[3];
    for (int i = 0; i < 3; i++) {
        rml_share_out_wait_max(outs[some[i]], -1);  // for ever: who is not woken never ends
        assert_int_equal(pthread_create(&threads[i], NULL, publish_waiting, &some[i]), 0);
    }
    uint64_t next[OWNERS + 1] = {0};
    for (uint32_t taken = 0; taken < 6000;) {
        int32_t rows = rml_lane_in_peek(in, 0, 7, marks, &run);
        assert_true(rows >= 0);
        for (int32_t i = 0; i < rows; i++) {
            const struct record *record = (const struct record *)run.records + i;
            assert_int_equal(record->sequence, ++next[record->owner]);
        }
        rml_lane_in_take(in, 0, (uint32_t)rows);
        rml_lane_in_release(in, 0, (uint32_t)rows);
        taken += (uint32_t)rows;
        if (rows == 0)
            sched_yield();
    }
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    close_lane();
}

static void a_lane_that_ends_comes_to_an_end_whatever_producers_do(void **state)
{
    (void)state;
    open_lane(1, CELLS, 16);
    uint32_t a = join(), b = join();
    for (uint64_t i = 1; i <= 20; i++)
        put(a, i, 1);
    assert_int_equal(rml_share_out_publish(outs[a]), 0);
    claim(b, 4);
    rml_lane_in_end(in, 0);
    uint64_t sequence = 20, taken = 0;
    while (rml_lane_in_final(in, 0) == RML_LANE_NO_END
           || rml_lane_in_position(in, 0) < rml_lane_in_final(in, 0)) {
        int32_t rows = rml_lane_in_peek(in, 0, 16, marks, &run);
        assert_true(rows >= 0);
        rml_lane_in_take(in, 0, (uint32_t)rows);
        rml_lane_in_release(in, 0, (uint32_t)rows);
        taken += (uint64_t)rows;
        assert_true(taken <= 20 + CELLS);
        publish(a, ++sequence, 1);  // one that does not stop
    }
    assert_true(taken >= 20);
    close_lane();
}

/* Deaths */

static void engine_dies(void)
{
    int fds[RML_LANE_KEPT_FDS(RML_LANE_WORKERS_MAX)];
    rml_lane_in_kept(in, fds);
    for (uint32_t i = 0; i < RML_LANE_KEPT_FDS(geometry.workers); i++)
        fds[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 3);
    rml_lane_in_close(in);
    assert_int_equal(rml_lane_in_adopt(&in, &geometry, fds, kept, NULL), 0);
    kept = NULL;
    for (uint32_t owner = 1; owner <= OWNERS; owner++) {
        if (sockets[owner][0] >= 0)
            assert_true(rml_lane_owners_again(rml_lane_in_owners(in), owner, sockets[owner][0]));
    }
}

static void a_number_whose_owner_died_with_the_engine_is_not_free_before_that_was_seen(void **state)
{
    (void)state;
    open_lane(1, CELLS, CELLS);
    uint32_t a = join(), b = join();
    publish(a, 1, 100);
    publish(b, 1, 100);
    take(0, 2);
    (void)peek(0, 0);
    claim(a, 5);
    publish(b, 2, 100);
    // The engine says that it is dead, and dies before it says that it said so.
    const struct rml_lane_layout layout = rml_lane_layout(&geometry);
    _Atomic uint64_t *word = &rml_lane_owner_states(kept, &layout)->state[a - 1];
    atomic_store_explicit(word, RML_LANE_OWNER_WORD(9, RML_LANE_OWNER_DEAD), memory_order_relaxed);
    hang_up(a);
    engine_dies();
    struct rml_lane_owners *owners = rml_lane_in_owners(in);
    assert_int_equal(rml_lane_owners_settle(owners), 1);
    assert_int_equal(rml_lane_owners_state(owners, a), RML_LANE_OWNER_DEAD);
    (void)peek(0, 1);
    assert_int_equal(rml_lane_owners_settle(owners), 0);
    assert_int_equal(rml_lane_owners_state(owners, a), RML_LANE_OWNER_FREE);
    struct rml_lane_counts counts;
    rml_lane_in_counts(in, &counts);
    assert_int_equal(counts.tombstones, 5);
    close_lane();
}

// Everything from the log's beginning on: of each owner a prefix of what it put, in its order.
static void take_all(uint64_t came[OWNERS + 1])
{
    memset(came, 0, (OWNERS + 1) * sizeof *came);
    int32_t rows;
    while ((rows = rml_lane_in_peek(in, 0, 512, marks, &run)) > 0) {
        for (int32_t i = 0; i < rows; i++) {
            const struct record *record = (const struct record *)run.records + i;
            assert_in_range(record->owner, 1, OWNERS);
            assert_int_equal(record->sequence, ++came[record->owner]);
        }
        rml_lane_in_take(in, 0, (uint32_t)rows);
    }
    assert_int_equal(rows, 0);
}

static void gather_all(void)
{
    for (int i = 0; i < 3; i++)
        (void)rml_lane_in_peek(in, 0, 512, marks, &run);
}

// Between two moments that are tried lie up to so many instructions; RML_STRIDE=1 tries each.
static uint64_t stride(uint64_t *seed)
{
    const char *set = getenv("RML_STRIDE");
    uint64_t most = set != NULL ? strtoull(set, NULL, 10) : RML_TEST_SLOW ? 60000 : 300;
    return 1 + rml_test_random(seed) % most;
}

static void an_engine_that_dies_at_any_instruction_loses_nothing_and_doubles_nothing(void **state)
{
    (void)state;
    if (!rml_stepping_able())
        skip();
    uint64_t seed = rml_test_seed(), came[OWNERS + 1];
    bool is_done = false;
    for (uint64_t steps = 0; !is_done; steps += stride(&seed)) {
        open_lane(1, 32, 32);
        uint32_t a = join(), b = join(), c = join();
        for (uint64_t i = 1; i <= 3; i++)
            publish(a, i, (int64_t)i);
        claim(b, 2);
        for (uint64_t i = 1; i <= 5; i++)
            put(c, i, (int64_t)i);
        assert_int_equal(rml_share_out_publish(outs[c]), 0);
        publish(a, 4, 4);
        is_done = rml_stepping(gather_all, steps);
        engine_dies();
        take_all(came);
        assert_int_equal(came[a], 4);
        assert_int_equal(came[b], 0);
        assert_int_equal(came[c], 5);
        publish(c, 6, 6);
        const struct record *record = peek(0, 1);
        assert_int_equal(record->sequence, 6);
        close_lane();
    }
}

static uint32_t victim;

static void publish_some(void)
{
    for (uint64_t i = 1; i <= 9; i++) {
        put(victim, i, (int64_t)i);
        if (i % 3 == 0)
            (void)rml_share_out_publish(outs[victim]);
    }
}

static void
a_producer_that_dies_at_any_instruction_costs_only_what_it_had_not_published(void **state)
{
    (void)state;
    if (!rml_stepping_able())
        skip();
    uint64_t seed = rml_test_seed(), came[OWNERS + 1];
    bool is_done = false;
    for (uint64_t steps = 0; !is_done; steps += stride(&seed)) {
        open_lane(1, 32, 64);
        victim = join();
        uint32_t other = join();
        publish(other, 1, 1);
        is_done = rml_stepping(publish_some, steps);
        publish(other, 2, 2);
        leaves(victim, RML_LANE_OWNER_DEAD);
        take_all(came);
        assert_int_equal(came[other], 2);
        assert_true(came[victim] % 3 == 0 && (!is_done || came[victim] == 9));
        assert_int_equal(rml_lane_owners_settle(rml_lane_in_owners(in)), 0);
        for (uint64_t i = 3; i <= 34; i++)  // all cells can be had again
            put(other, i, (int64_t)i);
        rml_share_out_wait_max(outs[other], 0);
        assert_int_equal(rml_share_out_publish(outs[other]), 0);
        rml_share_out_abandon(outs[victim]);
        outs[victim] = NULL;
        close_lane();
    }
}

/* Cuts */

struct came_row {
    uint64_t owner, sequence;
    int64_t mark;
};

static uint32_t take_cut(struct came_row *rows, uint32_t room, uint64_t *seed)
{
    uint32_t count = 0;
    for (;;) {
        uint32_t want = 1 + (uint32_t)(rml_test_random(seed) % 9);
        int32_t got = rml_lane_in_peek(in, 0, want, marks, &run);
        assert_true(got >= 0);
        if (got == 0)
            return count;
        uint32_t keep = 1 + (uint32_t)(rml_test_random(seed) % (uint32_t)got), m = 0;
        for (uint32_t i = 0; i < keep; i++) {
            const struct record *record = (const struct record *)run.records + i;
            int64_t mark = RML_TIME_NONE;
            if (m < run.mark_count && marks[m].row == i)
                mark = marks[m++].time;
            assert_true(count < room);
            rows[count++] = (struct came_row){record->owner, record->sequence, mark};
        }
        rml_lane_in_take(in, 0, keep);
    }
}

static struct came_row first[4096], again[4096];

static void a_log_gives_the_same_records_and_marks_however_it_is_cut_and_who_died(void **state)
{
    (void)state;
    uint64_t seed = rml_test_seed();
    open_lane(1, CELLS, 1024);
    uint32_t some[3] = {join(), join(), join()};
    uint64_t sequence = 0;
    uint32_t count = 0, marked = 0;
    while (sequence < 900) {
        uint32_t owner = some[rml_test_random(&seed) % 3];
        for (uint64_t i = rml_test_random(&seed) % 8; i > 0; i--) {
            sequence++;
            put(owner, sequence, (int64_t)(sequence * 10));
        }
        assert_int_equal(rml_share_out_publish(outs[owner]), 0);
        if (rml_test_random(&seed) % 3 == 0 || sequence % 32 > 16)
            count += take_cut(first + count, 4096 - count, &seed);
    }
    count += take_cut(first + count, 4096 - count, &seed);
    engine_dies();
    assert_int_equal(take_cut(again, 4096, &seed), count);
    assert_memory_equal(first, again, count * sizeof first[0]);
    for (uint32_t i = 0; i < count; i++)
        marked += first[i].mark != RML_TIME_NONE;
    assert_true(marked > 20);
    close_lane();
}

/* Hostile producers */

static void what_cannot_be_ends_the_lane_and_not_what_is_in_its_log(void **state)
{
    (void)state;
    open_lane(1, CELLS, CELLS);
    uint32_t a = join();
    for (uint64_t i = 1; i <= 4; i++)
        publish(a, i, (int64_t)i);
    (void)peek(0, 4);
    rml_lane_in_take(in, 0, 2);
    struct rml_segment records;
    const struct rml_lane_layout layout = rml_lane_layout(&geometry);
    assert_int_equal(rml_segment_attach(&records, rml_lane_in_fds(in)->records,
                                        layout.records_bytes, true, NULL),
                     0);
    memset((unsigned char *)records.memory + layout.rings_at, 0xff, layout.rings_stride);
    rml_segment_close(&records);
    assert_int_equal(rml_lane_in_peek(in, 0, 2, marks, &run), 2);  // the log has them
    assert_int_equal(((const struct record *)run.records)[0].sequence, 3);
    rml_share_out_abandon(outs[a]);
    outs[a] = NULL;
    close(sockets[a][0]);
    close(sockets[a][1]);
    uint32_t b = join();  // whose coming has the ring looked at again
    (void)b;
    assert_int_equal(rml_lane_in_peek(in, 0, 512, marks, &run), -EPROTO);
    assert_non_null(rml_lane_in_fault(in));
    close_lane();
}

TEST_MAIN(CLAIM(what_several_publish_comes_in_one_order), CLAIM(the_least_clock_holds),
          CLAIM(before_a_record_stands_how_far_time_had_come),
          CLAIM(a_clock_holds_only_where_all_that_came_before_it_is_taken),
          CLAIM(who_stands_still_holds_time_back_and_no_records),
          CLAIM(who_left_holds_nothing_back), CLAIM(the_last_one_to_leave_leaves_its_clock),
          CLAIM(who_says_nothing_for_long_holds_nothing_back),
          CLAIM(a_number_comes_free_once_all_partitions_have_taken_what_it_published),
          CLAIM(who_only_hangs_up_keeps_its_number_until_it_is_dead),
          CLAIM(what_the_second_one_of_a_number_had_claimed_comes_free_when_it_dies_too),
          CLAIM(there_are_only_so_many_numbers),
          CLAIM(who_waits_for_room_is_knocked_at_when_half_of_it_is_there),
          CLAIM(no_wake_up_is_lost), CLAIM(a_lane_that_ends_comes_to_an_end_whatever_producers_do),
          CLAIM(a_number_whose_owner_died_with_the_engine_is_not_free_before_that_was_seen),
          CLAIM(an_engine_that_dies_at_any_instruction_loses_nothing_and_doubles_nothing),
          CLAIM(a_producer_that_dies_at_any_instruction_costs_only_what_it_had_not_published),
          CLAIM(a_log_gives_the_same_records_and_marks_however_it_is_cut_and_who_died),
          CLAIM(what_cannot_be_ends_the_lane_and_not_what_is_in_its_log))
