/*
 * A shared ring in which a producer writes what it likes, where it likes, between any two steps of an
 * honest producer and two consumers. A take ends, copies no more than it was asked for from inside the
 * ring, and moves head forward only; otherwise the answer is -EPROTO, and stays so.
 */
#include <errno.h>
#include <stdalign.h>
#include <string.h>

#include "runtime/base/check.h"
#include "runtime/ring/shared_ring.h"

#define CELLS     8u
#define RUN       3u
#define WANT      8u
#define STEP_SIZE 10u  // a step: what, where, and a word

enum { HONEST = 1, HOSTILE = 2, READER = 3, SECOND_READER = 4, OWNERS = 4 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct rml_shared_shape shape = {
    .cell_bytes = 16, .cell_count = CELLS, .run_max = RUN, .owner_count = OWNERS};

struct scene {
    alignas(64) unsigned char records[512];
    alignas(64) unsigned char returns[512];
    struct rml_shared_place place;
    struct rml_shared_out out;
    struct rml_shared_in in[2];
    uint64_t head;
};

// A word of its own making, or one that lies near the truth.
static void scribble(struct scene *scene, uint8_t where, uint64_t value)
{
    _Atomic uint64_t *word =
        (where & 15) == 15 ? scene->place.tail : &scene->place.words[where % CELLS];
    if ((where & 16) != 0)
        value =
            atomic_load_explicit(word, memory_order_relaxed) ^ (value & 0xff) << (where >> 5) * 8;
    atomic_store_explicit(word, value, memory_order_relaxed);
}

static void take(struct scene *scene, struct rml_shared_in *in)
{
    unsigned char copy[WANT * 16 + 1];
    uint16_t owners[WANT];
    copy[sizeof copy - 1] = 0x5a;
    bool was_faulty = in->fault != NULL;
    int32_t count = rml_shared_take(in, copy, owners, WANT);
    RML_CHECK(count == -EPROTO || (count >= 0 && count <= (int32_t)WANT));
    RML_CHECK(copy[sizeof copy - 1] == 0x5a);
    RML_CHECK(!was_faulty || count == -EPROTO);
    RML_CHECK(count >= 0 || in->fault != NULL);
    for (int32_t i = 0; i < count; i++)
        RML_CHECK(owners[i] >= 1 && owners[i] <= OWNERS);
    uint64_t head = atomic_load_explicit(scene->place.head, memory_order_relaxed);
    RML_CHECK(head >= scene->head);
    scene->head = head;
}

static void claim_or_publish(struct scene *scene, uint8_t how)
{
    void *cells;
    if (scene->out.claimed > 0) {
        (void)((how & 1) != 0 ? rml_shared_publish(&scene->out) : rml_shared_give_up(&scene->out));
        return;
    }
    int32_t run = rml_shared_claim(&scene->out, 1 + how % 4, &cells);
    RML_CHECK(run <= (int32_t)RUN);
    if (run > 0)
        memset(cells, how, (size_t)run * 16);  // all of it is ours to write
}

static void step(struct scene *scene, const uint8_t *bytes)
{
    uint64_t value;
    memcpy(&value, bytes + 2, sizeof value);
    switch (bytes[0] & 7) {
    case 0:
    case 1:
    case 2:
        scribble(scene, bytes[1], value);
        break;
    case 3:
    case 4:
        take(scene, &scene->in[bytes[1] & 1]);
        break;
    case 5:
        RML_CHECK(rml_shared_recover(&scene->place, 1 + bytes[1] % OWNERS)
                  <= (int32_t)CELLS * (int32_t)CELLS);
        break;
    default:
        claim_or_publish(scene, bytes[1]);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct scene scene;
    scene = (struct scene){0};
    RML_CHECK(rml_shared_records_bytes(shape) <= sizeof scene.records);
    RML_CHECK(rml_shared_returns_bytes(shape) <= sizeof scene.returns);
    scene.place = rml_shared_place_at(shape, scene.records, scene.returns);
    rml_shared_attach_out(&scene.out, &scene.place, HONEST);
    rml_shared_attach_in(&scene.in[0], &scene.place, READER);
    rml_shared_attach_in(&scene.in[1], &scene.place, SECOND_READER);
    for (size_t at = 0; at + STEP_SIZE <= size && at < 300 * STEP_SIZE; at += STEP_SIZE)
        step(&scene, data + at);
    return 0;
}
