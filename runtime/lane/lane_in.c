#include "runtime/lane/lane_in.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "runtime/base/check.h"
#include "runtime/base/err.h"
#include "runtime/lane/confluence.h"
#include "runtime/lane/layout.h"
#include "runtime/ring/stream.h"
#include "runtime/segment/segment.h"

/* What one thread at a time uses of a partition: apart from the next by two lines. */
struct part {
    alignas(2 * RML_RING_LINE) struct rml_ring_in ring;  // of a shared lane: its log
    struct rml_confluence *confluence;                   // NULL: the lane is exclusive
    struct rml_lane_mark_cell *marks;  // NULL: an exclusive lane of one partition has none
    const _Atomic uint64_t *mark_total;
    uint64_t end;  // of an exclusive lane that ends
    uint64_t marks_taken;
    int64_t mark_time;              // of the last mark taken
    const struct rml_mark *peeked;  // the caller's, from the last peek to its take
    uint32_t peeked_count;          // of them
    bool evict;                     // the producer asked for RML_RING_FLUSH
    struct rml_lane_return_line *line;
    uint64_t knocked_for;  // the producer's `waiting` that was answered last
};

struct rml_lane_in {
    struct rml_lane_geometry geometry;
    struct rml_segment records, returns;
    struct rml_lane_fds fds;
    int door;  // our end of the socket pair whose other end is fds.room
    bool can_evict;
    struct rml_lane_record_line *lane;  // line 0, for the lane-wide words
    struct rml_lane_sleep_line *sleepers;
    struct rml_lane_owners owners;  // of a shared lane
    struct rml_confluence_lane confluence_lane;
    struct rml_confluence *confluences;
    struct part parts[];
};

static bool is_shared(const struct rml_lane_in *in)
{
    return in->geometry.owners > 0;
}

// Of the ring that is taken from.
static uint32_t cells_of(const struct rml_lane_in *in)
{
    return is_shared(in) ? in->geometry.log_cells : in->geometry.cells;
}

static int open_fds(struct rml_lane_in *in, struct rml_err *err)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0) {
        int rc = -errno;
        return RML_FAIL(err, rc, "socketpair: %s", strerrordesc_np(-rc));
    }
    in->door = pair[0];
    in->fds.room = pair[1];
    in->fds.records = in->records.fd;
    in->fds.returns = in->returns.fd;
    for (uint32_t w = 0; w < in->geometry.workers; w++) {
        in->fds.wake[w] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (in->fds.wake[w] < 0) {
            int rc = -errno;
            return RML_FAIL(err, rc, "eventfd: %s", strerrordesc_np(-rc));
        }
    }
    return 0;
}

// The words of a shared ring are written by both sides.
static int map_writable(struct rml_lane_in *in, struct rml_err *err)
{
    struct rml_segment writable;
    int rc = rml_segment_attach(&writable, in->records.fd, in->records.bytes, true, err);
    if (rc < 0)
        return rc;
    munmap(in->records.memory, in->records.bytes);
    in->records.memory = writable.memory;
    return 0;
}

static int open_segments(struct rml_lane_in *in, const char *name, struct rml_err *err)
{
    char label[96];
    snprintf(label, sizeof label, "ringmill:%s:records", name);
    int rc =
        rml_segment_open_theirs(&in->records, label, rml_lane_records_bytes(&in->geometry), err);
    if (rc == 0 && is_shared(in))
        rc = map_writable(in, err);
    if (rc < 0)
        return rc;
    snprintf(label, sizeof label, "ringmill:%s:returns", name);
    return rml_segment_make_ours(&in->returns, label, rml_lane_returns_bytes(&in->geometry), err);
}

static struct rml_ring_place place_of(struct rml_lane_in *in, uint32_t partition)
{
    struct rml_lane_layout layout = rml_lane_layout(&in->geometry);
    struct rml_ring_place place = {
        .shape = {.cell_bytes = in->geometry.cell_bytes, .cell_count = cells_of(in)},
        .released = &rml_lane_return_lines(in->returns.memory)[partition].released,
    };
    if (is_shared(in)) {
        place.cells = rml_lane_cells(in->returns.memory, &layout, partition);
        place.published = &rml_lane_log_lines(in->returns.memory, &layout)[partition].end;
    } else {
        place.cells = rml_lane_cells(in->records.memory, &layout, partition);
        place.published = &rml_lane_record_lines(in->records.memory)[partition].published;
    }
    return place;
}

