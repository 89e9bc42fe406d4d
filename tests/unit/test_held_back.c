/*
 * When a reader of the catalog is called one that stands still, and what is said of it; the clock is held.
 */
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "runtime/control/held_back.h"
#include "tests/support/test.h"

#define SECOND INT64_C(1000000000)

static struct rml_held_back held;
static char said[RML_HELD_BACK_SENTENCE];

static bool see(uint32_t pid, uint64_t state, uint64_t behind, int64_t now_ns)
{
    const struct rml_catalog_use use = {.bytes = 3 << 20,
                                        .bytes_max = 64 << 20,
                                        .reader_count = pid != 0,
                                        .reader_pid = pid,
                                        .reader_state = state,
                                        .reader_behind = behind};
    said[0] = '\0';
    return rml_held_back_see(&held, &use, now_ns, now_ns + 1000 * SECOND, said);
}

static int set_up(void **state)
{
    (void)state;
    held = (struct rml_held_back){0};
    return 0;
}

static void one_that_goes_on_is_never_spoken_of(void **state)
{
    (void)state;
    for (uint64_t second = 0; second < 100; second++)
        assert_false(see(7, 10 * second, 9, (int64_t)second * SECOND));
    assert_int_equal(held.times, 0);
    assert_false(see(0, 0, 0, 100 * SECOND));
}

static void one_that_reads_the_newest_state_holds_nothing_back_however_long(void **state)
{
    (void)state;
    for (int64_t second = 0; second < 100; second++)
        assert_false(see(7, 1, 0, second * SECOND));
    assert_int_equal(held.pid, 0);
}

static void one_that_stands_still_is_named_once_a_minute_and_when_it_is_over(void **state)
{
    (void)state;
    prctl(PR_SET_NAME, "still");
    uint32_t own = (uint32_t)getpid(), sentences = 0;
    char name[64];
    snprintf(name, sizeof name, "process %u (still) reads the same state", own);
    for (int64_t second = 0; second < 130; second++) {
        bool any = see(own, 5, (uint64_t)second + 1, second * SECOND);
        sentences += any;
        assert_true(any == (second == 5 || second == 65 || second == 125));
        assert_true(held.is_long == (second >= 5));
        if (!any)
            continue;
        assert_non_null(strstr(said, name));
        assert_non_null(strstr(said, "3.0 MiB, 64.0 MiB at most"));
    }
    assert_int_equal(sentences, 3);
    assert_int_equal(held.times, 1);
    assert_int_equal(held.since_wall_ns, 1000 * SECOND);
    assert_true(see(0, 0, 0, 131 * SECOND));
    snprintf(name, sizeof name, "process %u holds back no pages", own);
    assert_non_null(strstr(said, name));
    assert_false(held.is_long);
    assert_false(see(0, 0, 0, 132 * SECOND));
}

static void another_one_or_another_state_begins_anew(void **state)
{
    (void)state;
    assert_false(see(7, 5, 1, 0));
    assert_false(see(8, 5, 1, 4 * SECOND));
    assert_false(see(8, 6, 1, 8 * SECOND));
    assert_false(see(8, 6, 2, 12 * SECOND));
    assert_true(see(8, 6, 3, 13 * SECOND));
    assert_true(see(9, 7, 3, 14 * SECOND));  // that 8 is over; and 9 has just been seen
    assert_non_null(strstr(said, "process 8 holds back no"));
    assert_false(see(9, 7, 4, 18 * SECOND));
    assert_true(see(9, 7, 5, 19 * SECOND));
    assert_int_equal(held.times, 2);
}

static void a_name_that_steers_a_terminal_is_shown_without_that(void **state)
{
    (void)state;
    char before[16], name[16];
    assert_int_equal(prctl(PR_GET_NAME, before, 0, 0, 0), 0);
    assert_int_equal(prctl(PR_SET_NAME, "\x1b[2Ja\xff\u00e9", 0, 0, 0), 0);
    rml_held_back_program((uint32_t)getpid(), name);
    assert_int_equal(prctl(PR_SET_NAME, before, 0, 0, 0), 0);
    assert_string_equal(name, "?[2Ja?\u00e9");
}

#define FRESH(name) cmocka_unit_test_setup(name, set_up)

int main(void)
{
    const struct CMUnitTest claims[] = {
        FRESH(one_that_goes_on_is_never_spoken_of),
        FRESH(one_that_reads_the_newest_state_holds_nothing_back_however_long),
        FRESH(one_that_stands_still_is_named_once_a_minute_and_when_it_is_over),
        FRESH(another_one_or_another_state_begins_anew),
        FRESH(a_name_that_steers_a_terminal_is_shown_without_that),
    };
    return cmocka_run_group_tests(claims, NULL, NULL);
}
