/*
 * A lane that several producers share, one of whom writes what he likes, where he likes: into words and cells
 * of the rings, their tails, the others' clocks, what is counted and waited for; and who punches holes. In
 * between an honest one publishes, producers come, leave, are lost and die, and engines die with the lane
 * half taken. Runs are short enough for the log, their marks ascend, what was in the log is there
 * as it was for the next engine; or the answer is -EPROTO, and a sentence says why. Beside it lies a lane that
 * nobody misuses, of which every record comes, once and in order.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "runtime/base/check.h"
#include "runtime/lane/lane_in.h"
#include "runtime/lane/layout.h"
#include "runtime/lane/share_out.h"
#include "runtime/segment/segment.h"

#define CELLS     8u
#define LOG_CELLS 8u
#define OWNERS    3u
#define WANT_MAX  16u
#define STEP_SIZE 12u  // what, where, how, and a word
#define KEPT      RML_LANE_KEPT_FDS(1)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct record {
    int64_t time;
    uint64_t sequence;
};

struct lane {
    struct rml_lane_geometry geometry;
    struct rml_lane_layout layout;
    struct rml_lane_in *in;
    void *kept;                      // the returns, as a keeper maps them
    struct rml_segment records;      // as a producer maps them
    int knocks[2];                   // an honest producer's connection
    struct rml_share_out *out;       // its end; NULL: it is gone
    uint32_t owner, others[OWNERS];  // numbers that were given out; 0: none
    uint64_t position[2], released[2], end[2];
    struct record log[2][LOG_CELLS];  // what was seen there, from `released` to `end`
    bool asleep;
};

static int64_t present = 1000;

static int64_t now(void *context)
{
    (void)context;
    return present;
}

static const struct rml_clock still = {.wall_ns = now, .monotonic_ns = now};

static void map_again(struct lane *lane)
{
    lane->kept = mmap(NULL, lane->layout.returns_bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
                      rml_lane_in_fds(lane->in)->returns, 0);
    RML_CHECK(lane->kept != MAP_FAILED);
}

static void join(struct lane *lane)
{
    if (lane->out != NULL
        || rml_lane_owners_add(rml_lane_in_owners(lane->in), lane->knocks[0], &lane->owner) < 0)
        return;
    RML_CHECK(rml_share_out_open(&lane->out, &lane->geometry, rml_lane_in_fds(lane->in),
                                 lane->knocks[1], lane->owner, NULL)
              == 0);
    rml_share_out_wait_max(lane->out, 0);
}

static void open_lane(struct lane *lane, uint8_t shape)
{
    *lane = (struct lane){
        .geometry = {.partitions = 1 + (shape & 1),
                     .workers = 1,
                     .cells = CELLS,
                     .cell_bytes = sizeof(struct record),
                     .on_full = (shape & 2) != 0 ? RML_LANE_DROP_NEWEST : RML_LANE_BLOCK,
                     .owners = OWNERS,
                     .log_cells = LOG_CELLS,
                     .grid = {.granule_ns = 1 + (shape >> 2 & 7)},
                     .key_field_count = 1,
                     .key = {{.offset = 8, .bytes = 8}}},
    };
    lane->layout = rml_lane_layout(&lane->geometry);
    RML_CHECK(rml_lane_in_make(&lane->in, &lane->geometry, "fuzz", 1, NULL) == 0);
    map_again(lane);
    RML_CHECK(rml_lane_in_seal(lane->in, NULL) == 0);
    RML_CHECK(rml_segment_attach(&lane->records, rml_lane_in_fds(lane->in)->records,
                                 lane->layout.records_bytes, true, NULL)
              == 0);
    RML_CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, lane->knocks)
              == 0);
    rml_lane_in_watch(lane->in, (shape & 32) != 0 ? 100 : 0, (shape & 64) != 0 ? 1000 : 0, &still);
    join(lane);
}

static void close_lane(struct lane *lane)
{
    if (lane->out != NULL)
        rml_share_out_abandon(lane->out);
    rml_segment_close(&lane->records);
    rml_lane_in_close(lane->in);
    if (lane->kept != NULL)
        munmap(lane->kept, lane->layout.returns_bytes);
    close(lane->knocks[0]);
    close(lane->knocks[1]);
}

/* The engine */

// What is in the log stays there, also for engines to come, until it is released.
static void check_log(struct lane *lane, uint32_t p, const struct record *records, uint32_t rows)
{
    for (uint32_t i = 0; i < rows; i++) {
        uint64_t at = lane->position[p] + i;
        struct record *there = &lane->log[p][at % LOG_CELLS];
        if (at < lane->end[p])
            RML_CHECK(memcmp(there, &records[i], sizeof *there) == 0);
        else
            *there = records[i];
    }
    if (lane->position[p] + rows > lane->end[p])
        lane->end[p] = lane->position[p] + rows;
}

