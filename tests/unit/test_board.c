#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "runtime/base/err.h"
#include "runtime/control/board.h"
#include "tests/support/plan.h"
#include "tests/support/test.h"
#include "tools/balance.h"

#define FILE_TEXT                                                                              \
 PLAN_HEAD                                                                                     \
 "runtime: {workers: 2, partitions: 3}\n"                                                      \
 "stages:\n"                                                                                   \
 "  ok: {from: calls, filter: status != 0}\n"                                                  \
 "  w:  {from: ok, key: model, window: {type: tumbling, size: 1s}, aggregate: {n: count()}}\n" \
 "  s:  {from: ok, key: model, window: {type: session, gap: 3s}, aggregate: {n: count()}}\n"   \
 "sinks: {out: {from: [w, w.late], type: jsonl, path: out.jsonl}}\n"

static struct rml_plan *plan;
static struct rml_board ours, theirs;
static struct rml_err err;

static int64_t held_wall(void *context)
{
    (void)context;
    return 1234;
}

static int64_t held_monotonic(void *context)
{
    (void)context;
    return 99;
}

static const struct rml_clock held_clock = {.wall_ns = held_wall, .monotonic_ns = held_monotonic};

static int open_both(void **state)
{
    (void)state;
    plan = plan_of(FILE_TEXT);
    assert_int_equal(rml_board_open(&ours, plan, NULL, &held_clock, 77, &err), 0);
    assert_int_equal(rml_board_attach(&theirs, ours.segment.fd, ours.segment.bytes, &err), 0);
    return 0;
}

static int close_both(void **state)
{
    (void)state;
    rml_board_close(&theirs);
    rml_board_close(&ours);
    rml_plan_close(plan);
    return 0;
}

static void who_attaches_sees_names_and_numbers(void **state)
{
    (void)state;
    assert_string_equal(theirs.head->pipeline, "llm");
    assert_string_equal(theirs.head->path, "test.yaml");
    assert_int_equal(theirs.head->partitions, 3);
    assert_int_equal(theirs.head->start_ns, 1234);
    assert_int_equal(theirs.head->start_monotonic_ns, 99);
    assert_int_equal(theirs.head->epoch, 77);
    assert_string_equal(theirs.sources[0].name, "calls");
    assert_string_equal(theirs.stages[1].name, "w");
    assert_int_equal(theirs.stages[1].from, 0);
    assert_int_equal(theirs.stages[0].from, RML_NO_STAGE);
    assert_int_equal(theirs.sinks[0].from_count, 2);
    assert_int_equal(theirs.sinks[0].from[1], 1 * 2 + 1);
    assert_int_equal(rml_board_cpu(&theirs, 1), -1);
    rml_board_pinned(&ours, 1, 5);
    assert_int_equal(rml_board_cpu(&theirs, 1), 5);
    rml_board_say(&ours, RML_BOARD_DRAINING);
    assert_int_equal(rml_board_state(&theirs), RML_BOARD_DRAINING);
}

static void who_attaches_cannot_write(void **state)
{
    (void)state;
    struct rml_segment again;
    assert_true(rml_segment_attach(&again, ours.segment.fd, ours.segment.bytes, true, &err) < 0);
    assert_int_equal(mprotect(theirs.segment.memory, 4096, PROT_READ | PROT_WRITE), -1);
}

static void a_lane_row_is_replaced_as_a_whole(void **state)
{
    (void)state;
    struct rml_board_lane lane = {.state = RML_BOARD_LANE_ATTACHED,
                                  .pid = 9,
                                  .published = 10,
                                  .taken = 7,
                                  .program = "feeder"};
    struct rml_board_lane seen;
    rml_board_lane_read(&theirs, 3, &seen);
    assert_int_equal(seen.state, RML_BOARD_LANE_FREE);
    rml_board_lane_write(&ours, 3, &lane);
    rml_board_lane_read(&theirs, 3, &seen);
    assert_memory_equal(&seen, &lane, sizeof seen);
    rml_board_lane_read(&theirs, 2, &seen);
    assert_int_equal(seen.state, RML_BOARD_LANE_FREE);
}

