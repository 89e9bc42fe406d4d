/*
 * What several producers make of time: whose clock decides, and when one is left out.
 */
#include <stdio.h>

#include "tests/support/partition.h"

#define SECOND INT64_C(1000000000)

// Two lanes, each idle after ten seconds.
static void open_world(struct held *w, const char *out_of_order)
{
    char text[512];
    snprintf(text, sizeof text,
             "version: 1\npipeline: p\nschema: {event: {ts: time_ns}}\n"
             "runtime: {workers: 1, partitions: 1}\n"
             "sources: {in: {schema: event, event_time: ts, out_of_order: %s, idle_after: 10s}}\n"
             "stages: {all: {from: in, filter: true}}\n",
             out_of_order);
    held_open(w, text, 0);
    held_attach(w, 1);
}

static void write_at(struct held *w, uint16_t lane, int64_t time)
{
    held_write(w, lane, &time, 1);
}

static void tick(struct held *w, int64_t now)
{
    // what the wall clock shows beside it is not asked
    held_step(w, (struct rml_step){.kind = RML_STEP_TICK, .time = -now, .steady_ns = now}, NULL);
}

static void assert_watermark(const struct held *w, int64_t expected)
{
    assert_int_equal(rml_partition_watermark(w->partition, 0), expected);
}

static void the_slowest_lane_decides(void **state)
{
    (void)state;
    struct held w;
    open_world(&w, "2s");
    write_at(&w, 0, 10 * SECOND);
    write_at(&w, 1, 11 * SECOND);
    assert_watermark(&w, 8 * SECOND);
    write_at(&w, 0, 30 * SECOND);
    assert_watermark(&w, 9 * SECOND);
    write_at(&w, 1, 12 * SECOND);
    assert_watermark(&w, 10 * SECOND);
    held_close(&w);
}

static void a_lane_that_has_written_nothing_holds_the_watermark(void **state)
{
    (void)state;
    struct held w;
    open_world(&w, "0s");
    write_at(&w, 0, 10 * SECOND);
    assert_watermark(&w, RML_TIME_NONE);
    write_at(&w, 1, 10 * SECOND);
    assert_watermark(&w, 10 * SECOND);
    held_attach(&w, 2);
    write_at(&w, 0, 20 * SECOND);
    write_at(&w, 1, 20 * SECOND);
    assert_watermark(&w, 10 * SECOND);
    write_at(&w, 2, 15 * SECOND);
    assert_watermark(&w, 15 * SECOND);
    held_close(&w);
}

static void a_lane_that_detaches_holds_nothing_back(void **state)
{
    (void)state;
    struct held w;
    open_world(&w, "0s");
    write_at(&w, 0, 10 * SECOND);
    write_at(&w, 1, 5 * SECOND);
    assert_watermark(&w, 5 * SECOND);
    held_step(&w, (struct rml_step){.kind = RML_STEP_DETACH, .lane = 1}, NULL);
    assert_watermark(&w, 10 * SECOND);
    held_close(&w);
}

static void an_idle_lane_is_left_out_until_it_writes(void **state)
{
    (void)state;
    struct held w;
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
    held_close(&w);
}

static void when_all_are_idle_the_furthest_decides(void **state)
{
    (void)state;
    struct held w;
    open_world(&w, "0s");
    write_at(&w, 0, 10 * SECOND);
    write_at(&w, 1, 5 * SECOND);
    tick(&w, 100 * SECOND);
    tick(&w, 110 * SECOND);
    assert_watermark(&w, 10 * SECOND);
    held_close(&w);
}

static void the_watermark_never_goes_back(void **state)
{
    (void)state;
    struct held w;
    open_world(&w, "0s");
    write_at(&w, 0, 10 * SECOND);
    write_at(&w, 1, 5 * SECOND);
    tick(&w, 100 * SECOND);
    tick(&w, 110 * SECOND);
    write_at(&w, 1, 6 * SECOND);
    assert_watermark(&w, 10 * SECOND);
    write_at(&w, 0, -SECOND);
    assert_watermark(&w, 10 * SECOND);
    held_close(&w);
}

