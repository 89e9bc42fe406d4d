/* The most frequent values against an array that counts every value. */
#include <errno.h>

#include "runtime/stats/top.h"
#include "tests/support/sample.h"
#include "tests/support/test.h"

#define RANGE     5000u
#define PARTS     8u
#define BYTES_MAX 32768u

/* A region that grows as a caller's would. */
struct grown {
    uint32_t capacity;
    uint64_t words[BYTES_MAX / 8];
};

/* A value of the stream as it lies in a record: its number, in as many bytes as asked. */
struct value {
    unsigned char bytes[RML_TOP_KEY_MAX];
};

static uint64_t true_counts[RANGE];

static struct rml_top *sketch_of(struct grown *g)
{
    return (void *)g->words;
}

static void start(struct grown *g, uint32_t counters, uint32_t key_bytes)
{
    memset(g, 0xa5, sizeof *g);
    g->capacity = RML_TOP_BYTES_MIN;
    rml_top_init(sketch_of(g), g->capacity, counters, key_bytes);
}

static void grow(struct grown *g)
{
    static struct grown old;
    old = *g;
    assert_true(g->capacity < rml_top_bytes_max(sketch_of(g)->counters, sketch_of(g)->key_bytes));
    g->capacity *= 2;
    memset(g->words, 0xa5, sizeof g->words);
    rml_top_copy(sketch_of(g), g->capacity, sketch_of(&old));
}

static struct value value_of(uint32_t number)
{
    struct value value = {{0}};
    memcpy(value.bytes, &number, 2);
    return value;
}

static void add(struct grown *g, uint32_t number)
{
    struct value value = value_of(number);
    int rc;
    while ((rc = rml_top_add(sketch_of(g), value.bytes)) == -ENOSPC)
        grow(g);
    assert_int_equal(rc, 0);
}

static void merge(struct grown *g, struct grown *from)
{
    int rc;
    while ((rc = rml_top_merge(sketch_of(g), sketch_of(from))) == -ENOSPC)
        grow(g);
    assert_int_equal(rc, 0);
}

// Few values come often: numbers by a power law, from 0.
static uint32_t draw(uint64_t *seed, uint32_t range)
{
    double number = pow(sample_unit(seed), -0.9) - 1;
    return number < range ? (uint32_t)number : (uint32_t)(rml_test_random(seed) % range);
}

static void assert_promises(struct grown *g, uint64_t total)
{
    const struct rml_top *sketch = sketch_of(g);
    const struct rml_top_entry *entries[RML_TOP_COUNTERS_MAX];
    static bool has_counter[RANGE];
    memset(has_counter, 0, sizeof has_counter);
    uint32_t count = rml_top_list(sketch, RML_TOP_COUNTERS_MAX, entries);
    uint64_t off_max = total / sketch->counters;
    assert_int_equal(sketch->total, total);
    for (uint32_t i = 0; i < count; i++) {
        uint16_t number;
        memcpy(&number, entries[i]->key, sizeof number);
        assert_true(number < RANGE && !has_counter[number]);
        has_counter[number] = true;
        assert_true(entries[i]->count >= true_counts[number]);
        assert_true(entries[i]->count - entries[i]->error <= true_counts[number]);
        assert_true(entries[i]->error <= off_max);
        assert_true(i == 0 || entries[i]->count <= entries[i - 1]->count);
    }
    for (uint32_t number = 0; number < RANGE; number++)
        assert_true(has_counter[number] || true_counts[number] <= off_max);
}

static void every_count_is_off_by_no_more_than_is_said(void **state)
{
    (void)state;
    uint64_t seed = rml_test_seed();
    static struct grown g;
    for (uint32_t c = 0; c < 60; c++) {
        uint32_t counters = 1 + (uint32_t)(rml_test_random(&seed) % RML_TOP_COUNTERS_MAX);
        uint32_t range = 2 + (uint32_t)(rml_test_random(&seed) % (RANGE - 2));
        uint32_t total = (uint32_t)(rml_test_random(&seed) % 20000);
        start(&g, counters, 2 + (uint32_t)(rml_test_random(&seed) % 63));
        memset(true_counts, 0, sizeof true_counts);
        for (uint32_t i = 0; i < total; i++) {
            uint32_t number = draw(&seed, range);
            true_counts[number]++;
            add(&g, number);
        }
        assert_promises(&g, total);
    }
}

