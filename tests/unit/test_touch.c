#include <sched.h>
#include <stdbool.h>
#include <string.h>

#include "runtime/state/touch.h"
#include "tests/support/scarce.h"
#include "tests/support/test.h"

#define MIB   ((size_t)1 << 20)
#define BYTES (17 * MIB + 12288)
#define SMALL ((size_t)4096)
#define TRIES 10000000u

#ifndef MADV_POPULATE_WRITE
# define MADV_POPULATE_WRITE 23
#endif

static unsigned char *open_memory(void)
{
    unsigned char *memory =
        mmap(NULL, BYTES + MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(memory != MAP_FAILED);
    madvise(memory, BYTES + MIB, MADV_NOHUGEPAGE);
    return memory;
}

static void skip_on_old_kernels(void)
{
    unsigned char *memory = open_memory();
    bool can = madvise(memory, SMALL, MADV_POPULATE_WRITE) == 0;
    munmap(memory, BYTES + MIB);
    if (!can)
        skip();
}

// How many pages of 4 KiB are there.
static size_t there(unsigned char *memory, size_t bytes)
{
    static unsigned char present[(BYTES + MIB) / SMALL];
    assert_int_equal(mincore(memory, bytes, present), 0);
    size_t count = 0;
    for (size_t i = 0; i < bytes / SMALL; i++)
        count += present[i] & 1;
    return count;
}

static void all_of_it_is_there_and_nothing_behind_it(void **state)
{
    (void)state;
    skip_on_old_kernels();
    for (size_t from = 0; from < 3; from++) {
        unsigned char *memory = open_memory();
        unsigned char *first = memory + from * 5 * SMALL;
        struct rml_touch *touch = rml_touch_begin(first, BYTES);
        assert_non_null(touch);
        for (uint32_t tries = 0; there(first, BYTES) < BYTES / SMALL; tries++) {
            assert_true(tries < TRIES);
            sched_yield();
        }
        rml_touch_end(touch);
        assert_int_equal(there(memory, BYTES + MIB), BYTES / SMALL);
        munmap(memory, BYTES + MIB);
    }
}

static void what_is_written_meanwhile_stays(void **state)
{
    (void)state;
    unsigned char *memory = open_memory();
    struct rml_touch *touch = rml_touch_begin(memory, BYTES);
    for (size_t b = 0; b < BYTES; b += 64)
        memory[b] = (unsigned char)(b / 64 % 251 + 1);
    rml_touch_end(touch);
    for (size_t b = 0; b < BYTES; b++)
        assert_int_equal(memory[b], b % 64 == 0 ? b / 64 % 251 + 1 : 0);
    munmap(memory, BYTES + MIB);
}

static void behind_the_end_memory_may_go(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 50; i++) {
        unsigned char *memory = open_memory();
        struct rml_touch *touch = rml_touch_begin(memory, BYTES);
        rml_touch_end(touch);
        size_t then = there(memory, BYTES);
        for (uint32_t again = 0; again < 10; again++)
            sched_yield();
        assert_int_equal(there(memory, BYTES), then);
        munmap(memory, BYTES + MIB);
    }
    rml_touch_end(NULL);
}

static void without_a_thread_nothing_is_touched(void **state)
{
    (void)state;
    unsigned char *memory = open_memory();
    scarce_threads_left = 0;
    assert_null(rml_touch_begin(memory, BYTES));
    scarce_threads_left = SCARCE_NOT;
    assert_int_equal(there(memory, BYTES), 0);
    munmap(memory, BYTES + MIB);
}

TEST_MAIN(CLAIM(all_of_it_is_there_and_nothing_behind_it), CLAIM(what_is_written_meanwhile_stays),
          CLAIM(behind_the_end_memory_may_go), CLAIM(without_a_thread_nothing_is_touched))