static int peek(struct lane *lane, uint32_t p, uint32_t want, uint32_t take)
{
    struct rml_mark marks[WANT_MAX];
    struct rml_lane_run run;
    int32_t rows = rml_lane_in_peek(lane->in, p, want, marks, &run);
    if (rows < 0) {
        RML_CHECK(rml_lane_in_fault(lane->in) != NULL);
        return rows;
    }
    RML_CHECK((uint32_t)rows == run.rows && run.rows <= want && run.rows <= LOG_CELLS);
    RML_CHECK(run.mark_count <= run.rows);
    for (uint32_t m = 0; m < run.mark_count; m++) {
        RML_CHECK(marks[m].row < run.rows);
        RML_CHECK(m == 0 || (marks[m].row > marks[m - 1].row && marks[m].time > marks[m - 1].time));
    }
    check_log(lane, p, run.records, run.rows);
    take = take < run.rows ? take : run.rows;
    rml_lane_in_take(lane->in, p, take);
    lane->position[p] += take;
    RML_CHECK(lane->position[p] - lane->released[p] <= LOG_CELLS);
    return 0;
}

static void release(struct lane *lane, uint32_t p, uint32_t rows)
{
    uint64_t held = lane->position[p] - lane->released[p];
    rows = rows < held ? rows : (uint32_t)held;
    rml_lane_in_release(lane->in, p, rows);
    lane->released[p] += rows;
}

// It dies; the next one takes again what was not released.
static int die(struct lane *lane)
{
    int fds[KEPT];
    rml_lane_in_kept(lane->in, fds);
    for (uint32_t i = 0; i < KEPT; i++)
        fds[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 3);
    rml_lane_in_close(lane->in);
    RML_CHECK(rml_lane_in_adopt(&lane->in, &lane->geometry, fds, lane->kept, NULL) == 0);
    lane->kept = NULL;
    lane->asleep = false;
    memcpy(lane->position, lane->released, sizeof lane->position);
    struct rml_lane_owners *owners = rml_lane_in_owners(lane->in);
    if (lane->out != NULL)
        RML_CHECK(rml_lane_owners_again(owners, lane->owner, lane->knocks[0]));
    rml_lane_owners_left_rest(owners);
    memset(lane->others, 0, sizeof lane->others);
    return 0;
}

// A second death is of an engine that has no mapping of a keeper's: once for each lane.
static int die_once(struct lane *lane)
{
    return lane->kept != NULL ? die(lane) : 0;
}

static void come_and_go(struct lane *lane, uint8_t how)
{
    static const enum rml_lane_owner_state ways[] = {RML_LANE_OWNER_LEFT, RML_LANE_OWNER_LOST,
                                                     RML_LANE_OWNER_DEAD, RML_LANE_OWNER_DEAD};
    struct rml_lane_owners *owners = rml_lane_in_owners(lane->in);
    uint32_t *other = &lane->others[how % OWNERS];
    if ((how & 0x80) != 0) {
        (void)rml_lane_owners_settle(owners);
    } else if (*other != 0) {
        rml_lane_owners_left(owners, *other, ways[how >> 2 & 3]);
        if ((how & 8) != 0)  // of a lost one the death is still to come
            *other = 0;
    } else if (rml_lane_owners_add(owners, lane->knocks[0], other) < 0) {
        *other = 0;
    }
}

/* Producers */

static void scribble(struct lane *lane, uint32_t p, uint8_t how, uint64_t value)
{
    unsigned char *records = lane->records.memory;
    const struct rml_shared_place place = rml_lane_shared(
        &lane->geometry, &lane->layout, records, lane->kept != NULL ? lane->kept : records, p);
    uint64_t *words[] = {(uint64_t *)place.words, (uint64_t *)place.tail,
                         (uint64_t *)&rml_lane_record_lines(records)[p],
                         (uint64_t *)&rml_lane_owner_lines(records, &lane->layout)[how % OWNERS]};
    uint32_t which = how >> 4 & 3;
    uint64_t *word = which == 1 ? words[1] : words[which] + (how & 7);
    uint64_t seen = __atomic_load_n(word, __ATOMIC_RELAXED);
    uint64_t near = seen ^ (value & 0xff) << (value >> 8 & 7) * 8;
    __atomic_store_n(word, (how & 0x80) != 0 ? value : near, __ATOMIC_RELAXED);
}

