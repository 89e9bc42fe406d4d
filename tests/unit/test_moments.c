/* Mean and variance against plain loops over all values in long double. */
#include <math.h>

#include "runtime/stats/moments.h"
#include "tests/support/sample.h"
#include "tests/support/test.h"

#define VALUES 20000u

static void add_all(struct rml_moments *m, const double *values, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        rml_moments_add(m, values[i]);
}

static double squares_of(const double *values, uint32_t count)
{
    long double sum = 0, squares = 0;
    for (uint32_t i = 0; i < count; i++)
        sum += (long double)values[i];
    long double mean = sum / count;
    for (uint32_t i = 0; i < count; i++) {
        long double apart = (long double)values[i] - mean;
        squares += apart * apart;
    }
    return (double)squares;
}

static void assert_close(double got, double expected, double relative)
{
    if (fabs(got - expected) > relative * fabs(expected))
        fail_msg("got %.17g, expected %.17g", got, expected);
}

static void four_values_far_from_zero_are_exact_however_they_are_cut(void **state)
{
    (void)state;
    const double values[] = {1e9 + 4, 1e9 + 7, 1e9 + 13, 1e9 + 16};
    for (uint32_t cut = 0; cut <= 4; cut++) {
        struct rml_moments a = {0}, b = {0};
        add_all(&a, values, cut);
        add_all(&b, values + cut, 4 - cut);
        rml_moments_merge(&a, &b);
        double pop, samp, deviation;
        assert_true(rml_moments_var_pop(&a, &pop) && rml_moments_var_samp(&a, &samp));
        assert_true(pop == 22.5 && samp == 30 && a.mean == 1e9 + 10 && a.mean_rest == 0);
        assert_true(rml_moments_stddev_pop(&a, &deviation) && deviation == sqrt(22.5));
        assert_true(rml_moments_stddev_samp(&a, &deviation) && deviation == sqrt(30));
    }
}

static void an_offset_of_a_million_millions_leaves_six_digits(void **state)
{
    (void)state;
    uint64_t seed = rml_test_seed();
    static double values[VALUES * 10];
    // An outlier first: nothing may hang on what the first value was.
    for (uint32_t first = 0; first < 2; first++) {
        for (uint32_t i = 0; i < VALUES * 10; i++)
            values[i] = 1e12 + sample_normal(&seed);
        if (first == 1)
            values[0] = 1e12 - 500;
        struct rml_moments m = {0}, merged = {0};
        add_all(&m, values, VALUES * 10);
        for (uint32_t i = 0; i < 10; i++) {
            struct rml_moments part = {0};
            add_all(&part, values + (size_t)i * VALUES, VALUES);
            rml_moments_merge(&merged, &part);
        }
        double expected = squares_of(values, VALUES * 10);
        assert_close(m.squares, expected, 1e-9);
        assert_close(merged.squares, expected, 1e-9);
    }
}

static void any_shape_and_any_cut_agree_with_two_passes_over_the_values(void **state)
{
    (void)state;
    uint64_t seed = rml_test_seed();
    static double values[VALUES];
    for (enum sample_shape shape = 0; shape < SAMPLE_SHAPES; shape++) {
        for (uint32_t i = 0; i < VALUES; i++)
            values[i] = sample(shape, &seed);
        double expected = squares_of(values, VALUES);
        struct rml_moments merged = {0};
        for (uint32_t at = 0; at < VALUES;) {
            uint32_t count = (uint32_t)(rml_test_random(&seed) % 3000);
            count = count < VALUES - at ? count : VALUES - at;
            struct rml_moments part = {0};
            add_all(&part, values + at, count);
            rml_moments_merge(&merged, &part);
            at += count;
        }
        assert_int_equal(merged.count, VALUES);
        assert_close(merged.squares, expected, 1e-11);
    }
}

static void too_few_values_and_infinities_have_no_variance(void **state)
{
    (void)state;
    struct rml_moments m = {0};
    double out = 7;
    assert_false(rml_moments_var_pop(&m, &out) || rml_moments_var_samp(&m, &out));
    rml_moments_add(&m, 3);
    assert_false(rml_moments_var_samp(&m, &out) || rml_moments_stddev_samp(&m, &out));
    assert_true(out == 7);
    assert_true(rml_moments_var_pop(&m, &out) && out == 0);
    rml_moments_add(&m, (double)INFINITY);
    rml_moments_add(&m, 4);
    assert_false(rml_moments_var_pop(&m, &out) || rml_moments_stddev_samp(&m, &out));
}

static void merging_with_nothing_changes_nothing(void **state)
{
    (void)state;
    struct rml_moments none = {0}, m = {0};
    add_all(&m, (const double[]){1, 2, 4}, 3);
    struct rml_moments before = m, copy = {0};
    rml_moments_merge(&m, &none);
    assert_memory_equal(&m, &before, sizeof m);
    rml_moments_merge(&copy, &before);
    assert_memory_equal(&copy, &before, sizeof m);
}

TEST_MAIN(CLAIM(four_values_far_from_zero_are_exact_however_they_are_cut),
          CLAIM(an_offset_of_a_million_millions_leaves_six_digits),
          CLAIM(any_shape_and_any_cut_agree_with_two_passes_over_the_values),
          CLAIM(too_few_values_and_infinities_have_no_variance),
          CLAIM(merging_with_nothing_changes_nothing))
