#include "tests/sim/log.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/check.h"
#include "runtime/base/err.h"
#include "runtime/lane/lane_in.h"
#include "runtime/lane/layout.h"
#include "runtime/segment/segment.h"
#include "tests/sim/process.h"
#include "tests/sim/producers.h"
#include "tests/sim/sim.h"

static struct {
    struct stream *stream;  // NULL: there is none
    struct rml_lane_geometry geometry;
    struct rml_lane_layout layout;
    struct rml_segment returns;
} l;

void log_begin(void)
{
    l.stream = NULL;
    l.returns = RML_SEGMENT_CLOSED;
}

void log_close(void)
{
    rml_segment_close(&l.returns);
    l.stream = NULL;
}

struct stream *log_open(uint64_t serial, struct rml_lane_in *in)
{
    struct rml_err err = {0};
    if (l.stream != NULL && l.stream->serial == serial)
        return l.stream;
    log_look();
    log_close();
    l.geometry = *rml_lane_in_geometry(in);
    l.layout = rml_lane_layout(&l.geometry);
    if (rml_segment_attach(&l.returns, rml_lane_in_fds(in)->returns, l.layout.returns_bytes, false,
                           &err)
        < 0)
        sim_fail("a log cannot be looked at: %s", err.text);
    l.stream = stream_add(serial);
    l.stream->is_log = true;
    return l.stream;
}

static void check_record(uint32_t p, const struct record *record)
{
    struct stream *stream = stream_of(record->id);
    uint64_t number = stream_number(record->id);
    if (stream == NULL || stream->serial != l.stream->serial || stream->is_log
        || stream_partition(record->id) != p)
        sim_fail("partition %u: its log has a record %llx that no producer wrote there", p,
                 (unsigned long long)record->id);
    struct stream_part *part = &stream->parts[p];
    if (number != part->gathered)
        sim_fail("partition %u: its log has record %llu of a producer, behind %llu of them", p,
                 (unsigned long long)number, (unsigned long long)part->gathered);
    if (number >= part->published)
        sim_fail("partition %u: its log has record %llu of a producer, which published %llu", p,
                 (unsigned long long)number, (unsigned long long)part->published);
    if (memcmp(record, &part->records[number], sizeof *record) != 0)
        sim_fail("partition %u: record %llu of a producer is another in its log", p,
                 (unsigned long long)number);
    part->gathered++;
}

static void look_at_records(uint32_t p, uint64_t end)
{
    struct stream_part *part = &l.stream->parts[p];
    const unsigned char *cells = rml_lane_cells(l.returns.memory, &l.layout, p);
    if (end < part->count || end - part->count > l.geometry.log_cells)
        sim_fail("partition %u: its log has gone from record %llu to %llu", p,
                 (unsigned long long)part->count, (unsigned long long)end);
    while (part->count < end) {
        struct record record;
        memcpy(&record, cells + (part->count & (l.geometry.log_cells - 1)) * sizeof record,
               sizeof record);
        check_record(p, &record);
        stream_put(part, &record);
    }
    part->published = end;
}

// The last mark may still change, while no record is behind it.
static void look_at_marks(uint32_t p, uint64_t count)
{
    struct stream_part *part = &l.stream->parts[p];
    const struct rml_lane_mark_cell *cells = rml_lane_marks(l.returns.memory, &l.layout, p);
    for (uint64_t i = part->mark_count > 0 ? part->mark_count - 1 : 0; i < count; i++) {
        const struct rml_lane_mark_cell *cell = &cells[i & (l.geometry.log_cells - 1)];
        // relaxed: one thread
        uint64_t position = atomic_load_explicit(&cell->position, memory_order_relaxed);
        // relaxed: likewise
        int64_t time = atomic_load_explicit(&cell->time, memory_order_relaxed);
        if (i < part->mark_count)
            part->marks[i].time = time;
        else
            stream_put_mark(part, (struct stream_mark){position, time});
    }
}

void log_look(void)
{
    for (uint32_t p = 0; l.stream != NULL && p < l.geometry.partitions; p++) {
        const struct rml_lane_log_line *line = &rml_lane_log_lines(l.returns.memory, &l.layout)[p];
        // relaxed: one thread
        look_at_marks(p, atomic_load_explicit(&line->marks, memory_order_relaxed));
        // relaxed: likewise
        look_at_records(p, atomic_load_explicit(&line->end, memory_order_relaxed));
    }
}

static void settle_part(struct stream_part *part, uint32_t p)
{
    part->due = 0;
    for (uint64_t i = 0; i < part->count; i++) {
        uint64_t id = part->records[i].id;
        if (stream_number(id) < stream_of(id)->parts[p].due)
            part->due = i + 1;
    }
}

void log_settle_due(void)
{
    log_look();
    struct stream *stream;
    for (uint32_t i = 0; (stream = stream_at(i)) != NULL; i++) {
        for (uint32_t p = 0; p < PARTITIONS_MOST; p++) {
            struct stream_part *part = &stream->parts[p];
            if (stream->is_log)
                settle_part(part, p);
            else if (stream->is_shared && part->gathered < part->due)
                sim_fail(
                    "partition %u: of a producer that came at turn %llu %llu records were due, and "
                    "%llu were taken over",
                    p, (unsigned long long)stream->joined, (unsigned long long)part->due,
                    (unsigned long long)part->gathered);
        }
    }
}
