/*
 * lane_in - the engine's half of a lane: one producer's records, or those of several who share it.
 *
 * The engine makes both segments, passes their descriptors to the producer, and takes what comes,
 * partition by partition. Nothing that the producer writes is believed: a position or a mark that
 * cannot be true is -EPROTO, after which the lane is to be detached (rml_lane_in_detach).
 *
 * AT THE SAME TIME. Functions that name a partition may be called by different threads at the same
 * time for different partitions, and by one thread at a time for the same one. Functions that name a
 * worker are that worker's own. The rest may be called by anyone at any time, but for open and close.
 */
#ifndef RML_LANE_LANE_IN_H
#define RML_LANE_LANE_IN_H

#include "runtime/lane/geometry.h"
#include "runtime/lane/mark.h"
#include "runtime/lane/owners.h"
#include "runtime/ring/ring.h"
#include "runtime/time/clock.h"

struct rml_lane_in;

/* A run of records, one behind the other, and what is known of the lane's time in it. */
struct rml_lane_run {
    const void *records;  // lie in memory that the producer may still change: read each byte once
    uint32_t rows;
    uint32_t mark_count;  // entries of the caller's `marks`, ascending rows
    int64_t vouches;  // once these rows are taken: the lane's greatest event time so far, good as
                      // its watermark for this partition; RML_TIME_NONE: nothing can be said
};

struct rml_lane_counts {
    uint64_t published, taken, released;  // records, over all partitions
    uint64_t dropped;                     // records that the producer dropped, by its own account
    enum rml_ring_variant variant;        // that the producer says it uses
    uint64_t tombstones;  // of a shared lane: cells that producers had claimed when they died
    uint64_t passed;      // likewise: runs that were passed over, because they came later
};

/*
 * Make a lane. `name` shows in /proc. `epoch` identifies this run of the engine to producers. 0 and
 * a new lane (rml_lane_in_close); -EINVAL for a geometry that cannot be, or another negative errno
 * with a sentence. The geometry is copied.
 */
int rml_lane_in_open(struct rml_lane_in **ret_in, const struct rml_lane_geometry *geometry,
                     const char *name, uint64_t epoch, struct rml_err *err);

/*
 * The same in two steps, for an engine with a keeper (runtime/keeper/keeping.h): between them the keeper
 * maps the returns segment; before `seal` nobody else may get its descriptor.
 */
int rml_lane_in_make(struct rml_lane_in **ret_in, const struct rml_lane_geometry *geometry,
                     const char *name, uint64_t epoch, struct rml_err *err);
int rml_lane_in_seal(const struct rml_lane_in *in, struct rml_err *err);

/*
 * A lane outlives its engine where somebody holds what it is made of: these descriptors, the first of
 * which is the returns segment, together with our mapping of that. rml_lane_in_kept lists them
 * (RML_LANE_KEPT_FDS of the workers).
 */
#define RML_LANE_KEPT_FDS(workers) (4u + (workers))
void rml_lane_in_kept(const struct rml_lane_in *in, int *fds);

/*
 * Go on with a lane whose engine died. `returns` is the mapping, `geometry` as it was. Nobody sleeps
 * on it, and every partition begins at the first record that was not released, until rml_lane_in_go_on
 * says otherwise. All descriptors and the mapping are the lane's from here on, also when this fails.
 */
int rml_lane_in_adopt(struct rml_lane_in **ret_in, const struct rml_lane_geometry *geometry,
                      const int *fds, void *returns, struct rml_err *err);

/*
 * Of an adopted lane, before anybody takes from it: have the next peek of `partition` begin at record `position`,
 * which was not released. -EPROTO when it cannot be, by our own words.
 */
int rml_lane_in_go_on(struct rml_lane_in *in, uint32_t partition, uint64_t position);

/* Was the producer told that the lane is closed? */
int rml_lane_in_is_detached(const struct rml_lane_in *in);

/* Unmap and close everything; nobody may be using the lane. NULL is accepted. */
void rml_lane_in_close(struct rml_lane_in *in);

/* The descriptors to pass to the producer; they stay the lane's. Also what the workers poll: wake[w]. */
const struct rml_lane_fds *rml_lane_in_fds(const struct rml_lane_in *in);
const struct rml_lane_geometry *rml_lane_in_geometry(const struct rml_lane_in *in);

/*
 * The next records of `partition`, at most `want` (> 0), as one contiguous run; shorter where memory
 * ends. `marks` has room for `want` entries and stays untouched until the take. Returns the rows (also
 * in *ret_run); 0 when there are none (ret_run->vouches still holds); -EPROTO. Peeking again without
 * taking yields the same records or more.
 */
int32_t rml_lane_in_peek(struct rml_lane_in *in, uint32_t partition, uint32_t want,
                         struct rml_mark *marks, struct rml_lane_run *ret_run);