static void punch(struct lane *lane, uint64_t value)
{
    size_t bytes = lane->layout.records_bytes, at = value % bytes;
    RML_CHECK(fallocate(rml_lane_in_fds(lane->in)->records,
                        FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)at, (off_t)(bytes - at))
              == 0);
}

static void put(struct lane *lane, const struct record *record, bool publish)
{
    if (lane->out == NULL) {
        join(lane);
        return;
    }
    int rc = rml_share_out_put(lane->out, record);
    RML_CHECK(rc == 1 || rc == 0 || rc == -ETIMEDOUT || rc == -EPROTO || rc == -EPIPE);
    if (publish) {
        rc = rml_share_out_publish(lane->out);
        RML_CHECK(rc == 0 || rc == -ETIMEDOUT || rc == -EPROTO || rc == -EPIPE);
    }
}

static int step(struct lane *lane, const uint8_t *bytes)
{
    uint32_t p = (bytes[0] >> 4) % lane->geometry.partitions;
    uint64_t value;
    memcpy(&value, bytes + 4, sizeof value);
    struct rml_lane_counts counts;
    switch (bytes[0] & 15) {
    default:
        scribble(lane, p, bytes[1], value);
        return 0;
    case 4:
    case 5:
    case 6:
        put(lane, &(struct record){.time = (int64_t)value, .sequence = bytes[2]}, bytes[1] & 1);
        return 0;
    case 7:
    case 8:
    case 9:
        return peek(lane, p, 1 + bytes[1] % WANT_MAX, bytes[2] % (LOG_CELLS + 1));
    case 10:
        release(lane, p, bytes[1] % (LOG_CELLS + 1));
        return 0;
    case 11:
        come_and_go(lane, bytes[1]);
        return 0;
    case 12:
        present += bytes[1];
        if (lane->asleep)
            rml_lane_in_sleep_end(lane->in, 0);
        else
            rml_lane_in_sleep_begin(lane->in, 0);
        lane->asleep = !lane->asleep;
        return 0;
    case 13:
        punch(lane, (bytes[1] & 1) != 0 ? value : 0);
        return 0;
    case 14:
        return die_once(lane);
    case 15:
        rml_lane_in_counts(lane->in, &counts);
        rml_lane_in_partition_counts(lane->in, p, &counts);
        RML_CHECK(counts.released == lane->released[p] && counts.variant < RML_RING_VARIANTS);
        (void)rml_lane_in_publishes(lane->in);
        return 0;
    }
}

// Nobody misuses it: what was put comes, whatever lies beside it.
static void use_other(struct lane *other, uint64_t *sent, uint64_t *came)
{
    const struct record record = {.time = (int64_t)*sent, .sequence = *sent};
    RML_CHECK(rml_share_out_put(other->out, &record) == 1);
    RML_CHECK(rml_share_out_publish(other->out) == 0);
    ++*sent;
    struct rml_mark marks[WANT_MAX];
    struct rml_lane_run run;
    int32_t rows = rml_lane_in_peek(other->in, 0, WANT_MAX, marks, &run);
    RML_CHECK(rows == 1 && ((const struct record *)run.records)[0].sequence == *came);
    rml_lane_in_take(other->in, 0, 1);
    rml_lane_in_release(other->in, 0, 1);
    ++*came;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    static struct lane other;  // one for all inputs
    static uint64_t sent, came;
    if (other.in == NULL)
        open_lane(&other, 0);
    struct lane lane;
    present = 1000;
    open_lane(&lane, data[0]);
    int rc = 0;
    for (size_t at = 1; rc == 0 && at + STEP_SIZE <= size && at < 200 * STEP_SIZE; at += STEP_SIZE)
        rc = step(&lane, data + at);
    RML_CHECK(rc == 0 || rc == -EPROTO);
    if (rc < 0)
        rml_lane_in_detach(lane.in, EPROTO, rml_lane_in_fault(lane.in));
    use_other(&other, &sent, &came);
    // It ends, whatever lies there.
    for (uint32_t p = 0; p < lane.geometry.partitions && rc == 0; p++) {
        rml_lane_in_end(lane.in, p);
        for (uint32_t i = 0; rc == 0 && rml_lane_in_final(lane.in, p) == RML_LANE_NO_END; i++) {
            RML_CHECK(i < 64 * CELLS);
            rc = peek(&lane, p, WANT_MAX, WANT_MAX);
            release(&lane, p, LOG_CELLS);
        }
    }
    use_other(&other, &sent, &came);
    close_lane(&lane);
    return 0;
}
