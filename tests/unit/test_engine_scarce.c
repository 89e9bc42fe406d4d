#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "operators/registry.h"
#include "runtime/base/err.h"
#include "runtime/control/engine.h"
#include "runtime/lane/lane_out.h"
#include "tests/support/descriptors.h"
#include "tests/support/folder.h"
#include "tests/support/random.h"
#include "tests/support/refusal.h"
#include "tests/support/test.h"

/*
 * An engine that comes up on a machine which refuses something. Each call is refused once, each in a life of
 * its own; threads that the engine starts have what they need.
 */

#define RECORDS 100u
#define STRIDE  (RML_TEST_SLOW ? 7u : 1u)  // of calls

static const char pipeline[] =
    "version: 1\npipeline: scarce\n"
    "schema: {event: {ts: time_ns, key: u64}}\n"
    "runtime: {workers: 2, partitions: 3, state_limit: 64MiB, state_prefault: 1MiB, lanes_max: 3%s}\n"
    "sources: {in: {schema: event, event_time: ts, partition_by: [key], cells: 256%s}}\n"
    "stages:\n"
    "  sums: {from: in, key: key, window: {type: tumbling, size: 1us}, aggregate: {c: count()}}\n"
    "sinks:\n"
    "  rows: {from: sums, type: ring, rows: 64}\n"
    "  file: {from: sums, type: csv, path: out.csv}\n%s";

static const struct life {
    const char *name, *runtime, *source, *sinks;
    bool replay;
} lives[] = {
    {"replay", "", "", "", true},
    {"without checkpoints", "", "", "", false},
    {"with checkpoints", ", state: state", "", "  table: {from: sums, type: lmdb}\n", false},
    {"with a journal", ", state: state", ", journal: true", "", false},
};

struct record {
    int64_t ts;
    uint64_t key;
};

/* A life */

static struct folder folder;

static struct rml_plan *read_plan(const struct life *life)
{
    char text[1024];
    int used = snprintf(text, sizeof text, pipeline, life->runtime, life->source, life->sinks);
    struct rml_plan *plan = NULL;
    struct rml_plan_errors errors = {0};
    struct rml_err err = {0};
    int rc = rml_plan_parse(text, (size_t)used, "scarce.yaml", rml_operators_functions(), &plan,
                            &errors, &err);
    if (rc < 0)
        print_message("%s %s\n", errors.count > 0 ? errors.list[0].text : "", err.text);
    assert_int_equal(rc, 0);
    rml_plan_errors_fini(&errors);
    return plan;
}

static void feed(struct rml_engine *engine, uint32_t lane)
{
    struct rml_lane_in *in = rml_engine_lane(engine, lane);
    struct rml_lane_out *out;
    struct rml_err err = {0};
    assert_int_equal(
        rml_lane_out_open(&out, rml_lane_in_geometry(in), rml_lane_in_fds(in), -1, &err), 0);
    for (uint32_t i = 0; i < RECORDS; i++) {
        const struct record record = {.ts = (int64_t)i * 10, .key = i};
        assert_int_equal(rml_lane_out_put(out, &record), 1);
    }
    rml_lane_out_close(out);
}

// Open, start, attach; what came of it, and what was refused, if anything was.
static int come_up(const struct life *life, const struct rml_plan *plan, uint32_t calls,
                   const char **ret_refused, struct rml_err *err)
{
    const struct rml_engine_options options = {.plan = plan,
                                               .operators = rml_operators_table(),
                                               .clock = &rml_clock_system,
                                               .replay = life->replay,
                                               .folder = folder.path};
    struct rml_engine *engine = NULL;
    uint32_t lane = UINT32_MAX;
    refusal_begin(calls);
    int rc = rml_engine_open(&engine, &options, err);
    if (rc == 0)
        rc = rml_engine_start(engine, err);
    bool is_up = rc == 0;
    if (rc == 0)
        rc = rml_engine_attach(engine, 0, NULL, &lane, err);
    *ret_refused = refusal_end();
    if (is_up && rc < 0)  // it says so, and the next one is let in
        assert_int_equal(rml_engine_attach(engine, 0, NULL, &lane, NULL), 0);
    if (lane != UINT32_MAX) {
        feed(engine, lane);
        struct rml_board_totals totals;
        rml_engine_drain(engine);
        rml_engine_stop(engine);
        rml_engine_totals(engine, &totals);
        assert_int_equal(totals.source[0][RML_SOURCE_taken] % RECORDS, 0);
        assert_true(totals.source[0][RML_SOURCE_taken] > 0);
    }
    rml_engine_close(engine);
    return rc;
}

static void an_engine_that_is_refused_anything_says_so_and_leaves_nothing_behind(void **state)
{
    (void)state;
    refusal_is_here = true;
    for (uint32_t i = 0; i < sizeof lives / sizeof lives[0]; i++) {
        struct rml_plan *plan = read_plan(&lives[i]);
        uint32_t refusals = 0, borne = 0, descriptors = 0;
        for (uint32_t calls = 0;; calls += STRIDE) {
            struct rml_err err = {0};
            const char *refused;
            int rc = come_up(&lives[i], plan, calls, &refused, &err);
            if (refused == NULL) {
                assert_int_equal(rc, 0);
                break;
            }
            refusals++;
            borne += rc == 0;
            if (rc < 0 && err.text[0] == '\0')
                fail_msg("%s: call %u (%s): %d, and no word", lives[i].name, calls, refused, rc);
            uint32_t now = descriptors_open();
            if (refusals > 1 && now != descriptors)
                fail_msg("%s: call %u (%s): %u descriptors after %u", lives[i].name, calls, refused,
                         now, descriptors);
            descriptors = now;
        }
        print_message("%s: %u refusals, %u of them borne\n", lives[i].name, refusals, borne);
        assert_true(refusals > 100 / STRIDE && borne < refusals);
        rml_plan_close(plan);
    }
}

static int set_up(void **state)
{
    (void)state;
    folder = folder_make("/dev/shm");
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    struct folder inner;
    snprintf(inner.path, sizeof inner.path, "%s", folder_file(&folder, "state"));
    folder_remove(&inner);
    folder_remove(&folder);
    return 0;
}

int main(void)
{
    const struct CMUnitTest claims[] = {
        cmocka_unit_test_setup_teardown(
            an_engine_that_is_refused_anything_says_so_and_leaves_nothing_behind, set_up,
            tear_down),
    };
    return cmocka_run_group_tests(claims, NULL, NULL);
}
