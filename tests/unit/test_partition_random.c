/*
 * Random pipelines over random disorder, cut into random batches and partitions, against an oracle
 * that takes one record at a time and keeps every window as a list of records.
 */
#include <math.h>

#include "tests/support/partition_rig.h"

#define RECORDS    RIG_RECORDS
#define ROWS_MAX   40000
#define PARTITIONS RIG_PARTITIONS

struct settings {
    int64_t size, every, offset, late, out_of_order;
    bool drops;      // on_late: drop is written where there is no late
    uint64_t count;  // a trigger's; 0: there is none
    uint32_t partitions;
    bool sketched;  // with aggregates whose state grows
    bool exact;     // and one that keeps its values: then panes that overlap do not stay merged
};

// A result as both sides give it.
struct result {
    int64_t fire, start, end;
    uint64_t key;
    uint32_t revision;
    bool partial;
    uint64_t count, values;
    int64_t sum_n, min_n;
    double sum_x, max_x;
    uint64_t odd;
    int64_t first_n, last_n;
    char first_tag[16], last_tag[16];  // the engine's alone: of the same records
    int64_t mix_n;
    uint64_t range_n, below[4];
    double var_x, stddev_n, rate_n, ewma_x;
    double median_n, p90_x, p90_exact, scale_n, scale_x;
    uint64_t distinct_n;
    int64_t top_n[2];
    uint64_t top_n_count[2];
};

struct results {
    uint32_t count;
    struct result rows[ROWS_MAX];
};

static int by_place(const void *a, const void *b)
{
    const struct result *x = a, *y = b;
    if (x->fire != y->fire)
        return x->fire < y->fire ? -1 : 1;
    if (x->key != y->key)
        return x->key < y->key ? -1 : 1;
    if (x->end != y->end)
        return x->end < y->end ? -1 : 1;
    return (x->revision > y->revision) - (x->revision < y->revision);
}

/* The oracle. */

static int64_t floor_to(int64_t value, int64_t step)
{
    int64_t rest = value % step;
    return value - (rest < 0 ? rest + step : rest);
}

#define SPAN_NS   7
#define SPAN_TEXT "7ns"

static const int64_t bounds[3] = {-100, 0, 250};

// Does the oracle's window have this record?
static bool is_in(const struct rig_record *rec, const struct result *r)
{
    return rec->key == r->key && rec->ts >= r->start && rec->ts < r->end;
}

// What needs a mean first, or the latest time.
static void oracle_spread(const struct rig_record *records, uint32_t upto, const bool *taken,
                          struct result *r)
{
    long double mean_x = (long double)r->sum_x / (long double)r->values;
    long double mean_n = (long double)r->sum_n / (long double)r->count;
    long double squares_x = 0, squares_n = 0, weights = 0, weighted = 0;
    for (uint32_t i = 0; i < upto; i++) {
        const struct rig_record *rec = &records[i];
        if (!taken[i] || !is_in(rec, r))
            continue;
        squares_n += ((long double)rec->n - mean_n) * ((long double)rec->n - mean_n);
        if (rec->x != rec->x)
            continue;
        long double weight = expl((long double)(rec->ts - r->start) / SPAN_NS);
        squares_x += ((long double)rec->x - mean_x) * ((long double)rec->x - mean_x);
        weights += weight;
        weighted += weight * (long double)rec->x;
    }
    r->var_x = (double)(squares_x / (long double)r->values);
    r->stddev_n = r->count > 1 ? (double)sqrtl(squares_n / (long double)(r->count - 1)) : 0;
    r->ewma_x = (double)(weighted / weights);
    r->rate_n = (double)r->sum_n / ((double)(r->end - r->start) / 1e9);
}

