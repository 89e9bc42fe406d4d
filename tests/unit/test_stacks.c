/*
 * What overlapping windows share, kept merged for many keys, against panes that are merged anew for
 * each window by plain loops.
 */
#include <string.h>

#include "operators/aggregate.h"
#include "operators/registry.h"
#include "operators/stacks.h"
#include "runtime/base/err.h"
#include "runtime/state/pages.h"
#include "tests/support/random.h"
#include "tests/support/test.h"

#define SLOTS  100u
#define PANES  256u  // that exist at once, by the low bits of their numbers
#define VALUES 64u

#define STAGE(aggregates)                                               \
 "version: 1\npipeline: stacks\nruntime: {workers: 1, partitions: 1}\n" \
 "schema: {event: {ts: time_ns, value: u64}}\n"                         \
 "sources: {in: {schema: event, event_time: ts}}\n"                     \
 "stages: {w: {from: in, window: {type: tumbling, size: 1s}, aggregate: {" aggregates "}}}\n"
#define PLAIN    "n: count(), sum: sum(value), most: max(value)"
#define SKETCHED PLAIN ", kinds: distinct(value)"

/* What is in a pane of a slot: its state, and what the oracle knows of it. */
struct cell {
    uint64_t records, sum, most, kinds;  // kinds: a bit for each value
    uint64_t state[32];
};

static struct fixture {
    struct rml_plan *plan;
    struct rml_pages pages;
    struct rml_aggregator aggregator;
    struct rml_stacks stacks;
    uint32_t size, step;
    struct cell cells[PANES][SLOTS];
    uint64_t looks;  // at panes
    uint64_t seed;
} f;

static uint64_t draw(uint64_t below)
{
    return rml_test_random(&f.seed) % below;
}

static struct cell *cell_at(int64_t pane, uint32_t slot)
{
    return &f.cells[(uint64_t)pane % PANES][slot];
}

static const void *state_of(const void *context, int64_t pane, uint32_t slot, uint64_t *ret_records)
{
    (void)context;
    f.looks++;
    const struct cell *cell = cell_at(pane, slot);
    *ret_records = cell->records;
    return cell->records > 0 ? cell->state : NULL;
}

static void open_stacks(const char *text, uint32_t size, uint32_t step)
{
    struct rml_err err = {0};
    memset(&f, 0, sizeof f);
    f.size = size;
    f.step = step;
    struct rml_plan_errors errors = {0};
    assert_int_equal(rml_plan_parse(text, strlen(text), "stacks", rml_operators_functions(),
                                    &f.plan, &errors, &err),
                     0);
    assert_int_equal(rml_pages_open(&f.pages, 256 << 20, &err), 0);
    assert_int_equal(
        rml_aggregator_open(&f.aggregator, &f.plan->stages[0], &f.plan->sources[0], &f.pages, &err),
        0);
    assert_true(f.aggregator.state_bytes <= sizeof f.cells[0][0].state);
    const struct rml_stacks_panes panes = {.state = state_of};
    assert_int_equal(rml_stacks_open(&f.stacks, &f.aggregator, &f.pages, panes, size, step), 0);
}

static void close_stacks(void)
{
    rml_stacks_close(&f.stacks);
    rml_aggregator_close(&f.aggregator);
    rml_pages_close(&f.pages);
    rml_plan_close(f.plan);
}

static void add(int64_t pane, uint32_t slot)
{
    struct cell *cell = cell_at(pane, slot);
    uint64_t value = draw(VALUES);
    if (cell->records == 0)
        rml_aggregator_reset(&f.aggregator, cell->state);
    struct rml_column columns[RML_COLUMNS_MAX] = {0};
    for (uint32_t i = 0; i < f.aggregator.fold_count; i++)
        columns[f.aggregator.folds[i].column].data = &value;
    const uint16_t row = 0;
    void *state = cell->state;
    assert_int_equal(rml_aggregator_fold(&f.aggregator, columns, &state, &row, 1), 0);
    cell->records++;
    cell->sum += value;
    cell->most = value > cell->most ? value : cell->most;
    cell->kinds |= UINT64_C(1) << value;
}

