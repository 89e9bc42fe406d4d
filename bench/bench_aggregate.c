/*
 * bench_aggregate - what one value costs each sketch, and what a merge costs, beside a plain loop.
 *
 *     bench_aggregate [--values 1000000] [--rounds 9]
 *
 * One line of JSON per figure: the median of the rounds in nanoseconds and its quartiles. `add` is per
 * value, into one warm sketch; `merge` and `ask` are per call, on sketches of that many values. The
 * reference is a loop that sums the same array.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench/support/arguments.h"
#include "bench/support/figures.h"
#include "runtime/base/check.h"
#include "runtime/stats/decay.h"
#include "runtime/stats/distinct.h"
#include "runtime/stats/exact.h"
#include "runtime/stats/moments.h"
#include "runtime/stats/quantile.h"
#include "runtime/stats/top.h"

#define CALLS 200u  // merges and questions of one round

static uint32_t value_count = 1000000, round_count = 9;
static double *values;
static double sink;  // printed, so that nothing measured can be left out

static double now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static double unit(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return ((double)(*seed >> 12) + 0.5) * 0x1p-52;
}

static void draw_values(void)
{
    uint64_t seed = 88172645463325252u;
    for (uint32_t i = 0; i < value_count; i++) {
        double radius = sqrt(-2 * log(unit(&seed)));
        values[i] = exp(3 + 1.5 * radius * cos(6.283185307179586 * unit(&seed)));
    }
}

/* What is measured: each does its work once and returns how often it did the thing that is priced. */

static union {
    struct rml_quantile sketch;
    unsigned char bytes[RML_QUANTILE_BYTES_MAX];
} quantile, quantile_twin;

static uint32_t sum_add(void)
{
    double sum = 0;
    for (uint32_t i = 0; i < value_count; i++)
        sum += values[i];
    sink += sum;
    return value_count;
}

static uint32_t moments_add(void)
{
    struct rml_moments m = {0};
    for (uint32_t i = 0; i < value_count; i++)
        rml_moments_add(&m, values[i]);
    sink += m.squares;
    return value_count;
}

static uint32_t moments_merge(void)
{
    struct rml_moments m = {0}, more = {0};
    rml_moments_add(&more, values[0]);
    rml_moments_add(&more, values[1]);
    for (uint32_t i = 0; i < CALLS; i++)
        rml_moments_merge(&m, &more);
    sink += m.squares;
    return CALLS;
}

static uint32_t quantile_add(void)
{
    rml_quantile_init(&quantile.sketch, 6);
    int rc = 0;
    for (uint32_t i = 0; i < value_count; i++)
        rc |= rml_quantile_add(&quantile.sketch, sizeof quantile, values[i]);
    RML_CHECK(rc == 0);
    return value_count;
}

// Many sketches of few values: what a stage with many keys sees.
static uint32_t quantile_add_few(void)
{
    int rc = 0;
    for (uint32_t i = 0; i < value_count; i++) {
        if (i % 32 == 0)
            rml_quantile_init(&quantile.sketch, 6);
        rc |= rml_quantile_add(&quantile.sketch, sizeof quantile, values[i]);
    }
    RML_CHECK(rc == 0);
    return value_count;
}

static uint32_t quantile_two(void)
{
    uint32_t count = quantile_add();
    quantile_twin = quantile;
    return count;
}

static uint32_t quantile_merge(void)
{
    int rc = 0;
    for (uint32_t i = 0; i < CALLS; i++)
        rc |= rml_quantile_merge(&quantile.sketch, sizeof quantile, &quantile_twin.sketch);
    RML_CHECK(rc == 0);
    return CALLS;
}

static uint32_t quantile_ask(void)
{
    for (uint32_t i = 0; i < CALLS; i++) {
        double answer = 0;
        RML_CHECK(rml_quantile_at(&quantile.sketch, 0.99, &answer));
        sink += answer;
    }
    return CALLS;
}

static uint64_t distinct[RML_DISTINCT_BYTES_MAX / 8], distinct_twin[RML_DISTINCT_BYTES_MAX / 8];

static uint32_t add_distinct(uint32_t range)
{
    struct rml_distinct *sketch = (void *)distinct;
    int rc = 0;
    rml_distinct_init(sketch, sizeof distinct);
    for (uint64_t i = 0; i < value_count; i++) {
        uint64_t value = i * 2654435761u % range;
        rc |= rml_distinct_add(sketch, rml_distinct_hash(&value, sizeof value));
    }
    RML_CHECK(rc == 0);
    memcpy(distinct_twin, distinct, sizeof distinct);
    return value_count;
}

static uint32_t distinct_add(void)
{
    return add_distinct(value_count);
}

static uint32_t distinct_add_few(void)
{
    return add_distinct(300);
}

static uint32_t distinct_merge(void)
{
    int rc = 0;
    for (uint32_t i = 0; i < CALLS; i++)
        rc |= rml_distinct_merge((void *)distinct, (void *)distinct_twin);
    RML_CHECK(rc == 0);
    return CALLS;
}

