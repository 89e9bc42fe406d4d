/*
 * Sums, means and ends of nasty numbers, window by window, against plain loops over the records.
 */
#include <math.h>

#include "runtime/base/int128.h"
#include "tests/support/partition_rig.h"

#define KEYS 3
#define ROWS 4096

struct result {
    int64_t start, end;
    uint64_t key, nulls;
    uint64_t count;
    int64_t sum_n, min_n, max_n;
    double avg_n, sum_x, avg_x, min_x, max_x;
};

// Columns in the order of the pipeline below; bits of `nulls` are theirs.
enum { COLUMN_COUNT = 4, SUM_N, MIN_N, MAX_N, AVG_N, SUM_X, AVG_X, MIN_X, MAX_X };

static struct results {
    uint32_t count;
    struct result rows[ROWS];
} got;

static void keep_row(void *context, const struct rml_schema *schema,
                     const struct rml_result_row *row)
{
    struct results *results = context;
    assert_true(results->count < ROWS);
    struct result *to = &results->rows[results->count++];
    const unsigned char *record = row->record;
    memcpy(&to->nulls, record, sizeof to->nulls);
    rig_read_field(schema, record, "window_start", &to->start, 8);
    rig_read_field(schema, record, "window_end", &to->end, 8);
    rig_read_field(schema, record, "key", &to->key, 8);
    rig_read_field(schema, record, "c", &to->count, 8);
    rig_read_field(schema, record, "sum_n", &to->sum_n, 8);
    rig_read_field(schema, record, "min_n", &to->min_n, 8);
    rig_read_field(schema, record, "max_n", &to->max_n, 8);
    rig_read_field(schema, record, "avg_n", &to->avg_n, 8);
    rig_read_field(schema, record, "sum_x", &to->sum_x, 8);
    rig_read_field(schema, record, "avg_x", &to->avg_x, 8);
    rig_read_field(schema, record, "min_x", &to->min_x, 8);
    rig_read_field(schema, record, "max_x", &to->max_x, 8);
    assert_int_equal(rml_schema_find(schema, "sum_n", 5), COLUMN_COUNT + 1);
}

static void run(const struct rig_record *records, const char *window,
                uint64_t counts[RML_STAGE_COUNTERS])
{
    char text[1024];
    snprintf(text, sizeof text,
             "version: 1\npipeline: aggregate\n%s"
             "runtime: {workers: 1, partitions: 2, state_limit: 64MiB}\n"
             "sources: {in: {schema: event, event_time: ts, partition_by: [key]}}\n"
             "stages: {w: {from: in, key: key, window: {%s}, aggregate: {c: count(), "
             "sum_n: sum(n), min_n: min(n), max_n: max(n), avg_n: avg(n), "
             "sum_x: sum(x), avg_x: avg(x), min_x: min(x), max_x: max(x)}}}\n"
             "sinks: {out: {from: w, type: jsonl, path: unused.jsonl}}\n",
             rig_schema, window);
    got.count = 0;
    static struct rig_stream stream = {.count = RIG_RECORDS, .lanes = 1};
    memcpy(stream.records, records, sizeof stream.records);
    stream.cuts = draw(UINT64_C(1) << 40) | 1;
    rig_run(text, &stream, keep_row, &got, counts);
}

static bool is_null(const struct result *row, int column)
{
    return row->nulls >> column & 1;
}

static void assert_double(const struct result *row, int column, double value, double expected)
{
    assert_int_equal(is_null(row, column), isnan(expected));
    if (!isnan(expected) && value != expected)
        printf("column %d: %a, expected %a\n", column, value, expected);
    assert_true(isnan(expected) || value == expected);
}

static void check_ints(const struct result *row, const struct rig_record *records)
{
    rml_int128 sum = 0;
    uint64_t count = 0;
    int64_t least = INT64_MAX, greatest = INT64_MIN;
    for (uint32_t i = 0; i < RIG_RECORDS; i++) {
        const struct rig_record *r = &records[i];
        if (r->key != row->key || r->ts < row->start || r->ts >= row->end)
            continue;
        count++;
        sum += r->n;
        least = r->n < least ? r->n : least;
        greatest = r->n > greatest ? r->n : greatest;
    }
    assert_int_equal(row->count, count);
    // a sum is exact or it is null: it never wraps around
    bool fits = sum >= INT64_MIN && sum <= INT64_MAX;
    assert_int_equal(is_null(row, SUM_N), !fits);
    if (fits)
        assert_int_equal(row->sum_n, (int64_t)sum);
    assert_double(row, AVG_N, row->avg_n, (double)sum / (double)count);
    assert_int_equal(row->min_n, least);
    assert_int_equal(row->max_n, greatest);
}

