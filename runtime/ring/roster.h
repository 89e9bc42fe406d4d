/*
 * roster - who is a member of a group, and who is proved not to be one any more.
 *
 * The engine writes it; members map it read-only, and believe it. A member has a number, and a turn that
 * tells it from all who had the number before. Once `bury` has been called for it nobody takes it for
 * alive again, so whoever finds something that it held may take that over, at any time.
 *
 * One thread of one process writes. Whoever reads may do so at any time.
 */
#ifndef RML_RING_ROSTER_H
#define RML_RING_ROSTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RML_ROSTER_MEMBERS_MAX 64u  // their numbers are 0 ... 63
#define RML_ROSTER_TURN_BITS   12u  // of a turn are compared

struct rml_roster;  // what lies in shared memory, known to roster.c alone

/* Bytes of memory, a multiple of 64; a new roster is zeroed, 64-byte aligned and has no member. */
size_t rml_roster_bytes(uint32_t partitions);

/* Where a group begins: the number of the first row of a partition that is its own. Set before anybody sees
 * the roster, read by anybody. */
void rml_roster_begin(struct rml_roster *roster, uint32_t partition, uint64_t number);
uint64_t rml_roster_begins(const struct rml_roster *roster, uint32_t partition);

/* A new member; `taken_before` is what members of its number had taken, for people to read. 0, its number and
 * its turn; -EMFILE: there are as many as there can be. */
int rml_roster_admit(struct rml_roster *roster, const uint64_t taken_before[RML_ROSTER_MEMBERS_MAX],
                     uint32_t *ret_member, uint64_t *ret_turn);

/* The member is gone, which the caller has seen proved: none of its stores is still to come. */
void rml_roster_bury(struct rml_roster *roster, uint32_t member);

bool rml_roster_is_member(const struct rml_roster *roster, uint32_t member);
uint64_t rml_roster_turn(const struct rml_roster *roster, uint32_t member);
uint64_t rml_roster_taken_before(const struct rml_roster *roster, uint32_t member);

/* Of a writer that goes on for one that died, which may have buried somebody and not told. */
void rml_roster_tell(struct rml_roster *roster);

/* Counts the burials, and what else is to be told. */
uint64_t rml_roster_version(const struct rml_roster *roster);

/* Is there nobody of that number and turn (its last RML_ROSTER_TURN_BITS bits)? Any number is answered. */
bool rml_roster_is_gone(const struct rml_roster *roster, uint32_t member, uint64_t turn);

#endif
