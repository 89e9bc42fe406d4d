#include <string.h>

#include "runtime/control/board.h"
#include "tests/support/plan.h"
#include "tests/support/test.h"
#include "tools/look.h"

#define SECOND INT64_C(1000000000)

static struct rml_plan *plan;
static struct rml_board board;
static struct rml_look before, after;

static int open_board(void **state)
{
    (void)state;
    plan = plan_of(PLAN_HEAD
                   "stages:\n"
                   "  ok: {from: calls, filter: status != 0}\n"
                   "  w: {from: ok, key: model, window: {type: tumbling, size: 1s}, aggregate: {n: "
                   "count()}}\n"
                   "sinks: {out: {from: w, type: jsonl, path: out.jsonl}}\n");
    return rml_board_open(&board, plan, NULL, &rml_clock_system, 1, NULL);
}

static int close_board(void **state)
{
    (void)state;
    rml_board_close(&board);
    rml_plan_close(plan);
    return 0;
}

static void count_worker(enum rml_worker_counter counter, uint64_t add)
{
    rml_count(&board.worker_counts[0].value[counter], add);
}

static void a_rate_is_what_was_gained_in_the_time_between(void **state)
{
    (void)state;
    rml_look_take(&before, &board, 10 * SECOND);
    rml_count(&board.source_counts[0].value[RML_SOURCE_taken], 300);
    rml_look_take(&after, &board, 12 * SECOND);
    assert_float_equal(rml_look_rate(&before, &after, before.totals.source[0][RML_SOURCE_taken],
                                     after.totals.source[0][RML_SOURCE_taken]),
                       150, 1e-9);
}

static void without_time_between_or_with_less_than_before_the_rate_is_zero(void **state)
{
    (void)state;
    rml_look_take(&before, &board, 10 * SECOND);
    after = before;
    assert_float_equal(rml_look_rate(&before, &after, 0, 5), 0, 0);
    after.at_ns++;
    assert_float_equal(rml_look_rate(&before, &after, 5, 0), 0, 0);
}

static void a_worker_is_busy_while_it_does_not_sleep(void **state)
{
    (void)state;
    rml_look_take(&before, &board, 10 * SECOND);
    count_worker(RML_WORKER_parked_ns, (uint64_t)SECOND / 4);
    rml_look_take(&after, &board, 11 * SECOND);
    assert_float_equal(rml_look_busy(&before, &after, 0), 0.75, 1e-9);
}

static void a_worker_that_sleeps_on_is_not_busy(void **state)
{
    (void)state;
    rml_count_set(&board.worker_counts[0].value[RML_WORKER_asleep_since],
                  (uint64_t)(10 * SECOND + SECOND / 2));
    rml_look_take(&before, &board, 10 * SECOND);  // a moment before the word came
    rml_look_take(&after, &board, 11 * SECOND);
    assert_float_equal(rml_look_busy(&before, &after, 0), 0.5, 1e-9);
    rml_look_take(&before, &board, 11 * SECOND);
    rml_look_take(&after, &board, 12 * SECOND);
    assert_float_equal(rml_look_busy(&before, &after, 0), 0, 1e-9);
}

static void a_sleep_counted_in_two_words_at_once_makes_nobody_less_than_idle(void **state)
{
    (void)state;
    rml_look_take(&before, &board, 10 * SECOND);
    count_worker(RML_WORKER_parked_ns, (uint64_t)(3 * SECOND));
    rml_look_take(&after, &board, 11 * SECOND);
    assert_float_equal(rml_look_busy(&before, &after, 0), 0, 0);
}

static void a_stage_lets_out_what_its_kind_counts(void **state)
{
    (void)state;
    rml_count(&board.stage_counts[0].value[RML_STAGE_passed], 7);
    rml_count(&board.stage_counts[1].value[RML_STAGE_rows_out], 2);
    rml_look_take(&after, &board, 0);
    assert_int_equal(rml_look_out(&after, &board, 0), 7);
    assert_int_equal(rml_look_out(&after, &board, 1), 2);
}

#define WITH_BOARD(name) cmocka_unit_test_setup_teardown(name, open_board, close_board)

TEST_MAIN(WITH_BOARD(a_rate_is_what_was_gained_in_the_time_between),
          WITH_BOARD(without_time_between_or_with_less_than_before_the_rate_is_zero),
          WITH_BOARD(a_worker_is_busy_while_it_does_not_sleep),
          WITH_BOARD(a_worker_that_sleeps_on_is_not_busy),
          WITH_BOARD(a_sleep_counted_in_two_words_at_once_makes_nobody_less_than_idle),
          WITH_BOARD(a_stage_lets_out_what_its_kind_counts))