static int by_number(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

// Type 7, and the larger magnitude of the two values that it lies between.
static double oracle_quantile(double *values, uint64_t count, double q, double *ret_scale)
{
    if (count == 0)
        return 0;
    qsort(values, count, sizeof values[0], by_number);
    double at = q * (double)(count - 1);
    uint64_t below = (uint64_t)at, above = below + 1 < count ? below + 1 : below;
    double a = values[below], b = values[above];
    *ret_scale = fabs(a) > fabs(b) ? fabs(a) : fabs(b);
    return a + (b - a) * (at - (double)below);
}

static void oracle_sketches(const struct rig_record *records, uint32_t upto, const bool *taken,
                            struct result *r)
{
    double n[RECORDS], x[RECORDS];
    uint64_t n_count = 0, x_count = 0;
    for (uint32_t i = 0; i < upto; i++) {
        if (!taken[i] || !is_in(&records[i], r))
            continue;
        n[n_count++] = (double)records[i].n;
        x[x_count] = records[i].x;
        x_count += records[i].x == records[i].x;
    }
    r->median_n = oracle_quantile(n, n_count, 0.5, &r->scale_n);
    r->p90_x = oracle_quantile(x, x_count, 0.9, &r->scale_x);
    for (uint64_t i = 0; i < n_count; i++)
        r->distinct_n += i == 0 || n[i] != n[i - 1];
}

// By how often small numbers, whose remainders the engine is asked for, come: the oracle counts all.
static void oracle_top(const struct rig_record *records, uint32_t upto, const bool *taken,
                       struct result *r)
{
    uint64_t counts[20] = {0};
    for (uint32_t i = 0; i < upto; i++) {
        if (taken[i] && is_in(&records[i], r))
            counts[records[i].n % 10 + 10]++;
    }
    for (uint32_t rank = 0; rank < 2; rank++) {
        uint32_t best = 20;
        for (uint32_t i = 0; i < 20; i++) {
            // of equal counts the bytes of the value decide: small ones, then those below zero
            uint32_t number = (i + 10) % 20;
            if (counts[number] > 0 && (best == 20 || counts[number] > counts[best]))
                best = number;
        }
        if (best == 20)
            return;
        r->top_n[rank] = (int64_t)best - 10;
        r->top_n_count[rank] = counts[best];
        counts[best] = 0;
    }
}

static void oracle_ends(const struct rig_record *records, uint32_t upto, const bool *taken,
                        struct result *r)
{
    struct mix mix = {0};
    int64_t first = INT64_MAX, last = INT64_MIN, max_n = INT64_MIN;
    for (uint32_t i = 0; i < upto; i++) {
        const struct rig_record *rec = &records[i];
        if (!taken[i] || !is_in(rec, r))
            continue;
        r->first_n = rec->ts < first ? rec->n : r->first_n;
        first = rec->ts < first ? rec->ts : first;
        r->last_n = rec->ts >= last ? rec->n : r->last_n;
        last = rec->ts >= last ? rec->ts : last;
        max_n = rec->n > max_n ? rec->n : max_n;
        if (rec->x == rec->x)
            mix_value(&mix, rec->ts, rec->n);
        uint32_t bucket = 3;
        while (bucket > 0 && rec->n < bounds[bucket - 1])
            bucket--;
        r->below[bucket]++;
    }
    r->range_n = r->count > 0 ? (uint64_t)(max_n - r->min_n) : 0;
    r->mix_n = mix_result(&mix, 3);
}

static void oracle_result(const struct rig_record *records, uint32_t upto, const bool *taken,
                          struct result *r)
{
    *r = (struct result){.fire = r->fire,
                         .start = r->start,
                         .end = r->end,
                         .key = r->key,
                         .revision = r->revision,
                         .partial = r->partial,
                         .min_n = INT64_MAX,
                         .max_x = -1e300};
    for (uint32_t i = 0; i < upto; i++) {
        const struct rig_record *rec = &records[i];
        if (!taken[i] || !is_in(rec, r))
            continue;
        r->count++;
        r->sum_n += rec->n;
        r->min_n = rec->n < r->min_n ? rec->n : r->min_n;
        r->odd += rec->n % 2 != 0;
        if (rec->x == rec->x) {
            r->values++;
            r->sum_x += rec->x;
            r->max_x = rec->x > r->max_x ? rec->x : r->max_x;
        }
    }
    if (r->count == 0)
        return;
    oracle_ends(records, upto, taken, r);
    oracle_spread(records, upto, taken, r);
    oracle_sketches(records, upto, taken, r);
    oracle_top(records, upto, taken, r);
}

// How many results the key's window has, and how many records the last of them had.
static uint32_t results_of(const struct results *out, uint64_t key, int64_t end,
                           uint64_t *ret_shown)
{
    uint32_t count = 0;
    *ret_shown = 0;
    for (uint32_t i = 0; i < out->count; i++) {
        if (out->rows[i].key != key || out->rows[i].end != end)
            continue;
        count++;
        *ret_shown = out->rows[i].count;
    }
    return count;
}

// Fire every window of every key that ends in (before, now].
static void oracle_fire(const struct rig_record *records, uint32_t upto, const bool *taken,
                        const struct settings *s, int64_t before, int64_t now, struct results *out)
{
    bool seen_any = false;
    int64_t low = 0, high = 0;
    for (uint32_t i = 0; i < upto; i++) {
        if (!taken[i])
            continue;
        low = !seen_any || records[i].ts < low ? records[i].ts : low;
        high = !seen_any || records[i].ts > high ? records[i].ts : high;
        seen_any = true;
    }
    if (!seen_any)
        return;
    int64_t start = floor_to(low - s->size - s->offset, s->every) + s->offset;
    for (; start <= high; start += s->every) {
        int64_t end = start + s->size;
        if (end <= before || end > now)
            continue;
        for (uint64_t key = 0; key < 12; key++) {
            struct result r = {.fire = end, .start = start, .end = end, .key = key};
            uint64_t shown;
            r.revision = s->count > 0 ? results_of(out, key, end, &shown) : 0;
            oracle_result(records, upto, taken, &r);
            if (r.count > 0)
                out->rows[out->count++] = r;
        }
    }
}

static uint32_t oracle(const struct rig_record *records, const struct settings *s,
                       struct results *out)
{
    bool taken[RECORDS] = {false};
    int64_t clock = INT64_MIN, watermark = INT64_MIN;
    uint32_t late = 0;
    out->count = 0;
    for (uint32_t i = 0; i < RECORDS; i++) {
        const struct rig_record *rec = &records[i];
        int64_t first = floor_to(rec->ts - s->size - s->offset, s->every) + s->offset + s->every;
        bool kept = false;
        for (int64_t start = first; start <= rec->ts; start += s->every)
            kept |= watermark == INT64_MIN || start + s->size + s->late > watermark;
        taken[i] = kept;
        late += !kept;
        for (int64_t start = first; kept && start <= rec->ts; start += s->every) {
            int64_t end = start + s->size;
            bool open = watermark == INT64_MIN || end > watermark;
            if (!open && end + s->late <= watermark)
                continue;
            struct result r = {.start = start, .end = end, .key = rec->key, .partial = open};
            r.fire = watermark == INT64_MIN ? INT64_MIN
                                            : floor_to(watermark - s->size - s->offset, s->every)
                                                  + s->offset + s->size;
            uint64_t shown;
            r.revision = results_of(out, r.key, end, &shown);
            oracle_result(records, i + 1, taken, &r);
            if (!open || (s->count > 0 && r.count - shown >= s->count))
                out->rows[out->count++] = r;
        }
        clock = rec->ts > clock ? rec->ts : clock;
        if (clock - s->out_of_order > watermark) {
            int64_t before = watermark;
            watermark = clock - s->out_of_order;
            oracle_fire(records, i + 1, taken, s, before, watermark, out);
        }
    }
    oracle_fire(records, RECORDS, taken, s, watermark, INT64_MAX, out);
    return late;
}

/* The engine. */

static void collect(void *context, const struct rml_schema *schema,
                    const struct rml_result_row *row)
{
    struct results *results = context;
    struct result *r = &results->rows[results->count++];
    *r = (struct result){.fire = row->fire};
    rig_read_field(schema, row->record, "window_start", &r->start, 8);
    rig_read_field(schema, row->record, "window_end", &r->end, 8);
    rig_read_field(schema, row->record, "key", &r->key, 8);
    rig_read_field(schema, row->record, "revision", &r->revision, 4);
    if (rml_schema_find(schema, "partial", 7) != RML_FIELD_ABSENT)
        rig_read_field(schema, row->record, "partial", &r->partial, 1);
    rig_read_field(schema, row->record, "count_", &r->count, 8);
    rig_read_field(schema, row->record, "sum_n", &r->sum_n, 8);
    rig_read_field(schema, row->record, "min_n", &r->min_n, 8);
    rig_read_field(schema, row->record, "sum_x", &r->sum_x, 8);
    rig_read_field(schema, row->record, "max_x", &r->max_x, 8);
    rig_read_field(schema, row->record, "odd", &r->odd, 8);
    rig_read_field(schema, row->record, "first_n", &r->first_n, 8);
    rig_read_field(schema, row->record, "last_n", &r->last_n, 8);
    rig_read_field(schema, row->record, "first_tag", r->first_tag, 16);
    rig_read_field(schema, row->record, "last_tag", r->last_tag, 16);
    rig_read_field(schema, row->record, "mix_n", &r->mix_n, 8);
    rig_read_field(schema, row->record, "range_n", &r->range_n, 8);
    rig_read_field(schema, row->record, "below_0", &r->below[0], 8);
    rig_read_field(schema, row->record, "below_1", &r->below[1], 8);
    rig_read_field(schema, row->record, "below_2", &r->below[2], 8);
    rig_read_field(schema, row->record, "below_3", &r->below[3], 8);
    rig_read_field(schema, row->record, "var_x", &r->var_x, 8);
    rig_read_field(schema, row->record, "stddev_n", &r->stddev_n, 8);
    rig_read_field(schema, row->record, "rate_n", &r->rate_n, 8);
    rig_read_field(schema, row->record, "ewma_x", &r->ewma_x, 8);
    if (rml_schema_find(schema, "median_n", 8) == RML_FIELD_ABSENT)
        return;
    rig_read_field(schema, row->record, "median_n", &r->median_n, 8);
    rig_read_field(schema, row->record, "p90_x", &r->p90_x, 8);
    if (rml_schema_find(schema, "p90_exact", 9) != RML_FIELD_ABSENT)
        rig_read_field(schema, row->record, "p90_exact", &r->p90_exact, 8);
    rig_read_field(schema, row->record, "distinct_n", &r->distinct_n, 8);
    rig_read_field(schema, row->record, "top_n_1", &r->top_n[0], 8);
    rig_read_field(schema, row->record, "top_n_1_count", &r->top_n_count[0], 8);
    rig_read_field(schema, row->record, "top_n_2", &r->top_n[1], 8);
    rig_read_field(schema, row->record, "top_n_2_count", &r->top_n_count[1], 8);
}

static void print_window(const struct settings *s, char text[192])
{
    char late[32] = "on_late: drop", early[48];
    if (!s->drops)
        snprintf(late, sizeof late, "late: %lldns", (long long)s->late);
    rig_print_trigger(s->count, early);
    snprintf(text, 192, "{type: sliding, size: %lldns, every: %lldns, offset: %lldns, %s%s}",
             (long long)s->size, (long long)s->every, (long long)s->offset, late, early);
}

static uint32_t engine(const struct rig_record *records, const struct settings *s,
                       struct results *out, uint64_t counts[RML_STAGE_COUNTERS])
{
    static const char sketches[] =
        ",\n      median_n: median(n), p90_x: 'quantile(x, 0.9)', distinct_n: distinct(n),\n"
        "      top_n: 'top(n % 10, 2)'";
    static const char exact[] = ", p90_exact: 'quantile(x, 0.9, exact)'";
    char text[2048], window[192];
    print_window(s, window);
    snprintf(
        text, sizeof text,
        "version: 1\npipeline: random\n%s"
        "runtime: {workers: 1, partitions: %u, state_limit: 64MiB}\n"
        "sources: {in: {schema: event, event_time: ts, partition_by: [key], out_of_order: "
        "%lldns}}\n"
        "stages:\n"
        "  w:\n"
        "    from: in\n    key: key\n"
        "    window: %s\n"
        "    aggregate: {count_: count(), sum_n: sum(n), min_n: min(n), sum_x: sum(x), max_x: "
        "max(x), odd: count_if(n %% 2 != 0),\n"
        "      first_n: first(n), last_n: last(n), first_tag: first(tag), last_tag: last(tag), "
        "mix_n: 'mix(n, x, 3, 1)', "
        "range_n: range(n), "
        "below: 'histogram(n, -100, 0, 250)',\n"
        "      var_x: var_pop(x), stddev_n: stddev_samp(n), "
        "rate_n: rate(n), ewma_x: 'ewma(x, " SPAN_TEXT ")'%s%s}\n"
        "sinks: {out: {from: w, type: ring}}\n",
        rig_schema, s->partitions, (long long)s->out_of_order, window, s->sketched ? sketches : "",
        s->exact ? exact : "");
    out->count = 0;
    rig_run(text, records, collect, out, counts);
    return (uint32_t)counts[RML_STAGE_late];
}

/* Cases. */

static void draw_case(struct settings *s, struct rig_record *records)
{
    int64_t unit = 1 + (int64_t)draw(3);
    s->every = unit * (1 + (int64_t)draw(6));
    s->size = s->every * (1 + (int64_t)draw(draw(3) == 0 ? 24 : 4))
              + (draw(3) == 0 ? unit * (int64_t)draw(5) : 0);
    s->offset = draw(2) ? 0 : (int64_t)draw(40) - 20;
    s->late = draw(2) ? 0 : (int64_t)draw(30);
    s->drops = s->late == 0 && draw(2);
    s->count = rig_draw_trigger();
    s->out_of_order = draw(2) ? 0 : (int64_t)draw(20);
    s->partitions = 1 + (uint32_t)draw(PARTITIONS);
    s->sketched = draw(2);
    s->exact = s->sketched && draw(2);
    rig_draw_records(records);
}

static bool near(double a, double b, double scale)
{
    return fabs(a - b) <= 1e-10 * scale;
}

// Values of x lie between -128 and 128, those of n between -500 and 499.
static bool same_sketches(const struct result *got, const struct result *expected, bool exact)
{
    // Up to 63 values are exact.
    double accuracy = expected->count <= 63 ? 1e-12 : 0.00776;
    return (expected->values == 0
            || (fabs(got->p90_x - expected->p90_x) <= accuracy * expected->scale_x
                && (!exact || fabs(got->p90_exact - expected->p90_x) <= 1e-12 * expected->scale_x)))
           && fabs(got->median_n - expected->median_n) <= accuracy * expected->scale_n
           && got->distinct_n == expected->distinct_n
           && memcmp(got->top_n, expected->top_n, sizeof got->top_n) == 0
           && memcmp(got->top_n_count, expected->top_n_count, sizeof got->top_n_count) == 0;
}

static bool same_more(const struct result *got, const struct result *expected)
{
    bool x =
        expected->values == 0
        || (near(got->var_x, expected->var_x, 16384) && near(got->ewma_x, expected->ewma_x, 128));
    return x && got->first_n == expected->first_n && got->last_n == expected->last_n
           && rig_tag_says(got->first_tag, expected->first_n)
           && rig_tag_says(got->last_tag, expected->last_n) && got->range_n == expected->range_n
           && got->mix_n == expected->mix_n
           && memcmp(got->below, expected->below, sizeof got->below) == 0
           && near(got->stddev_n, expected->stddev_n, 500)
           && near(got->rate_n, expected->rate_n, fabs(expected->rate_n));
}

static bool same(const struct settings *s, const struct result *engine_row,
                 const struct result *oracle_row)
{
    bool x = oracle_row->values == 0
             || (engine_row->sum_x == oracle_row->sum_x && engine_row->max_x == oracle_row->max_x);
    return x && same_more(engine_row, oracle_row)
           && (!s->sketched || same_sketches(engine_row, oracle_row, s->exact))
           && engine_row->fire == oracle_row->fire && engine_row->start == oracle_row->start
           && engine_row->end == oracle_row->end && engine_row->key == oracle_row->key
           && engine_row->revision == oracle_row->revision
           && engine_row->partial == oracle_row->partial && engine_row->count == oracle_row->count
           && engine_row->sum_n == oracle_row->sum_n && engine_row->min_n == oracle_row->min_n
           && engine_row->odd == oracle_row->odd;
}

static void compare(const struct settings *s, const struct results *got,
                    const struct results *expected)
{
    uint32_t both = got->count < expected->count ? got->count : expected->count;
    for (uint32_t i = 0; i < both; i++) {
        const struct result *g = &got->rows[i], *e = &expected->rows[i];
        if (same(s, g, e))
            continue;
        printf("row %u: got fire %lld [%lld, %lld) key %llu rev %u count %llu sum %lld\n"
               "   expected fire %lld [%lld, %lld) key %llu rev %u count %llu sum %lld\n",
               i, (long long)g->fire, (long long)g->start, (long long)g->end,
               (unsigned long long)g->key, g->revision, (unsigned long long)g->count,
               (long long)g->sum_n, (long long)e->fire, (long long)e->start, (long long)e->end,
               (unsigned long long)e->key, e->revision, (unsigned long long)e->count,
               (long long)e->sum_n);
        fail();
    }
    assert_int_equal(got->count, expected->count);
}

static void any_cut_into_batches_and_partitions_gives_what_single_records_give(void **state)
{
    (void)state;
    static struct results got, expected;
    static struct rig_record records[RECORDS];
    uint64_t first, cases, earlies = 0;
    rig_cases(300, &first, &cases);
    for (uint64_t c = first; c < first + cases; c++) {
        struct settings s;
        uint64_t counts[RML_STAGE_COUNTERS];
        rig_begin_case(c);
        draw_case(&s, records);
        uint32_t late_expected = oracle(records, &s, &expected);
        uint32_t late = engine(records, &s, &got, counts);
        qsort(got.rows, got.count, sizeof got.rows[0], by_place);
        qsort(expected.rows, expected.count, sizeof expected.rows[0], by_place);
        if (late != late_expected || got.count != expected.count)
            printf("RML_SEED=%llu size %lld every %lld offset %lld late %lld out_of_order %lld "
                   "partitions %u: %u late, expected %u; %u rows, expected %u\n",
                   (unsigned long long)c, (long long)s.size, (long long)s.every,
                   (long long)s.offset, (long long)s.late, (long long)s.out_of_order, s.partitions,
                   late, late_expected, got.count, expected.count);
        compare(&s, &got, &expected);
        assert_int_equal(late, late_expected);
        earlies += counts[RML_STAGE_early];
    }
    // The draw must keep meeting what is hard.
    if (cases > 1)
        assert_true(earlies > 10000);
}

TEST_MAIN(CLAIM(any_cut_into_batches_and_partitions_gives_what_single_records_give))
