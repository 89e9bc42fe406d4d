#include "bench/support/query.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/support/pair.h"
#include "operators/registry.h"
#include "runtime/base/check.h"
#include "runtime/base/err.h"
#include "runtime/base/hash.h"
#include "runtime/worker/schedule.h"

#define SCHEDULE_STEPS (1u << 17)  // as an engine has

static const char pipeline[] =
    "version: 1\n"
    "pipeline: bench\n"
    "schema: {event: {ts: time_ns, key: u64, value: f64, id: u64}}\n"
    "runtime: {workers: 1, partitions: 1}\n"
    "sources:\n"
    "  events: {schema: event, event_time: ts, partition_by: [key], out_of_order: 0ms, cells: 65536}\n"
    "stages:\n"
    "  per_second:\n"
    "    from: events\n"
    "    key: key\n"
    "    window: {type: tumbling, size: 1s}\n"
    "    aggregate:\n"
    "      count: count()\n"
    "      sum: sum(value)\n"
    "      mean: avg(value)\n"
    "      least: min(value)\n"
    "      greatest: max(value)\n"
    "sinks: {live: {from: per_second, type: ring}}\n";

void bench_tally_add(struct bench_tally *tally, const struct bench_row *row)
{
    tally->rows++;
    tally->digest += XXH3_64bits(row, sizeof *row);
}

static void get(const struct rml_schema *schema, const unsigned char *record, const char *name,
                void *ret_value)
{
    uint32_t field = rml_schema_find(schema, name, strlen(name));
    RML_CHECK(field < schema->field_count);
    memcpy(ret_value, record + schema->fields[field].offset, 8);
}

static void add_record(const struct bench_query *query, const unsigned char *record,
                       struct bench_tally *tally)
{
    const struct rml_schema *schema = &query->plan->stages[0].output;
    struct bench_row row;
    get(schema, record, "window_start", &row.start);
    get(schema, record, "window_end", &row.end);
    get(schema, record, "key", &row.key);
    get(schema, record, "count", &row.count);
    get(schema, record, "sum", &row.sum);
    get(schema, record, "mean", &row.mean);
    get(schema, record, "least", &row.least);
    get(schema, record, "greatest", &row.greatest);
    bench_tally_add(tally, &row);
}

void bench_query_worker_rows(struct bench_query *query, struct bench_tally *tally)
{
    _Alignas(struct rml_result_row) unsigned char row[512];
    RML_CHECK(query->row_stride <= sizeof row);
    uint64_t number;
    while (rml_broadcast_read(&query->reader, row, &number) == 1)
        add_record(query, row + sizeof(struct rml_result_row), tally);
    RML_CHECK(query->reader.missed == 0);
}

void bench_query_partition_rows(struct bench_query *query, struct bench_tally *tally)
{
    for (uint32_t i = 0; i < query->row_count; i++)
        add_record(query,
                   query->rows + (size_t)i * query->row_stride + sizeof(struct rml_result_row),
                   tally);
    query->row_count = 0;
}

/* The partition's door: rows go to memory. */

static struct rml_result_block *take_block(void *context)
{
    struct bench_query *query = context;
    return query->block;
}

static void give_block(void *context, struct rml_result_block *block)
{
    struct bench_query *query = context;
    RML_CHECK(block->rows <= query->row_limit - query->row_count);
    memcpy(query->rows + (size_t)query->row_count * query->row_stride, block->data,
           (size_t)block->rows * query->row_stride);
    query->row_count += block->rows;
}

static int open_partition(struct bench_query *query, struct rml_err *err)
{
    query->block = aligned_alloc(64, (sizeof *query->block + 63) / 64 * 64);
    query->rows = calloc(query->row_limit, query->row_stride);
    if (query->block == NULL || query->rows == NULL)
        return RML_FAIL(err, -ENOMEM, "no memory for rows");
    const struct rml_partition_options options = {
        .door = {.take = take_block, .give = give_block, .context = query},
        .stages = &query->stages[1],
        .sources = &query->sources[1],
        .lanes_max = 1,
    };
    int rc =
        rml_partition_open(&query->partition, query->plan, rml_operators_table(), &options, err);
    const struct rml_step attach = {.kind = RML_STEP_ATTACH};
    return rc < 0 ? rc : rml_partition_step(query->partition, &attach, NULL);
}

