/*
 * layout - where a lane's words lie, who writes each, and how nobody sleeps through a wake-up.
 *
 * Known to lane_in.c and lane_out.c alone. A lane is two segments, each written by one side:
 *
 *     records, the producer writes             returns, the engine writes
 *
 *     line 0    partition 0's positions,       line 0          epoch, state, reason
 *               and the lane-wide words        1 + p           partition p's positions
 *     line p    partition p's positions        1 + P + w       worker w's sleep counter
 *     ...       cells of each partition
 *     ...       marks of each partition
 *               (not with one partition)
 *
 * A lane that several producers share has other parts: instead of cells a ring of runs for each
 * partition, and the log into which its consumer gathers them (runtime/lane/confluence.h).
 *
 *     records, the producers write             returns, the engine writes
 *
 *     line p    partition p's words            as above, then
 *     P + o     producer o's words             producers' states
 *     ...       rings: words, cells            line for each partition: its log's words
 *                                              what rings have of their consumer's
 *                                              logs: cells, marks
 *
 * The lane-wide words share their line with partition 0 because a lane with one partition then
 * moves one line for each batch, and with many partitions all of them are the producer's anyway.
 *
 * MEMORY ORDER
 *
 *     lane.marks    publish -> peek     the contents of the marks below the count
 *     lane.time     publish -> peek     the positions published before the lane's time was stored
 *
 * and the rings' own two. lane.time is what lets a partition without records of its own go on: the
 * engine reads the lane's time first and the partition's position after it, so that every record
 * committed before that time was stored lies below that position; once they are taken, all later
 * records of the lane come after the time in the order of commits.
 *
 * CUTTING OFF
 *
 * The engine may end a lane while its producer writes: it stores the state, then looks at `publishes`
 * and takes what is published by then; the producer stores `publishes`, then looks at the state. In
 * the total order of these four either the engine sees the publish and takes it, or the producer sees
 * that it was cut off. So what a producer publishes without being told is taken.
 *
 * SLEEP
 *
 * Whoever sleeps first says so, then looks once more, then sleeps; whoever moves something first
 * moves it, then looks whether the other sleeps, then rings. Both are a store followed by a load of
 * the other's word, and these four accesses are sequentially consistent: in their one total order
 * either the sleeper's store comes before the mover's load, and the bell rings, or the mover's store
 * comes before the sleeper's load, and it does not sleep. (Release and acquire would let both loads
 * pass both stores.) tests/model/parking.pml tries every interleaving, and shows that the wake-up is
 * lost without the second look.
 *
 *                    sleeper says        sleeper looks      mover moves       mover looks
 *     worker         sleeps[w] odd       publishes          publishes + 1     sleeps[w]
 *     producer       waiting             released           released          waiting
 *     producer       waiting, DURABLE    durable            durable           waiting
 *
 * A mover rings at most once for each sleep: it remembers the value of the sleeper's word for which
 * it rang. A producer that waits names the position at which it wants to be woken, half a ring on,
 * so that a full ring costs a wake-up for each half turn and not for each batch.
 *
 * TRUST
 *
 * Two descriptors are shared for wake-ups, and a peer can change the O_NONBLOCK of what it shares. The
 * engine therefore reads a worker's eventfd only with RWF_NOWAIT, and knocks on the producer's door
 * over a socket of its own with MSG_DONTWAIT: no call that the engine makes can be made to wait.
 */
#ifndef RML_LANE_LAYOUT_H
#define RML_LANE_LAYOUT_H

#include <stdalign.h>
#include <stdatomic.h>

#include "runtime/lane/geometry.h"
#include "runtime/ring/ring.h"
#include "runtime/ring/shared_ring.h"

/*
 * One for each partition; the producer writes. The producers of a shared lane write together: they add to
 * `publishes`, to `dropped`, and in a partition's `waiting` to how often one of them began to wait there.
 */
struct rml_lane_record_line {
    alignas(RML_RING_LINE) _Atomic uint64_t published;
    _Atomic uint64_t marks;  // marks ever published

