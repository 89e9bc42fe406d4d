/*
 * Random pipelines over random disorder, cut into random batches and partitions, against an oracle
 * that takes one record at a time and keeps every window as a list of records.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "operators/registry.h"
#include "runtime/base/err.h"
#include "runtime/base/hash.h"
#include "runtime/partition/partition.h"
#include "runtime/plan/plan.h"
#include "runtime/time/time.h"
#include "tests/support/test.h"

#define RECORDS    400
#define ROWS_MAX   40000
#define PARTITIONS 4

struct record {
    int64_t ts;
    uint64_t key;
    int64_t n;
    double x;
};

struct settings {
    int64_t size, every, offset, late, out_of_order;
    uint32_t partitions;
};

// A result as both sides give it.
struct result {
    int64_t fire, start, end;
    uint64_t key;
    uint32_t revision;
    uint64_t count, values;
    int64_t sum_n, min_n;
    double sum_x, max_x;
    uint64_t odd;
};

struct results {
    uint32_t count;
    struct result rows[ROWS_MAX];
};

static uint64_t seed;

static uint64_t draw(uint64_t below)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (seed >> 11) % below;
}

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

static void oracle_result(const struct record *records, uint32_t upto, const bool *taken,
                          struct result *r)
{
    *r = (struct result){.fire = r->fire,
                         .start = r->start,
                         .end = r->end,
                         .key = r->key,
                         .revision = r->revision,
                         .min_n = INT64_MAX,
                         .max_x = -1e300};
    for (uint32_t i = 0; i < upto; i++) {
        const struct record *rec = &records[i];
        if (!taken[i] || rec->key != r->key || rec->ts < r->start || rec->ts >= r->end)
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
}

// Fire every window of every key that ends in (before, now].
static void oracle_fire(const struct record *records, uint32_t upto, const bool *taken,
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
            oracle_result(records, upto, taken, &r);
            if (r.count > 0)
                out->rows[out->count++] = r;
        }
    }
}

static uint32_t oracle(const struct record *records, const struct settings *s, struct results *out)
{
    bool taken[RECORDS] = {false};
    int64_t clock = INT64_MIN, watermark = INT64_MIN;
    uint32_t late = 0;
    out->count = 0;
    for (uint32_t i = 0; i < RECORDS; i++) {
        const struct record *rec = &records[i];
        int64_t first = floor_to(rec->ts - s->size - s->offset, s->every) + s->offset + s->every;
        bool kept = false;
        for (int64_t start = first; start <= rec->ts; start += s->every)
            kept |= watermark == INT64_MIN || start + s->size + s->late > watermark;
        taken[i] = kept;
        late += !kept;
        for (int64_t start = first; kept && start <= rec->ts; start += s->every) {
            int64_t end = start + s->size;
            if (watermark == INT64_MIN || end > watermark || end + s->late <= watermark)
                continue;
            struct result r = {.fire = floor_to(watermark - s->size - s->offset, s->every)
                                       + s->offset + s->size,
                               .start = start,
                               .end = end,
                               .key = rec->key};
            for (uint32_t j = 0; j < out->count; j++) {
                if (out->rows[j].key == r.key && out->rows[j].end == end)
                    r.revision++;
            }
            oracle_result(records, i + 1, taken, &r);
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

struct collected {
    struct results *results;
    const struct rml_schema *schema;
    struct rml_result_block *spare;
};

static struct rml_result_block *take_block(void *context)
{
    struct collected *to = context;
    struct rml_result_block *block = to->spare;
    to->spare = NULL;
    return block != NULL ? block : malloc(sizeof *block);
}

static void read_field(const struct rml_schema *schema, const unsigned char *record,
                       const char *name, void *value, size_t bytes)
{
    uint32_t field = rml_schema_find(schema, name, strlen(name));
    assert_int_not_equal(field, RML_FIELD_ABSENT);
    assert_int_equal(rml_type_info[schema->fields[field].type].bytes, bytes);
    memcpy(value, record + schema->fields[field].offset, bytes);
}

static void give_block(void *context, struct rml_result_block *block)
{
    struct collected *to = context;
    for (uint32_t i = 0; i < block->rows; i++) {
        const struct rml_result_row *row = rml_result_row_at(block, i);
        struct result *r = &to->results->rows[to->results->count++];
        *r = (struct result){.fire = row->fire};
        read_field(to->schema, row->record, "window_start", &r->start, 8);
        read_field(to->schema, row->record, "window_end", &r->end, 8);
        read_field(to->schema, row->record, "key", &r->key, 8);
        read_field(to->schema, row->record, "revision", &r->revision, 4);
        read_field(to->schema, row->record, "count_", &r->count, 8);
        read_field(to->schema, row->record, "sum_n", &r->sum_n, 8);
        read_field(to->schema, row->record, "min_n", &r->min_n, 8);
        read_field(to->schema, row->record, "sum_x", &r->sum_x, 8);
        read_field(to->schema, row->record, "max_x", &r->max_x, 8);
        read_field(to->schema, row->record, "odd", &r->odd, 8);
    }
    assert_true(block->rows == 0 || block->output == 0);
    free(to->spare);
    to->spare = block;
}

static struct rml_plan *read_plan(const struct settings *s)
{
    char text[2048];
    snprintf(text, sizeof text,
             "version: 1\npipeline: random\n"
             "schema: {event: {ts: time_ns, key: u64, n: i64, x: f64}}\n"
             "runtime: {workers: 1, partitions: %u, state_limit: 64MiB}\n"
             "sources: {in: {schema: event, event_time: ts, partition_by: [key], out_of_order: "
             "%lldns}}\n"
             "stages:\n"
             "  w:\n"
             "    from: in\n    key: key\n"
             "    window: {type: sliding, size: %lldns, every: %lldns, offset: %lldns, late: "
             "%lldns}\n"
             "    aggregate: {count_: count(), sum_n: sum(n), min_n: min(n), sum_x: sum(x), max_x: "
             "max(x), odd: count_if(n %% 2 != 0)}\n"
             "sinks: {out: {from: w, type: ring}}\n",
             s->partitions, (long long)s->out_of_order, (long long)s->size, (long long)s->every,
             (long long)s->offset, (long long)s->late);
    struct rml_plan *plan = NULL;
    struct rml_plan_errors errors = {0};
    struct rml_err err = {0};
    int rc = rml_plan_parse(text, strlen(text), "random", rml_operators_functions(), &plan, &errors,
                            &err);
    if (rc < 0 && errors.count > 0)
        printf("%s\n%u: %s (%s)\n", text, errors.list[0].line, errors.list[0].text,
               errors.list[0].hint);
    assert_int_equal(rc, 0);
    rml_plan_errors_fini(&errors);
    return plan;
}

static uint64_t door_sum(const struct rml_stage_counts *counts)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < RML_STAGE_COUNTERS; i++)
        sum += rml_stage_counter_info[i].is_door ? rml_count_read(&counts->value[i]) : 0;
    return sum;
}

// What lies in one partition's ring: its records, and marks of what it cannot see from them.
struct queue {
    uint32_t count, mark_count;
    struct record records[RECORDS];
    struct rml_mark marks[RECORDS];
};

static void step_queue(struct rml_partition *partition, const struct queue *queue)
{
    uint32_t mark = 0;
    for (uint32_t at = 0; at < queue->count;) {
        uint32_t count = 1 + (uint32_t)draw(draw(2) ? 3 : RECORDS);
        count = count < queue->count - at ? count : queue->count - at;
        struct rml_mark marks[RECORDS];
        uint32_t mark_count = 0;
        while (mark < queue->mark_count && queue->marks[mark].row < at + count) {
            marks[mark_count] = queue->marks[mark++];
            marks[mark_count++].row -= at;
        }
        const struct rml_step step = {
            .kind = RML_STEP_BATCH, .count = count, .time = RML_TIME_NONE};
        const struct rml_step_input input = {&queue->records[at], marks, mark_count};
        assert_int_equal(rml_partition_step(partition, &step, &input), count);
        at += count;
    }
}

static uint32_t engine(const struct record *records, const struct settings *s, struct results *out)
{
    static struct queue queues[PARTITIONS];
    memset(queues, 0, sizeof queues);
    int64_t clock = INT64_MIN, known[PARTITIONS];
    for (uint32_t p = 0; p < PARTITIONS; p++)
        known[p] = INT64_MIN;
    for (uint32_t i = 0; i < RECORDS; i++) {
        uint32_t p = rml_partition_of(rml_key_hash_bytes(&records[i].key, 8), s->partitions);
        struct queue *queue = &queues[p];
        if (clock > known[p])
            queue->marks[queue->mark_count++] = (struct rml_mark){queue->count, clock};
        queue->records[queue->count++] = records[i];
        clock = records[i].ts > clock ? records[i].ts : clock;
        known[p] = clock;
    }

    struct rml_plan *plan = read_plan(s);
    uint32_t late = 0;
    out->count = 0;
    for (uint32_t p = 0; p < s->partitions; p++) {
        struct collected to = {.results = out, .schema = &plan->stages[0].output};
        struct rml_stage_counts stage = {0};
        struct rml_source_counts source = {0};
        struct rml_err err = {0};
        struct rml_partition *partition;
        const struct rml_partition_options options = {
            .index = p,
            .door = {take_block, give_block, &to, false},
            .stages = &stage,
            .sources = &source,
            .lanes_max = 1,
        };
        assert_int_equal(
            rml_partition_open(&partition, plan, rml_operators_table(), &options, &err), 0);
        assert_int_equal(
            rml_partition_step(partition, &(struct rml_step){.kind = RML_STEP_ATTACH}, NULL), 0);
        step_queue(partition, &queues[p]);
        assert_int_equal(
            rml_partition_step(partition, &(struct rml_step){.kind = RML_STEP_END}, NULL), 0);

        assert_int_equal(rml_count_read(&source.value[RML_SOURCE_delivered]), queues[p].count);
        assert_int_equal(rml_count_read(&stage.value[RML_STAGE_in]), queues[p].count);
        assert_int_equal(door_sum(&stage), queues[p].count);
        assert_int_equal(rml_count_read(&stage.value[RML_STAGE_keys]), 0);
        assert_int_equal(rml_count_read(&stage.value[RML_STAGE_panes]), 0);
        late += (uint32_t)rml_count_read(&stage.value[RML_STAGE_late]);
        rml_partition_close(partition);
        free(to.spare);
    }
    rml_plan_close(plan);
    return late;
}

/* Cases. */

