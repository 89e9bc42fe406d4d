/* Quantile sketches against sorted arrays. */
#include <errno.h>

#include "runtime/stats/quantile.h"
#include "tests/support/sample.h"
#include "tests/support/test.h"

#define VALUES (RML_TEST_SLOW ? 100000u : 1000000u)
#define PARTS  16u

/* A region that grows as a caller's would. */
struct grown {
    uint32_t capacity;

    union {
        struct rml_quantile sketch;
        unsigned char bytes[RML_QUANTILE_BYTES_MAX];
    };
};

static void start(struct grown *g, uint32_t bits)
{
    memset(g, 0xa5, sizeof *g);  // what lies in fresh room must not matter
    g->capacity = RML_QUANTILE_BYTES_MIN;
    rml_quantile_init(&g->sketch, bits);
}

static void grow(struct grown *g)
{
    assert_true(g->capacity < rml_quantile_bytes_max(g->sketch.bits));
    g->capacity *= 2;
}

static void add(struct grown *g, double x)
{
    int rc;
    while ((rc = rml_quantile_add(&g->sketch, g->capacity, x)) == -ENOSPC)
        grow(g);
    assert_int_equal(rc, 0);
}

static void merge(struct grown *g, const struct grown *from)
{
    int rc;
    while ((rc = rml_quantile_merge(&g->sketch, g->capacity, &from->sketch)) == -ENOSPC)
        grow(g);
    assert_int_equal(rc, 0);
}

static void assert_same(const struct grown *a, const struct grown *b)
{
    uint32_t bytes = rml_quantile_bytes(&a->sketch);
    assert_int_equal(rml_quantile_bytes(&b->sketch), bytes);
    assert_memory_equal(a->bytes, b->bytes, bytes);
}

