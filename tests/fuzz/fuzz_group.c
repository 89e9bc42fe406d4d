/*
 * A group in whose memory a hostile member writes what it likes, where it likes, between any two steps of
 * two honest ones. A take ends, copies one row and no more, which is one that the ring has or had under the
 * number that it tells, of a partition that there is; otherwise the answer is -EPROTO, and stays so. Who counts,
 * as the engine does, gets numbers.
 */
#include <errno.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <string.h>

#include "runtime/base/check.h"
#include "runtime/ring/group.h"
#include "runtime/ring/roster.h"

enum { ROWS = 8, PARTITIONS = 2, MEMBERS = 2, HELD = 16, STEP_SIZE = 10 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct rml_group_shape shape = {{16, ROWS}, PARTITIONS};

struct member {
    struct rml_group_in in;
    struct rml_group_lane lanes[PARTITIONS];
    uint32_t number;
    uint32_t held_count;
    struct rml_group_row held[HELD];
};

struct scene {
    alignas(64) unsigned char rings[1024];
    alignas(64) unsigned char memory[8192];
    alignas(64) unsigned char roster[2048];
    struct rml_broadcast_out out[PARTITIONS];
    struct member members[MEMBERS];
};

static void join(struct scene *scene, struct member *member)
{
    uint64_t before[RML_ROSTER_MEMBERS_MAX] = {0}, turn;
    struct rml_roster *roster = (void *)scene->roster;
    RML_CHECK(rml_roster_admit(roster, before, &member->number, &turn) == 0);
    rml_group_attach(&member->in, shape, scene->memory, roster, scene->rings, member->lanes,
                     member->number, turn);
    member->held_count = 0;
}

static void give(struct scene *scene, uint8_t which, uint8_t rows)
{
    struct rml_broadcast_out *out = &scene->out[which % PARTITIONS];
    for (uint32_t i = 0; i < rows % (2 * ROWS); i++) {
        const uint64_t row[2] = {which % PARTITIONS, out->given};
        rml_broadcast_give(out, row);
    }
    rml_broadcast_announce(out);
}

// A word of its own making, or one that lies near the truth; most often one of those that steer.
static void scribble(struct scene *scene, uint8_t how, uint8_t where, uint64_t value)
{
    size_t words = rml_group_bytes(shape) / 8;
    size_t steering = PARTITIONS * ROWS, at = where % (steering + PARTITIONS);
    at = (how & 8) != 0    ? (size_t)(value >> 32) % words
         : at < PARTITIONS ? at * 8
                           : words - steering + at - PARTITIONS;
    _Atomic uint64_t *word = (_Atomic uint64_t *)(void *)scene->memory + at;
    if ((how & 16) != 0)
        value = atomic_load_explicit(word, memory_order_relaxed) ^ (value & 0xff) << (how >> 5) * 8;
    atomic_store_explicit(word, value, memory_order_relaxed);
}

static void take(const struct scene *scene, struct member *member)
{
    uint64_t row[3] = {0, 0, 0x5a};
    struct rml_group_row taken;
    bool was_faulty = member->in.fault != NULL;
    int rc = rml_group_take(&member->in, row, &taken);
    RML_CHECK(rc == 0 || rc == 1 || rc == -EPROTO || rc == -EOVERFLOW);
    RML_CHECK(row[2] == 0x5a);
    RML_CHECK(!was_faulty || rc == -EPROTO);
    RML_CHECK((rc == -EPROTO) == (member->in.fault != NULL));
    if (rc != 1)
        return;
    RML_CHECK(taken.partition < PARTITIONS && taken.again <= 15);
    RML_CHECK(row[0] == taken.partition && row[1] == taken.number);
    RML_CHECK(taken.number < scene->out[taken.partition].given);
    if (member->held_count < HELD)
        member->held[member->held_count++] = taken;
}

static void step(struct scene *scene, const uint8_t *bytes)
{
    uint64_t value;
    memcpy(&value, bytes + 2, sizeof value);
    struct member *member = &scene->members[bytes[1] % MEMBERS];
    struct rml_group_counts counts;
    switch (bytes[0] & 7) {
    case 0:
    case 1:
        scribble(scene, bytes[0], bytes[1], value);
        break;
    case 2:
        give(scene, bytes[1], bytes[2]);
        break;
    case 3:
        if (member->held_count > 0)
            (void)rml_group_done(&member->in, &member->held[--member->held_count]);
        break;
    case 4:
        rml_roster_bury((void *)scene->roster, member->number);
        join(scene, member);
        break;
    case 5:
        rml_group_count(shape, scene->memory, &counts);
        RML_CHECK(rml_group_waiting(shape, scene->memory, (void *)scene->roster, scene->rings,
                                    bytes[1] % PARTITIONS)
                  <= ROWS);
        (void)rml_group_look(&member->in);
        break;
    default:
        take(scene, member);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct scene scene;
    scene = (struct scene){0};
    size_t ring_bytes = rml_broadcast_bytes(shape.ring);
    RML_CHECK(PARTITIONS * ring_bytes <= sizeof scene.rings);
    RML_CHECK(rml_group_bytes(shape) <= sizeof scene.memory);
    RML_CHECK(rml_roster_bytes(PARTITIONS) <= sizeof scene.roster);
    for (uint32_t p = 0; p < PARTITIONS; p++)
        rml_broadcast_attach_out(&scene.out[p], scene.rings + p * ring_bytes, shape.ring);
    for (uint32_t m = 0; m < MEMBERS; m++)
        join(&scene, &scene.members[m]);
    for (size_t at = 0; at + STEP_SIZE <= size && at < 300 * STEP_SIZE; at += STEP_SIZE)
        step(&scene, data + at);
    return 0;
}
