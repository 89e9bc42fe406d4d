/*
 * partition_rig - drive partitions with a drawn stream, cut into drawn batches, and collect their rows.
 *
 * Records of one lane are routed as a producer routes them, with the marks that tell a partition of
 * times it cannot see. The records' schema is rig_schema; everything is drawn from rig_seed.
 */
#ifndef TESTS_SUPPORT_PARTITION_RIG_H
#define TESTS_SUPPORT_PARTITION_RIG_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "operators/registry.h"
#include "runtime/base/err.h"
#include "runtime/base/hash.h"
#include "runtime/partition/partition.h"
#include "runtime/plan/plan.h"
#include "runtime/state/snapshot.h"
#include "runtime/time/time.h"
#include "tests/support/mix.h"
#include "tests/support/test.h"

#define RIG_RECORDS    400
#define RIG_PARTITIONS 4

static const char rig_schema[] =
    "schema: {event: {ts: time_ns, key: u64, n: i64, x: f64, tag: str16}}\n";

struct rig_record {
    int64_t ts;
    uint64_t key;
    int64_t n;
    double x;
    char tag[16];  // says n, see rig_tag_says
};

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

/* A stream that pauses now and then, in disorder up to a spread, over a few keys. */
static inline void rig_draw_records(struct rig_record *records)
{
    int64_t now = (int64_t)draw(400) - 200, spread = 1 + (int64_t)draw(40);
    uint64_t keys = 1 + draw(11), pace = 1 + draw(4);
    for (uint32_t i = 0; i < RIG_RECORDS; i++) {
        now += (int64_t)draw(pace) + (draw(60) == 0 ? (int64_t)draw(200) : 0);
        records[i] = (struct rig_record){
            .ts = now - (int64_t)draw((uint64_t)spread),
            .key = draw(keys),
            .n = (int64_t)draw(1000) - 500,
            .x = draw(9) == 0 ? __builtin_nan("") : ((double)draw(4096) - 2048) / 16,
        };
        snprintf(records[i].tag, sizeof records[i].tag, "n = %d", (int)records[i].n);
    }
}

/* Is that the tag of a record with this n? */
static inline bool rig_tag_says(const char tag[16], int64_t n)
{
    char text[16] = {0};
    snprintf(text, sizeof text, "n = %d", (int)n);
    return memcmp(tag, text, sizeof text) == 0;
}

/* How many records trigger an early result; 0: there is no trigger. */
static inline uint64_t rig_draw_trigger(void)
{
    return draw(2) ? 0 : 1 + draw(draw(2) ? 3 : 40);
}

/* The same as it stands in a window, behind others of its keys. */
static inline void rig_print_trigger(uint64_t count, char text[48])
{
    text[0] = '\0';
    if (count == 1 && draw(2))
        snprintf(text, 48, ", emit: updates");
    else if (count > 0)
        snprintf(text, 48, ", trigger: {count: %llu}", (unsigned long long)count);
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
    assert_int_equal(rc, 0);
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
    assert_true(row->seq <= to->rows);
    if (row->seq < to->rows) {
        assert_int_equal(hash, to->hashes[row->seq]);
        return;
    }
    if (to->rows == to->room) {
        to->room = 2 * to->room + 256;
        to->hashes = realloc(to->hashes, to->room * sizeof to->hashes[0]);
        assert_non_null(to->hashes);
    }
    to->hashes[to->rows++] = hash;
    to->row(to->context, to->schema, row);
}

static inline void rig_read_field(const struct rml_schema *schema, const unsigned char *record,
                                  const char *name, void *value, size_t bytes)
{
    uint32_t field = rml_schema_find(schema, name, strlen(name));
    assert_int_not_equal(field, RML_FIELD_ABSENT);
    assert_int_equal(rml_type_info[schema->fields[field].type].bytes, bytes);
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
    assert_true(block->rows == 0 || block->output == 0);
    free(to->spare);
    to->spare = block;
}

