/*
 * owners - who feeds a shared lane: their numbers, when each came and went.
 *
 * A number is given out when a producer attaches. When it leaves, the number stays in use until all
 * partitions have taken what it published; and where nobody knows that it will write no more, until its
 * death is proved. The states lie in memory that only the engine writes and that outlives it.
 *
 * One thread, the engine's control thread, calls everything here.
 */
#ifndef RML_LANE_OWNERS_H
#define RML_LANE_OWNERS_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/lane/layout.h"

struct rml_lane_owners {
    uint32_t count, partitions;
    struct rml_lane_owner_line *lines;
    struct rml_lane_owner_states *states;
    const struct rml_lane_log_line *logs;
    _Atomic int *doors;  // by number - 1: a socket to knock at, or -1; workers read it
    uint64_t *left_at;   // likewise: the version that says that it left
    bool *is_named;      // likewise: goes on, after the death of an engine
};

/* The owners of the lane in these segments, which may be those of an engine that died. 0 or -ENOMEM. */
int rml_lane_owners_open(struct rml_lane_owners *owners, const struct rml_lane_geometry *geometry,
                         void *records, void *returns);
void rml_lane_owners_close(struct rml_lane_owners *owners);

/* One more producer, which is knocked at by way of `socket` (it stays the caller's). 0 and its number; -EMFILE: there
 * is none left; or why the socket cannot be kept. */
int rml_lane_owners_add(struct rml_lane_owners *owners, int socket, uint32_t *ret_owner);

/* Of an engine that died: is `owner` a producer that it had? Then it is knocked at by way of `socket`, once
 * at once: a worker may have found room for it before it could knock. */
bool rml_lane_owners_again(struct rml_lane_owners *owners, uint32_t owner, int socket);

/* `owner` left: LEFT, LOST or DEAD, where the last can follow the one before. */
void rml_lane_owners_left(struct rml_lane_owners *owners, uint32_t owner,
                          enum rml_lane_owner_state how);

/* Give numbers back of which all partitions have taken everything. Returns how many owners wait for that. */
uint32_t rml_lane_owners_settle(struct rml_lane_owners *owners);

/* Producers that are attached; the state of one. */
uint32_t rml_lane_owners_here(const struct rml_lane_owners *owners);
enum rml_lane_owner_state rml_lane_owners_state(const struct rml_lane_owners *owners,
                                                uint32_t owner);

/* After the death of an engine: those that nobody named by rml_lane_owners_again are dead, or were never told of the lane. */
void rml_lane_owners_left_rest(struct rml_lane_owners *owners);

/* Counts the changes of states. */
uint64_t rml_lane_owners_version(const struct rml_lane_owners *owners);

/* Wake every producer that may wait for room. */
void rml_lane_owners_knock(const struct rml_lane_owners *owners);

#endif