static void a_closed_lane_tells_why_until_its_number_is_used_again(void **state)
{
    (void)state;
    struct rml_board_lane lane = {
        .state = RML_BOARD_LANE_ENDING, .program = "feeder", .reason = "it lied"};
    struct rml_board_lane seen;
    char reason[RML_BOARD_NAME];
    assert_false(rml_board_lane_closed(&theirs, 3, &seen));
    rml_board_lane_write(&ours, 3, &lane);
    assert_false(rml_board_lane_closed(&theirs, 3, &seen));
    // one that is on its way out goes on so with the next engine
    rml_board_lane_reason(&ours, 3, reason);
    assert_string_equal(reason, "it lied");
    lane.state = RML_BOARD_LANE_CLOSED;
    rml_board_lane_write(&ours, 3, &lane);
    assert_true(rml_board_lane_closed(&theirs, 3, &seen));
    assert_string_equal(seen.reason, "it lied");
    rml_board_lane_read(&theirs, 3, &seen);
    assert_int_equal(seen.state, RML_BOARD_LANE_FREE);
    // and says nothing of a lane that had just come when its engine died
    rml_board_lane_reason(&ours, 3, reason);
    assert_string_equal(reason, "");
    lane = (struct rml_board_lane){.state = RML_BOARD_LANE_ATTACHED};
    rml_board_lane_write(&ours, 3, &lane);
    assert_false(rml_board_lane_closed(&theirs, 3, &seen));
}

static void totals_add_partitions_up_and_take_the_least_watermark(void **state)
{
    (void)state;
    for (uint32_t p = 0; p < 3; p++) {
        rml_count(&ours.source_counts[p].value[RML_SOURCE_taken], 10 + p);
        rml_count_set(&ours.source_counts[p].value[RML_SOURCE_watermark],
                      (uint64_t)(INT64_C(5) - (int64_t)p * 4));
        rml_count(&ours.stage_counts[(size_t)p * 3 + 1].value[RML_STAGE_rows_out], 1);
    }
    struct rml_board_lane lane = {.state = RML_BOARD_LANE_ENDING, .published = 30, .dropped = 2};
    rml_board_lane_write(&ours, 0, &lane);
    rml_count(&ours.sources[0].published_gone, 3);
    static struct rml_board_totals totals;
    rml_board_total(&theirs, &totals);
    assert_int_equal(totals.source[0][RML_SOURCE_taken], 33);
    assert_int_equal((int64_t)totals.source[0][RML_SOURCE_watermark], -3);
    assert_int_equal(totals.stage[1][RML_STAGE_rows_out], 3);
    assert_int_equal(totals.stage[0][RML_STAGE_rows_out], 0);
    assert_int_equal(totals.published[0], 33);
    assert_int_equal(totals.dropped[0], 2);
}

static void a_balance_can_be_drawn_from_a_board_alone(void **state)
{
    (void)state;
    static struct rml_balance from_plan, from_board;
    rml_balance_init(&from_plan, plan);
    rml_balance_init_board(&from_board, &theirs);
    assert_int_equal(from_board.source_count, from_plan.source_count);
    assert_int_equal(from_board.stage_count, from_plan.stage_count);
    for (uint32_t i = 0; i < from_plan.stage_count; i++) {
        assert_string_equal(from_board.stages[i].name, from_plan.stages[i].name);
        assert_int_equal(from_board.stages[i].source, from_plan.stages[i].source);
        assert_int_equal(from_board.stages[i].from, from_plan.stages[i].from);
        assert_int_equal(from_board.stages[i].from_late, from_plan.stages[i].from_late);
    }
}

static void assert_same_schema(const struct rml_schema *a, const struct rml_schema *b)
{
    assert_string_equal(a->name, b->name);
    assert_int_equal(a->hash, b->hash);
    assert_int_equal(a->record_bytes, b->record_bytes);
    assert_int_equal(a->field_count, b->field_count);
    for (uint32_t i = 0; i < a->field_count; i++) {
        assert_string_equal(a->fields[i].name, b->fields[i].name);
        assert_int_equal(a->fields[i].type, b->fields[i].type);
        assert_int_equal(a->fields[i].offset, b->fields[i].offset);
        assert_int_equal(a->fields[i].nullable, b->fields[i].nullable);
    }
}