static int open_lane(struct bench_query *query, struct rml_err *err)
{
    const struct rml_plan_source *source = &query->plan->sources[0];
    query->geometry = (struct rml_lane_geometry){
        .partitions = 1,
        .workers = 1,
        .cells = source->cells,
        .cell_bytes = source->schema.record_bytes,
        .time_offset = source->schema.fields[source->time_field].offset,
        .on_full = RML_LANE_BLOCK,
        .grid = {source->grid_origin_ns, source->grid_granule_ns},
    };
    RML_CHECK(source->schema.record_bytes == sizeof(struct bench_event));
    return rml_lane_in_open(&query->lane, &query->geometry, "bench", 1, err);
}

static int open_ring(struct bench_query *query, struct rml_err *err)
{
    const struct rml_broadcast_shape shape = {query->row_stride, query->row_limit};
    size_t bytes = rml_broadcast_bytes(shape);
    query->ring_memory = aligned_alloc(64, bytes);
    if (query->ring_memory == NULL)
        return RML_FAIL(err, -ENOMEM, "no memory for a result ring");
    memset(query->ring_memory, 0, bytes);
    rml_broadcast_attach_out(&query->ring, query->ring_memory, shape);
    rml_broadcast_attach_in(&query->reader, query->ring_memory, shape, 1);
    return rml_bell_open(&query->bell, err);
}

static int open_checkpointer(struct bench_query *query, const char *state, struct rml_err *err)
{
    size_t bytes = rml_schedule_bytes(SCHEDULE_STEPS);
    query->schedule = aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (query->schedule == NULL)
        return RML_FAIL(err, -ENOMEM, "no memory for a schedule");
    memset(query->schedule, 0, bytes);
    const struct rml_checkpointer_options options = {
        .plan = query->plan, .folder = state, .clock = &rml_clock_system, .bell = &query->bell};
    return rml_checkpointer_open(&query->checkpointer, &options, err);
}

static int open_writer(struct bench_query *query, struct rml_err *err)
{
    struct rml_checkpointer *c = query->checkpointer;
    const struct rml_writer_options options = {
        .plan = query->plan,
        .notes = c != NULL ? rml_checkpointer_notes(c) : NULL,
        .marked = c != NULL ? rml_checkpointer_bell(c) : NULL,
        .workers = 1,
        .blocks = 64,
        .counts = &query->sink_counts};
    return rml_writer_open(&query->writer, &options, err);
}

static int open_worker(struct bench_query *query, struct rml_err *err)
{
    struct rml_checkpointer *c = query->checkpointer;
    const struct rml_worker_options options = {
        .plan = query->plan,
        .operators = rml_operators_table(),
        .clock = &rml_clock_system,
        .writer = query->writer,
        .cpu = -1,
        .lanes_max = query->plan->lanes_max,
        .ticks = true,
        .counts = &query->worker_counts,
        .stages = &query->stages[0],
        .sources = &query->sources[0],
        .reports_bell = &query->bell,
        .rings = &query->ring,
        .handover = c != NULL ? rml_checkpointer_handover(c, 0) : NULL,
        .schedules = c != NULL ? &query->schedule : NULL,
        .schedule_steps = SCHEDULE_STEPS,
        .past = c != NULL ? rml_checkpointer_past(c) : NULL,
    };
    return rml_worker_open(&query->worker, &options, err);
}

// Lanes of a worker before this one are gone.
static int start_checkpointer(struct bench_query *query, struct rml_err *err)
{
    struct rml_worker_kept *none = calloc(query->plan->lanes_max, sizeof *none);
    if (none == NULL)
        return RML_FAIL(err, -ENOMEM, "no memory for lanes");
    int rc = rml_writer_start(query->writer, err);
    if (rc == 0)
        rc = rml_worker_take_again(query->worker, none, err);
    if (rc == 0)
        rc = rml_worker_settle(query->worker, none, err);
    free(none);
    rml_checkpointer_forget_past(query->checkpointer);
    return rc < 0 ? rc : rml_checkpointer_start(query->checkpointer, query->writer, err);
}

