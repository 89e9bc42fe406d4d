#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/err.h"
#include "runtime/plan/functions.h"
#include "runtime/plan/plan.h"
#include "runtime/time/time.h"
#include "tests/support/plan.h"
#include "tests/support/test.h"

#define MS INT64_C(1000000)
#define S  INT64_C(1000000000)

// The example of the design, as far as this version goes.
static const char llm[] =
    "version: 1\n"
    "pipeline: llm\n"
    "schema:\n"
    "  llm_call:\n"
    "    ts:         time_ns\n"
    "    request_id: u64\n"
    "    model:      str16\n"
    "    status:     u16\n"
    "    latency_ms: f32\n"
    "    tokens:     u32\n"
    "runtime: {workers: 2, partitions: 4, cpus: [0, 1], state_limit: 64MiB, max_keys: 1000}\n"
    "sources:\n"
    "  calls: {schema: llm_call, event_time: ts, out_of_order: 200ms, idle_after: 1s,\n"
    "          cells: 1024, on_full: drop_newest}\n"
    "stages:\n"
    "  per_minute: {from: marked, key: [model, failed], window: {type: sliding, size: 60s,\n"
    "               every: 5s}, aggregate: {calls: count()}}\n"
    "  ok:         {from: calls, filter: status != 0 and latency_ms >= 0}\n"
    "  marked:     {from: ok, map: {failed: status >= 500 or status == 429}}\n"
    "  per_second:\n"
    "    from: marked\n"
    "    key: model\n"
    "    window: {type: tumbling, size: 1s, offset: -300ms, late: 2s}\n"
    "    aggregate:\n"
    "      calls:  count()\n"
    "      errors: count_if( failed )\n"
    "      wasted: count_if(status >= 400)\n"
    "      again:  count_if(status >= 400)\n"
    "      tokens: sum(tokens)\n"
    "  corrected:  {from: per_second.late, filter: failed}\n"
    "sinks:\n"
    "  archive: {from: [per_second, per_minute], type: jsonl, path: llm.jsonl}\n"
    "  missed:  {from: per_second.late, type: csv, path: \"-\", times: rfc3339}\n"
    "  live:    {from: per_second, type: ring, rows: 128}\n"
    "tests:\n"
    "  - name: a 429 counts as an error\n"
    "    feed: {calls: [{ts: 1ms, model: a, status: 429, latency_ms: 3}]}\n"
    "    advance: 5s\n"
    "    expect: {per_second: [{window: [0s, 1s], model: a, calls: 1, tokens: null}]}\n";

static void units_become_nanoseconds_bytes_and_indices(void **state)
{
    (void)state;
    struct rml_plan *plan = plan_of(llm);
    assert_string_equal(plan->name, "llm");
    assert_int_equal(plan->workers, 2);
    assert_int_equal(plan->partitions, 4);
    assert_int_equal(plan->cpu_count, 2);
    assert_int_equal(plan->cpus[1], 1);
    assert_int_equal(plan->state_bytes_max, 64 << 20);
    assert_int_equal(plan->keys_max, 1000);
    assert_int_equal(plan->lanes_max, 256);

    const struct rml_plan_source *calls = &plan->sources[0];
    assert_string_equal(calls->name, "calls");
    assert_int_equal(calls->time_field, 0);
    assert_int_equal(calls->out_of_order_ns, 200 * MS);
    assert_int_equal(calls->idle_after_ns, 1 * S);
    assert_int_equal(calls->cells, 1024);
    assert_int_equal(calls->on_full, RML_ON_FULL_DROP_NEWEST);
    assert_int_equal(calls->schema.field_count, 6);

    const struct rml_plan_sink *missed = &plan->sinks[1];
    assert_int_equal(missed->kind, RML_SINK_CSV);
    assert_string_equal(missed->path, "-");
    assert_true(missed->rfc3339);
    assert_true(missed->from[0].late);
    assert_int_equal(plan->sinks[2].rows, 128);
    rml_plan_close(plan);
}

