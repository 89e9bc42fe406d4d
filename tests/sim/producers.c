#include "tests/sim/producers.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "runtime/base/check.h"
#include "runtime/base/err.h"
#include "runtime/lane/confluence.h"
#include "runtime/lane/lane_in.h"
#include "runtime/lane/lane_out.h"
#include "runtime/lane/layout.h"
#include "runtime/lane/share_out.h"
#include "runtime/ring/shared_ring.h"
#include "runtime/segment/segment.h"
#include "tests/sim/fibers.h"
#include "tests/sim/judge.h"
#include "tests/sim/log.h"
#include "tests/sim/process.h"
#include "tests/sim/sim.h"

#define STREAMS_MAX 4096u

// What both sorts of lanes have, by the same name.
#define END(p, function, ...)                                                         \
 (options.is_shared ? rml_share_out_##function((p)->share __VA_OPT__(, ) __VA_ARGS__) \
                    : rml_lane_out_##function((p)->out __VA_OPT__(, ) __VA_ARGS__))

#define ID(stream, partition, number) \
 ((uint64_t)(stream) << 40 | (uint64_t)(partition) << 32 | (number))

struct producer {
    enum producer_state state;
    uint32_t lane, owner, fiber;
    bool has_died, has_left, is_full, is_lost;
    bool should_leave;
    uint64_t stopped_until;  // this turn it has none
    int doors[2];            // of its connection, where the lane is shared: the engine's, its own
    struct rml_lane_geometry geometry;
    struct rml_lane_fds fds;
    struct rml_lane_out *out;     // in a lane of its own
    struct rml_share_out *share;  // or in one of several
    struct rml_segment records;   // as it writes them, to look at
    struct stream *stream;
};

static struct producers_options options;
static struct producer producers[PRODUCERS];
static struct stream *streams[STREAMS_MAX];
static uint32_t stream_count;
static bool gathers[FIBERS_MAX];  // those in the midst of it

void producers_begin(const struct producers_options *wanted)
{
    options = *wanted;
    for (uint32_t i = 0; i < PRODUCERS; i++)
        producers[i] = (struct producer){.doors = {-1, -1}};
}

static void free_streams(void)
{
    for (uint32_t i = 0; i < stream_count; i++) {
        for (uint32_t p = 0; p < PARTITIONS_MOST; p++) {
            free(streams[i]->parts[p].records);
            free(streams[i]->parts[p].before);
            free(streams[i]->parts[p].marks);
        }
        free(streams[i]->order);
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

uint32_t producer_owner(uint32_t producer)
{
    return producers[producer].owner;
}

int producer_door(uint32_t producer)
{
    return producers[producer].doors[0];
}

int64_t producer_wakes_at(uint32_t producer)
{
    const struct producer *p = &producers[producer];
    return p->state == PRODUCER_ATTACHED ? sim_wakes_at(p->fiber) : INT64_MAX;
}

void producer_asks(uint32_t producer)
{
    struct producer *p = &producers[producer];
    p->state = PRODUCER_ASKS;
    if (!options.is_shared)
        return;
    RML_CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, p->doors) == 0);
    process_fd_is_outside(p->doors[0]);
    process_fd_is_outside(p->doors[1]);
}

/* Streams */

struct stream *stream_add(uint64_t serial)
{
    RML_CHECK(stream_count < STREAMS_MAX);
    struct stream *stream = calloc(1, sizeof *stream);
    RML_CHECK(stream != NULL);
    stream->serial = serial;
    stream->joined = sim.turns;
    stream->clock = INT64_MIN;
    stream->index = stream_count;
    streams[stream_count++] = stream;
    return stream;
}

struct stream *stream_at(uint64_t index)
{
    return index < stream_count ? streams[index] : NULL;
}

struct stream *stream_of(uint64_t id)
{
    return stream_at(id >> 40);
}

uint32_t stream_partition(uint64_t id)
{
    return (uint32_t)(id >> 32 & 0xff);
}

uint64_t stream_number(uint64_t id)
{
    return id & UINT32_MAX;
}

void stream_put(struct stream_part *part, const struct record *record)
{
    if (part->count == part->room) {
        part->room = 2 * part->room + 256;
        part->records = realloc(part->records, part->room * sizeof *part->records);
        RML_CHECK(part->records != NULL);
    }
    part->records[part->count++] = *record;
}

static void put_order(struct stream *stream, uint32_t partition)
{
    if (stream->order_count == stream->order_room) {
        stream->order_room = 2 * stream->order_room + 1024;
        stream->order = realloc(stream->order, stream->order_room);
        RML_CHECK(stream->order != NULL);
    }
    stream->order[stream->order_count++] = (unsigned char)partition;
}

// What its producer notes when it writes one.
static void write_down(struct stream *stream, uint32_t partition, const struct record *record)
{
    struct stream_part *part = &stream->parts[partition];
    put_order(stream, partition);
    stream_put(part, record);
    part->before = realloc(part->before, part->room * sizeof *part->before);
    RML_CHECK(part->before != NULL);
    part->before[part->count - 1] = stream->clock;
    stream->clock = record->ts > stream->clock ? record->ts : stream->clock;
}

void stream_put_mark(struct stream_part *part, struct stream_mark mark)
{
    if (part->mark_count == part->mark_room) {
        part->mark_room = 2 * part->mark_room + 64;
        part->marks = realloc(part->marks, part->mark_room * sizeof *part->marks);
        RML_CHECK(part->marks != NULL);
    }
    part->marks[part->mark_count++] = mark;
}

uint64_t producers_dropped(void)
{
    uint64_t dropped = 0;
    for (uint32_t i = 0; i < stream_count; i++)
        dropped += streams[i]->is_over ? 0 : streams[i]->dropped;
    return dropped;
}

const struct stream *producers_find(uint64_t serial)
{
    for (uint32_t i = stream_count; i-- > 0;) {
        if (streams[i]->serial == serial && !streams[i]->is_shared)
            return streams[i];
    }
    return NULL;
}

/* What was written, into a lane of the producer's own */

static void note_part(struct producer *p, uint32_t partition)
{
    struct stream_part *part = &p->stream->parts[partition];
    const struct rml_lane_record_line *line = &rml_lane_record_lines(p->records.memory)[partition];
    // relaxed: one thread
    part->published = atomic_load_explicit(&line->published, memory_order_relaxed);
    RML_CHECK(part->published <= part->count);
    // relaxed: one thread
    uint64_t marks = atomic_load_explicit(&line->marks, memory_order_relaxed);
    struct rml_lane_layout layout = rml_lane_layout(&p->geometry);
    const struct rml_lane_mark_cell *cells = rml_lane_marks(p->records.memory, &layout, partition);
    while (part->mark_count < marks) {
        const struct rml_lane_mark_cell *cell = &cells[part->mark_count & (p->geometry.cells - 1)];
        stream_put_mark(
            part,
            (struct stream_mark){// relaxed: one thread
                                 atomic_load_explicit(&cell->position, memory_order_relaxed),
                                 // relaxed: likewise
                                 atomic_load_explicit(&cell->time, memory_order_relaxed)});
    }
}

static void note(struct producer *p)
{
    for (uint32_t i = 0; i < options.partitions && !options.is_shared; i++)
        note_part(p, i);
}

void producers_note(void)
{
    for (uint32_t i = 0; i < PRODUCERS; i++) {
        if (producers[i].state == PRODUCER_ATTACHED)
            note(&producers[i]);
    }
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
            streams[i]->parts[p].due = streams[i]->parts[p].told;
        streams[i]->is_over = true;
    }
}