// Returns how many values were no numbers. With `exact`, sums must be what one loop gives.
static uint64_t check_floats(const struct result *row, const struct rig_record *records, bool exact)
{
    double sum = 0, lost = 0, least = (double)NAN, greatest = (double)NAN;
    uint64_t values = 0, skipped = 0;
    for (uint32_t i = 0; i < RIG_RECORDS; i++) {
        const struct rig_record *r = &records[i];
        if (r->key != row->key || r->ts < row->start || r->ts >= row->end)
            continue;
        if (isnan(r->x)) {
            skipped++;
            continue;
        }
        values++;
        double total = sum + r->x;
        lost += fabs(sum) >= fabs(r->x) ? (sum - total) + r->x : (r->x - total) + sum;
        sum = total;
        least = values == 1 || r->x < least ? r->x : least;
        greatest = values == 1 || r->x > greatest ? r->x : greatest;
    }
    assert_double(row, MIN_X, row->min_x, least);
    assert_double(row, MAX_X, row->max_x, greatest);
    if (values == 0) {
        assert_true(is_null(row, SUM_X) && is_null(row, AVG_X));
        return skipped;
    }
    double expected = isfinite(sum) ? sum + lost : sum;
    if (exact || !isfinite(expected)) {
        assert_double(row, SUM_X, row->sum_x, expected);
        assert_double(row, AVG_X, row->avg_x, expected / (double)values);
    }
    return skipped;
}

static int64_t nasty_int(void)
{
    static const int64_t ends[] = {INT64_MIN, INT64_MIN + 1, -1, 0, 1, INT64_MAX - 1, INT64_MAX};
    return draw(3) != 0 ? (int64_t)draw(2000) - 1000 : ends[draw(sizeof ends / sizeof ends[0])];
}

static double nasty_float(void)
{
    static const double ends[] = {
        (double)INFINITY, -(double)INFINITY, (double)NAN, -0.0, 0.0, 5e-324, -5e-324};
    static const double wide[] = {1e16, -1e16, 1, -1, 0.1, 1e-16, 1e100, -1e100};
    return draw(60) == 0  ? ends[draw(sizeof ends / sizeof ends[0])]
           : draw(9) == 0 ? (double)NAN
                          : wide[draw(sizeof wide / sizeof wide[0])];
}

static void draw_nasty(struct rig_record *records)
{
    for (uint32_t i = 0; i < RIG_RECORDS; i++)
        records[i] = (struct rig_record){
            .ts = (int64_t)i * 10 - 2000, .key = draw(KEYS), .n = nasty_int(), .x = nasty_float()};
}

static uint64_t case_now;

static int print_last_case(void **state)
{
    (void)state;
    printf("the last case was RML_SEED=%llu\n", (unsigned long long)case_now);
    return 0;
}

static void hold_to_loops(const char *window, bool exact)
{
    static struct rig_record records[RIG_RECORDS];
    uint64_t first, cases;
    rig_cases(100, &first, &cases);
    for (uint64_t c = first; c < first + cases; c++) {
        rig_begin_case(c);
        case_now = c;
        draw_nasty(records);
        uint64_t counts[RML_STAGE_COUNTERS], skipped = 0;
        run(records, window, counts);
        assert_true(got.count > 0);
        for (uint32_t i = 0; i < got.count; i++) {
            check_ints(&got.rows[i], records);
            skipped += check_floats(&got.rows[i], records, exact);
        }
        if (exact) {  // a record is in one window: what was skipped was skipped there, by one fold
            assert_int_equal(counts[RML_STAGE_aggregated], RIG_RECORDS);
            assert_int_equal(counts[RML_STAGE_null_skipped], skipped);
        }
    }
}

static void a_window_holds_what_one_loop_over_its_records_gives(void **state)
{
    (void)state;
    hold_to_loops("type: tumbling, size: 300ns", true);
    hold_to_loops("type: tumbling, size: 10us, offset: 5us", true);
}

static void panes_combined_are_what_their_records_give(void **state)
{
    (void)state;
    hold_to_loops("type: sliding, size: 500ns, every: 100ns", false);
    hold_to_loops("type: sliding, size: 70ns, every: 30ns, offset: 7ns", false);
}

static void no_value_at_all_makes_everything_but_the_count_null(void **state)
{
    (void)state;
    static struct rig_record records[RIG_RECORDS];
    for (uint32_t i = 0; i < RIG_RECORDS; i++)
        records[i] = (struct rig_record){.ts = i, .x = (double)NAN};
    uint64_t counts[RML_STAGE_COUNTERS];
    run(records, "type: tumbling, size: 1us", counts);
    assert_int_equal(got.count, 1);
    assert_int_equal(got.rows[0].count, RIG_RECORDS);
    assert_int_equal(got.rows[0].nulls, 1u << SUM_X | 1u << AVG_X | 1u << MIN_X | 1u << MAX_X);
    assert_int_equal(counts[RML_STAGE_null_skipped], RIG_RECORDS);
}

#define CASES_CLAIM(name) cmocka_unit_test_teardown(name, print_last_case)

TEST_MAIN(CASES_CLAIM(a_window_holds_what_one_loop_over_its_records_gives),
          CASES_CLAIM(panes_combined_are_what_their_records_give),
          CLAIM(no_value_at_all_makes_everything_but_the_count_null))
