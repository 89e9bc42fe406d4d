/*
 * THE RING
 *
 * Three counters chase each other and never go back. `published` counts the cells that the producer
 * has ever made visible, `released` those that it may fill again, and between the two, in the
 * consumer's private memory, `taken` counts those that the consumer has used; `released` may lag
 * behind it for as long as the consumer wants to be able to look at the cells again. Cell n lies at
 * index n modulo cell_count. The counters are 64 bits wide, so they do not wrap in the life of a
 * machine, and
 *
 *     released <= taken <= published <= committed <= released + cell_count
 *
 * always holds, `committed` being the producer's private tail.
 *
 *            released       taken          published    committed
 *               v             v                v            v
 *     ... free  |  kept, used | for the consumer | filled   |  free ...     (one turn of the cells)
 *
 * WHO WRITES WHAT
 *
 *     `published`   the producer alone, in memory that it may write
 *     `released`    the consumer alone, in memory that the producer can at best read
 *     a cell        the producer from claim to publish, then nobody until release
 *
 * Each end keeps its own counters, and the other's as last seen, in its own memory, and looks at the
 * other's line only when what it saw last leaves it too little to do. In steady flow the two cores
 * exchange one line of counters for each batch, not for each cell.
 *
 * MEMORY ORDER
 *
 * Two edges, named after what travels along them:
 *
 *     ring.cells    publish -> peek     the contents of the cells
 *     ring.room     release -> claim    that the consumer reads them no longer
 *
 * Without ring.cells the consumer may see a cell before it is filled; without ring.room the producer
 * may fill one that is still being read. The two say nothing about each other, so neither end needs
 * a full fence. Stores that bypass the cache are outside of the order that a release gives: the
 * staged way drains them with a store fence of the processor before it publishes. A producer that
 * goes to sleep needs more, for there a store must not be overtaken by a later load:
 * rml_ring_room_look and rml_ring_release_total are the two accesses in the total order, and the
 * argument stands in runtime/lane/layout.h. tests/model/ring.pml tries every interleaving of a small
 * ring, and tests/unit/test_ring.c runs a real one under ThreadSanitizer.
 *
 * THREE WAYS TO CARRY A CELL
 *
 * What limits a ring is not copying but getting a line back that the other core has read: plain
 * stores fetch it from that core's cache first. Staged cells are filled in private memory and
 * carried over by stores that take no line; where the reader evicts what it has read, the line comes
 * from memory. Which is best depends on where the two cores lie, so it can be changed in flight: the
 * contents of a cell are the same whichever way it came.
 *
 * TRUST
 *
 * The other end may belong to a hostile process, so its counter is input. One compare covers every
 * way in which it can be wrong: what it moved since last looked must not be more than could be
 * moved, and a counter that went back has moved by almost 2^64. The shape is never read from shared
 * memory.
 *
 * A CRASH
 *
 * A producer that dies between claim and publish loses what it had not published, and nothing else:
 * no counter ever covers a half-filled cell. A consumer that dies leaves every cell that it had not
 * released to be seen again. Neither death leaves the other waiting for a lock, for there is none.
 */
#include "runtime/ring/ring.h"

#include <errno.h>
#include <stdbool.h>

#include "runtime/base/check.h"
#include "runtime/base/err.h"
#include "runtime/ring/stream.h"

_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2, "a lock in shared memory would outlive its owner");

