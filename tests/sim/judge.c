#include "tests/sim/judge.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/check.h"
#include "runtime/partition/partition.h"
#include "runtime/record/schema.h"
#include "tests/sim/log.h"
#include "tests/sim/producers.h"
#include "tests/sim/sim.h"

#define NEVER      INT64_MIN
#define FOR_EVER   INT64_MAX
#define LANES_MOST 16u
#define BUCKETS    1024u

/* A row as it should be; and as it is. */
struct row {
    uint64_t key;
    int64_t start, end;
    uint32_t revision;
    uint64_t count;
    int64_t sum_n, first_n, greatest_n;
    double sum_x, least_x;
    uint64_t values;  // that are in sum_x, and of which least_x is the least
    char last_tag[16];
};

/* A window that has records. */
struct window {
    struct row row;
    enum judge_stage stage;
    int64_t first_ts, last_ts;
    bool has_fired;
    uint32_t next;  // of its bucket, plus one
};

/* The last records of a key. */
#define COUNTED_SIZE  7u
#define COUNTED_EVERY 3u

struct counted {
    uint64_t count;
    const struct record *last[COUNTED_SIZE];
};

struct list {
    void *at;
    uint64_t count, room;
};

struct look {
    int64_t time;
    uint64_t turn;
};

struct lane {
    const struct stream *stream;
    bool is_there;
    int64_t clock;
    uint64_t at, mark;
    struct look promise;  // of a shared lane: the latest
};

static struct judge_shape shape;
static struct list looks[PARTITIONS_MOST];
static struct judge_sums sums;

static struct {
    uint32_t partition;
    int64_t watermark, least_end;
    struct lane lanes[LANES_MOST];
    struct list windows;
    uint32_t buckets[BUCKETS];
    struct list counted;  // by key
    struct list rows[JUDGE_STAGES];
} j;

static void *add(struct list *list, size_t bytes)
{
    if (list->count == list->room) {
        list->room = 2 * list->room + 64;
        list->at = realloc(list->at, list->room * bytes);
        RML_CHECK(list->at != NULL);
    }
    return (unsigned char *)list->at + list->count++ * bytes;
}

void judge_begin(const struct judge_shape *wanted)
{
    shape = *wanted;
    for (uint32_t p = 0; p < PARTITIONS_MOST; p++)
        looks[p].count = 0;
}

struct judge_sums judge_sums(void)
{
    return sums;
}

/* Promises of time */

void judge_note_look(uint32_t partition, int64_t time, uint64_t turn)
{
    *(struct look *)add(&looks[partition], sizeof(struct look)) = (struct look){time, turn};
}

// When the first look began that can have led to that.
static struct look find_look(int64_t time)
{
    const struct look *list = looks[j.partition].at;
    for (uint64_t i = 0; i < looks[j.partition].count; i++) {
        if (list[i].time == time)
            return list[i];
    }
    sim_fail("partition %u: a shared lane's time is %lld, and no look at its producers said so",
             j.partition, (long long)time);
}

// Where a wall clock has a part in it, who is silent holds nothing back, and may come behind what was promised.
static void promise(struct lane *lane, int64_t time)
{
    if (shape.has_wall_clock)
        return;
    if (lane->promise.turn == 0 || time > lane->promise.time)
        lane->promise = find_look(time);
}

// Who was there when it was promised has kept to it.
static void keep_promise(const struct lane *lane, const struct record *record)
{
    const struct stream *stream = stream_of(record->id);
    int64_t before = stream->parts[j.partition].before[stream_number(record->id)];
    if (stream->is_lost || lane->promise.turn == 0 || stream->joined >= lane->promise.turn
        || before >= lane->promise.time)
        return;
    sim_fail(
        "partition %u: a shared lane said that time is %lld, and a producer that had come to %lld "
        "writes what comes behind that",
        j.partition, (long long)lane->promise.time, (long long)before);
}

// A lane of its own: what has its producer written before what comes next?
static void check_time(const struct lane *lane, int64_t time)
{
    const struct stream_part *part = &lane->stream->parts[j.partition];
    int64_t most = lane->at < part->count ? part->before[lane->at] : lane->stream->clock;
    if (time > most)
        sim_fail(
            "partition %u: behind record %llu of a lane a step says that time is %lld, and its "
            "producer had come to %lld",
            j.partition, (unsigned long long)lane->at, (long long)time, (long long)most);
}