static void the_layout_of_rows_can_be_made_again(void **state)
{
    (void)state;
    static struct rml_schema schema;
    for (uint32_t i = 0; i < 2; i++) {
        assert_int_equal(rml_board_rows(&theirs, i, false, &schema, &err), 0);
        assert_same_schema(&schema, &plan->stages[i].output);
    }
    assert_int_equal(rml_board_rows(&theirs, 1, true, &schema, &err), 0);
    assert_same_schema(&schema, &plan->sources[0].schema);
}

static void a_layout_that_cannot_be_is_refused(void **state)
{
    (void)state;
    static struct rml_schema schema;
    struct rml_board_schema *rows = &theirs.schemas[2], good = *rows;  // its copy
    rows->field_count = RML_FIELDS_MAX + 1;
    assert_int_equal(rml_board_rows(&theirs, 1, false, &schema, &err), -EPROTO);
    rows->field_count = 0;
    assert_int_equal(rml_board_rows(&theirs, 1, false, &schema, &err), -EPROTO);
    *rows = good;
    rows->fields[1].type = RML_TYPES;
    assert_int_equal(rml_board_rows(&theirs, 1, false, &schema, &err), -EPROTO);
    *rows = good;
    rows->fields[1] = rows->fields[0];
    assert_int_equal(rml_board_rows(&theirs, 1, false, &schema, &err), -EPROTO);
    *rows = good;
    rows->has_nulls = 0;
    rows->fields[0].nullable = 1;
    assert_int_equal(rml_board_rows(&theirs, 1, false, &schema, &err), -EPROTO);
    *rows = good;
    rows->hash++;
    assert_int_equal(rml_board_rows(&theirs, 1, false, &schema, &err), -EPROTO);
    assert_string_equal(err.text, "the rows of w: its fields do not lie as the engine says");
    memset(rows->name, 'x', sizeof rows->name);
    assert_int_equal(rml_board_rows(&theirs, 1, false, &schema, &err), -EPROTO);
}

/* Another user's engine may do that. */
static void what_an_engine_says_of_its_plan_later_changes_nothing_for_who_has_looked(void **state)
{
    (void)state;
    static struct rml_board_totals totals;
    static struct rml_schema schema;
    const struct rml_board_head was = *ours.head;
    ours.head->sources = ours.head->stages = ours.head->sinks = UINT32_MAX;
    ours.head->partitions = ours.head->workers = ours.head->lanes_max = UINT32_MAX;
    memset(ours.head->path, 'x', sizeof ours.head->path);
    memset(ours.sources[0].name, 'x', sizeof ours.sources[0].name);
    ours.stages[1].source = UINT32_MAX;
    ours.schemas[2].field_count = UINT32_MAX;
    assert_int_equal(theirs.head->sources, was.sources);
    assert_int_equal(theirs.head->lanes_max, was.lanes_max);
    assert_string_equal(theirs.head->path, "test.yaml");
    assert_string_equal(theirs.sources[0].name, "calls");
    rml_board_total(&theirs, &totals);
    assert_int_equal(rml_board_rows(&theirs, 1, true, &schema, &err), 0);
    rml_board_say(&ours, RML_BOARD_DRAINING);
    assert_int_equal(rml_board_state(&theirs), RML_BOARD_DRAINING);
    *ours.head = was;
}

/* A copy of our board in which a word may be changed: what comes of attaching it. */
static struct rml_board forged;

static void forge(void)
{
    assert_int_equal(rml_segment_open_ours(&forged.segment, "forged", ours.segment.bytes, &err), 0);
    char *memory = forged.segment.memory;
    const char *from = ours.segment.memory;
    memcpy(memory, from, ours.segment.bytes);
    forged.head = (void *)memory;
    forged.sources = (void *)(memory + ((const char *)ours.sources - from));
    forged.stages = (void *)(memory + ((const char *)ours.stages - from));
    forged.sinks = (void *)(memory + ((const char *)ours.sinks - from));
}

