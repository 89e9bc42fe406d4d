/*
 * Random windows of so many records, cut into random batches and partitions, against an oracle that
 * looks back over the records of a key as they came, one after the other.
 */
#include "tests/support/partition_rig.h"

#define RECORDS  RIG_RECORDS
#define ROWS_MAX RECORDS

// A table of keys without keys, and what the sketches of a stage share.
#define PAGES_OF_NOTHING 5

struct settings {
    uint32_t size, every;
    uint32_t partitions, keys_max;
};

struct result {
    int64_t fire, start, end;
    uint64_t key, count;
    uint32_t revision;
    int64_t sum_n, max_n, first_n, last_n;
    char first_tag[16], last_tag[16];  // the engine's alone: of the same records
    int64_t mix_n;
    double sum_x, median_n;
};

struct results {
    uint32_t count;
    struct result rows[ROWS_MAX];
};

/* The oracle. */

static int by_number(const void *left, const void *right)
{
    int64_t a = *(const int64_t *)left, b = *(const int64_t *)right;
    return (a > b) - (a < b);
}

// The row of `count` records of which list[0] came first.
static struct result row_of(const struct rig_record *const *list, uint32_t count, int64_t fire)
{
    struct result r = {.fire = fire,
                       .start = INT64_MAX,
                       .end = INT64_MIN,
                       .key = list[0]->key,
                       .count = count,
                       .max_n = INT64_MIN};
    struct mix mix = {0};
    int64_t sorted[RECORDS];
    for (uint32_t i = 0; i < count; i++) {
        const struct rig_record *rec = list[i];
        if (rec->x == rec->x)
            mix_value(&mix, rec->ts, rec->n);
        r.first_n = rec->ts < r.start ? rec->n : r.first_n;
        r.start = rec->ts < r.start ? rec->ts : r.start;
        r.last_n = rec->ts + 1 >= r.end ? rec->n : r.last_n;
        r.end = rec->ts + 1 > r.end ? rec->ts + 1 : r.end;
        r.sum_n += rec->n;
        r.max_n = rec->n > r.max_n ? rec->n : r.max_n;
        r.sum_x += rec->x == rec->x ? rec->x : 0;
        sorted[i] = rec->n;
    }
    r.mix_n = mix_result(&mix, -2);
    qsort(sorted, count, sizeof sorted[0], by_number);
    r.median_n = ((double)sorted[(count - 1) / 2] + (double)sorted[count / 2]) / 2;
    return r;
}

static void oracle(const struct rig_record *records, const struct settings *s, struct results *out)
{
    int64_t clock = INT64_MIN;
    out->count = 0;
    for (uint32_t i = 0; i < RECORDS; i++) {
        clock = records[i].ts > clock ? records[i].ts : clock;
        const struct rig_record *own[RECORDS];
        uint32_t count = 0;
        for (uint32_t j = 0; j <= i; j++)
            if (records[j].key == records[i].key)
                own[count++] = &records[j];
        if (count % s->every != 0)
            continue;
        uint32_t last = count < s->size ? count : s->size;
        out->rows[out->count++] = row_of(own + count - last, last, clock);
    }
}

/* The engine. */

static void collect(void *context, const struct rml_schema *schema,
                    const struct rml_result_row *row)
{
    struct results *results = context;
    assert_true(results->count < ROWS_MAX);
    struct result *r = &results->rows[results->count++];
    *r = (struct result){.fire = row->fire};
    rig_read_field(schema, row->record, "window_start", &r->start, 8);
    rig_read_field(schema, row->record, "window_end", &r->end, 8);
    rig_read_field(schema, row->record, "key", &r->key, 8);
    rig_read_field(schema, row->record, "revision", &r->revision, 4);
    rig_read_field(schema, row->record, "n", &r->count, 8);
    rig_read_field(schema, row->record, "sum_n", &r->sum_n, 8);
    rig_read_field(schema, row->record, "max_n", &r->max_n, 8);
    rig_read_field(schema, row->record, "sum_x", &r->sum_x, 8);
    rig_read_field(schema, row->record, "first_n", &r->first_n, 8);
    rig_read_field(schema, row->record, "last_n", &r->last_n, 8);
    rig_read_field(schema, row->record, "first_tag", r->first_tag, 16);
    rig_read_field(schema, row->record, "last_tag", r->last_tag, 16);
    rig_read_field(schema, row->record, "mix_n", &r->mix_n, 8);
    rig_read_field(schema, row->record, "exact_n", &r->median_n, 8);
}

static void engine(const struct rig_record *records, const struct settings *s, struct results *out,
                   uint64_t counts[RML_STAGE_COUNTERS])
{
    char text[2048], window[96];
    snprintf(window, sizeof window,
             s->every == s->size ? "{type: tumbling, size: %u records}"
                                 : "{type: sliding, size: %u records, every: %u records}",
             s->size, s->every);
    snprintf(
        text, sizeof text,
        "version: 1\npipeline: random\n%s"
        "runtime: {workers: 1, partitions: %u, state_limit: 64MiB, max_keys: %u}\n"
        "sources: {in: {schema: event, event_time: ts, partition_by: [key]}}\n"
        "stages:\n"
        "  w:\n"
        "    from: in\n    key: key\n    window: %s\n"
        "    aggregate: {n: count(), sum_n: sum(n), max_n: max(n), sum_x: sum(x), first_n: "
        "first(n), last_n: last(n), first_tag: first(tag), last_tag: last(tag), mix_n: 'mix(n, x, -2)', exact_n: 'quantile(n, 0.5, exact)'}\n"
        "sinks: {out: {from: w, type: ring}}\n",
        rig_schema, s->partitions, s->keys_max, window);
    out->count = 0;
    rig_run(text, records, collect, out, counts);
}

