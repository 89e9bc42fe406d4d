#include "tests/sim/producers.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/check.h"
#include "runtime/base/err.h"
#include "runtime/lane/lane_in.h"
#include "runtime/lane/lane_out.h"
#include "runtime/lane/layout.h"
#include "runtime/segment/segment.h"
#include "tests/sim/fibers.h"
#include "tests/sim/process.h"
#include "tests/sim/sim.h"

#define STREAMS_MAX 4096u

struct producer {
    enum producer_state state;
    uint32_t lane, fiber;
    bool has_died, has_left, is_full;
    bool is_publishing;  // and in the midst of it
    struct rml_lane_geometry geometry;
    struct rml_lane_fds fds;
    struct rml_lane_out *out;
    struct rml_segment records;  // as it writes them, to look at
    struct stream *stream;
};

static struct producers_options options;
static struct producer producers[PRODUCERS];
static struct stream *streams[STREAMS_MAX];
static uint32_t stream_count;

void producers_begin(const struct producers_options *wanted)
{
    options = *wanted;
    memset(producers, 0, sizeof producers);
}

static void free_streams(void)
{
    for (uint32_t i = 0; i < stream_count; i++) {
        for (uint32_t p = 0; p < PARTITIONS_MOST; p++) {
            free(streams[i]->parts[p].records);
            free(streams[i]->parts[p].marks);
        }
        free(streams[i]);
    }
    stream_count = 0;
}

void producers_end(void)
{
    for (uint32_t i = 0; i < PRODUCERS; i++)
        producer_vanish(i);
    free_streams();
}

enum producer_state producer_state(uint32_t producer)
{
    return producers[producer].state;
}

uint32_t producer_lane(uint32_t producer)
{
    return producers[producer].lane;
}

bool producer_is_full(uint32_t producer)
{
    return producers[producer].is_full;
}

void producer_asks(uint32_t producer)
{
    producers[producer].state = PRODUCER_ASKS;
}

/* What was written */

static void note_part(struct producer *p, uint32_t partition)
{
    struct stream_part *part = &p->stream->parts[partition];
    const struct rml_lane_record_line *line = &rml_lane_record_lines(p->records.memory)[partition];
    // relaxed: one thread
    part->published = atomic_load_explicit(&line->published, memory_order_relaxed);
    RML_CHECK(part->published <= part->count);
    // relaxed: one thread
    uint64_t marks = atomic_load_explicit(&line->marks, memory_order_relaxed);
    if (marks == part->mark_count)
        return;
    struct rml_lane_layout layout = rml_lane_layout(&p->geometry);
    const struct rml_lane_mark_cell *cells = rml_lane_marks(p->records.memory, &layout, partition);
    if (marks > part->mark_room) {
        part->mark_room = 2 * marks;
        part->marks = realloc(part->marks, part->mark_room * sizeof *part->marks);
        RML_CHECK(part->marks != NULL);
    }
    for (; part->mark_count < marks; part->mark_count++) {
        const struct rml_lane_mark_cell *cell = &cells[part->mark_count & (p->geometry.cells - 1)];
        part->marks[part->mark_count] =
            (struct stream_mark){// relaxed: one thread
                                 atomic_load_explicit(&cell->position, memory_order_relaxed),
                                 // relaxed: likewise
                                 atomic_load_explicit(&cell->time, memory_order_relaxed)};
    }
}

static void note(struct producer *p)
{
    for (uint32_t i = 0; i < options.partitions; i++)
        note_part(p, i);
}

void producers_note(void)
{
    for (uint32_t i = 0; i < PRODUCERS; i++) {
        if (producers[i].state == PRODUCER_ATTACHED)
            note(&producers[i]);
    }
}

static void put_record(struct stream_part *part, const struct record *record)
{
    if (part->count == part->room) {
        part->room = 2 * part->room + 256;
        part->records = realloc(part->records, part->room * sizeof *part->records);
        RML_CHECK(part->records != NULL);
    }
    part->records[part->count++] = *record;
}

void producers_are_due(void)
{
    producers_note();
    for (uint32_t i = 0; i < stream_count; i++) {
        for (uint32_t p = 0; p < PARTITIONS_MOST && !streams[i]->is_over; p++)
            streams[i]->parts[p].due = streams[i]->parts[p].published;
    }
}

void producers_lose_keeper(bool keeps_due)
{
    for (uint32_t i = 0; i < stream_count; i++) {
        for (uint32_t p = 0; p < PARTITIONS_MOST && !streams[i]->is_over && !keeps_due; p++)
            streams[i]->parts[p].due = 0;
        streams[i]->is_over = true;
    }
}

const struct stream *producers_find(uint64_t serial)
{
    for (uint32_t i = stream_count; i-- > 0;) {
        if (streams[i]->serial == serial)
            return streams[i];
    }
    return NULL;
}

/* The producer itself */

