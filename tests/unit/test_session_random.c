/*
 * Random sessions over random disorder, cut into random batches and partitions, against an oracle that
 * takes one record at a time and keeps nothing but the records and the results that stand.
 *
 * Its sessions are found anew each time: the records of a key, sorted, cut wherever two neighbours lie
 * a gap or more apart. Sessions with a `max` depend on the order of arrival; for them the oracle keeps
 * sets of records and follows the documented rule.
 */
#include <math.h>

#include "tests/support/cases.h"

#define RECORDS  RIG_RECORDS
#define ROWS_MAX 40000
#define KEYS     12

enum knob {
    GAP,
    MAX,  // 0: none
    LATE,
    DROPS,    // on_late: drop is written where there is no late
    TRIGGER,  // see rig_draw_trigger
    EVERY_MS,
    OUT_OF_ORDER,
    PARTITIONS,
    KEYS_MAX,
    EVICTS,
    WINDOW_LIMIT,
    EVICTS_SESSIONS,
    KNOBS
};

static const struct cases_knob knobs[KNOBS] = {
    [GAP] = {.name = "gap", .simplest = 1},
    [MAX] = {.name = "max", .simplest = 0},
    [LATE] = {.name = "late", .simplest = 0},
    [DROPS] = {.name = "drops", .simplest = 0},
    [TRIGGER] = {.name = "trigger", .simplest = 0},
    [EVERY_MS] = {.name = "every_ms", .simplest = 0},
    [OUT_OF_ORDER] = {.name = "out_of_order", .simplest = 0},
    [PARTITIONS] = {.name = "partitions", .simplest = 1},
    [KEYS_MAX] = {.name = "max_keys", .simplest = 100, .else_to = 1},
    [EVICTS] = {.name = "evicts", .simplest = 0},
    [WINDOW_LIMIT] = {.name = "window_limit", .simplest = 1024, .else_to = 1},
    [EVICTS_SESSIONS] = {.name = "evicts_sessions", .simplest = 0},
};

/* What the oracle can be made to get wrong, to see that it is noticed. */
static enum fault {
    NO_FAULT,
    GAP_IS_INSIDE,      // records exactly the gap apart are in one session
    NEWEST_GOES,        // the key used last is evicted
    LATEST_GOES,        // the key's latest session is evicted
    NONE_IS_MARKED,     // rows of what is evicted look like others
    WALL_CLOCK_STANDS,  // and triggers nothing
    FAULTS
} fault;

/* What the draw must keep meeting. */
static uint64_t seen_early, seen_retractions, seen_corrections, seen_late, seen_refused, seen_keys,
    seen_evicted, seen_ahead;