    // lane-wide: used in line 0 alone
    _Atomic uint64_t time;       // rml_lane_time_word of the greatest event time published
    _Atomic uint64_t publishes;  // counts them
    _Atomic uint64_t waiting;    // 0, or RML_LANE_WAIT(turn, partition) while waiting
    _Atomic uint64_t room_at;    // the `released`, or `durable`, that ends the wait
    _Atomic uint64_t dropped;    // records that found no room
    _Atomic uint32_t variant;    // enum rml_ring_variant
};

/* A mark as it lies in shared memory: the lane's time had reached `time` before cell `position`. */
struct rml_lane_mark_cell {
    _Atomic uint64_t position;
    _Atomic int64_t time;
};

/* One for each producer of a shared lane; it writes, and the engine before the producer has it. */
struct rml_lane_owner_line {
    alignas(RML_RING_LINE) _Atomic uint64_t time;  // rml_lane_time_word, as of an exclusive lane
    _Atomic uint64_t waiting;                      // likewise
    _Atomic uint64_t room_at;                      // the ring's head that ends the wait
    _Atomic uint64_t publishes;                    // its own
};

/* What becomes of a producer of a shared lane; the engine's control thread writes. */
enum rml_lane_owner_state {
    RML_LANE_OWNER_FREE,
    RML_LANE_OWNER_HERE,
    RML_LANE_OWNER_LEFT,  // it has said goodbye, and has nothing claimed
    RML_LANE_OWNER_LOST,  // it was hung up on, and its process lives: it may still write
    RML_LANE_OWNER_DEAD,  // proved: what it has claimed is to come free
};

/*
 * Behind the workers' lines of a shared lane: how often a state was changed, then the states, each with the
 * version that brought it: between two looks a number may go from one that died to another that did.
 */
struct rml_lane_owner_states {
    _Atomic uint64_t version;
    _Atomic uint64_t state[];  // RML_LANE_OWNER_WORD of owner 1, 2, ...
};

#define RML_LANE_OWNER_WORD(version, state) ((uint64_t)(version) << 3 | (uint64_t)(state))
#define RML_LANE_OWNER_STATE(word)          ((enum rml_lane_owner_state)((word)&7u))

/* One for each partition of a shared lane: its log. The thread that has the partition writes. */
struct rml_lane_log_line {
    alignas(RML_RING_LINE) _Atomic uint64_t end;
    _Atomic uint64_t intent;
    _Atomic uint64_t marks;       // marks ever written
    _Atomic uint64_t tombstones;  // cells that dead producers had claimed
    _Atomic uint64_t passed;      // runs that were not waited for
    _Atomic uint64_t seen;  // the states' version up to which all that was published is in the log
};

enum rml_lane_state { RML_LANE_ATTACHED, RML_LANE_DETACHED };

#define RML_LANE_TEXT 48

struct rml_lane_return_head {
    alignas(RML_RING_LINE) uint64_t epoch;
    _Atomic uint32_t state;
    uint32_t code;
    char text[RML_LANE_TEXT];
};

/* One for each partition; the engine's thread that has the partition writes. */
struct rml_lane_return_line {
    alignas(RML_RING_LINE) _Atomic uint64_t released;
    _Atomic uint64_t taken;
    _Atomic uint64_t durable;  // before it records outlast whatever happens; never goes back
};

/* One for each worker; that worker writes. Odd: it sleeps. */
struct rml_lane_sleep_line {
    alignas(RML_RING_LINE) _Atomic uint64_t sleeps;
};

_Static_assert(sizeof(struct rml_lane_record_line) == RML_RING_LINE, "a line");
_Static_assert(sizeof(struct rml_lane_return_head) == RML_RING_LINE, "a line");
_Static_assert(sizeof(struct rml_lane_owner_line) == RML_RING_LINE, "a line");
_Static_assert(sizeof(struct rml_lane_log_line) == RML_RING_LINE, "a line");
_Static_assert(sizeof(struct rml_lane_mark_cell) == 16, "a mark");
_Static_assert(RML_LANE_RUN_MAX <= RML_SHARED_RUN_MAX, "a run of a shared lane is one of its ring");
_Static_assert(RML_LANE_OWNERS_MAX < RML_SHARED_OWNERS_MAX, "and its owners, with the consumer");
_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2, "a lock in shared memory would outlive its owner");

