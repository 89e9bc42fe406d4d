/*
 * partition_rig - drive partitions with a drawn stream, cut into drawn batches, and collect their rows.
 *
 * Records are routed as producers route them, with the marks that tell a partition of times it cannot
 * see. The records' schema is rig_schema; everything is drawn from rig_seed.
 */
#ifndef TESTS_SUPPORT_PARTITION_RIG_H
#define TESTS_SUPPORT_PARTITION_RIG_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "operators/registry.h"
#include "runtime/base/check.h"
#include "runtime/base/err.h"
#include "runtime/base/hash.h"
#include "runtime/partition/partition.h"
#include "runtime/plan/plan.h"
#include "runtime/state/restored.h"
#include "runtime/state/snapshot.h"
#include "runtime/time/time.h"
#include "tests/support/mix.h"
#include "tests/support/test.h"

#define RIG_RECORDS    400
#define RIG_PARTITIONS 4
#define RIG_LANES      3

// At the end of the input: a table of keys without keys, and what the sketches of a stage share.
#define RIG_PAGES_OF_NOTHING 6

static const char rig_schema[] =
    "schema: {event: {ts: time_ns, key: u64, n: i64, x: f64, tag: str16}}\n";

struct rig_record {
    int64_t ts;
    uint64_t key;
    int64_t n;
    double x;
    char tag[16];  // says n when it is taken, see rig_tag_says
};

/* Records in the order in which they are taken, each written by one of the lanes. */
struct rig_stream {
    uint32_t count, lanes;
    uint64_t cuts;  // what batches, and crashes, are drawn from, or RIG_ALONE, RIG_TOGETHER
    uint32_t
        tick_each;  // the partitions are told the wall clock before each so many records; 0: never
    /* Record i is refused when its time lies behind `latest` + i / latest_each * latest_step. */
    uint32_t latest_each;  // 0: none is
    int64_t latest, latest_step;
    struct rig_record records[RIG_RECORDS];
    uint8_t lane[RIG_RECORDS];  // modulo `lanes`
};

#define RIG_ALONE    0
#define RIG_TOGETHER 2  // as many as can be; what is drawn is odd

static uint64_t rig_seed;

static inline uint64_t draw(uint64_t below)
{
    rig_seed ^= rig_seed << 13;
    rig_seed ^= rig_seed >> 7;
    rig_seed ^= rig_seed << 17;
    return (rig_seed >> 11) % below;
}

static inline void rig_begin_case(uint64_t number)
{
    rig_seed = number * UINT64_C(0x9e3779b97f4a7c15) | 1;
}

/* `count` records that pause now and then, in disorder up to a spread, over a few keys, by one lane. */
static inline void rig_draw_records(struct rig_stream *stream, uint32_t count)
{
    int64_t now = (int64_t)draw(400) - 200, spread = 1 + (int64_t)draw(40);
    uint64_t keys = 1 + draw(11), pace = 1 + draw(4);
    memset(stream, 0, sizeof *stream);
    stream->count = count;
    stream->lanes = 1;
    for (uint32_t i = 0; i < count; i++) {
        now += (int64_t)draw(pace) + (draw(60) == 0 ? (int64_t)draw(200) : 0);
        stream->records[i] = (struct rig_record){
            .ts = now - (int64_t)draw((uint64_t)spread),
            .key = draw(keys),
            .n = (int64_t)draw(1000) - 500,
            .x = draw(9) == 0 ? __builtin_nan("") : ((double)draw(4096) - 2048) / 16,
        };
    }
    stream->cuts = draw(UINT64_C(1) << 40) | 1;
}

/* Draw when records are refused because of their time. */
static inline void rig_draw_latest(struct rig_stream *stream)
{
    if (draw(3) > 0)
        return;
    stream->latest_each = 1 + (uint32_t)draw(20);
    stream->latest_step = (int64_t)draw(4 * stream->latest_each);
    stream->latest = stream->records[0].ts + (int64_t)draw(100) - 20;
}

/* As a step says it: the latest time that is believed at that record; 0: every time. */
static inline int64_t rig_latest(const struct rig_stream *stream, uint32_t record)
{
    if (stream->latest_each == 0)
        return 0;
    int64_t latest = stream->latest + record / stream->latest_each * stream->latest_step;
    return latest != 0 ? latest : 1;
}