struct result {
    uint32_t made;  // in which order; of one key and start it has to be the same
    int64_t fire, start, end;
    uint64_t key;
    uint32_t revision;
    bool retracted, partial, evicted;
    uint64_t count;
    int64_t sum_n, max_n;
    double sum_x;
    int64_t first_n, last_n;
    char first_tag[16], last_tag[16];  // the engine's alone: of the same records
    int64_t mix_n;
    double var_n, median_n, exact_n;
    uint64_t distinct_n, bag_n;  // the engine counts it in two ways
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
    return (x->made > y->made) - (x->made < y->made);
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
    const int64_t *knobs;
    uint32_t count;  // of the records
    uint32_t last_seen[KEYS];
    struct results *out;
    int64_t watermark;
    uint32_t session_of[RECORDS];  // a number that records of one session share; 0: not kept
    struct standing standing[4 * RECORDS];
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
    for (uint32_t i = 0; i < o->count; i++) {
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
    for (uint32_t i = 0; i < o->count; i++)
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
    RML_CHECK(o->out->count < ROWS_MAX);
    struct result *r = &o->out->rows[o->out->count];
    *r = (struct result){.made = o->out->count++,
                         .fire = fire,
                         .start = start,
                         .end = end,
                         .key = key,
                         .revision = revision};
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
    for (uint32_t i = 0; i < o->count; i++) {
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

enum mark { PLAIN, PARTIAL, EVICTED };

static void give(struct oracle *o, uint32_t number, int64_t fire, enum mark mark)
{
    struct extent e = extent_of(o, number);
    uint64_t key = key_of(o, number);
    struct standing *st = find_standing(o, key, e.first);
    if (st == NULL) {
        RML_CHECK(o->standing_count < 4 * RECORDS);
        st = &o->standing[o->standing_count++];
        *st = (struct standing){.stands = true, .start = e.first * KEYS + (int64_t)key};
    }
    st->end = e.last + o->knobs[GAP];
    struct result *r = add_row(o, fire, key, e.first, st->end, st->results++);
    r->max_n = INT64_MIN;
    r->partial = mark == PARTIAL;
    r->evicted = mark == EVICTED && fault != NONE_IS_MARKED;
    for (uint32_t i = 0; i < o->count; i++) {
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
static void give_early(struct oracle *o, uint32_t number, uint64_t trigger)
{
    struct extent e = extent_of(o, number);
    const struct standing *st = find_standing(o, key_of(o, number), e.first);
    if (trigger > 0 && e.count - (st != NULL ? st->shown : 0) >= trigger)
        give(o, number, o->watermark, PARTIAL);
}

static bool is_first_of_session(const struct oracle *o, uint32_t index)
{
    for (uint32_t j = 0; j < index; j++)
        if (o->session_of[j] == o->session_of[index])
            return false;
    return o->session_of[index] != 0;
}

// All open sessions that have changed.
static void tick(struct oracle *o)
{
    for (uint32_t i = 0; i < o->count; i++) {
        if (is_first_of_session(o, i)
            && extent_of(o, o->session_of[i]).last + o->knobs[GAP] > o->watermark)
            give_early(o, o->session_of[i], 1);
    }
}

static bool is_a_start(const struct oracle *o, uint64_t key, int64_t start)
{
    for (uint32_t i = 0; i < o->count; i++) {
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
    return (first <= e.last && last >= e.first) || apart(first, e.last) < o->knobs[GAP]
           || apart(last, e.first) < o->knobs[GAP];
}

static bool fits(const struct oracle *o, int64_t first, int64_t last)
{
    return o->knobs[MAX] == 0 || last - first + o->knobs[GAP] <= o->knobs[MAX];
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
    for (uint32_t i = 0; i < o->count; i++)
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
        uint32_t next = o->count;
        for (uint32_t i = 0; i <= upto; i++) {
            bool after = !any || o->records[i].ts > last;
            if (o->session_of[i] != 0 && o->records[i].key == key && after
                && (next == o->count || o->records[i].ts < o->records[next].ts))
                next = i;
        }
        if (next == o->count)
            return;
        int64_t ts = o->records[next].ts;
        if (!any || ts - last >= o->knobs[GAP] + (fault == GAP_IS_INSIDE))
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
    for (uint32_t i = 0; i < o->count; i++) {
        if (!is_first_of_session(o, i))
            continue;
        int64_t end = extent_of(o, o->session_of[i]).last + o->knobs[GAP];
        if (end > o->watermark && end <= to)
            give(o, o->session_of[i], end, PLAIN);
    }
    uint32_t gone[RECORDS];
    for (uint32_t i = 0; i < o->count; i++)
        gone[i] = o->session_of[i] != 0
                  && extent_of(o, o->session_of[i]).last + o->knobs[GAP] + o->knobs[LATE] <= to;
    for (uint32_t i = 0; i < o->count; i++) {
        if (!gone[i])
            continue;
        struct standing *st = find_standing(o, o->records[i].key, o->records[i].ts);
        if (st != NULL)
            st->stands = false;
        o->session_of[i] = 0;
    }
    o->watermark = to;
}

// The session is forgotten, and gives a last row before it is.
static void evict_session(struct oracle *o, uint32_t number)
{
    struct extent e = extent_of(o, number);
    uint64_t key = key_of(o, number);
    give(o, number, o->watermark, EVICTED);
    struct standing *st = find_standing(o, key, e.first);
    if (st != NULL)
        st->stands = false;
    rename_session(o, number, 0);
}

// The key's session that begins first, or with a fault the one that begins last; and how many there are.
static uint32_t find_earliest(const struct oracle *o, uint64_t key, int64_t *ret_count)
{
    uint32_t found = 0;
    int64_t found_first = 0;
    *ret_count = 0;
    for (uint32_t i = 0; i < o->count; i++) {
        uint32_t n = o->session_of[i];
        bool seen = false;
        for (uint32_t j = 0; j < i; j++)
            seen |= o->session_of[j] == n;
        if (n == 0 || seen || o->records[i].key != key)
            continue;
        int64_t first = extent_of(o, n).first;
        bool better = fault == LATEST_GOES ? first > found_first : first < found_first;
        if (found == 0 || better) {
            found = n;
            found_first = first;
        }
        ++*ret_count;
    }
    return found;
}

static void evict_key(struct oracle *o, uint64_t key)
{
    int64_t count;
    for (uint32_t n = find_earliest(o, key, &count); n != 0; n = find_earliest(o, key, &count))
        evict_session(o, n);
}

// Is there room for one session more of the key, or can it be made?
static bool make_room(struct oracle *o, uint64_t key)
{
    uint32_t partitions = (uint32_t)o->knobs[PARTITIONS];
    uint32_t oldest = KEYS;
    int64_t living = 0, sessions, own;
    uint32_t earliest = find_earliest(o, key, &own);
    for (uint32_t k = 0; own == 0 && k < KEYS; k++) {
        find_earliest(o, k, &sessions);
        if (sessions == 0 || rig_partition_of(k, partitions) != rig_partition_of(key, partitions))
            continue;
        living++;
        if (oldest == KEYS || (o->last_seen[k] < o->last_seen[oldest]) != (fault == NEWEST_GOES))
            oldest = k;
    }
    if (own == 0 && living >= o->knobs[KEYS_MAX]) {
        if (o->knobs[EVICTS])
            evict_key(o, oldest);
        return o->knobs[EVICTS];
    }
    if (own < o->knobs[WINDOW_LIMIT])
        return true;
    if (o->knobs[EVICTS_SESSIONS])
        evict_session(o, earliest);
    return o->knobs[EVICTS_SESSIONS];
}

struct doors {
    uint64_t late, refused;
};

static void take(struct oracle *o, uint32_t i, struct doors *doors)
{
    const struct rig_record *rec = &o->records[i];
    uint32_t joined = choose(o, i);
    if (joined == 0 && o->watermark != INT64_MIN
        && rec->ts + o->knobs[GAP] + o->knobs[LATE] <= o->watermark) {
        doors->late++;
        return;
    }
    if (joined == 0 && !make_room(o, rec->key)) {
        doors->refused++;
        return;
    }
    int64_t starts[RECORDS];
    uint32_t start_count = 0;
    for (uint32_t j = 0; j < i; j++)
        if (o->session_of[j] != 0 && o->records[j].key == rec->key)
            starts[start_count++] = o->records[j].ts;
    o->session_of[i] = joined != 0 ? joined : ++o->numbers;
    o->last_seen[rec->key] = i;
    if (o->knobs[MAX] == 0)
        recompute(o, rec->key, i);
    else
        bridge(o, i);
    retract(o, rec->key, starts, start_count);
    if (extent_of(o, o->session_of[i]).last + o->knobs[GAP] <= o->watermark)
        give(o, o->session_of[i], o->watermark, PLAIN);
    else
        give_early(o, o->session_of[i], o->knobs[TRIGGER] < 0 ? 1 : (uint64_t)o->knobs[TRIGGER]);
}

static struct doors oracle(const struct cases_case *c, struct results *out)
{
    static struct oracle o;
    o = (struct oracle){.records = c->stream.records,
                        .knobs = c->knobs,
                        .count = c->stream.count,
                        .out = out,
                        .watermark = INT64_MIN};
    struct rig_clocks clocks = rig_clocks(&c->stream, c->knobs[OUT_OF_ORDER]);
    struct doors doors = {0};
    out->count = 0;
    for (uint32_t i = 0; i <= o.count; i++) {
        if (fault != WALL_CLOCK_STANDS && rig_triggers(&c->stream, i, c->knobs[EVERY_MS]))
            tick(&o);
        if (i == o.count)
            break;
        bool ahead = rig_is_ahead(&c->stream, i);
        seen_ahead += ahead;
        if (ahead)
            continue;
        take(&o, i, &doors);
        int64_t watermark = rig_clocks_see(&clocks, i);
        if (watermark > o.watermark)
            move(&o, watermark);
    }
    move(&o, INT64_MAX);
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
    rig_read_field(schema, row->record, "retracted", &r->retracted, 1);
    if (rml_schema_find(schema, "partial", 7) != RML_FIELD_ABSENT)
        rig_read_field(schema, row->record, "partial", &r->partial, 1);
    if (rml_schema_find(schema, "evicted", 7) != RML_FIELD_ABSENT)
        rig_read_field(schema, row->record, "evicted", &r->evicted, 1);
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
    rig_read_field(schema, row->record, "bag_n", &r->bag_n, 8);
    rig_read_field(schema, row->record, "exact_n", &r->exact_n, 8);
}

static const char *when_full(int64_t evicts)
{
    return evicts ? "evict_oldest" : "refuse";
}

static void write_file(const int64_t *knob, char *text, size_t bytes)
{
    char early[80], max[48] = "", late[32] = "on_late: drop";
    if (!knob[DROPS] || knob[LATE] > 0)
        snprintf(late, sizeof late, "late: %lldns", (long long)knob[LATE]);
    rig_print_trigger(knob[TRIGGER], knob[EVERY_MS], early);
    if (knob[MAX] != 0)
        snprintf(max, sizeof max, ", max: %lldns", (long long)knob[MAX]);
    snprintf(
        text, bytes,
        "version: 1\npipeline: random\n%s"
        "runtime: {workers: 1, partitions: %lld, state_limit: 64MiB}\n"
        "sources: {in: {schema: event, event_time: ts, partition_by: [key], out_of_order: "
        "%lldns}}\n"
        "stages:\n"
        "  w:\n"
        "    from: in\n    key: key\n    max_keys: %lld\n    when_full: %s\n"
        "    window: {type: session, gap: %lldns, %s%s, window_limit: %lld, when_full: %s%s}\n"
        "    aggregate: {n: count(), sum_n: sum(n), max_n: max(n), sum_x: sum(x), first_n: "
        "first(n), last_n: last(n), first_tag: first(tag), last_tag: last(tag), mix_n: 'mix(n, x, 5)', var_n: "
        "var_pop(n), median_n: median(n), distinct_n: distinct(n), bag_n: bag(n), exact_n: 'quantile(n, 0.5, exact)'}\n"
        "sinks: {out: {from: w, type: ring}}\n",
        rig_schema, (long long)knob[PARTITIONS], (long long)knob[OUT_OF_ORDER],
        (long long)knob[KEYS_MAX], when_full(knob[EVICTS]), (long long)knob[GAP], late, max,
        (long long)knob[WINDOW_LIMIT], when_full(knob[EVICTS_SESSIONS]), early);
}

/* Cases. */

static void draw_case(struct cases_case *c)
{
    int64_t *knob = c->knobs;
    knob[GAP] = 1 + (int64_t)draw(draw(2) ? 5 : 40);
    knob[MAX] = draw(3) == 0 ? knob[GAP] + (int64_t)draw(60) : 0;
    knob[LATE] = draw(2) ? 0 : (int64_t)draw(60);
    knob[DROPS] = (int64_t)draw(2);
    knob[TRIGGER] = rig_draw_trigger();
    knob[EVERY_MS] = rig_draw_every_ms();
    knob[OUT_OF_ORDER] = draw(2) ? 0 : (int64_t)draw(20);
    knob[KEYS_MAX] = draw(2) ? 100 : 1 + (int64_t)draw(5);
    knob[EVICTS] = draw(3) > 0;
    knob[WINDOW_LIMIT] = draw(2) ? 1024 : 1 + (int64_t)draw(4);
    knob[EVICTS_SESSIONS] = draw(3) > 0;
    cases_draw_stream(&c->stream, &knob[PARTITIONS]);
    rig_draw_latest(&c->stream);
}

static bool can_be(const int64_t *knob)
{
    return rig_can_be_every_ms(knob[EVERY_MS]) && knob[GAP] >= 1
           && (knob[MAX] == 0 || knob[MAX] >= knob[GAP]);
}

// Values of n lie between -500 and 499; up to 63 of them have an exact median.
static bool same_more(const struct result *a, const struct result *b)
{
    return a->first_n == b->first_n && a->last_n == b->last_n && a->distinct_n == b->distinct_n
           && a->bag_n == b->distinct_n && rig_tag_says(a->first_tag, b->first_n)
           && rig_tag_says(a->last_tag, b->last_n) && a->mix_n == b->mix_n
           && fabs(a->var_n - b->var_n) <= 1e-9 * 250000 && a->exact_n == b->median_n
           && fabs(a->median_n - b->median_n) <= (b->count <= 63 ? 0 : 0.00776 * 500);
}

static bool same(const struct result *a, const struct result *b)
{
    bool place = a->fire == b->fire && a->start == b->start && a->end == b->end && a->key == b->key
                 && a->revision == b->revision && a->retracted == b->retracted
                 && a->partial == b->partial && a->evicted == b->evicted;
    return place
           && (a->retracted
               || (a->count == b->count && a->sum_n == b->sum_n && a->max_n == b->max_n
                   && a->sum_x == b->sum_x && same_more(a, b)));
}

static void print_row(const char *whose, const struct results *results, uint32_t row)
{
    const struct result *r = &results->rows[row];
    if (row == results->count) {
        printf("%s no row\n", whose);
        return;
    }
    printf("%s fire %lld [%lld, %lld) key %llu rev %u%s%s%s count %llu sum %lld\n", whose,
           (long long)r->fire, (long long)r->start, (long long)r->end, (unsigned long long)r->key,
           r->revision, r->retracted ? " retracted" : "", r->partial ? " partial" : "",
           r->evicted ? " evicted" : "", (unsigned long long)r->count, (long long)r->sum_n);
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
    while (row < got.count && row < expected.count && same(&got.rows[row], &expected.rows[row]))
        row++;
    seen_retractions += counts[RML_STAGE_retractions];
    seen_corrections += counts[RML_STAGE_corrections];
    seen_early += counts[RML_STAGE_early];
    seen_late += counts[RML_STAGE_late];
    seen_refused += counts[RML_STAGE_refused];
    seen_keys += counts[RML_STAGE_evicted];
    seen_evicted += counts[RML_STAGE_windows_evicted];
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

static void any_cut_into_batches_gives_the_sessions_of_single_records(void **state)
{
    (void)state;
    if (!cases_hold(&kind, "sessions", 4000))
        return;
    assert_true(seen_retractions > 200);
    assert_true(seen_corrections > 1000);
    assert_true(seen_early > 1000);
    assert_true(seen_late > 1000);
    assert_true(seen_refused > 1000);
    assert_true(seen_keys > 1000);
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

TEST_MAIN(CLAIM(any_cut_into_batches_gives_the_sessions_of_single_records),
          CLAIM(a_fault_in_the_oracle_is_found_and_made_small))
