#include "bench/support/bare.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "operators/registry.h"
#include "runtime/base/check.h"
#include "runtime/base/err.h"
#include "runtime/plan/plan.h"

static struct rml_result_block *take_block(void *context)
{
    struct bench_bare *bare = context;
    struct rml_result_block *block = bare->spare;
    bare->spare = NULL;
    RML_CHECK(block != NULL);
    return block;
}

static void give_block(void *context, struct rml_result_block *block)
{
    struct bench_bare *bare = context;
    bare->spare = block;
}

static int read_plan(struct bench_bare *bare, const char *window, const char *aggregate,
                     uint32_t keys)
{
    char text[1024];
    snprintf(text, sizeof text,
             "version: 1\npipeline: bench\n"
             "schema: {event: {ts: time_ns, key: u64, value: f64, id: u64}}\n"
             "runtime: {workers: 1, partitions: 1, state_limit: 32GiB, max_keys: %u}\n"
             "sources: {in: {schema: event, event_time: ts, partition_by: [key]}}\n"
             "stages:\n  w:\n    from: in\n    key: key\n    window: %s\n    aggregate: %s\n"
             "sinks: {out: {from: w, type: ring}}\n",
             keys, window, aggregate);
    struct rml_plan_errors errors = {0};
    struct rml_err err = {0};
    int rc = rml_plan_parse(text, strlen(text), "bench", rml_operators_functions(), &bare->plan,
                            &errors, &err);
    if (rc < 0)
        fprintf(stderr, "%s, %s: %s\n", window, aggregate,
                errors.count > 0 ? errors.list[0].text : err.text);
    rml_plan_errors_fini(&errors);
    return rc;
}

int bench_bare_open(struct bench_bare *bare, const char *window, const char *aggregate,
                    uint32_t keys, bool snapshots)
{
    *bare = (struct bench_bare){.spare = malloc(sizeof *bare->spare)};
    if (bare->spare == NULL)
        return -ENOMEM;
    int rc = read_plan(bare, window, aggregate, keys);
    if (rc < 0)
        return rc;
    const struct rml_partition_options options = {
        .door = {take_block, give_block, bare, false},
        .stages = &bare->stage,
        .sources = &bare->source,
        .lanes_max = 1,
        .snapshots = snapshots,
    };
    struct rml_err err = {0};
    rc = rml_partition_open(&bare->partition, bare->plan, rml_operators_table(), &options, &err);
    if (rc < 0) {
        fprintf(stderr, "%s, %s: %s\n", window, aggregate, err.text);
        return rc;
    }
    const struct rml_step attach = {.kind = RML_STEP_ATTACH};
    return rml_partition_step(bare->partition, &attach, NULL);
}

void bench_bare_close(struct bench_bare *bare)
{
    rml_partition_close(bare->partition);
    rml_plan_close(bare->plan);
    free(bare->spare);
    *bare = (struct bench_bare){0};
}

void bench_bare_take(struct bench_bare *bare, const struct bench_event *events, uint32_t count,
                     int64_t time_ns)
{
    const struct rml_step step = {.kind = RML_STEP_BATCH, .count = count, .time = time_ns};
    const struct rml_step_input input = {.records = events};
    RML_CHECK(rml_partition_step(bare->partition, &step, &input) == (int)count);
}