static int attach_forged(void)
{
    struct rml_board board;
    int rc = rml_board_attach(&board, forged.segment.fd, forged.segment.bytes, &err);
    rml_board_close(&board);
    rml_segment_close(&forged.segment);
    return rc;
}

#define FORGED(change) (forge(), (void)(change), attach_forged())

static void another_version_is_told_from_what_is_no_board(void **state)
{
    (void)state;
    assert_int_equal(FORGED(0), 0);
    assert_int_equal(FORGED(forged.head->version++), -EPROTONOSUPPORT);
    assert_non_null(strstr(err.text, "(version of the board: "));
    assert_int_equal(FORGED(forged.head->stage_counters--), -EPROTONOSUPPORT);
    char differs[64];
    snprintf(differs, sizeof differs, "(number of a stage's counters: %d, here %d)",
             RML_STAGE_COUNTERS - 1, RML_STAGE_COUNTERS);
    assert_non_null(strstr(err.text, differs));
    assert_non_null(strstr(err.text, "use the ringctl that was built with its ringmill"));
    assert_int_equal(FORGED(forged.head->journal_counters++), -EPROTONOSUPPORT);
    assert_non_null(strstr(err.text, "(number of the journal's counters: "));
    assert_int_equal(
        FORGED(atomic_fetch_add_explicit(&forged.head->magic, 1, memory_order_relaxed)), -EPROTO);
    struct rml_board board;
    assert_int_equal(rml_board_attach(&board, ours.segment.fd, ours.segment.bytes - 4096, &err),
                     -EPROTO);
}

static void a_board_that_contradicts_itself_is_refused(void **state)
{
    (void)state;
    assert_int_equal(FORGED(forged.head->sources = 17), -EPROTO);
    assert_int_equal(FORGED(forged.head->stages = UINT32_MAX), -EPROTO);
    assert_int_equal(FORGED(forged.head->partitions = 0), -EPROTO);
    assert_int_equal(FORGED(forged.head->lanes_max++), -EPROTO);
    assert_int_equal(FORGED(forged.head->bytes--), -EPROTO);
    assert_int_equal(FORGED(memset(forged.head->path, 'x', sizeof forged.head->path)), -EPROTO);
    assert_int_equal(FORGED(memset(forged.sources[0].name, 'x', sizeof forged.sources[0].name)),
                     -EPROTO);
    assert_int_equal(FORGED(forged.sources[0].on_full = 2), -EPROTO);
    assert_int_equal(FORGED(forged.stages[0].kind = 99), -EPROTO);
    assert_int_equal(FORGED(forged.stages[1].window = 99), -EPROTO);
    assert_int_equal(FORGED(forged.stages[1].source = 1), -EPROTO);
    assert_int_equal(FORGED(forged.stages[0].from = 1), -EPROTO);
    assert_int_equal(FORGED(forged.sinks[0].kind = 99), -EPROTO);
    assert_int_equal(FORGED(forged.sinks[0].from_count = RML_STAGES_MAX + 1), -EPROTO);
    assert_int_equal(FORGED(forged.sinks[0].from[1] = 6), -EPROTO);
}

#define WITH_BOARDS(name) cmocka_unit_test_setup_teardown(name, open_both, close_both)

