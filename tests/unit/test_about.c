#include "tests/support/test.h"
#include "tools/about.h"

static const char *duration(int64_t ns)
{
    static char text[32];
    rml_about_duration(ns, text);
    return text;
}

static const char *rate(double per_second)
{
    static char text[32];
    rml_about_rate(per_second, text);
    return text;
}

static void a_duration_has_two_units_at_most(void **state)
{
    (void)state;
    const int64_t s = 1000000000;
    assert_string_equal(duration(s), "1.00s");
    assert_string_equal(duration(9 * s + s / 4), "9.25s");
    assert_string_equal(duration(12 * s + s / 2), "12.5s");
    assert_string_equal(duration(185 * s), "3m 5s");
    assert_string_equal(duration(2 * 3600 * s + 7 * 60 * s), "2h 7m");
    assert_string_equal(duration((5 * 24 + 3) * 3600 * s), "5d 3h");
}

static void a_short_duration_has_two_digits_in_the_unit_that_fits(void **state)
{
    (void)state;
    assert_string_equal(duration(0), "0s");
    assert_string_equal(duration(1), "1ns");
    assert_string_equal(duration(999), "999ns");
    assert_string_equal(duration(1000), "1.0us");
    assert_string_equal(duration(9999), "9.9us");
    assert_string_equal(duration(10000), "10us");
    assert_string_equal(duration(999999), "999us");
    assert_string_equal(duration(1000000), "1.0ms");
    assert_string_equal(duration(2450000), "2.4ms");
    assert_string_equal(duration(250000000), "250ms");
    assert_string_equal(duration(999999999), "999ms");
    assert_string_equal(duration(-340000), "-340us");
}

static void a_negative_duration_keeps_its_sign_even_the_least(void **state)
{
    (void)state;
    assert_string_equal(duration(-2500000000), "-2.50s");
    assert_string_equal(duration(INT64_MIN), "-106751d 23h");
}

static void a_small_rate_is_not_rounded_away(void **state)
{
    (void)state;
    assert_string_equal(rate(0), "0");
    assert_string_equal(rate(0.25), "0.2");
    assert_string_equal(rate(9.5), "9.5");
    assert_string_equal(rate(1234567.8), "1234568");
}

TEST_MAIN(CLAIM(a_duration_has_two_units_at_most),
          CLAIM(a_short_duration_has_two_digits_in_the_unit_that_fits),
          CLAIM(a_negative_duration_keeps_its_sign_even_the_least),
          CLAIM(a_small_rate_is_not_rounded_away))