/* Windows */

static int64_t floor_to(int64_t value, int64_t step)
{
    int64_t rest = value % step;
    return value - (rest < 0 ? rest + step : rest);
}

static uint32_t *bucket_of(enum judge_stage stage, uint64_t key)
{
    return &j.buckets[(key * 7 + stage) % BUCKETS];
}

static struct window *window_at(uint32_t index)
{
    return (struct window *)j.windows.at + index;
}

// In their places, without those that are gone.
static void keep_windows(int64_t gone_by)
{
    uint64_t kept = 0;
    memset(j.buckets, 0, sizeof j.buckets);
    for (uint64_t i = 0; i < j.windows.count; i++) {
        struct window window = *window_at((uint32_t)i);
        int64_t late = window.stage == JUDGE_SESSIONS ? 0 : shape.late_ns;
        if (window.has_fired && (gone_by == FOR_EVER || window.row.end + late <= gone_by))
            continue;
        uint32_t *bucket = bucket_of(window.stage, window.row.key);
        window.next = *bucket;
        *window_at((uint32_t)kept++) = window;
        *bucket = (uint32_t)kept;
    }
    j.windows.count = kept;
}

static void give(struct window *window)
{
    struct row *row = add(&j.rows[window->stage], sizeof *row);
    *row = window->row;
    window->row.revision++;
}

static void move(int64_t watermark)
{
    if (watermark <= j.watermark)
        return;
    j.watermark = watermark;
    if (watermark < j.least_end)
        return;
    j.least_end = FOR_EVER;
    for (uint64_t i = 0; i < j.windows.count; i++) {
        struct window *window = window_at((uint32_t)i);
        if (!window->has_fired && window->row.end <= watermark) {
            window->has_fired = true;
            give(window);
        }
        if (!window->has_fired && window->row.end < j.least_end)
            j.least_end = window->row.end;
    }
    keep_windows(watermark);
}

static struct window *new_window(enum judge_stage stage, uint64_t key, int64_t start, int64_t end)
{
    struct window *window = add(&j.windows, sizeof *window);
    uint32_t *bucket = bucket_of(stage, key);
    *window = (struct window){.row = {.key = key, .start = start, .end = end},
                              .stage = stage,
                              .has_fired = end <= j.watermark,
                              .next = *bucket};
    *bucket = (uint32_t)j.windows.count;
    j.least_end = !window->has_fired && end < j.least_end ? end : j.least_end;
    return window;
}

static struct window *find_window(enum judge_stage stage, uint64_t key, int64_t start, int64_t end)
{
    for (uint32_t i = *bucket_of(stage, key); i != 0; i = window_at(i - 1)->next) {
        struct window *window = window_at(i - 1);
        if (window->stage == stage && window->row.key == key && window->row.start == start)
            return window;
    }
    return new_window(stage, key, start, end);
}

static void put(struct window *window, const struct record *record)
{
    struct row *row = &window->row;
    bool is_first = row->count++ == 0;
    row->sum_n += record->n;
    if (is_first || record->ts < window->first_ts) {
        window->first_ts = record->ts;
        row->first_n = record->n;
    }
    if (is_first || record->ts >= window->last_ts) {
        window->last_ts = record->ts;
        memcpy(row->last_tag, record->tag, sizeof row->last_tag);
    }
    if (is_first || record->n > row->greatest_n)
        row->greatest_n = record->n;
    if (record->x == record->x) {
        row->values++;
        row->sum_x += record->x;
    }
}

static void give_late(const struct record *record)
{
    *(struct row *)add(&j.rows[JUDGE_LATE], sizeof(struct row)) = (struct row){.key = record->id};
}

static void take_timed(enum judge_stage stage, const struct record *record, int64_t size,
                       int64_t every)
{
    int64_t last = floor_to(record->ts, every);
    for (int64_t start = last - size + every; start <= last; start += every) {
        if (j.watermark != NEVER && start + size + shape.late_ns <= j.watermark) {
            if (stage == JUDGE_TUMBLING)
                give_late(record);
            continue;
        }
        struct window *window = find_window(stage, record->key, start, start + size);
        put(window, record);
        if (window->has_fired)
            give(window);
    }
}