static int open_confluences(struct rml_lane_in *in)
{
    RML_CHECK(in->geometry.partitions > 0);
    in->confluences = calloc(in->geometry.partitions, sizeof *in->confluences);
    if (in->confluences == NULL)
        return -ENOMEM;
    int rc =
        rml_lane_owners_open(&in->owners, &in->geometry, in->records.memory, in->returns.memory);
    in->confluence_lane = (struct rml_confluence_lane){.geometry = &in->geometry,
                                                       .layout = rml_lane_layout(&in->geometry),
                                                       .records = in->records.memory,
                                                       .returns = in->returns.memory,
                                                       .doors = in->owners.doors};
    for (uint32_t p = 0; rc == 0 && p < in->geometry.partitions; p++) {
        struct part *part = &in->parts[p];
        part->confluence = &in->confluences[p];
        // What an engine that died left there and cannot be, is found again by the first peek.
        rc = rml_confluence_open(part->confluence, &in->confluence_lane, p);
        rc = rc == -EPROTO ? 0 : rc;
        part->mark_total = &part->confluence->line->marks;
        part->marks = part->confluence->marks;
    }
    return rc;
}

static int open_parts(struct rml_lane_in *in)
{
    struct rml_lane_layout layout = rml_lane_layout(&in->geometry);
    in->lane = rml_lane_record_lines(in->records.memory);
    in->sleepers = rml_lane_sleep_lines(in->returns.memory, in->geometry.partitions);
    for (uint32_t p = 0; p < in->geometry.partitions; p++) {
        struct part *part = &in->parts[p];
        part->line = &rml_lane_return_lines(in->returns.memory)[p];
        part->mark_time = RML_TIME_NONE;
        part->mark_total = &in->lane[p].marks;
        if (!is_shared(in) && in->geometry.partitions > 1)
            part->marks = rml_lane_marks(in->records.memory, &layout, p);
    }
    return is_shared(in) ? open_confluences(in) : 0;
}

static struct rml_lane_in *new_lane(const struct rml_lane_geometry *geometry)
{
    size_t bytes = sizeof(struct rml_lane_in) + geometry->partitions * sizeof(struct part);
    struct rml_lane_in *in = aligned_alloc((size_t)2 * RML_RING_LINE, (bytes + 127) / 128 * 128);
    if (in == NULL)
        return NULL;
    memset(in, 0, bytes);
    in->geometry = *geometry;
    in->records = in->returns = RML_SEGMENT_CLOSED;
    in->door = -1;
    in->can_evict = rml_evict_able();
    rml_lane_fds_init(&in->fds);
    return in;
}

int rml_lane_in_make(struct rml_lane_in **ret_in, const struct rml_lane_geometry *geometry,
                     const char *name, uint64_t epoch, struct rml_err *err)
{
    int rc = rml_lane_geometry_check(geometry, err);
    if (rc < 0)
        return RML_WRAP(err, rc, "lane %s", name);

    struct rml_lane_in *in = new_lane(geometry);
    if (in == NULL)
        return RML_FAIL(err, -ENOMEM, "lane %s: no memory", name);

    rc = open_segments(in, name, err);
    if (rc == 0)
        rc = open_fds(in, err);
    if (rc == 0 && open_parts(in) < 0)
        rc = RML_FAIL(err, -ENOMEM, "no memory");
    if (rc < 0) {
        rml_lane_in_close(in);
        return RML_WRAP(err, rc, "lane %s", name);
    }
    for (uint32_t p = 0; p < geometry->partitions; p++) {
        const struct rml_ring_place place = place_of(in, p);
        RML_CHECK(rml_ring_attach_in(&in->parts[p].ring, &place) == 0);  // new, so all zero
    }
    rml_lane_return_head(in->returns.memory)->epoch = epoch;
    *ret_in = in;
    return 0;
}

int rml_lane_in_seal(const struct rml_lane_in *in, struct rml_err *err)
{
    return rml_segment_seal_ours(&in->returns, err);
}