static void a_table_has_bounds_unless_it_is_told_otherwise(void **state)
{
    (void)state;

    static const struct {
        const char *options;
        int64_t keep_ns;
        uint64_t rows_max;
    } cases[] = {
        {"", 0, 1000000},        {", keep: 24h", 24 * 3600 * S, 0},
        {", max_rows: 5", 0, 5}, {", keep: 1s, max_rows: 7", 1 * S, 7},
        {", max_rows: 0", 0, 0},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[600];
        snprintf(text, sizeof text,
                 PLAN_HEAD "runtime: {partitions: 1, state: ./state}\n"
                           "stages: {all: {from: calls, filter: true}}\n"
                           "sinks: {t: {from: all, type: lmdb%s}}\n",
                 cases[i].options);
        struct rml_plan *plan = plan_of(text);
        assert_int_equal(plan->sinks[0].kind, RML_SINK_TABLE);
        assert_int_equal(plan->sinks[0].keep_ns, cases[i].keep_ns);
        assert_int_equal(plan->sinks[0].rows_max, cases[i].rows_max);
        rml_plan_close(plan);
    }
}

static void a_parent_stands_before_its_children(void **state)
{
    (void)state;
    struct rml_plan *plan = plan_of(llm);
    assert_int_equal(plan->stage_count, 5);
    for (uint32_t i = 0; i < plan->stage_count; i++)
        assert_true(plan->stages[i].from == RML_NO_STAGE || plan->stages[i].from < i);
    const struct rml_plan_stage *corrected = &plan->stages[rml_plan_stage_find(plan, "corrected")];
    assert_true(corrected->from_late);
    assert_int_equal(corrected->from, rml_plan_stage_find(plan, "per_second"));
    assert_int_equal(rml_plan_stage_find(plan, "nobody"), UINT32_MAX);
    rml_plan_close(plan);
}

static void a_map_adds_a_column_that_only_its_children_see(void **state)
{
    (void)state;
    struct rml_plan *plan = plan_of(llm);
    const struct rml_plan_stage *ok = &plan->stages[rml_plan_stage_find(plan, "ok")];
    const struct rml_plan_stage *marked = &plan->stages[rml_plan_stage_find(plan, "marked")];
    assert_int_equal(ok->visible[0], 0x3f);
    assert_int_equal(marked->mapped_count, 1);
    assert_int_equal(marked->mapped[0].column, 6);
    assert_int_equal(marked->visible[0], 0x7f);
    assert_string_equal(plan->sources[0].frame.columns[6].name, "failed");
    assert_int_equal(plan->sources[0].frame.columns[6].field, RML_FIELD_ABSENT);
    assert_int_equal(marked->output.field_count, 7);
    assert_int_equal(marked->output_columns[6], 6);
    rml_plan_close(plan);
}

static void aggregates_use_a_plain_column_as_it_is_and_share_equal_expressions(void **state)
{
    (void)state;
    struct rml_plan *plan = plan_of(llm);
    const struct rml_plan_stage *stage = &plan->stages[rml_plan_stage_find(plan, "per_second")];
    assert_int_equal(stage->aggregate_count, 5);
    assert_int_equal(stage->aggregates[0].column, RML_FIELD_ABSENT);
    assert_int_equal(stage->aggregates[1].column, 6);
    assert_int_equal(stage->mapped_count, 1);
    assert_int_equal(stage->aggregates[2].column, stage->mapped[0].column);
    assert_int_equal(stage->aggregates[3].column, stage->mapped[0].column);
    assert_int_equal(stage->aggregates[4].column, 5);
    // nobody below sees the column that exists for an argument alone
    assert_int_equal(stage->visible[0], 0x7f);
    rml_plan_close(plan);
}

static void a_window_puts_out_its_bounds_keys_revision_and_aggregates(void **state)
{
    (void)state;
    struct rml_plan *plan = plan_of(llm);
    const struct rml_schema *output = &plan->stages[rml_plan_stage_find(plan, "per_second")].output;
    static const char *const names[] = {"window_start", "window_end", "model", "revision", "calls",
                                        "errors",       "wasted",     "again", "tokens"};
    assert_int_equal(output->field_count, 9);
    for (uint32_t i = 0; i < 9; i++)
        assert_string_equal(output->fields[i].name, names[i]);
    assert_true(output->has_nulls);
    assert_false(output->fields[4].nullable);
    assert_true(output->fields[8].nullable);
    assert_int_equal(output->fields[3].type, RML_U32);
    rml_plan_close(plan);
}

static void readers_are_noted_at_what_they_read(void **state)
{
    (void)state;
    struct rml_plan *plan = plan_of(llm);
    const struct rml_plan_stage *second = &plan->stages[rml_plan_stage_find(plan, "per_second")];
    const struct rml_plan_stage *minute = &plan->stages[rml_plan_stage_find(plan, "per_minute")];
    const struct rml_plan_stage *corrected = &plan->stages[rml_plan_stage_find(plan, "corrected")];
    assert_true(second->has_reader && second->late_has_reader);
    assert_true(minute->has_reader && !minute->late_has_reader);
    assert_true(!corrected->has_reader);
    rml_plan_close(plan);
}

