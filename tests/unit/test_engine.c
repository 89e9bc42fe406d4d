#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

#include "operators/registry.h"
#include "runtime/base/err.h"
#include "runtime/control/engine.h"
#include "runtime/lane/lane_out.h"
#include "tests/support/test.h"

#define RECORDS  200000
#define ROWS_MAX 65536

struct record {
    int64_t ts;
    uint64_t key;
    int64_t n;
};

static const char pipeline[] =
    "version: 1\npipeline: engine\n"
    "schema: {event: {ts: time_ns, key: u64, n: i64}}\n"
    "runtime: {workers: %u, partitions: 4, state_limit: 64MiB}\n"
    "sources: {in: {schema: event, event_time: ts, partition_by: [key], out_of_order: 50ns, cells: 1024}}\n"
    "stages:\n"
    "  odd: {from: in, filter: n % 2 != 0}\n"
    "  sums: {from: odd, key: key, window: {type: tumbling, size: 1000ns, late: 100ns}, "
    "aggregate: {c: count(), s: sum(n)}}\n"
    "sinks: {out: {from: sums, type: jsonl, path: unused.jsonl}}\n";

struct rows {
    uint32_t count;
    size_t row_bytes;
    unsigned char bytes[ROWS_MAX][64];
};

static void keep_row(void *context, uint32_t sink, uint32_t from, const struct rml_result_row *row)
{
    struct rows *rows = context;
    assert_int_equal(sink, 0);
    assert_int_equal(from, 0);
    memcpy(rows->bytes[rows->count++], row->record, rows->row_bytes);
}

static struct rml_plan *read_plan(uint32_t workers)
{
    char text[2048];
    const char *gap = strstr(pipeline, "%u");
    int used =
        snprintf(text, sizeof text, "%.*s%u%s", (int)(gap - pipeline), pipeline, workers, gap + 2);
    struct rml_plan *plan = NULL;
    struct rml_plan_errors errors = {0};
    struct rml_err err = {0};
    int rc = rml_plan_parse(text, (size_t)used, "engine", rml_operators_functions(), &plan, &errors,
                            &err);
    if (rc < 0)
        print_message("%s %s\n", errors.count > 0 ? errors.list[0].text : "", err.text);
    assert_int_equal(rc, 0);
    rml_plan_errors_fini(&errors);
    return plan;
}

static struct record record_at(uint32_t i)
{
    uint64_t mixed = (i + 1) * UINT64_C(0x9e3779b97f4a7c15);
    return (struct record){.ts = (int64_t)i * 3 - (int64_t)(mixed >> 32 & 127),
                           .key = mixed >> 50 & 63,
                           .n = (int64_t)(mixed >> 40 & 1023)};
}

// Replay all records through one lane, publishing every `publish` records.
static void replay(uint32_t workers, uint32_t publish, struct rows *rows,
                   struct rml_board_totals *totals)
{
    struct rml_plan *plan = read_plan(workers);
    struct rml_err err = {0};
    struct rml_engine *engine = NULL;
    rows->count = 0;
    rows->row_bytes = plan->stages[1].output.record_bytes;
    assert_true(rows->row_bytes <= sizeof rows->bytes[0]);
    const struct rml_engine_options options = {
        .plan = plan,
        .operators = rml_operators_table(),
        .clock = &rml_clock_system,
        .replay = true,
        .row = keep_row,
        .row_context = rows,
    };
    assert_int_equal(rml_engine_open(&engine, &options, &err), 0);
    assert_int_equal(rml_engine_start(engine, &err), 0);
    uint32_t index;
    assert_int_equal(rml_engine_attach(engine, 0, NULL, &index, &err), 0);
    struct rml_lane_in *in = rml_engine_lane(engine, index);
    struct rml_lane_out *out;
    assert_int_equal(
        rml_lane_out_open(&out, rml_lane_in_geometry(in), rml_lane_in_fds(in), -1, &err), 0);
    rml_lane_out_publish_every(out, publish);
    for (uint32_t i = 0; i < RECORDS; i++) {
        struct record record = record_at(i);
        assert_int_equal(rml_lane_out_put(out, &record), 1);
    }
    rml_lane_out_close(out);
    rml_engine_drain(engine);
    assert_int_equal(rml_engine_lane_count(engine), 0);
    assert_int_equal(rml_engine_stop(engine), 0);
    rml_engine_totals(engine, totals);
    rml_engine_close(engine);
    rml_plan_close(plan);
}

static struct rows first, other;
static struct rml_board_totals totals;