/* Zeroed memory, which is also what a punched hole reads as, says that there is no time yet. */
static inline uint64_t rml_lane_time_word(int64_t time)
{
    return (uint64_t)time ^ (1ull << 63);
}

static inline int64_t rml_lane_word_time(uint64_t word)
{
    return (int64_t)(word ^ (1ull << 63));
}

#define RML_LANE_WAIT_DURABLE          ((uint64_t)1 << 9)  // and not for room
#define RML_LANE_WAIT(turn, partition) ((uint64_t)(turn) << 10 | ((partition) + 1u))
#define RML_LANE_WAIT_PARTITION(word)  ((uint32_t)(word)&511u)  // partition + 1

/* Where the parts lie in their segments, in bytes. */
struct rml_lane_layout {
    size_t cells_at, cells_stride;  // in the records; of a shared lane in the returns
    size_t marks_at, marks_stride;  // likewise; stride 0: there are none
    size_t records_bytes;
    size_t returns_bytes;
    // of a shared lane: in the records ...
    size_t owners_at;
    size_t rings_at, rings_stride;
    // ... and in the returns
    size_t states_at, logs_at;
    size_t heads_at, heads_stride;
};

struct rml_lane_layout rml_lane_layout(const struct rml_lane_geometry *geometry);

/* The ring of each partition of a shared lane. The last owner is its consumer. */
struct rml_shared_shape rml_lane_shared_shape(const struct rml_lane_geometry *geometry);

/* The parts of a mapped segment. */
static inline struct rml_lane_record_line *rml_lane_record_lines(void *records)
{
    return records;
}

static inline struct rml_lane_return_head *rml_lane_return_head(void *returns)
{
    return returns;
}

static inline struct rml_lane_return_line *rml_lane_return_lines(void *returns)
{
    return (struct rml_lane_return_line *)returns + 1;
}

static inline struct rml_lane_sleep_line *rml_lane_sleep_lines(void *returns, uint32_t partitions)
{
    return (struct rml_lane_sleep_line *)returns + 1 + partitions;
}

static inline struct rml_lane_owner_line *rml_lane_owner_lines(void *records,
                                                               const struct rml_lane_layout *layout)
{
    return (void *)((unsigned char *)records + layout->owners_at);
}

static inline struct rml_lane_owner_states *
rml_lane_owner_states(void *returns, const struct rml_lane_layout *layout)
{
    return (void *)((unsigned char *)returns + layout->states_at);
}

static inline struct rml_lane_log_line *rml_lane_log_lines(void *returns,
                                                           const struct rml_lane_layout *layout)
{
    return (void *)((unsigned char *)returns + layout->logs_at);
}

static inline struct rml_shared_place rml_lane_shared(const struct rml_lane_geometry *geometry,
                                                      const struct rml_lane_layout *layout,
                                                      void *records, void *returns,
                                                      uint32_t partition)
{
    return rml_shared_place_at(
        rml_lane_shared_shape(geometry),
        (unsigned char *)records + layout->rings_at + partition * layout->rings_stride,
        (unsigned char *)returns + layout->heads_at + partition * layout->heads_stride);
}

static inline unsigned char *rml_lane_cells(void *records, const struct rml_lane_layout *layout,
                                            uint32_t partition)
{
    return (unsigned char *)records + layout->cells_at + partition * layout->cells_stride;
}

static inline struct rml_lane_mark_cell *
rml_lane_marks(void *records, const struct rml_lane_layout *layout, uint32_t partition)
{
    return (void *)((unsigned char *)records + layout->marks_at + partition * layout->marks_stride);
}

#endif
