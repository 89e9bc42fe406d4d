#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/ring/broadcast.h"
#include "tests/support/test.h"

#define ROWS 16

struct row {
    uint64_t number;
    uint64_t twice;
    uint64_t inverse;
};

static const struct rml_broadcast_shape shape = {sizeof(struct row), ROWS};

static void *new_ring(struct rml_broadcast_out *out)
{
    void *memory = aligned_alloc(64, rml_broadcast_bytes(shape));
    assert_non_null(memory);
    memset(memory, 0, rml_broadcast_bytes(shape));
    rml_broadcast_attach_out(out, memory, shape);
    return memory;
}

static void give(struct rml_broadcast_out *out, uint64_t from, uint64_t to)
{
    for (uint64_t i = from; i < to; i++) {
        struct row row = {i, 2 * i, ~i};
        rml_broadcast_give(out, &row);
    }
    rml_broadcast_announce(out);
}

static void a_shape_that_cannot_be_takes_no_bytes(void **state)
{
    (void)state;
    assert_int_equal(rml_broadcast_bytes((struct rml_broadcast_shape){0, 16}), 0);
    assert_int_equal(rml_broadcast_bytes((struct rml_broadcast_shape){12, 16}), 0);
    assert_int_equal(rml_broadcast_bytes((struct rml_broadcast_shape){16, 12}), 0);
    assert_int_equal(rml_broadcast_bytes((struct rml_broadcast_shape){16, 1}), 0);
    assert_int_equal(rml_broadcast_bytes((struct rml_broadcast_shape){16, 1u << 25}), 0);
    assert_int_equal(rml_broadcast_bytes((struct rml_broadcast_shape){16384, 16}), 0);
    assert_int_equal(rml_broadcast_bytes((struct rml_broadcast_shape){8, 2}), 128);
}

static void rows_come_in_order_to_every_reader(void **state)
{
    (void)state;
    struct rml_broadcast_out out;
    void *memory = new_ring(&out);
    struct rml_broadcast_in a, b;
    rml_broadcast_attach_in(&a, memory, shape, 0);
    give(&out, 0, 5);
    rml_broadcast_attach_in(&b, memory, shape, 1);
    struct row row;
    uint64_t number;
    for (uint64_t i = 0; i < 5; i++) {
        assert_int_equal(rml_broadcast_read(&a, &row, &number), 1);
        assert_int_equal(row.number, i);
        assert_int_equal(number, i);
        assert_int_equal(rml_broadcast_read(&b, &row, &number), 1);
        assert_int_equal(row.inverse, ~i);
    }
    assert_int_equal(rml_broadcast_read(&a, &row, &number), 0);
    assert_false(rml_broadcast_look(&a));
    give(&out, 5, 6);
    assert_true(rml_broadcast_look(&a));
    free(memory);
}

static void a_reader_that_joins_late_sees_only_what_comes(void **state)
{
    (void)state;
    struct rml_broadcast_out out;
    void *memory = new_ring(&out);
    give(&out, 0, 40);
    struct rml_broadcast_in in, oldest;
    rml_broadcast_attach_in(&in, memory, shape, 0);
    rml_broadcast_attach_in(&oldest, memory, shape, 1);
    struct row row;
    uint64_t number;
    assert_int_equal(rml_broadcast_read(&in, &row, &number), 0);
    assert_int_equal(rml_broadcast_read(&oldest, &row, &number), 1);
    assert_int_equal(number, 40 - ROWS);
    assert_int_equal(oldest.missed, 0);
    give(&out, 40, 41);
    assert_int_equal(rml_broadcast_read(&in, &row, &number), 1);
    assert_int_equal(row.number, 40);
    assert_int_equal(in.missed, 0);
    free(memory);
}

static void the_oldest_row_of_a_ring_that_is_numbered_from_elsewhere_is_its_first(void **state)
{
    (void)state;
    struct row row;
    uint64_t number;
    for (uint64_t first = 1; first < 3 * ROWS; first += ROWS / 2) {
        for (uint64_t count = 0; count < 3 * ROWS; count++) {
            struct rml_broadcast_out out;
            void *memory = new_ring(&out);
            rml_broadcast_number_out(&out, first);
            give(&out, first, first + count);
            struct rml_broadcast_in oldest;
            rml_broadcast_attach_in(&oldest, memory, shape, 1);
            uint64_t there = count < ROWS ? count : ROWS;
            for (uint64_t i = first + count - there; i < first + count; i++) {
                assert_true(rml_broadcast_look(&oldest));
                assert_int_equal(rml_broadcast_read(&oldest, &row, &number), 1);
                assert_int_equal(number, i);
            }
            assert_false(rml_broadcast_look(&oldest));
            assert_int_equal(oldest.missed, 0);
            free(memory);
        }
    }
}

static void a_slow_reader_learns_exactly_how_many_it_missed(void **state)
{
    (void)state;
    for (uint64_t behind = 0; behind < 5 * ROWS; behind++) {
        struct rml_broadcast_out out;
        void *memory = new_ring(&out);
        struct rml_broadcast_in in;
        rml_broadcast_attach_in(&in, memory, shape, 0);
        give(&out, 0, behind);
        struct row row;
        uint64_t number, got = 0, last = 0;
        while (rml_broadcast_read(&in, &row, &number) == 1) {
            assert_int_equal(row.number, number);
            last = number;
            got++;
        }
        assert_int_equal(got + in.missed, behind);
        if (behind > 0)
            assert_int_equal(last, behind - 1);
        if (behind <= ROWS)
            assert_int_equal(in.missed, 0);
        free(memory);
    }
}

#define RACE_ROWS 200000

struct race {
    void *memory;
    _Atomic int ready;
    uint64_t got, missed, torn;
};

