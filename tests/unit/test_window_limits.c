/*
 * Windows near the first and the last nanosecond that int64 can name: they may begin before all times
 * or end after them, and every record is in its windows all the same.
 */
#include "runtime/base/int128.h"
#include "tests/support/partition_rig.h"

#define ROWS_MAX 8192

struct result {
    int64_t start, end;
    uint64_t key, count;
};

static struct results {
    uint32_t count;
    struct result rows[ROWS_MAX];
} got, expected;

struct windows {
    int64_t size, every, offset;
};

static void keep_row(void *context, const struct rml_schema *schema,
                     const struct rml_result_row *row)
{
    struct results *results = context;
    assert_true(results->count < ROWS_MAX);
    struct result *to = &results->rows[results->count++];
    rig_read_field(schema, row->record, "window_start", &to->start, 8);
    rig_read_field(schema, row->record, "window_end", &to->end, 8);
    rig_read_field(schema, row->record, "key", &to->key, 8);
    rig_read_field(schema, row->record, "c", &to->count, 8);
}

static int by_place(const void *a, const void *b)
{
    const struct result *x = a, *y = b;
    if (x->end != y->end)
        return x->end < y->end ? -1 : 1;
    if (x->start != y->start)
        return x->start < y->start ? -1 : 1;
    return x->key < y->key ? -1 : x->key > y->key;
}

static int64_t clamp(rml_int128 time)
{
    return time > INT64_MAX ? INT64_MAX : time < INT64_MIN ? INT64_MIN : (int64_t)time;
}

static void expect(rml_int128 start, rml_int128 end, uint64_t key)
{
    struct result row = {clamp(start), clamp(end), key, 1};
    for (uint32_t i = 0; i < expected.count; i++) {
        if (by_place(&expected.rows[i], &row) == 0) {
            expected.rows[i].count++;
            return;
        }
    }
    assert_true(expected.count < ROWS_MAX);
    expected.rows[expected.count++] = row;
}

// Every window of every record, in numbers that cannot overflow.
static void oracle(const struct rig_stream *stream, const struct windows *w)
{
    const struct rig_record *records = stream->records;
    expected.count = 0;
    for (uint32_t i = 0; i < stream->count; i++) {
        rml_int128 shifted = (rml_int128)records[i].ts - w->offset;
        rml_int128 rest = shifted % w->every;
        rml_int128 start = records[i].ts - (rest < 0 ? rest + w->every : rest);
        for (; start + w->size > records[i].ts; start -= w->every)
            expect(start, start + w->size, records[i].key);
    }
}

static int by_time(const void *a, const void *b)
{
    const struct rig_record *x = a, *y = b;
    return x->ts < y->ts ? -1 : x->ts > y->ts;
}

// Times up to `reach` from either end of int64, some of them the very ends, in order.
static void draw_records(struct rig_stream *stream, uint64_t reach)
{
    struct rig_record *records = stream->records;
    stream->count = RIG_RECORDS;
    stream->lanes = 1;
    stream->cuts = draw(UINT64_C(1) << 40) | 1;
    for (uint32_t i = 0; i < RIG_RECORDS; i++) {
        int64_t far = draw(20) == 0 ? 0 : (int64_t)draw(reach);
        int64_t ts = draw(2) ? INT64_MIN + far : INT64_MAX - far;
        records[i] = (struct rig_record){.ts = ts, .key = draw(3)};
    }
    qsort(records, RIG_RECORDS, sizeof records[0], by_time);
    // What comes after the last nanosecond of all would be late: leave one such record.
    uint32_t last = RIG_RECORDS - 1;
    for (uint32_t i = 0; i < last; i++)
        records[i].ts -= records[i].ts == INT64_MAX;
    records[last].ts = INT64_MAX;
}

static void run(const struct rig_stream *stream, const char *window,
                uint64_t counts[RML_STAGE_COUNTERS])
{
    char text[1024];
    snprintf(text, sizeof text,
             "version: 1\npipeline: limits\n%s"
             "runtime: {workers: 1, partitions: 1, state_limit: 64MiB}\n"
             "sources: {in: {schema: event, event_time: ts, partition_by: [key]}}\n"
             "stages: {w: {from: in, key: key, window: {%s}, aggregate: {c: count()}}}\n"
             "sinks: {out: {from: w, type: jsonl, path: unused.jsonl}}\n",
             rig_schema, window);
    got.count = 0;
    rig_run(text, stream, keep_row, &got, counts);
}

