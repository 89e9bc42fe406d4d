#include <errno.h>
#include <string.h>

#include "runtime/plan/units.h"
#include "tests/support/random.h"
#include "tests/support/test.h"

static int64_t size_of(const char *text, int expected_rc)
{
    int64_t bytes = -7;
    assert_int_equal(rml_size_parse(text, strlen(text), &bytes), expected_rc);
    return bytes;
}

static int64_t integer_of(const char *text, int expected_rc)
{
    int64_t value = -7;
    assert_int_equal(rml_integer_parse(text, strlen(text), &value), expected_rc);
    return value;
}

static void a_size_carries_its_unit(void **state)
{
    (void)state;
    assert_int_equal(size_of("0B", 0), 0);
    assert_int_equal(size_of("7B", 0), 7);
    assert_int_equal(size_of("3kB", 0), 3000);
    assert_int_equal(size_of("3KiB", 0), 3072);
    assert_int_equal(size_of("2MB", 0), 2000000);
    assert_int_equal(size_of("2MiB", 0), 2097152);
    assert_int_equal(size_of("1TB", 0), INT64_C(1000000000000));
    assert_int_equal(size_of("8388607TiB", 0), INT64_C(8388607) << 40);
    static const char *const none[] = {"",    "1",   "B",   "1 ",    "1XB",    "1.5MB",
                                       "1KB", "1mb", "KiB", "1MiBs", "1 MiB x"};
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++)
        assert_int_equal(size_of(none[i], -EINVAL), -7);
    assert_int_equal(size_of("8388608TiB", -ERANGE), -7);
    assert_int_equal(size_of("99999999999999999999B", -ERANGE), -7);
}

static void an_integer_reads_to_the_ends_of_int64_and_no_further(void **state)
{
    (void)state;
    assert_int_equal(integer_of("9223372036854775807", 0), INT64_MAX);
    assert_int_equal(integer_of("-9223372036854775808", 0), INT64_MIN);
    assert_int_equal(integer_of("-0", 0), 0);
    assert_int_equal(integer_of("9223372036854775808", -ERANGE), -7);
    assert_int_equal(integer_of("-9223372036854775809", -ERANGE), -7);
    static const char *const none[] = {"", "-", "1x", "x", "1.0", " 1", "0x10", "1e3", "--1"};
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++)
        assert_int_equal(integer_of(none[i], -EINVAL), -7);
}

static void a_printed_size_reads_back_the_same(void **state)
{
    (void)state;
    uint64_t seed = rml_test_seed();
    for (uint32_t i = 0; i < 10000; i++) {
        uint64_t bytes = rml_test_random(&seed) >> (1 + rml_test_random(&seed) % 62);
        bytes &= ~UINT64_C(0) << rml_test_random(&seed) % 40;
        char text[32];
        rml_size_print(bytes, text);
        assert_int_equal(size_of(text, 0), bytes);
    }
}

static void a_size_for_people_has_about_two_figures(void **state)
{
    (void)state;
    char text[32];
    rml_size_print_about(0, text);
    assert_string_equal(text, "0 bytes");
    rml_size_print_about(2000000, text);
    assert_string_equal(text, "1.9 MiB");
}

static void the_greatest_common_divisor_divides_both(void **state)
{
    (void)state;
    uint64_t seed = rml_test_seed();
    assert_int_equal(rml_units_gcd(0, 0), 0);
    assert_int_equal(rml_units_gcd(0, -9), 9);
    assert_int_equal(rml_units_gcd(60, 5), 5);
    for (uint32_t i = 0; i < 10000; i++) {
        int64_t a = (int64_t)(rml_test_random(&seed) % 100000) - 50000;
        int64_t b = (int64_t)(rml_test_random(&seed) % 1000) + 1;
        int64_t gcd = rml_units_gcd(a, b);
        assert_true(gcd > 0 && a % gcd == 0 && b % gcd == 0);
        assert_int_equal(rml_units_gcd(a / gcd, b / gcd), 1);
    }
}

TEST_MAIN(CLAIM(a_size_carries_its_unit),
          CLAIM(an_integer_reads_to_the_ends_of_int64_and_no_further),
          CLAIM(a_printed_size_reads_back_the_same), CLAIM(a_size_for_people_has_about_two_figures),
          CLAIM(the_greatest_common_divisor_divides_both))