static void *race_read(void *context)
{
    struct race *race = context;
    struct rml_broadcast_in in;
    rml_broadcast_attach_in(&in, race->memory, shape, 0);
    // release: test.ready
    atomic_store_explicit(&race->ready, 1, memory_order_release);
    struct row row = {0};
    uint64_t number = 0;
    while (number != RACE_ROWS - 1) {
        if (rml_broadcast_read(&in, &row, &number) == 1) {
            race->got++;
            race->torn += row.number != number || row.twice != 2 * number || row.inverse != ~number;
        }
    }
    race->missed = in.missed;
    return NULL;
}

static void a_row_read_while_it_is_overwritten_is_never_torn(void **state)
{
    (void)state;
    struct rml_broadcast_out out;
    struct race races[2] = {0};
    races[0].memory = races[1].memory = new_ring(&out);
    pthread_t readers[2];
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&readers[i], NULL, race_read, &races[i]), 0);
    for (int i = 0; i < 2; i++) {
        // acquire: test.ready
        while (!atomic_load_explicit(&races[i].ready, memory_order_acquire))
            ;
    }
    for (uint64_t i = 0; i < RACE_ROWS; i += 8)
        give(&out, i, i + 8);
    for (int i = 0; i < 2; i++) {
        pthread_join(readers[i], NULL);
        assert_int_equal(races[i].torn, 0);
        assert_int_equal(races[i].got + races[i].missed, RACE_ROWS);
    }
    free(races[0].memory);
}

// Slots are words: the stamp, then the row's.
static _Atomic uint64_t *stamp_of(void *memory, uint64_t number)
{
    return (_Atomic uint64_t *)memory + 8 + number % ROWS * (1 + sizeof(struct row) / 8);
}

static void who_goes_on_for_a_dead_writer_gives_the_torn_row_anew(void **state)
{
    (void)state;
    for (uint64_t given = 0; given < 3 * ROWS; given += 7) {
        struct rml_broadcast_out out, next;
        void *memory = new_ring(&out);
        struct rml_broadcast_in reader;
        rml_broadcast_attach_in(&reader, memory, shape, 1);
        struct row row;
        uint64_t number;
        for (uint64_t i = 0; i < given; i++) {
            give(&out, i, i + 1);
            assert_int_equal(rml_broadcast_read(&reader, &row, &number), 1);
        }
        const struct row whole = {given, 2 * given, ~given};
        rml_broadcast_give(&out, &whole);  // there, and not announced
        atomic_store_explicit(stamp_of(memory, given + 1), 2 * (given + 1) + 1,
                              memory_order_relaxed);  // the writer dies in it
        rml_broadcast_resume_out(&next, memory, shape);
        assert_int_equal(next.given, given + 1);
        assert_true(rml_broadcast_look(&reader));  // announced now
        assert_int_equal(rml_broadcast_read(&reader, &row, &number), 1);
        assert_int_equal(number, given);
        assert_int_equal(rml_broadcast_read(&reader, &row, &number), 0);
        give(&next, given + 1, given + 3);
        for (uint64_t i = given + 1; i < given + 3; i++) {
            assert_int_equal(rml_broadcast_read(&reader, &row, &number), 1);
            assert_int_equal(number, i);
            assert_int_equal(row.inverse, ~i);
        }
        assert_int_equal(reader.missed, 0);
        free(memory);
    }
}

// A pipeline that goes on from a checkpoint has new rings, whose rows have the numbers behind it.
static void who_wants_the_oldest_row_begins_where_the_numbers_of_a_new_ring_do(void **state)
{
    (void)state;
    static const uint64_t firsts[] = {1, ROWS - 1, ROWS, 3 * ROWS + 5};
    for (size_t i = 0; i < sizeof firsts / sizeof firsts[0]; i++) {
        struct rml_broadcast_out out;
        void *memory = new_ring(&out);
        rml_broadcast_number_out(&out, firsts[i]);
        struct rml_broadcast_in before, between, behind;
        rml_broadcast_attach_in(&before, memory, shape, 1);
        assert_false(rml_broadcast_look(&before));
        give(&out, firsts[i], firsts[i] + 3);
        rml_broadcast_attach_in(&between, memory, shape, 1);
        struct row row;
        uint64_t number;
        for (uint64_t next = firsts[i]; next < firsts[i] + 3; next++) {
            assert_int_equal(rml_broadcast_read(&before, &row, &number), 1);
            assert_int_equal(number, next);
            assert_int_equal(rml_broadcast_read(&between, &row, &number), 1);
            assert_int_equal(row.number, next);
        }
        assert_int_equal(before.missed + between.missed, 0);
        give(&out, firsts[i] + 3, firsts[i] + ROWS + 2);
        rml_broadcast_attach_in(&behind, memory, shape, 1);
        assert_int_equal(rml_broadcast_read(&behind, &row, &number), 1);
        assert_int_equal(number, firsts[i] + 2);
        free(memory);
    }
}

TEST_MAIN(CLAIM(who_wants_the_oldest_row_begins_where_the_numbers_of_a_new_ring_do),
          CLAIM(who_goes_on_for_a_dead_writer_gives_the_torn_row_anew),
          CLAIM(a_shape_that_cannot_be_takes_no_bytes), CLAIM(rows_come_in_order_to_every_reader),
          CLAIM(a_reader_that_joins_late_sees_only_what_comes),
          CLAIM(the_oldest_row_of_a_ring_that_is_numbered_from_elsewhere_is_its_first),
          CLAIM(a_slow_reader_learns_exactly_how_many_it_missed),
          CLAIM(a_row_read_while_it_is_overwritten_is_never_torn))
