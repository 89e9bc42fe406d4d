#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdalign.h>
#include <string.h>

#include "runtime/base/err.h"
#include "runtime/ring/shared_ring.h"
#include "tests/support/random.h"
#include "tests/support/test.h"

#define CELLS  8u
#define OWNERS 70u  // more than one take looks back at
#define RUN    4u

enum { ALICE = 1, BOB = 2, CAROL = 3, READER = 69, OTHER_READER = 70 };

static const struct rml_shared_shape shape = {
    .cell_bytes = 8, .cell_count = CELLS, .run_max = RUN, .owner_count = OWNERS};

static struct {
    alignas(64) unsigned char records[1024];
    alignas(64) unsigned char returns[1024];
} memory;

static struct rml_shared_place place;
static struct rml_shared_out alice, bob;
static struct rml_shared_in in, other;
static uint64_t got[2 * CELLS];
static uint16_t owners[2 * CELLS];

static void fresh_ring(void)
{
    memset(&memory, 0, sizeof memory);
    assert_true(rml_shared_records_bytes(shape) <= sizeof memory.records);
    assert_true(rml_shared_returns_bytes(shape) <= sizeof memory.returns);
    place = rml_shared_place_at(shape, memory.records, memory.returns);
    rml_shared_attach_out(&alice, &place, ALICE);
    rml_shared_attach_out(&bob, &place, BOB);
    rml_shared_attach_in(&in, &place, READER);
    rml_shared_attach_in(&other, &place, OTHER_READER);
    in.patience = other.patience = 1;
}

// Claim a run that must be `count` long, and fill it with `first`, `first` + 1 ...
static void claim(struct rml_shared_out *out, uint32_t count, uint64_t first)
{
    void *cells;
    assert_int_equal(rml_shared_claim(out, count, &cells), count);
    for (uint32_t i = 0; i < count; i++)
        ((uint64_t *)cells)[i] = first + i;
}

static void put(struct rml_shared_out *out, uint32_t count, uint64_t first)
{
    claim(out, count, first);
    assert_int_equal(rml_shared_publish(out), 0);
}

static int32_t take_some(void)
{
    return rml_shared_take(&in, got, owners, 2 * CELLS);
}

static void comes(uint64_t record, uint16_t owner)
{
    assert_int_equal(rml_shared_take(&in, got, owners, RUN), 1);
    assert_int_equal(got[0], record);
    assert_int_equal(owners[0], owner);
}

static void has_no_room(struct rml_shared_out *out)
{
    void *cells;
    assert_int_equal(rml_shared_claim(out, 1, &cells), 0);
}

// What anybody can write who may write into the ring.
static void scribble(_Atomic uint64_t *word, uint64_t value)
{
    atomic_store_explicit(word, value, memory_order_relaxed);
}

enum { FREE, CLAIMED, PUBLISHED, TAKING };

static uint64_t word_of(uint64_t lap, uint64_t owner, uint64_t count, uint64_t state)
{
    return lap << 23 | owner << 11 | (count - 1) << 3 | state;
}

static void a_fresh_ring_is_empty(void **state)
{
    (void)state;
    fresh_ring();
    assert_int_equal(take_some(), 0);
}

static void records_come_with_their_owner(void **state)
{
    (void)state;
    fresh_ring();
    put(&alice, 2, 10);
    put(&bob, 1, 20);
    put(&alice, 1, 12);
    assert_int_equal(take_some(), 4);
    const uint64_t records[] = {10, 11, 20, 12};
    const uint16_t whose[] = {ALICE, ALICE, BOB, ALICE};
    assert_memory_equal(got, records, sizeof records);
    assert_memory_equal(owners, whose, sizeof whose);
    assert_int_equal(take_some(), 0);
}

static void a_ring_holds_every_cell_it_has(void **state)
{
    (void)state;
    fresh_ring();
    for (uint64_t lap = 0; lap < 5; lap++) {
        put(&alice, 4, 0);
        put(&bob, 4, 4);
        has_no_room(&alice);
        assert_int_equal(take_some(), 8);
        for (uint64_t i = 0; i < 8; i++)
            assert_int_equal(got[i], i);
    }
}