static inline bool rig_is_ahead(const struct rig_stream *stream, uint32_t record)
{
    return stream->latest_each > 0 && stream->records[record].ts > rig_latest(stream, record);
}

/* Is that the tag of a record with this n? */
static inline bool rig_tag_says(const char tag[16], int64_t n)
{
    char text[16] = {0};
    snprintf(text, sizeof text, "n = %d", (int)n);
    return memcmp(tag, text, sizeof text) == 0;
}

/* How many records trigger an early result: 0: there is no trigger; -1: one does, as emit: updates. */
static inline int64_t rig_draw_trigger(void)
{
    return draw(2) ? 0 : draw(4) == 0 ? -1 : 1 + (int64_t)draw(draw(2) ? 3 : 40);
}

/* How many milliseconds of the wall clock do; 0: it triggers nothing. */
static inline int64_t rig_draw_every_ms(void)
{
    return draw(2) ? 0 : 10 + (int64_t)draw(60);
}

static inline bool rig_can_be_every_ms(int64_t every_ms)
{
    return every_ms == 0 || every_ms >= 10;
}

/* Both as they stand in a window, behind others of its keys. */
static inline void rig_print_trigger(int64_t trigger, int64_t every_ms, char text[80])
{
    long long count = trigger < 0 ? 1 : trigger, every = every_ms;
    text[0] = '\0';
    if (trigger < 0 && every == 0)
        snprintf(text, 80, ", emit: updates");
    else if (count > 0 && every > 0)
        snprintf(text, 80, ", trigger: {count: %lld, every: %lldms}", count, every);
    else if (count > 0)
        snprintf(text, 80, ", trigger: {count: %lld}", count);
    else if (every > 0)
        snprintf(text, 80, ", trigger: {every: %lldms}", every);
}

#define RIG_RECORD_MS 4  // of the wall clock go by with each record

/* Are partitions told the wall clock before that record, or behind the last? */
static inline bool rig_ticks(const struct rig_stream *stream, uint32_t record)
{
    return stream->tick_each > 0 && record % stream->tick_each == 0;
}

/* Has it come to another multiple then, or is it the first time that they are told? */
static inline bool rig_triggers(const struct rig_stream *stream, uint32_t record, int64_t every_ms)
{
    if (every_ms == 0 || !rig_ticks(stream, record))
        return false;
    return record == 0
           || record * RIG_RECORD_MS / every_ms
                  != (record - stream->tick_each) * RIG_RECORD_MS / every_ms;
}

static inline uint32_t rig_lane(const struct rig_stream *stream, uint32_t record)
{
    return stream->lane[record] % stream->lanes;
}

static inline uint32_t rig_partition_of(uint64_t key, uint32_t partitions)
{
    return rml_partition_of(rml_key_hash_bytes(&key, sizeof key), partitions);
}

/* How far time has come, to somebody who sees every record. */
struct rig_clocks {
    const struct rig_stream *stream;
    int64_t out_of_order;
    int64_t clock[RIG_LANES];
};

static inline struct rig_clocks rig_clocks(const struct rig_stream *stream, int64_t out_of_order)
{
    return (struct rig_clocks){stream, out_of_order, {INT64_MIN, INT64_MIN, INT64_MIN}};
}

/* See record `index`. Returns the watermark behind it, INT64_MIN: some lane has written nothing. */
static inline int64_t rig_clocks_see(struct rig_clocks *c, uint32_t index)
{
    int64_t *clock = &c->clock[rig_lane(c->stream, index)], least = INT64_MAX;
    *clock = c->stream->records[index].ts > *clock ? c->stream->records[index].ts : *clock;
    for (uint32_t l = 0; l < c->stream->lanes; l++)
        least = c->clock[l] < least ? c->clock[l] : least;
    return least == INT64_MIN ? INT64_MIN : least - c->out_of_order;
}

/* RML_SEED names one case; else there are so many. */
static inline void rig_cases(uint64_t count, uint64_t *ret_first, uint64_t *ret_count)
{
    const char *set = getenv("RML_SEED");
    *ret_first = set != NULL ? strtoull(set, NULL, 0) : 1;
    *ret_count = set != NULL ? 1 : count;
}