/* What happens in a ring that is shared. These stand before the real ones. */

int __real_rml_shared_publish(struct rml_shared_out *out);
int __wrap_rml_shared_publish(struct rml_shared_out *out);
int32_t __real_rml_shared_gather(struct rml_shared_in *in, const struct rml_shared_log *log,
                                 uint32_t want, uint64_t room);
int32_t __wrap_rml_shared_gather(struct rml_shared_in *in, const struct rml_shared_log *log,
                                 uint32_t want, uint64_t room);

int __real_rml_confluence_more(struct rml_confluence *g, uint32_t want);
int __wrap_rml_confluence_more(struct rml_confluence *g, uint32_t want);

static uint64_t look_turns[PARTITIONS_MOST];  // when the look under way began, or just before

static void trust_the_fastest(struct rml_confluence *g)
{
    for (uint32_t i = 0; i < g->here_count; i++) {
        // relaxed: one thread
        uint64_t word =
            atomic_load_explicit(&g->owner_lines[g->here[i]].time, memory_order_relaxed);
        int64_t time = rml_lane_word_time(word);
        g->time = time > g->time ? time : g->time;
    }
}

int __wrap_rml_confluence_more(struct rml_confluence *g, uint32_t want)
{
    int64_t before = g->time;
    if (!g->is_looking)
        look_turns[g->partition] = sim.turns;
    int rc = __real_rml_confluence_more(g, want);
    if (sim.wrong == SIM_trusts_the_fastest)
        trust_the_fastest(g);
    if (g->time > before) {
        bool was = process_turn(false);
        judge_note_look(g->partition, g->time, look_turns[g->partition]);
        process_turn(was);
    }
    return rc;
}

