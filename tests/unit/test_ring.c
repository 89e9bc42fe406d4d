#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdalign.h>
#include <string.h>

#include "runtime/base/err.h"
#include "runtime/ring/ring.h"
#include "runtime/ring/stream.h"
#include "tests/support/test.h"

#define CELLS 8u

// Each side's position on a line of its own, as in two segments.
static struct {
    alignas(64) _Atomic uint64_t published;
    alignas(64) _Atomic uint64_t released;
    alignas(64) unsigned char cells[CELLS * 24];
    alignas(64) unsigned char staging[CELLS * 24];
} memory;

static struct rml_ring_out out;
static struct rml_ring_in in;
static void *cells;
static const void *ready;

static struct rml_ring_place place_of(uint32_t cell_bytes)
{
    return (struct rml_ring_place){.shape = {.cell_bytes = cell_bytes, .cell_count = CELLS},
                                   .cells = memory.cells,
                                   .published = &memory.published,
                                   .released = &memory.released};
}

static void fresh_ring(uint32_t cell_bytes)
{
    memset(&memory, 0, sizeof memory);
    struct rml_ring_place place = place_of(cell_bytes);
    assert_int_equal(rml_ring_attach_out(&out, &place), 0);
    assert_int_equal(rml_ring_attach_in(&in, &place), 0);
}

// What a hostile other side would do to its position.
static void scribble(_Atomic uint64_t *position, uint64_t value)
{
    atomic_store_explicit(position, value, memory_order_relaxed);
}

static void publish(uint32_t count)
{
    rml_ring_commit(&out, count);
    rml_ring_publish(&out);
}

static void give_back(uint32_t count)
{
    rml_ring_take(&in, count);
    rml_ring_release(&in, count);
}

static void a_fresh_ring_is_empty(void **state)
{
    (void)state;
    fresh_ring(8);
    assert_int_equal(rml_ring_peek(&in, 1, &ready), 0);
}

static void a_ring_holds_every_cell_it_has(void **state)
{
    (void)state;
    fresh_ring(8);
    assert_int_equal(rml_ring_claim(&out, 100, &cells), 8);
    publish(8);
    assert_int_equal(rml_ring_claim(&out, 1, &cells), 0);
    assert_int_equal(rml_ring_peek(&in, 100, &ready), 8);
}

static void a_run_stops_where_the_memory_ends(void **state)
{
    (void)state;
    fresh_ring(8);
    assert_int_equal(rml_ring_claim(&out, 6, &cells), 6);
    publish(6);
    assert_int_equal(rml_ring_peek(&in, 6, &ready), 6);
    give_back(6);
    assert_int_equal(rml_ring_claim(&out, 6, &cells), 2);
    publish(2);
    assert_int_equal(rml_ring_claim(&out, 6, &cells), 6);
    assert_int_equal(rml_ring_peek(&in, 6, &ready), 2);
}

static void cells_are_not_seen_until_published(void **state)
{
    (void)state;
    fresh_ring(8);
    assert_int_equal(rml_ring_claim(&out, 4, &cells), 4);
    assert_int_equal(rml_ring_peek(&in, 4, &ready), 0);
    rml_ring_commit(&out, 2);
    assert_int_equal(rml_ring_peek(&in, 4, &ready), 0);
    rml_ring_publish(&out);
    assert_int_equal(rml_ring_peek(&in, 4, &ready), 2);
}

static void what_is_taken_gives_no_room_until_released(void **state)
{
    (void)state;
    fresh_ring(8);
    assert_int_equal(rml_ring_claim(&out, 8, &cells), 8);
    publish(8);
    assert_int_equal(rml_ring_peek(&in, 8, &ready), 8);
    rml_ring_take(&in, 5);
    assert_int_equal(rml_ring_peek(&in, 8, &ready), 3);
    assert_int_equal(rml_ring_claim(&out, 8, &cells), 0);
    rml_ring_release(&in, 2);
    assert_int_equal(rml_ring_claim(&out, 8, &cells), 2);
    rml_ring_release_total(&in, 3);
    assert_int_equal(rml_ring_room_look(&out), 5);
}

static void an_end_attached_again_goes_on_where_it_was_left(void **state)
{
    (void)state;
    fresh_ring(8);
    struct rml_ring_place place = place_of(8);
    assert_int_equal(rml_ring_claim(&out, 3, &cells), 3);
    publish(2);
    rml_ring_commit(&out, 1);  // dies with its producer
    assert_int_equal(rml_ring_attach_out(&out, &place), 0);
    assert_int_equal(rml_ring_claim(&out, 100, &cells), 6);
    assert_int_equal(rml_ring_peek(&in, 100, &ready), 2);
    rml_ring_take(&in, 2);  // taken, not released: a new consumer sees them again
    assert_int_equal(rml_ring_attach_in(&in, &place), 0);
    assert_int_equal(rml_ring_peek(&in, 100, &ready), 2);
}

