#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/state/pages.h"
#include "runtime/state/rows.h"
#include "tests/support/random.h"
#include "tests/support/test.h"

#define PAGES 40u

static bool is_zero(const unsigned char *bytes, size_t count)
{
    return bytes[0] == 0 && memcmp(bytes, bytes + 1, count - 1) == 0;
}

static struct rml_pages open_pages(uint32_t count)
{
    struct rml_pages pages;
    assert_int_equal(rml_pages_open(&pages, (uint64_t)count * RML_PAGE_BYTES, NULL), 0);
    return pages;
}

static void as_many_pages_as_the_limit_says_and_no_more(void **state)
{
    (void)state;
    struct rml_pages pages = open_pages(PAGES);
    for (uint32_t i = 0; i < PAGES; i++)
        assert_int_not_equal(rml_pages_take(&pages), RML_NO_PAGE);
    assert_int_equal(rml_pages_take(&pages), RML_NO_PAGE);
    assert_int_equal(pages.in_use, PAGES);
    rml_pages_give(&pages, 7);
    assert_int_equal(rml_pages_take(&pages), 7);
    assert_int_equal(rml_pages_take(&pages), RML_NO_PAGE);
    rml_pages_close(&pages);
}

static void a_page_is_full_of_zeros_however_often_it_was_used(void **state)
{
    (void)state;
    struct rml_pages pages = open_pages(PAGES);
    uint32_t taken[PAGES], count = 0;
    uint64_t seed = rml_test_seed();
    for (uint32_t i = 0; i < 2000; i++) {
        if (count > 0 && (count == PAGES || rml_test_random(&seed) % 2 != 0)) {
            uint32_t which = (uint32_t)(rml_test_random(&seed) % count);
            rml_pages_give(&pages, taken[which]);
            taken[which] = taken[--count];
        } else {
            uint32_t page = rml_pages_take(&pages);
            assert_int_not_equal(page, RML_NO_PAGE);
            for (uint32_t j = 0; j < count; j++)
                assert_int_not_equal(page, taken[j]);
            assert_true(is_zero(rml_page(&pages, page), RML_PAGE_BYTES));
            memset(rml_page_change(&pages, page), 0xa5, RML_PAGE_BYTES);
            taken[count++] = page;
        }
        assert_int_equal(pages.in_use, count);
    }
    rml_pages_close(&pages);
}

static void rows_lie_apart_and_never_straddle_two_lines(void **state)
{
    (void)state;
    for (uint32_t bytes = 1; bytes <= RML_PAGE_BYTES; bytes++) {
        struct rml_rows_shape shape = rml_rows_shape(bytes);
        assert_true(shape.stride >= bytes);
        assert_true(bytes <= 64 ? 64 % shape.stride == 0 : shape.stride % 64 == 0);
        assert_true((shape.stride << shape.leaf_log) <= RML_PAGE_BYTES);
        assert_true((shape.stride << (shape.leaf_log + 1)) > RML_PAGE_BYTES);
    }
}

static void a_row_keeps_what_was_written_and_others_stay_zero(void **state)
{
    (void)state;
    struct rml_pages pages = open_pages(3000);
    struct rml_rows rows = {0};
    struct rml_rows_shape shape = rml_rows_shape(24);
    uint64_t seed = rml_test_seed();
    uint32_t numbers[1000];
    for (uint32_t i = 0; i < 1000; i++) {
        numbers[i] = (uint32_t)(rml_test_random(&seed) % rml_rows_max(shape));
        uint32_t *row = rml_rows_reach(&rows, &pages, shape, numbers[i]);
        assert_true(row != NULL && (row[0] == 0 || row[0] == numbers[i] + 1));
        memcpy(row, &(uint32_t){numbers[i] + 1}, sizeof row[0]);
    }
    for (uint32_t i = 0; i < 1000; i++) {
        const uint32_t *row = rml_rows_find(&rows, &pages, shape, numbers[i]);
        assert_true(row != NULL && row[0] == numbers[i] + 1);
    }
    rml_rows_clear(&rows, &pages);
    assert_int_equal(pages.in_use, 0);
    assert_null(rml_rows_find(&rows, &pages, shape, numbers[0]));
    rml_pages_close(&pages);
}

