#include "runtime/control/engine.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/check.h"
#include "runtime/base/err.h"
#include "runtime/io/writer.h"
#include "runtime/ring/bell.h"
#include "runtime/worker/worker.h"

#define BLOCKS_SPARE 64u  // of a worker, beyond what one step can fill at once

struct engine_lane {
    struct rml_lane_in *in;  // NULL: the number is free
    uint32_t source;
    uint32_t workers_left;
    bool finishing;
};

struct rml_engine {
    struct rml_engine_options options;
    const struct rml_plan *plan;
    struct rml_stage_counts *stages;
    struct rml_source_counts *sources;
    struct rml_sink_counts *sinks;
    struct rml_worker_counts *worker_counts;
    struct rml_writer *writer;
    struct rml_worker *workers[RML_WORKERS_MAX];
    struct rml_bell bell;
    struct engine_lane *lanes;
    uint32_t lane_count;
    uint64_t published[RML_SOURCES_MAX], dropped[RML_SOURCES_MAX];  // of lanes that are gone
    uint32_t sources_left;  // reports that the end of sources still lacks
    uint64_t reports;       // ever heard
    bool writer_started, started, draining, ending, stopped;
    uint64_t lost;
};

static void *blocks(size_t count, size_t bytes)
{
    // counters are read by their cache lines; calloc alone aligns to less
    void *memory = aligned_alloc(64, (count * bytes + 63) / 64 * 64);
    if (memory != NULL)
        memset(memory, 0, count * bytes);
    return memory;
}

static void tell(struct rml_engine *engine, const struct rml_worker_message *message)
{
    for (uint32_t i = 0; i < engine->plan->workers && engine->workers[i] != NULL; i++) {
        while (!rml_worker_tell(engine->workers[i], message))
            sched_yield();  // the worker reads its messages every round
    }
}

/* Lanes */

static void fill_geometry(const struct rml_engine *engine, uint32_t source_index,
                          struct rml_lane_geometry *geometry)
{
    const struct rml_plan *plan = engine->plan;
    const struct rml_plan_source *source = &plan->sources[source_index];
    *geometry = (struct rml_lane_geometry){
        .partitions = plan->partitions,
        .workers = plan->workers,
        .cells = source->cells,
        .cell_bytes = source->schema.record_bytes,
        .time_offset = source->schema.fields[source->time_field].offset,
        .on_full = source->on_full == RML_ON_FULL_BLOCK ? RML_LANE_BLOCK : RML_LANE_DROP_NEWEST,
        .grid = {source->grid_origin_ns, source->grid_granule_ns},
        .key_field_count = source->partition_field_count,
    };
    if (engine->options.replay) {
        geometry->grid = (struct rml_lane_grid){0, 1};
        geometry->on_full = RML_LANE_BLOCK;
    }
    for (uint32_t i = 0; i < source->partition_field_count; i++) {
        const struct rml_field *field = &source->schema.fields[source->partition_fields[i]];
        geometry->key[i] =
            (struct rml_lane_key_field){field->offset, rml_type_info[field->type].bytes,
                                        rml_type_info[field->type].kind == RML_KIND_STR};
    }
    for (uint32_t p = 0; p < plan->partitions; p++)
        geometry->worker_of[p] = (uint8_t)(p % plan->workers);
}

int rml_engine_attach(struct rml_engine *engine, uint32_t source, uint32_t cells,
                      uint32_t *ret_lane, struct rml_err *err)
{
    RML_CHECK(engine->started && !engine->draining && !engine->stopped);
    RML_CHECK(source < engine->plan->source_count);
    uint32_t index = 0;
    while (index < engine->plan->lanes_max && engine->lanes[index].in != NULL)
        index++;
    if (index == engine->plan->lanes_max)
        return RML_FAIL(err, -EMFILE,
                        "%u producers are attached, as many as runtime.lanes_max allows", index);
    struct rml_lane_geometry geometry;
    fill_geometry(engine, source, &geometry);
    if (cells > RML_ENGINE_CELLS_MAX)
        return RML_FAIL(err, -EINVAL, "a lane has at most %u cells, got %u", RML_ENGINE_CELLS_MAX,
                        cells);
    if (cells != 0)
        geometry.cells = cells;
    char name[64];
    snprintf(name, sizeof name, "ringmill-%.20s-%u", engine->plan->name, index);
    struct engine_lane *lane = &engine->lanes[index];
    int rc = rml_lane_in_open(&lane->in, &geometry, name, 1, err);
    if (rc < 0) {
        lane->in = NULL;
        return RML_WRAP(err, rc, "lane %u", index);
    }
    lane->source = source;
    lane->workers_left = engine->plan->workers;
    lane->finishing = false;
    engine->lane_count++;
    const struct rml_worker_message message = {
        .kind = RML_WORKER_ATTACH, .source = source, .index = index, .lane = lane->in};
    tell(engine, &message);
    *ret_lane = index;
    return 0;
}

