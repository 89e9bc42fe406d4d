/*
 * Random windows of so many records, and global ones, cut into random batches and partitions, against
 * an oracle that looks back over the records of a key as they came, one after the other.
 */
#include "tests/support/cases.h"

#define RECORDS  RIG_RECORDS
#define ROWS_MAX (2 * RECORDS)
#define KEYS     12

enum knob { GLOBAL, TRIGGER, EVERY_MS, SIZE, EVERY, PARTITIONS, KEYS_MAX, EVICTS, MIDDLE, KNOBS };

static const struct cases_knob knobs[KNOBS] = {
    [GLOBAL] = {.name = "global", .simplest = 0},
    [TRIGGER] = {.name = "trigger", .simplest = 0},  // of a global one
    [EVERY_MS] = {.name = "every_ms", .simplest = 0},
    [SIZE] = {.name = "size", .simplest = 1},
    [EVERY] = {.name = "every", .simplest = 1},
    [PARTITIONS] = {.name = "partitions", .simplest = 1},
    [KEYS_MAX] = {.name = "max_keys", .simplest = 100, .else_to = 1},
    [EVICTS] = {.name = "evicts", .simplest = 0},
    [MIDDLE] = {.name = "middle", .simplest = 0},
};

// By knob: states that stay as they are, that grow (exact up to 63 values), that keep all values.
static const char *const middles[] = {"", ", bag_n: bag(n), middle_n: median(n)",
                                      ", bag_n: bag(n), middle_n: 'quantile(n, 0.5, exact)'"};

/* What the oracle can be made to get wrong, to see that it is noticed. */
static enum fault {
    NO_FAULT,
    ONE_TOO_FEW,        // a window's first record is not in it
    NEWEST_GOES,        // the key used last is evicted
    EVICTED_GOES_DUMB,  // without a row
    EVICTION_ENDS_ALL,  // the process among it
    WALL_CLOCK_STANDS,  // and triggers nothing
    FAULTS
} fault;

/* What the draw must keep meeting. */
static uint64_t seen_rows, seen_refused, seen_evicted;

struct result {
    int64_t fire, start, end;
    uint64_t key, count;
    uint32_t revision;
    bool partial, evicted;
    int64_t sum_n, max_n, first_n, last_n;
    char first_tag[16], last_tag[16];  // the engine's alone: of the same records
    int64_t mix_n;
    uint64_t bag_n;
    double sum_x, median_n;
    bool has_middle;  // the engine's alone: it was asked for these two
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
    for (uint32_t i = 0; i < count; i++)
        r.bag_n += i == 0 || sorted[i] != sorted[i - 1];
    r.median_n = ((double)sorted[(count - 1) / 2] + (double)sorted[count / 2]) / 2;
    return r;
}

/* Where the oracle is. */
static struct oracle {
    const struct cases_case *c;
    struct results *out;
    uint64_t refused;
    int64_t
        clock[RIG_PARTITIONS];  // the greatest of a lane that a record of the partition came with

    struct {
        uint32_t count;  // records since the key has state
        const struct rig_record *own[RECORDS];
        uint32_t last_seen;
        uint32_t shown, results;  // of a global window
    } keys[KEYS];
} o;

// The key's window that ends with its record number `end`, of which there may be fewer.
static void give(uint64_t key, uint32_t end, bool evicted, int64_t fire)
{
    uint32_t size = (uint32_t)o.c->knobs[SIZE] - (fault == ONE_TOO_FEW && o.c->knobs[SIZE] > 1);
    uint32_t first = end > size ? end - size : 0, count = o.keys[key].count;
    if (first >= count)
        return;
    struct result r = row_of(&o.keys[key].own[first], count - first, fire);
    r.evicted = evicted;
    RML_CHECK(o.out->count < ROWS_MAX);
    o.out->rows[o.out->count++] = r;
}

// All that the key has.
static void give_global(uint64_t key, bool partial, bool evicted, int64_t fire)
{
    struct result r = row_of(o.keys[key].own, o.keys[key].count, fire);
    r.start = INT64_MIN;
    r.end = INT64_MAX;
    r.revision = o.keys[key].results++;
    r.partial = partial;
    r.evicted = evicted;
    o.keys[key].shown = o.keys[key].count;
    RML_CHECK(o.out->count < ROWS_MAX);
    o.out->rows[o.out->count++] = r;
}

// Of what was in no row yet there is one; of a global window in any case.
static void evict(uint64_t key, int64_t fire)
{
    if (o.c->knobs[GLOBAL]) {
        give_global(key, false, true, fire);
        o.keys[key].count = o.keys[key].shown = o.keys[key].results = 0;
        return;
    }
    uint32_t every = (uint32_t)o.c->knobs[EVERY], count = o.keys[key].count;
    RML_CHECK(fault != EVICTION_ENDS_ALL);
    if (count % every != 0 && fault != EVICTED_GOES_DUMB)
        give(key, (count + every - 1) / every * every, true, fire);
    o.keys[key].count = 0;
}

