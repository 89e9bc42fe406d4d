/*
 * Random sessions over random disorder, cut into random batches and partitions, against an oracle that
 * takes one record at a time and keeps nothing but the records and the results that stand.
 *
 * Its sessions are found anew each time: the records of a key, sorted, cut wherever two neighbours lie
 * a gap or more apart. Sessions with a `max` depend on the order of arrival; for them the oracle keeps
 * sets of records and follows the documented rule.
 */
#include <math.h>

#include "tests/support/partition_rig.h"

#define RECORDS  RIG_RECORDS
#define ROWS_MAX 40000
#define KEYS     12

struct settings {
    int64_t gap, max, late, out_of_order;
    bool drops;      // on_late: drop is written where there is no late
    uint64_t count;  // a trigger's; 0: there is none
    uint32_t partitions;
};

struct result {
    int64_t fire, start, end;
    uint64_t key;
    uint32_t revision;
    bool retracted, partial;
    uint64_t count;
    int64_t sum_n, max_n;
    double sum_x;
    int64_t first_n, last_n;
    char first_tag[16], last_tag[16];  // the engine's alone: of the same records
    int64_t mix_n;
    double var_n, median_n, exact_n;
    uint64_t distinct_n;
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
    if (x->start != y->start)
        return x->start < y->start ? -1 : 1;
    if (x->revision != y->revision)
        return x->revision < y->revision ? -1 : 1;
    return (int)x->retracted - (int)y->retracted;
}

/* The oracle. */

struct standing {
    bool stands;
    int64_t start, end;
    uint32_t results;
    uint64_t shown;  // records in the last of them
};

struct oracle {
    const struct rig_record *records;
    const struct settings *s;
    struct results *out;
    int64_t watermark;
    uint32_t session_of[RECORDS];  // a number that records of one session share; 0: not kept
    struct standing standing[RECORDS];
    uint32_t standing_count;
    uint32_t numbers;  // given out
};

struct extent {
    int64_t first, last;
    uint64_t count;
};

static struct extent extent_of(const struct oracle *o, uint32_t number)
{
    struct extent e = {INT64_MAX, INT64_MIN, 0};
    for (uint32_t i = 0; i < RECORDS; i++) {
        if (o->session_of[i] != number)
            continue;
        int64_t ts = o->records[i].ts;
        e.first = ts < e.first ? ts : e.first;
        e.last = ts > e.last ? ts : e.last;
        e.count++;
    }
    return e;
}

static uint64_t key_of(const struct oracle *o, uint32_t number)
{
    for (uint32_t i = 0; i < RECORDS; i++)
        if (o->session_of[i] == number)
            return o->records[i].key;
    fail();
    return 0;
}

// Results that stand are kept apart for each key by making the key part of the slot's search.
static struct standing *find_standing(struct oracle *o, uint64_t key, int64_t start)
{
    for (uint32_t i = 0; i < o->standing_count; i++) {
        struct standing *st = &o->standing[i];
        if (st->stands && st->start == start * KEYS + (int64_t)key)
            return st;
    }
    return NULL;
}

static struct result *add_row(struct oracle *o, int64_t fire, uint64_t key, int64_t start,
                              int64_t end, uint32_t revision)
{
    struct result *r = &o->out->rows[o->out->count++];
    *r =
        (struct result){.fire = fire, .start = start, .end = end, .key = key, .revision = revision};
    return r;
}

static int by_number(const void *left, const void *right)
{
    int64_t a = *(const int64_t *)left, b = *(const int64_t *)right;
    return (a > b) - (a < b);
}