static void a_run_stops_where_memory_or_room_ends_and_at_run_max(void **state)
{
    (void)state;
    fresh_ring();
    void *cells;
    assert_int_equal(rml_shared_claim(&alice, 100, &cells), RUN);
    assert_int_equal(rml_shared_publish(&alice), 0);
    put(&bob, 2, 0);
    assert_int_equal(take_some(), 6);
    assert_int_equal(rml_shared_claim(&alice, 4, &cells), 2);  // to the end of memory
    assert_int_equal(rml_shared_publish(&alice), 0);
    put(&bob, 4, 0);
    assert_int_equal(rml_shared_claim(&alice, 4, &cells), 2);  // to what is not taken yet
}

static void cells_are_not_seen_until_published(void **state)
{
    (void)state;
    fresh_ring();
    claim(&alice, 2, 7);
    assert_int_equal(take_some(), 0);
    assert_int_equal(rml_shared_publish(&alice), 0);
    assert_int_equal(take_some(), 2);
}

static void a_run_given_up_leaves_nothing_behind(void **state)
{
    (void)state;
    fresh_ring();
    claim(&alice, 3, 7);
    put(&bob, 1, 20);
    assert_int_equal(rml_shared_give_up(&alice), 0);
    put(&alice, 1, 10);
    assert_int_equal(take_some(), 2);
    assert_int_equal(got[0], 20);
    assert_int_equal(got[1], 10);
}

static void a_claimed_run_is_waited_for_while_nothing_lies_behind_it(void **state)
{
    (void)state;
    fresh_ring();
    claim(&alice, 1, 10);
    assert_int_equal(take_some(), 0);
    assert_int_equal(rml_shared_publish(&alice), 0);
    comes(10, ALICE);
    assert_int_equal(in.passed_over, 0);
}

static void a_claimed_run_is_passed_over_and_taken_once_it_is_published(void **state)
{
    (void)state;
    fresh_ring();
    claim(&alice, 2, 10);
    put(&bob, 1, 20);
    comes(20, BOB);
    assert_int_equal(in.passed_over, 1);
    assert_int_equal(take_some(), 0);
    assert_int_equal(rml_shared_publish(&alice), 0);
    assert_int_equal(take_some(), 2);
    assert_int_equal(got[0], 10);
    assert_int_equal(take_some(), 0);
}

static void what_an_owner_publishes_after_a_held_run_comes_after_it(void **state)
{
    (void)state;
    fresh_ring();
    claim(&alice, 1, 10);
    put(&bob, 1, 20);
    comes(20, BOB);
    assert_int_equal(take_some(), 0);  // the held run was looked at
    in.poll_next = ALICE;              // and its turn comes last
    assert_int_equal(rml_shared_publish(&alice), 0);
    put(&alice, 1, 11);
    assert_int_equal(take_some(), 2);
    assert_int_equal(got[0], 10);
    assert_int_equal(got[1], 11);
}

static void a_stopped_producer_holds_its_cells_and_nobody_else(void **state)
{
    (void)state;
    fresh_ring();
    put(&bob, 3, 0);
    assert_int_equal(take_some(), 3);
    claim(&alice, 2, 1000);  // cells 3 and 4, for many laps
    struct rml_shared_out carol;
    rml_shared_attach_out(&carol, &place, CAROL);
    uint64_t sent = 0, seen = 0;
    for (uint32_t round = 0; round < 200; round++) {
        void *cells;
        struct rml_shared_out *out = round % 2 == 0 ? &bob : &carol;
        for (int32_t run; (run = rml_shared_claim(out, 1 + round % RUN, &cells)) > 0;) {
            for (int32_t i = 0; i < run; i++)
                ((uint64_t *)cells)[i] = sent++;
            assert_int_equal(rml_shared_publish(out), 0);
        }
        assert_true(sent - seen >= CELLS - 2 - RUN);
        for (int32_t count; (count = take_some()) > 0;)
            for (int32_t i = 0; i < count; i++)
                assert_int_equal(got[i], seen++);
        assert_int_equal(seen, sent);
    }
    assert_true(sent > 800);
    assert_int_equal(rml_shared_publish(&alice), 0);
    assert_int_equal(take_some(), 2);
    assert_int_equal(got[0], 1000);
    assert_int_equal(got[1], 1001);
    for (uint32_t lap = 0; lap < 3; lap++) {  // and its cells are as any others
        put(&alice, 3, 0);
        put(&bob, 2, 0);
        assert_int_equal(take_some(), 5);
    }
}

