/*
 * bench_functions - what each aggregate function costs a record, in a partition over records in memory.
 *
 *     bench_functions [--keys 1000] [--records 1000000] [--rounds 7]
 *
 * One line of JSON per function: the median of the rounds in nanoseconds per record, and its quartiles.
 * A round is one tumbling window of so many records over so many keys, chosen uniformly, and
 * the rows of the window before; count() alone is what a record costs without any column.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/support/arguments.h"
#include "bench/support/bare.h"
#include "bench/support/figures.h"
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
};

static void run_rounds(struct bench_bare *bare, struct bench_event *events,
                       struct bench_figures *figures)
{
    // The first rounds touch memory for the first time.
    for (uint32_t round = 0; round < round_count + 2; round++) {
        int64_t from = bench_now_ns();
        bench_bare_take(bare, events, record_count, RML_TIME_NONE);
        if (round >= 2)
            bench_figures_add(figures, (double)(bench_now_ns() - from) / record_count);
        bench_events_shift(events, record_count, WINDOW_NS);
    }
}

static int measure(const char *function, struct bench_event *events)
{
    static struct bench_bare bare;
    struct bench_figures figures = {0};
    char aggregate[128];
    snprintf(aggregate, sizeof aggregate, "{a: '%s'}", function);
    int rc = bench_figures_init(&figures, round_count);
    if (rc == 0)
        rc = bench_bare_open(&bare, "{type: tumbling, size: 1s}", aggregate, key_count);
    if (rc == 0) {
        run_rounds(&bare, events, &figures);
        struct bench_quartiles q = bench_figures_quartiles(&figures);
        printf(
            "{\"bench\":\"functions\",\"function\":\"%s\",\"keys\":%u,\"records\":%u,\"ns\":%.2f,"
            "\"q1\":%.2f,\"q3\":%.2f}\n",
            function, key_count, record_count, q.median, q.q1, q.q3);
        fflush(stdout);
    }
    bench_bare_close(&bare);
    bench_figures_fini(&figures);
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
    for (uint32_t i = 0; i < sizeof functions / sizeof functions[0] && rc == 0; i++)
        rc = measure(functions[i], events);
    free(events);
    return rc < 0;
}