struct rml_lane_in *rml_engine_lane(const struct rml_engine *engine, uint32_t lane)
{
    return lane < engine->plan->lanes_max ? engine->lanes[lane].in : NULL;
}

void rml_engine_finish(struct rml_engine *engine, uint32_t index)
{
    struct engine_lane *lane = &engine->lanes[index];
    if (lane->in == NULL || lane->finishing)
        return;
    lane->finishing = true;
    const struct rml_worker_message message = {
        .kind = RML_WORKER_FINISH, .source = lane->source, .index = index};
    tell(engine, &message);
}

static void lane_done(struct rml_engine *engine, uint32_t index)
{
    struct engine_lane *lane = &engine->lanes[index];
    if (--lane->workers_left > 0)
        return;
    struct rml_lane_counts counts;
    rml_lane_in_counts(lane->in, &counts);
    engine->published[lane->source] += counts.published;
    engine->dropped[lane->source] += counts.dropped;
    rml_lane_in_close(lane->in);
    lane->in = NULL;
    engine->lane_count--;
}

static void lane_faulty(struct rml_engine *engine, uint32_t index)
{
    struct engine_lane *lane = &engine->lanes[index];
    if (lane->finishing)
        return;
    char sentence[128];
    snprintf(sentence, sizeof sentence,
             "lane %u of source %s: its positions cannot be true; the lane is closed", index,
             engine->plan->sources[lane->source].name);
    if (engine->options.complain != NULL)
        engine->options.complain(engine->options.complain_context, sentence);
    rml_lane_in_detach(lane->in, EPROTO, "positions that cannot be true");
    rml_engine_finish(engine, index);
}

// Once a draining engine has no lane left.
static void end_sources(struct rml_engine *engine)
{
    if (!engine->draining || engine->ending || engine->lane_count > 0)
        return;
    engine->ending = true;
    engine->sources_left = engine->plan->source_count * engine->plan->workers;
    for (uint32_t s = 0; s < engine->plan->source_count; s++) {
        const struct rml_worker_message message = {.kind = RML_WORKER_END, .source = s};
        tell(engine, &message);
    }
}

void rml_engine_poll(struct rml_engine *engine)
{
    struct rml_worker_report news;
    for (uint32_t i = 0; i < engine->plan->workers; i++) {
        while (rml_worker_hear(engine->workers[i], &news)) {
            engine->reports++;
            switch ((enum rml_worker_report_kind)news.kind) {
            case RML_WORKER_LANE_DONE:
                lane_done(engine, news.index);
                break;
            case RML_WORKER_LANE_FAULTY:
                lane_faulty(engine, news.index);
                break;
            case RML_WORKER_SOURCE_DONE:
                engine->sources_left--;
                break;
            case RML_WORKER_UNLISTENED:
                RML_UNREACHABLE("nobody listens");
            }
        }
    }
    end_sources(engine);
}

int rml_engine_fd(const struct rml_engine *engine)
{
    return engine->bell.fd;
}

void rml_engine_sleep_begin(struct rml_engine *engine)
{
    rml_bell_expect(&engine->bell);
}

void rml_engine_sleep_end(struct rml_engine *engine)
{
    rml_bell_awake(&engine->bell);
}

bool rml_engine_lane_look(const struct rml_engine *engine, uint32_t index,
                          struct rml_engine_lane_info *info)
{
    if (index >= engine->plan->lanes_max || engine->lanes[index].in == NULL)
        return false;
    const struct engine_lane *lane = &engine->lanes[index];
    *info = (struct rml_engine_lane_info){.source = lane->source, .finishing = lane->finishing};
    rml_lane_in_counts(lane->in, &info->counts);
    return true;
}

uint32_t rml_engine_lane_count(const struct rml_engine *engine)
{
    return engine->lane_count;
}

