#include "runtime/lane/lane_out.h"

#include <errno.h>
#include <sched.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "runtime/base/check.h"
#include "runtime/base/err.h"
#include "runtime/lane/attached.h"
#include "runtime/lane/durable.h"
#include "runtime/lane/trial.h"
#include "runtime/ring/stream.h"

#define STAGING_PART_MAX (16u << 10)   // bytes of one partition: stays in the first-level cache
#define STAGING_MAX      (256u << 10)  // of all: stays in the second
#define SPIN_LEAST       16u           // looks before sleeping, adapted between these
#define SPIN_MOST        2048u

/* What the producer knows of a partition. */
struct part {
    struct rml_ring_out ring;
    const unsigned char *claimed;  // cells of the last claim
    uint32_t claimed_count;
    bool dirty;       // something is committed and not published
    int64_t known;    // the greatest time that the partition learns from its own records and marks
    int64_t mark_at;  // the lane's time from which a mark can be needed; never too late
    uint64_t marks;   // ever written
    struct rml_lane_mark_cell *mark_cells;
};

struct rml_lane_out {
    struct rml_attached lane;
    struct rml_lane_return_line *return_lines;

    int64_t time;            // greatest event time committed
    int64_t published_time;  // and published
    uint64_t publishes;
    uint64_t dropped;
    uint32_t put_count;  // since the last publish
    uint32_t publish_every;
    uint32_t claims;  // partitions with a claim that is not committed yet
    uint32_t dirty_count;
    uint16_t dirty[RML_LANE_PARTITIONS_MAX];
    uint64_t turn;  // of waiting
    uint32_t spin;
    struct rml_trial trial;
    bool forced;
    uint64_t carried_bytes;  // since the last look at the clock
    struct rml_lane_out_counts counts;
    struct rml_durable durable;  // positions NULL: nobody has asked yet
    uint64_t published_records;  // committed, as of the last publish
    uint32_t durable_spin;

    unsigned char *staging;
    struct part parts[];
};

static int64_t now_ns(void)
{
    struct timespec now;
    RML_CHECK(clock_gettime(CLOCK_MONOTONIC, &now) == 0);
    return now.tv_sec * 1000000000 + now.tv_nsec;
}

static int lend_staging(struct rml_lane_out *out)
{
    uint32_t partitions = out->lane.geometry.partitions, cell_bytes = out->lane.geometry.cell_bytes;
    RML_CHECK(partitions > 0 && cell_bytes > 0);
    uint32_t bytes = STAGING_MAX / partitions;
    if (bytes > STAGING_PART_MAX)
        bytes = STAGING_PART_MAX;
    uint32_t cells = bytes < cell_bytes ? 1 : bytes / cell_bytes;
    size_t stride =
        ((size_t)cells * cell_bytes + RML_RING_LINE - 1) / RML_RING_LINE * RML_RING_LINE;
    out->staging = aligned_alloc(RML_RING_LINE, stride * partitions);
    if (out->staging == NULL)
        return -ENOMEM;
    for (uint32_t p = 0; p < partitions; p++)
        rml_ring_lend_staging(&out->parts[p].ring, out->staging + p * stride, cells);
    return 0;
}

static int open_parts(struct rml_lane_out *out)
{
    struct rml_lane_layout layout = rml_lane_layout(&out->lane.geometry);
    for (uint32_t p = 0; p < out->lane.geometry.partitions; p++) {
        struct part *part = &out->parts[p];
        struct rml_ring_place place = {
            .shape = {.cell_bytes = out->lane.geometry.cell_bytes,
                      .cell_count = out->lane.geometry.cells},
            .cells = rml_lane_cells(out->lane.records.memory, &layout, p),
            .published = &out->lane.lines[p].published,
            .released = &out->return_lines[p].released,
        };
        int rc = rml_ring_attach_out(&part->ring, &place);
        if (rc < 0)
            return rc;
        part->known = RML_TIME_NONE;
        part->mark_at = RML_TIME_END;  // one partition: never
        if (out->lane.geometry.partitions > 1) {
            part->mark_at = rml_lane_next_step(out->lane.geometry.grid, RML_TIME_NONE);
            part->mark_cells = rml_lane_marks(out->lane.records.memory, &layout, p);
        }
    }
    return rml_stream_able() ? lend_staging(out) : 0;
}