static void offsets_are_taken_into_the_first_period(void **state)
{
    (void)state;
    struct rml_plan *plan = plan_of(llm);
    const struct rml_plan_window *second =
        &plan->stages[rml_plan_stage_find(plan, "per_second")].window;
    const struct rml_plan_window *minute =
        &plan->stages[rml_plan_stage_find(plan, "per_minute")].window;
    assert_int_equal(second->offset_ns, 700 * MS);
    assert_int_equal(second->every_ns, 1 * S);
    assert_int_equal(second->pane_ns, 1 * S);
    assert_int_equal(minute->pane_ns, 5 * S);
    rml_plan_close(plan);
}

static void the_partition_key_is_what_all_keys_have_in_common(void **state)
{
    (void)state;
    struct rml_plan *plan = plan_of(llm);
    assert_int_equal(plan->sources[0].partition_field_count, 1);
    assert_int_equal(plan->sources[0].partition_fields[0], 2);
    assert_true(plan->stages[rml_plan_stage_find(plan, "per_second")].key_is_partition_key);
    assert_false(plan->stages[rml_plan_stage_find(plan, "per_minute")].key_is_partition_key);
    assert_int_equal(plan->stages[rml_plan_stage_find(plan, "per_minute")].key_bytes, 17);
    rml_plan_close(plan);
}

static void tests_keep_their_values_as_text_with_its_place(void **state)
{
    (void)state;
    struct rml_plan *plan = plan_of(llm);
    assert_int_equal(plan->test_count, 1);
    const struct rml_plan_test *test = &plan->tests[0];
    assert_string_equal(test->name, "a 429 counts as an error");
    assert_int_equal(test->advance_ns, 5 * S);
    const struct rml_plan_test_row *fed = &test->feed[0].rows[0];
    assert_int_equal(fed->count, 4);
    assert_string_equal(fed->values[0].text, "1000000");  // a time is integer nanoseconds
    assert_string_equal(fed->values[2].name, "status");
    assert_string_equal(fed->values[2].text, "429");
    assert_int_equal(fed->values[2].line, 37);
    assert_int_equal(fed->values[2].column, 48);
    const struct rml_plan_test_row *expected = &test->expect[0].rows[0];
    assert_string_equal(expected->values[0].name, "window_start");
    assert_string_equal(expected->values[1].name, "window_end");
    assert_string_equal(expected->values[1].text, "1000000000");
    assert_null(expected->values[4].text);
    rml_plan_close(plan);
}

/* Whether some watermark matters in (from, to]: an end, or `late` after one, of any window stage. */
static bool matters_between(const struct rml_plan *plan, int64_t from, int64_t to)
{
    for (uint32_t i = 0; i < plan->stage_count; i++) {
        const struct rml_plan_window *window = &plan->stages[i].window;
        if (plan->stages[i].kind != RML_STAGE_WINDOW)
            continue;
        for (int late = 0; late < 2; late++) {
            int64_t point = window->offset_ns + window->size_ns + late * window->late_ns;
            if (rml_time_floor_div(from - point, window->every_ns)
                != rml_time_floor_div(to - point, window->every_ns))
                return true;
        }
    }
    return false;
}

static void every_watermark_that_matters_lies_on_the_grid(void **state)
{
    (void)state;
    static const char *const windows[][2] = {
        {"{type: tumbling, size: 1s, late: 2s}", "{type: sliding, size: 60s, every: 5s}"},
        {"{type: tumbling, size: 1s, offset: 250ms}", "{type: tumbling, size: 2s, late: 300ms}"},
        {"{type: sliding, size: 7s, every: 3s, offset: -1s}", "{type: tumbling, size: 9s}"},
        {"{type: tumbling, size: 60s}", "{type: tumbling, size: 60s, offset: 30s}"},
    };
    static const int64_t granules[] = {1 * S, 50 * MS, 3 * S, 30 * S};
    for (size_t c = 0; c < sizeof windows / sizeof windows[0]; c++) {
        char text[2048];
        snprintf(text, sizeof text,
                 PLAN_HEAD
                 "stages:\n"
                 "  one: {from: calls, key: model, window: %s, aggregate: {n: count()}}\n"
                 "  two: {from: calls, key: model, window: %s, aggregate: {n: count()}}\n",
                 windows[c][0], windows[c][1]);
        struct rml_plan *plan = plan_of(text);
        const struct rml_plan_source *source = &plan->sources[0];
        assert_int_equal(source->grid_granule_ns, granules[c]);
        for (int64_t t = -130 * S; t < 130 * S; t += 25 * MS) {
            int64_t before = t - 25 * MS;
            bool steps =
                rml_time_floor_div(t - source->grid_origin_ns, source->grid_granule_ns)
                != rml_time_floor_div(before - source->grid_origin_ns, source->grid_granule_ns);
            int64_t out_of_order = source->out_of_order_ns;
            if (matters_between(plan, before - out_of_order, t - out_of_order))
                assert_true(steps);
        }
        rml_plan_close(plan);
    }
}

