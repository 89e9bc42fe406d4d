#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "operators/registry.h"
#include "runtime/base/check.h"
#include "runtime/base/err.h"
#include "runtime/control/board.h"
#include "runtime/control/engine.h"
#include "runtime/control/kept.h"
#include "runtime/keeper/keeper.h"
#include "runtime/keeper/keeping.h"
#include "runtime/lane/lane_out.h"
#include "tests/support/folder.h"
#include "tests/support/test.h"

/*
 * Engines that are killed before they have come up. A board that is kept, and an engine that has one, are
 * not what they are in the middle of a life.
 */

#define RECORDS 100u

struct record {
    int64_t ts;
    uint64_t key;
};

static const char pipeline[] =
    "version: 1\npipeline: early\n"
    "schema: {event: {ts: time_ns, key: u64}}\n"
    "runtime: {workers: 1, partitions: 2, state_limit: 64MiB, state: state, lanes_max: 3}\n"
    "sources: {in: {schema: event, event_time: ts, partition_by: [key], cells: 256}}\n"
    "stages:\n"
    "  sums: {from: in, key: key, window: {type: tumbling, size: 1us}, aggregate: {c: count()}}\n"
    "sinks: {out: {from: sums, type: ring, rows: 64}}\n";

/* What the engines of a test say, and have in common. */
static struct shared {
    uint32_t runs;
    struct rml_board_totals totals;
    char pipeline[RML_BOARD_NAME];
    uint32_t lanes_max;
} * shared;

static struct folder folder;
static struct rml_plan *plan;

static int set_up(void **state)
{
    (void)state;
    struct rml_plan_errors errors = {0};
    folder = folder_make("/dev/shm");
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        return -1;
    return rml_plan_parse(pipeline, strlen(pipeline), "early.yaml", rml_operators_functions(),
                          &plan, &errors, NULL);
}

static int tear_down(void **state)
{
    (void)state;
    const char *inner = folder_file(&folder, "state");
    struct folder state_folder;
    snprintf(state_folder.path, sizeof state_folder.path, "%s", inner);
    folder_remove(&state_folder);
    folder_remove(&folder);
    rml_plan_close(plan);
    return munmap(shared, sizeof *shared);
}

static void say(void *context, const char *sentence)
{
    (void)context;
    print_message("%s\n", sentence);
}

static void note_pause(void *context, const char *why)
{
    (void)context;
    (void)why;
}

// Keep `engine` running until it ends by itself.
static void keep(void (*engine)(struct rml_keeping *keeping, uint32_t run))
{
    struct rml_keeper *keeper = NULL;
    struct rml_keeping *keeping = NULL;
    const struct rml_keeper_options options = {
        .restarts_most = 3, .within_ns = INT64_C(100000000000), .say = say, .paused = note_pause};
    struct rml_err err = {0};
    sigset_t blocked;
    int code = -1;
    pthread_sigmask(SIG_BLOCK, NULL, &blocked);
    assert_int_equal(rml_keeper_open(&keeper, &options, &err), 0);
    int rc = rml_keeper_run(keeper, &keeping, &code, &err);
    if (rc == 1) {
        engine(keeping, shared->runs++);
        _exit(0);
    }
    rml_keeper_close(keeper);
    pthread_sigmask(SIG_SETMASK, &blocked, NULL);
    assert_int_equal(rc, 0);
    assert_int_equal(code, 0);
}

static void die(void)
{
    kill(getpid(), SIGKILL);
    pause();
}

/* The board */

static void die_before_the_board_is_filled(struct rml_keeping *keeping, uint32_t run)
{
    struct rml_err err = {0};
    struct rml_board board;
    RML_CHECK(rml_board_open(&board, plan, run == 0 ? NULL : keeping, &rml_clock_system, 1, &err)
              == 0);
    if (run == 0) {
        // as the board is when it has been kept, and nothing else
        const struct rml_keeping_segment wanted = {.id = RML_KEPT_ID(RML_KEPT_BOARD, 0),
                                                   .name = "board",
                                                   .bytes = board.segment.bytes,
                                                   .mark_at = RML_KEEPER_DEATHMARK_NONE};
        struct rml_segment segment;
        bool again;
        RML_CHECK(rml_keeping_segment(keeping, &wanted, &segment, &again, &err) == 0);
        die();
    }
    memcpy(shared->pipeline, board.head->pipeline, sizeof shared->pipeline);
    shared->lanes_max = board.head->lanes_max;
}

static void a_board_whose_engine_died_before_it_was_filled_is_filled_by_the_next(void **state)
{
    (void)state;
    keep(die_before_the_board_is_filled);
    assert_int_equal(shared->runs, 2);
    assert_string_equal(shared->pipeline, "early");
    assert_int_equal(shared->lanes_max, 3);
}

/* An earlier life */

static struct rml_engine *open_engine(struct rml_keeping *keeping)
{
    const struct rml_engine_options options = {.plan = plan,
                                               .operators = rml_operators_table(),
                                               .clock = &rml_clock_system,
                                               .keeping = keeping,
                                               .folder = folder.path};
    struct rml_engine *engine;
    struct rml_err err = {0};
    RML_CHECK(rml_engine_open(&engine, &options, &err) == 0);
    return engine;
}

static void live(struct rml_keeping *keeping, uint32_t run)
{
    (void)run;
    struct rml_engine *engine = open_engine(keeping);
    struct rml_lane_out *out;
    uint32_t lane;
    RML_CHECK(rml_engine_start(engine, NULL) == 0);
    RML_CHECK(rml_engine_attach(engine, 0, NULL, &lane, NULL) == 0);
    struct rml_lane_in *in = rml_engine_lane(engine, lane);
    RML_CHECK(rml_lane_out_open(&out, rml_lane_in_geometry(in), rml_lane_in_fds(in), -1, NULL)
              == 0);
    for (uint32_t i = 0; i < RECORDS; i++) {
        const struct record record = {.ts = i * 10, .key = i};
        RML_CHECK(rml_lane_out_put(out, &record) == 1);
    }
    rml_lane_out_close(out);
    rml_engine_stop(engine);  // with a checkpoint
    rml_engine_close(engine);
}

static void die_before_anything_is_counted(struct rml_keeping *keeping, uint32_t run)
{
    if (run == 0) {
        struct rml_board board;
        RML_CHECK(rml_board_open(&board, plan, keeping, &rml_clock_system, 1, NULL) == 0);
        die();
    }
    struct rml_engine *engine = open_engine(keeping);
    rml_engine_totals(engine, &shared->totals);
    rml_engine_close(engine);
}

static void
an_earlier_life_is_counted_though_the_first_engine_of_this_one_died_coming_up(void **state)
{
    (void)state;
    keep(live);
    shared->runs = 0;
    keep(die_before_anything_is_counted);
    assert_int_equal(shared->runs, 2);
    assert_int_equal(shared->totals.source[0][RML_SOURCE_taken], RECORDS);
    assert_int_equal(shared->totals.published[0], RECORDS);
}

int main(void)
{
    const struct CMUnitTest claims[] = {
        cmocka_unit_test_setup_teardown(
            a_board_whose_engine_died_before_it_was_filled_is_filled_by_the_next, set_up,
            tear_down),
        cmocka_unit_test_setup_teardown(
            an_earlier_life_is_counted_though_the_first_engine_of_this_one_died_coming_up, set_up,
            tear_down),
    };
    return cmocka_run_group_tests(claims, NULL, NULL);
}
