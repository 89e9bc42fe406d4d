/*
 * Random pipelines over random disorder, cut into random batches and partitions, against an oracle
 * that takes one record at a time and keeps every window as a list of records.
 */
#include <math.h>

#include "tests/support/cases.h"

#define RECORDS  RIG_RECORDS
#define ROWS_MAX 40000
#define KEYS     12

enum knob {
    SIZE,
    EVERY,
    OFFSET,
    LATE,
    DROPS,    // on_late: drop is written where there is no late
    TRIGGER,  // see rig_draw_trigger
    EVERY_MS,
    OUT_OF_ORDER,
    PARTITIONS,
    KEYS_MAX,
    EVICTS,
    SKETCHED,  // aggregates whose state grows
    EXACT,     // and one that keeps its values: then panes that overlap do not stay merged
    KNOBS
};

static const struct cases_knob knobs[KNOBS] = {
    [SIZE] = {.name = "size", .simplest = 1},
    [EVERY] = {.name = "every", .simplest = 1},
    [OFFSET] = {.name = "offset", .simplest = 0},
    [LATE] = {.name = "late", .simplest = 0},
    [DROPS] = {.name = "drops", .simplest = 0},
    [TRIGGER] = {.name = "trigger", .simplest = 0},
    [EVERY_MS] = {.name = "every_ms", .simplest = 0},
    [OUT_OF_ORDER] = {.name = "out_of_order", .simplest = 0},
    [PARTITIONS] = {.name = "partitions", .simplest = 1},
    [KEYS_MAX] = {.name = "max_keys", .simplest = 100, .else_to = 1},
    [EVICTS] = {.name = "evicts", .simplest = 0},
    [SKETCHED] = {.name = "sketched", .simplest = 0},
    [EXACT] = {.name = "exact", .simplest = 0},
};

/* What the oracle can be made to get wrong, to see that it is noticed. */
static enum fault {
    NO_FAULT,
    END_IS_INSIDE,         // a record at a window's end is in it
    FIRST_SEEN_GOES,       // the key that came first is evicted, however often it came again
    EVICTED_IS_KEPT,       // an evicted key goes on where it was
    LATE_BY_ONE_IS_TAKEN,  // the last moment of lateness is one later
    WALL_CLOCK_STANDS,     // and triggers nothing
    FAR_AHEAD_MOVES_TIME,  // a record that is refused for its time moves the watermark
    FAULTS
} fault;

/* What the draw must keep meeting. */
static uint64_t seen_early, seen_evicted, seen_refused, seen_late, seen_corrections, seen_ahead;

