/*
 * THE ROSTER
 *
 *     line 0     version: how many have been buried
 *     ...        for each number: state, turn * 2 + whether there is a member; what was taken before
 *     ...        for each partition: where the group begins
 *
 * `admit` makes a state (turn + 1, there), `bury` (turn, not there). A turn never comes back, so what a
 * reader has seen of a member that is gone stays true. Of a turn 12 bits are compared: who slept while a
 * number was given out 4096 times could take what its old holder left for held. It is then overwritten
 * with the ring, as what nobody acknowledges.
 *
 * MEMORY ORDER
 *
 *     group.roster    bury, tell -> version, is_gone     that the member is gone, and all its stores were made
 *
 * The kernel has said that the member's process has ended before `bury`, or the member said goodbye over its
 * connection behind its last store; so its stores come before the burial for whoever sees that.
 *
 * A DEATH of the writer leaves a state that counts or one that does not. A burial that it did not come to
 * count is told by the next writer (rml_roster_tell).
 */
#include "runtime/ring/roster.h"

#include <errno.h>
#include <stdalign.h>
#include <stdatomic.h>

#include "runtime/base/check.h"

#define LINE_BYTES ((size_t)64)
#define TURN_MASK  ((UINT64_C(1) << RML_ROSTER_TURN_BITS) - 1)

struct rml_roster {
    alignas(LINE_BYTES) _Atomic uint64_t version;
    alignas(LINE_BYTES) _Atomic uint64_t states[RML_ROSTER_MEMBERS_MAX];
    _Atomic uint64_t taken_before[RML_ROSTER_MEMBERS_MAX];
    _Atomic uint64_t begins[];
};

_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2, "a lock in shared memory would outlive its owner");

size_t rml_roster_bytes(uint32_t partitions)
{
    size_t bytes = sizeof(struct rml_roster) + 8 * (size_t)partitions;
    return (bytes + LINE_BYTES - 1) / LINE_BYTES * LINE_BYTES;
}

void rml_roster_begin(struct rml_roster *roster, uint32_t partition, uint64_t number)
{
    // relaxed: nobody else has the roster yet
    atomic_store_explicit(&roster->begins[partition], number, memory_order_relaxed);
}

uint64_t rml_roster_begins(const struct rml_roster *roster, uint32_t partition)
{
    // relaxed: written before the reader got the roster
    return atomic_load_explicit(&roster->begins[partition], memory_order_relaxed);
}

static uint64_t state_of(const struct rml_roster *roster, uint32_t member)
{
    RML_CHECK(member < RML_ROSTER_MEMBERS_MAX);
    // acquire: group.roster
    return atomic_load_explicit(&roster->states[member], memory_order_acquire);
}

int rml_roster_admit(struct rml_roster *roster, const uint64_t taken_before[RML_ROSTER_MEMBERS_MAX],
                     uint32_t *ret_member, uint64_t *ret_turn)
{
    for (uint32_t member = 0; member < RML_ROSTER_MEMBERS_MAX; member++) {
        uint64_t state = state_of(roster, member);
        if ((state & 1) != 0)
            continue;
        uint64_t turn = (state >> 1) + 1;
        _Atomic uint64_t *taken = &roster->taken_before[member];
        // relaxed: for people to read
        atomic_store_explicit(taken, taken_before[member], memory_order_relaxed);
        // release: group.roster
        atomic_store_explicit(&roster->states[member], turn << 1 | 1, memory_order_release);
        *ret_member = member;
        *ret_turn = turn;
        return 0;
    }
    return -EMFILE;
}

void rml_roster_bury(struct rml_roster *roster, uint32_t member)
{
    uint64_t state = state_of(roster, member);
    // release: group.roster
    atomic_store_explicit(&roster->states[member], state & ~UINT64_C(1), memory_order_release);
    rml_roster_tell(roster);
}

void rml_roster_tell(struct rml_roster *roster)
{
    // release: group.roster
    atomic_fetch_add_explicit(&roster->version, 1, memory_order_release);
}

bool rml_roster_is_member(const struct rml_roster *roster, uint32_t member)
{
    return (state_of(roster, member) & 1) != 0;
}

uint64_t rml_roster_turn(const struct rml_roster *roster, uint32_t member)
{
    return state_of(roster, member) >> 1;
}

uint64_t rml_roster_taken_before(const struct rml_roster *roster, uint32_t member)
{
    RML_CHECK(member < RML_ROSTER_MEMBERS_MAX);
    // relaxed: for people to read
    return atomic_load_explicit(&roster->taken_before[member], memory_order_relaxed);
}

uint64_t rml_roster_version(const struct rml_roster *roster)
{
    // acquire: group.roster
    return atomic_load_explicit(&roster->version, memory_order_acquire);
}

bool rml_roster_is_gone(const struct rml_roster *roster, uint32_t member, uint64_t turn)
{
    if (member >= RML_ROSTER_MEMBERS_MAX)
        return true;
    uint64_t state = state_of(roster, member);
    return (state & 1) == 0 || (state >> 1 & TURN_MASK) != (turn & TURN_MASK);
}