static void only_touched_rows_take_room(void **state)
{
    (void)state;
    struct rml_pages pages = open_pages(PAGES);
    struct rml_rows rows = {0};
    struct rml_rows_shape shape = rml_rows_shape(64);
    assert_null(rml_rows_find(&rows, &pages, shape, 5));
    assert_int_equal(pages.in_use, 0);
    assert_non_null(rml_rows_reach(&rows, &pages, shape, 0));
    assert_int_equal(pages.in_use, 2);  // a directory and a leaf
    assert_non_null(rml_rows_reach(&rows, &pages, shape, (1u << shape.leaf_log) - 1));
    assert_int_equal(pages.in_use, 2);
    assert_non_null(rml_rows_reach(&rows, &pages, shape, 1u << shape.leaf_log));
    assert_int_equal(pages.in_use, 3);
    assert_non_null(rml_rows_reach(&rows, &pages, shape, (uint32_t)rml_rows_max(shape) - 1));
    assert_int_equal(pages.in_use, 5);
    rml_rows_clear(&rows, &pages);
    rml_pages_close(&pages);
}

static void a_row_for_which_no_page_is_left_is_refused(void **state)
{
    (void)state;
    struct rml_pages pages = open_pages(2);
    struct rml_rows rows = {0};
    struct rml_rows_shape shape = rml_rows_shape(8);
    assert_non_null(rml_rows_reach(&rows, &pages, shape, 0));
    assert_null(rml_rows_reach(&rows, &pages, shape, 1u << shape.leaf_log));
    assert_non_null(rml_rows_reach(&rows, &pages, shape, 1));
    rml_rows_clear(&rows, &pages);
    assert_int_equal(pages.in_use, 0);
    rml_pages_close(&pages);
}

static void pages_of_an_owner_are_passed_on_and_those_of_nobody_are_free(void **state)
{
    (void)state;

    enum { COUNT = 40000 };  // more than one page can say the owners of
    struct rml_pages pages;
    uint64_t seed = rml_test_seed();
    static uint8_t owner_of[COUNT + 16];
    uint32_t owned[4] = {0};
    assert_int_equal(rml_pages_open(&pages, (uint64_t)COUNT * RML_PAGE_BYTES, NULL), 0);
    for (uint32_t i = 0; i < COUNT; i++) {
        uint8_t owner = (uint8_t)(1 + rml_test_random(&seed) % 3);
        assert_int_equal(rml_pages_own(&pages, owner), 0);
        uint32_t page = rml_pages_take(&pages);
        assert_int_not_equal(page, RML_NO_PAGE);
        assert_true(page < COUNT + 16 && owner_of[page] == 0);
        owner_of[page] = owner;
        owned[owner]++;
        assert_int_equal(rml_pages_own(&pages, 0), owner);
    }
    for (uint8_t o = 1; o < 4; o++)
        assert_int_equal(rml_pages_owned(&pages, o), owned[o]);
    uint8_t owners[RML_OWNERS_MAX] = {[1] = 7, [3] = 1};
    rml_pages_pass_on(&pages, owners);
    assert_int_equal(rml_pages_owned(&pages, 7), owned[1]);
    assert_int_equal(rml_pages_owned(&pages, 1), owned[3]);
    assert_int_equal(rml_pages_owned(&pages, 2), 0);
    assert_int_equal(rml_pages_owned(&pages, 3), 0);
    assert_int_equal(pages.in_use, owned[1] + owned[3]);
    for (uint32_t i = 0; i < owned[2]; i++)
        assert_int_equal(owner_of[rml_pages_take(&pages)], 2);
    rml_pages_close(&pages);
}

TEST_MAIN(CLAIM(as_many_pages_as_the_limit_says_and_no_more),
          CLAIM(pages_of_an_owner_are_passed_on_and_those_of_nobody_are_free),
          CLAIM(a_page_is_full_of_zeros_however_often_it_was_used),
          CLAIM(rows_lie_apart_and_never_straddle_two_lines),
          CLAIM(a_row_keeps_what_was_written_and_others_stay_zero),
          CLAIM(only_touched_rows_take_room), CLAIM(a_row_for_which_no_page_is_left_is_refused))