// What the merged states of a session's parts must come to.
static void more_of(const struct oracle *o, uint32_t number, struct result *r)
{
    struct mix mix = {0};
    int64_t sorted[RECORDS], first = INT64_MAX, last = INT64_MIN;
    uint32_t count = 0;
    double squares = 0, mean = (double)r->sum_n / (double)r->count;
    for (uint32_t i = 0; i < RECORDS; i++) {
        const struct rig_record *rec = &o->records[i];
        if (o->session_of[i] != number)
            continue;
        sorted[count++] = rec->n;
        squares += ((double)rec->n - mean) * ((double)rec->n - mean);
        if (rec->x == rec->x)
            mix_value(&mix, rec->ts, rec->n);
        r->first_n = rec->ts < first ? rec->n : r->first_n;
        first = rec->ts < first ? rec->ts : first;
        r->last_n = rec->ts >= last ? rec->n : r->last_n;
        last = rec->ts >= last ? rec->ts : last;
    }
    qsort(sorted, count, sizeof sorted[0], by_number);
    for (uint32_t i = 0; i < count; i++)
        r->distinct_n += i == 0 || sorted[i] != sorted[i - 1];
    r->mix_n = mix_result(&mix, 5);
    r->var_n = squares / count;
    r->median_n = ((double)sorted[(count - 1) / 2] + (double)sorted[count / 2]) / 2;
}

static void give(struct oracle *o, uint32_t number, int64_t fire, bool partial)
{
    struct extent e = extent_of(o, number);
    uint64_t key = key_of(o, number);
    struct standing *st = find_standing(o, key, e.first);
    if (st == NULL) {
        assert_true(o->standing_count < RECORDS);
        st = &o->standing[o->standing_count++];
        *st = (struct standing){.stands = true, .start = e.first * KEYS + (int64_t)key};
    }
    st->end = e.last + o->s->gap;
    struct result *r = add_row(o, fire, key, e.first, st->end, st->results++);
    r->partial = partial;
    r->max_n = INT64_MIN;
    for (uint32_t i = 0; i < RECORDS; i++) {
        const struct rig_record *rec = &o->records[i];
        if (o->session_of[i] != number)
            continue;
        r->count++;
        r->sum_n += rec->n;
        r->max_n = rec->n > r->max_n ? rec->n : r->max_n;
        r->sum_x += rec->x == rec->x ? rec->x : 0;
    }
    more_of(o, number, r);
    st->shown = r->count;
}

// An open session gives a result when so many records have come to it since the last one of its start.
static void give_early(struct oracle *o, uint32_t number)
{
    struct extent e = extent_of(o, number);
    const struct standing *st = find_standing(o, key_of(o, number), e.first);
    if (o->s->count > 0 && e.count - (st != NULL ? st->shown : 0) >= o->s->count)
        give(o, number, o->watermark, true);
}

static bool is_a_start(const struct oracle *o, uint64_t key, int64_t start)
{
    for (uint32_t i = 0; i < RECORDS; i++) {
        if (o->session_of[i] != 0 && o->records[i].key == key && o->records[i].ts == start
            && extent_of(o, o->session_of[i]).first == start)
            return true;
    }
    return false;
}

// Results of this key whose start is no session's any more.
static void retract(struct oracle *o, uint64_t key, const int64_t *starts, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        struct standing *st = find_standing(o, key, starts[i]);
        if (st == NULL || is_a_start(o, key, starts[i]))
            continue;
        add_row(o, o->watermark, key, starts[i], st->end, st->results)->retracted = true;
        st->stands = false;
    }
}

static int64_t apart(int64_t a, int64_t b)
{
    return a < b ? b - a : a - b;
}

static bool near_to(const struct oracle *o, struct extent e, int64_t first, int64_t last)
{
    return (first <= e.last && last >= e.first) || apart(first, e.last) < o->s->gap
           || apart(last, e.first) < o->s->gap;
}