static struct record draw_record(void)
{
    struct record record = {
        .ts = sim.now_ns - (int64_t)sim_draw((uint64_t)options.spread_ns),
        .key = sim_draw(options.keys),
        .n = (int64_t)sim_draw(1000) - 500,
        .x = sim_draw(9) == 0 ? __builtin_nan("") : ((double)sim_draw(4096) - 2048) / 16,
    };
    snprintf(record.tag, sizeof record.tag, "n = %d", (int)record.n);
    return record;
}

// Records that share a claim are of one partition: claim for the first, fill while they belong there.
static void write_claim(struct producer *p)
{
    struct record record = draw_record();
    uint32_t partition = rml_lane_out_route(p->out, &record);
    uint32_t want = 1 + (uint32_t)sim_draw(4);
    void *cells;
    int32_t got = rml_lane_out_claim(p->out, partition, want, &cells);
    p->is_full = got == -ETIMEDOUT;
    if (p->is_full)
        sim_count(SIM_producer_finds_no_room);
    if (got <= 0) {
        if (got != -ETIMEDOUT)
            p->has_left = true;
        return;
    }
    struct record *to = cells;
    if (sim_strikes(SIM_producer_dies_in_a_claim)) {
        memset(to, 0xee, sizeof *to);
        p->has_died = true;
        return;
    }
    uint32_t filled = 0;
    while (filled < (uint32_t)got) {
        if (rml_lane_out_route(p->out, &record) == partition) {
            to[filled++] = record;
            put_record(&p->stream->parts[partition], &record);
        }
        record = draw_record();
    }
    rml_lane_out_commit(p->out, partition, filled);
}

static void write_some(struct producer *p)
{
    uint64_t count = 1 + sim_draw(options.burst);
    for (uint64_t i = 0; i < count && !p->has_died && !p->has_left && !p->is_full; i++)
        write_claim(p);
    if (p->has_died || p->has_left)
        return;
    if (sim_strikes(SIM_producer_dies_unpublished)) {
        p->has_died = true;
        return;
    }
    if (sim_draw(3) > 0)
        rml_lane_out_publish(p->out);
}

static void *live(void *context)
{
    struct producer *p = context;
    for (;;) {
        p->is_full = false;
        write_some(p);
        sim_door(DOOR_NONE);
    }
    return NULL;
}

static void copy_fds(struct rml_lane_fds *to, const struct rml_lane_fds *from, uint32_t workers)
{
    rml_lane_fds_init(to);
    to->records = process_dup_outside(from->records);
    to->returns = process_dup_outside(from->returns);
    to->room = process_dup_outside(from->room);
    for (uint32_t w = 0; w < workers; w++)
        to->wake[w] = process_dup_outside(from->wake[w]);
}

void producer_attach(uint32_t producer, uint32_t lane, uint64_t serial, struct rml_lane_in *in)
{
    struct producer *p = &producers[producer];
    struct rml_err err = {0};
    *p = (struct producer){.state = PRODUCER_ATTACHED, .lane = lane};
    p->geometry = *rml_lane_in_geometry(in);
    copy_fds(&p->fds, rml_lane_in_fds(in), p->geometry.workers);
    if (rml_lane_out_open(&p->out, &p->geometry, &p->fds, -1, &err) < 0)
        sim_fail("a producer cannot attach: %s", err.text);
    rml_lane_out_wait_max(p->out, 0);
    rml_lane_out_force_variant(p->out, RML_RING_PLAIN);
    if (rml_segment_attach(&p->records, p->fds.records, rml_lane_records_bytes(&p->geometry), false,
                           &err)
        < 0)
        sim_fail("a lane cannot be looked at: %s", err.text);
    RML_CHECK(stream_count < STREAMS_MAX);
    p->stream = streams[stream_count++] = calloc(1, sizeof *p->stream);
    RML_CHECK(p->stream != NULL);
    p->stream->serial = serial;
    p->fiber = fiber_make(live, p);
}

void producer_vanish(uint32_t producer)
{
    struct producer *p = &producers[producer];
    if (p->state == PRODUCER_ATTACHED) {
        note(p);
        fiber_drop(p->fiber);
        rml_lane_out_abandon(p->out);
        rml_segment_close(&p->records);
        rml_lane_fds_close(&p->fds);
    }
    *p = (struct producer){.state = PRODUCER_AWAY};
}

void producer_leave(uint32_t producer)
{
    struct producer *p = &producers[producer];
    while (p->state == PRODUCER_ATTACHED && p->is_publishing) {
        fiber_turn(p->fiber);
        p->is_publishing = sim_last_door() == DOOR_BELL;
    }
    if (p->state == PRODUCER_ATTACHED && !p->has_died)
        rml_lane_out_publish(p->out);
    producer_vanish(producer);
}

bool producer_turn(uint32_t producer)
{
    struct producer *p = &producers[producer];
    fiber_turn(p->fiber);
    note(p);
    p->is_publishing = sim_last_door() == DOOR_BELL;
    if (p->is_publishing && sim_strikes(SIM_producer_dies_waking))
        p->has_died = true;
    if (!p->has_died && !p->has_left)
        return false;
    producer_vanish(producer);
    return true;
}
