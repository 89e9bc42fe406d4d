#include "runtime/lane/owners.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "runtime/base/check.h"

// Publishes what was stored of states before. Returns the version that says so.
static uint64_t next_version(struct rml_lane_owners *owners)
{
    // relaxed: this thread is the only writer
    uint64_t version = atomic_load_explicit(&owners->states->version, memory_order_relaxed) + 1;
    // release: lane.owners
    atomic_store_explicit(&owners->states->version, version, memory_order_release);
    return version;
}

/*
 * An engine that died may have stored a state and not its version, and partitions have seen the version before:
 * with one of its own, all states there are count as seen by whoever looks from now on, and by nobody before.
 */
int rml_lane_owners_open(struct rml_lane_owners *owners, const struct rml_lane_geometry *geometry,
                         void *records, void *returns)
{
    const struct rml_lane_layout layout = rml_lane_layout(geometry);
    *owners = (struct rml_lane_owners){
        .count = geometry->owners,
        .partitions = geometry->partitions,
        .lines = rml_lane_owner_lines(records, &layout),
        .states = rml_lane_owner_states(returns, &layout),
        .logs = rml_lane_log_lines(returns, &layout),
        .doors = malloc(geometry->owners * sizeof *owners->doors),
        .left_at = calloc(geometry->owners, sizeof *owners->left_at),
        .is_named = calloc(geometry->owners, sizeof *owners->is_named),
    };
    if (owners->doors == NULL || owners->left_at == NULL || owners->is_named == NULL)
        return -ENOMEM;
    uint64_t version = next_version(owners);
    for (uint32_t i = 0; i < owners->count; i++) {
        atomic_init(&owners->doors[i], -1);
        owners->left_at[i] = version;
    }
    return 0;
}

static int door_of(const struct rml_lane_owners *owners, uint32_t owner)
{
    // relaxed: this thread is the only writer
    return atomic_load_explicit(&owners->doors[owner - 1], memory_order_relaxed);
}

static void set_door(struct rml_lane_owners *owners, uint32_t owner, int door)
{
    // relaxed: of a new owner the version publishes it; of another, see rml_lane_owners_again
    atomic_store_explicit(&owners->doors[owner - 1], door, memory_order_relaxed);
}

