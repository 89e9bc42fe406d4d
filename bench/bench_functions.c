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
#include <time.h>

#include "bench/support/events.h"
#include "bench/support/figures.h"
#include "operators/registry.h"
#include "runtime/base/check.h"
#include "runtime/base/err.h"
#include "runtime/partition/partition.h"
#include "runtime/plan/plan.h"
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

static double now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

/* Rows are made and thrown away. */

static struct rml_result_block *take_block(void *context)
{
    struct rml_result_block **spare = context;
    struct rml_result_block *block = *spare;
    *spare = NULL;
    RML_CHECK(block != NULL);
    return block;
}

static void give_block(void *context, struct rml_result_block *block)
{
    struct rml_result_block **spare = context;
    *spare = block;
}

static struct rml_plan *plan_of(const char *function)
{
    char text[1024];
    snprintf(text, sizeof text,
             "version: 1\npipeline: bench\n"
             "schema: {event: {ts: time_ns, key: u64, value: f64, id: u64}}\n"
             "runtime: {workers: 1, partitions: 1, state_limit: 32GiB, max_keys: %u}\n"
             "sources: {in: {schema: event, event_time: ts, partition_by: [key]}}\n"
             "stages:\n  w:\n    from: in\n    key: key\n    window: {type: tumbling, size: 1s}\n"
             "    aggregate:\n      a: %s\n"
             "sinks: {out: {from: w, type: ring}}\n",
             key_count, function);
    struct rml_plan *plan = NULL;
    struct rml_plan_errors errors = {0};
    struct rml_err err = {0};
    if (rml_plan_parse(text, strlen(text), "bench", rml_operators_functions(), &plan, &errors, &err)
        < 0)
        fprintf(stderr, "%s: %s\n", function, errors.count > 0 ? errors.list[0].text : err.text);
    rml_plan_errors_fini(&errors);
    return plan;
}

static void run_rounds(struct rml_partition *partition, struct bench_event *events,
                       struct bench_figures *figures)
{
    const struct rml_step batch = {
        .kind = RML_STEP_BATCH, .count = record_count, .time = RML_TIME_NONE};
    const struct rml_step_input input = {.records = events};
    // The first rounds touch memory for the first time.
    for (uint32_t round = 0; round < round_count + 2; round++) {
        double from = now_ns();
        RML_CHECK(rml_partition_step(partition, &batch, &input) == (int)record_count);
        if (round >= 2)
            bench_figures_add(figures, (now_ns() - from) / record_count);
        bench_events_shift(events, record_count, WINDOW_NS);
    }
}

static int measure(const char *function, struct bench_event *events)
{
    struct rml_plan *plan = plan_of(function);
    struct rml_result_block *spare = malloc(sizeof *spare);
    struct rml_stage_counts stage = {0};
    struct rml_source_counts source = {0};
    struct rml_err err = {0};
    struct rml_partition *partition = NULL;
    struct bench_figures figures = {0};
    const struct rml_partition_options options = {
        .door = {take_block, give_block, &spare, false},
        .stages = &stage,
        .sources = &source,
        .lanes_max = 1,
    };
    int rc = plan != NULL && spare != NULL ? bench_figures_init(&figures, round_count) : -1;
    if (rc == 0)
        rc = rml_partition_open(&partition, plan, rml_operators_table(), &options, &err);
    if (rc == 0) {
        RML_CHECK(rml_partition_step(partition, &(struct rml_step){.kind = RML_STEP_ATTACH}, NULL)
                  == 0);
        run_rounds(partition, events, &figures);
        struct bench_quartiles q = bench_figures_quartiles(&figures);
        printf(
            "{\"bench\":\"functions\",\"function\":\"%s\",\"keys\":%u,\"records\":%u,\"ns\":%.2f,"
            "\"q1\":%.2f,\"q3\":%.2f}\n",
            function, key_count, record_count, q.median, q.q1, q.q3);
        fflush(stdout);
        rml_partition_close(partition);
    } else {
        fprintf(stderr, "bench_functions: %s: %s\n", function, err.text);
    }
    bench_figures_fini(&figures);
    free(spare);
    rml_plan_close(plan);
    return rc;
}

static bool read_arguments(int argc, char **argv)
{
    for (int i = 1; i < argc; i += 2) {
        uint32_t *to = strcmp(argv[i], "--keys") == 0      ? &key_count
                       : strcmp(argv[i], "--records") == 0 ? &record_count
                       : strcmp(argv[i], "--rounds") == 0  ? &round_count
                                                           : NULL;
        char *end = NULL;
        unsigned long value = i + 1 < argc ? strtoul(argv[i + 1], &end, 10) : 0;
        if (to == NULL || end == NULL || *end != '\0' || value < 1 || value > 10000000)
            return false;
        *to = (uint32_t)value;
    }
    return true;
}

int main(int argc, char **argv)
{
    if (!read_arguments(argc, argv)) {
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
