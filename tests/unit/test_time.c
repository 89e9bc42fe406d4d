#include <errno.h>
#include <string.h>
#include <time.h>

#include "runtime/time/clock.h"
#include "runtime/time/time.h"
#include "tests/support/test.h"

#define S INT64_C(1000000000)

static int64_t duration(const char *text)
{
    int64_t ns = -77;
    int rc = rml_duration_parse(text, strlen(text), &ns);
    if (rc < 0)
        assert_int_equal(ns, -77);  // a failed parse leaves its result alone
    return rc < 0 ? rc : ns;
}

static int64_t moment(const char *text)
{
    int64_t ns = -77;
    int rc = rml_time_parse(text, strlen(text), &ns);
    if (rc < 0)
        assert_int_equal(ns, -77);
    return rc < 0 ? rc : ns;
}

static void a_duration_is_a_number_and_a_unit(void **state)
{
    (void)state;
    assert_int_equal(duration("0"), 0);
    assert_int_equal(duration("10ns"), 10);
    assert_int_equal(duration("30us"), 30000);
    assert_int_equal(duration("30\u00b5s"), 30000);
    assert_int_equal(duration("30\u03bcs"), 30000);
    assert_int_equal(duration("200ms"), 200000000);
    assert_int_equal(duration("1.5s"), 3 * S / 2);
    assert_int_equal(duration("2m"), 120 * S);
    assert_int_equal(duration("0.25h"), 900 * S);
    assert_int_equal(duration("7d"), 7 * 86400 * S);
    assert_int_equal(duration("-5ms"), -5000000);
}

static void a_duration_without_a_unit_is_refused(void **state)
{
    (void)state;
    assert_int_equal(duration("60"), -EINVAL);
    assert_int_equal(duration(""), -EINVAL);
    assert_int_equal(duration("-"), -EINVAL);
    assert_int_equal(duration("s"), -EINVAL);
    assert_int_equal(duration("5 s"), -EINVAL);
    assert_int_equal(duration("5S"), -EINVAL);
    assert_int_equal(duration(".5s"), -EINVAL);
    assert_int_equal(duration("1.s"), -EINVAL);
    assert_int_equal(duration("+5s"), -EINVAL);
    assert_int_equal(duration("1s "), -EINVAL);
}

static void a_duration_is_a_whole_number_of_nanoseconds(void **state)
{
    (void)state;
    assert_int_equal(duration("1.5ns"), -EINVAL);
    assert_int_equal(duration("1.0000000001s"), -EINVAL);
    assert_int_equal(duration("1.000000000000000000000000s"), S);
    assert_int_equal(duration("0.00000000025h"), 900);
    assert_int_equal(duration("0.0000000000025h"), 9);
}

static void a_duration_beyond_int64_is_out_of_range(void **state)
{
    (void)state;
    assert_int_equal(duration("9223372036854775807ns"), INT64_MAX);
    assert_int_equal(duration("9223372036854775808ns"), -ERANGE);
    int64_t least = 0;
    assert_int_equal(rml_duration_parse("-9223372036854775808ns", 22, &least), 0);
    assert_int_equal(least, INT64_MIN);
    assert_int_equal(duration("106752d"), -ERANGE);
    assert_int_equal(duration("99999999999999999999999999999999999999999999999999d"), -ERANGE);
}

static void a_duration_prints_in_the_largest_unit_that_divides(void **state)
{
    (void)state;
    char text[32];
    rml_duration_print(3 * S / 2, text);
    assert_string_equal(text, "1500ms");
    rml_duration_print(86400 * S, text);
    assert_string_equal(text, "1d");
    rml_duration_print(-90 * S, text);
    assert_string_equal(text, "-90s");
    rml_duration_print(0, text);
    assert_string_equal(text, "0s");
    rml_duration_print(INT64_MIN, text);
    assert_string_equal(text, "-9223372036854775808ns");
}

static void a_time_is_an_integer_or_a_date(void **state)
{
    (void)state;
    assert_int_equal(moment("0"), 0);
    assert_int_equal(moment("1700158623979960000"), 1700158623979960000);
    assert_int_equal(moment("-9223372036854775808"), INT64_MIN);
    assert_int_equal(moment("9223372036854775808"), -ERANGE);
    assert_int_equal(moment("2023-11-16T18:17:03.979960Z"), 1700158623979960000);
    assert_int_equal(moment("2023-11-16 18:17:03.9799600"), 1700158623979960000);
    assert_int_equal(moment("2023-11-16T20:17:03.97996+02:00"), 1700158623979960000);
    assert_int_equal(moment("2023-11-16t12:47:03.97996-05:30"), 1700158623979960000);
    assert_int_equal(moment("1970-01-01 00:00:00"), 0);
    assert_int_equal(moment("1969-12-31T23:59:59.999999999Z"), -1);
    assert_int_equal(moment("2000-02-29 00:00:00"), 951782400 * S);
    assert_int_equal(moment("2016-12-31T23:59:60Z"), 1483228800 * S);
}