// A pane whose place is wanted again.
static void clear_pane(int64_t pane)
{
    for (uint32_t slot = 0; slot < SLOTS; slot++) {
        struct cell *cell = cell_at(pane, slot);
        if (cell->records > 0)
            rml_aggregator_release(&f.aggregator, cell->state);
        memset(cell, 0, sizeof *cell);
    }
}

static uint64_t result_at(uint32_t index, const void *state, uint64_t records)
{
    uint64_t cell[RML_CELL_BYTES_MAX / 8];
    assert_true(rml_aggregator_result(&f.aggregator, index, state, records, 1, cell));
    return cell[0];
}

static void check_window(int64_t first, uint32_t slots)
{
    for (uint32_t slot = 0; slot < slots; slot++) {
        struct cell all = {0};
        for (int64_t pane = first; pane < first + f.size; pane++) {
            const struct cell *cell = cell_at(pane, slot);
            all.records += cell->records;
            all.sum += cell->sum;
            all.most = cell->most > all.most ? cell->most : all.most;
            all.kinds |= cell->kinds;
        }
        uint64_t records = rml_stacks_result(&f.stacks, slot, all.state);
        assert_int_equal(records, all.records);
        if (records == 0)
            continue;
        assert_int_equal(result_at(0, all.state, records), all.records);
        assert_int_equal(result_at(1, all.state, records), all.sum);
        assert_int_equal(result_at(2, all.state, records), all.most);
        if (f.aggregator.result_count > 3)
            assert_int_equal(result_at(3, all.state, records), __builtin_popcountll(all.kinds));
    }
}

static void run(const char *text, uint32_t size, uint32_t step, int64_t start)
{
    open_stacks(text, size, step);
    int64_t first = start, filled = start;  // panes below are filled
    uint32_t slots = 0;
    for (uint32_t window = 0; window < 400; window++) {
        for (; filled < first + size; filled++) {
            clear_pane(filled);
            for (uint32_t slot = 0; slot < slots; slot++) {
                if (draw(3) == 0)
                    add(filled, slot);
            }
        }
        assert_true(rml_stacks_cover(&f.stacks, first, slots));
        check_window(first, slots);
        for (uint64_t late = draw(3); late > 0 && slots > 0; late--) {
            int64_t pane = first + (int64_t)draw(size);
            uint32_t slot = (uint32_t)draw(slots);
            add(pane, slot);
            rml_stacks_change(&f.stacks, pane, slot);
        }
        check_window(first, slots);
        uint64_t jump = draw(40);  // mostly to the next window, at times over some or all
        first += (int64_t)step * (jump == 0 ? 2 * (int64_t)(size / step) : jump < 4 ? 5 : 1);
        filled = filled < first ? first : filled;
        slots += slots < SLOTS && draw(2) ? (uint32_t)draw(4) : 0;
        slots = slots < SLOTS ? slots : SLOTS;
    }
    close_stacks();
}

static void every_window_holds_what_its_panes_hold(void **state)
{
    (void)state;
    static const char *const texts[] = {STAGE(PLAIN), STAGE(SKETCHED)};
    for (size_t i = 0; i < 2; i++) {
        run(texts[i], 37, 1, -50);
        run(texts[i], 90, 3, 7);
        run(texts[i], 39, 4, -1);
    }
}

static void no_window_merges_more_than_its_share_of_keys(void **state)
{
    (void)state;
    open_stacks(STAGE(PLAIN), 60, 1);
    uint64_t most = 0, all = 0;
    for (int64_t first = 0; first < 240; first++) {
        for (int64_t pane = first == 0 ? 0 : first + 59; pane < first + 60; pane++) {
            clear_pane(pane);
            for (uint32_t slot = 0; slot < SLOTS; slot++)
                add(pane, slot);
        }
        f.looks = 0;
        assert_true(rml_stacks_cover(&f.stacks, first, SLOTS));
        all += first >= 60 ? f.looks : 0;
        most = first >= 60 && f.looks > most ? f.looks : most;
    }
    // Each key looks at its newest pane once for each window, and once in 60 windows at 60 panes.
    assert_true(all <= UINT64_C(180) * 2 * SLOTS);
    // 16 keys of 100 at a time.
    assert_true(most <= SLOTS + 16 * 60);
    close_stacks();
}

TEST_MAIN(CLAIM(every_window_holds_what_its_panes_hold),
          CLAIM(no_window_merges_more_than_its_share_of_keys))