static void without_a_window_no_watermark_matters(void **state)
{
    (void)state;
    struct rml_plan *plan = plan_of(PLAN_HEAD "stages: {ok: {from: calls, filter: tokens > 0}}\n");
    assert_int_equal(plan->sources[0].grid_granule_ns, RML_TIME_END);
    assert_int_equal(plan->sources[0].partition_field_count, 0);
    rml_plan_close(plan);
}

static void a_stage_has_the_limits_of_its_own_or_the_pipelines(void **state)
{
    (void)state;
    struct rml_plan *plan = plan_of(
        PLAN_HEAD
        "runtime: {max_keys: 7}\nstages:\n"
        "  a: {from: calls, key: model, window: {type: tumbling, size: 1s}, aggregate: {n: count()}}\n"
        "  b: {from: calls, key: model, max_keys: 5, when_full: evict_oldest,\n"
        "      window: {type: session, gap: 1s}, aggregate: {n: count()}}\n"
        "  c: {from: calls, key: model, aggregate: {n: count()},\n"
        "      window: {type: session, gap: 1s, window_limit: 2, when_full: evict_oldest}}\n");
    assert_int_equal(plan->stages[0].keys_max, 7);
    assert_false(rml_plan_evicts(&plan->stages[0]));
    assert_int_equal(plan->stages[1].keys_max, 5);
    assert_int_equal(plan->stages[1].when_full, RML_WHEN_FULL_EVICT_OLDEST);
    assert_int_equal(plan->stages[1].window.when_full, RML_WHEN_FULL_REFUSE);
    assert_int_equal(plan->stages[2].window.session_limit, 2);
    assert_int_equal(plan->stages[2].window.when_full, RML_WHEN_FULL_EVICT_OLDEST);
    for (uint32_t s = 0; s < 3; s++) {
        uint32_t evicted = rml_schema_find(&plan->stages[s].output, "evicted", 7);
        assert_int_equal(evicted == RML_FIELD_ABSENT, s == 0);
    }
    rml_plan_close(plan);
}

static void what_is_left_out_has_its_default(void **state)
{
    (void)state;
    struct rml_plan *plan = plan_of(PLAN_HEAD "stages: {ok: {from: calls, filter: tokens > 0}}\n");
    assert_true(plan->workers >= 1);
    assert_int_equal(plan->partitions, plan->workers);
    assert_int_equal(plan->cpu_count, 0);
    assert_int_equal(plan->state_bytes_max, UINT64_C(4) << 30);
    assert_int_equal(plan->keys_max, 10000000);
    assert_int_equal(plan->sources[0].cells, 65536);
    assert_int_equal(plan->sources[0].idle_after_ns, 0);
    assert_int_equal(plan->sources[0].on_full, RML_ON_FULL_BLOCK);
    rml_plan_close(plan);
}

static void one_partition_needs_no_key_in_common(void **state)
{
    (void)state;
    struct rml_plan *plan = plan_of(
        PLAN_HEAD
        "runtime: {workers: 1}\n"
        "stages:\n"
        "  all: {from: calls, window: {type: tumbling, size: 1s}, aggregate: {n: count()}}\n"
        "  by:  {from: calls, key: status, window: {type: tumbling, size: 1s},\n"
        "        aggregate: {n: count()}}\n");
    const struct rml_plan_stage *all = &plan->stages[0];
    assert_int_equal(all->key_count, 0);
    assert_int_equal(all->key_bytes, 0);
    assert_false(all->key_is_partition_key);
    rml_plan_close(plan);
}

static void a_map_sees_the_columns_written_above_it(void **state)
{
    (void)state;
    struct rml_plan *plan = plan_of(
        PLAN_HEAD "stages: {m: {from: calls, map: {bad: status > 400, dear: bad == true}}}\n");
    assert_int_equal(plan->stages[0].mapped_count, 2);
    rml_plan_close(plan);
}