static void a_window_that_reaches_beyond_time_ends_where_time_ends(void **state)
{
    (void)state;
    static struct rig_stream stream;
    uint64_t first, cases;
    rig_cases(100, &first, &cases);
    for (uint64_t c = first; c < first + cases; c++) {
        rig_begin_case(c);
        int64_t unit = draw(2) ? 1 : 1 + (int64_t)draw(1000);
        struct windows w = {.every = unit * (1 + (int64_t)draw(8))};
        w.size = draw(3) == 0 ? w.every : w.every + unit * (int64_t)draw(20);
        w.offset = draw(2) ? 0 : (int64_t)draw((uint64_t)w.every);
        draw_records(&stream, 1 + draw(20) * (uint64_t)w.size);
        oracle(&stream, &w);
        char window[160];
        snprintf(window, sizeof window,
                 "type: sliding, size: %lldns, every: %lldns, offset: %lldns", (long long)w.size,
                 (long long)w.every, (long long)w.offset);
        uint64_t counts[RML_STAGE_COUNTERS];
        run(&stream, window, counts);
        qsort(got.rows, got.count, sizeof got.rows[0], by_place);
        qsort(expected.rows, expected.count, sizeof expected.rows[0], by_place);
        if (got.count != expected.count)
            printf("RML_SEED=%llu {%s}\n", (unsigned long long)c, window);
        assert_int_equal(counts[RML_STAGE_aggregated], RIG_RECORDS);
        assert_int_equal(got.count, expected.count);
        assert_memory_equal(got.rows, expected.rows, got.count * sizeof got.rows[0]);
    }
}

static void a_session_that_reaches_beyond_time_ends_where_time_ends(void **state)
{
    (void)state;
    static struct rig_stream stream = {.count = RIG_RECORDS, .lanes = 1, .cuts = 1};
    for (uint32_t i = 0; i < RIG_RECORDS; i++)
        stream.records[i].ts = i < 100 ? INT64_MIN + i : INT64_MAX - RIG_RECORDS + 1 + i;
    uint64_t counts[RML_STAGE_COUNTERS];
    run(&stream, "type: session, gap: 1s", counts);
    assert_int_equal(counts[RML_STAGE_aggregated], RIG_RECORDS);
    assert_int_equal(got.count, 2);
    assert_int_equal(got.rows[0].start, INT64_MIN);
    assert_int_equal(got.rows[0].end, INT64_MIN + 99 + INT64_C(1000000000));
    assert_int_equal(got.rows[0].count, 100);
    assert_int_equal(got.rows[1].end, INT64_MAX);
    assert_int_equal(got.rows[1].count, RIG_RECORDS - 100);
}

// The watermark is at the end of time then, which every window's lateness ends with.
static void after_the_last_nanosecond_everything_is_late(void **state)
{
    (void)state;
    static struct rig_stream stream = {.count = RIG_RECORDS, .lanes = 1, .cuts = 1};
    for (uint32_t i = 0; i < RIG_RECORDS; i++)
        stream.records[i].ts = i == 0 || i % 2 != 0 ? INT64_MAX : (int64_t)i;
    static const char *const windows[] = {"type: tumbling, size: 1ns",
                                          "type: tumbling, size: 1s, late: 1h",
                                          "type: sliding, size: 10s, every: 1s, offset: 300ms"};
    for (size_t i = 0; i < sizeof windows / sizeof windows[0]; i++) {
        uint64_t counts[RML_STAGE_COUNTERS];
        run(&stream, windows[i], counts);
        assert_int_equal(counts[RML_STAGE_aggregated], 1);
        assert_int_equal(counts[RML_STAGE_late], RIG_RECORDS - 1);
        assert_true(got.count >= 1);
        assert_int_equal(got.rows[0].end, INT64_MAX);
    }
}

TEST_MAIN(CLAIM(a_window_that_reaches_beyond_time_ends_where_time_ends),
          CLAIM(a_session_that_reaches_beyond_time_ends_where_time_ends),
          CLAIM(after_the_last_nanosecond_everything_is_late))