static void merging_keeps_the_promises_in_any_order(void **state)
{
    (void)state;
    uint64_t seed = rml_test_seed();
    static struct grown parts[PARTS];
    for (uint32_t c = 0; c < 60; c++) {
        uint32_t counters = 1 + (uint32_t)(rml_test_random(&seed) % 100);
        uint32_t total = 0, left = PARTS;
        memset(true_counts, 0, sizeof true_counts);
        for (uint32_t p = 0; p < PARTS; p++) {
            start(&parts[p], counters, 8);
            uint32_t count = (uint32_t)(rml_test_random(&seed) % 3000);
            uint32_t range = 2 + (uint32_t)(rml_test_random(&seed) % (RANGE - 2));
            for (uint32_t i = 0; i < count; i++) {
                uint32_t number = draw(&seed, range);
                true_counts[number]++;
                add(&parts[p], number);
            }
            total += count;
        }
        while (left > 1) {  // any two, until one is left
            uint32_t into = (uint32_t)(rml_test_random(&seed) % left);
            uint32_t from = (into + 1 + (uint32_t)(rml_test_random(&seed) % (left - 1))) % left;
            merge(&parts[into], &parts[from]);
            parts[from] = parts[--left];
        }
        assert_promises(&parts[0], total);
    }
}

static void as_few_values_as_counters_are_counted_exactly(void **state)
{
    (void)state;
    uint64_t seed = rml_test_seed();
    static struct grown a, b;
    const struct rml_top_entry *entries[RML_TOP_COUNTERS_MAX];
    start(&a, 64, 16);
    start(&b, 64, 16);
    memset(true_counts, 0, sizeof true_counts);
    for (uint32_t i = 0; i < 10000; i++) {
        uint32_t number = draw(&seed, 64);
        true_counts[number]++;
        add(i % 2 != 0 ? &a : &b, number);
    }
    merge(&a, &b);
    uint32_t count = rml_top_list(sketch_of(&a), RML_TOP_COUNTERS_MAX, entries);
    for (uint32_t i = 0; i < count; i++) {
        uint16_t number;
        memcpy(&number, entries[i]->key, sizeof number);
        assert_int_equal(entries[i]->count, true_counts[number]);
        assert_int_equal(entries[i]->error, 0);
    }
}

static void the_list_has_the_largest_first_and_ties_by_bytes(void **state)
{
    (void)state;
    static struct grown g;
    const struct rml_top_entry *entries[3];
    start(&g, 16, 2);
    assert_int_equal(rml_top_list(sketch_of(&g), 3, entries), 0);
    const uint32_t stream[] = {5, 9, 7, 9, 7, 3, 8, 8, 8};
    for (uint32_t i = 0; i < 9; i++)
        add(&g, stream[i]);
    assert_int_equal(rml_top_list(sketch_of(&g), 3, entries), 3);
    assert_int_equal(entries[0]->key[0], 8);
    assert_int_equal(entries[1]->key[0], 7);
    assert_int_equal(entries[2]->key[0], 9);
    assert_int_equal(entries[0]->count, 3);
    assert_int_equal(entries[2]->count, 2);
}

static void the_same_order_gives_the_same_bytes(void **state)
{
    (void)state;
    static struct grown a, b;
    uint64_t seed = rml_test_seed();
    start(&a, 50, 8);
    start(&b, 50, 8);
    while (b.capacity < rml_top_bytes_max(50, 8))
        grow(&b);
    for (uint32_t i = 0; i < 20000; i++) {
        uint32_t number = draw(&seed, RANGE);
        add(&a, number);
        add(&b, number);
    }
    assert_memory_equal(a.words, b.words, rml_top_bytes_max(50, 8));
}

TEST_MAIN(CLAIM(every_count_is_off_by_no_more_than_is_said),
          CLAIM(merging_keeps_the_promises_in_any_order),
          CLAIM(as_few_values_as_counters_are_counted_exactly),
          CLAIM(the_list_has_the_largest_first_and_ties_by_bytes),
          CLAIM(the_same_order_gives_the_same_bytes))