/* Cases. */

static void draw_case(struct settings *s, struct rig_record *records)
{
    s->size = 1 + (uint32_t)draw(draw(2) ? 4 : 30);
    s->every = draw(3) == 0 ? s->size : 1 + (uint32_t)draw(s->size);
    s->partitions = 1 + (uint32_t)draw(RIG_PARTITIONS);
    s->keys_max = 100;
    rig_draw_records(records);
}

static bool same(const struct result *a, const struct result *b)
{
    return a->fire == b->fire && a->start == b->start && a->end == b->end && a->key == b->key
           && a->revision == b->revision && a->count == b->count && a->sum_n == b->sum_n
           && a->max_n == b->max_n && a->sum_x == b->sum_x && a->first_n == b->first_n
           && a->last_n == b->last_n && rig_tag_says(a->first_tag, b->first_n)
           && rig_tag_says(a->last_tag, b->last_n) && a->mix_n == b->mix_n
           && a->median_n == b->median_n;
}

// A stable sort by key, as both lists keep each key's own order.
static void sort_rows(struct results *results)
{
    static struct result sorted[ROWS_MAX];
    uint32_t count = 0;
    for (uint64_t key = 0; count < results->count; key++)
        for (uint32_t i = 0; i < results->count; i++)
            if (results->rows[i].key == key)
                sorted[count++] = results->rows[i];
    memcpy(results->rows, sorted, count * sizeof sorted[0]);
}

static void print_row(const char *whose, const struct result *r)
{
    printf("%s fire %lld [%lld, %lld) key %llu rev %u count %llu sum %lld\n", whose,
           (long long)r->fire, (long long)r->start, (long long)r->end, (unsigned long long)r->key,
           r->revision, (unsigned long long)r->count, (long long)r->sum_n);
}

static void any_cut_into_batches_gives_the_windows_of_records_one_by_one(void **state)
{
    (void)state;
    static struct results got, expected;
    static struct rig_record records[RECORDS];
    uint64_t first, cases, rows = 0;
    rig_cases(400, &first, &cases);
    for (uint64_t c = first; c < first + cases; c++) {
        struct settings s;
        uint64_t counts[RML_STAGE_COUNTERS];
        rig_begin_case(c);
        draw_case(&s, records);
        oracle(records, &s, &expected);
        engine(records, &s, &got, counts);
        sort_rows(&got);
        sort_rows(&expected);
        uint32_t row = 0;
        while (row < got.count && row < expected.count && same(&got.rows[row], &expected.rows[row]))
            row++;
        if (row < got.count || row < expected.count) {
            printf("RML_SEED=%llu size %u every %u partitions %u: %u rows, expected %u; the first "
                   "that differs is %u\n",
                   (unsigned long long)c, s.size, s.every, s.partitions, got.count, expected.count,
                   row);
            print_row("     got", &got.rows[row]);
            print_row("expected", &expected.rows[row]);
            fail();
        }
        assert_int_equal(counts[RML_STAGE_aggregated], RECORDS);
        assert_int_equal(counts[RML_STAGE_windows_fired], got.count);
        rows += got.count;
    }
    if (cases > 1)
        assert_true(rows > 10000);
}

// With fewer keys than there are, what is refused must not depend on the batches either.
static void a_full_table_refuses_the_same_records_however_they_are_cut(void **state)
{
    (void)state;
    static struct results got, again;
    static struct rig_record records[RECORDS];
    uint64_t first, cases, refused = 0;
    rig_cases(200, &first, &cases);
    for (uint64_t c = first; c < first + cases; c++) {
        struct settings s;
        uint64_t counts[RML_STAGE_COUNTERS], counts_again[RML_STAGE_COUNTERS];
        rig_begin_case(c);
        draw_case(&s, records);
        s.keys_max = 1 + (uint32_t)draw(4);
        engine(records, &s, &got, counts);
        engine(records, &s, &again, counts_again);  // the draw has gone on: other cuts
        assert_int_equal(counts[RML_STAGE_refused], counts_again[RML_STAGE_refused]);
        assert_int_equal(got.count, again.count);
        sort_rows(&got);
        sort_rows(&again);
        for (uint32_t i = 0; i < got.count; i++)
            assert_true(same(&got.rows[i], &again.rows[i]));
        refused += counts[RML_STAGE_refused];
    }
    if (cases > 1)
        assert_true(refused > 1000);
}

// What states grow into lies in pages of the partition, and must be given back with each window.
static void at_the_end_no_state_holds_a_page(void **state)
{
    (void)state;
    static struct results got;
    static struct rig_record records[RECORDS];
    uint64_t first, cases;
    rig_cases(100, &first, &cases);
    for (uint64_t c = first; c < first + cases; c++) {
        struct settings s;
        uint64_t counts[RML_STAGE_COUNTERS];
        rig_begin_case(c);
        draw_case(&s, records);
        engine(records, &s, &got, counts);
        assert_true(counts[RML_STAGE_state_bytes]
                    <= (uint64_t)s.partitions * PAGES_OF_NOTHING * 16384);
    }
}

TEST_MAIN(CLAIM(any_cut_into_batches_gives_the_windows_of_records_one_by_one),
          CLAIM(a_full_table_refuses_the_same_records_however_they_are_cut),
          CLAIM(at_the_end_no_state_holds_a_page))