static uint32_t distinct_ask(void)
{
    for (uint32_t i = 0; i < CALLS; i++)
        sink += (double)rml_distinct_count((void *)distinct);
    return CALLS;
}

#define TOP_COUNTERS 64u

static uint64_t top[1024], top_twin[1024];

static uint32_t top_add(void)
{
    int rc = 0;
    rml_top_init((void *)top, sizeof top, TOP_COUNTERS, sizeof values[0]);
    for (uint32_t i = 0; i < value_count; i++) {
        double value = floor(values[i]);  // few come often, most rarely
        rc |= rml_top_add((void *)top, &value);
    }
    RML_CHECK(rc == 0);
    memcpy(top_twin, top, sizeof top);
    return value_count;
}

static uint32_t top_merge(void)
{
    int rc = 0;
    for (uint32_t i = 0; i < CALLS; i++)
        rc |= rml_top_merge((void *)top, (void *)top_twin);
    RML_CHECK(rc == 0);
    return CALLS;
}

static uint32_t decay_add(void)
{
    struct rml_decay decay = {0};
    double mean = 0;
    for (uint32_t i = 0; i < value_count; i++)
        rml_decay_add(&decay, 1000000, (int64_t)(i ^ 5) * 1000, values[i]);
    RML_CHECK(rml_decay_mean(&decay, &mean));
    sink += mean;
    return value_count;
}

static void rewind_values(void *context)
{
    *(bool *)context = false;
}

static bool all_values(void *context, const double **ret_values, uint32_t *ret_count)
{
    bool *done = context, was_done = *done;
    *done = true;
    *ret_values = values;
    *ret_count = value_count;
    return !was_done;
}

// The price of an exact quantile, by value kept.
static uint32_t exact_ask(void)
{
    bool done = false;
    double answer = 0;
    const struct rml_exact_pieces pieces = {rewind_values, all_values, &done, value_count};
    RML_CHECK(rml_exact_quantile(&pieces, 0.99, &answer));
    sink += answer;
    return value_count;
}

static const struct {
    const char *sketch, *what;
    uint32_t (*once)(void);
    uint32_t (*prepare)(void);  // whose time is not counted; NULL: nothing
} measured[] = {
    {"reference", "add", sum_add, NULL},
    {"moments", "add", moments_add, NULL},
    {"moments", "merge", moments_merge, NULL},
    {"quantile", "add", quantile_add, NULL},
    {"quantile_of_32", "add", quantile_add_few, NULL},
    {"quantile", "merge", quantile_merge, quantile_two},
    {"quantile", "ask", quantile_ask, quantile_add},
    {"exact", "ask_per_value", exact_ask, NULL},
    {"distinct", "add", distinct_add, NULL},
    {"distinct_of_300", "add", distinct_add_few, NULL},
    {"distinct", "merge", distinct_merge, distinct_add},
    {"distinct", "ask", distinct_ask, distinct_add},
    {"top_of_64", "add", top_add, NULL},
    {"top_of_64", "merge", top_merge, top_add},
    {"decay", "add", decay_add, NULL},
};

static int measure(uint32_t at)
{
    struct bench_figures figures;
    int rc = bench_figures_init(&figures, round_count);
    if (rc < 0)
        return rc;
    for (uint32_t round = 0; round < round_count; round++) {
        if (measured[at].prepare != NULL)
            (void)measured[at].prepare();
        double from = now_ns();
        uint32_t count = measured[at].once();
        bench_figures_add(&figures, (now_ns() - from) / count);
    }
    struct bench_quartiles q = bench_figures_quartiles(&figures);
    printf("{\"bench\":\"aggregate\",\"sketch\":\"%s\",\"what\":\"%s\",\"values\":%u,\"ns\":%.2f,"
           "\"q1\":%.2f,\"q3\":%.2f}\n",
           measured[at].sketch, measured[at].what, value_count, q.median, q.q1, q.q3);
    bench_figures_fini(&figures);
    return 0;
}

int main(int argc, char **argv)
{
    const struct bench_count counts[] = {
        {"--values", &value_count, 100000000},
        {"--rounds", &round_count, 1000000},
    };
    if (!bench_counts_read(argc, argv, counts, sizeof counts / sizeof counts[0])
        || value_count < 2) {
        fprintf(stderr, "bench_aggregate [--values 1000000] [--rounds 9]\n");
        return 2;
    }
    values = calloc(value_count, sizeof values[0]);
    if (values == NULL) {
        fprintf(stderr, "bench_aggregate: no memory for %u values\n", value_count);
        return 1;
    }
    draw_values();
    int rc = 0;
    for (uint32_t i = 0; i < sizeof measured / sizeof measured[0] && rc == 0; i++)
        rc = measure(i);
    free(values);
    if (rc == 0)
        fprintf(stderr, "checksum %g\n", sink);
    return rc < 0;
}