static inline struct rml_plan *rig_plan(const char *text)
{
    struct rml_plan *plan = NULL;
    struct rml_plan_errors errors = {0};
    struct rml_err err = {0};
    int rc = rml_plan_parse(text, strlen(text), "random", mix_functions(), &plan, &errors, &err);
    if (rc < 0 && errors.count > 0)
        printf("%s\n%u: %s (%s)\n", text, errors.list[0].line, errors.list[0].text,
               errors.list[0].hint);
    RML_CHECK(rc == 0);
    rml_plan_errors_fini(&errors);
    return plan;
}

/* Rows of output 0 go to `row`, once: those that are made again after a crash must be the same. */
struct rig_sink {
    void (*row)(void *context, const struct rml_schema *schema, const struct rml_result_row *row);
    void *context;
    const struct rml_schema *schema;
    struct rml_result_block *spare;
    uint64_t *hashes;  // of each row, by its number
    uint64_t rows, room;
};

static inline void rig_give_row(struct rig_sink *to, const struct rml_result_row *row)
{
    uint64_t hash = rml_key_hash_bytes(row->record, to->schema->record_bytes) ^ (uint64_t)row->fire;
    RML_CHECK(row->seq <= to->rows);
    if (row->seq < to->rows) {
        RML_CHECK(hash == to->hashes[row->seq]);
        return;
    }
    if (to->rows == to->room) {
        to->room = 2 * to->room + 256;
        to->hashes = realloc(to->hashes, to->room * sizeof to->hashes[0]);
        RML_CHECK(to->hashes != NULL);
    }
    to->hashes[to->rows++] = hash;
    to->row(to->context, to->schema, row);
}

static inline void rig_read_field(const struct rml_schema *schema, const unsigned char *record,
                                  const char *name, void *value, size_t bytes)
{
    uint32_t field = rml_schema_find(schema, name, strlen(name));
    RML_CHECK(field != RML_FIELD_ABSENT);
    RML_CHECK(rml_type_info[schema->fields[field].type].bytes == bytes);
    memcpy(value, record + schema->fields[field].offset, bytes);
}

static inline struct rml_result_block *rig_take_block(void *context)
{
    struct rig_sink *to = context;
    struct rml_result_block *block = to->spare;
    to->spare = NULL;
    return block != NULL ? block : malloc(sizeof *block);
}

static inline void rig_give_block(void *context, struct rml_result_block *block)
{
    struct rig_sink *to = context;
    for (uint32_t i = 0; i < block->rows; i++)
        rig_give_row(to, rml_result_row_at(block, i));
    RML_CHECK(block->rows == 0 || block->output == 0);
    free(to->spare);
    to->spare = block;
}

/* One snapshot's bytes. */
struct rig_bytes {
    unsigned char *bytes;
    size_t count, room;
};

static inline void rig_put(void *context, const void *bytes, size_t count)
{
    struct rig_bytes *s = context;
    if (s->count + count > s->room) {
        s->room = 2 * (s->count + count);
        s->bytes = realloc(s->bytes, s->room);
        RML_CHECK(s->bytes != NULL);
    }
    memcpy(s->bytes + s->count, bytes, count);
    s->count += count;
}

#define RIG_SNAPSHOTS 64
#define RIG_STEPS     ((3 + 2 * RIG_LANES) * RIG_RECORDS)

/* A step as it was taken, with its records and marks among those of the life. */
struct rig_step {
    struct rml_step step;
    uint32_t record, mark, mark_count;
};

/*
 * One partition takes its part of the stream, and is now and then thrown away and brought back from its
 * snapshots.
 */
struct rig_life {
    const struct rml_plan *plan;
    const struct rml_partition_options *options;
    const struct rig_stream *stream;
    struct rml_partition *partition;

    struct rig_step steps[RIG_STEPS];  // all that were taken
    struct rig_record records[RIG_RECORDS];
    struct rml_mark marks[2 * RIG_RECORDS];
    uint32_t step_count, record_count, mark_count;