int rml_lane_in_open(struct rml_lane_in **ret_in, const struct rml_lane_geometry *geometry,
                     const char *name, uint64_t epoch, struct rml_err *err)
{
    struct rml_lane_in *in;
    int rc = rml_lane_in_make(&in, geometry, name, epoch, err);
    if (rc < 0)
        return rc;
    rc = rml_lane_in_seal(in, err);
    if (rc < 0) {
        rml_lane_in_close(in);
        return RML_WRAP(err, rc, "lane %s", name);
    }
    *ret_in = in;
    return 0;
}

void rml_lane_in_kept(const struct rml_lane_in *in, int *fds)
{
    fds[0] = in->fds.returns;
    fds[1] = in->fds.records;
    fds[2] = in->door;
    fds[3] = in->fds.room;
    memcpy(fds + 4, in->fds.wake, in->geometry.workers * sizeof *fds);
}

static void take_over(struct rml_lane_in *in, const int *fds, void *returns)
{
    in->fds.returns = fds[0];
    in->fds.records = fds[1];
    in->door = fds[2];
    in->fds.room = fds[3];
    memcpy(in->fds.wake, fds + 4, in->geometry.workers * sizeof *fds);
    in->records.fd = fds[1];
    in->returns = (struct rml_segment){
        .fd = fds[0], .memory = returns, .bytes = rml_lane_returns_bytes(&in->geometry)};
}

// A worker that died asleep wakes up: whoever rang for that sleep rings again for the next.
static void wake_all(const struct rml_lane_in *in)
{
    for (uint32_t w = 0; w < in->geometry.workers; w++) {
        _Atomic uint64_t *sleeps = &in->sleepers[w].sleeps;
        // relaxed: written by one that is dead
        uint64_t count = atomic_load_explicit(sleeps, memory_order_relaxed);
        // total order: before the worker's look at `publishes`, as when it wakes
        atomic_store_explicit(sleeps, count + (count & 1), memory_order_seq_cst);
    }
}

/*
 * The first of the marks there are that stands at `position` or behind. They ascend, and one that stands
 * at a cell which was not released is one of the last so many as there are cells; a producer that
 * writes other things there is found out when they are peeked at.
 */
static void find_mark(const struct rml_lane_in *in, struct part *part, uint64_t position)
{
    uint32_t cells = cells_of(in);
    // acquire: lane.marks
    uint64_t there = atomic_load_explicit(part->mark_total, memory_order_acquire);
    part->marks_taken = there;
    part->mark_time = RML_TIME_NONE;
    while (part->marks_taken > 0 && there - part->marks_taken < cells) {
        const struct rml_lane_mark_cell *before =
            &part->marks[(part->marks_taken - 1) & (cells - 1)];
        // relaxed: lane.marks ordered it
        uint64_t at = atomic_load_explicit(&before->position, memory_order_relaxed);
        if ((int64_t)(at - position) < 0) {
            // relaxed: likewise
            part->mark_time = atomic_load_explicit(&before->time, memory_order_relaxed);
            return;
        }
        part->marks_taken--;
    }
}

static int begin_at(struct rml_lane_in *in, uint32_t partition, uint64_t position)
{
    struct part *part = &in->parts[partition];
    const struct rml_ring_place place = place_of(in, partition);
    int rc = rml_ring_resume_in(&part->ring, &place, position);
    if (rc == 0 && part->marks != NULL)
        find_mark(in, part, position);
    return rc;
}

int rml_lane_in_adopt(struct rml_lane_in **ret_in, const struct rml_lane_geometry *geometry,
                      const int *fds, void *returns, struct rml_err *err)
{
    struct rml_lane_in *in = new_lane(geometry);
    if (in == NULL)
        return RML_FAIL(err, -ENOMEM, "no memory for a lane");
    take_over(in, fds, returns);
    int rc = rml_segment_seal_ours(&in->returns, err);
    if (rc == 0)
        rc = rml_segment_again_theirs(&in->records, fds[1], rml_lane_records_bytes(geometry), err);
    if (rc == 0 && is_shared(in))
        rc = map_writable(in, err);
    if (rc == 0 && open_parts(in) < 0)
        rc = RML_FAIL(err, -ENOMEM, "no memory for a lane");
    if (rc < 0) {
        in->records.fd = fds[1];
        rml_lane_in_close(in);
        return rc;
    }
    wake_all(in);
    for (uint32_t p = 0; p < geometry->partitions; p++) {
        _Atomic uint64_t *word = &in->parts[p].line->released;
        // relaxed: written by one that is dead
        uint64_t released = atomic_load_explicit(word, memory_order_relaxed);
        RML_CHECK(begin_at(in, p, released) == 0);
    }
    *ret_in = in;
    return 0;
}