static void take(struct held *w, int64_t time, const struct rml_mark *mark, int64_t vouches)
{
    const struct rml_step_input input = {
        .records = &time, .marks = mark, .mark_count = mark != NULL ? 1 : 0};
    const struct rml_step step = {
        .kind = RML_STEP_BATCH, .count = 1, .time = vouches, .latest = 100 * SECOND};
    held_step(w, step, &input);
}

static uint64_t source_count(const struct held *w, enum rml_source_counter counter)
{
    return rml_count_read(&w->source.value[counter]);
}

static void a_record_too_far_ahead_is_refused_and_moves_no_time(void **state)
{
    (void)state;
    struct held w;
    open_world(&w, "0s");
    held_step(&w, (struct rml_step){.kind = RML_STEP_DETACH, .lane = 1}, NULL);
    take(&w, 99 * SECOND, NULL, RML_TIME_NONE);
    take(&w, 100 * SECOND + 1, NULL, RML_TIME_NONE);
    take(&w, RML_TIME_END, NULL, RML_TIME_NONE);
    assert_watermark(&w, 99 * SECOND);
    take(&w, 100 * SECOND, NULL, RML_TIME_NONE);
    assert_watermark(&w, 100 * SECOND);
    assert_int_equal(source_count(&w, RML_SOURCE_ahead), 2);
    assert_int_equal(source_count(&w, RML_SOURCE_taken), 4);
    assert_int_equal(source_count(&w, RML_SOURCE_delivered), 2);
    assert_int_equal(held_count(&w, RML_STAGE_in), 2);
    held_close(&w);
}

static void what_a_lane_says_of_times_too_far_ahead_is_not_believed(void **state)
{
    (void)state;
    struct held w;
    open_world(&w, "0s");
    held_step(&w, (struct rml_step){.kind = RML_STEP_DETACH, .lane = 1}, NULL);
    const struct rml_mark far = {0, 100 * SECOND + 1}, near = {0, 50 * SECOND};
    take(&w, 10 * SECOND, &far, RML_TIME_NONE);
    assert_watermark(&w, 10 * SECOND);
    take(&w, 10 * SECOND, NULL, RML_TIME_END);
    assert_watermark(&w, 10 * SECOND);
    take(&w, 10 * SECOND, &near, RML_TIME_NONE);
    assert_watermark(&w, 50 * SECOND);
    take(&w, 10 * SECOND, NULL, 100 * SECOND);
    assert_watermark(&w, 100 * SECOND);
    assert_int_equal(source_count(&w, RML_SOURCE_ahead), 0);
    held_close(&w);
}

static void without_a_limit_every_time_is_taken(void **state)
{
    (void)state;
    struct held w;
    open_world(&w, "0s");
    held_step(&w, (struct rml_step){.kind = RML_STEP_DETACH, .lane = 1}, NULL);
    write_at(&w, 0, RML_TIME_END - 1);
    assert_watermark(&w, RML_TIME_END - 1);
    assert_int_equal(source_count(&w, RML_SOURCE_delivered), 1);
    held_close(&w);
}

TEST_MAIN(CLAIM(the_slowest_lane_decides),
          CLAIM(a_lane_that_has_written_nothing_holds_the_watermark),
          CLAIM(a_lane_that_detaches_holds_nothing_back),
          CLAIM(an_idle_lane_is_left_out_until_it_writes),
          CLAIM(when_all_are_idle_the_furthest_decides), CLAIM(the_watermark_never_goes_back),
          CLAIM(a_record_too_far_ahead_is_refused_and_moves_no_time),
          CLAIM(what_a_lane_says_of_times_too_far_ahead_is_not_believed),
          CLAIM(without_a_limit_every_time_is_taken))