    bool crashes;
    struct rig_bytes snapshots[RIG_SNAPSHOTS];
    uint32_t begun, complete;  // snapshots
    uint32_t needs,
        needs_then;  // those that the last complete one needs, and the one that is copied
    bool copying;
    uint32_t from,
        from_then;  // steps behind the last complete one, and the one that is being copied

    int64_t clock[RIG_LANES];  // of the lanes
    int64_t known[RIG_LANES];  // what the partition knows of them
    uint32_t lane, first_record,
        first_mark;      // of the batch that is gathered: the rest of what there is
    uint32_t batch_end;  // records that it is to have, if nothing comes between
    int64_t latest;      // time that is believed in it
};

static inline void rig_open(struct rig_life *life)
{
    struct rml_err err = {0};
    RML_CHECK(
        rml_partition_open(&life->partition, life->plan, rml_operators_table(), life->options, &err)
        == 0);
}

static inline void rig_take_step(const struct rig_life *life, const struct rig_step *taken)
{
    const struct rml_step_input input = {&life->records[taken->record], &life->marks[taken->mark],
                                         taken->mark_count};
    int count = taken->step.kind == RML_STEP_BATCH ? (int)taken->step.count : 0;
    RML_CHECK(rml_partition_step(life->partition, &taken->step, &input) == count);
}

// Begin a snapshot, or copy some of the one that was begun.
static inline void rig_snapshot(struct rig_life *life)
{
    if (!life->copying && life->begun < RIG_SNAPSHOTS && draw(8) == 0) {
        const struct rml_snapshot_sink sink = {rig_put, &life->snapshots[life->begun]};
        rml_partition_snapshot(life->partition, life->begun++, &sink, &life->needs_then);
        life->from_then = life->step_count;
        life->copying = true;
    }
    if (!life->copying || rml_partition_copy(life->partition, (uint32_t)draw(3000)))
        return;
    life->from = life->from_then;
    life->complete = life->begun;
    life->needs = life->needs_then;
    life->copying = false;
}

// What is left of a process that was killed: complete snapshots, the steps, and their records.
static inline void rig_crash(struct rig_life *life)
{
    struct rml_err err = {0};
    struct rml_restored restored;
    RML_CHECK(rml_restored_open(&restored, life->plan->state_bytes_max, &err) == 0);
    for (uint32_t i = life->complete; i > 0 && life->complete - i <= life->needs; i--) {
        const struct rig_bytes *s = &life->snapshots[i - 1];
        RML_CHECK(rml_restored_stream(&restored, &err) == 0);
        for (size_t at = 0, part; at < s->count; at += part) {
            part = 1 + draw(s->count - at);
            RML_CHECK(rml_restored_bytes(&restored, s->bytes + at, part, &err) == 0);
        }
    }
    for (uint32_t i = life->complete; i < life->begun; i++)
        life->snapshots[i].count = 0;
    life->begun = life->complete;
    life->copying = false;
    rml_partition_close(life->partition);
    rig_open(life);
    if (life->complete > 0) {
        RML_CHECK(rml_restored_end(&restored, &err) == 0);
        RML_CHECK(rml_partition_restore(life->partition, &restored, &err) == 0);
    }
    rml_restored_close(&restored);
    for (uint32_t i = life->from; i < life->step_count; i++)
        rig_take_step(life, &life->steps[i]);
}

static inline void rig_do(struct rig_life *life, struct rml_step step, uint32_t mark_count)
{
    if (life->crashes)
        rig_snapshot(life);
    RML_CHECK(life->step_count < RIG_STEPS);
    struct rig_step *taken = &life->steps[life->step_count++];
    *taken = (struct rig_step){step, life->first_record, life->first_mark, mark_count};
    rig_take_step(life, taken);
    if (life->crashes && life->complete > 0 && draw(30) == 0)
        rig_crash(life);
}

// A time that is not to be believed.
static inline int64_t rig_lie(const struct rig_life *life)
{
    return life->latest + 1 + (int64_t)draw(1000);
}

static inline bool rig_lies(const struct rig_life *life)
{
    return life->latest != 0 && draw(6) == 0;
}

