#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/err.h"
#include "runtime/checkpoint/ahead.h"
#include "tests/support/random.h"
#include "tests/support/scarce.h"
#include "tests/support/test.h"

#define BYTES ((size_t)8192)
#define COUNT 100u

static struct source {
    _Atomic uint32_t reads;
    _Atomic uint32_t read[COUNT];
    uint32_t bad;            // whose reading fails
    uint32_t until[COUNT];   // reading one waits until so many others were begun, beside itself
    _Atomic bool was_alone;  // and they never were
} source;

static int read_one(void *context, uint32_t index, void *memory, struct rml_err *err)
{
    struct source *s = context;
    atomic_fetch_add(&s->reads, 1);
    atomic_fetch_add(&s->read[index], 1);
    for (uint64_t tries = 0; atomic_load(&s->reads) <= s->until[index]; tries++) {
        if (tries == 100000000) {
            atomic_store(&s->was_alone, true);
            break;
        }
        sched_yield();
    }
    memset(memory, (int)index, BYTES);
    return index == s->bad ? RML_FAIL(err, -EBADMSG, "number %u is bad", index) : 0;
}

static struct rml_ahead *begin(uint32_t count)
{
    struct rml_ahead *ahead;
    const struct rml_ahead_options options = {
        .count = count, .bytes = BYTES, .read = read_one, .context = &source};
    assert_int_equal(rml_ahead_open(&ahead, &options, NULL), 0);
    return ahead;
}

static void assert_next(struct rml_ahead *ahead, uint32_t index)
{
    void *memory = NULL;
    assert_int_equal(rml_ahead_next(ahead, &memory, NULL), 0);
    const unsigned char *bytes = memory;
    for (size_t i = 0; i < BYTES; i++)
        assert_int_equal(bytes[i], index);
}

static void things_come_in_order_and_each_is_read_once(void **state)
{
    (void)state;
    for (uint32_t count = 0; count <= COUNT; count = count * 2 + 1) {
        memset(&source, 0, sizeof source);
        source.bad = COUNT;
        struct rml_ahead *ahead = begin(count);
        for (uint32_t i = 0; i < count; i++)
            assert_next(ahead, i);
        rml_ahead_close(ahead);
        assert_int_equal(atomic_load(&source.reads), count);
        for (uint32_t i = 0; i < count; i++)
            assert_int_equal(atomic_load(&source.read[i]), 1);
    }
}

static void several_are_read_at_a_time_and_before_they_are_asked_for(void **state)
{
    (void)state;
    memset(&source, 0, sizeof source);
    source.bad = COUNT;
    source.until[0] = 2;  // the first waits for two others
    struct rml_ahead *ahead = begin(COUNT);
    assert_next(ahead, 0);
    assert_false(atomic_load(&source.was_alone));
    rml_ahead_close(ahead);
}

static void one_that_cannot_be_read_is_told_in_its_turn(void **state)
{
    (void)state;
    uint64_t seed = rml_test_seed();
    for (uint32_t round = 0; round < 50; round++) {
        memset(&source, 0, sizeof source);
        source.bad = (uint32_t)(rml_test_random(&seed) % COUNT);
        struct rml_ahead *ahead = begin(COUNT);
        for (uint32_t i = 0; i < source.bad; i++)
            assert_next(ahead, i);
        struct rml_err err = {0};
        char expected[40];
        snprintf(expected, sizeof expected, "number %u is bad", source.bad);
        void *memory;
        assert_int_equal(rml_ahead_next(ahead, &memory, &err), -EBADMSG);
        assert_string_equal(err.text, expected);
        rml_ahead_close(ahead);
    }
}

static void what_is_closed_early_reads_no_further(void **state)
{
    (void)state;
    for (uint32_t taken = 0; taken < 20; taken++) {
        memset(&source, 0, sizeof source);
        source.bad = COUNT;
        struct rml_ahead *ahead = begin(COUNT);
        for (uint32_t i = 0; i < taken; i++)
            assert_next(ahead, i);
        rml_ahead_close(ahead);
        uint32_t reads = atomic_load(&source.reads);
        assert_true(reads >= taken && reads <= taken + 6);
    }
}

static void without_threads_whoever_asks_reads(void **state)
{
    (void)state;
    for (uint32_t threads = 0; threads < 3; threads++) {
        memset(&source, 0, sizeof source);
        source.bad = COUNT;
        scarce_threads_left = threads;
        struct rml_ahead *ahead = begin(COUNT);
        scarce_threads_left = SCARCE_NOT;
        uint32_t read_ahead = atomic_load(&source.reads);
        for (uint32_t i = 0; i < COUNT; i++)
            assert_next(ahead, i);
        rml_ahead_close(ahead);
        // those that threads read which were there, until it was known that not all are
        assert_true(read_ahead <= 2 * threads);
        assert_int_equal(atomic_load(&source.reads), COUNT + read_ahead);
    }
}

static void without_memory_nothing_is_begun_and_it_is_said(void **state)
{
    (void)state;
    struct rml_ahead *ahead;
    const struct rml_ahead_options options = {.count = COUNT, .bytes = BYTES, .read = read_one};
    struct rml_err err = {0};
    scarce_maps_left = 0;
    int rc = rml_ahead_open(&ahead, &options, &err);
    scarce_maps_left = SCARCE_NOT;
    assert_int_equal(rc, -ENOMEM);
    assert_string_equal(err.text, "no memory to read ahead");
}

TEST_MAIN(CLAIM(without_threads_whoever_asks_reads),
          CLAIM(without_memory_nothing_is_begun_and_it_is_said),
          CLAIM(things_come_in_order_and_each_is_read_once),
          CLAIM(several_are_read_at_a_time_and_before_they_are_asked_for),
          CLAIM(one_that_cannot_be_read_is_told_in_its_turn),
          CLAIM(what_is_closed_early_reads_no_further))
