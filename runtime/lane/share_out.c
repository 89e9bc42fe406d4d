#include "runtime/lane/share_out.h"

#include <errno.h>
#include <sched.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/check.h"
#include "runtime/base/err.h"
#include "runtime/lane/attached.h"
#include "runtime/ring/stream.h"

#define SPINS 256u  // looks before sleeping

/* What the producer has for a partition: `begin` to `end` is committed and not published. */
struct part {
    struct rml_shared_out ring;
    unsigned char *staging;  // run_max cells
    uint32_t begin, end;
    uint32_t claimed;  // cells behind `end`
    bool dirty;
};

struct rml_share_out {
    struct rml_attached lane;
    struct rml_lane_owner_line *line;
    uint32_t run_max;

    int64_t time, published_time;  // greatest event time committed, and published
    uint64_t turn;                 // of waiting
    uint64_t dropped;
    uint32_t put_count, publish_every;
    uint32_t dirty_count;
    uint16_t dirty[RML_LANE_PARTITIONS_MAX];
    struct rml_lane_out_counts counts;

    unsigned char *staging;
    struct part parts[];
};

static int open_parts(struct rml_share_out *out, uint32_t owner, struct rml_err *err)
{
    const struct rml_lane_layout layout = rml_lane_layout(&out->lane.geometry);
    out->line = &rml_lane_owner_lines(out->lane.records.memory, &layout)[owner - 1];
    size_t bytes = (size_t)out->run_max * out->lane.geometry.cell_bytes;
    size_t stride = (bytes + RML_RING_LINE - 1) / RML_RING_LINE * RML_RING_LINE;
    out->staging = aligned_alloc(RML_RING_LINE, stride * out->lane.geometry.partitions);
    if (out->staging == NULL)
        return RML_FAIL(err, -ENOMEM, "no memory");
    for (uint32_t p = 0; p < out->lane.geometry.partitions; p++) {
        const struct rml_shared_place place = rml_lane_shared(
            &out->lane.geometry, &layout, out->lane.records.memory, out->lane.returns.memory, p);
        rml_shared_attach_out(&out->parts[p].ring, &place, owner);
        out->parts[p].staging = out->staging + p * stride;
    }
    return 0;
}

int rml_share_out_open(struct rml_share_out **ret_out, const struct rml_lane_geometry *geometry,
                       const struct rml_lane_fds *fds, int peer_fd, uint32_t owner,
                       struct rml_err *err)
{
    int rc = rml_lane_geometry_check(geometry, err);
    if (rc == 0 && (owner == 0 || owner > geometry->owners))
        rc = RML_FAIL(err, -EINVAL, "producer %u of %u", owner, geometry->owners);
    if (rc < 0)
        return RML_WRAP(err, rc, "lane");
    struct rml_share_out *out = calloc(1, sizeof *out + geometry->partitions * sizeof(struct part));
    if (out == NULL)
        return RML_FAIL(err, -ENOMEM, "lane: no memory");
    // the room socket is the connection
    rml_attached_init(&out->lane, geometry, fds, peer_fd, peer_fd);
    out->run_max = rml_lane_run_max(geometry);
    out->time = out->published_time = RML_TIME_NONE;
    out->publish_every = RML_LANE_PUBLISH_EVERY;
    rc = rml_attached_open(&out->lane, err);
    if (rc == 0)
        rc = open_parts(out, owner, err);
    if (rc < 0) {
        rml_share_out_abandon(out);
        return RML_WRAP(err, rc, "lane");
    }
    *ret_out = out;
    return 0;
}

void rml_share_out_abandon(struct rml_share_out *out)
{
    rml_attached_close(&out->lane);
    free(out->staging);
    free(out);
}

void rml_share_out_close(struct rml_share_out *out)
{
    (void)rml_share_out_publish(out);
    uint64_t left = 0;
    for (uint32_t p = 0; p < out->lane.geometry.partitions; p++)
        left += out->parts[p].end - out->parts[p].begin;
    if (left > 0)
        rml_share_out_drop(out, left);
    rml_share_out_abandon(out);
}

void rml_share_out_publish_every(struct rml_share_out *out, uint32_t records)
{
    RML_CHECK(records > 0);
    out->publish_every = records;
}

void rml_share_out_wait_max(struct rml_share_out *out, int64_t ns)
{
    out->lane.knock.wait_max_ns = ns;
}

