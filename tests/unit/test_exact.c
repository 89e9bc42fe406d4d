/* Exact quantiles against a sorted array, with the values in pieces of any size. */
#include "runtime/stats/exact.h"
#include "tests/support/sample.h"
#include "tests/support/test.h"

#define VALUES 5000u

static double values[VALUES], sorted[VALUES];

struct cut {
    uint64_t seed, seed_first;
    uint32_t at, count;
};

static void rewind_cut(void *context)
{
    struct cut *cut = context;
    cut->at = 0;
    cut->seed = cut->seed_first;
}

static bool next_piece(void *context, const double **ret_values, uint32_t *ret_count)
{
    struct cut *cut = context;
    uint32_t left = cut->count - cut->at, size = (uint32_t)(rml_test_random(&cut->seed) % 700);
    *ret_values = values + cut->at;
    *ret_count = size < left ? size : left;
    cut->at += *ret_count;
    return left > 0;
}

static bool quantile(uint64_t seed, uint32_t count, double q, double *ret_value)
{
    struct cut cut = {.seed_first = seed, .count = count};
    const struct rml_exact_pieces pieces = {rewind_cut, next_piece, &cut, count};
    return rml_exact_quantile(&pieces, q, ret_value);
}

static int by_value(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static void any_values_give_what_sorting_them_gives(void **state)
{
    (void)state;
    uint64_t seed = rml_test_seed();
    for (uint32_t c = 0; c < 70; c++) {
        uint32_t count = 1 + (uint32_t)(rml_test_random(&seed) % (c < 35 ? 12 : VALUES));
        for (uint32_t i = 0; i < count; i++)
            values[i] = sorted[i] = sample((enum sample_shape)(c % SAMPLE_SHAPES), &seed);
        qsort(sorted, count, sizeof sorted[0], by_value);
        for (uint32_t i = 0; i <= 20; i++) {
            double q = i % 2 != 0 ? sample_unit(&seed) : i / 20.0, got = 0;
            long double at = (long double)(q * (count - 1));
            uint32_t below = (uint32_t)at;
            long double a = (long double)sorted[below];
            long double b = (long double)sorted[below + 1 < count ? below + 1 : below];
            double expected = (double)(a + (at - below) * (b - a));
            assert_true(quantile(seed, count, q, &got));
            double scale = fmax(fabs((double)a), fabs((double)b));
            if (at - below > 0 ? fabs(got - expected) > 1e-15 * scale : got != expected)
                fail_msg("q %g: got %.17g, expected %.17g", q, got, expected);
        }
    }
}

static void nothing_has_no_quantile_and_the_ends_may_be_infinite(void **state)
{
    (void)state;
    double got = 1;
    assert_false(quantile(1, 0, 0.5, &got));
    memcpy(values, (const double[]){(double)INFINITY, 3, -(double)INFINITY, -0.0, 0.0},
           5 * sizeof values[0]);
    assert_true(quantile(1, 5, 0, &got) && isinf(got) && got < 0);
    assert_true(quantile(1, 5, 0.1, &got) && isinf(got) && got < 0);
    assert_true(quantile(1, 5, 0.5, &got) && got == 0 && !signbit(got));
    assert_true(quantile(1, 5, 0.75, &got) && got == 3);
    assert_true(quantile(1, 5, 0.8, &got) && isinf(got) && got > 0);
    values[1] = -(double)INFINITY;
    assert_false(quantile(1, 2, 0.5, &got));
}

static void values_as_far_apart_as_doubles_go_have_a_middle(void **state)
{
    (void)state;
    double got = 1;
    values[0] = -1.5e308;
    values[1] = 1.5e308;
    assert_true(quantile(1, 2, 0.5, &got) && got == 0);
}

TEST_MAIN(CLAIM(any_values_give_what_sorting_them_gives),
          CLAIM(nothing_has_no_quantile_and_the_ends_may_be_infinite),
          CLAIM(values_as_far_apart_as_doubles_go_have_a_middle))