void rml_engine_drain_begin(struct rml_engine *engine)
{
    RML_CHECK(engine->started && !engine->stopped);
    if (engine->draining)
        return;
    engine->draining = true;
    for (uint32_t i = 0; i < engine->plan->lanes_max; i++) {
        struct engine_lane *lane = &engine->lanes[i];
        if (lane->in == NULL || lane->finishing)
            continue;
        rml_lane_in_detach(lane->in, ESHUTDOWN, "the pipeline drains");
        rml_engine_finish(engine, i);
    }
    end_sources(engine);
}

bool rml_engine_is_drained(const struct rml_engine *engine)
{
    return engine->ending && engine->sources_left == 0;
}

void rml_engine_drain(struct rml_engine *engine)
{
    rml_engine_drain_begin(engine);
    while (!rml_engine_is_drained(engine)) {
        // What a worker reports from here on rings; what it reported before is seen by this poll.
        rml_bell_expect(&engine->bell);
        uint64_t before = engine->reports;
        rml_engine_poll(engine);
        if (engine->reports == before)
            rml_bell_wait(&engine->bell, -1);
        else
            rml_bell_awake(&engine->bell);
    }
}

uint64_t rml_engine_stop(struct rml_engine *engine)
{
    if (engine->stopped)
        return engine->lost;
    engine->stopped = true;
    const struct rml_worker_message message = {.kind = RML_WORKER_STOP};
    // a start that failed half-way leaves some workers running
    tell(engine, &message);
    for (uint32_t i = 0; i < engine->plan->workers; i++) {
        rml_worker_close(engine->workers[i]);
        engine->workers[i] = NULL;
    }
    if (engine->writer_started)
        engine->lost = rml_writer_finish(engine->writer);
    return engine->lost;
}

/* Counters */

void rml_engine_totals(const struct rml_engine *engine, struct rml_engine_totals *totals)
{
    const struct rml_plan *plan = engine->plan;
    memset(totals, 0, sizeof *totals);
    memcpy(totals->published, engine->published, sizeof totals->published);
    memcpy(totals->dropped, engine->dropped, sizeof totals->dropped);
    for (uint32_t i = 0; i < plan->lanes_max; i++) {
        if (engine->lanes[i].in == NULL)
            continue;
        struct rml_lane_counts counts;
        rml_lane_in_counts(engine->lanes[i].in, &counts);
        totals->published[engine->lanes[i].source] += counts.published;
        totals->dropped[engine->lanes[i].source] += counts.dropped;
    }
    for (uint32_t p = 0; p < plan->partitions; p++) {
        for (uint32_t s = 0; s < plan->stage_count; s++) {
            for (uint32_t c = 0; c < RML_STAGE_COUNTERS; c++)
                totals->stage[s][c] +=
                    rml_count_read(&engine->stages[(size_t)p * plan->stage_count + s].value[c]);
        }
        for (uint32_t s = 0; s < plan->source_count; s++) {
            for (uint32_t c = 0; c < RML_SOURCE_COUNTERS; c++) {
                uint64_t value =
                    rml_count_read(&engine->sources[(size_t)p * plan->source_count + s].value[c]);
                // a source is as far as its slowest partition; the others are sums
                bool least = c == RML_SOURCE_watermark;
                uint64_t *total = &totals->source[s][c];
                if (!least)
                    *total += value;
                else if (p == 0 || (int64_t)value < (int64_t)*total)
                    *total = value;
            }
        }
    }
    for (uint32_t s = 0; s < plan->sink_count; s++) {
        for (uint32_t c = 0; c < RML_SINK_COUNTERS; c++)
            totals->sink[s][c] = rml_count_read(&engine->sinks[s].value[c]);
    }
    for (uint32_t w = 0; w < plan->workers; w++) {
        for (uint32_t c = 0; c < RML_WORKER_COUNTERS; c++)
            totals->worker[w][c] = rml_count_read(&engine->worker_counts[w].value[c]);
    }
}

/* Setting up */

// The CPU of worker `index`: as the file says, else the index-th that this process may use.
static int cpu_of(const struct rml_plan *plan, uint32_t index)
{
    if (plan->cpu_count > 0)
        return (int)plan->cpus[index % plan->cpu_count];
    cpu_set_t cpus;
    if (sched_getaffinity(0, sizeof cpus, &cpus) < 0 || CPU_COUNT(&cpus) == 0)
        return -1;
    int nth = (int)(index % (uint32_t)CPU_COUNT(&cpus));
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (CPU_ISSET((size_t)cpu, &cpus) && nth-- == 0)
            return cpu;
    }
    return -1;
}