uint32_t rml_share_out_route(const struct rml_share_out *out, const void *record)
{
    return rml_route(&out->lane.geometry, out->lane.route, record);
}

static struct part *part_of(struct rml_share_out *out, uint32_t partition)
{
    RML_CHECK(partition < out->lane.geometry.partitions);
    return &out->parts[partition];
}

/* Carry what is committed into the ring. 1: all of it; 0: there was no room for all; -EPROTO. */
static int carry(struct rml_share_out *out, struct part *part)
{
    size_t cell_bytes = out->lane.geometry.cell_bytes;
    while (part->begin < part->end) {
        void *cells;
        int32_t run = rml_shared_claim(&part->ring, part->end - part->begin, &cells);
        if (run <= 0)
            return run < 0 ? -EPROTO : 0;
        memcpy(cells, part->staging + part->begin * cell_bytes, (uint32_t)run * cell_bytes);
        if (rml_shared_publish(&part->ring) < 0)
            return -EPROTO;
        part->begin += (uint32_t)run;
        out->counts.published += (uint32_t)run;
    }
    if (part->claimed == 0)
        part->begin = part->end = 0;
    return 1;
}

// Carry what can be carried now: the partitions, as bits of their workers, or -EPROTO.
static int carry_all(struct rml_share_out *out, uint64_t *ret_workers)
{
    uint32_t left = 0;
    for (uint32_t i = 0; i < out->dirty_count; i++) {
        uint16_t p = out->dirty[i];
        int rc = carry(out, &out->parts[p]);
        if (rc < 0)
            return rc;
        *ret_workers |= 1ull << out->lane.geometry.worker_of[p];
        out->parts[p].dirty = rc == 0;
        if (rc == 0)
            out->dirty[left++] = p;
    }
    out->dirty_count = left;
    return 0;
}

// Say that something was published, and all that was committed where nothing is left.
static void announce(struct rml_share_out *out, uint64_t workers)
{
    int64_t before = out->published_time;
    if (out->dirty_count == 0) {
        uint64_t word = rml_lane_time_word(out->time);
        // release: lane.clock
        atomic_store_explicit(&out->line->time, word, memory_order_release);
        out->published_time = out->time;
    }
    // relaxed: this thread is the only writer, and it is a hint
    uint64_t own = atomic_load_explicit(&out->line->publishes, memory_order_relaxed);
    // relaxed: likewise
    atomic_store_explicit(&out->line->publishes, own + 1, memory_order_relaxed);
    // total order: before the look at who sleeps
    atomic_fetch_add_explicit(&out->lane.lines->publishes, 1, memory_order_seq_cst);
    rml_ringing_ring(&out->lane.ringing, workers, out->lane.geometry.grid, before,
                     out->published_time);
    rml_attached_look(&out->lane);
    out->lane.detached = out->lane.detached || rml_knock_is_gone(&out->lane.knock);
}

/*
 * Say that we wait for the partition's consumer to come half a ring further, look once more, sleep. 0: it
 * may have; or an error.
 */
static int sleep_for_room(struct rml_share_out *out, struct part *part, int64_t until_ns)
{
    uint64_t enough = part->ring.head + out->lane.geometry.cells / 2;
    uint32_t partition = (uint32_t)(part - out->parts);
    // relaxed: the count below orders it
    atomic_store_explicit(&out->line->room_at, enough, memory_order_relaxed);
    uint64_t waiting = RML_LANE_WAIT(++out->turn, (uint64_t)partition);
    // relaxed: likewise
    atomic_store_explicit(&out->line->waiting, waiting, memory_order_relaxed);
    // total order: before the look at the ring's head
    atomic_fetch_add_explicit(&out->lane.lines[partition].waiting, 1, memory_order_seq_cst);
    int rc = 0;
    while (rc == 0 && (int64_t)(rml_shared_head_look(&part->ring) - enough) < 0) {
        rml_attached_look(&out->lane);
        rc = out->lane.detached ? -EPIPE : rml_knock_wait(&out->lane.knock, until_ns);
    }
    // relaxed: at worst one more knock
    atomic_store_explicit(&out->line->waiting, 0, memory_order_relaxed);
    return rc;
}