/*
 * Exactly the next `want` records, which an engine before this one had taken as one run: they lie there
 * still, whatever positions the producer shows by now. Marks that cannot be are as if there were none; the
 * next peek finds out whoever lies. 0; or -EPROTO when there can have been no such run by our own words.
 */
int rml_lane_in_peek_again(struct rml_lane_in *in, uint32_t partition, uint32_t want,
                           struct rml_mark *marks, struct rml_lane_run *ret_run);

/* How many records of `partition` were taken so far. */
uint64_t rml_lane_in_position(const struct rml_lane_in *in, uint32_t partition);

/* The first `rows` of the last peek are used; private to the engine: the producer gets no room yet. */
void rml_lane_in_take(struct rml_lane_in *in, uint32_t partition, uint32_t rows);

/*
 * The `rows` oldest taken records will never be needed again: the producer may overwrite them. Wakes
 * it if it waits for room here. Without checkpoints: release what was taken, at once.
 */
void rml_lane_in_release(struct rml_lane_in *in, uint32_t partition, uint32_t rows);

/*
 * What the partition took before this position outlasts whatever happens; tells the producer, and wakes it if
 * it waits for that. A position that lies before one that was told is ignored.
 */
void rml_lane_in_durable(struct rml_lane_in *in, uint32_t partition, uint64_t position);

/* Likewise all that was taken, once no other thread has anything to do with the lane. */
void rml_lane_in_all_durable(struct rml_lane_in *in);

/*
 * The lane ends: what is published to `partition` after this is not to be taken. Then, the position at which the
 * partition is done with it; RML_LANE_NO_END as long as peeking has to bring that out.
 */
#define RML_LANE_NO_END UINT64_MAX
void rml_lane_in_end(struct rml_lane_in *in, uint32_t partition);
uint64_t rml_lane_in_final(const struct rml_lane_in *in, uint32_t partition);

/*
 * Who shares the lane, for the control thread; NULL: it is exclusive. What the states say is seen by the
 * partitions as they peek, and rml_lane_in_seen is the version up to which `partition` has seen it, and taken
 * into the log what those had published who left.
 */
struct rml_lane_owners *rml_lane_in_owners(struct rml_lane_in *in);
uint64_t rml_lane_in_seen(const struct rml_lane_in *in, uint32_t partition);

/*
 * Of a shared lane, before anybody takes from it: a producer of which nothing came for `idle_after_ns` is not
 * waited for, and one whose clock lies further than `max_ahead_ns` ahead of the wall clock is not believed.
 * 0: every one is.
 */
void rml_lane_in_watch(struct rml_lane_in *in, int64_t idle_after_ns, int64_t max_ahead_ns,
                       const struct rml_clock *clock);

/* What was wrong when a call returned -EPROTO, of a shared lane; NULL: nothing, or positions. */
const char *rml_lane_in_fault(const struct rml_lane_in *in);

/* Has everything published to `partition` been taken? For a producer that is gone. -EPROTO as above. */
int rml_lane_in_is_drained(struct rml_lane_in *in, uint32_t partition);

/* The lane's greatest event time as published; RML_TIME_NONE before the first. */
int64_t rml_lane_in_time(const struct rml_lane_in *in);

/*
 * Going to sleep without losing a wake-up. A worker (1) notes `publishes` of every lane, (2) finds
 * nothing to take anywhere, (3) calls sleep_begin on every lane, (4) looks at `publishes` again: if
 * one changed it calls sleep_end and goes back to work, else it polls fds->wake[worker] of every
 * lane, then calls sleep_end. A publish after (1) is seen in (4) or rings the worker's eventfd.
 * sleep_end also resets the eventfd; nobody else may read it, for a hostile producer can make a plain
 * read wait for ever. A worker is also woken when the lane's time comes to a new step of its grid,
 * unless the grid is exact (granule 1): then time alone wakes nobody, and a worker with windows open
 * has to bound its sleep.
 */
uint64_t rml_lane_in_publishes(const struct rml_lane_in *in);
void rml_lane_in_sleep_begin(struct rml_lane_in *in, uint32_t worker);
void rml_lane_in_sleep_end(struct rml_lane_in *in, uint32_t worker);

/*
 * Tell the producer that the lane is closed: `code` is a positive errno-like reason, `text` a short
 * sentence (cut at 47 bytes). A producer waiting for room is woken. One caller, once.
 */
void rml_lane_in_detach(struct rml_lane_in *in, uint32_t code, const char *text);

/* Counts, a moment old and not all of the same moment; a hostile producer's can be anything. */
void rml_lane_in_counts(const struct rml_lane_in *in, struct rml_lane_counts *ret_counts);

/* Likewise of one partition: records published, taken, released. */
void rml_lane_in_partition_counts(const struct rml_lane_in *in, uint32_t partition,
                                  struct rml_lane_counts *ret_counts);

#endif