// Take the batch that was gathered, and begin another.
static inline void rig_do_batch(struct rig_life *life)
{
    const struct rml_step step = {.kind = RML_STEP_BATCH,
                                  .lane = (uint16_t)life->lane,
                                  .count = life->record_count - life->first_record,
                                  .time = rig_lies(life) ? rig_lie(life) : RML_TIME_NONE,
                                  .latest = life->latest};
    if (step.count > 0)
        rig_do(life, step, life->mark_count - life->first_mark);
    life->first_record = life->record_count;
    life->first_mark = life->mark_count;
    if (life->stream->cuts == RIG_ALONE || life->stream->cuts == RIG_TOGETHER)
        life->batch_end = life->stream->cuts == RIG_ALONE ? 1 : RIG_RECORDS;
    else
        life->batch_end = 1 + (uint32_t)draw(draw(2) ? 3 : RIG_RECORDS);
}

static inline void rig_do_vouch(struct rig_life *life, uint32_t lane)
{
    rig_do_batch(life);
    const struct rml_step step = {.kind = RML_STEP_BATCH,
                                  .lane = (uint16_t)lane,
                                  .time = life->clock[lane],
                                  .latest = life->latest};
    rig_do(life, step, 0);
    life->known[lane] = life->clock[lane];
}

// The partition takes a record of its own; of other lanes, it hears before how far they are.
static inline void rig_take(struct rig_life *life, const struct rig_record *record, uint32_t lane)
{
    for (uint32_t l = 0; l < life->stream->lanes; l++) {
        if (l != lane && life->clock[l] > life->known[l])
            rig_do_vouch(life, l);
    }
    uint32_t row = life->record_count - life->first_record;
    if (row == life->batch_end || life->lane != lane) {
        rig_do_batch(life);
        row = 0;
    }
    life->lane = lane;
    if (life->clock[lane] > life->known[lane])
        life->marks[life->mark_count++] = (struct rml_mark){row, life->clock[lane]};
    if (rig_lies(life))
        life->marks[life->mark_count++] = (struct rml_mark){row, rig_lie(life)};
    struct rig_record *taken = &life->records[life->record_count++];
    *taken = *record;
    memset(taken->tag, 0, sizeof taken->tag);
    snprintf(taken->tag, sizeof taken->tag, "n = %d", (int)record->n);
    life->known[lane] = life->clock[lane];
    if (record->ts > life->known[lane] && (life->latest == 0 || record->ts <= life->latest))
        life->known[lane] = record->ts;
}

// The partition is told the wall clock, and before that how far the lanes are, as a worker does it.
static inline void rig_tick(struct rig_life *life, uint32_t record)
{
    for (uint32_t l = 0; l < life->stream->lanes; l++) {
        if (life->clock[l] > life->known[l])
            rig_do_vouch(life, l);
    }
    rig_do_batch(life);
    const int64_t now = record * INT64_C(1000000) * RIG_RECORD_MS;
    const struct rml_step step = {.kind = RML_STEP_TICK, .time = now, .steady_ns = now};
    rig_do(life, step, 0);
}

// All of the stream, of which the partition takes its part, to the end.
static inline void rig_live(struct rig_life *life)
{
    uint32_t index = life->options->index;
    rig_open(life);
    rig_seed = life->stream->cuts + index * UINT64_C(0x9e3779b97f4a7c15);
    bool drawn = life->stream->cuts != RIG_ALONE && life->stream->cuts != RIG_TOGETHER;
    for (uint32_t l = 0; l < life->stream->lanes; l++) {
        life->clock[l] = life->known[l] = RML_TIME_NONE;
        rig_do(life, (struct rml_step){.kind = RML_STEP_ATTACH, .lane = (uint16_t)l}, 0);
    }
    life->crashes = drawn && life->options->snapshots;
    rig_do_batch(life);
    for (uint32_t i = 0; i <= life->stream->count; i++) {
        if (rig_ticks(life->stream, i))
            rig_tick(life, i);
        if (i == life->stream->count)
            break;
        const struct rig_record *record = &life->stream->records[i];
        uint32_t lane = rig_lane(life->stream, i);
        if (rig_latest(life->stream, i) != life->latest) {
            rig_do_batch(life);
            life->latest = rig_latest(life->stream, i);
        }
        if (rig_partition_of(record->key, life->plan->partitions) == index)
            rig_take(life, record, lane);
        if (!rig_is_ahead(life->stream, i) && record->ts > life->clock[lane])
            life->clock[lane] = record->ts;
    }
    rig_do_batch(life);
    rig_do(life, (struct rml_step){.kind = RML_STEP_END}, 0);
}