static bool fits(const struct oracle *o, int64_t first, int64_t last)
{
    return o->s->max == 0 || last - first + o->s->gap <= o->s->max;
}

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t most(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

// The session that record `index` joins: the one it lies in, else the oldest near one that it fits.
static uint32_t choose(const struct oracle *o, uint32_t index)
{
    uint32_t found = 0;
    int64_t found_first = 0, ts = o->records[index].ts;
    for (uint32_t i = 0; i < index; i++) {
        uint32_t n = o->session_of[i];
        if (n == 0 || o->records[i].key != o->records[index].key)
            continue;
        struct extent e = extent_of(o, n);
        if (ts >= e.first && ts <= e.last)
            return n;
        if (near_to(o, e, ts, ts) && fits(o, least(ts, e.first), most(ts, e.last))
            && (found == 0 || e.first < found_first)) {
            found = n;
            found_first = e.first;
        }
    }
    return found;
}

static void rename_session(struct oracle *o, uint32_t from, uint32_t to)
{
    for (uint32_t i = 0; i < RECORDS; i++)
        if (o->session_of[i] == from)
            o->session_of[i] = to;
}

// Sessions that the record's session now reaches become one with it, the newest first.
static void bridge(struct oracle *o, uint32_t index)
{
    for (;;) {
        uint32_t number = o->session_of[index], other = 0;
        struct extent mine = extent_of(o, number);
        int64_t other_first = 0;
        for (uint32_t i = 0; i < index; i++) {
            uint32_t n = o->session_of[i];
            if (n == 0 || n == number || o->records[i].key != o->records[index].key)
                continue;
            struct extent e = extent_of(o, n);
            if (near_to(o, e, mine.first, mine.last)
                && fits(o, least(mine.first, e.first), most(mine.last, e.last))
                && (other == 0 || e.first > other_first)) {
                other = n;
                other_first = e.first;
            }
        }
        if (other == 0)
            return;
        rename_session(o, other, number);
    }
}

// Without max: the key's kept records, sorted, fall apart where a gap lies between them.
static void recompute(struct oracle *o, uint64_t key, uint32_t upto)
{
    int64_t last = 0;
    bool any = false;
    for (;;) {
        uint32_t next = RECORDS;
        for (uint32_t i = 0; i <= upto; i++) {
            bool after = !any || o->records[i].ts > last;
            if (o->session_of[i] != 0 && o->records[i].key == key && after
                && (next == RECORDS || o->records[i].ts < o->records[next].ts))
                next = i;
        }
        if (next == RECORDS)
            return;
        int64_t ts = o->records[next].ts;
        if (!any || ts - last >= o->s->gap)
            o->numbers++;
        for (uint32_t i = 0; i <= upto; i++)
            if (o->session_of[i] != 0 && o->records[i].key == key && o->records[i].ts == ts)
                o->session_of[i] = o->numbers;
        last = ts;
        any = true;
    }
}

// Whatever ends in (watermark, to] fires; whatever ended `late` before `to` is forgotten.
static void move(struct oracle *o, int64_t to)
{
    for (uint32_t i = 0; i < RECORDS; i++) {
        if (o->session_of[i] == 0)
            continue;
        bool seen = false;
        for (uint32_t j = 0; j < i; j++)
            seen |= o->session_of[j] == o->session_of[i];
        int64_t end = extent_of(o, o->session_of[i]).last + o->s->gap;
        if (!seen && end > o->watermark && end <= to)
            give(o, o->session_of[i], end, false);
    }
    uint32_t gone[RECORDS];
    for (uint32_t i = 0; i < RECORDS; i++)
        gone[i] = o->session_of[i] != 0
                  && extent_of(o, o->session_of[i]).last + o->s->gap + o->s->late <= to;
    for (uint32_t i = 0; i < RECORDS; i++) {
        if (!gone[i])
            continue;
        struct standing *st = find_standing(o, o->records[i].key, o->records[i].ts);
        if (st != NULL)
            st->stands = false;
        o->session_of[i] = 0;
    }
    o->watermark = to;
}

static uint32_t oracle(const struct rig_record *records, const struct settings *s,
                       struct results *out)
{
    static struct oracle o;
    o = (struct oracle){.records = records, .s = s, .out = out, .watermark = INT64_MIN};
    int64_t clock = INT64_MIN;
    uint32_t late = 0;
    out->count = 0;
    for (uint32_t i = 0; i < RECORDS; i++) {
        const struct rig_record *rec = &records[i];
        uint32_t joined = choose(&o, i);
        if (joined == 0 && o.watermark != INT64_MIN && rec->ts + s->gap + s->late <= o.watermark) {
            late++;
        } else {
            int64_t starts[RECORDS];
            uint32_t start_count = 0;
            for (uint32_t j = 0; j < i; j++)
                if (o.session_of[j] != 0 && records[j].key == rec->key)
                    starts[start_count++] = records[j].ts;
            o.session_of[i] = joined != 0 ? joined : ++o.numbers;
            if (s->max == 0)
                recompute(&o, rec->key, i);
            else
                bridge(&o, i);
            retract(&o, rec->key, starts, start_count);
            if (extent_of(&o, o.session_of[i]).last + s->gap <= o.watermark)
                give(&o, o.session_of[i], o.watermark, false);
            else
                give_early(&o, o.session_of[i]);
        }
        clock = rec->ts > clock ? rec->ts : clock;
        if (clock - s->out_of_order > o.watermark)
            move(&o, clock - s->out_of_order);
    }
    move(&o, INT64_MAX);
    return late;
}

/* The engine. */

static void collect(void *context, const struct rml_schema *schema,
                    const struct rml_result_row *row)
{
    struct results *results = context;
    struct result *r = &results->rows[results->count++];
    uint8_t retracted;
    *r = (struct result){.fire = row->fire};
    rig_read_field(schema, row->record, "window_start", &r->start, 8);
    rig_read_field(schema, row->record, "window_end", &r->end, 8);
    rig_read_field(schema, row->record, "key", &r->key, 8);
    rig_read_field(schema, row->record, "revision", &r->revision, 4);
    rig_read_field(schema, row->record, "retracted", &retracted, 1);
    rig_read_field(schema, row->record, "n", &r->count, 8);
    rig_read_field(schema, row->record, "sum_n", &r->sum_n, 8);
    rig_read_field(schema, row->record, "max_n", &r->max_n, 8);
    rig_read_field(schema, row->record, "sum_x", &r->sum_x, 8);
    rig_read_field(schema, row->record, "first_n", &r->first_n, 8);
    rig_read_field(schema, row->record, "last_n", &r->last_n, 8);
    rig_read_field(schema, row->record, "first_tag", r->first_tag, 16);
    rig_read_field(schema, row->record, "last_tag", r->last_tag, 16);
    rig_read_field(schema, row->record, "mix_n", &r->mix_n, 8);
    rig_read_field(schema, row->record, "var_n", &r->var_n, 8);
    rig_read_field(schema, row->record, "median_n", &r->median_n, 8);
    rig_read_field(schema, row->record, "distinct_n", &r->distinct_n, 8);
    rig_read_field(schema, row->record, "exact_n", &r->exact_n, 8);
    r->retracted = retracted != 0;
    if (rml_schema_find(schema, "partial", 7) != RML_FIELD_ABSENT)
        rig_read_field(schema, row->record, "partial", &r->partial, 1);
}

static void print_window(const struct settings *s, char text[192])
{
    char max[48] = "", late[32] = "on_late: drop", early[48];
    if (s->max != 0)
        snprintf(max, sizeof max, ", max: %lldns", (long long)s->max);
    if (!s->drops)
        snprintf(late, sizeof late, "late: %lldns", (long long)s->late);
    rig_print_trigger(s->count, early);
    snprintf(text, 192, "{type: session, gap: %lldns, %s%s%s}", (long long)s->gap, late, max,
             early);
}

static uint32_t engine(const struct rig_record *records, const struct settings *s,
                       struct results *out, uint64_t counts[RML_STAGE_COUNTERS])
{
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
        "    aggregate: {n: count(), sum_n: sum(n), max_n: max(n), sum_x: sum(x), first_n: "
        "first(n), last_n: last(n), first_tag: first(tag), last_tag: last(tag), mix_n: 'mix(n, x, 5)', var_n: "
        "var_pop(n), median_n: median(n), distinct_n: distinct(n), exact_n: 'quantile(n, 0.5, exact)'}\n"
        "sinks: {out: {from: w, type: ring}}\n",
        rig_schema, s->partitions, (long long)s->out_of_order, window);
    out->count = 0;
    rig_run(text, records, collect, out, counts);
    return (uint32_t)counts[RML_STAGE_late];
}