static bool is_near(const struct window *session, const struct record *record, int64_t gap)
{
    return session->stage == JUDGE_SESSIONS && session->row.key == record->key
           && !session->has_fired && record->ts - session->last_ts < gap
           && session->first_ts - record->ts < gap;
}

// What is in `from` is in `to` as well.
static void take_in(struct window *to, const struct window *from)
{
    if (from->first_ts < to->first_ts)
        to->first_ts = from->first_ts;
    if (from->last_ts > to->last_ts)
        to->last_ts = from->last_ts;
    to->row.count += from->row.count;
    to->row.sum_n += from->row.sum_n;
}

static void take_session(const struct record *record, int64_t gap)
{
    struct window merged = {.row = {.key = record->key}, .stage = JUDGE_SESSIONS};
    put(&merged, record);
    bool any = false;
    for (uint32_t i = *bucket_of(JUDGE_SESSIONS, record->key); i != 0; i = window_at(i - 1)->next) {
        struct window *session = window_at(i - 1);
        if (!is_near(session, record, gap))
            continue;
        take_in(&merged, session);
        session->has_fired = true;  // and gives nothing: it is in another
        session->row.end = NEVER;
        any = true;
    }
    if (!any && j.watermark != NEVER && record->ts + gap <= j.watermark)
        return;
    struct window *window =
        new_window(JUDGE_SESSIONS, record->key, merged.first_ts, merged.last_ts + gap);
    window->row.count = merged.row.count;
    window->row.sum_n = merged.row.sum_n;
    window->first_ts = merged.first_ts;
    window->last_ts = merged.last_ts;
}

static struct counted *counted_of(uint64_t key)
{
    while (j.counted.count <= key)
        *(struct counted *)add(&j.counted, sizeof(struct counted)) = (struct counted){.count = 0};
    return (struct counted *)j.counted.at + key;
}

// Each so many records a row over the last that there are.
static void take_counted(const struct record *record)
{
    struct counted *counted = counted_of(record->key);
    counted->last[counted->count++ % COUNTED_SIZE] = record;
    if (counted->count % COUNTED_EVERY != 0)
        return;
    struct row row = {.key = record->key, .start = record->ts, .end = record->ts};
    for (uint64_t i = 0; i < COUNTED_SIZE && i < counted->count; i++) {
        const struct record *one = counted->last[i];
        row.start = one->ts < row.start ? one->ts : row.start;
        row.end = one->ts > row.end ? one->ts : row.end;
        row.count++;
        row.sum_n += one->n;
        if (one->x == one->x && (row.values++ == 0 || one->x < row.least_x))
            row.least_x = one->x;
    }
    row.end++;
    *(struct row *)add(&j.rows[JUDGE_COUNTED], sizeof row) = row;
}

static bool is_there(enum judge_stage stage)
{
    return (shape.stages >> (stage == JUDGE_LATE ? JUDGE_TUMBLING : stage) & 1) != 0;
}

static bool is_asked_for(enum judge_stage stage)
{
    return is_there(stage) && (stage == JUDGE_COUNTED || !shape.has_wall_clock)
           && (stage != JUDGE_SESSIONS || shape.late_ns == 0);
}

static void take_record(const struct record *record)
{
    if (is_asked_for(JUDGE_TUMBLING) && record->n % 7 != 0)
        take_timed(JUDGE_TUMBLING, record, shape.size_ns, shape.size_ns);
    if (is_asked_for(JUDGE_SLIDING))
        take_timed(JUDGE_SLIDING, record, shape.size_ns / 4 * 4, shape.size_ns / 4);
    if (is_asked_for(JUDGE_SESSIONS))
        take_session(record, shape.size_ns / 8);
    if (is_asked_for(JUDGE_COUNTED))
        take_counted(record);
}

/* Steps */