static struct producer *writing(void)
{
    uint32_t fiber = fiber_now(), i = 0;
    while (i < PRODUCERS
           && (producers[i].state != PRODUCER_ATTACHED || producers[i].fiber != fiber))
        i++;
    RML_CHECK(i < PRODUCERS);
    return &producers[i];
}

int __wrap_rml_shared_publish(struct rml_shared_out *out)
{
    struct producer *p = writing();
    struct record *cells =
        (void *)(out->place.cells + (size_t)out->at * out->place.shape.cell_bytes);
    uint32_t count = out->claimed;
    if (sim_strikes(SIM_producer_dies_with_a_run)) {
        memset(cells, 0xee, (count + 1) / 2 * sizeof *cells);
        p->has_died = true;
        sim_door(DOOR_NONE);
    }
    if (sim_strikes(SIM_producer_stops_with_a_run)) {
        p->stopped_until = sim.turns + 500 + sim_draw(8000);
        sim_door(DOOR_NONE);
    }
    struct stream_part *part = &p->stream->parts[stream_partition(cells[0].id)];
    uint64_t first = stream_number(cells[0].id);
    // nobody has a turn between the access that publishes and the return
    int rc = __real_rml_shared_publish(out);
    if (rc < 0)
        sim_fail("a producer that lives cannot publish: %s", out->fault);
    RML_CHECK(first == part->published);
    part->published += count;
    return rc;
}

int32_t __wrap_rml_shared_gather(struct rml_shared_in *in, const struct rml_shared_log *log,
                                 uint32_t want, uint64_t room)
{
    uint32_t fiber = fiber_now();
    if (fiber == FIBERS_NONE)
        return __real_rml_shared_gather(in, log, want, room);
    gathers[fiber] = true;
    int32_t rows = __real_rml_shared_gather(in, log, want, room);
    gathers[fiber] = false;
    return rows;
}

bool producers_gathers(uint32_t fiber)
{
    return gathers[fiber];
}

void producers_engine_dies(void)
{
    memset(gathers, 0, sizeof gathers);
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
    uint32_t partition = END(p, route, &record);
    uint32_t want = 1 + (uint32_t)sim_draw(4);
    void *cells;
    int32_t got = END(p, claim, partition, want, &cells);
    p->is_full = got == -ETIMEDOUT;
    if (p->is_full)
        sim_count(SIM_producer_finds_no_room);
    if (got == 0) {
        sim_count(SIM_producer_drops);
        END(p, drop, 1);
        p->stream->dropped++;
    }
    if (got <= 0) {
        if (got < 0 && got != -ETIMEDOUT)
            p->has_left = true;
        return;
    }
    struct record *to = cells;
    if (sim_strikes(SIM_producer_dies_in_a_claim)) {
        memset(to, 0xee, sizeof *to);
        p->has_died = true;
        return;
    }
    struct stream_part *part = &p->stream->parts[partition];
    uint32_t filled = 0;
    while (filled < (uint32_t)got) {
        if (END(p, route, &record) == partition) {
            record.id = ID(p->stream->index, partition, part->count);
            to[filled++] = record;
            write_down(p->stream, partition, &record);
        }
        record = draw_record();
    }
    END(p, commit, partition, filled);
}

static void publish(struct producer *p)
{
    if (options.is_shared)
        (void)rml_share_out_publish(p->share);  // what finds no room stays with it
    else
        rml_lane_out_publish(p->out);
}

// The first so many of its records are durable: whatever comes, they are in the results.
static void is_told(struct stream *stream, uint64_t count)
{
    if (count > stream->order_count || count < stream->told)
        sim_fail(
            "a producer that wrote %llu records is told that %llu are durable, and before %llu",
            (unsigned long long)stream->order_count, (unsigned long long)count,
            (unsigned long long)stream->told);
    if (count > stream->told)
        sim_count(SIM_producer_is_told);
    for (; stream->told < count; stream->told++) {
        struct stream_part *part = &stream->parts[stream->order[stream->told]];
        part->told++;
        part->due = part->told > part->due ? part->told : part->due;
    }
}

static void ask_what_is_durable(struct producer *p)
{
    uint64_t count;
    if (sim_draw(20) == 0) {
        if (rml_lane_out_wait_durable(p->out, 1 + (int64_t)sim_draw(4000000)) < 0)
            return;
        sim_count(SIM_producer_waits_for_that);
        count = p->stream->order_count;
    } else if (rml_lane_out_durable(p->out, &count) < 0) {
        return;
    }
    is_told(p->stream, count);
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
        publish(p);
    if (options.asks && sim_draw(3) == 0)
        ask_what_is_durable(p);
}