static void what_a_dead_owner_claimed_is_free_and_what_it_published_is_taken(void **state)
{
    (void)state;
    fresh_ring();
    put(&alice, 1, 10);
    claim(&alice, 3, 11);
    put(&bob, 1, 20);
    assert_int_equal(rml_shared_recover(&place, ALICE), 3);
    assert_int_equal(rml_shared_recover(&place, ALICE), 0);
    assert_int_equal(take_some(), 2);
    assert_int_equal(got[0], 10);
    assert_int_equal(got[1], 20);
    put(&bob, 3, 21);
    put(&bob, 4, 24);  // where the dead one's cells were
    assert_int_equal(take_some(), 7);
}

static void a_dead_owners_number_serves_again(void **state)
{
    (void)state;
    fresh_ring();
    claim(&alice, 2, 10);
    put(&bob, 1, 20);
    comes(20, BOB);  // and alice's run is held
    assert_int_equal(rml_shared_recover(&place, ALICE), 2);
    struct rml_shared_out heir;
    rml_shared_attach_out(&heir, &place, ALICE);
    for (uint64_t i = 0; i < 40; i++) {
        put(&heir, 1, i);
        comes(i, ALICE);
    }
}

static void who_was_taken_for_dead_is_told_and_spoils_nothing(void **state)
{
    (void)state;
    fresh_ring();
    claim(&alice, 2, 10);
    assert_int_equal(rml_shared_recover(&place, ALICE), 2);
    put(&bob, 1, 20);
    assert_int_equal(rml_shared_publish(&alice), -EPROTO);
    assert_string_equal(alice.fault, "a claimed run is no longer its owner's");
    assert_int_equal(take_some(), 1);
    assert_int_equal(got[0], 20);
}

static void what_a_dead_consumer_was_taking_comes_free(void **state)
{
    (void)state;
    fresh_ring();
    put(&alice, 2, 10);
    scribble(&place.words[0], word_of(1, OTHER_READER, 2, TAKING));
    put(&bob, 4, 20);
    assert_int_equal(take_some(), 4);  // nobody waits for it
    put(&bob, 2, 24);
    put(&bob, 4, 26);  // around it, a lap later
    assert_int_equal(rml_shared_recover(&place, OTHER_READER), 2);
    assert_int_equal(take_some(), 6);
    put(&alice, 2, 0);
    put(&alice, 2, 2);
    put(&alice, 4, 4);
    assert_int_equal(take_some(), 8);
}

static void what_one_consumer_passed_over_another_takes(void **state)
{
    (void)state;
    fresh_ring();
    claim(&alice, 1, 10);
    put(&bob, 1, 20);
    comes(20, BOB);
    assert_int_equal(rml_shared_publish(&alice), 0);
    assert_int_equal(rml_shared_take(&other, got, owners, RUN), 1);
    assert_int_equal(got[0], 10);
    assert_int_equal(take_some(), 0);
}

static void faulty(const char *reason)
{
    assert_int_equal(take_some(), -EPROTO);
    assert_string_equal(in.fault, reason);
    assert_int_equal(take_some(), -EPROTO);
}

static void words_that_cannot_be_true_are_refused_with_a_reason(void **state)
{
    (void)state;
    fresh_ring();
    scribble(&place.words[0], word_of(1, 0, 1, PUBLISHED));
    faulty("a cell is claimed by an owner that does not exist");
    fresh_ring();
    scribble(&place.words[0], word_of(1, OWNERS + 1, 1, FREE));
    faulty("a cell is claimed by an owner that does not exist");
    fresh_ring();
    scribble(&place.words[0], word_of(1, ALICE, RUN + 1, CLAIMED));
    faulty("a run is longer than runs can be");
    fresh_ring();
    put(&bob, 4, 0);
    put(&bob, 3, 0);
    assert_int_equal(take_some(), 7);
    scribble(&place.words[7], word_of(1, ALICE, 2, PUBLISHED));
    faulty("a run goes on where the memory ends");
    fresh_ring();
    scribble(&place.words[0], word_of(2, ALICE, 1, PUBLISHED));
    faulty("a cell is a lap ahead of its consumers");
    fresh_ring();
    scribble(&place.words[0], UINT64_MAX);
    faulty("a cell is a lap ahead of its consumers");
    fresh_ring();
    scribble(place.tail, 1);
    faulty("the tail lies beyond a cell that nobody claimed");
    fresh_ring();
    claim(&alice, 1, 10);
    scribble(&place.words[1], word_of(1, ALICE, 1, PUBLISHED));
    faulty("an owner claims a run while it holds another");
}

