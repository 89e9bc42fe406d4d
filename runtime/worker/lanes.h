/*
 * lanes - the lanes that a worker takes from, and how it sleeps on all of them at once.
 *
 * Numbers are the control thread's. Everything is set aside when opened; adding and removing a lane
 * is bookkeeping and one system call.
 */
#ifndef RML_WORKER_LANES_H
#define RML_WORKER_LANES_H

#include <stdbool.h>
#include <stdint.h>

struct rml_bell;
struct rml_err;
struct rml_lane_in;

/* What is known of a lane in one of the worker's partitions. */
struct rml_worker_lane_part {
    bool is_due;      // to be attached, once there is room in the journal
    bool done;        // nothing more is taken: its DETACH step has been, or is on its way
    bool gone;        // and that step has been taken
    int64_t vouched;  // the greatest time of an entry on its way, where the source is journaled
    uint64_t final;   // once the lane ends: position at which this partition is done with it
    // Where checkpoints are taken: positions of the last record taken, of the last snapshot, and of
    // what has been released.
    uint64_t taken, noted, released;
};

struct rml_worker_lane {
    struct rml_lane_in *in;  // NULL: the number is free
    uint32_t number, source;
    bool ending, faulty;
    uint64_t serial;
    uint64_t
        told;  // of a shared lane: the version of its producers' states that is waited for; 0: none is
    uint32_t parts_left;                 // that are not gone
    uint64_t publishes;                  // as noted before looking for records
    struct rml_worker_lane_part *parts;  // by the worker's own partitions
};

struct rml_worker_lanes {
    uint32_t worker;
    uint32_t lanes_max, part_count;
    uint32_t count;  // lanes in use
    uint32_t *used;  // their numbers, in no order
    struct rml_worker_lane *lanes;
    struct rml_worker_lane_part *parts;
    int epoll_fd;
};

int rml_worker_lanes_open(struct rml_worker_lanes *lanes, uint32_t worker, uint32_t lanes_max,
                          uint32_t part_count, const struct rml_bell *bell, struct rml_err *err);
void rml_worker_lanes_close(struct rml_worker_lanes *lanes);

/* A new lane, or NULL when the kernel has no room to wait on it. */
struct rml_worker_lane *rml_worker_lanes_add(struct rml_worker_lanes *lanes, uint32_t number,
                                             uint32_t source, struct rml_lane_in *in);
void rml_worker_lanes_remove(struct rml_worker_lanes *lanes, struct rml_worker_lane *lane);

/* Note what every lane has published, before looking for records in them. */
void rml_worker_lanes_note(struct rml_worker_lanes *lanes);

/* Has nothing been published since the note? If so every lane knows that the worker sleeps, and
 * rml_worker_lanes_wait must follow; if not, none does. */
bool rml_worker_lanes_may_sleep(struct rml_worker_lanes *lanes);

/* Wait for a lane, the bell, or `timeout_ms`; then every lane knows that the worker is awake. */
void rml_worker_lanes_wait(struct rml_worker_lanes *lanes, int timeout_ms);

#endif