int rml_lane_out_open(struct rml_lane_out **ret_out, const struct rml_lane_geometry *geometry,
                      const struct rml_lane_fds *fds, int peer_fd, struct rml_err *err)
{
    int rc = rml_lane_geometry_check(geometry, err);
    if (rc < 0)
        return RML_WRAP(err, rc, "lane");

    size_t bytes = sizeof(struct rml_lane_out) + geometry->partitions * sizeof(struct part);
    struct rml_lane_out *out = calloc(1, bytes);
    if (out == NULL)
        return RML_FAIL(err, -ENOMEM, "lane: no memory");
    rml_attached_init(&out->lane, geometry, fds, fds->room, peer_fd);
    out->time = out->published_time = RML_TIME_NONE;
    out->publish_every = RML_LANE_PUBLISH_EVERY;
    out->spin = out->durable_spin = SPIN_MOST;
    rml_trial_init(&out->trial, rml_stream_able(), rml_evict_able());

    rc = rml_attached_open(&out->lane, err);
    if (rc == 0) {
        out->return_lines = rml_lane_return_lines(out->lane.returns.memory);
        rc = open_parts(out);
        if (rc < 0)
            rml_err_set(err, rc, "%s",
                        rc == -ENOMEM ? "no memory" : "positions that cannot both be true");
    }
    if (rc < 0) {
        rml_lane_out_close(out);
        return RML_WRAP(err, rc, "lane");
    }
    *ret_out = out;
    return 0;
}

void rml_lane_out_close(struct rml_lane_out *out)
{
    if (out == NULL)
        return;
    if (out->lane.returns.memory != NULL)
        rml_lane_out_publish(out);
    rml_lane_out_abandon(out);
}

void rml_lane_out_abandon(struct rml_lane_out *out)
{
    rml_attached_close(&out->lane);
    rml_durable_close(&out->durable);
    free(out->staging);
    free(out);
}

void rml_lane_out_publish_every(struct rml_lane_out *out, uint32_t records)
{
    RML_CHECK(records > 0);
    out->publish_every = records;
}

void rml_lane_out_wait_max(struct rml_lane_out *out, int64_t ns)
{
    out->lane.knock.wait_max_ns = ns;
}

static void choose(struct rml_lane_out *out, enum rml_ring_variant variant)
{
    RML_CHECK(out->claims == 0);  // a claim lies where the former way put it
    for (uint32_t p = 0; p < out->lane.geometry.partitions; p++)
        rml_ring_choose(&out->parts[p].ring, variant);
    // relaxed: a wish, ordered with nothing
    atomic_store_explicit(&out->lane.lines->variant, (uint32_t)variant, memory_order_relaxed);
}

int rml_lane_out_force_variant(struct rml_lane_out *out, enum rml_ring_variant variant)
{
    if ((variant == RML_RING_STAGED && !rml_stream_able())
        || (variant == RML_RING_FLUSH && !rml_evict_able()))
        return -ENOTSUP;
    rml_lane_out_publish(out);
    out->forced = variant != RML_RING_VARIANTS;
    if (!out->forced)
        rml_trial_init(&out->trial, rml_stream_able(), rml_evict_able());
    choose(out, out->forced ? variant : RML_RING_PLAIN);
    return 0;
}

uint32_t rml_lane_out_route(const struct rml_lane_out *out, const void *record)
{
    return rml_route(&out->lane.geometry, out->lane.route, record);
}

static struct part *part_of(struct rml_lane_out *out, uint32_t partition)
{
    RML_CHECK(partition < out->lane.geometry.partitions);
    return &out->parts[partition];
}

/*
 * Say that we wait, look once more, sleep. Room for half a ring ends the sleep, or any room when the
 * time is up. The count of free cells, or an error.
 */
static int32_t wait_asleep(struct rml_lane_out *out, struct part *part)
{
    uint32_t enough = (out->lane.geometry.cells + 1) / 2;
    int64_t until_ns = rml_knock_until(&out->lane.knock);
    uint64_t room_at = part->ring.committed - (out->lane.geometry.cells - enough);
    // relaxed: `waiting` orders it
    atomic_store_explicit(&out->lane.lines->room_at, room_at, memory_order_relaxed);
    out->turn++;
    uint64_t waiting = RML_LANE_WAIT(out->turn, (uint64_t)(part - out->parts));
    // total order: before the look at `released`
    atomic_store_explicit(&out->lane.lines->waiting, waiting, memory_order_seq_cst);
    int32_t room;
    for (;;) {
        rml_attached_look(&out->lane);
        room = out->lane.detached ? -EPIPE : rml_ring_room_look(&part->ring);
        if (room < 0 || (uint32_t)room >= enough)
            break;
        int rc = rml_knock_wait(&out->lane.knock, until_ns);
        if (rc < 0) {
            if (room == 0 || rc != -ETIMEDOUT)
                room = rc;
            break;
        }
    }
    // relaxed: at worst one more knock
    atomic_store_explicit(&out->lane.lines->waiting, 0, memory_order_relaxed);
    return room;
}