// What lies in one partition's ring: its records, and marks of what it cannot see from them.
struct rig_queue {
    uint32_t count, mark_count;
    struct rig_record records[RIG_RECORDS];
    struct rml_mark marks[RIG_RECORDS];
};

/* One snapshot's bytes. */
struct rig_stream {
    unsigned char *bytes;
    size_t count, room;
};

static inline void rig_put(void *context, const void *bytes, size_t count)
{
    struct rig_stream *s = context;
    if (s->count + count > s->room) {
        s->room = 2 * (s->count + count);
        s->bytes = realloc(s->bytes, s->room);
        assert_non_null(s->bytes);
    }
    memcpy(s->bytes + s->count, bytes, count);
    s->count += count;
}

#define RIG_STREAMS 64

/* A partition that is now and then thrown away and brought back from its snapshots. */
struct rig_life {
    const struct rml_plan *plan;
    const struct rml_partition_options *options;
    const struct rig_queue *queue;
    struct rml_partition *partition;
    struct rig_stream streams[RIG_STREAMS];
    uint32_t begun, complete;  // snapshots
    bool copying;
    // Batches of the queue since the last complete snapshot, and since the one that is being copied.
    uint32_t cuts[RIG_RECORDS], cut_count, cuts_then;
    uint32_t from;  // the record that the first of them begins with
};

static inline void rig_open(struct rig_life *life)
{
    struct rml_err err = {0};
    assert_int_equal(rml_partition_open(&life->partition, life->plan, rml_operators_table(),
                                        life->options, &err),
                     0);
}

// Take `count` records of the queue from record `at` on.
static inline void rig_take(const struct rig_life *life, uint32_t at, uint32_t count)
{
    const struct rig_queue *queue = life->queue;
    struct rml_mark marks[RIG_RECORDS];
    uint32_t mark_count = 0;
    for (uint32_t i = 0; i < queue->mark_count; i++) {
        if (queue->marks[i].row < at || queue->marks[i].row >= at + count)
            continue;
        marks[mark_count] = queue->marks[i];
        marks[mark_count++].row -= at;
    }
    const struct rml_step step = {.kind = RML_STEP_BATCH, .count = count, .time = RML_TIME_NONE};
    const struct rml_step_input input = {&queue->records[at], marks, mark_count};
    assert_int_equal(rml_partition_step(life->partition, &step, &input), count);
}

// Begin a snapshot, or copy some of the one that was begun.
static inline void rig_snapshot(struct rig_life *life)
{
    if (!life->copying && life->begun < RIG_STREAMS && draw(8) == 0) {
        const struct rml_snapshot_sink sink = {rig_put, &life->streams[life->begun]};
        rml_partition_snapshot(life->partition, life->begun++, &sink);
        life->cuts_then = life->cut_count;
        life->copying = true;
    }
    if (!life->copying || rml_partition_copy(life->partition, (uint32_t)draw(3000)))
        return;
    for (uint32_t i = 0; i < life->cuts_then; i++)
        life->from += life->cuts[i];
    life->cut_count -= life->cuts_then;
    memmove(life->cuts, life->cuts + life->cuts_then, life->cut_count * sizeof life->cuts[0]);
    life->complete = life->begun;
    life->copying = false;
}

// What is left of a process that was killed: complete snapshots, the records, and how they were cut.
static inline void rig_crash(struct rig_life *life)
{
    struct rml_err err = {0};
    struct rml_partition_stream streams[RML_SNAPSHOT_ROUND];
    uint32_t count = life->complete < RML_SNAPSHOT_ROUND ? life->complete : RML_SNAPSHOT_ROUND;
    for (uint32_t i = 0; i < count; i++) {
        const struct rig_stream *s = &life->streams[life->complete - count + i];
        streams[i] = (struct rml_partition_stream){s->bytes, s->count};
    }
    for (uint32_t i = life->complete; i < life->begun; i++)
        life->streams[i].count = 0;
    life->begun = life->complete;
    life->copying = false;
    rml_partition_close(life->partition);
    rig_open(life);
    assert_int_equal(rml_partition_restore(life->partition, streams, count, &err), 0);
    for (uint32_t i = 0, at = life->from; i < life->cut_count; at += life->cuts[i++])
        rig_take(life, at, life->cuts[i]);
}