// Carry what a partition has, waiting for room. 0, -ETIMEDOUT, -EPIPE or -EPROTO.
static int carry_waiting(struct rml_share_out *out, struct part *part)
{
    int64_t until_ns = rml_knock_until(&out->lane.knock);
    for (uint32_t spins = 0;; spins++) {
        int rc = carry(out, part);
        if (rc != 0)
            return rc < 0 ? rc : 0;
        if (out->lane.knock.wait_max_ns == 0)
            return -ETIMEDOUT;
        if (spins < SPINS) {
            rml_pause();
            if (spins % 64 == 63)
                sched_yield();  // the engine may need this very core
            continue;
        }
        rc = sleep_for_room(out, part, until_ns);
        if (rc < 0 && carry(out, part) <= 0)
            return rc;
    }
}

int rml_share_out_publish(struct rml_share_out *out)
{
    uint64_t workers = 0;
    if (out->dirty_count == 0 && out->published_time == out->time)
        return 0;
    if (out->lane.detached)
        return -EPIPE;
    int rc = carry_all(out, &workers);
    if (rc < 0)
        return rc;
    announce(out, workers);
    out->put_count = 0;
    while (rc == 0 && out->dirty_count > 0 && !out->lane.detached) {
        struct part *part = &out->parts[out->dirty[0]];
        if (out->lane.geometry.on_full == RML_LANE_DROP_NEWEST)
            return 0;  // it stays here until there is room
        rc = carry_waiting(out, part);
        if (rc == 0) {
            rc = carry_all(out, &workers);  // which finds that one done
            announce(out, workers);
        }
    }
    return rc == 0 && out->lane.detached ? -EPIPE : rc;
}

int32_t rml_share_out_claim(struct rml_share_out *out, uint32_t partition, uint32_t want,
                            void **ret_cells)
{
    struct part *part = part_of(out, partition);
    if (out->lane.detached)
        return -EPIPE;
    part->claimed = 0;
    if (part->begin == part->end)
        part->begin = part->end = 0;
    if (part->end == out->run_max) {
        int rc = rml_share_out_publish(out);
        if (part->end == out->run_max)
            return rc;
    }
    uint32_t room = out->run_max - part->end;
    part->claimed = want < room ? want : room;
    *ret_cells = part->staging + (size_t)part->end * out->lane.geometry.cell_bytes;
    return (int32_t)part->claimed;
}

void rml_share_out_commit(struct rml_share_out *out, uint32_t partition, uint32_t count)
{
    struct part *part = part_of(out, partition);
    RML_CHECK(count <= part->claimed);
    const unsigned char *record = part->staging + (size_t)part->end * out->lane.geometry.cell_bytes;
    part->claimed = 0;
    for (uint32_t i = 0; i < count; i++) {
        int64_t time;
        memcpy(&time, record + out->lane.geometry.time_offset, sizeof time);
        record += out->lane.geometry.cell_bytes;
        out->time = time > out->time ? time : out->time;
    }
    part->end += count;
    out->counts.committed += count;
    if (!part->dirty && count > 0) {
        part->dirty = true;
        out->dirty[out->dirty_count++] = (uint16_t)partition;
    }
}

int rml_share_out_put(struct rml_share_out *out, const void *record)
{
    uint32_t partition = rml_route(&out->lane.geometry, out->lane.route, record);
    void *cell;
    int32_t run = rml_share_out_claim(out, partition, 1, &cell);
    if (run < 0)
        return run;
    if (run == 0) {
        rml_share_out_drop(out, 1);
        return 0;
    }
    memcpy(cell, record, out->lane.geometry.cell_bytes);
    rml_share_out_commit(out, partition, 1);
    if (++out->put_count >= out->publish_every)
        (void)rml_share_out_publish(
            out);  // the record is taken; what has no room yet is tried again
    return 1;
}

void rml_share_out_drop(struct rml_share_out *out, uint64_t records)
{
    out->dropped += records;
    // relaxed: a statistic, ordered with nothing
    atomic_fetch_add_explicit(&out->lane.lines->dropped, records, memory_order_relaxed);
}

int rml_share_out_state(const struct rml_share_out *out, uint32_t *ret_code, char *text)
{
    return rml_attached_state(&out->lane, ret_code, text);
}

void rml_share_out_counts(const struct rml_share_out *out, struct rml_lane_out_counts *ret_counts)
{
    *ret_counts = out->counts;
    ret_counts->released = out->counts.published;
    ret_counts->dropped = out->dropped;
    ret_counts->waits = out->lane.knock.waits;
    ret_counts->rings = out->lane.ringing.rings;
    ret_counts->variant = RML_RING_PLAIN;
}