static int by_value(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

// Type 7 of the sorted values, and in *ret_scale the larger magnitude of the two that it lies between.
static double expected_at(const double *sorted, uint32_t count, double q, double *ret_scale)
{
    long double at = (long double)q * (count - 1);
    uint32_t below = (uint32_t)at, above = below + (below + 1 < count);
    double a = sorted[below], b = sorted[above];
    double low = fabs(a) < fabs(b) ? fabs(a) : fabs(b);
    *ret_scale = (a < 0) != (b < 0) ? fabs(a) + fabs(b) - low : 0;
    double value = (double)((long double)a + (at - below) * ((long double)b - (long double)a));
    *ret_scale = *ret_scale > fabs(value) ? *ret_scale : fabs(value);
    return value;
}

static void assert_quantiles(const struct rml_quantile *sketch, const double *sorted,
                             uint32_t count, double accuracy, const char *what)
{
    static const double qs[] = {0,     1e-6,   1e-5,    1e-4,     1e-3, 0.01, 0.05,
                                0.1,   0.25,   0.5,     0.75,     0.9,  0.95, 0.99,
                                0.999, 0.9999, 0.99999, 0.999999, 0.33, 0.66, 1};
    assert_int_equal(rml_quantile_count(sketch), count);
    for (uint32_t i = 0; i < sizeof qs / sizeof qs[0] + 1000; i++) {
        uint32_t listed = sizeof qs / sizeof qs[0];
        double q = i < listed ? qs[i] : (i - listed) / 1000.0, got, scale;
        double expected = expected_at(sorted, count, q, &scale);
        assert_true(rml_quantile_at(sketch, q, &got));
        if (fabs(got - expected) > accuracy * scale)
            fail_msg("%s: q %g: got %.17g, expected %.17g", what, q, got, expected);
    }
    double least, greatest;
    assert_true(rml_quantile_at(sketch, 0, &least) && rml_quantile_at(sketch, 1, &greatest));
    assert_true(least == sorted[0] && greatest == sorted[count - 1]);
}

static double values[1000000];

static void a_million_values_of_any_shape_are_told_within_one_percent(void **state)
{
    (void)state;
    uint64_t seed = rml_test_seed();
    uint32_t bits = rml_quantile_bits(0.01);
    for (enum sample_shape shape = 0; shape < SAMPLE_SHAPES; shape++) {
        static struct grown g;
        start(&g, bits);
        for (uint32_t i = 0; i < VALUES; i++) {
            values[i] = sample(shape, &seed);
            add(&g, values[i]);
        }
        qsort(values, VALUES, sizeof values[0], by_value);
        assert_quantiles(&g.sketch, values, VALUES, 0.00776, sample_name(shape));
        assert_true(rml_quantile_bytes(&g.sketch) <= 8192);
        assert_true(rml_quantile_floor(&g.sketch) == 0);
    }
}

static void every_accuracy_is_kept(void **state)
{
    (void)state;
    uint64_t seed = rml_test_seed();
    const double accuracies[] = {0.05, 0.02, 0.01, 0.005, 0.002, 0.001};
    const uint32_t bits[] = {4, 5, 6, 7, 8, 9};
    for (uint32_t a = 0; a < 6; a++) {
        assert_int_equal(rml_quantile_bits(accuracies[a]), bits[a]);
        static struct grown g;
        start(&g, bits[a]);
        for (uint32_t i = 0; i < VALUES / 10; i++) {
            values[i] = 20 + fabs(sample(SAMPLE_LOGNORMAL, &seed));
            add(&g, values[i]);
        }
        qsort(values, VALUES / 10, sizeof values[0], by_value);
        assert_quantiles(&g.sketch, values, VALUES / 10, accuracies[a], "accuracy");
        assert_true(rml_quantile_floor(&g.sketch) == 0);
    }
    assert_int_equal(rml_quantile_bits(0.0009), 0);
    assert_int_equal(rml_quantile_bits(0.051), 0);
    assert_int_equal(rml_quantile_bits((double)NAN), 0);
}

static void shuffle(uint32_t *order, uint32_t count, uint64_t *seed)
{
    for (uint32_t i = count; i > 1; i--) {
        uint32_t j = (uint32_t)(rml_test_random(seed) % i), other = order[j];
        order[j] = order[i - 1];
        order[i - 1] = other;
    }
}

// A double of any bits but NaN.
static double any_double(uint64_t *seed)
{
    double x;
    do {
        uint64_t bits = rml_test_random(seed);
        memcpy(&x, &bits, sizeof x);
    } while (x != x);
    return x;
}

static double draw_from(uint32_t kind, uint64_t *seed)
{
    if (kind < SAMPLE_SHAPES)
        return sample((enum sample_shape)kind, seed);
    uint64_t chance = rml_test_random(seed) % 16;
    if (chance == 0)
        return rml_test_random(seed) % 2 != 0 ? -0.0 : 0.0;
    if (chance == 1)
        return rml_test_random(seed) % 2 != 0 ? (double)INFINITY : -(double)INFINITY;
    return chance < 9 ? any_double(seed) : (double)(rml_test_random(seed) % 100) - 50;
}

static void any_order_of_adding_and_merging_gives_the_same_bytes(void **state)
{
    (void)state;
    uint64_t seed = rml_test_seed();
    static struct grown whole, parts[PARTS], merged, part;
    for (uint32_t c = 0; c < (RML_TEST_SLOW ? 60 : 400); c++) {
        uint32_t kind = c % (SAMPLE_SHAPES + 1), order[PARTS];
        uint32_t bits = 4 + (uint32_t)(rml_test_random(&seed) % 6);
        uint32_t limit = 1u << rml_test_random(&seed) % 15;
        start(&whole, bits);
        for (uint32_t p = 0; p < PARTS; p++) {
            start(&parts[p], bits);
            order[p] = p;
            uint32_t count = (uint32_t)(rml_test_random(&seed) % limit);
            for (uint32_t i = 0; i < count; i++) {
                double x = draw_from(kind, &seed);
                add(&whole, x);
                add(&parts[p], x);
            }
        }
        start(&merged, bits);
        merge(&merged, &whole);
        whole = merged;
        for (uint32_t round = 0; round < 3; round++) {
            shuffle(order, PARTS, &seed);
            // first in pairs, then all: another shape of tree each time
            start(&merged, bits);
            for (uint32_t p = 0; p < PARTS; p += 2) {
                start(&part, bits);
                merge(&part, &parts[order[p]]);
                merge(&part, &parts[order[p + 1]]);
                if (round == 1)
                    merge(&part, &merged);
                if (round == 1)
                    merged = part;
                else
                    merge(&merged, &part);
            }
            assert_same(&whole, &merged);
        }
    }
}

static void values_all_over_the_doubles_stay_in_bounds_and_the_large_ones_are_told(void **state)
{
    (void)state;
    uint64_t seed = rml_test_seed();
    for (uint32_t bits = 4; bits <= 9; bits++) {
        static struct grown g;
        start(&g, bits);
        uint32_t count = VALUES / 20;
        for (uint32_t i = 0; i < count; i++) {
            do
                values[i] = any_double(&seed);
            while (isinf(values[i]));
            add(&g, values[i]);
        }
        qsort(values, count, sizeof values[0], by_value);
        double floor = rml_quantile_floor(&g.sketch), got;
        assert_true(floor > 0 && rml_quantile_count(&g.sketch) == count);
        assert_true(rml_quantile_bytes(&g.sketch) <= rml_quantile_bytes_max(bits));
        // Rounding of q may move the rank by a hair, and between neighbours so far apart that shows.
        for (uint32_t i = 97; i < count - 1; i += 97) {
            assert_true(rml_quantile_at(&g.sketch, (double)i / (count - 1), &got));
            double off = ldexp(1, -(int)bits - 1);
            double low = values[i - 1] - off * fabs(values[i - 1]);
            double high = values[i + 1] + off * fabs(values[i + 1]);
            assert_true((got >= low && got <= high) || fabs(values[i]) < floor);
            if (fabs(values[i - 1]) < floor && fabs(values[i + 1]) < floor)
                assert_true(fabs(got) < floor);
        }
        assert_true(rml_quantile_at(&g.sketch, 0, &got) && got == values[0]);
        assert_true(rml_quantile_at(&g.sketch, 1, &got) && got == values[count - 1]);
    }
}

static void few_values_are_exact_and_none_has_no_quantile(void **state)
{
    (void)state;
    uint64_t seed = rml_test_seed();
    static struct grown g;
    double got, scale;
    start(&g, 6);
    assert_false(rml_quantile_at(&g.sketch, 0.5, &got));
    assert_int_equal(rml_quantile_count(&g.sketch), 0);
    for (uint32_t count = 1; count <= RML_QUANTILE_KEPT_MAX; count++) {
        start(&g, 6);
        for (uint32_t i = 0; i < count; i++) {
            values[i] = sample(SAMPLE_MIXED, &seed);
            add(&g, values[i]);
        }
        qsort(values, count, sizeof values[0], by_value);
        for (uint32_t i = 0; i <= 100; i++) {
            double expected = expected_at(values, count, i / 100.0, &scale);
            assert_true(rml_quantile_at(&g.sketch, i / 100.0, &got));
            assert_true(fabs(got - expected) <= 1e-12 * scale);
        }
    }
    start(&g, 6);
    add(&g, 123.456);
    assert_true(rml_quantile_bytes(&g.sketch) <= 64);
    assert_true(rml_quantile_at(&g.sketch, 0.99, &got) && got == 123.456);
}

static void one_value_many_times_is_that_value(void **state)
{
    (void)state;
    static struct grown g;
    double got;
    const double ones[] = {123.456, -1e-5, 0, 1e300, -3e-320};
    for (uint32_t v = 0; v < 5; v++) {
        start(&g, 6);
        for (uint32_t i = 0; i < 100000; i++)
            add(&g, ones[v]);
        for (uint32_t i = 0; i <= 10; i++)
            assert_true(rml_quantile_at(&g.sketch, i / 10.0, &got) && got == ones[v]);
    }
}

static void infinities_are_counted_apart_at_both_ends(void **state)
{
    (void)state;
    static struct grown g;
    double got;
    for (uint32_t count = 10; count <= 1000; count *= 10) {
        start(&g, 6);
        for (uint32_t i = 0; i < count; i++) {
            add(&g, 5);
            add(&g, (double)INFINITY);
            add(&g, -(double)INFINITY);
            add(&g, 5);
        }
        assert_true(rml_quantile_at(&g.sketch, 0, &got) && isinf(got) && got < 0);
        assert_true(rml_quantile_at(&g.sketch, 0.2, &got) && isinf(got) && got < 0);
        assert_true(rml_quantile_at(&g.sketch, 0.5, &got) && got == 5);
        assert_true(rml_quantile_at(&g.sketch, 0.9, &got) && isinf(got) && got > 0);
        assert_int_equal(rml_quantile_count(&g.sketch), 4 * count);
    }
    start(&g, 6);
    add(&g, (double)INFINITY);
    add(&g, -(double)INFINITY);
    assert_false(rml_quantile_at(&g.sketch, 0.5, &got));
}

// Counts so large that all four layers of a block are there: by merging a sketch with itself.
static void counts_beyond_32_bits_are_exact(void **state)
{
    (void)state;
    static struct grown g, twin, other;
    start(&g, 6);
    for (uint32_t i = 0; i < 1000; i++)
        add(&g, 1 + i % 3);
    uint64_t count = 1000;
    for (uint32_t i = 0; i < 40; i++, count *= 2) {
        twin = g;
        merge(&g, &twin);
    }
    assert_int_equal(rml_quantile_count(&g.sketch), count);
    start(&other, 6);
    for (uint32_t i = 0; i < 700; i++)
        add(&other, 2.5);
    merge(&g, &other);
    assert_int_equal(rml_quantile_count(&g.sketch), count + 700);
    double got;
    assert_true(rml_quantile_at(&g.sketch, 0.3, &got) && fabs(got - 1) <= 0.0078);
    assert_true(rml_quantile_at(&g.sketch, 0.34, &got) && fabs(got - 2) <= 0.0156);
    assert_true(rml_quantile_at(&g.sketch, 0.7, &got) && fabs(got - 3) <= 0.0234);
}

static void what_does_not_fit_changes_nothing(void **state)
{
    (void)state;
    uint64_t seed = rml_test_seed();
    static struct grown g, before, more;
    start(&g, 6);
    start(&more, 6);
    for (uint32_t i = 0; i < 40; i++)
        add(&more, sample(SAMPLE_MIXED, &seed));
    for (uint32_t i = 0; i < 100000; i++) {
        double x = sample(SAMPLE_MIXED, &seed);
        before = g;
        if (rml_quantile_add(&g.sketch, g.capacity, x) == -ENOSPC) {
            assert_memory_equal(&g, &before, sizeof g);
            if (rml_quantile_merge(&g.sketch, g.capacity, &more.sketch) == -ENOSPC)
                assert_memory_equal(&g, &before, sizeof g);
            add(&g, x);
        }
    }
}

TEST_MAIN(CLAIM(a_million_values_of_any_shape_are_told_within_one_percent),
          CLAIM(every_accuracy_is_kept),
          CLAIM(any_order_of_adding_and_merging_gives_the_same_bytes),
          CLAIM(values_all_over_the_doubles_stay_in_bounds_and_the_large_ones_are_told),
          CLAIM(few_values_are_exact_and_none_has_no_quantile),
          CLAIM(one_value_many_times_is_that_value),
          CLAIM(infinities_are_counted_apart_at_both_ends), CLAIM(counts_beyond_32_bits_are_exact),
          CLAIM(what_does_not_fit_changes_nothing))