/* Wait until there is room: the count of free cells, or an error. */
static int32_t wait_for_room(struct rml_lane_out *out, struct part *part)
{
    rml_lane_out_publish(out);  // the engine can give back only what it can see
    if (out->lane.knock.wait_max_ns == 0)
        return -ETIMEDOUT;
    for (uint32_t looks = 0; looks < out->spin; looks++) {
        rml_pause();
        if (looks % 64 == 63)
            sched_yield();  // the engine may need this very core
        void *unused;
        int32_t room = rml_ring_claim(&part->ring, 1, &unused);
        if (room != 0) {
            out->spin = out->spin < SPIN_MOST ? out->spin * 2 : SPIN_MOST;
            return room;
        }
    }
    out->spin = out->spin > SPIN_LEAST ? out->spin / 2 : SPIN_LEAST;
    return wait_asleep(out, part);
}

int32_t rml_lane_out_claim(struct rml_lane_out *out, uint32_t partition, uint32_t want,
                           void **ret_cells)
{
    struct part *part = part_of(out, partition);
    if (out->lane.detached)
        return -EPIPE;
    void *cells;
    int32_t run = rml_ring_claim(&part->ring, want, &cells);
    if (run == 0 && out->lane.geometry.on_full == RML_LANE_DROP_NEWEST)
        rml_lane_out_publish(out);
    if (run == 0 && out->lane.geometry.on_full == RML_LANE_BLOCK) {
        run = wait_for_room(out, part);
        if (run > 0)
            run = rml_ring_claim(&part->ring, want, &cells);
    }
    if (run <= 0)
        return run;
    out->claims += part->claimed_count == 0;
    part->claimed = cells;
    part->claimed_count = (uint32_t)run;
    *ret_cells = cells;
    return run;
}

/*
 * The lane's time may be on a later step of the grid than what the partition knows: tell it, just
 * before the cell that comes next. `known` may have grown since `mark_at` was computed, so that most
 * calls only move `mark_at` on. At the end of time, and with one partition, `mark_at` is
 * RML_TIME_END and says nothing.
 */
static void mark(struct rml_lane_out *out, struct part *part)
{
    struct rml_lane_grid grid = out->lane.geometry.grid;
    if (part->mark_cells == NULL)
        return;
    if (part->known == RML_TIME_NONE
        || rml_lane_step(grid, out->time) > rml_lane_step(grid, part->known)) {
        struct rml_lane_mark_cell *cell =
            &part->mark_cells[part->marks & (out->lane.geometry.cells - 1)];
        // relaxed: lane.marks orders it
        atomic_store_explicit(&cell->position, part->ring.committed, memory_order_relaxed);
        // relaxed: likewise
        atomic_store_explicit(&cell->time, out->time, memory_order_relaxed);
        part->marks++;
        out->counts.marks++;
        part->known = out->time;
    }
    part->mark_at = rml_lane_next_step(grid, part->known);
}

static int64_t greatest_time(const unsigned char *records, uint32_t count, uint32_t record_bytes)
{
    int64_t even = INT64_MIN, odd = INT64_MIN, time;
    uint32_t i = 0;
    for (; i + 2 <= count; i += 2) {
        memcpy(&time, records + (size_t)i * record_bytes, sizeof time);
        even = time > even ? time : even;
        memcpy(&time, records + (size_t)(i + 1) * record_bytes, sizeof time);
        odd = time > odd ? time : odd;
    }
    if (i < count) {
        memcpy(&time, records + (size_t)i * record_bytes, sizeof time);
        even = time > even ? time : even;
    }
    return even > odd ? even : odd;
}

void rml_lane_out_commit(struct rml_lane_out *out, uint32_t partition, uint32_t count)
{
    struct part *part = part_of(out, partition);
    RML_CHECK(count <= part->claimed_count);
    out->claims -= part->claimed_count > 0;
    part->claimed_count = 0;
    if (count == 0)
        return;
    if (out->time >= part->mark_at)
        mark(out, part);

    int64_t time = greatest_time(part->claimed + out->lane.geometry.time_offset, count,
                                 out->lane.geometry.cell_bytes);
    if (time > part->known)
        part->known = time;
    if (time > out->time)
        out->time = time;
    rml_ring_commit(&part->ring, count);
    out->counts.committed += count;
    out->carried_bytes += (uint64_t)count * out->lane.geometry.cell_bytes;
    if (!part->dirty) {
        part->dirty = true;
        out->dirty[out->dirty_count++] = (uint16_t)partition;
    }
}