static void a_file_that_is_not_there_is_one_sentence(void **state)
{
    (void)state;
    struct rml_plan *plan = NULL;
    struct rml_plan_errors errors;
    struct rml_err err = {0};
    assert_int_equal(rml_plan_load("/nowhere/at/all.yaml", plan_functions(), &plan, &errors, &err),
                     -ENOENT);
    assert_string_equal(err.text, "/nowhere/at/all.yaml: No such file or directory");
    assert_int_equal(errors.count, 0);
    rml_plan_errors_fini(&errors);
}

static void what_follows_an_argument_is_read_and_kept_as_written(void **state)
{
    (void)state;
    struct rml_plan *plan = plan_of(PLAN_HEAD "stages:\n"
                                              "  w:\n"
                                              "    from: calls\n"
                                              "    key: model\n"
                                              "    window: {type: tumbling, size: 1s}\n"
                                              "    aggregate:\n"
                                              "      p99: quantile(max(tokens, 3), 0.99)\n"
                                              "      fine: quantile( tokens , 1e-3 , 0.5% )\n"
                                              "      slow: histogram(latency_ms, -1.5, 10)\n"
                                              "      models: distinct(model)\n"
                                              "      mean: ewma(tokens,1500ms)\n");
    const struct rml_plan_stage *stage = &plan->stages[0];
    const struct rml_plan_aggregate *list = stage->aggregates;
    assert_int_equal(stage->aggregate_count, 7);
    assert_true(list[0].parameters[0] == 0.99 && list[0].parameters[1] == 0.01);
    assert_true(list[1].parameters[0] == 1e-3 && list[1].parameters[1] == 0.005);
    assert_string_equal(list[1].parameters_text, "1e-3 , 0.5%");
    assert_int_equal(list[1].column, 4);
    for (uint32_t i = 0; i < 3; i++) {
        const char *const names[] = {"slow_0", "slow_1", "slow_2"};
        assert_string_equal(list[2 + i].name, names[i]);
        assert_int_equal(list[2 + i].part, i);
        assert_int_equal(list[2 + i].parameter_count, 2);
        assert_true(list[2 + i].parameters[0] == -1.5 && list[2 + i].parameters[1] == 10);
    }
    assert_int_equal(list[5].column, 1);
    assert_true(list[6].parameters[0] == 1.5e9);
    rml_plan_close(plan);
}

static void a_file_beyond_the_limit_is_not_read(void **state)
{
    (void)state;
    size_t length = (1u << 20) + 1;
    char *text = malloc(length);
    assert_non_null(text);
    memset(text, '#', length);
    struct rml_plan *plan = NULL;
    struct rml_plan_errors errors;
    struct rml_err err = {0};
    assert_int_equal(rml_plan_parse(text, length, "big", plan_functions(), &plan, &errors, &err),
                     -EFBIG);
    assert_string_equal(err.text, "big: a pipeline file has at most 1 MiB");
    free(text);
}

TEST_MAIN(CLAIM(units_become_nanoseconds_bytes_and_indices),
          CLAIM(a_table_has_bounds_unless_it_is_told_otherwise),
          CLAIM(a_parent_stands_before_its_children),
          CLAIM(a_map_adds_a_column_that_only_its_children_see),
          CLAIM(aggregates_use_a_plain_column_as_it_is_and_share_equal_expressions),
          CLAIM(a_window_puts_out_its_bounds_keys_revision_and_aggregates),
          CLAIM(readers_are_noted_at_what_they_read),
          CLAIM(offsets_are_taken_into_the_first_period),
          CLAIM(the_partition_key_is_what_all_keys_have_in_common),
          CLAIM(tests_keep_their_values_as_text_with_its_place),
          CLAIM(every_watermark_that_matters_lies_on_the_grid),
          CLAIM(without_a_window_no_watermark_matters),
          CLAIM(a_stage_has_the_limits_of_its_own_or_the_pipelines),
          CLAIM(what_is_left_out_has_its_default), CLAIM(one_partition_needs_no_key_in_common),
          CLAIM(a_map_sees_the_columns_written_above_it),
          CLAIM(a_file_that_is_not_there_is_one_sentence),
          CLAIM(a_file_beyond_the_limit_is_not_read),
          CLAIM(what_follows_an_argument_is_read_and_kept_as_written))