static void what_is_neither_is_refused(void **state)
{
    (void)state;
    static const char *const wrong[] = {
        "",
        "-",
        "now",
        "12x",
        "1.5",
        "2023-11-16",
        "2023-11-16T",
        "2023-11-16T18:17",
        "2023-13-16 18:17:03",
        "2023-00-16 18:17:03",
        "2023-02-29 18:17:03",
        "1900-02-29 00:00:00",
        "2023-04-31 00:00:00",
        "2023-11-16 24:00:00",
        "2023-11-16 18:60:03",
        "2023-11-16 18:17:61",
        "2023-11-16 18:17:03.",
        "2023-11-16 18:17:03.0000000001",
        "2023-11-16 18:17:03+2:00",
        "2023-11-16 18:17:03+24:00",
        "2023-11-16 18:17:03 Z",
        "-2023-11-16 18:17:03",
        "23-11-16 18:17:03",
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_int_equal(moment(wrong[i]), -EINVAL);
}

static void a_date_beyond_int64_is_out_of_range(void **state)
{
    (void)state;
    assert_int_equal(moment("2262-04-11T23:47:16.854775807Z"), INT64_MAX);
    assert_int_equal(moment("2262-04-11T23:47:16.854775808Z"), -ERANGE);
    assert_int_equal(moment("1677-09-21T00:12:43.145224192Z"), INT64_MIN);
    assert_int_equal(moment("1677-09-21T00:12:43.145224191Z"), -ERANGE);
    assert_int_equal(moment("0000-01-01T00:00:00Z"), -ERANGE);
    assert_int_equal(moment("9999-12-31T23:59:59Z"), -ERANGE);
}

static void a_time_prints_with_as_many_decimals_as_it_has_by_threes(void **state)
{
    (void)state;
    char text[40];
    rml_time_print_rfc3339(1700158623979960000, text);
    assert_string_equal(text, "2023-11-16T18:17:03.979960Z");
    rml_time_print_rfc3339(0, text);
    assert_string_equal(text, "1970-01-01T00:00:00Z");
    rml_time_print_rfc3339(-1, text);
    assert_string_equal(text, "1969-12-31T23:59:59.999999999Z");
    rml_time_print_rfc3339(500000000, text);
    assert_string_equal(text, "1970-01-01T00:00:00.500Z");
    rml_time_print_rfc3339(INT64_MIN, text);
    assert_string_equal(text, "1677-09-21T00:12:43.145224192Z");
    rml_time_print_rfc3339(INT64_MAX, text);
    assert_string_equal(text, "2262-04-11T23:47:16.854775807Z");
}

static void every_printed_time_reads_back_the_same(void **state)
{
    (void)state;
    uint64_t random = 88172645463325252u;
    for (int i = 0; i < 20000; i++) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        int64_t ns = (int64_t)random >> (i % 50);
        char text[40];
        rml_time_print_rfc3339(ns, text);
        int64_t back = 0;
        assert_int_equal(rml_time_parse(text, strlen(text), &back), 0);
        assert_int_equal(back, ns);
        char short_text[32];
        rml_duration_print(ns, short_text);
        assert_int_equal(rml_duration_parse(short_text, strlen(short_text), &back), 0);
        assert_int_equal(back, ns);
    }
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
        assert_int_equal(moment(text), seconds * 1000000000);
    }
}

static void sums_and_differences_stop_at_the_ends(void **state)
{
    (void)state;
    assert_int_equal(rml_time_add(INT64_MAX, 1), INT64_MAX);
    assert_int_equal(rml_time_add(INT64_MIN, -1), INT64_MIN);
    assert_int_equal(rml_time_sub(INT64_MIN, 1), INT64_MIN);
    assert_int_equal(rml_time_sub(INT64_MAX, -1), INT64_MAX);
    assert_int_equal(rml_time_sub(0, INT64_MIN), INT64_MAX);
    assert_int_equal(rml_time_floor_div(-1, 10), -1);
    assert_int_equal(rml_time_floor_div(-10, 10), -1);
    assert_int_equal(rml_time_floor_div(9, 10), 0);
}

static void the_monotonic_clock_never_goes_back(void **state)
{
    (void)state;
    const struct rml_clock *clock = &rml_clock_system;
    int64_t before = clock->monotonic_ns(clock->context);
    for (int i = 0; i < 1000; i++) {
        int64_t now = clock->monotonic_ns(clock->context);
        assert_true(now >= before);
        before = now;
    }
    // the wall clock of a machine that runs this stands after 2020
    assert_true(clock->wall_ns(clock->context) > moment("2020-01-01 00:00:00"));
}

TEST_MAIN(CLAIM(a_duration_is_a_number_and_a_unit), CLAIM(a_duration_without_a_unit_is_refused),
          CLAIM(a_duration_is_a_whole_number_of_nanoseconds),
          CLAIM(a_duration_beyond_int64_is_out_of_range),
          CLAIM(a_duration_prints_in_the_largest_unit_that_divides),
          CLAIM(a_time_is_an_integer_or_a_date), CLAIM(what_is_neither_is_refused),
          CLAIM(a_date_beyond_int64_is_out_of_range),
          CLAIM(a_time_prints_with_as_many_decimals_as_it_has_by_threes),
          CLAIM(every_printed_time_reads_back_the_same),
          CLAIM(dates_agree_with_the_c_library_over_five_centuries),
          CLAIM(sums_and_differences_stop_at_the_ends), CLAIM(the_monotonic_clock_never_goes_back))