// Is there room for the key, or can it be made?
static bool make_room(uint64_t key, int64_t fire)
{
    uint32_t partitions = (uint32_t)o.c->knobs[PARTITIONS];
    uint32_t living = 0, oldest = KEYS;
    for (uint32_t k = 0; k < KEYS; k++) {
        if (o.keys[k].count == 0
            || rig_partition_of(k, partitions) != rig_partition_of(key, partitions))
            continue;
        living++;
        if (oldest == KEYS
            || (o.keys[k].last_seen < o.keys[oldest].last_seen) != (fault == NEWEST_GOES))
            oldest = k;
    }
    if (o.keys[key].count > 0 || living < o.c->knobs[KEYS_MAX])
        return true;
    if (o.c->knobs[EVICTS])
        evict(oldest, fire);
    return o.c->knobs[EVICTS];
}

// Keys whose window has changed.
static void tick(int64_t watermark)
{
    for (uint64_t key = 0; key < KEYS && o.c->knobs[GLOBAL]; key++) {
        int64_t clock = o.clock[rig_partition_of(key, (uint32_t)o.c->knobs[PARTITIONS])];
        if (o.keys[key].count > o.keys[key].shown)
            give_global(key, true, false, watermark > clock ? watermark : clock);
    }
}

static void take(uint32_t i, int64_t clock)
{
    const struct rig_record *rec = &o.c->stream.records[i];
    int64_t *greatest = &o.clock[rig_partition_of(rec->key, (uint32_t)o.c->knobs[PARTITIONS])];
    *greatest = clock > *greatest ? clock : *greatest;
    if (!make_room(rec->key, clock)) {
        o.refused++;
        return;
    }
    o.keys[rec->key].own[o.keys[rec->key].count++] = rec;
    o.keys[rec->key].last_seen = i;
    uint32_t count = o.keys[rec->key].count;
    if (o.c->knobs[GLOBAL]) {
        uint32_t trigger = (uint32_t)(o.c->knobs[TRIGGER] < 0 ? 1 : o.c->knobs[TRIGGER]);
        if (trigger > 0 && count - o.keys[rec->key].shown >= trigger)
            give_global(rec->key, true, false, clock);
        return;
    }
    if (count % o.c->knobs[EVERY] != 0)
        return;
    give(rec->key, count, false, clock);
    if (o.c->knobs[EVERY] == o.c->knobs[SIZE])
        o.keys[rec->key].count = 0;
}

static uint64_t oracle(const struct cases_case *c, struct results *out)
{
    o = (struct oracle){.c = c, .out = out, .clock = {INT64_MIN, INT64_MIN, INT64_MIN, INT64_MIN}};
    int64_t watermark = INT64_MIN;
    struct rig_clocks clocks = rig_clocks(&c->stream, 0);
    out->count = 0;
    for (uint32_t i = 0; i <= c->stream.count; i++) {
        if (fault != WALL_CLOCK_STANDS && rig_triggers(&c->stream, i, c->knobs[EVERY_MS]))
            tick(watermark);
        if (i == c->stream.count)
            break;
        watermark = rig_clocks_see(&clocks, i);
        take(i, clocks.clock[rig_lane(&c->stream, i)]);
    }
    for (uint64_t key = 0; key < KEYS && c->knobs[GLOBAL]; key++)
        if (o.keys[key].count > 0)
            give_global(key, false, false, INT64_MAX);
    return o.refused;
}

/* The engine. */

static void collect(void *context, const struct rml_schema *schema,
                    const struct rml_result_row *row)
{
    struct results *results = context;
    RML_CHECK(results->count < ROWS_MAX);
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
    r->has_middle = rml_schema_find(schema, "middle_n", 8) != RML_FIELD_ABSENT;
    if (r->has_middle) {
        rig_read_field(schema, row->record, "middle_n", &r->median_n, 8);
        rig_read_field(schema, row->record, "bag_n", &r->bag_n, 8);
    }
    if (rml_schema_find(schema, "partial", 7) != RML_FIELD_ABSENT)
        rig_read_field(schema, row->record, "partial", &r->partial, 1);
    if (rml_schema_find(schema, "evicted", 7) != RML_FIELD_ABSENT)
        rig_read_field(schema, row->record, "evicted", &r->evicted, 1);
}