// A result as both sides give it.
struct result {
    uint32_t made;  // in which order; of one key and window it has to be the same
    int64_t fire, start, end;
    uint64_t key;
    uint32_t revision;
    bool partial, evicted;
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
    uint64_t distinct_n, bag_n;  // the engine counts it in two ways
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
    return (x->made > y->made) - (x->made < y->made);
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
    return rec->key == r->key && rec->ts >= r->start && rec->ts < r->end + (fault == END_IS_INSIDE);
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
    *r = (struct result){.partial = r->partial,
                         .evicted = r->evicted,
                         .fire = r->fire,
                         .start = r->start,
                         .end = r->end,
                         .key = r->key,
                         .revision = r->revision,
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

/* Where the oracle is. */
static struct oracle {
    const struct rig_record *records;
    const int64_t *knobs;
    struct results *out;
    uint32_t count;       // records looked at so far
    bool taken[RECORDS];  // of those: they count, and their key was not evicted since
    int64_t watermark;

    struct {
        bool lives;
        int64_t until;                   // a window of it can be corrected, or its revision is kept
        uint32_t first_seen, last_seen;  // records
        uint32_t rows_before;            // rows of `out` that are of former lives
    } keys[KEYS];
} o;

static int64_t floor_end(int64_t time)
{
    return floor_to(time - o.knobs[SIZE] - o.knobs[OFFSET], o.knobs[EVERY]) + o.knobs[OFFSET]
           + o.knobs[SIZE];
}

static int64_t first_start(int64_t ts)
{
    return floor_to(ts - o.knobs[SIZE] - o.knobs[OFFSET], o.knobs[EVERY]) + o.knobs[OFFSET]
           + o.knobs[EVERY];
}

// The end of the last window that has this time in it.
static int64_t last_end(int64_t ts)
{
    return floor_to(ts - o.knobs[OFFSET], o.knobs[EVERY]) + o.knobs[OFFSET] + o.knobs[SIZE];
}

static void add_row(struct result r)
{
    oracle_result(o.records, o.count, o.taken, &r);
    if (r.count == 0)
        return;
    RML_CHECK(o.out->count < ROWS_MAX);
    r.made = o.out->count;
    o.out->rows[o.out->count++] = r;
}

// How many rows this window has since the key has state, and how many records the last of them had.
static uint32_t rows_of(uint64_t key, int64_t end, uint64_t *ret_shown)
{
    uint32_t count = 0;
    *ret_shown = 0;
    for (uint32_t i = o.keys[key].rows_before; i < o.out->count; i++) {
        if (o.out->rows[i].key != key || o.out->rows[i].end != end)
            continue;
        count++;
        *ret_shown = o.out->rows[i].count;
    }
    return count;
}

// Every window of the key that ends in (before, now] and has records. At the moment `fire`, or its end.
static void fire_key(uint64_t key, int64_t before, int64_t now, bool evicted, int64_t fire)
{
    int64_t low = INT64_MAX, high = INT64_MIN;
    for (uint32_t i = 0; i < o.count; i++) {
        if (!o.taken[i] || o.records[i].key != key)
            continue;
        low = o.records[i].ts < low ? o.records[i].ts : low;
        high = o.records[i].ts > high ? o.records[i].ts : high;
    }
    int64_t start = low > high ? INT64_MAX : first_start(low) - o.knobs[EVERY];
    for (; start <= high; start += o.knobs[EVERY]) {
        int64_t end = start + o.knobs[SIZE];
        uint64_t shown;
        if (end > before && end <= now)
            add_row((struct result){.fire = evicted ? fire : end,
                                    .start = start,
                                    .end = end,
                                    .key = key,
                                    .revision = rows_of(key, end, &shown),
                                    .evicted = evicted});
    }
}

static void move(int64_t watermark)
{
    for (uint64_t key = 0; key < KEYS; key++) {
        fire_key(key, o.watermark, watermark, false, 0);
        o.keys[key].lives = o.keys[key].lives && o.keys[key].until > watermark;
    }
    o.watermark = watermark;
}

static void evict(uint64_t key)
{
    bool none = o.watermark == INT64_MIN;
    fire_key(key, none ? INT64_MIN : o.watermark - o.knobs[LATE], INT64_MAX, true,
             none ? INT64_MIN : floor_end(o.watermark));
    o.keys[key].lives = false;
    for (uint32_t i = 0; i < o.count && fault != EVICTED_IS_KEPT; i++)
        o.taken[i] = o.taken[i] && o.records[i].key != key;
}

// Is there room for the key, or can it be made?
static bool make_room(uint64_t key)
{
    uint32_t partitions = (uint32_t)o.knobs[PARTITIONS];
    uint32_t living = 0, oldest = KEYS, least = UINT32_MAX;
    for (uint32_t k = 0; k < KEYS; k++) {
        if (!o.keys[k].lives
            || rig_partition_of(k, partitions) != rig_partition_of(key, partitions))
            continue;
        uint32_t seen = fault == FIRST_SEEN_GOES ? o.keys[k].first_seen : o.keys[k].last_seen;
        living++;
        oldest = seen < least ? k : oldest;
        least = seen < least ? seen : least;
    }
    if (o.keys[key].lives || living < o.knobs[KEYS_MAX])
        return true;
    if (o.knobs[EVICTS])
        evict(oldest);
    return o.knobs[EVICTS];
}

// Of the windows around a record those that have not fired give an early row, if so many records of its key
// have come since their last one, and with `corrects` those that have fired their next.
static void show(const struct rig_record *rec, int64_t trigger, bool corrects)
{
    for (int64_t start = first_start(rec->ts); start <= rec->ts; start += o.knobs[EVERY]) {
        int64_t end = start + o.knobs[SIZE];
        bool none = o.watermark == INT64_MIN, open = none || end > o.watermark;
        if (!open && (!corrects || end + o.knobs[LATE] <= o.watermark))
            continue;
        struct result r = {.fire = none ? INT64_MIN : floor_end(o.watermark),
                           .start = start,
                           .end = end,
                           .key = rec->key,
                           .partial = open};
        uint64_t shown;
        r.revision = rows_of(rec->key, end, &shown);
        oracle_result(o.records, o.count, o.taken, &r);
        if (open && (trigger == 0 || r.count - shown < (uint64_t)trigger))
            continue;
        // what a window has given is kept as long as what lies at its end
        int64_t until = last_end(end - 1) + o.knobs[LATE];
        if ((open || r.revision > 0) && until > o.keys[rec->key].until)
            o.keys[rec->key].until = until;
        add_row(r);
    }
}

struct doors {
    uint64_t late, refused;
};

static void take(const struct rig_record *rec, struct doors *doors)
{
    int64_t until = last_end(rec->ts) + o.knobs[LATE];
    if (o.watermark != INT64_MIN && until + (fault == LATE_BY_ONE_IS_TAKEN) <= o.watermark) {
        doors->late++;
        return;
    }
    if (!make_room(rec->key)) {
        doors->refused++;
        return;
    }
    if (!o.keys[rec->key].lives) {
        o.keys[rec->key].lives = true;
        o.keys[rec->key].until = INT64_MIN;
        o.keys[rec->key].first_seen = o.count;
        o.keys[rec->key].rows_before = o.out->count;
    }
    o.keys[rec->key].last_seen = o.count;
    if (until > o.keys[rec->key].until)
        o.keys[rec->key].until = until;
    o.taken[o.count++] = true;
    show(rec, o.knobs[TRIGGER] < 0 ? 1 : o.knobs[TRIGGER], true);
    o.count--;
}

static void tick(void)
{
    for (uint32_t i = 0; i < o.count; i++)
        if (o.taken[i])
            show(&o.records[i], 1, false);
}

static struct doors oracle(const struct cases_case *c, struct results *out)
{
    o = (struct oracle){
        .records = c->stream.records, .knobs = c->knobs, .out = out, .watermark = INT64_MIN};
    struct rig_clocks clocks = rig_clocks(&c->stream, c->knobs[OUT_OF_ORDER]);
    struct doors doors = {0};
    out->count = 0;
    while (o.count <= c->stream.count) {
        if (fault != WALL_CLOCK_STANDS && rig_triggers(&c->stream, o.count, c->knobs[EVERY_MS]))
            tick();
        if (o.count == c->stream.count)
            break;
        bool ahead = rig_is_ahead(&c->stream, o.count);
        seen_ahead += ahead;
        if (!ahead)
            take(&o.records[o.count], &doors);
        if (ahead && fault != FAR_AHEAD_MOVES_TIME) {
            o.count++;
            continue;
        }
        int64_t watermark = rig_clocks_see(&clocks, o.count++);
        if (watermark > o.watermark)
            move(watermark);
    }
    move(INT64_MAX);
    return doors;
}

/* The engine. */

static void collect(void *context, const struct rml_schema *schema,
                    const struct rml_result_row *row)
{
    struct results *results = context;
    RML_CHECK(results->count < ROWS_MAX);
    struct result *r = &results->rows[results->count];
    *r = (struct result){.made = results->count++, .fire = row->fire};
    rig_read_field(schema, row->record, "window_start", &r->start, 8);
    rig_read_field(schema, row->record, "window_end", &r->end, 8);
    rig_read_field(schema, row->record, "key", &r->key, 8);
    rig_read_field(schema, row->record, "revision", &r->revision, 4);
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
    if (rml_schema_find(schema, "partial", 7) != RML_FIELD_ABSENT)
        rig_read_field(schema, row->record, "partial", &r->partial, 1);
    if (rml_schema_find(schema, "evicted", 7) != RML_FIELD_ABSENT)
        rig_read_field(schema, row->record, "evicted", &r->evicted, 1);
    if (rml_schema_find(schema, "median_n", 8) == RML_FIELD_ABSENT)
        return;
    rig_read_field(schema, row->record, "median_n", &r->median_n, 8);
    rig_read_field(schema, row->record, "p90_x", &r->p90_x, 8);
    if (rml_schema_find(schema, "p90_exact", 9) != RML_FIELD_ABSENT)
        rig_read_field(schema, row->record, "p90_exact", &r->p90_exact, 8);
    rig_read_field(schema, row->record, "distinct_n", &r->distinct_n, 8);
    rig_read_field(schema, row->record, "bag_n", &r->bag_n, 8);
    rig_read_field(schema, row->record, "top_n_1", &r->top_n[0], 8);
    rig_read_field(schema, row->record, "top_n_1_count", &r->top_n_count[0], 8);
    rig_read_field(schema, row->record, "top_n_2", &r->top_n[1], 8);
    rig_read_field(schema, row->record, "top_n_2_count", &r->top_n_count[1], 8);
}

static void write_file(const int64_t *knob, char *text, size_t bytes)
{
    static const char sketches[] =
        ",\n      median_n: median(n), p90_x: 'quantile(x, 0.9)', distinct_n: distinct(n),\n"
        "      bag_n: bag(n),\n"
        "      top_n: 'top(n % 10, 2)'";
    static const char exact[] = ", p90_exact: 'quantile(x, 0.9, exact)'";
    char late[32] = "on_late: drop", early[80];
    rig_print_trigger(knob[TRIGGER], knob[EVERY_MS], early);
    if (!knob[DROPS] || knob[LATE] > 0)
        snprintf(late, sizeof late, "late: %lldns", (long long)knob[LATE]);
    snprintf(
        text, bytes,
        "version: 1\npipeline: random\n%s"
        "runtime: {workers: 1, partitions: %lld, state_limit: 64MiB}\n"
        "sources: {in: {schema: event, event_time: ts, partition_by: [key], out_of_order: "
        "%lldns}}\n"
        "stages:\n"
        "  w:\n"
        "    from: in\n    key: key\n    max_keys: %lld\n    when_full: %s\n"
        "    window: {type: sliding, size: %lldns, every: %lldns, offset: %lldns, %s%s}\n"
        "    aggregate: {count_: count(), sum_n: sum(n), min_n: min(n), sum_x: sum(x), max_x: "
        "max(x), odd: count_if(n %% 2 != 0),\n"
        "      first_n: first(n), last_n: last(n), first_tag: first(tag), last_tag: last(tag), "
        "mix_n: 'mix(n, x, 3, 1)', "
        "range_n: range(n), "
        "below: 'histogram(n, -100, 0, 250)',\n"
        "      var_x: var_pop(x), stddev_n: stddev_samp(n), "
        "rate_n: rate(n), ewma_x: 'ewma(x, " SPAN_TEXT ")'%s%s}\n"
        "sinks: {out: {from: w, type: ring}}\n",
        rig_schema, (long long)knob[PARTITIONS], (long long)knob[OUT_OF_ORDER],
        (long long)knob[KEYS_MAX], knob[EVICTS] ? "evict_oldest" : "refuse", (long long)knob[SIZE],
        (long long)knob[EVERY], (long long)knob[OFFSET], late, early,
        knob[SKETCHED] ? sketches : "", knob[SKETCHED] && knob[EXACT] ? exact : "");
}

/* Cases. */

static void draw_case(struct cases_case *c)
{
    int64_t unit = 1 + (int64_t)draw(3), *knob = c->knobs;
    knob[EVERY] = unit * (1 + (int64_t)draw(6));
    knob[SIZE] = knob[EVERY] * (1 + (int64_t)draw(draw(3) == 0 ? 24 : 4))
                 + (draw(3) == 0 ? unit * (int64_t)draw(5) : 0);
    knob[OFFSET] = draw(2) ? 0 : (int64_t)draw(40) - 20;
    knob[LATE] = draw(2) ? 0 : (int64_t)draw(30);
    knob[DROPS] = (int64_t)draw(2);
    knob[TRIGGER] = rig_draw_trigger();
    knob[EVERY_MS] = rig_draw_every_ms();
    knob[OUT_OF_ORDER] = draw(2) ? 0 : (int64_t)draw(20);
    knob[KEYS_MAX] = draw(2) ? 100 : 1 + (int64_t)draw(5);
    knob[EVICTS] = draw(3) > 0;
    knob[SKETCHED] = (int64_t)draw(2);
    knob[EXACT] = (int64_t)draw(2);
    cases_draw_stream(&c->stream, &knob[PARTITIONS]);
    rig_draw_latest(&c->stream);
}

static bool can_be(const int64_t *knob)
{
    return rig_can_be_every_ms(knob[EVERY_MS]) && knob[EVERY] >= 1 && knob[SIZE] >= knob[EVERY];
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
           && got->distinct_n == expected->distinct_n && got->bag_n == expected->distinct_n
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

static bool same(const struct result *got, const struct result *expected, const int64_t *knob)
{
    bool x =
        expected->values == 0 || (got->sum_x == expected->sum_x && got->max_x == expected->max_x);
    return x && same_more(got, expected)
           && (!knob[SKETCHED] || same_sketches(got, expected, knob[EXACT]))
           && got->fire == expected->fire && got->start == expected->start
           && got->end == expected->end && got->key == expected->key
           && got->revision == expected->revision && got->partial == expected->partial
           && got->evicted == expected->evicted && got->count == expected->count
           && got->sum_n == expected->sum_n && got->min_n == expected->min_n
           && got->odd == expected->odd;
}

static void print_row(const char *whose, const struct results *results, uint32_t row)
{
    const struct result *r = &results->rows[row];
    if (row == results->count) {
        printf("%s no row\n", whose);
        return;
    }
    printf("%s fire %lld [%lld, %lld) key %llu rev %u%s%s count %llu sum %lld\n", whose,
           (long long)r->fire, (long long)r->start, (long long)r->end, (unsigned long long)r->key,
           r->revision, r->partial ? " partial" : "", r->evicted ? " evicted" : "",
           (unsigned long long)r->count, (long long)r->sum_n);
}

static bool holds(const struct cases_case *c, bool say)
{
    static struct results got, expected;
    char text[2048];
    uint64_t counts[RML_STAGE_COUNTERS];
    got.count = 0;
    write_file(c->knobs, text, sizeof text);
    const char *wrong = rig_run_checked(text, &c->stream, collect, &got, counts);
    struct doors doors = oracle(c, &expected);
    qsort(got.rows, got.count, sizeof got.rows[0], by_place);
    qsort(expected.rows, expected.count, sizeof expected.rows[0], by_place);
    uint32_t row = 0;
    while (row < got.count && row < expected.count
           && same(&got.rows[row], &expected.rows[row], c->knobs))
        row++;
    seen_evicted += counts[RML_STAGE_windows_evicted];
    seen_refused += counts[RML_STAGE_refused];
    seen_early += counts[RML_STAGE_early];
    seen_late += counts[RML_STAGE_late];
    seen_corrections += counts[RML_STAGE_corrections];
    bool same_doors =
        counts[RML_STAGE_late] == doors.late && counts[RML_STAGE_refused] == doors.refused;
    if (wrong == NULL && row == got.count && row == expected.count && same_doors)
        return true;
    if (say) {
        printf("%s\nlate %llu, expected %llu; refused %llu, expected %llu; %u rows, expected %u; "
               "the first that differs is %u\n",
               wrong != NULL ? wrong : "", (unsigned long long)counts[RML_STAGE_late],
               (unsigned long long)doors.late, (unsigned long long)counts[RML_STAGE_refused],
               (unsigned long long)doors.refused, got.count, expected.count, row);
        print_row("     got", &got, row);
        print_row("expected", &expected, row);
    }
    return false;
}

static const struct cases_kind kind = {
    .knob_count = KNOBS,
    .knobs = knobs,
    .draw = draw_case,
    .can_be = can_be,
    .write = write_file,
    .holds = holds,
};

static void any_cut_into_batches_and_partitions_gives_what_single_records_give(void **state)
{
    (void)state;
    if (!cases_hold(&kind, "windows", 4000))
        return;
    assert_true(seen_evicted > 1000);
    assert_true(seen_refused > 1000);
    assert_true(seen_early > 1000);
    assert_true(seen_late > 1000);
    assert_true(seen_corrections > 1000);
    assert_true(seen_ahead > 1000);
}

static void a_fault_in_the_oracle_is_found_and_made_small(void **state)
{
    (void)state;
    for (uint32_t f = NO_FAULT + 1; f < FAULTS; f++) {
        fault = (enum fault)f;
        cases_find_small(&kind, f, 4);
    }
    fault = NO_FAULT;
}

TEST_MAIN(CLAIM(any_cut_into_batches_and_partitions_gives_what_single_records_give),
          CLAIM(a_fault_in_the_oracle_is_found_and_made_small))