static void draw_case(struct settings *s, struct record *records)
{
    int64_t unit = 1 + (int64_t)draw(3);
    s->every = unit * (1 + (int64_t)draw(6));
    s->size = s->every * (1 + (int64_t)draw(4)) + (draw(3) == 0 ? unit * (int64_t)draw(5) : 0);
    s->offset = draw(2) ? 0 : (int64_t)draw(40) - 20;
    s->late = draw(2) ? 0 : (int64_t)draw(30);
    s->out_of_order = draw(2) ? 0 : (int64_t)draw(20);
    s->partitions = 1 + (uint32_t)draw(PARTITIONS);
    int64_t now = (int64_t)draw(400) - 200, spread = 1 + (int64_t)draw(40);
    uint64_t keys = 1 + draw(11), pace = 1 + draw(4);
    for (uint32_t i = 0; i < RECORDS; i++) {
        now += (int64_t)draw(pace) + (draw(60) == 0 ? (int64_t)draw(200) : 0);
        records[i] = (struct record){
            .ts = now - (int64_t)draw((uint64_t)spread),
            .key = draw(keys),
            .n = (int64_t)draw(1000) - 500,
            .x = draw(9) == 0 ? __builtin_nan("") : ((double)draw(4096) - 2048) / 16,
        };
    }
}

