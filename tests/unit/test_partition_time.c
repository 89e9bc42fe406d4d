/*
 * What several producers make of time: whose clock decides, and when one is left out.
 */
#include <stdio.h>
#include <string.h>

#include "operators/registry.h"
#include "runtime/base/check.h"
#include "runtime/base/err.h"
#include "runtime/partition/partition.h"
#include "runtime/plan/plan.h"
#include "runtime/time/time.h"
#include "tests/support/test.h"

#define SECOND INT64_C(1000000000)
#define LANES  3

/* A partition of one source with two lanes attached, that calls a lane idle after ten seconds. */
struct world {
    struct rml_plan *plan;
    struct rml_partition *partition;
    struct rml_stage_counts stage;
    struct rml_source_counts source;
};

static struct rml_result_block *no_block(void *context)
{
    (void)context;
    RML_UNREACHABLE("nobody reads the stage");
}

static void step(struct world *w, struct rml_step next, const struct rml_step_input *input)
{
    assert_int_equal(rml_partition_step(w->partition, &next, input),
                     next.kind == RML_STEP_BATCH ? (int)next.count : 0);
}

static void attach(struct world *w, uint16_t lane)
{
    step(w, (struct rml_step){.kind = RML_STEP_ATTACH, .lane = lane}, NULL);
}

static void open_world(struct world *w, const char *out_of_order)
{
    char text[512];
    snprintf(text, sizeof text,
             "version: 1\npipeline: p\nschema: {event: {ts: time_ns}}\n"
             "runtime: {workers: 1, partitions: 1}\n"
             "sources: {in: {schema: event, event_time: ts, out_of_order: %s, idle_after: 10s}}\n"
             "stages: {all: {from: in, filter: true}}\n",
             out_of_order);
    struct rml_plan_errors errors;
    struct rml_err err = {0};
    *w = (struct world){0};
    assert_int_equal(
        rml_plan_parse(text, strlen(text), "p", rml_operators_functions(), &w->plan, &errors, &err),
        0);
    const struct rml_partition_options options = {
        .door = {.take = no_block},
        .stages = &w->stage,
        .sources = &w->source,
        .lanes_max = LANES,
    };
    assert_int_equal(
        rml_partition_open(&w->partition, w->plan, rml_operators_table(), &options, &err), 0);
    attach(w, 0);
    attach(w, 1);
}

static void close_world(struct world *w)
{
    rml_partition_close(w->partition);
    rml_plan_close(w->plan);
}

static void write_at(struct world *w, uint16_t lane, int64_t time)
{
    const struct rml_step_input input = {.records = &time};
    step(w,
         (struct rml_step){.kind = RML_STEP_BATCH, .lane = lane, .count = 1, .time = RML_TIME_NONE},
         &input);
}

static void tick(struct world *w, int64_t now)
{
    step(w, (struct rml_step){.kind = RML_STEP_TICK, .time = now}, NULL);
}

static void assert_watermark(const struct world *w, int64_t expected)
{
    assert_int_equal(rml_partition_watermark(w->partition, 0), expected);
}

static void the_slowest_lane_decides(void **state)
{
    (void)state;
    struct world w;
    open_world(&w, "2s");
    write_at(&w, 0, 10 * SECOND);
    write_at(&w, 1, 11 * SECOND);
    assert_watermark(&w, 8 * SECOND);
    write_at(&w, 0, 30 * SECOND);
    assert_watermark(&w, 9 * SECOND);
    write_at(&w, 1, 12 * SECOND);
    assert_watermark(&w, 10 * SECOND);
    close_world(&w);
}

static void a_lane_that_has_written_nothing_holds_the_watermark(void **state)
{
    (void)state;
    struct world w;
    open_world(&w, "0s");
    write_at(&w, 0, 10 * SECOND);
    assert_watermark(&w, RML_TIME_NONE);
    write_at(&w, 1, 10 * SECOND);
    assert_watermark(&w, 10 * SECOND);
    attach(&w, 2);
    write_at(&w, 0, 20 * SECOND);
    write_at(&w, 1, 20 * SECOND);
    assert_watermark(&w, 10 * SECOND);
    write_at(&w, 2, 15 * SECOND);
    assert_watermark(&w, 15 * SECOND);
    close_world(&w);
}

static void a_lane_that_detaches_holds_nothing_back(void **state)
{
    (void)state;
    struct world w;
    open_world(&w, "0s");
    write_at(&w, 0, 10 * SECOND);
    write_at(&w, 1, 5 * SECOND);
    assert_watermark(&w, 5 * SECOND);
    step(&w, (struct rml_step){.kind = RML_STEP_DETACH, .lane = 1}, NULL);
    assert_watermark(&w, 10 * SECOND);
    close_world(&w);
}

static void an_idle_lane_is_left_out_until_it_writes(void **state)
{
    (void)state;
    struct world w;
    open_world(&w, "0s");
    write_at(&w, 0, 10 * SECOND);
    write_at(&w, 1, 5 * SECOND);
    tick(&w, 100 * SECOND);  // both have written since the last tick
    write_at(&w, 0, 20 * SECOND);
    tick(&w, 110 * SECOND - 1);
    assert_watermark(&w, 5 * SECOND);
    tick(&w, 110 * SECOND);
    assert_watermark(&w, 20 * SECOND);
    write_at(&w, 1, 21 * SECOND);
    write_at(&w, 0, 40 * SECOND);
    assert_watermark(&w, 21 * SECOND);
    close_world(&w);
}

static void when_all_are_idle_the_furthest_decides(void **state)
{
    (void)state;
    struct world w;
    open_world(&w, "0s");
    write_at(&w, 0, 10 * SECOND);
    write_at(&w, 1, 5 * SECOND);
    tick(&w, 100 * SECOND);
    tick(&w, 110 * SECOND);
    assert_watermark(&w, 10 * SECOND);
    close_world(&w);
}

static void the_watermark_never_goes_back(void **state)
{
    (void)state;
    struct world w;
    open_world(&w, "0s");
    write_at(&w, 0, 10 * SECOND);
    write_at(&w, 1, 5 * SECOND);
    tick(&w, 100 * SECOND);
    tick(&w, 110 * SECOND);
    write_at(&w, 1, 6 * SECOND);
    assert_watermark(&w, 10 * SECOND);
    write_at(&w, 0, -SECOND);
    assert_watermark(&w, 10 * SECOND);
    close_world(&w);
}

TEST_MAIN(CLAIM(the_slowest_lane_decides),
          CLAIM(a_lane_that_has_written_nothing_holds_the_watermark),
          CLAIM(a_lane_that_detaches_holds_nothing_back),
          CLAIM(an_idle_lane_is_left_out_until_it_writes),
          CLAIM(when_all_are_idle_the_furthest_decides), CLAIM(the_watermark_never_goes_back))