static void a_consumer_that_cannot_be_true_is_refused(void **state)
{
    (void)state;
    fresh_ring(8);
    assert_int_equal(rml_ring_claim(&out, 8, &cells), 8);
    publish(8);
    scribble(&memory.released, 9);  // beyond what was published
    assert_int_equal(rml_ring_claim(&out, 1, &cells), -EPROTO);
    assert_int_equal(rml_ring_room_look(&out), -EPROTO);
    scribble(&memory.released, 4);
    assert_int_equal(rml_ring_claim(&out, 4, &cells), 4);
    scribble(&memory.released, 3);  // back
    assert_int_equal(rml_ring_claim(&out, 5, &cells), -EPROTO);
    scribble(&memory.released, UINT64_MAX);
    assert_int_equal(rml_ring_claim(&out, 5, &cells), -EPROTO);
}

static void a_producer_that_cannot_be_true_is_refused(void **state)
{
    (void)state;
    fresh_ring(8);
    scribble(&memory.published, 9);  // beyond what eight cells hold
    assert_int_equal(rml_ring_peek(&in, 1, &ready), -EPROTO);
    scribble(&memory.published, 5);
    assert_int_equal(rml_ring_peek(&in, 8, &ready), 5);
    scribble(&memory.published, 4);  // back
    assert_int_equal(rml_ring_look(&in), -EPROTO);
    scribble(&memory.published, UINT64_MAX);
    assert_int_equal(rml_ring_look(&in), -EPROTO);
    rml_ring_take(&in, 5);
    scribble(&memory.published, 9);  // still one beyond, for nothing was released
    assert_int_equal(rml_ring_look(&in), -EPROTO);
    rml_ring_release(&in, 1);
    assert_int_equal(rml_ring_look(&in), 0);
}

static void ends_refuse_positions_that_contradict_each_other(void **state)
{
    (void)state;
    fresh_ring(8);
    struct rml_ring_place place = place_of(8);
    scribble(&memory.published, 3);
    scribble(&memory.released, 4);
    assert_int_equal(rml_ring_attach_out(&out, &place), -EPROTO);
    assert_int_equal(rml_ring_attach_in(&in, &place), -EPROTO);
    scribble(&memory.published, 13);
    assert_int_equal(rml_ring_attach_in(&in, &place), -EPROTO);
}

static void a_bad_shape_is_named_with_its_value(void **state)
{
    (void)state;
    struct rml_err err = {0};
    assert_int_equal(rml_ring_check_shape((struct rml_ring_shape){8, 1000}, &err), -EINVAL);
    assert_string_equal(err.text, "cell_count must be a power of two, got 1000");
    assert_int_equal(rml_ring_check_shape((struct rml_ring_shape){12, 8}, &err), -EINVAL);
    assert_string_equal(err.text, "cell_bytes must be a multiple of 8 up to 4096, got 12");
    assert_int_equal(rml_ring_check_shape((struct rml_ring_shape){8, 1u << 25}, &err), -EINVAL);
    assert_int_equal(rml_ring_check_shape((struct rml_ring_shape){0, 8}, &err), -EINVAL);
}

static void staged_cells_arrive_whole_at_every_size_and_turn(void **state)
{
    (void)state;
    for (uint32_t words = 1; words <= 3; words++) {
        fresh_ring(words * 8);
        rml_ring_lend_staging(&out, memory.staging, 3);
        rml_ring_choose(&out, RML_RING_STAGED);
        uint64_t sent = 0, seen = 0;
        for (uint32_t round = 0; round < 1000; round++) {
            int32_t run = rml_ring_claim(&out, round % 5 + 1, &cells);
            assert_true(run <= 3);
            for (uint32_t i = 0; i < (uint32_t)run * words; i++)
                ((uint64_t *)cells)[i] = sent++;
            rml_ring_commit(&out, (uint32_t)run);
            if (round % 3 != 0)
                continue;
            rml_ring_publish(&out);
            while ((run = rml_ring_peek(&in, 8, &ready)) > 0) {
                for (uint32_t i = 0; i < (uint32_t)run * words; i++)
                    assert_int_equal(((const uint64_t *)ready)[i], seen++);
                give_back((uint32_t)run);
            }
        }
        assert_true(seen > 1000);
    }
}