static int open_writer(struct rml_engine *engine, struct rml_err *err)
{
    struct rml_output outputs[RML_OUTPUTS_MAX];
    const struct rml_writer_options options = {
        .plan = engine->plan,
        .folder = engine->options.folder,
        .merge = engine->options.replay,
        .workers = engine->plan->workers,
        .blocks = rml_outputs_list(engine->plan, outputs) + BLOCKS_SPARE,
        .counts = engine->sinks,
        .row = engine->options.row,
        .row_context = engine->options.row_context,
        .complain = engine->options.complain,
        .complain_context = engine->options.complain_context,
    };
    return rml_writer_open(&engine->writer, &options, err);
}

static int open_worker(struct rml_engine *engine, uint32_t index, struct rml_err *err)
{
    const struct rml_worker_options options = {
        .plan = engine->plan,
        .operators = engine->options.operators,
        .clock = engine->options.clock,
        .writer = engine->writer,
        .index = index,
        .cpu = cpu_of(engine->plan, index),
        .lanes_max = engine->plan->lanes_max,
        .ticks = !engine->options.replay,
        .announce_progress = engine->options.replay,
        .counts = &engine->worker_counts[index],
        .stages = engine->stages,
        .sources = engine->sources,
        .reports_bell = &engine->bell,
    };
    return rml_worker_open(&engine->workers[index], &options, err);
}

static int reserve(struct rml_engine *engine, struct rml_err *err)
{
    const struct rml_plan *plan = engine->plan;
    engine->stages = blocks((size_t)plan->partitions * plan->stage_count, sizeof *engine->stages);
    engine->sources =
        blocks((size_t)plan->partitions * plan->source_count, sizeof *engine->sources);
    engine->sinks = blocks(plan->sink_count, sizeof *engine->sinks);
    engine->worker_counts = blocks(plan->workers, sizeof *engine->worker_counts);
    engine->lanes = calloc(plan->lanes_max, sizeof *engine->lanes);
    if (engine->stages == NULL || engine->sources == NULL
        || (plan->sink_count > 0 && engine->sinks == NULL) || engine->worker_counts == NULL
        || engine->lanes == NULL)
        return RML_FAIL(err, -ENOMEM, "no memory for counters");
    return rml_bell_open(&engine->bell, err);
}

int rml_engine_open(struct rml_engine **ret_engine, const struct rml_engine_options *options,
                    struct rml_err *err)
{
    struct rml_engine *engine = aligned_alloc(_Alignof(struct rml_engine), sizeof *engine);
    if (engine == NULL)
        return RML_FAIL(err, -ENOMEM, "no memory for an engine");
    memset(engine, 0, sizeof *engine);
    engine->options = *options;
    engine->plan = options->plan;
    engine->bell = RML_BELL_CLOSED;
    int rc = reserve(engine, err);
    if (rc == 0)
        rc = open_writer(engine, err);
    for (uint32_t i = 0; rc == 0 && i < engine->plan->workers; i++)
        rc = open_worker(engine, i, err);
    if (rc < 0) {
        rml_engine_close(engine);
        return rc;
    }
    *ret_engine = engine;
    return 0;
}

int rml_engine_start(struct rml_engine *engine, struct rml_err *err)
{
    int rc = rml_writer_start(engine->writer, err);
    if (rc < 0)
        return rc;
    engine->writer_started = true;
    for (uint32_t i = 0; i < engine->plan->workers; i++) {
        rc = rml_worker_start(engine->workers[i], err);
        if (rc < 0)
            return rc;
    }
    engine->started = true;
    return 0;
}

void rml_engine_close(struct rml_engine *engine)
{
    if (engine == NULL)
        return;
    rml_engine_stop(engine);
    for (uint32_t i = 0; engine->lanes != NULL && i < engine->plan->lanes_max; i++)
        rml_lane_in_close(engine->lanes[i].in);
    rml_writer_close(engine->writer);
    rml_bell_close(&engine->bell);
    free(engine->lanes);
    free(engine->stages);
    free(engine->sources);
    free(engine->sinks);
    free(engine->worker_counts);
    free(engine);
}
