/*
 * confluence - what many producers published in a partition's ring, brought into one order: its log.
 *
 * The log is what the engine takes from, as from the ring of an exclusive lane: records in an order that
 * is fixed once they are in it, marks that say how far time had come before a record, positions that are
 * released when a checkpoint covers them. It lies in memory that only the engine writes and that outlives
 * it, so steps that are taken again find what they found, whatever producers do. Tombstones, runs that
 * were passed over and who wrote what are left behind in the ring.
 *
 * Time. Each producer's promise is its own, so the clock of a shared lane is the least of its
 * producers'. It says nothing of records that are still on their way, and is therefore read first: once
 * all that was published by then is in the log, it is the log's clock from there on.
 *
 * The thread that has the partition calls everything here.
 */
#ifndef RML_LANE_CONFLUENCE_H
#define RML_LANE_CONFLUENCE_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/lane/layout.h"
#include "runtime/time/clock.h"

/* What the partitions of a lane have in common. */
struct rml_confluence_lane {
    const struct rml_lane_geometry *geometry;
    struct rml_lane_layout layout;
    void *records, *returns;
    const _Atomic int *doors;  // of owners (runtime/lane/owners.h)
    /* A producer of which nothing came for so long is not waited for; 0: every one is. */
    int64_t idle_after_ns;
    /* A clock that is further ahead of the wall clock is not believed; 0: every one is. */
    int64_t max_ahead_ns;
    const struct rml_clock *clock;
};

struct rml_confluence_owner;

struct rml_confluence {
    const struct rml_confluence_lane *lane;
    uint32_t partition;
    struct rml_shared_in in;
    struct rml_shared_log log;
    struct rml_lane_record_line *lines;
    struct rml_lane_owner_line *owner_lines;
    const struct rml_lane_owner_states *states;
    struct rml_lane_log_line *line;
    struct rml_lane_mark_cell *marks;
    const _Atomic uint64_t *released;  // of the log

    uint64_t version;  // of the states, as seen
    struct rml_confluence_owner *owners;
    uint16_t *here;
    uint32_t here_count;
    int64_t left_time;  // least clock of those who left, for when nobody is here

    // a look at all clocks: good once the ring is taken to `look_at`
    bool is_looking;
    int64_t look_time;
    uint64_t look_at, look_version, look_publishes;

    int64_t time;      // the log's clock
    uint64_t time_at;  // from this position on
    int64_t marked;    // of the last mark
    bool is_settled;   // nothing was left when `publishes` was this
    uint64_t settled_publishes;

    uint64_t waits;  // as seen
    bool any_waits;  // somebody may wait for room who was not knocked at
    bool is_last, is_over;
};

/*
 * The confluence of `partition`, from where an engine that died left it. 0, -ENOMEM, or -EPROTO: what lies
 * there cannot be.
 */
int rml_confluence_open(struct rml_confluence *g, const struct rml_confluence_lane *lane,
                        uint32_t partition);
void rml_confluence_close(struct rml_confluence *g);

/* Bring about `want` more records into the log, as far as there are and it has room. 0 or -EPROTO: the
 * ring shows what cannot be (rml_confluence_fault says what). */
int rml_confluence_more(struct rml_confluence *g, uint32_t want);
const char *rml_confluence_fault(const struct rml_confluence *g);

/* Nothing counts that is published after this. Has all that does been brought into the log? */
void rml_confluence_last(struct rml_confluence *g);
bool rml_confluence_is_over(const struct rml_confluence *g);

/* The clock that holds once the log is taken to position `taken`; RML_TIME_NONE: nothing can be said. */
static inline int64_t rml_confluence_vouches(const struct rml_confluence *g, uint64_t taken)
{
    return taken >= g->time_at ? g->time : RML_TIME_NONE;
}

#endif