static int64_t least_watermark(void)
{
    int64_t least = FOR_EVER;
    for (uint32_t i = 0; i < LANES_MOST; i++) {
        const struct lane *lane = &j.lanes[i];
        if (!lane->is_there)
            continue;
        int64_t own = lane->clock == NEVER ? NEVER : lane->clock - shape.out_of_order_ns;
        least = own < least ? own : least;
    }
    return least == FOR_EVER ? NEVER : least;
}

static void tell(struct lane *lane, int64_t time)
{
    if (time <= lane->clock)
        return;
    lane->clock = time;
    move(least_watermark());
}

static void take_shared(struct lane *lane, const struct stream_part *part)
{
    while (lane->mark < part->mark_count && part->marks[lane->mark].position <= lane->at) {
        int64_t time = part->marks[lane->mark++].time;
        promise(lane, time);
        tell(lane, time);
    }
    const struct record *record = &part->records[lane->at++];
    keep_promise(lane, record);
    take_record(record);
}

static void take_own(struct lane *lane, const struct stream_part *part)
{
    const struct record *record = &part->records[lane->at];
    tell(lane, part->before[lane->at++]);
    take_record(record);
    tell(lane, record->ts);
}

static void take_batch(const struct rml_step *step)
{
    struct lane *lane = &j.lanes[step->lane];
    RML_CHECK(lane->is_there && (lane->stream != NULL || step->count == 0));
    if (lane->stream == NULL)
        return;
    const struct stream_part *part = &lane->stream->parts[j.partition];
    for (uint32_t i = 0; i < step->count; i++) {
        if (lane->stream->is_log)
            take_shared(lane, part);
        else
            take_own(lane, part);
    }
    if (step->time == NEVER)
        return;
    if (lane->stream->is_log)
        promise(lane, step->time);
    else
        check_time(lane, step->time);
    tell(lane, step->time);
}

static void detach(struct lane *lane)
{
    int64_t own = lane->clock == NEVER ? NEVER : lane->clock - shape.out_of_order_ns;
    lane->is_there = false;
    bool any = false;
    for (uint32_t i = 0; i < LANES_MOST; i++)
        any |= j.lanes[i].is_there;
    move(any ? least_watermark() : own);
}

static void take_step(const struct rml_step *step)
{
    switch ((enum rml_step_kind)step->kind) {
    case RML_STEP_BATCH:
        take_batch(step);
        return;
    case RML_STEP_ATTACH:
        j.lanes[step->lane] =
            (struct lane){.stream = producers_find(step->serial), .is_there = true, .clock = NEVER};
        return;
    case RML_STEP_DETACH:
        detach(&j.lanes[step->lane]);
        return;
    case RML_STEP_END:
        move(FOR_EVER);
        return;
    case RML_STEP_TICK:
        RML_CHECK(shape.has_wall_clock);
        return;
    }
    RML_UNREACHABLE("there are no others");
}

/* Comparing */

static int compare_rows(const void *left, const void *right)
{
    const struct row *a = left, *b = right;
    if (a->key != b->key)
        return a->key < b->key ? -1 : 1;
    if (a->start != b->start)
        return a->start < b->start ? -1 : 1;
    return (a->revision > b->revision) - (a->revision < b->revision);
}

static void read_field(const struct judge_rows *rows, uint64_t index, const char *name, void *value,
                       size_t bytes)
{
    uint32_t field = rml_schema_find(rows->schema, name, strlen(name));
    RML_CHECK(field != RML_FIELD_ABSENT);
    memcpy(value, rows->records + index * rows->stride + rows->schema->fields[field].offset, bytes);
}

static struct row read_row(enum judge_stage stage, const struct judge_rows *rows, uint64_t index)
{
    struct row row = {0};
    if (stage == JUDGE_LATE) {
        read_field(rows, index, "id", &row.key, sizeof row.key);
        return row;
    }
    read_field(rows, index, "key", &row.key, sizeof row.key);
    read_field(rows, index, "window_start", &row.start, sizeof row.start);
    read_field(rows, index, "window_end", &row.end, sizeof row.end);
    read_field(rows, index, "revision", &row.revision, sizeof row.revision);
    read_field(rows, index, "c", &row.count, sizeof row.count);
    if (stage != JUDGE_SLIDING)
        read_field(rows, index, "s", &row.sum_n, sizeof row.sum_n);
    if (stage == JUDGE_TUMBLING) {
        read_field(rows, index, "f", &row.first_n, sizeof row.first_n);
        read_field(rows, index, "l", row.last_tag, sizeof row.last_tag);
    } else if (stage == JUDGE_SLIDING) {
        read_field(rows, index, "s", &row.sum_x, sizeof row.sum_x);
        read_field(rows, index, "mx", &row.greatest_n, sizeof row.greatest_n);
    } else if (stage == JUDGE_COUNTED) {
        read_field(rows, index, "mn", &row.least_x, sizeof row.least_x);
    }
    return row;
}