static void write_file(const int64_t *knob, char *text, size_t bytes)
{
    char window[160], early[80];
    rig_print_trigger(knob[TRIGGER], knob[EVERY_MS], early);
    if (knob[GLOBAL])
        snprintf(window, sizeof window, "{type: global%s}", early);
    else if (knob[EVERY] == knob[SIZE])
        snprintf(window, sizeof window, "{type: tumbling, size: %lld records}",
                 (long long)knob[SIZE]);
    else
        snprintf(window, sizeof window, "{type: sliding, size: %lld records, every: %lld records}",
                 (long long)knob[SIZE], (long long)knob[EVERY]);
    snprintf(text, bytes,
             "version: 1\npipeline: random\n%s"
             "runtime: {workers: 1, partitions: %lld, state_limit: 64MiB}\n"
             "sources: {in: {schema: event, event_time: ts, partition_by: [key]}}\n"
             "stages:\n"
             "  w:\n"
             "    from: in\n    key: key\n    max_keys: %lld\n    when_full: %s\n    window: %s\n"
             "    aggregate: {n: count(), sum_n: sum(n), max_n: max(n), sum_x: sum(x), first_n: "
             "first(n),\n      last_n: last(n), first_tag: first(tag), last_tag: last(tag), "
             "mix_n: 'mix(n, x, -2)'%s}\n"
             "sinks: {out: {from: w, type: ring}}\n",
             rig_schema, (long long)knob[PARTITIONS], (long long)knob[KEYS_MAX],
             knob[EVICTS] ? "evict_oldest" : "refuse", window, middles[knob[MIDDLE]]);
}

/* Cases. */

static void draw_case(struct cases_case *c)
{
    int64_t *knob = c->knobs;
    knob[GLOBAL] = draw(3) == 0;
    knob[TRIGGER] = rig_draw_trigger();
    knob[EVERY_MS] = rig_draw_every_ms();
    knob[SIZE] = 1 + (int64_t)draw(draw(2) ? 4 : 30);
    uint64_t most = (uint64_t)(draw(2) && knob[SIZE] > 3 ? 3 : knob[SIZE]);
    knob[EVERY] = draw(3) == 0 ? knob[SIZE] : 1 + (int64_t)draw(most);
    knob[KEYS_MAX] = draw(3) == 0 ? 100 : 1 + (int64_t)draw(5);
    knob[EVICTS] = draw(3) > 0;
    knob[MIDDLE] = knob[GLOBAL] ? 2 * (int64_t)draw(2) : (int64_t)draw(3);
    cases_draw_stream(&c->stream, &knob[PARTITIONS]);
}

static bool can_be(const int64_t *knob)
{
    // a median of more than 63 values is not exact
    bool is_exact = !knob[GLOBAL] || knob[MIDDLE] != 1;
    return is_exact && rig_can_be_every_ms(knob[EVERY_MS]) && knob[EVERY] >= 1
           && knob[SIZE] >= knob[EVERY];
}

static bool same(const struct result *a, const struct result *b)
{
    return a->fire == b->fire && a->start == b->start && a->end == b->end && a->key == b->key
           && a->revision == b->revision && a->partial == b->partial && a->evicted == b->evicted
           && a->count == b->count && a->sum_n == b->sum_n && a->max_n == b->max_n
           && a->sum_x == b->sum_x && a->first_n == b->first_n && a->last_n == b->last_n
           && rig_tag_says(a->first_tag, b->first_n) && rig_tag_says(a->last_tag, b->last_n)
           && a->mix_n == b->mix_n
           && (!a->has_middle || (a->bag_n == b->bag_n && a->median_n == b->median_n));
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
    uint64_t refused = oracle(c, &expected);
    sort_rows(&got);
    sort_rows(&expected);
    uint32_t row = 0;
    while (row < got.count && row < expected.count && same(&got.rows[row], &expected.rows[row]))
        row++;
    seen_rows += got.count;
    seen_refused += counts[RML_STAGE_refused];
    seen_evicted += counts[RML_STAGE_windows_evicted];
    if (wrong == NULL && row == got.count && row == expected.count
        && counts[RML_STAGE_refused] == refused
        && counts[RML_STAGE_windows_fired] + counts[RML_STAGE_early] == got.count)
        return true;
    if (say) {
        printf("%s\nrefused %llu, expected %llu; %u rows, expected %u; the first that differs is "
               "%u\n",
               wrong != NULL ? wrong : "", (unsigned long long)counts[RML_STAGE_refused],
               (unsigned long long)refused, got.count, expected.count, row);
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

static void any_cut_into_batches_gives_the_windows_of_records_one_by_one(void **state)
{
    (void)state;
    if (!cases_hold(&kind, "counted windows", 6000))
        return;
    assert_true(seen_rows > 10000);
    assert_true(seen_refused > 1000);
    assert_true(seen_evicted > 1000);
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

TEST_MAIN(CLAIM(any_cut_into_batches_gives_the_windows_of_records_one_by_one),
          CLAIM(a_fault_in_the_oracle_is_found_and_made_small))