static void a_claim_stays_good_while_others_cells_are_published(void **state)
{
    (void)state;
    for (int v = 0; v < RML_RING_VARIANTS; v++) {
        fresh_ring(8);
        rml_ring_lend_staging(&out, memory.staging, 4);
        rml_ring_choose(&out, (enum rml_ring_variant)v);
        for (uint64_t word = 0; word < 100; word += 2) {
            assert_int_equal(rml_ring_claim(&out, 1, &cells), 1);
            *(uint64_t *)cells = word;
            rml_ring_commit(&out, 1);
            assert_int_equal(rml_ring_claim(&out, 1, &cells), 1);
            *(uint64_t *)cells = word + 1;
            rml_ring_publish(&out);
            rml_ring_commit(&out, 1);
            rml_ring_publish(&out);
            for (uint64_t i = 0; i < 2; i++) {
                assert_true(rml_ring_peek(&in, 1, &ready) == 1);
                assert_int_equal(*(const uint64_t *)ready, word + i);
                give_back(1);
            }
        }
    }
}

static void copies_past_the_cache_are_exact_at_any_alignment(void **state)
{
    (void)state;
    static alignas(64) unsigned char from[512], to[512];
    for (size_t i = 0; i < sizeof from; i++)
        from[i] = (unsigned char)(i * 7 + 3);
    for (size_t at = 0; at < 64; at += 8) {
        for (size_t bytes = 0; bytes <= 200; bytes += 8) {
            memset(to, 0, sizeof to);
            rml_stream_copy(to + at, from + 64 - at, bytes);
            rml_stream_fence();
            assert_memory_equal(to + at, from + 64 - at, bytes);
            assert_int_equal(to[at + bytes], 0);
        }
    }
}

enum { WORDS_TOTAL = 60000 };

static enum rml_ring_variant variant_under_test;

static void *count_upwards(void *unused)
{
    (void)unused;
    for (uint64_t word = 0; word < WORDS_TOTAL;) {
        void *run_cells;
        int32_t run = rml_ring_claim(&out, 3, &run_cells);
        for (int32_t i = 0; i < run; i++)
            ((uint64_t *)run_cells)[i] = word++;
        rml_ring_commit(&out, (uint32_t)run);
        rml_ring_publish(&out);
        if (run == 0)
            sched_yield();
    }
    return NULL;
}

static void two_threads_see_every_word_once_and_in_order(void **state)
{
    (void)state;
    for (variant_under_test = 0; variant_under_test < RML_RING_VARIANTS; variant_under_test++) {
        pthread_t producer;
        fresh_ring(8);
        rml_ring_lend_staging(&out, memory.staging, CELLS);
        rml_ring_choose(&out, variant_under_test);
        assert_int_equal(pthread_create(&producer, NULL, count_upwards, NULL), 0);

        uint64_t wrong = 0;
        for (uint64_t expected = 0; expected < WORDS_TOTAL;) {
            int32_t run = rml_ring_peek(&in, 5, &ready);
            for (int32_t i = 0; i < run; i++)
                wrong += ((const uint64_t *)ready)[i] != expected++;
            rml_ring_take(&in, (uint32_t)run);
            if (variant_under_test == RML_RING_FLUSH && rml_evict_able())
                rml_ring_evict(&in, (uint32_t)run);
            rml_ring_release(&in, (uint32_t)run);
            if (run == 0)
                sched_yield();
        }
        assert_int_equal(wrong, 0);
        assert_int_equal(pthread_join(producer, NULL), 0);
    }
}

TEST_MAIN(CLAIM(a_fresh_ring_is_empty), CLAIM(a_ring_holds_every_cell_it_has),
          CLAIM(a_run_stops_where_the_memory_ends), CLAIM(cells_are_not_seen_until_published),
          CLAIM(what_is_taken_gives_no_room_until_released),
          CLAIM(an_end_attached_again_goes_on_where_it_was_left),
          CLAIM(a_consumer_that_cannot_be_true_is_refused),
          CLAIM(a_producer_that_cannot_be_true_is_refused),
          CLAIM(ends_refuse_positions_that_contradict_each_other),
          CLAIM(a_bad_shape_is_named_with_its_value),
          CLAIM(staged_cells_arrive_whole_at_every_size_and_turn),
          CLAIM(a_claim_stays_good_while_others_cells_are_published),
          CLAIM(copies_past_the_cache_are_exact_at_any_alignment),
          CLAIM(two_threads_see_every_word_once_and_in_order))
