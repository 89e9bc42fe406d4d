/*
 * bench_functions - what each aggregate function costs a record, in a partition over records in memory.
 *
 *     bench_functions [--keys 1000] [--records 1000000] [--rounds 7]
 *
 * One line of JSON per function, and one for six together: the median of the rounds in nanoseconds per
 * record, its quartiles, and how many times as long as the ideal loop (support/ideal.h, which computes
 * count, sum, avg, min and max) it took over the same records in the same round. A round is one tumbling
 * window of so many records over so many keys, chosen uniformly, and the rows of the window before; count()
 * alone is what a record costs without any column.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/support/arguments.h"
#include "bench/support/bare.h"
#include "bench/support/figures.h"
#include "bench/support/ideal.h"
#include "bench/support/pair.h"
#include "runtime/time/time.h"

#define WINDOW_NS INT64_C(1000000000)

static uint32_t key_count = 1000, record_count = 1000000, round_count = 7;

static const char *const functions[] = {
    "count()",
    "sum(value)",
    "avg(value)",
    "min(value)",
    "range(value)",
    "first(value)",
    "var_pop(value)",
    "rate(value)",
    "ewma(value, 100ms)",
    "histogram(value, 0.1, 0.2, 0.5, 0.9)",
    "median(value)",
    "quantile(value, 0.99, 0.1%)",
    "distinct(id)",
    "top(id, 3)",
    "count() sum() avg() min() max() quantile(0.99)",
};

static const char six_together[] =
    "{n: count(), sum: sum(value), mean: avg(value), least: min(value), most: max(value),"
    " p99: 'quantile(value, 0.99)'}";

#define FUNCTIONS (sizeof functions / sizeof functions[0])

static struct bench_ideal ideal;

static void run_rounds(struct bench_bare *bare, struct bench_event *events,
                       struct bench_figures *figures, struct bench_figures *ratios)
{
    // The first rounds touch memory for the first time.
    for (uint32_t round = 0; round < round_count + 2; round++) {
        int64_t from = bench_now_ns();
        bench_ideal_take(&ideal, events, record_count);
        int64_t between = bench_now_ns();
        bench_bare_take(bare, events, record_count, RML_TIME_NONE);
        double took_ns = (double)(bench_now_ns() - between);
        if (round >= 2) {
            bench_figures_add(figures, took_ns / record_count);
            bench_figures_add(ratios, took_ns / (double)(between - from));
        }
        bench_events_shift(events, record_count, WINDOW_NS);
    }
}

static int measure(uint32_t index, struct bench_event *events)
{
    static struct bench_bare bare;
    struct bench_figures figures = {0}, ratios = {0};
    const char *function = functions[index];
    char aggregate[256];
    if (index == FUNCTIONS - 1)
        snprintf(aggregate, sizeof aggregate, "%s", six_together);
    else
        snprintf(aggregate, sizeof aggregate, "{a: '%s'}", function);
    int rc = bench_figures_init(&figures, round_count);
    if (rc == 0)
        rc = bench_figures_init(&ratios, round_count);
    if (rc == 0)
        rc = bench_ideal_open(&ideal, key_count, WINDOW_NS);
    if (rc == 0)
        rc = bench_bare_open(&bare, "{type: tumbling, size: 1s}", aggregate, key_count, false);
    if (rc == 0) {
        run_rounds(&bare, events, &figures, &ratios);
        struct bench_quartiles q = bench_figures_quartiles(&figures);
        printf(
            "{\"bench\":\"functions\",\"function\":\"%s\",\"keys\":%u,\"records\":%u,\"ns\":%.2f,"
            "\"q1\":%.2f,\"q3\":%.2f,\"to_ideal\":%.2f}\n",
            function, key_count, record_count, q.median, q.q1, q.q3,
            bench_figures_quartiles(&ratios).median);
        fflush(stdout);
    }
    bench_bare_close(&bare);
    bench_ideal_close(&ideal);
    bench_figures_fini(&figures);
    bench_figures_fini(&ratios);
    return rc;
}

int main(int argc, char **argv)
{
    const struct bench_count counts[] = {
        {"--keys", &key_count, 10000000},
        {"--records", &record_count, 10000000},
        {"--rounds", &round_count, 1000000},
    };
    if (!bench_counts_read(argc, argv, counts, sizeof counts / sizeof counts[0])) {
        fprintf(stderr, "bench_functions [--keys 1000] [--records 1000000] [--rounds 7]\n");
        return 2;
    }
    struct bench_event *events = calloc(record_count, sizeof *events);
    if (events == NULL) {
        fprintf(stderr, "bench_functions: no memory for %u records\n", record_count);
        return 1;
    }
    bench_events_fill(events, record_count, key_count, false, WINDOW_NS);
    int rc = 0;
    for (uint32_t i = 0; i < FUNCTIONS && rc == 0; i++)
        rc = measure(i, events);
    free(events);
    return rc < 0;
}