static uint32_t least(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static uint32_t ring_index(struct rml_ring_shape shape, uint64_t position)
{
    return (uint32_t)position & (shape.cell_count - 1);
}

static unsigned char *ring_cell(const struct rml_ring_place *place, uint64_t position)
{
    return place->cells
           + (size_t)ring_index(place->shape, position) * (size_t)place->shape.cell_bytes;
}

// How much of `there` can be had as one run from `position`, where the memory may end first.
static uint32_t ring_run(struct rml_ring_shape shape, uint64_t position, uint64_t there,
                         uint32_t want)
{
    uint32_t to_end = shape.cell_count - ring_index(shape, position);
    return least(least((uint32_t)there, to_end), want);
}

int rml_ring_check_shape(struct rml_ring_shape shape, struct rml_err *err)
{
    if (shape.cell_bytes == 0 || shape.cell_bytes % 8 != 0 || shape.cell_bytes > RML_RING_CELL_MAX)
        return RML_FAIL(err, -EINVAL, "cell_bytes must be a multiple of 8 up to %u, got %u",
                        RML_RING_CELL_MAX, shape.cell_bytes);
    if (shape.cell_count == 0 || (shape.cell_count & (shape.cell_count - 1)) != 0)
        return RML_FAIL(err, -EINVAL, "cell_count must be a power of two, got %u",
                        shape.cell_count);
    if (shape.cell_count > RML_RING_CELLS_MAX)
        return RML_FAIL(err, -EINVAL, "cell_count is at most %u, got %u", RML_RING_CELLS_MAX,
                        shape.cell_count);
    return 0;
}

// The two positions as they were left; false when they cannot both be true.
static bool ring_left(const struct rml_ring_place *place, uint64_t *ret_published,
                      uint64_t *ret_released)
{
    RML_CHECK((uintptr_t)place->cells % RML_RING_LINE == 0);
    RML_CHECK(rml_ring_check_shape(place->shape, NULL) == 0);
    // acquire: ring.room
    *ret_released = atomic_load_explicit(place->released, memory_order_acquire);
    // acquire: ring.cells
    *ret_published = atomic_load_explicit(place->published, memory_order_acquire);
    return *ret_published - *ret_released <= place->shape.cell_count;
}

int rml_ring_attach_out(struct rml_ring_out *out, const struct rml_ring_place *place)
{
    uint64_t published, released;
    if (!ring_left(place, &published, &released))
        return -EPROTO;
    *out = (struct rml_ring_out){
        .place = *place, .committed = published, .published = published, .released = released};
    return 0;
}

int rml_ring_attach_in(struct rml_ring_in *in, const struct rml_ring_place *place)
{
    uint64_t published, released;
    if (!ring_left(place, &published, &released))
        return -EPROTO;
    *in = (struct rml_ring_in){
        .place = *place, .taken = released, .released = released, .published = published};
    return 0;
}

int rml_ring_resume_in(struct rml_ring_in *in, const struct rml_ring_place *place, uint64_t taken)
{
    uint64_t published, released;
    (void)ring_left(place, &published, &released);  // a producer went on meanwhile, whatever it is
    if (taken - released > place->shape.cell_count)
        return -EPROTO;
    *in = (struct rml_ring_in){
        .place = *place, .taken = taken, .released = released, .published = taken};
    return 0;
}

void rml_ring_lend_staging(struct rml_ring_out *out, void *staging, uint32_t staging_cells)
{
    RML_CHECK(staging_cells > 0);
    RML_CHECK((uintptr_t)staging % RML_RING_LINE == 0);
    out->staging = staging;
    out->staging_cells = staging_cells;
}

void rml_ring_choose(struct rml_ring_out *out, enum rml_ring_variant variant)
{
    RML_CHECK(out->published == out->committed);
    RML_CHECK(variant != RML_RING_STAGED || out->staging != NULL);
    out->variant = variant;
}

// Believe a `released` that moved only over cells that were published.
static int ring_see_released(struct rml_ring_out *out, uint64_t released)
{
    if (released - out->released > out->published - out->released)
        return -EPROTO;
    out->released = released;
    return 0;
}

// Carry what lies in staging to its cells, which follow each other without a turn.
static void ring_carry(struct rml_ring_out *out)
{
    size_t cell_bytes = out->place.shape.cell_bytes;
    rml_stream_copy(ring_cell(&out->place, out->committed - out->staged),
                    out->staging + (out->staging_next - out->staged) * cell_bytes,
                    out->staged * cell_bytes);
    out->staged = 0;
}

static uint32_t ring_claim_staged(struct rml_ring_out *out, uint32_t run, void **ret_cells)
{
    run = least(run, out->staging_cells);
    bool turned = ring_index(out->place.shape, out->committed) == 0;
    bool is_used_up = out->staging_cells - out->staging_next < run;
    if (turned || is_used_up)
        ring_carry(out);
    if (is_used_up)
        out->staging_next = 0;
    *ret_cells = out->staging + (size_t)out->staging_next * out->place.shape.cell_bytes;
    return run;
}

int32_t rml_ring_claim(struct rml_ring_out *out, uint32_t want, void **ret_cells)
{
    RML_CHECK(want > 0);

    uint32_t cell_count = out->place.shape.cell_count;
    if (cell_count - (out->committed - out->released) < want) {
        // acquire: ring.room
        uint64_t released = atomic_load_explicit(out->place.released, memory_order_acquire);
        if (ring_see_released(out, released) < 0)
            return -EPROTO;
    }
    uint64_t room = cell_count - (out->committed - out->released);
    uint32_t run = ring_run(out->place.shape, out->committed, room, want);
    if (out->variant == RML_RING_STAGED && run > 0)
        return (int32_t)ring_claim_staged(out, run, ret_cells);
    *ret_cells = ring_cell(&out->place, out->committed);
    return (int32_t)run;
}

void rml_ring_commit(struct rml_ring_out *out, uint32_t count)
{
    RML_CHECK(count <= out->place.shape.cell_count - (out->committed - out->released));
    out->committed += count;
    if (out->variant == RML_RING_STAGED) {
        out->staged += count;
        out->staging_next += count;
    }
}

void rml_ring_publish(struct rml_ring_out *out)
{
    if (out->variant == RML_RING_STAGED) {
        ring_carry(out);
        rml_stream_fence();
    }
    out->published = out->committed;
    // release: ring.cells
    atomic_store_explicit(out->place.published, out->published, memory_order_release);
}

int32_t rml_ring_room_look(struct rml_ring_out *out)
{
    // total order: after the producer's word that it sleeps, before it does
    uint64_t released = atomic_load_explicit(out->place.released, memory_order_seq_cst);
    if (ring_see_released(out, released) < 0)
        return -EPROTO;
    return (int32_t)(out->place.shape.cell_count - (uint32_t)(out->committed - out->released));
}

int rml_ring_look(struct rml_ring_in *in)
{
    // acquire: ring.cells
    uint64_t published = atomic_load_explicit(in->place.published, memory_order_acquire);
    if (published - in->published > in->place.shape.cell_count - (in->published - in->released))
        return -EPROTO;
    in->published = published;
    return 0;
}

int32_t rml_ring_peek(struct rml_ring_in *in, uint32_t want, const void **ret_cells)
{
    RML_CHECK(want > 0);

    if (in->published - in->taken < want && rml_ring_look(in) < 0)
        return -EPROTO;
    *ret_cells = ring_cell(&in->place, in->taken);
    return (int32_t)ring_run(in->place.shape, in->taken, in->published - in->taken, want);
}

int rml_ring_peek_again(struct rml_ring_in *in, uint32_t want, const void **ret_cells)
{
    RML_CHECK(want > 0);
    uint64_t end = in->taken + want;
    if (end - in->released > in->place.shape.cell_count
        || ring_run(in->place.shape, in->taken, want, want) != want)
        return -EPROTO;
    if (in->published - in->taken < want)
        in->published = end;
    *ret_cells = ring_cell(&in->place, in->taken);
    return 0;
}

void rml_ring_take(struct rml_ring_in *in, uint32_t count)
{
    RML_CHECK(count <= in->published - in->taken);
    in->taken += count;
}

void rml_ring_evict(const struct rml_ring_in *in, uint32_t count)
{
    if (count == 0)
        return;
    size_t cell_bytes = in->place.shape.cell_bytes;
    size_t end = (size_t)(ring_index(in->place.shape, in->taken - 1) + 1) * cell_bytes;
    size_t begin = end - (size_t)count * cell_bytes;
    RML_CHECK(begin < end);  // one take is one run
    rml_evict(in->place.cells + begin / RML_RING_LINE * RML_RING_LINE,
              in->place.cells + end / RML_RING_LINE * RML_RING_LINE);
}

void rml_ring_release(struct rml_ring_in *in, uint32_t count)
{
    RML_CHECK(count <= in->taken - in->released);
    in->released += count;
    // release: ring.room
    atomic_store_explicit(in->place.released, in->released, memory_order_release);
}

void rml_ring_release_total(struct rml_ring_in *in, uint32_t count)
{
    RML_CHECK(count <= in->taken - in->released);
    in->released += count;
    // total order: before the look for a producer that sleeps
    atomic_store_explicit(in->place.released, in->released, memory_order_seq_cst);
}