static inline void rig_step_queue(struct rig_life *life)
{
    for (uint32_t at = 0; at < life->queue->count;) {
        uint32_t count = 1 + (uint32_t)draw(draw(2) ? 3 : RIG_RECORDS);
        count = count < life->queue->count - at ? count : life->queue->count - at;
        rig_snapshot(life);
        rig_take(life, at, count);
        life->cuts[life->cut_count++] = count;
        at += count;
        if (life->complete > 0 && draw(30) == 0)
            rig_crash(life);
    }
}

static inline void rig_route(const struct rig_record *records, uint32_t partitions,
                             struct rig_queue *queues)
{
    int64_t clock = INT64_MIN, known[RIG_PARTITIONS];
    memset(queues, 0, RIG_PARTITIONS * sizeof *queues);
    for (uint32_t p = 0; p < RIG_PARTITIONS; p++)
        known[p] = INT64_MIN;
    for (uint32_t i = 0; i < RIG_RECORDS; i++) {
        uint32_t p = rml_partition_of(rml_key_hash_bytes(&records[i].key, 8), partitions);
        struct rig_queue *queue = &queues[p];
        if (clock > known[p])
            queue->marks[queue->mark_count++] = (struct rml_mark){queue->count, clock};
        queue->records[queue->count++] = records[i];
        clock = records[i].ts > clock ? records[i].ts : clock;
        known[p] = clock;
    }
}

static inline uint64_t rig_door_sum(const struct rml_stage_counts *counts)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < RML_STAGE_COUNTERS; i++)
        sum += rml_stage_counter_info[i].is_door ? rml_count_read(&counts->value[i]) : 0;
    return sum;
}

/*
 * Run the one stage of the plan over the records in all its partitions, to the end, each with crashes
 * from which it is brought back; every record must
 * have left by one door, and no state may be left. Adds the stage's counters up in `ret_counts`.
 */
static inline void rig_run(const char *text, const struct rig_record *records,
                           void (*row)(void *context, const struct rml_schema *schema,
                                       const struct rml_result_row *row),
                           void *context, uint64_t ret_counts[RML_STAGE_COUNTERS])
{
    static struct rig_queue queues[RIG_PARTITIONS];
    struct rml_plan *plan = rig_plan(text);
    rig_route(records, plan->partitions, queues);
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
            .lanes_max = 1,
            .snapshots = true,
        };
        static struct rig_life life;
        life = (struct rig_life){.plan = plan, .options = &options, .queue = &queues[p]};
        rig_open(&life);
        assert_int_equal(
            rml_partition_step(life.partition, &(struct rml_step){.kind = RML_STEP_ATTACH}, NULL),
            0);
        rig_step_queue(&life);
        assert_int_equal(
            rml_partition_step(life.partition, &(struct rml_step){.kind = RML_STEP_END}, NULL), 0);

        assert_int_equal(rml_count_read(&source.value[RML_SOURCE_delivered]), queues[p].count);
        assert_int_equal(rml_count_read(&stage.value[RML_STAGE_in]), queues[p].count);
        assert_int_equal(rig_door_sum(&stage), queues[p].count);
        assert_int_equal(rml_count_read(&stage.value[RML_STAGE_keys]), 0);
        assert_int_equal(rml_count_read(&stage.value[RML_STAGE_panes]), 0);
        assert_int_equal(rml_count_read(&stage.value[RML_STAGE_sessions]), 0);
        for (uint32_t c = 0; c < RML_STAGE_COUNTERS; c++)
            ret_counts[c] += rml_count_read(&stage.value[c]);
        rml_partition_close(life.partition);
        for (uint32_t i = 0; i < RIG_STREAMS; i++)
            free(life.streams[i].bytes);
        free(to.hashes);
        free(to.spare);
    }
    rml_plan_close(plan);
}

#endif
