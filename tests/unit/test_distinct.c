/* Distinct counts against sorted sets, and against how often each value was made. */
#include <errno.h>
#include <math.h>

#include "runtime/stats/distinct.h"
#include "tests/support/random.h"
#include "tests/support/test.h"

/* A region that grows as a caller's would. */
struct grown {
    uint32_t capacity;
    uint64_t words[RML_DISTINCT_BYTES_MAX / 8];
};

static struct rml_distinct *sketch_of(struct grown *g)
{
    return (void *)g->words;
}

static void start(struct grown *g)
{
    memset(g, 0xa5, sizeof *g);
    g->capacity = RML_DISTINCT_BYTES_MIN;
    rml_distinct_init(sketch_of(g), g->capacity);
}

static void grow(struct grown *g)
{
    static struct grown old;
    old = *g;
    assert_true(g->capacity < RML_DISTINCT_BYTES_MAX);
    g->capacity *= 2;
    rml_distinct_init(sketch_of(g), g->capacity);
    assert_int_equal(rml_distinct_merge(sketch_of(g), sketch_of(&old)), 0);
}

static void add(struct grown *g, uint64_t value)
{
    uint64_t hash = rml_distinct_hash(&value, sizeof value);
    int rc;
    while ((rc = rml_distinct_add(sketch_of(g), hash)) == -ENOSPC)
        grow(g);
    assert_int_equal(rc, 0);
}

static void merge(struct grown *g, struct grown *from)
{
    int rc;
    while ((rc = rml_distinct_merge(sketch_of(g), sketch_of(from))) == -ENOSPC)
        grow(g);
    assert_int_equal(rc, 0);
}

static int by_value(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return (a > b) - (a < b);
}

static uint64_t sorted_distinct(uint64_t *values, uint32_t count)
{
    uint64_t distinct = 0;
    qsort(values, count, sizeof values[0], by_value);
    for (uint32_t i = 0; i < count; i++)
        distinct += i == 0 || values[i] != values[i - 1];
    return distinct;
}

static void some_hundreds_are_counted_exactly(void **state)
{
    (void)state;
    uint64_t seed = rml_test_seed();
    static uint64_t values[5000];
    for (uint32_t c = 0; c < 200; c++) {
        static struct grown g;
        start(&g);
        uint64_t range = 1 + rml_test_random(&seed) % RML_DISTINCT_EXACT_MAX;
        uint32_t count = (uint32_t)(rml_test_random(&seed) % 5000);
        for (uint32_t i = 0; i < count; i++) {
            values[i] = rml_test_random(&seed) % range;
            add(&g, values[i]);
        }
        assert_int_equal(rml_distinct_count(sketch_of(&g)), sorted_distinct(values, count));
    }
    static struct grown g;
    start(&g);
    assert_int_equal(rml_distinct_count(sketch_of(&g)), 0);
    for (uint64_t i = 0; i < RML_DISTINCT_EXACT_MAX; i++)
        add(&g, i);
    assert_int_equal(rml_distinct_count(sketch_of(&g)), RML_DISTINCT_EXACT_MAX);
}

// The seeds are fixed: a standard error is a claim about many sketches, not about each.
static void the_standard_error_is_below_two_percent_at_any_size(void **state)
{
    (void)state;
    const uint32_t sizes[] = {400, 1000, 3000, 10000, 30000, 100000, 1000000};
    for (uint32_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        double squares = 0, sum = 0;
        const uint32_t trials = sizes[s] > 100000 ? (RML_TEST_SLOW ? 10 : 50) : 100;
        for (uint64_t trial = 0; trial < trials; trial++) {
            static struct grown g;
            start(&g);
            for (uint32_t i = 0; i < sizes[s]; i++)
                add(&g, trial << 40 | i);
            double off = (double)rml_distinct_count(sketch_of(&g)) / sizes[s] - 1;
            squares += off * off;
            sum += off;
        }
        double error = sqrt(squares / trials), bias = sum / trials;
        if (error > 0.02 || fabs(bias) > 0.0075)
            fail_msg("%u values: standard error %g, bias %g", sizes[s], error, bias);
    }
}

static void seeing_a_value_again_changes_nothing(void **state)
{
    (void)state;
    static struct grown g, before;
    for (uint32_t count = 10; count <= 100000; count *= 10) {
        start(&g);
        for (uint64_t i = 0; i < count; i++)
            add(&g, i * i);
        before = g;
        for (uint64_t i = count; i-- > 0;)
            add(&g, i * i);
        assert_memory_equal(&g, &before, sizeof g);
    }
}

static void any_order_of_adding_and_merging_gives_the_same_bytes(void **state)
{
    (void)state;
    uint64_t seed = rml_test_seed();
    static struct grown whole, parts[6], forward, backward, other;
    for (uint32_t c = 0; c < 200; c++) {
        start(&whole);
        start(&forward);
        start(&backward);
        uint64_t limit = UINT64_C(1) << rml_test_random(&seed) % 13;
        for (uint32_t p = 0; p < 6; p++) {
            start(&parts[p]);
            uint64_t count = rml_test_random(&seed) % limit;
            for (uint64_t i = 0; i < count; i++) {
                uint64_t value = rml_test_random(&seed) % (limit * 4);
                add(&whole, value);
                add(&parts[p], value);
            }
        }
        for (uint32_t p = 0; p < 6; p++) {
            merge(&forward, &parts[p]);
            start(&other);
            merge(&other, &parts[5 - p]);
            merge(&other, &backward);
            backward = other;
        }
        assert_int_equal(forward.capacity, whole.capacity);
        assert_memory_equal(forward.words, whole.words, whole.capacity);
        // a merge may have met a larger region than the values by themselves need
        while (whole.capacity < backward.capacity)
            grow(&whole);
        assert_memory_equal(backward.words, whole.words, whole.capacity);
    }
}

static void text_is_hashed_by_all_of_its_bytes(void **state)
{
    (void)state;
    static struct grown g;
    start(&g);
    for (uint32_t i = 0; i < 300; i++) {
        char name[16] = {0};
        snprintf(name, sizeof name, "%s-%u", i % 2 != 0 ? "odd" : "even", i / 3);
        uint64_t hash = rml_distinct_hash(name, sizeof name);
        while (rml_distinct_add(sketch_of(&g), hash) == -ENOSPC)
            grow(&g);
    }
    assert_int_equal(rml_distinct_count(sketch_of(&g)), 200);
}

TEST_MAIN(CLAIM(some_hundreds_are_counted_exactly),
          CLAIM(the_standard_error_is_below_two_percent_at_any_size),
          CLAIM(seeing_a_value_again_changes_nothing),
          CLAIM(any_order_of_adding_and_merging_gives_the_same_bytes),
          CLAIM(text_is_hashed_by_all_of_its_bytes))