static void a_lane_that_is_gone_is_counted_once_however_often_it_is_counted(void **state)
{
    (void)state;
    static struct rml_board_totals totals;
    struct rml_board_lane lane = {.state = RML_BOARD_LANE_ENDING, .published = 30, .dropped = 2},
                          seen;
    rml_count(&ours.sources[0].published_gone, 100);
    rml_board_lane_write(&ours, 5, &lane);
    assert_false(rml_board_is_gone(&ours, 5));
    rml_board_lane_gone(&ours, 5, &lane);
    for (int again = 0; again < 3; again++) {
        rml_board_lane_read(&theirs, 5, &seen);
        assert_int_equal(seen.state, RML_BOARD_LANE_FREE);
        rml_board_total(&theirs, &totals);
        assert_int_equal(totals.published[0], 130);
        assert_int_equal(totals.dropped[0], 2);
        assert_int_equal(rml_count_read(&theirs.live_sources[0].lanes_gone), 1);
        // one that died between the words of the source
        rml_count_set(&ours.sources[0].published_gone, again == 0 ? 100 : 130);
        assert_true(rml_board_is_gone(&ours, 5));
    }
    lane.state = RML_BOARD_LANE_FREE;
    rml_board_lane_write(&ours, 5, &lane);
    assert_false(rml_board_is_gone(&ours, 5));
}

static void a_row_that_an_engine_died_in_is_written_again_by_the_next(void **state)
{
    (void)state;
    struct rml_board_lane lane = {.state = RML_BOARD_LANE_ATTACHED, .published = 30}, seen;
    rml_board_lane_write(&ours, 1, &lane);
    _Atomic uint64_t *stamp = (void *)ours.lanes;  // of row 0; rows lie side by side
    size_t words =
        ((size_t)((unsigned char *)ours.death - (unsigned char *)ours.lanes) / ours.head->lanes_max
         + 63)
        / 64 * 64 / sizeof *stamp;
    stamp += words;
    rml_count(stamp, 1);  // odd
    rml_board_lane_read(&theirs, 1, &seen);
    assert_int_equal(seen.state, RML_BOARD_LANE_FREE);
    assert_false(rml_board_is_gone(&ours, 1));
    rml_board_lane_write(&ours, 1, &lane);
    rml_board_lane_read(&theirs, 1, &seen);
    assert_memory_equal(&seen, &lane, sizeof seen);
}

static void what_partitions_held_is_lost_and_said_to_be(void **state)
{
    (void)state;
    static struct rml_board_totals totals;
    rml_count_set(&ours.stage_counts[1].value[RML_STAGE_keys], 12);
    rml_count_set(&ours.stage_counts[2].value[RML_STAGE_panes], 3);  // of no key
    rml_count_set(&ours.stage_counts[4].value[RML_STAGE_keys], 30);
    rml_count_set(&ours.stage_counts[4].value[RML_STAGE_state_bytes], 4096);
    rml_board_lose_state(&ours);
    rml_board_lose_state(&ours);  // there is nothing more to lose
    rml_board_total(&theirs, &totals);
    assert_int_equal(totals.stage[1][RML_STAGE_keys_lost], 42);
    assert_int_equal(totals.stage[2][RML_STAGE_keys_lost], 1);
    assert_int_equal(totals.stage[1][RML_STAGE_keys], 0);
    assert_int_equal(totals.stage[1][RML_STAGE_state_bytes], 0);
    assert_int_equal(totals.stage[2][RML_STAGE_panes], 0);
}

TEST_MAIN(WITH_BOARDS(a_lane_that_is_gone_is_counted_once_however_often_it_is_counted),
          WITH_BOARDS(a_row_that_an_engine_died_in_is_written_again_by_the_next),
          WITH_BOARDS(what_partitions_held_is_lost_and_said_to_be),
          WITH_BOARDS(who_attaches_sees_names_and_numbers), WITH_BOARDS(who_attaches_cannot_write),
          WITH_BOARDS(a_lane_row_is_replaced_as_a_whole),
          WITH_BOARDS(a_closed_lane_tells_why_until_its_number_is_used_again),
          WITH_BOARDS(totals_add_partitions_up_and_take_the_least_watermark),
          WITH_BOARDS(a_balance_can_be_drawn_from_a_board_alone),
          WITH_BOARDS(the_layout_of_rows_can_be_made_again),
          WITH_BOARDS(a_layout_that_cannot_be_is_refused),
          WITH_BOARDS(what_an_engine_says_of_its_plan_later_changes_nothing_for_who_has_looked),
          WITH_BOARDS(another_version_is_told_from_what_is_no_board),
          WITH_BOARDS(a_board_that_contradicts_itself_is_refused))
