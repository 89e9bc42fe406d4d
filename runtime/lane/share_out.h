/*
 * share_out - a producer's half of a lane that it shares with others.
 *
 * Records are filled in memory of the producer's own, up to a run for each partition, and carried into the
 * shared ring when they are published: claim, copy, publish, with nothing in between that could take
 * long. So what is claimed and not published is little and seldom, however slowly a producer fills, and a
 * producer that dies while it fills has claimed nothing. Where a ring has no room the records stay with
 * the producer.
 *
 * Functions and threads are as lane_out.h says, which is where a caller gets here from.
 */
#ifndef RML_LANE_SHARE_OUT_H
#define RML_LANE_SHARE_OUT_H

#include "runtime/lane/lane_out.h"

struct rml_share_out;

/* The end of producer `owner`. As rml_lane_out_open, but for the room socket: it is knocked at by way of `peer_fd`. */
int rml_share_out_open(struct rml_share_out **ret_out, const struct rml_lane_geometry *geometry,
                       const struct rml_lane_fds *fds, int peer_fd, uint32_t owner,
                       struct rml_err *err);

/* What could not be published is gone; it was counted as dropped by rml_share_out_close. */
void rml_share_out_close(struct rml_share_out *out);
void rml_share_out_abandon(struct rml_share_out *out);

void rml_share_out_publish_every(struct rml_share_out *out, uint32_t records);
void rml_share_out_wait_max(struct rml_share_out *out, int64_t ns);
uint32_t rml_share_out_route(const struct rml_share_out *out, const void *record);
int32_t rml_share_out_claim(struct rml_share_out *out, uint32_t partition, uint32_t want,
                            void **ret_cells);
void rml_share_out_commit(struct rml_share_out *out, uint32_t partition, uint32_t count);
int rml_share_out_publish(struct rml_share_out *out);
int rml_share_out_put(struct rml_share_out *out, const void *record);
void rml_share_out_drop(struct rml_share_out *out, uint64_t records);
int rml_share_out_state(const struct rml_share_out *out, uint32_t *ret_code, char *text);
void rml_share_out_counts(const struct rml_share_out *out, struct rml_lane_out_counts *ret_counts);

#endif