static void knock_at(const struct rml_lane_owners *owners, uint32_t owner)
{
    int door = door_of(owners, owner);
    if (door >= 0)
        (void)send(door, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void close_door(struct rml_lane_owners *owners, uint32_t owner)
{
    int door = door_of(owners, owner);
    set_door(owners, owner, -1);
    if (door >= 0)
        close(door);
}

void rml_lane_owners_close(struct rml_lane_owners *owners)
{
    for (uint32_t owner = 1; owners->doors != NULL && owner <= owners->count; owner++)
        close_door(owners, owner);
    free(owners->doors);
    free(owners->left_at);
    free(owners->is_named);
    *owners = (struct rml_lane_owners){0};
}

enum rml_lane_owner_state rml_lane_owners_state(const struct rml_lane_owners *owners,
                                                uint32_t owner)
{
    RML_CHECK(owner >= 1 && owner <= owners->count);
    const _Atomic uint64_t *state = &owners->states->state[owner - 1];
    // relaxed: this thread is the only writer
    return RML_LANE_OWNER_STATE(atomic_load_explicit(state, memory_order_relaxed));
}

// Returns the version that says so.
static uint64_t set_state(struct rml_lane_owners *owners, uint32_t owner,
                          enum rml_lane_owner_state state)
{
    // relaxed: this thread is the only writer
    uint64_t version = atomic_load_explicit(&owners->states->version, memory_order_relaxed) + 1;
    uint64_t word = RML_LANE_OWNER_WORD(version, state);
    // relaxed: the version publishes it
    atomic_store_explicit(&owners->states->state[owner - 1], word, memory_order_relaxed);
    return next_version(owners);
}

// What the number's former owner left there would count as this one's.
static void clear_line(struct rml_lane_owner_line *line)
{
    // relaxed: the version publishes all of it to workers, a message to the producer
    atomic_store_explicit(&line->time, 0, memory_order_relaxed);
    // relaxed: likewise
    atomic_store_explicit(&line->waiting, 0, memory_order_relaxed);
    // relaxed: likewise
    atomic_store_explicit(&line->publishes, 0, memory_order_relaxed);
}

static int keep_door(struct rml_lane_owners *owners, uint32_t owner, int socket)
{
    int door = fcntl(socket, F_DUPFD_CLOEXEC, 0);
    if (door < 0)
        return -errno;
    set_door(owners, owner, door);
    return 0;
}

int rml_lane_owners_add(struct rml_lane_owners *owners, int socket, uint32_t *ret_owner)
{
    uint32_t owner = 1;
    while (owner <= owners->count && rml_lane_owners_state(owners, owner) != RML_LANE_OWNER_FREE)
        owner++;
    if (owner > owners->count)
        return -EMFILE;
    int rc = keep_door(owners, owner, socket);
    if (rc < 0)
        return rc;
    clear_line(&owners->lines[owner - 1]);
    set_state(owners, owner, RML_LANE_OWNER_HERE);
    *ret_owner = owner;
    return 0;
}

bool rml_lane_owners_again(struct rml_lane_owners *owners, uint32_t owner, int socket)
{
    if (owner == 0 || owner > owners->count
        || rml_lane_owners_state(owners, owner) == RML_LANE_OWNER_FREE)
        return false;
    owners->is_named[owner - 1] = true;
    (void)keep_door(owners, owner, socket);  // without one it looks for room when its time is up
    knock_at(owners, owner);
    return true;
}

void rml_lane_owners_left(struct rml_lane_owners *owners, uint32_t owner,
                          enum rml_lane_owner_state how)
{
    RML_CHECK(how == RML_LANE_OWNER_LEFT || how == RML_LANE_OWNER_LOST
              || how == RML_LANE_OWNER_DEAD);
    enum rml_lane_owner_state was = rml_lane_owners_state(owners, owner);
    if (was != RML_LANE_OWNER_HERE && !(was == RML_LANE_OWNER_LOST && how != was))
        return;
    owners->left_at[owner - 1] = set_state(owners, owner, how);
}

void rml_lane_owners_left_rest(struct rml_lane_owners *owners)
{
    for (uint32_t owner = 1; owner <= owners->count; owner++) {
        if (!owners->is_named[owner - 1])
            rml_lane_owners_left(owners, owner, RML_LANE_OWNER_DEAD);
    }
}

uint64_t rml_lane_owners_version(const struct rml_lane_owners *owners)
{
    // relaxed: this thread is the only writer
    return atomic_load_explicit(&owners->states->version, memory_order_relaxed);
}

// Up to which version all partitions have taken what those had published that had left.
static uint64_t least_seen(const struct rml_lane_owners *owners)
{
    uint64_t least = UINT64_MAX;
    for (uint32_t p = 0; p < owners->partitions; p++) {
        // acquire: lane.leaving
        uint64_t seen = atomic_load_explicit(&owners->logs[p].seen, memory_order_acquire);
        least = seen < least ? seen : least;
    }
    return least;
}

uint32_t rml_lane_owners_settle(struct rml_lane_owners *owners)
{
    uint64_t seen = least_seen(owners);
    uint32_t waiting = 0;
    for (uint32_t owner = 1; owner <= owners->count; owner++) {
        enum rml_lane_owner_state state = rml_lane_owners_state(owners, owner);
        if (state != RML_LANE_OWNER_LEFT && state != RML_LANE_OWNER_DEAD)
            continue;
        if (seen < owners->left_at[owner - 1]) {
            waiting++;
            continue;
        }
        close_door(owners, owner);
        set_state(owners, owner, RML_LANE_OWNER_FREE);
    }
    return waiting;
}

uint32_t rml_lane_owners_here(const struct rml_lane_owners *owners)
{
    uint32_t here = 0;
    for (uint32_t owner = 1; owner <= owners->count; owner++)
        here += rml_lane_owners_state(owners, owner) == RML_LANE_OWNER_HERE;
    return here;
}

void rml_lane_owners_knock(const struct rml_lane_owners *owners)
{
    for (uint32_t owner = 1; owner <= owners->count; owner++)
        knock_at(owners, owner);
}