static bool same(const struct result *engine_row, const struct result *oracle_row)
{
    bool x = oracle_row->values == 0
             || (engine_row->sum_x == oracle_row->sum_x && engine_row->max_x == oracle_row->max_x);
    return x && engine_row->fire == oracle_row->fire && engine_row->start == oracle_row->start
           && engine_row->end == oracle_row->end && engine_row->key == oracle_row->key
           && engine_row->revision == oracle_row->revision && engine_row->count == oracle_row->count
           && engine_row->sum_n == oracle_row->sum_n && engine_row->min_n == oracle_row->min_n
           && engine_row->odd == oracle_row->odd;
}

static void compare(const struct results *got, const struct results *expected)
{
    uint32_t both = got->count < expected->count ? got->count : expected->count;
    for (uint32_t i = 0; i < both; i++) {
        const struct result *g = &got->rows[i], *e = &expected->rows[i];
        if (same(g, e))
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
    static struct record records[RECORDS];
    const char *set = getenv("RML_SEED");
    uint64_t first = set != NULL ? strtoull(set, NULL, 0) : 1;
    uint64_t cases = set != NULL ? 1 : 300;
    for (uint64_t c = first; c < first + cases; c++) {
        struct settings s;
        seed = c * UINT64_C(0x9e3779b97f4a7c15) | 1;
        draw_case(&s, records);
        uint32_t late_expected = oracle(records, &s, &expected);
        uint32_t late = engine(records, &s, &got);
        qsort(got.rows, got.count, sizeof got.rows[0], by_place);
        qsort(expected.rows, expected.count, sizeof expected.rows[0], by_place);
        if (late != late_expected || got.count != expected.count)
            printf("RML_SEED=%llu size %lld every %lld offset %lld late %lld out_of_order %lld "
                   "partitions %u: %u late, expected %u; %u rows, expected %u\n",
                   (unsigned long long)c, (long long)s.size, (long long)s.every,
                   (long long)s.offset, (long long)s.late, (long long)s.out_of_order, s.partitions,
                   late, late_expected, got.count, expected.count);
        compare(&got, &expected);
        assert_int_equal(late, late_expected);
    }
}

TEST_MAIN(CLAIM(any_cut_into_batches_and_partitions_gives_what_single_records_give))