static void every_record_leaves_by_one_door(void **state)
{
    (void)state;
    replay(2, 64, &first, &totals);
    assert_int_equal(totals.published[0], RECORDS);
    assert_int_equal(totals.dropped[0], 0);
    assert_int_equal(totals.source[0][RML_SOURCE_taken], RECORDS);
    assert_int_equal(totals.source[0][RML_SOURCE_delivered], RECORDS);
    uint64_t odd = 0;
    for (uint32_t i = 0; i < RECORDS; i++)
        odd += record_at(i).n % 2 != 0;
    assert_int_equal(totals.stage[0][RML_STAGE_passed], odd);
    assert_int_equal(totals.stage[0][RML_STAGE_filtered], RECORDS - odd);
    assert_int_equal(totals.stage[1][RML_STAGE_in], odd);
    assert_int_equal(totals.stage[1][RML_STAGE_aggregated] + totals.stage[1][RML_STAGE_late], odd);
    assert_int_equal(totals.stage[1][RML_STAGE_rows_out], first.count);
    assert_int_equal(totals.stage[1][RML_STAGE_keys], 0);
    assert_true(first.count > 10000);
}

static void workers_and_batches_never_show_in_the_bytes(void **state)
{
    (void)state;

    static const struct {
        uint32_t workers, publish;
    } ways[] = {{1, 1}, {1, 64}, {2, 7}, {3, 1000}, {4, 256}};

    replay(2, 64, &first, &totals);
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        replay(ways[i].workers, ways[i].publish, &other, &totals);
        assert_int_equal(other.count, first.count);
        for (uint32_t row = 0; row < first.count; row++)
            assert_memory_equal(other.bytes[row], first.bytes[row], first.row_bytes);
    }
}

static struct rml_engine *open_engine(struct rml_plan *plan)
{
    struct rml_engine *engine = NULL;
    struct rml_err err = {0};
    const struct rml_engine_options options = {.plan = plan,
                                               .operators = rml_operators_table(),
                                               .clock = &rml_clock_system,
                                               .replay = true,
                                               .row = keep_row,
                                               .row_context = &other};
    assert_int_equal(rml_engine_open(&engine, &options, &err), 0);
    return engine;
}

static void an_engine_that_was_never_started_closes(void **state)
{
    (void)state;
    struct rml_plan *plan = read_plan(2);
    rml_engine_close(open_engine(plan));
    rml_plan_close(plan);
}

static void lanes_are_limited_and_a_freed_number_is_given_again(void **state)
{
    (void)state;
    struct rml_plan *plan = read_plan(2);
    plan->lanes_max = 3;
    struct rml_engine *engine = open_engine(plan);
    struct rml_err err = {0};
    assert_int_equal(rml_engine_start(engine, &err), 0);
    uint32_t index;
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(rml_engine_attach(engine, 0, NULL, &index, &err), 0);
        assert_int_equal(index, i);
    }
    assert_int_equal(rml_engine_attach(engine, 0, NULL, &index, &err), -EMFILE);
    assert_non_null(strstr(err.text, "runtime.lanes_max"));

    rml_engine_finish(engine, 1);
    rml_engine_finish(engine, 1);  // twice is once
    rml_engine_cut_off(engine, 1, EPERM, "too late to say");
    while (rml_engine_lane_count(engine) == 3) {
        rml_engine_poll(engine);
        sched_yield();
    }
    assert_null(rml_engine_lane(engine, 1));
    assert_int_equal(rml_engine_attach(engine, 0, NULL, &index, &err), 0);
    assert_int_equal(index, 1);
    rml_engine_drain(engine);
    assert_int_equal(rml_engine_lane_count(engine), 0);
    rml_engine_close(engine);
    rml_plan_close(plan);
}

static void cells_that_cannot_be_are_refused_and_leave_nothing(void **state)
{
    (void)state;
    struct rml_plan *plan = read_plan(1);
    struct rml_engine *engine = open_engine(plan);
    struct rml_err err = {0};
    assert_int_equal(rml_engine_start(engine, &err), 0);
    uint32_t index;
    const uint32_t bad[] = {3, RML_ENGINE_CELLS_MAX * 2, UINT32_MAX};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        const struct rml_engine_producer producer = {.cells = bad[i], .program = "odd"};
        assert_int_equal(rml_engine_attach(engine, 0, &producer, &index, &err), -EINVAL);
    }
    assert_int_equal(rml_engine_lane_count(engine), 0);
    rml_engine_drain(engine);  // there is nothing to take, and it ends all the same
    assert_true(rml_engine_is_drained(engine));
    assert_int_equal(rml_engine_stop(engine), 0);
    rml_engine_close(engine);
    rml_plan_close(plan);
}

TEST_MAIN(CLAIM(every_record_leaves_by_one_door),
          CLAIM(workers_and_batches_never_show_in_the_bytes),
          CLAIM(an_engine_that_was_never_started_closes),
          CLAIM(lanes_are_limited_and_a_freed_number_is_given_again),
          CLAIM(cells_that_cannot_be_are_refused_and_leave_nothing))