/* Cases. */

static void draw_case(struct settings *s, struct rig_record *records)
{
    s->gap = 1 + (int64_t)draw(draw(2) ? 5 : 40);
    s->max = draw(3) == 0 ? s->gap + (int64_t)draw(60) : 0;
    s->late = draw(2) ? 0 : (int64_t)draw(60);
    s->drops = s->late == 0 && draw(2);
    s->count = rig_draw_trigger();
    s->out_of_order = draw(2) ? 0 : (int64_t)draw(20);
    s->partitions = 1 + (uint32_t)draw(RIG_PARTITIONS);
    rig_draw_records(records);
}

// Values of n lie between -500 and 499; up to 63 of them have an exact median.
static bool same_more(const struct result *a, const struct result *b)
{
    return a->first_n == b->first_n && a->last_n == b->last_n && a->distinct_n == b->distinct_n
           && rig_tag_says(a->first_tag, b->first_n) && rig_tag_says(a->last_tag, b->last_n)
           && a->mix_n == b->mix_n && fabs(a->var_n - b->var_n) <= 1e-9 * 250000
           && a->exact_n == b->median_n
           && fabs(a->median_n - b->median_n) <= (b->count <= 63 ? 0 : 0.00776 * 500);
}

static bool same(const struct result *a, const struct result *b)
{
    bool place = a->fire == b->fire && a->start == b->start && a->end == b->end && a->key == b->key
                 && a->revision == b->revision && a->retracted == b->retracted
                 && a->partial == b->partial;
    return place
           && (a->retracted
               || (a->count == b->count && a->sum_n == b->sum_n && a->max_n == b->max_n
                   && a->sum_x == b->sum_x && same_more(a, b)));
}