static void weigh_variants(struct rml_lane_out *out)
{
    enum rml_ring_variant variant = rml_trial_note(&out->trial, out->carried_bytes, now_ns());
    out->carried_bytes = 0;
    if (variant != out->parts[0].ring.variant)
        choose(out, variant);
}

static void note_positions(const struct rml_lane_out *out, uint64_t *positions)
{
    for (uint32_t p = 0; positions != NULL && p < out->lane.geometry.partitions; p++)
        positions[p] = out->parts[p].ring.published;
}

void rml_lane_out_publish(struct rml_lane_out *out)
{
    if (out->dirty_count == 0)
        return;
    uint64_t workers = 0;
    for (uint32_t i = 0; i < out->dirty_count; i++) {
        uint32_t p = out->dirty[i];
        struct part *part = &out->parts[p];
        if (part->mark_cells != NULL)
            // release: lane.marks
            atomic_store_explicit(&out->lane.lines[p].marks, part->marks, memory_order_release);
        rml_ring_publish(&part->ring);
        part->dirty = false;
        workers |= 1ull << out->lane.geometry.worker_of[p];
    }
    out->dirty_count = 0;
    out->put_count = 0;
    uint64_t word = rml_lane_time_word(out->time);
    // release: lane.time
    atomic_store_explicit(&out->lane.lines->time, word, memory_order_release);
    out->publishes++;
    // total order: before the look at who sleeps
    atomic_store_explicit(&out->lane.lines->publishes, out->publishes, memory_order_seq_cst);
    rml_ringing_ring(&out->lane.ringing, workers, out->lane.geometry.grid, out->published_time,
                     out->time);
    out->published_time = out->time;
    rml_attached_look(&out->lane);
    out->lane.detached = out->lane.detached || rml_knock_is_gone(&out->lane.knock);
    out->published_records = out->counts.committed;
    if (out->durable.positions != NULL)
        note_positions(out, rml_durable_publish(&out->durable, out->published_records));
    if (!out->forced && out->claims == 0 && out->carried_bytes >= RML_TRIAL_LOOK_BYTES)
        weigh_variants(out);
}

int rml_lane_out_put(struct rml_lane_out *out, const void *record)
{
    uint32_t partition = rml_route(&out->lane.geometry, out->lane.route, record);
    void *cell;
    int32_t run = rml_lane_out_claim(out, partition, 1, &cell);
    if (run == 0)
        rml_lane_out_drop(out, 1);
    if (run <= 0)
        return run;
    memcpy(cell, record, out->lane.geometry.cell_bytes);
    rml_lane_out_commit(out, partition, 1);
    if (++out->put_count >= out->publish_every)
        rml_lane_out_publish(out);
    return 1;
}

void rml_lane_out_drop(struct rml_lane_out *out, uint64_t records)
{
    out->dropped += records;
    // relaxed: a statistic, ordered with nothing
    atomic_store_explicit(&out->lane.lines->dropped, out->dropped, memory_order_relaxed);
}

/* What is durable of a partition, as the engine tells it: 0 or -EPROTO. */
static int look_at_durable(const struct rml_lane_out *out, uint32_t partition,
                           uint64_t *ret_position)
{
    const _Atomic uint64_t *word = &out->return_lines[partition].durable;
    // total order: after the producer's word that it sleeps, before it does
    uint64_t position = atomic_load_explicit(word, memory_order_seq_cst);
    if ((int64_t)(out->parts[partition].ring.published - position) < 0)
        return -EPROTO;
    *ret_position = position;
    return 0;
}

int rml_lane_out_durable(struct rml_lane_out *out, uint64_t *ret_records)
{
    uint64_t positions[RML_LANE_PARTITIONS_MAX];
    if (out->lane.geometry.durable == RML_LANE_DURABLE_NEVER)
        return -ENOTSUP;
    if (out->durable.positions == NULL) {
        uint64_t known = out->durable.known;  // from a wait
        int rc = rml_durable_open(&out->durable, out->lane.geometry.partitions);
        if (rc < 0)
            return rc;
        out->durable.known = known;
    }
    for (uint32_t p = 0; p < out->lane.geometry.partitions; p++) {
        int rc = look_at_durable(out, p, &positions[p]);
        if (rc < 0)
            return rc;
    }
    *ret_records = rml_durable_look(&out->durable, positions);
    uint64_t *last = rml_durable_note_last(&out->durable, out->published_records);
    note_positions(out, last);
    if (last != NULL)
        *ret_records = rml_durable_look(&out->durable, positions);
    return 0;
}

