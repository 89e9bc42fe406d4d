#include <errno.h>
#include <string.h>
#include <time.h>

#include "runtime/time/time.h"
#include "tests/support/test.h"

static int64_t duration(const char *text)
{
    int64_t ns = -1;
    assert_int_equal(rml_duration_parse(text, strlen(text), &ns), 0);
    return ns;
}

static int64_t parsed(const char *text)
{
    int64_t ns = -1;
    assert_int_equal(rml_time_parse(text, strlen(text), &ns), 0);
    return ns;
}

static void a_duration_is_exact_in_every_unit(void **state)
{
    (void)state;
    assert_int_equal(duration("0"), 0);
    assert_int_equal(duration("1.5s"), 1500000000);
    assert_int_equal(duration("-5ms"), -5000000);
    assert_int_equal(duration("0.001us"), 1);
    assert_int_equal(duration("7d"), (int64_t)7 * 86400 * 1000000000);
    assert_int_equal(duration("30\xc2\xb5s"), 30000);
    assert_int_equal(duration("2.50h"), (int64_t)9000 * 1000000000);
}

static void a_duration_without_a_unit_or_beyond_its_range_is_refused(void **state)
{
    (void)state;
    int64_t ns = 77;
    assert_int_equal(rml_duration_parse("60", 2, &ns), -EINVAL);
    assert_int_equal(rml_duration_parse("", 0, &ns), -EINVAL);
    assert_int_equal(rml_duration_parse("s", 1, &ns), -EINVAL);
    assert_int_equal(rml_duration_parse("1.s", 3, &ns), -EINVAL);
    assert_int_equal(rml_duration_parse("0.5ns", 5, &ns), -EINVAL);
    assert_int_equal(rml_duration_parse("200000d", 7, &ns), -ERANGE);
    assert_int_equal(rml_duration_parse("99999999999999999999999999999999999999999d", 42, &ns),
                     -ERANGE);
    assert_int_equal(ns, 77);
}

static void a_printed_duration_reads_back_the_same(void **state)
{
    (void)state;
    static const int64_t samples[] = {
        0, 1, -1, 1500000000, 60000000000, INT64_MAX, INT64_MIN + 1, 86400000000000};
    for (size_t i = 0; i < sizeof samples / sizeof samples[0]; i++) {
        char text[32];
        rml_duration_print(samples[i], text);
        assert_int_equal(duration(text), samples[i]);
    }
}

static void times_read_as_integers_and_as_dates(void **state)
{
    (void)state;
    assert_int_equal(parsed("-17"), -17);
    assert_int_equal(parsed("9223372036854775807"), INT64_MAX);
    assert_int_equal(parsed("-9223372036854775808"), INT64_MIN);
    assert_int_equal(parsed("2023-11-16 18:17:03.9799600"), 1700158623979960000);
    assert_int_equal(parsed("2023-11-16T18:17:03.979960Z"), 1700158623979960000);
    assert_int_equal(parsed("2023-11-16T20:17:03+02:00"), 1700158623000000000);
    assert_int_equal(parsed("1969-12-31T23:59:59.5Z"), -500000000);
}

static void a_time_that_is_none_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"",
                                      "-",
                                      "2023-13-01 00:00:00",
                                      "2023-02-29 00:00:00",
                                      "2023-01-01",
                                      "2023-01-01 00:00:00.",
                                      "2023-01-01 00:00:00.0000000001",
                                      "2023-01-01 00:00:00 ",
                                      "12x",
                                      "2023-01-01T24:00:00Z"};
    int64_t ns;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(rml_time_parse(bad[i], strlen(bad[i]), &ns), -EINVAL);
    assert_int_equal(rml_time_parse("9223372036854775808", 19, &ns), -ERANGE);
    assert_int_equal(rml_time_parse("9999-01-01 00:00:00", 19, &ns), -ERANGE);
}

static void dates_agree_with_the_c_library_over_five_centuries(void **state)
{
    (void)state;
    for (int64_t seconds = -9000000000; seconds < 9000000000; seconds += 86399 * 7 + 13) {
        char text[40], expected[40];
        time_t at = (time_t)seconds;
        struct tm parts;
        gmtime_r(&at, &parts);
        strftime(expected, sizeof expected, "%Y-%m-%dT%H:%M:%SZ", &parts);
        rml_time_print_rfc3339(seconds * 1000000000, text);
        assert_string_equal(text, expected);
        assert_int_equal(parsed(text), seconds * 1000000000);
    }
}

static void the_ends_of_time_print_and_read_back(void **state)
{
    (void)state;
    char text[40];
    rml_time_print_rfc3339(INT64_MAX, text);
    assert_int_equal(parsed(text), INT64_MAX);
    rml_time_print_rfc3339(INT64_MIN, text);
    assert_int_equal(parsed(text), INT64_MIN);
}

static void division_floors_also_below_zero(void **state)
{
    (void)state;
    assert_int_equal(rml_time_floor_div(-1, 10), -1);
    assert_int_equal(rml_time_floor_div(-10, 10), -1);
    assert_int_equal(rml_time_floor_div(-11, 10), -2);
    assert_int_equal(rml_time_floor_div(9, 10), 0);
}

static void sums_saturate_at_the_ends(void **state)
{
    (void)state;
    assert_int_equal(rml_time_add(INT64_MAX, 1), INT64_MAX);
    assert_int_equal(rml_time_add(INT64_MIN, -1), INT64_MIN);
    assert_int_equal(rml_time_sub(INT64_MIN, 1), INT64_MIN);
    assert_int_equal(rml_time_sub(INT64_MAX, -1), INT64_MAX);
}

TEST_MAIN(CLAIM(a_duration_is_exact_in_every_unit),
          CLAIM(a_duration_without_a_unit_or_beyond_its_range_is_refused),
          CLAIM(a_printed_duration_reads_back_the_same), CLAIM(times_read_as_integers_and_as_dates),
          CLAIM(a_time_that_is_none_is_refused),
          CLAIM(dates_agree_with_the_c_library_over_five_centuries),
          CLAIM(the_ends_of_time_print_and_read_back), CLAIM(division_floors_also_below_zero),
          CLAIM(sums_saturate_at_the_ends))