static void print_row(const char *whose, const struct result *r)
{
    printf("%s fire %lld [%lld, %lld) key %llu rev %u%s count %llu sum %lld\n", whose,
           (long long)r->fire, (long long)r->start, (long long)r->end, (unsigned long long)r->key,
           r->revision, r->retracted ? " retracted" : "", (unsigned long long)r->count,
           (long long)r->sum_n);
}

static void any_cut_into_batches_gives_the_sessions_of_single_records(void **state)
{
    (void)state;
    static struct results got, expected;
    static struct rig_record records[RECORDS];
    uint64_t first, cases, earlies = 0, retractions = 0, corrections = 0, lates = 0;
    rig_cases(400, &first, &cases);
    for (uint64_t c = first; c < first + cases; c++) {
        struct settings s;
        uint64_t counts[RML_STAGE_COUNTERS];
        rig_begin_case(c);
        draw_case(&s, records);
        uint32_t late_expected = oracle(records, &s, &expected);
        uint32_t late = engine(records, &s, &got, counts);
        qsort(got.rows, got.count, sizeof got.rows[0], by_place);
        qsort(expected.rows, expected.count, sizeof expected.rows[0], by_place);
        uint32_t row = 0;
        while (row < got.count && row < expected.count && same(&got.rows[row], &expected.rows[row]))
            row++;
        if (row < got.count || row < expected.count || late != late_expected) {
            printf("RML_SEED=%llu gap %lld max %lld late %lld out_of_order %lld partitions %u: %u "
                   "late, expected %u; %u rows, expected %u; the first that differs is %u\n",
                   (unsigned long long)c, (long long)s.gap, (long long)s.max, (long long)s.late,
                   (long long)s.out_of_order, s.partitions, late, late_expected, got.count,
                   expected.count, row);
            print_row("     got", &got.rows[row]);
            print_row("expected", &expected.rows[row]);
            fail();
        }
        earlies += counts[RML_STAGE_early];
        retractions += counts[RML_STAGE_retractions];
        corrections += counts[RML_STAGE_corrections];
        lates += late;
    }
    // The draw must keep meeting what is hard.
    if (cases > 1) {
        assert_true(earlies > 1000);
        assert_true(retractions > 100);
        assert_true(corrections > 1000);
        assert_true(lates > 1000);
    }
}

TEST_MAIN(CLAIM(any_cut_into_batches_gives_the_sessions_of_single_records))
