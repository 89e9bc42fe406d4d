/*
 * Sketches of stages whose memory is short: records are refused before anything of them is taken, and
 * which ones depends on nothing but the records.
 */
#include <math.h>

#include "tests/support/partition_rig.h"

#define ROWS_MAX  20000u
#define ROW_BYTES 160u

struct rows {
    uint32_t count;

    struct {
        int64_t fire;
        unsigned char record[ROW_BYTES];
    } list[ROWS_MAX];
};

static void collect(void *context, const struct rml_schema *schema,
                    const struct rml_result_row *row)
{
    struct rows *rows = context;
    assert_true(rows->count < ROWS_MAX && schema->record_bytes <= ROW_BYTES);
    rows->list[rows->count].fire = row->fire;
    memcpy(rows->list[rows->count++].record, row->record, schema->record_bytes);
}

// Values of any magnitude, so that sketches grow as far as they can.
static double any_double(void)
{
    double x;
    do {
        uint64_t bits = draw(UINT64_C(1) << 53) << 11 ^ draw(UINT64_C(1) << 53);
        memcpy(&x, &bits, sizeof x);
    } while (x != x);
    return x;
}

static void run(uint64_t cuts, const char *window, struct rig_stream *stream, struct rows *rows,
                uint64_t *counts)
{
    char text[2048];
    snprintf(text, sizeof text,
             "version: 1\npipeline: random\n%s"
             "runtime: {workers: 1, partitions: 1, state_limit: 2MiB}\n"
             "sources: {in: {schema: event, event_time: ts, partition_by: [key], out_of_order: "
             "30ns}}\n"
             "stages:\n  w:\n    from: in\n    key: key\n    window: %s\n"
             "    aggregate: {median_x: median(x), fine_x: 'quantile(x, 0.9, 0.1%%)', many: "
             "distinct(x), most: 'top(x, 2)', "
             "all: 'quantile(x, 0.5, exact)'}\n"
             "sinks: {out: {from: w, type: ring}}\n",
             rig_schema, window);
    rows->count = 0;
    memset(rows->list, 0, sizeof rows->list);
    stream->cuts = cuts;
    rig_run(text, stream, collect, rows, counts);
}

static void where_memory_is_short_any_cut_refuses_the_same_records(void **state)
{
    (void)state;
    static const char *const windows[] = {
        "{type: tumbling, size: 20ns}",
        "{type: sliding, size: 50ns, every: 10ns, late: 25ns}",
        "{type: session, gap: 8ns, late: 25ns}",
    };
    static struct rig_stream stream;
    static struct rows once, again;
    uint64_t refused = 0, aggregated = 0;
    for (uint64_t c = 1; c <= 90; c++) {
        uint64_t counts[RML_STAGE_COUNTERS], counts_again[RML_STAGE_COUNTERS];
        rig_begin_case(c);
        rig_draw_records(&stream, RIG_RECORDS);
        for (uint32_t i = 0; i < RIG_RECORDS; i++)
            stream.records[i].x = any_double();
        run(c * 77 + 1, windows[c % 3], &stream, &once, counts);
        run(c * 99 + 2, windows[c % 3], &stream, &again, counts_again);
        assert_memory_equal(counts, counts_again, sizeof counts);
        assert_int_equal(once.count, again.count);
        assert_memory_equal(once.list, again.list, once.count * sizeof once.list[0]);
        refused += counts[RML_STAGE_refused];
        aggregated += counts[RML_STAGE_aggregated];
    }
    assert_true(refused > 1000 && aggregated > 1000);
}

TEST_MAIN(CLAIM(where_memory_is_short_any_cut_refuses_the_same_records))