static void a_producer_refuses_what_cannot_be_true_too(void **state)
{
    (void)state;
    void *cells;
    fresh_ring();
    scribble(place.tail, CELLS + 1);
    assert_int_equal(rml_shared_claim(&alice, 1, &cells), -EPROTO);
    assert_string_equal(alice.fault, "the tail lies more than a ring ahead of the head");
    fresh_ring();
    scribble(&place.words[0], word_of(1, BOB, RUN + 1, PUBLISHED));
    assert_int_equal(rml_shared_claim(&alice, 1, &cells), -EPROTO);
    assert_string_equal(alice.fault, "a run is longer than runs can be");
    fresh_ring();
    scribble(&place.words[0], word_of(2, BOB, 1, FREE));
    assert_int_equal(rml_shared_claim(&alice, 1, &cells), -EPROTO);
    assert_string_equal(alice.fault, "a cell is a lap ahead of its consumers");
}

static void memory_that_turns_zero_harms_nobody(void **state)
{
    (void)state;
    fresh_ring();
    put(&alice, 4, 0);
    assert_int_equal(take_some(), 4);
    put(&alice, 2, 0);
    memset(memory.records, 0, sizeof memory.records);  // as a hole punched into it would
    assert_int_equal(take_some(), 0);
}

// Whatever stands in the words: a take ends, and brings no more than the ring can hold in its looks.
static void no_words_hang_or_crash_a_consumer(void **state)
{
    (void)state;
    uint64_t seed = rml_test_seed();
    for (uint32_t round = 0; round < 20000; round++) {
        fresh_ring();
        uint64_t start = rml_test_random(&seed) % 32;
        scribble(place.head, start);
        rml_shared_attach_out(&bob, &place, BOB);
        for (uint32_t step = 0; step < 12; step++) {
            uint64_t chance = rml_test_random(&seed);
            uint64_t lap = start / CELLS + chance % 3, near = lap << 23 | chance >> 41;
            scribble(&place.words[chance >> 8 & 7], (chance >> 12 & 3) != 0 ? near : chance);
            if ((chance >> 16) % 8 == 0)
                scribble(place.tail, start + (chance >> 20) % 12);
            void *cells;
            if (bob.claimed == 0)
                (void)rml_shared_claim(&bob, 2, &cells);
            else
                (void)rml_shared_publish(&bob);
            int32_t count = take_some();
            assert_true(count >= -EPROTO && count <= (int32_t)(2 * CELLS));
            assert_true(count >= 0 || count == -EPROTO);
            if (chance >> 60 == 0)
                (void)rml_shared_recover(&place, 1 + (uint32_t)(chance % OWNERS));
        }
    }
}

static void laps_are_counted_to_their_end_and_no_further(void **state)
{
    (void)state;
    fresh_ring();
    scribble(place.head, (UINT64_C(1) << 41) * CELLS - 2 * CELLS);
    scribble(place.tail, (UINT64_C(1) << 41) * CELLS - 2 * CELLS);
    rml_shared_attach_out(&alice, &place, ALICE);
    put(&alice, 4, 0);
    put(&alice, 4, 4);
    assert_int_equal(take_some(), 8);
    void *cells;
    assert_int_equal(rml_shared_claim(&alice, 1, &cells), -EOVERFLOW);
    assert_string_equal(alice.fault, "the last lap is over");
}

static void a_bad_shape_is_named_with_its_value(void **state)
{
    (void)state;
    struct rml_err err = {0};
    struct rml_shared_shape bad = shape;
    bad.cell_count = 9;
    assert_int_equal(rml_shared_check_shape(bad, &err), -EINVAL);
    assert_string_equal(err.text, "cell_count must be a power of two, got 9");
    bad = shape;
    bad.run_max = 9;
    assert_int_equal(rml_shared_check_shape(bad, &err), -EINVAL);
    assert_string_equal(err.text, "run_max is 1 to 8, got 9");
    bad = shape;
    bad.owner_count = 4096;
    assert_int_equal(rml_shared_check_shape(bad, &err), -EINVAL);
    assert_string_equal(err.text, "owner_count is 1 to 4095, got 4096");
}

enum { WORDS_EACH = RML_TEST_SLOW ? 8000 : 40000, PRODUCERS = 3, CONSUMERS = 2 };

static uint64_t last_seen[CONSUMERS][PRODUCERS], wrong[CONSUMERS];
static _Atomic uint32_t times_taken[PRODUCERS][WORDS_EACH];
static _Atomic uint64_t taken_total;

