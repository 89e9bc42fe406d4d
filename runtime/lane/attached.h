/*
 * attached - a lane as a producer has it, whether it is its own (lane_out.h) or shared with others (share_out.h): the
 * two segments, how the engine's workers are woken and room is waited for, and whether the lane is still attached.
 */
#ifndef RML_LANE_ATTACHED_H
#define RML_LANE_ATTACHED_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "runtime/lane/geometry.h"
#include "runtime/lane/knock.h"
#include "runtime/lane/layout.h"
#include "runtime/lane/route.h"
#include "runtime/segment/segment.h"

struct rml_err;

struct rml_attached {
    struct rml_lane_geometry geometry;
    enum rml_route_kind route;
    bool detached;                       // seen
    struct rml_lane_record_line *lines;  // line 0 has the lane-wide words
    struct rml_lane_return_head *head;
    struct rml_segment records, returns;
    struct rml_lane_fds fds;  // borrowed
    struct rml_ringing ringing;
    struct rml_knock knock;
};

/* The lane that was checked, not mapped yet. Somebody knocks at `room_fd`; `peer_fd`: the engine's end, or -1. */
void rml_attached_init(struct rml_attached *lane, const struct rml_lane_geometry *geometry,
                       const struct rml_lane_fds *fds, int room_fd, int peer_fd);

/* Map the segments. 0, or a negative errno with a sentence. */
int rml_attached_open(struct rml_attached *lane, struct rml_err *err);
void rml_attached_close(struct rml_attached *lane);

/* Look whether the engine has detached it, after `publishes` was told: what is published and not seen is known of. */
static inline void rml_attached_look(struct rml_attached *lane)
{
    // total order: after `publishes`
    if (atomic_load_explicit(&lane->head->state, memory_order_seq_cst) != RML_LANE_ATTACHED)
        lane->detached = true;
}

/* As rml_lane_out_state. */
int rml_attached_state(const struct rml_attached *lane, uint32_t *ret_code, char *text);

#endif
