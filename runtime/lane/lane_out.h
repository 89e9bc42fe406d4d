/*
 * lane_out - the producer's half of a lane: route by key, fill cells in place, publish.
 *
 *     rml_lane_out_put(out, &record)                        one record, published every so many
 *
 *     p = rml_lane_out_route(out, &record_or_its_key)       or in place, in batches
 *     n = rml_lane_out_claim(out, p, want, &cells)
 *     ... fill up to n records ...
 *     rml_lane_out_commit(out, p, filled)
 *     rml_lane_out_publish(out)
 *
 * One thread uses a lane_out at a time. No thread, no timer: what is committed and not published
 * stays unseen until the next publish. Nothing allocates after open.
 */
#ifndef RML_LANE_LANE_OUT_H
#define RML_LANE_LANE_OUT_H

#include "runtime/lane/geometry.h"
#include "runtime/ring/ring.h"

struct rml_lane_out;

#define RML_LANE_PUBLISH_EVERY 64  // records put, unless set otherwise

/*
 * Open the producer's end of the lane that `fds` and `geometry` describe. `fds` are borrowed and must
 * stay open until close (the two segments' may be closed at once); in the engine's own process they
 * may be rml_lane_in_fds(). `peer_fd` is polled beside the room eventfd, so that a wait ends when the
 * engine is gone; -1: none. 0 and a new end (rml_lane_out_close); -EINVAL, -EPROTO (what came is not
 * such a lane), -ENOMEM, with a sentence.
 */
int rml_lane_out_open(struct rml_lane_out **ret_out, const struct rml_lane_geometry *geometry,
                      const struct rml_lane_fds *fds, int peer_fd, struct rml_err *err);

/* Publish what is committed, then unmap. NULL is accepted. */
void rml_lane_out_close(struct rml_lane_out *out);

/* Unmap and publish nothing: for the copy of an end that a fork made in the child. */
void rml_lane_out_abandon(struct rml_lane_out *out);

/* How many records `put` lets gather before it publishes; at least 1. */
void rml_lane_out_publish_every(struct rml_lane_out *out, uint32_t records);

/* How long a claim waits for room, in nanoseconds (default 10 s); 0: not at all; < 0: for ever. */
void rml_lane_out_wait_max(struct rml_lane_out *out, int64_t ns);

/* Use one way of carrying cells and try no other (benches, tests); RML_RING_VARIANTS: choose by
 * trial again. Not while a claim is open. -ENOTSUP: this machine cannot. */
int rml_lane_out_force_variant(struct rml_lane_out *out, enum rml_ring_variant variant);

/* The partition of a record, by the key fields in it. Reads nothing else of it. */
uint32_t rml_lane_out_route(const struct rml_lane_out *out, const void *record);

/*
 * Up to `want` (> 0) adjacent cells of `partition`, 8-byte aligned. Returns how many. When the ring
 * is full everything committed is published first; then on_full decides: BLOCK waits (-ETIMEDOUT when
 * there was no room in time; -EPIPE when the engine is gone or has detached the lane), DROP_NEWEST
 * returns 0 (count what you do not write with rml_lane_out_drop). -EPROTO: the engine's position
 * cannot be true.
 */
int32_t rml_lane_out_claim(struct rml_lane_out *out, uint32_t partition, uint32_t want,
                           void **ret_cells);

/* The first `count` cells of that partition's last claim are records now, in the order claimed, and
 * the claim is over: 0 gives it up. Claims of several partitions may be open at the same time, and
 * stay open over a publish. */
void rml_lane_out_commit(struct rml_lane_out *out, uint32_t partition, uint32_t count);

/* Make everything committed visible, and wake the workers that sleep on it. Cheap when there is
 * nothing new. */
void rml_lane_out_publish(struct rml_lane_out *out);

/* Route, copy and commit one record; publishes every so many. 1: taken; 0: dropped and counted;
 * or claim's errors, and then the record was not taken. */
int rml_lane_out_put(struct rml_lane_out *out, const void *record);

/* Count `records` as dropped: they were meant for the lane and there was no room. */
void rml_lane_out_drop(struct rml_lane_out *out, uint64_t records);

/*
 * How many of the records, in the order of commits, outlast the engine, its keeper and a loss of power. Counts by
 * publishes, from the first call on. 0; -ENOTSUP: nothing that this engine has does; -EPROTO: its positions
 * cannot be true; -ENOMEM. Good also once the lane is detached.
 */
int rml_lane_out_durable(struct rml_lane_out *out, uint64_t *ret_records);

/*
 * Publish, and wait until all of that is durable, for `wait_ns` at most (0: as long as for room; < 0: for ever). 0;
 * -ENOTSUP, -EPROTO; -ETIMEDOUT; -EPIPE: the engine is gone, or has detached the lane and then gone, before.
 */
int rml_lane_out_wait_durable(struct rml_lane_out *out, int64_t wait_ns);

/* 0 while attached; -EPIPE when the engine detached the lane, or was seen to be gone: *ret_code and the text say why. `text`
 * has 48 bytes; both may be NULL. */
int rml_lane_out_state(const struct rml_lane_out *out, uint32_t *ret_code, char *text);

struct rml_lane_out_counts {
    uint64_t committed, published, released;  // records, over all partitions
    uint64_t dropped;
    uint64_t marks;    // time marks written
    uint64_t rings;    // workers' eventfds rung
    uint64_t waits;    // times slept for room
    uint32_t variant;  // enum rml_ring_variant in use
    uint32_t trials;   // times the variants were compared
};

void rml_lane_out_counts(const struct rml_lane_out *out, struct rml_lane_out_counts *ret_counts);

#endif