static void knock(const struct rml_lane_in *in)
{
    // Full: a knock is waiting to be heard. Closed: nobody is there to hear it. Both are fine.
    (void)send(in->door, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}

// A position has moved that the producer may wait for: of room, or of what is durable (`flag`).
static void answer(const struct rml_lane_in *in, struct part *part, uint64_t flag,
                   uint64_t position)
{
    // total order: after the position was stored, against the producer's word and look
    uint64_t waiting = atomic_load_explicit(&in->lane->waiting, memory_order_seq_cst);
    uint32_t partition = (uint32_t)(part - in->parts);
    if (RML_LANE_WAIT_PARTITION(waiting) != partition + 1
        || (waiting & RML_LANE_WAIT_DURABLE) != flag || waiting == part->knocked_for)
        return;
    // relaxed: stored before `waiting`, whose store was just read
    uint64_t room_at = atomic_load_explicit(&in->lane->room_at, memory_order_relaxed);
    if ((int64_t)(position - room_at) < 0)
        return;
    part->knocked_for = waiting;
    knock(in);
}

// Whoever died may have said so much, and not knocked; and nobody would say it again.
static void answer_for_the_dead(const struct rml_lane_in *in, struct part *part)
{
    // relaxed: written by one that is dead
    uint64_t durable = atomic_load_explicit(&part->line->durable, memory_order_relaxed);
    answer(in, part, 0, part->ring.released);
    answer(in, part, RML_LANE_WAIT_DURABLE, durable);
}

int rml_lane_in_go_on(struct rml_lane_in *in, uint32_t partition, uint64_t position)
{
    RML_CHECK(partition < in->geometry.partitions);
    int rc = begin_at(in, partition, position);
    if (rc == 0) {
        // relaxed: a statistic, ordered with nothing
        atomic_store_explicit(&in->parts[partition].line->taken, position, memory_order_relaxed);
        if (!is_shared(in))
            answer_for_the_dead(in, &in->parts[partition]);
    }
    return rc;
}

int rml_lane_in_is_detached(const struct rml_lane_in *in)
{
    const _Atomic uint32_t *state = &rml_lane_return_head(in->returns.memory)->state;
    // relaxed: our own word
    return atomic_load_explicit(state, memory_order_relaxed) != RML_LANE_ATTACHED;
}

void rml_lane_in_close(struct rml_lane_in *in)
{
    if (in == NULL)
        return;
    in->fds.records = in->fds.returns = -1;  // the segments' own
    rml_lane_fds_close(&in->fds);
    if (in->door >= 0)
        close(in->door);
    for (uint32_t p = 0; in->confluences != NULL && p < in->geometry.partitions; p++)
        rml_confluence_close(&in->confluences[p]);
    free(in->confluences);
    rml_lane_owners_close(&in->owners);
    rml_segment_close(&in->returns);
    rml_segment_close(&in->records);
    free(in);
}

const struct rml_lane_fds *rml_lane_in_fds(const struct rml_lane_in *in)
{
    return &in->fds;
}

const struct rml_lane_geometry *rml_lane_in_geometry(const struct rml_lane_in *in)
{
    return &in->geometry;
}

static struct part *part_of(struct rml_lane_in *in, uint32_t partition)
{
    RML_CHECK(partition < in->geometry.partitions);
    return &in->parts[partition];
}

/*
 * Copy the marks that fall into the `rows` cells from `taken` on. Each is read once, and believed
 * only if rows and times ascend. Returns how many, or -EPROTO.
 */
static int32_t peek_marks(const struct rml_lane_in *in, const struct part *part, uint32_t rows,
                          struct rml_mark *marks)
{
    uint32_t cells = cells_of(in);
    // acquire: lane.marks
    uint64_t there = atomic_load_explicit(part->mark_total, memory_order_acquire);
    if (there - part->marks_taken > cells)
        return -EPROTO;

    uint64_t row_least = 0;
    int64_t time_before = part->mark_time;
    uint32_t count = 0;
    for (uint64_t m = part->marks_taken; m != there; m++) {
        const struct rml_lane_mark_cell *cell = &part->marks[m & (cells - 1)];
        // relaxed: lane.marks ordered it, and a hostile producer's value is checked below
        uint64_t position = atomic_load_explicit(&cell->position, memory_order_relaxed);
        // relaxed: likewise
        int64_t time = atomic_load_explicit(&cell->time, memory_order_relaxed);
        uint64_t row = position - part->ring.taken;
        if (row >= rows && row <= cells)
            break;  // belongs to a later run
        if (row < row_least || row >= rows || time <= time_before)
            return -EPROTO;
        marks[count++] = (struct rml_mark){.row = (uint32_t)row, .time = time};
        row_least = row + 1;
        time_before = time;
    }
    return (int32_t)count;
}

// Before the ring is looked at, the lane's time has to be read.
static int64_t look_at_lane(struct rml_lane_in *in, struct part *part)
{
    // relaxed: a wish, ordered with nothing
    uint32_t variant = atomic_load_explicit(&in->lane->variant, memory_order_relaxed);
    part->evict = variant == RML_RING_FLUSH && in->can_evict;
    return rml_lane_in_time(in);
}

int32_t rml_lane_in_peek(struct rml_lane_in *in, uint32_t partition, uint32_t want,
                         struct rml_mark *marks, struct rml_lane_run *ret_run)
{
    struct part *part = part_of(in, partition);
    int64_t time = RML_TIME_NONE;
    if (part->confluence != NULL) {
        RML_CHECK(rml_ring_look(&part->ring) == 0);  // our own log
        // What is in the log can be had whatever producers do to their ring.
        if (part->ring.published - part->ring.taken < want
            && rml_confluence_more(part->confluence, want) < 0)
            return -EPROTO;
    } else if (part->ring.published - part->ring.taken < want) {
        time = look_at_lane(in, part);
    }

    const void *records;
    int32_t rows = rml_ring_peek(&part->ring, want, &records);
    if (rows < 0)
        return rows;
    int32_t mark_count = 0;
    if (part->marks != NULL && rows > 0) {
        mark_count = peek_marks(in, part, (uint32_t)rows, marks);
        if (mark_count < 0)
            return mark_count;
    }
    part->peeked = marks;
    part->peeked_count = (uint32_t)mark_count;
    bool is_all = (uint64_t)rows == part->ring.published - part->ring.taken;
    if (part->confluence != NULL)
        time = rml_confluence_vouches(part->confluence, part->ring.taken + (uint32_t)rows);
    *ret_run = (struct rml_lane_run){.records = records,
                                     .rows = (uint32_t)rows,
                                     .mark_count = (uint32_t)mark_count,
                                     .vouches = is_all ? time : RML_TIME_NONE};
    return rows;
}

int rml_lane_in_peek_again(struct rml_lane_in *in, uint32_t partition, uint32_t want,
                           struct rml_mark *marks, struct rml_lane_run *ret_run)
{
    struct part *part = part_of(in, partition);
    const void *records;
    int rc = rml_ring_peek_again(&part->ring, want, &records);
    if (rc < 0)
        return rc;
    int32_t mark_count = part->marks != NULL ? peek_marks(in, part, want, marks) : 0;
    part->peeked = marks;
    part->peeked_count = mark_count > 0 ? (uint32_t)mark_count : 0;
    *ret_run = (struct rml_lane_run){.records = records,
                                     .rows = want,
                                     .mark_count = part->peeked_count,
                                     .vouches = RML_TIME_NONE};
    return 0;
}

uint64_t rml_lane_in_position(const struct rml_lane_in *in, uint32_t partition)
{
    RML_CHECK(partition < in->geometry.partitions);
    return in->parts[partition].ring.taken;
}

void rml_lane_in_take(struct rml_lane_in *in, uint32_t partition, uint32_t rows)
{
    struct part *part = part_of(in, partition);
    rml_ring_take(&part->ring, rows);
    for (; part->peeked_count > 0 && part->peeked->row < rows; part->peeked_count--) {
        part->mark_time = part->peeked->time;
        part->marks_taken++;
        part->peeked++;
    }
    part->peeked_count = 0;  // rows count from a new beginning at the next peek
    if (part->evict)
        rml_ring_evict(&part->ring, rows);
    // relaxed: a statistic, ordered with nothing
    atomic_store_explicit(&part->line->taken, part->ring.taken, memory_order_relaxed);
}

void rml_lane_in_release(struct rml_lane_in *in, uint32_t partition, uint32_t rows)
{
    struct part *part = part_of(in, partition);
    if (part->confluence != NULL) {
        rml_ring_release(&part->ring, rows);  // in the log; who waits, waits for room in the ring
        return;
    }
    rml_ring_release_total(&part->ring, rows);
    answer(in, part, 0, part->ring.released);
}

void rml_lane_in_durable(struct rml_lane_in *in, uint32_t partition, uint64_t position)
{
    struct part *part = part_of(in, partition);
    // relaxed: written by this thread
    uint64_t before = atomic_load_explicit(&part->line->durable, memory_order_relaxed);
    if ((int64_t)(position - before) <= 0)
        return;
    // total order: before the look for a producer that waits for it
    atomic_store_explicit(&part->line->durable, position, memory_order_seq_cst);
    if (part->confluence == NULL)  // positions of a log mean nothing to producers
        answer(in, part, RML_LANE_WAIT_DURABLE, position);
}

void rml_lane_in_all_durable(struct rml_lane_in *in)
{
    for (uint32_t p = 0; p < in->geometry.partitions; p++)
        rml_lane_in_durable(in, p, in->parts[p].ring.taken);
}

int rml_lane_in_is_drained(struct rml_lane_in *in, uint32_t partition)
{
    struct part *part = part_of(in, partition);
    int rc = rml_ring_look(&part->ring);
    return rc < 0 ? rc : part->ring.published == part->ring.taken;
}

int64_t rml_lane_in_time(const struct rml_lane_in *in)
{
    // acquire: lane.time
    return rml_lane_word_time(atomic_load_explicit(&in->lane->time, memory_order_acquire));
}

uint64_t rml_lane_in_publishes(const struct rml_lane_in *in)
{
    // total order: after the worker's word that it sleeps, before it does
    return atomic_load_explicit(&in->lane->publishes, memory_order_seq_cst);
}

// Odd while asleep; both callers know the value, for they alone write it.
static void set_asleep(struct rml_lane_in *in, uint32_t worker, bool asleep)
{
    RML_CHECK(worker < in->geometry.workers);
    _Atomic uint64_t *sleeps = &in->sleepers[worker].sleeps;
    // relaxed: this thread is the only writer
    uint64_t count = atomic_load_explicit(sleeps, memory_order_relaxed);
    RML_CHECK((count & 1) == !asleep);
    // total order: before the worker's second look at `publishes`
    atomic_store_explicit(sleeps, count + 1, memory_order_seq_cst);
}

void rml_lane_in_sleep_begin(struct rml_lane_in *in, uint32_t worker)
{
    set_asleep(in, worker, true);
}

void rml_lane_in_sleep_end(struct rml_lane_in *in, uint32_t worker)
{
    set_asleep(in, worker, false);
    uint64_t rings;
    struct iovec into = {.iov_base = &rings, .iov_len = sizeof rings};
    // Whether it was rung does not matter; that this call cannot wait does (layout.h, TRUST).
    ssize_t got = preadv2(in->fds.wake[worker], &into, 1, -1, RWF_NOWAIT);
    (void)got;
}

void rml_lane_in_detach(struct rml_lane_in *in, uint32_t code, const char *text)
{
    struct rml_lane_return_head *head = rml_lane_return_head(in->returns.memory);
    head->code = code;
    snprintf(head->text, sizeof head->text, "%s", text);
    // total order: before a look at `publishes`; a publish that this look misses sees the state
    atomic_store_explicit(&head->state, RML_LANE_DETACHED, memory_order_seq_cst);
    if (is_shared(in))
        rml_lane_owners_knock(&in->owners);
    else
        knock(in);
}

void rml_lane_in_end(struct rml_lane_in *in, uint32_t partition)
{
    struct part *part = part_of(in, partition);
    // A producer that was cut off and still publishes: either it is seen here, or it sees that it was.
    (void)rml_lane_in_publishes(in);
    if (part->confluence != NULL) {
        rml_confluence_last(part->confluence);
        return;
    }
    // relaxed: what it published before was acquired above
    part->end = atomic_load_explicit(&in->lane[partition].published, memory_order_relaxed);
}

uint64_t rml_lane_in_final(const struct rml_lane_in *in, uint32_t partition)
{
    RML_CHECK(partition < in->geometry.partitions);
    const struct part *part = &in->parts[partition];
    if (part->confluence == NULL)
        return part->end;
    if (!rml_confluence_is_over(part->confluence))
        return RML_LANE_NO_END;
    // relaxed: written by this thread
    return atomic_load_explicit(part->ring.place.published, memory_order_relaxed);
}

struct rml_lane_owners *rml_lane_in_owners(struct rml_lane_in *in)
{
    return is_shared(in) ? &in->owners : NULL;
}

void rml_lane_in_watch(struct rml_lane_in *in, int64_t idle_after_ns, int64_t max_ahead_ns,
                       const struct rml_clock *clock)
{
    in->confluence_lane.idle_after_ns = idle_after_ns;
    in->confluence_lane.max_ahead_ns = max_ahead_ns;
    in->confluence_lane.clock = clock;
}

uint64_t rml_lane_in_seen(const struct rml_lane_in *in, uint32_t partition)
{
    RML_CHECK(partition < in->geometry.partitions && is_shared(in));
    // relaxed: written by this thread
    return atomic_load_explicit(&in->confluences[partition].line->seen, memory_order_relaxed);
}

const char *rml_lane_in_fault(const struct rml_lane_in *in)
{
    const char *fault = NULL;
    for (uint32_t p = 0; in->confluences != NULL && p < in->geometry.partitions && fault == NULL;
         p++)
        fault = rml_confluence_fault(&in->confluences[p]);
    return fault;
}

void rml_lane_in_partition_counts(const struct rml_lane_in *in, uint32_t partition,
                                  struct rml_lane_counts *ret_counts)
{
    RML_CHECK(partition < in->geometry.partitions);
    const struct rml_lane_return_line *line = in->parts[partition].line;
    const _Atomic uint64_t *there = in->parts[partition].ring.place.published;
    // relaxed: statistics, ordered with nothing
    uint64_t published = atomic_load_explicit(there, memory_order_relaxed);
    // relaxed: likewise
    uint64_t taken = atomic_load_explicit(&line->taken, memory_order_relaxed);
    // relaxed: likewise
    uint64_t released = atomic_load_explicit(&line->released, memory_order_relaxed);
    // relaxed: likewise
    uint64_t dropped = atomic_load_explicit(&in->lane->dropped, memory_order_relaxed);
    // relaxed: likewise
    uint32_t variant = atomic_load_explicit(&in->lane->variant, memory_order_relaxed);
    *ret_counts = (struct rml_lane_counts){
        .published = published,
        .taken = taken,
        .released = released,
        .dropped = dropped,
        .variant = variant < RML_RING_VARIANTS ? (enum rml_ring_variant)variant : RML_RING_PLAIN};
    if (!is_shared(in))
        return;
    const struct rml_lane_log_line *log = in->confluences[partition].line;
    // relaxed: likewise
    ret_counts->tombstones = atomic_load_explicit(&log->tombstones, memory_order_relaxed);
    // relaxed: likewise
    ret_counts->passed = atomic_load_explicit(&log->passed, memory_order_relaxed);
}

void rml_lane_in_counts(const struct rml_lane_in *in, struct rml_lane_counts *ret_counts)
{
    struct rml_lane_counts sum;
    rml_lane_in_partition_counts(in, 0, &sum);
    for (uint32_t p = 1; p < in->geometry.partitions; p++) {
        struct rml_lane_counts one;
        rml_lane_in_partition_counts(in, p, &one);
        sum.published += one.published;
        sum.taken += one.taken;
        sum.released += one.released;
        sum.tombstones += one.tombstones;
        sum.passed += one.passed;
    }
    *ret_counts = sum;
}