static void leave(struct producer *p)
{
    if (options.is_shared) {
        rml_share_out_close(p->share);
        p->share = NULL;
        for (uint32_t i = 0; i < options.partitions; i++)  // what found no room in time
            p->stream->dropped += p->stream->parts[i].count - p->stream->parts[i].published;
    } else {
        rml_lane_out_close(p->out);
        p->out = NULL;
    }
    p->has_left = true;
}

static void *live(void *context)
{
    struct producer *p = context;
    for (;;) {
        p->is_full = false;
        write_some(p);
        if (p->should_leave && !p->has_died && !p->has_left) {
            leave(p);
        }
        sim_door(DOOR_NONE);
    }
    return NULL;
}

static void copy_fds(struct rml_lane_fds *to, const struct rml_lane_fds *from, uint32_t workers)
{
    rml_lane_fds_init(to);
    to->records = process_dup_outside(from->records);
    to->returns = process_dup_outside(from->returns);
    if (from->room >= 0)
        to->room = process_dup_outside(from->room);
    for (uint32_t w = 0; w < workers; w++)
        to->wake[w] = process_dup_outside(from->wake[w]);
}

void producer_attach(uint32_t producer, uint32_t lane, uint32_t owner, uint64_t serial,
                     struct rml_lane_in *in)
{
    struct producer *p = &producers[producer];
    struct rml_err err = {0};
    p->state = PRODUCER_ATTACHED;
    p->lane = lane;
    p->owner = owner;
    p->geometry = *rml_lane_in_geometry(in);
    copy_fds(&p->fds, rml_lane_in_fds(in), p->geometry.workers);
    int rc = options.is_shared
                 ? rml_share_out_open(&p->share, &p->geometry, &p->fds, p->doors[1], owner, &err)
                 : rml_lane_out_open(&p->out, &p->geometry, &p->fds, -1, &err);
    if (rc < 0)
        sim_fail("a producer cannot attach: %s", err.text);
    END(p, wait_max, options.wait_max_ns);
    if (!options.is_shared)
        rml_lane_out_force_variant(p->out, RML_RING_PLAIN);
    if (rml_segment_attach(&p->records, p->fds.records, rml_lane_records_bytes(&p->geometry), false,
                           &err)
        < 0)
        sim_fail("a lane cannot be looked at: %s", err.text);
    if (options.is_shared)
        (void)log_open(serial, in);
    p->stream = stream_add(serial);
    p->stream->is_shared = options.is_shared;
    p->fiber = fiber_make(live, p);
}

void producer_vanish(uint32_t producer)
{
    struct producer *p = &producers[producer];
    if (p->state == PRODUCER_ATTACHED) {
        note(p);
        fiber_drop(p->fiber);
        if (p->out != NULL)
            rml_lane_out_abandon(p->out);
        if (p->share != NULL)
            rml_share_out_abandon(p->share);
        rml_segment_close(&p->records);
        rml_lane_fds_close(&p->fds);
    }
    for (int i = 0; i < 2; i++) {
        if (p->doors[i] >= 0)
            close(p->doors[i]);
    }
    *p = (struct producer){.state = PRODUCER_AWAY, .doors = {-1, -1}};
}

void producer_should_leave(uint32_t producer)
{
    producers[producer].should_leave = true;
}

static bool is_hung_up_on(struct producer *p)
{
    if (!options.is_shared || p->is_lost || !sim_strikes(SIM_producer_is_hung_up_on))
        return false;
    p->is_lost = p->stream->is_lost = true;
    RML_CHECK(shutdown(p->doors[0], SHUT_RDWR) == 0);
    return true;
}

enum producer_end producer_turn(uint32_t producer)
{
    struct producer *p = &producers[producer];
    if (sim.turns < p->stopped_until)
        return PRODUCER_STAYS;
    bool was_asleep = sim_is_asleep(p->fiber);
    fiber_turn(p->fiber);
    note(p);
    if (!was_asleep && sim_is_asleep(p->fiber))
        sim_count(SIM_producer_sleeps_for_room);
    if (sim_last_door() == DOOR_BELL && sim_strikes(SIM_producer_dies_waking))
        p->has_died = true;
    if (sim_last_door() == DOOR_ATOM && sim_strikes(SIM_producer_dies_at_an_atom))
        p->has_died = true;
    if (!p->has_died && !p->has_left)
        return is_hung_up_on(p) ? PRODUCER_HUNG_UP : PRODUCER_STAYS;
    // what it says after it was hung up on nobody hears
    enum producer_end end = p->has_died || p->is_lost ? PRODUCER_DIED : PRODUCER_LEFT;
    producer_vanish(producer);
    return end;
}