static bool is_same(enum judge_stage stage, const struct row *a, const struct row *right)
{
    if (compare_rows(a, right) != 0 || a->end != right->end || a->count != right->count)
        return false;
    switch (stage) {
    case JUDGE_TUMBLING:
        return a->sum_n == right->sum_n && a->first_n == right->first_n
               && memcmp(a->last_tag, right->last_tag, sizeof a->last_tag) == 0;
    case JUDGE_SLIDING:  // sums of sixteenths are exact
        return a->greatest_n == right->greatest_n
               && (right->values == 0 || !(a->sum_x < right->sum_x || a->sum_x > right->sum_x));
    case JUDGE_SESSIONS:
        return a->sum_n == right->sum_n;
    case JUDGE_COUNTED:
        return a->sum_n == right->sum_n
               && (right->values == 0
                   || !(a->least_x < right->least_x || a->least_x > right->least_x));
    case JUDGE_LATE:
        return true;
    case JUDGE_STAGES:
        break;
    }
    RML_UNREACHABLE("every stage has its fields");
}

static void print_row(const char *whose, const struct row *row)
{
    printf("%s: key %llu, from %lld to %lld, revision %u: %llu records, n %lld, x %g\n", whose,
           (unsigned long long)row->key, (long long)row->start, (long long)row->end, row->revision,
           (unsigned long long)row->count, (long long)row->sum_n, row->sum_x);
}

static void compare_stage(enum judge_stage stage, const struct judge_rows *rows)
{
    struct list there = {0}, *right = &j.rows[stage];
    for (uint64_t i = 0; i < rows->count; i++)
        *(struct row *)add(&there, sizeof(struct row)) = read_row(stage, rows, i);
    // these come with their records, and so in their order
    bool is_in_order = stage == JUDGE_COUNTED || stage == JUDGE_LATE;
    if (there.count > 0 && !is_in_order)
        qsort(there.at, there.count, sizeof(struct row), compare_rows);
    if (right->count > 0 && !is_in_order)
        qsort(right->at, right->count, sizeof(struct row), compare_rows);
    const struct row *a = there.at, *b = right->at;
    for (uint64_t i = 0; i < there.count && i < right->count; i++) {
        if (is_same(stage, &a[i], &b[i]))
            continue;
        print_row("there", &a[i]);
        print_row("right, by what was published", &b[i]);
        sim_fail("partition %u: a row is not what was published", j.partition);
    }
    if (there.count != right->count)
        sim_fail("partition %u: %llu rows, and by what was published there should be %llu",
                 j.partition, (unsigned long long)there.count, (unsigned long long)right->count);
    sums.judged += there.count;
    free(there.at);
}

void judge_partition(uint32_t partition, const struct rml_step *steps, uint64_t step_count,
                     const struct judge_rows *const rows[JUDGE_STAGES])
{
    memset(&j, 0, sizeof j);
    j.partition = partition;
    j.watermark = NEVER;
    j.least_end = FOR_EVER;
    for (uint64_t i = 0; i < step_count; i++)
        take_step(&steps[i]);
    for (int stage = 0; stage < JUDGE_STAGES; stage++) {
        if (is_asked_for((enum judge_stage)stage) && rows[stage] != NULL)
            compare_stage((enum judge_stage)stage, rows[stage]);
        else if (rows[stage] != NULL && shape.has_wall_clock)
            sums.wall_clock += rows[stage]->count;
        else if (rows[stage] != NULL)
            sums.sessions += rows[stage]->count;
        free(j.rows[stage].at);
    }
    free(j.counted.at);
    free(j.windows.at);
}
