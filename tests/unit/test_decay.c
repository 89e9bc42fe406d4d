/* What depends on time: means that fade against a loop over all values in long double, and ends. */
#include "runtime/stats/decay.h"
#include "runtime/stats/ends.h"
#include "runtime/stats/histogram.h"
#include "tests/support/sample.h"
#include "tests/support/test.h"

#define VALUES 2000u

static struct {
    int64_t time;
    double x;
} values[VALUES];

static void draw_values(uint64_t *seed)
{
    int64_t base = (int64_t)(rml_test_random(seed) % 1000000) - 500000;
    uint64_t spread = 1 + rml_test_random(seed) % 100000;
    for (uint32_t i = 0; i < VALUES; i++) {
        values[i].time = base + (int64_t)(rml_test_random(seed) % spread);
        values[i].x = 100 + sample(SAMPLE_MIXED, seed);
    }
}

static double expected_mean(uint32_t count, int64_t span)
{
    int64_t latest = values[0].time;
    long double weights = 0, sum = 0;
    for (uint32_t i = 0; i < count; i++)
        latest = values[i].time > latest ? values[i].time : latest;
    for (uint32_t i = 0; i < count; i++) {
        long double weight = expl(-(long double)(latest - values[i].time) / span);
        weights += weight;
        sum += weight * (long double)values[i].x;
    }
    return (double)(sum / weights);
}

static void a_fading_mean_depends_on_times_and_not_on_order_or_panes(void **state)
{
    (void)state;
    uint64_t seed = rml_test_seed();
    for (uint32_t c = 0; c < 50; c++) {
        draw_values(&seed);
        int64_t span = 1 + (int64_t)(rml_test_random(&seed) % 50000);
        double expected = expected_mean(VALUES, span), forward, backward, merged;
        struct rml_decay all = {0}, reverse = {0}, panes[10] = {{0}}, whole = {0};
        for (uint32_t i = 0; i < VALUES; i++) {
            rml_decay_add(&all, span, values[i].time, values[i].x);
            rml_decay_add(&reverse, span, values[VALUES - 1 - i].time, values[VALUES - 1 - i].x);
            rml_decay_add(&panes[(uint64_t)values[i].time % 10], span, values[i].time, values[i].x);
        }
        for (uint32_t p = 10; p-- > 0;)
            rml_decay_merge(&whole, span, &panes[p]);
        assert_true(rml_decay_mean(&all, &forward) && rml_decay_mean(&reverse, &backward)
                    && rml_decay_mean(&whole, &merged));
        double near = 1e-11 * fabs(expected);
        assert_true(fabs(forward - expected) <= near && fabs(backward - expected) <= near
                    && fabs(merged - expected) <= near);
    }
}

static void times_as_far_apart_as_times_go_leave_the_latest_value(void **state)
{
    (void)state;
    struct rml_decay decay = {0}, none = {0};
    double mean = 1;
    assert_false(rml_decay_mean(&decay, &mean));
    rml_decay_add(&decay, 1, INT64_MIN, 3);
    assert_true(rml_decay_mean(&decay, &mean) && mean == 3);
    rml_decay_add(&decay, 1, INT64_MAX, 5);
    rml_decay_add(&decay, 1, INT64_MIN, 7);
    rml_decay_merge(&decay, 1, &none);
    rml_decay_merge(&none, 1, &decay);
    assert_true(rml_decay_mean(&none, &mean) && mean == 5);
    rml_decay_add(&decay, 1, INT64_MAX, (double)INFINITY);
    assert_true(rml_decay_mean(&decay, &mean) && isinf(mean));
    rml_decay_add(&decay, 1, INT64_MAX, -(double)INFINITY);
    assert_false(rml_decay_mean(&decay, &mean));
}

static void ends_go_by_time_and_ties_by_arrival(void **state)
{
    (void)state;
    uint64_t seed = rml_test_seed();
    for (uint32_t c = 0; c < 200; c++) {
        uint64_t first[3] = {0}, last[3] = {0};  // an end is a time and a value
        uint32_t count = 1 + (uint32_t)(rml_test_random(&seed) % 30), least = 0, greatest = 0;
        int64_t times[30];
        for (uint32_t i = 0; i < count; i++) {
            times[i] = (int64_t)(rml_test_random(&seed) % 10) - 5;
            const uint32_t value[2] = {i, ~i};
            rml_end_first((void *)first, i > 0, times[i], value, sizeof value);
            rml_end_last((void *)last, i > 0, times[i], value, sizeof value);
        }
        for (uint32_t i = 1; i < count; i++)
            least = times[i] < times[least] ? i : least;
        for (uint32_t i = count; i-- > 0;)
            greatest = times[i] > times[greatest] || (i > greatest && times[i] == times[greatest])
                           ? i
                           : greatest;
        const uint32_t expected[2][2] = {{least, ~least}, {greatest, ~greatest}};
        assert_int_equal(rml_end_bytes(sizeof expected[0]), 16);
        assert_memory_equal(&first[1], expected[0], sizeof expected[0]);
        assert_memory_equal(&last[1], expected[1], sizeof expected[1]);
    }
}

static void a_bound_belongs_to_the_bucket_above_it(void **state)
{
    (void)state;
    const double bounds[] = {-1, 0, 10};
    const double xs[] = {-(double)INFINITY, -2, -1, -0.5, 0, 9.99, 10, (double)INFINITY};
    const uint32_t buckets[] = {0, 0, 1, 1, 2, 2, 3, 3};
    for (uint32_t i = 0; i < 8; i++)
        assert_int_equal(rml_histogram_bucket(bounds, 3, xs[i]), buckets[i]);
}

TEST_MAIN(CLAIM(a_fading_mean_depends_on_times_and_not_on_order_or_panes),
          CLAIM(times_as_far_apart_as_times_go_leave_the_latest_value),
          CLAIM(ends_go_by_time_and_ties_by_arrival), CLAIM(a_bound_belongs_to_the_bucket_above_it))