static void *write_words(void *arg)
{
    uint32_t producer = *(const uint32_t *)arg;
    struct rml_shared_out out;
    rml_shared_attach_out(&out, &place, producer + 1);
    for (uint64_t word = 0; word < WORDS_EACH;) {
        void *cells;
        uint64_t left = WORDS_EACH - word, want = 1 + word % 3;
        int32_t run = rml_shared_claim(&out, (uint32_t)(want < left ? want : left), &cells);
        for (int32_t i = 0; i < run; i++)
            ((uint64_t *)cells)[i] = (uint64_t)producer << 32 | word++;
        if (run > 0 && word % 64 < 3)
            sched_yield();  // claimed, and not published
        if (run == 0)
            sched_yield();
        else if (run < 0 || rml_shared_publish(&out) < 0)
            return arg;
    }
    return NULL;
}

static void *read_words(void *arg)
{
    uint32_t me = *(const uint32_t *)arg;
    struct rml_shared_in reader;
    rml_shared_attach_in(&reader, &place, OTHER_READER - me);
    // relaxed: only asked whether it is all
    while (atomic_load_explicit(&taken_total, memory_order_relaxed) < PRODUCERS * WORDS_EACH) {
        uint64_t words[RUN];
        uint16_t whose[RUN];
        int32_t count = rml_shared_take(&reader, words, whose, RUN);
        if (count < 0)
            return arg;
        for (int32_t i = 0; i < count; i++) {
            uint64_t producer = words[i] >> 32, word = words[i] & UINT32_MAX;
            wrong[me] += whose[i] != producer + 1 || word < last_seen[me][producer];
            last_seen[me][producer] = word + 1;
            // relaxed: read after the threads have ended
            atomic_fetch_add_explicit(&times_taken[producer][word], 1, memory_order_relaxed);
        }
        // relaxed: a count
        atomic_fetch_add_explicit(&taken_total, (uint64_t)count, memory_order_relaxed);
        if (count == 0)
            sched_yield();
    }
    return NULL;
}

static void threads_take_every_word_once_and_each_owners_in_order(void **state)
{
    (void)state;
    fresh_ring();
    pthread_t threads[PRODUCERS + CONSUMERS];
    uint32_t numbers[] = {0, 1, 2};
    for (uint32_t i = 0; i < PRODUCERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, write_words, &numbers[i]), 0);
    for (uint32_t i = 0; i < CONSUMERS; i++)
        assert_int_equal(pthread_create(&threads[PRODUCERS + i], NULL, read_words, &numbers[i]), 0);
    for (uint32_t i = 0; i < PRODUCERS + CONSUMERS; i++) {
        void *fault;
        assert_int_equal(pthread_join(threads[i], &fault), 0);
        assert_null(fault);
    }
    assert_int_equal(wrong[0] + wrong[1], 0);
    for (uint32_t producer = 0; producer < PRODUCERS; producer++)
        for (uint32_t word = 0; word < WORDS_EACH; word++)
            // relaxed: the threads have ended
            assert_int_equal(
                atomic_load_explicit(&times_taken[producer][word], memory_order_relaxed), 1);
}

TEST_MAIN(CLAIM(a_fresh_ring_is_empty), CLAIM(records_come_with_their_owner),
          CLAIM(a_ring_holds_every_cell_it_has),
          CLAIM(a_run_stops_where_memory_or_room_ends_and_at_run_max),
          CLAIM(cells_are_not_seen_until_published), CLAIM(a_run_given_up_leaves_nothing_behind),
          CLAIM(a_claimed_run_is_waited_for_while_nothing_lies_behind_it),
          CLAIM(a_claimed_run_is_passed_over_and_taken_once_it_is_published),
          CLAIM(what_an_owner_publishes_after_a_held_run_comes_after_it),
          CLAIM(a_stopped_producer_holds_its_cells_and_nobody_else),
          CLAIM(what_a_dead_owner_claimed_is_free_and_what_it_published_is_taken),
          CLAIM(a_dead_owners_number_serves_again),
          CLAIM(who_was_taken_for_dead_is_told_and_spoils_nothing),
          CLAIM(what_a_dead_consumer_was_taking_comes_free),
          CLAIM(what_one_consumer_passed_over_another_takes),
          CLAIM(words_that_cannot_be_true_are_refused_with_a_reason),
          CLAIM(a_producer_refuses_what_cannot_be_true_too),
          CLAIM(memory_that_turns_zero_harms_nobody), CLAIM(no_words_hang_or_crash_a_consumer),
          CLAIM(laps_are_counted_to_their_end_and_no_further),
          CLAIM(a_bad_shape_is_named_with_its_value),
          CLAIM(threads_take_every_word_once_and_each_owners_in_order))
