/*
 * group - several readers of broadcast rings share the rows: each row goes to one of them.
 *
 * A group is a few words beside the rings, which its members alone write: for each row that is still in a ring,
 * who has taken it and whether he is done with it. A member that is gone (runtime/ring/roster.h) leaves what
 * it had taken and was not done with to the others; one that is stopped keeps that, and holds nobody up. The
 * writer of the rings knows nothing of groups and waits for none: rows that are overwritten before anybody
 * took them are counted as missed.
 *
 *     take -> work on it -> done
 *
 * Each row is taken in a state from which its last taker was gone, so: once, and again after each death of
 * its taker before `done`. States, memory order, trust and deaths: the essay at the top of group.c.
 *
 * One thread at a time uses a member's end. Nothing here blocks, allocates or enters the kernel.
 */
#ifndef RML_RING_GROUP_H
#define RML_RING_GROUP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/ring/broadcast.h"

struct rml_group_part;  // what lies in shared memory, known to group.c alone
struct rml_roster;

struct rml_group_shape {
    struct rml_broadcast_shape ring;  // of each partition, one behind the other
    uint32_t partitions;              // at least 1
};

/* Where a member stands in the ring of one partition. */
struct rml_group_lane {
    struct rml_broadcast_in ring;
    uint64_t at;       // what it looks at next
    uint64_t until;    // rows before this it looks at once more, since somebody is gone
    uint64_t version;  // of the roster, when it began to
};

/* A member's end, in its own memory; its fields are group.c's. */
struct rml_group_in {
    struct rml_group_shape shape;
    unsigned char *memory;
    const struct rml_roster *roster;
    struct rml_group_lane *lanes;  // of each partition
    uint32_t member;
    uint64_t turn;
    uint32_t next;      // partition that is looked at next
    const char *fault;  // why a call returned -EPROTO
};

/* A row that was taken. */
struct rml_group_row {
    uint32_t partition;
    uint32_t again;   // how many had taken it before, and are gone; 15: as many or more
    uint64_t number;  // in its ring
    uint64_t word;    // group.c's
};

/* Bytes of a group's memory, a multiple of 64; 0: there is no such group. New memory is zeroed. */
size_t rml_group_bytes(struct rml_group_shape shape);

/*
 * Hold the end of the member that the roster has under this number and turn. `memory` (64-byte aligned)
 * is the group's, `rings` the partitions' rings; `lanes` has room for one of each partition. All of it stays the
 * caller's.
 */
void rml_group_attach(struct rml_group_in *in, struct rml_group_shape shape, void *memory,
                      const struct rml_roster *roster, const void *rings,
                      struct rml_group_lane *lanes, uint32_t member, uint64_t turn);

/*
 * Take a row, and copy it to `row` (8-byte aligned). 1: there was one; 0: there is none now; -EPROTO and
 * in->fault when the group's memory shows what cannot be, from then on always; -EOVERFLOW behind the last
 * row that can be counted (2^40 times round the ring).
 */
int rml_group_take(struct rml_group_in *in, void *row, struct rml_group_row *ret_row);

/* Done with a row that was taken. True; false when it was not this member's any more: the ring has gone
 * round meanwhile, and it was counted as expired. */
bool rml_group_done(struct rml_group_in *in, const struct rml_group_row *row);

/* May there be a row to take? Looked up in the total order, for a member that has said that it will
 * sleep. Take what there is before asking. */
bool rml_group_look(const struct rml_group_in *in);

/*
 * Counters, of all members that ever were or of all with one number. One that is killed after a step and
 * before it has counted it leaves that one uncounted.
 */
struct rml_group_counts {
    uint64_t taken;    // rows, as often as they were taken
    uint64_t again;    // of them, from one who was gone
    uint64_t done;     // acknowledged
    uint64_t missed;   // overwritten before anybody took them
    uint64_t expired;  // taken, and overwritten before anybody was done with them
};

/* Anyone may count; what members wrote is believed, and used for nothing else. */
void rml_group_count(struct rml_group_shape shape, const void *memory,
                     struct rml_group_counts *ret_counts);
void rml_group_count_member(struct rml_group_shape shape, const void *memory, uint32_t member,
                            struct rml_group_counts *ret_counts);

/* Rows of a partition that the ring has and nobody has taken for the first time. */
uint64_t rml_group_waiting(struct rml_group_shape shape, const void *memory,
                           const struct rml_roster *roster, const void *rings, uint32_t partition);

#endif