// Is the partition's ring durable as far as it is published? 1, 0 or -EPROTO.
static int is_durable(const struct rml_lane_out *out, uint32_t partition)
{
    uint64_t position;
    int rc = look_at_durable(out, partition, &position);
    return rc < 0 ? rc : position == out->parts[partition].ring.published;
}

/* As wait_asleep, for what is durable. Who was detached still waits: what it had published is taken. */
static int wait_durable_asleep(struct rml_lane_out *out, uint32_t partition,
                               struct rml_knock *knock, int64_t until_ns)
{
    uint64_t position = out->parts[partition].ring.published;
    // relaxed: `waiting` orders it
    atomic_store_explicit(&out->lane.lines->room_at, position, memory_order_relaxed);
    out->turn++;
    uint64_t waiting = RML_LANE_WAIT(out->turn, partition) | RML_LANE_WAIT_DURABLE;
    // total order: before the look at `durable`
    atomic_store_explicit(&out->lane.lines->waiting, waiting, memory_order_seq_cst);
    int gone = 0, durable;
    for (;;) {
        durable = is_durable(out, partition);
        if (durable != 0 || gone < 0)
            break;
        gone = rml_knock_wait(knock, until_ns);  // and then one more look
    }
    // relaxed: at worst one more knock
    atomic_store_explicit(&out->lane.lines->waiting, 0, memory_order_relaxed);
    return durable != 0 ? durable : gone;
}

// 1, or an error.
static int wait_durable_of(struct rml_lane_out *out, uint32_t partition, struct rml_knock *knock,
                           int64_t until_ns)
{
    int durable = is_durable(out, partition);
    if (durable != 0)
        return durable;
    for (uint32_t looks = 0; looks < out->durable_spin; looks++) {
        rml_pause();
        if (looks % 64 == 63)
            sched_yield();  // the engine may need this very core
        durable = is_durable(out, partition);
        if (durable == 0)
            continue;
        out->durable_spin = out->durable_spin < SPIN_MOST ? out->durable_spin * 2 : SPIN_MOST;
        return durable;
    }
    out->durable_spin = out->durable_spin > SPIN_LEAST ? out->durable_spin / 2 : SPIN_LEAST;
    return wait_durable_asleep(out, partition, knock, until_ns);
}

int rml_lane_out_wait_durable(struct rml_lane_out *out, int64_t wait_ns)
{
    if (out->lane.geometry.durable == RML_LANE_DURABLE_NEVER)
        return -ENOTSUP;
    rml_lane_out_publish(out);
    struct rml_knock knock = out->lane.knock;
    if (wait_ns != 0)
        knock.wait_max_ns = wait_ns;
    int64_t until_ns = rml_knock_until(&knock);
    int rc = 1;
    for (uint32_t p = 0; rc > 0 && p < out->lane.geometry.partitions; p++)
        rc = wait_durable_of(out, p, &knock, until_ns);
    out->lane.knock.waits = knock.waits;
    if (rc < 0)
        return rc;
    rml_durable_are_all(&out->durable, out->published_records);  // and stay so to who asks
    return 0;
}

int rml_lane_out_state(const struct rml_lane_out *out, uint32_t *ret_code, char *text)
{
    return rml_attached_state(&out->lane, ret_code, text);
}

void rml_lane_out_counts(const struct rml_lane_out *out, struct rml_lane_out_counts *ret_counts)
{
    *ret_counts = out->counts;
    ret_counts->dropped = out->dropped;
    ret_counts->waits = out->lane.knock.waits;
    ret_counts->rings = out->lane.ringing.rings;
    ret_counts->variant = (uint32_t)out->parts[0].ring.variant;
    ret_counts->trials = out->trial.trials;
    for (uint32_t p = 0; p < out->lane.geometry.partitions; p++) {
        ret_counts->published += out->parts[p].ring.published;
        _Atomic uint64_t *released = &out->return_lines[p].released;
        // relaxed: a statistic, ordered with nothing
        ret_counts->released += atomic_load_explicit(released, memory_order_relaxed);
    }
}