static inline uint64_t rig_door_sum(const struct rml_stage_counts *counts)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < RML_STAGE_COUNTERS; i++)
        sum += rml_stage_counter_info[i].is_door ? rml_count_read(&counts->value[i]) : 0;
    return sum;
}

/*
 * Do the accounts of a stage that took `records` hold: did every record leave by one door, and is no state
 * left? A sentence, or NULL.
 */
static inline const char *rig_accounts(const struct rml_stage_counts *stage,
                                       const struct rml_source_counts *source, uint32_t records)
{
    uint64_t delivered = rml_count_read(&source->value[RML_SOURCE_delivered]);
    if (delivered + rml_count_read(&source->value[RML_SOURCE_ahead]) != records)
        return "not every record was delivered or refused";
    if (rml_count_read(&stage->value[RML_STAGE_in]) != delivered)
        return "not every record came to the stage";
    if (rig_door_sum(stage) != delivered)
        return "the doors do not add up to what came in";
    if (rml_count_read(&stage->value[RML_STAGE_keys]) != 0
        || rml_count_read(&stage->value[RML_STAGE_panes]) != 0
        || rml_count_read(&stage->value[RML_STAGE_sessions]) != 0)
        return "keys, panes or sessions are left at the end";
    if (rml_count_read(&stage->value[RML_STAGE_state_bytes])
        > (uint64_t)RIG_PAGES_OF_NOTHING * RML_PAGE_BYTES)
        return "state holds pages at the end";
    return NULL;
}

/*
 * Run the one stage of the plan over the records in all its partitions, to the end, some with crashes
 * from which they are brought back. Adds the stage's counters up in `ret_counts`. NULL, or what was wrong
 * with its accounts.
 */
static inline const char *rig_run_checked(const char *text, const struct rig_stream *stream,
                                          void (*row)(void *context,
                                                      const struct rml_schema *schema,
                                                      const struct rml_result_row *row),
                                          void *context, uint64_t ret_counts[RML_STAGE_COUNTERS])
{
    struct rml_plan *plan = rig_plan(text);
    const char *wrong = NULL;
    memset(ret_counts, 0, RML_STAGE_COUNTERS * sizeof ret_counts[0]);
    for (uint32_t p = 0; p < plan->partitions; p++) {
        struct rig_sink to = {.row = row, .context = context, .schema = &plan->stages[0].output};
        struct rml_stage_counts stage = {0};
        struct rml_source_counts source = {0};
        const struct rml_partition_options options = {
            .index = p,
            .door = {rig_take_block, rig_give_block, &to, false},
            .stages = &stage,
            .sources = &source,
            .lanes_max = RIG_LANES,
            .snapshots = (stream->cuts >> 1) % 4 == 0,
        };
        static struct rig_life life;
        memset(&life, 0, sizeof life);
        life.plan = plan;
        life.options = &options;
        life.stream = stream;
        rig_live(&life);
        const char *here = rig_accounts(&stage, &source, life.record_count);
        wrong = wrong != NULL ? wrong : here;
        for (uint32_t c = 0; c < RML_STAGE_COUNTERS; c++)
            ret_counts[c] += rml_count_read(&stage.value[c]);
        rml_partition_close(life.partition);
        for (uint32_t i = 0; i < RIG_SNAPSHOTS; i++)
            free(life.snapshots[i].bytes);
        free(to.hashes);
        free(to.spare);
    }
    rml_plan_close(plan);
    return wrong;
}

/* The same where the accounts have to hold. */
static inline void rig_run(const char *text, const struct rig_stream *stream,
                           void (*row)(void *context, const struct rml_schema *schema,
                                       const struct rml_result_row *row),
                           void *context, uint64_t ret_counts[RML_STAGE_COUNTERS])
{
    const char *wrong = rig_run_checked(text, stream, row, context, ret_counts);
    if (wrong != NULL)
        fail_msg("%s", wrong);
}

#endif