static int open_engine(struct bench_query *query, const char *state, double *ret_ms,
                       struct rml_err *err)
{
    int64_t since_ns = bench_now_ns(), read_ns;
    int rc = state != NULL ? open_checkpointer(query, state, err) : 0;
    read_ns = bench_now_ns() - since_ns;
    if (rc == 0)
        rc = open_writer(query, err);
    since_ns = bench_now_ns();
    if (rc == 0)
        rc = open_worker(query, err);
    *ret_ms = (double)(read_ns + bench_now_ns() - since_ns) / 1e6;
    if (state != NULL)
        (void)bench_stay_on(1);  // the threads that are started now, beside this one's CPU
    if (rc == 0 && state != NULL)
        rc = start_checkpointer(query, err);
    if (rc == 0)
        rc = open_lane(query, err);
    if (rc < 0)
        return rc;
    const struct rml_worker_message attach = {
        .kind = RML_WORKER_ATTACH, .lane = query->lane, .number = ++query->lane_serial};
    RML_CHECK(rml_worker_tell(query->worker, &attach));
    while (rml_worker_round(query->worker))
        continue;
    return 0;
}

static void close_engine(struct bench_query *query)
{
    rml_worker_close(query->worker);
    rml_checkpointer_close(query->checkpointer);
    rml_writer_close(query->writer);
    rml_lane_in_close(query->lane);
    free(query->schedule);
    query->worker = NULL;
    query->checkpointer = NULL;
    query->writer = NULL;
    query->lane = NULL;
    query->schedule = NULL;
}

int bench_query_restart(struct bench_query *query, const char *state, double *ret_ms)
{
    struct rml_err err = {0};
    close_engine(query);
    memset(&query->stages[0], 0, sizeof query->stages[0]);
    memset(&query->sources[0], 0, sizeof query->sources[0]);
    int rc = open_engine(query, state, ret_ms, &err);
    if (rc < 0)
        fprintf(stderr, "bench: %s\n", err.text);
    return rc;
}

static int open_all(struct bench_query *query, const struct bench_query_options *options,
                    struct rml_err *err)
{
    struct rml_plan_errors errors = {0};
    int rc = rml_plan_parse(options->pipeline, strlen(options->pipeline), "bench",
                            rml_operators_functions(), &query->plan, &errors, err);
    if (rc < 0 && errors.count > 0)
        rml_err_set(err, rc, "%s", errors.list[0].text);
    rml_plan_errors_fini(&errors);
    if (rc < 0)
        return rc;
    query->row_stride =
        (uint32_t)sizeof(struct rml_result_row) + query->plan->stages[0].output.record_bytes;
    query->row_limit = 2;
    while (query->row_limit < options->keys)
        query->row_limit *= 2;
    rc = options->alone ? open_partition(query, err) : 0;
    if (rc == 0)
        rc = open_ring(query, err);
    double ms;
    return rc < 0 ? rc : open_engine(query, options->state, &ms, err);
}

int bench_query_open_other(struct bench_query *query, const struct bench_query_options *options)
{
    struct rml_err err = {0};
    *query = (struct bench_query){.bell = RML_BELL_CLOSED};
    int rc = open_all(query, options, &err);
    if (rc < 0) {
        fprintf(stderr, "bench: %s\n", err.text);
        bench_query_close(query);
    }
    return rc;
}

int bench_query_open(struct bench_query *query, uint32_t keys)
{
    const struct bench_query_options options = {.pipeline = pipeline, .keys = keys, .alone = true};
    return bench_query_open_other(query, &options);
}

void bench_query_close(struct bench_query *query)
{
    close_engine(query);
    rml_bell_close(&query->bell);
    rml_partition_close(query->partition);
    free(query->ring_memory);
    free(query->block);
    free(query->rows);
    if (query->plan != NULL)
        rml_plan_close(query->plan);
    *query = (struct bench_query){.bell = RML_BELL_CLOSED};
}
