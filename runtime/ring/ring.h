/*
 * ring - one producer hands fixed-size cells to one consumer, across threads or processes.
 *
 *     producer, holding the out end    claim -> fill the cells -> commit (any number of times) -> publish
 *     consumer, holding the in end     peek  -> use the cells  -> take   (any number of times) -> release
 *
 * The two ends are two types, so an end can only do its own side's work. Each end writes its own
 * position in its own memory, which the other may be unable to map writable. Nothing here blocks,
 * allocates or enters the kernel; waiting is runtime/lane's business. One thread at a time may use
 * an end; the two ends may be used at the same time. Layout, memory order and what a crash leaves
 * behind: the essay at the top of ring.c.
 */
#ifndef RML_RING_RING_H
#define RML_RING_RING_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

struct rml_err;

#define RML_RING_LINE      64          // bytes of a cache line
#define RML_RING_CELLS_MAX (1u << 24)  // of one ring
#define RML_RING_CELL_MAX  4096u       // bytes of one cell

struct rml_ring_shape {
    uint32_t cell_bytes;  // size of one cell, a multiple of 8, at most RML_RING_CELL_MAX
    uint32_t cell_count;  // number of cells, a power of two, at most RML_RING_CELLS_MAX
};

/*
 * Where a ring lies. `cells` is 64-byte aligned and cell_count * cell_bytes long. The two positions
 * count the cells ever published and ever released; no line holds words of both sides.
 */
struct rml_ring_place {
    struct rml_ring_shape shape;
    unsigned char *cells;         // the producer writes
    _Atomic uint64_t *published;  // the producer writes
    _Atomic uint64_t *released;   // the consumer writes
};

/*
 * How cells travel. What limits a ring is getting cache lines back from the reader's core, and which
 * way is fastest depends on where the two cores lie; whoever holds the ring measures and chooses.
 */
enum rml_ring_variant {
    RML_RING_PLAIN,   // filled in place with ordinary stores
    RML_RING_STAGED,  // filled in private memory, carried over by stores that bypass the cache
    RML_RING_FLUSH,   // filled in place; the consumer evicts the lines that it has read
    RML_RING_VARIANTS
};

/* The producer's end. It lives in the producer's own memory; its fields are ring.c's. */
struct rml_ring_out {
    struct rml_ring_place place;
    uint64_t committed;      // cells ever committed
    uint64_t published;      // cells ever published
    uint64_t released;       // cells ever released, when last looked
    unsigned char *staging;  // NULL: no staging memory, RML_RING_STAGED cannot be chosen
    uint32_t staging_cells;
    uint32_t staging_next;  // where the next cell is filled
    uint32_t staged;        // of the committed cells, how many still lie in staging before it
    enum rml_ring_variant variant;
};

/* The consumer's end, likewise. */
struct rml_ring_in {
    struct rml_ring_place place;
    uint64_t taken;      // cells ever taken
    uint64_t released;   // cells ever released
    uint64_t published;  // cells ever published, when last looked
};

/* 0, or -EINVAL and a sentence when there is no such ring. */
int rml_ring_check_shape(struct rml_ring_shape shape, struct rml_err *err);

/*
 * Hold an end of the ring at `place`, from where it was left: new, zeroed memory is an empty ring.
 * The memory stays the caller's; there is nothing to close. `place` keeps to the shape's promise
 * (rml_ring_check_shape). 0, or -EPROTO when the two positions cannot both be true.
 */
int rml_ring_attach_out(struct rml_ring_out *out, const struct rml_ring_place *place);
int rml_ring_attach_in(struct rml_ring_in *in, const struct rml_ring_place *place);

/*
 * Hold an in end again, after whoever held it died: the next peek begins at cell `taken`, of those that
 * were not released. -EPROTO when there is no such cell by our own position; the producer's is believed,
 * or not, when it is looked at.
 */
int rml_ring_resume_in(struct rml_ring_in *in, const struct rml_ring_place *place, uint64_t taken);

/* Lend the out end private memory for RML_RING_STAGED: 64-byte aligned, `staging_cells` cells. */
void rml_ring_lend_staging(struct rml_ring_out *out, void *staging, uint32_t staging_cells);

/*
 * Use another way from now on; everything committed must be published. The consumer follows by
 * itself but for RML_RING_FLUSH, where it has to be told (rml_ring_evict).
 */
void rml_ring_choose(struct rml_ring_out *out, enum rml_ring_variant variant);

/*
 * A run of up to `want` adjacent free cells, the first at *ret_cells; fill them with ordinary stores.
 * Returns its length; 0 when the ring is full; -EPROTO when the consumer's position cannot be true.
 * The run is shorter than `want` where memory ends: commit it and claim again. Claiming again without
 * committing gives the first claim up, and what was filled into it; publishing does not.
 */
int32_t rml_ring_claim(struct rml_ring_out *out, uint32_t want, void **ret_cells);

/* The first `count` cells of the last claim are filled. They may not be touched any more. */
void rml_ring_commit(struct rml_ring_out *out, uint32_t count);

/* Make everything committed visible to the consumer. */
void rml_ring_publish(struct rml_ring_out *out);

/*
 * How many cells are free, looked up in the total order of all sequentially consistent accesses:
 * for a producer that has said that it will sleep. The count, or -EPROTO.
 */
int32_t rml_ring_room_look(struct rml_ring_out *out);

/*
 * A run of up to `want` adjacent cells that are published and not taken, the first at *ret_cells. It
 * is shorter than `want` where memory ends. Returns its length; 0 when there are none; -EPROTO when
 * the producer's position cannot be true.
 */
int32_t rml_ring_peek(struct rml_ring_in *in, uint32_t want, const void **ret_cells);

/*
 * Exactly `want` adjacent cells that were peeked at once, before the in end was resumed, without a look at the
 * producer's position, which may be a lie by now: what lies in them is for the caller to judge. 0; or
 * -EPROTO when by our own positions they cannot have been.
 */
int rml_ring_peek_again(struct rml_ring_in *in, uint32_t want, const void **ret_cells);

/* Look at the producer's position now, whatever is left from the last look: 0 or -EPROTO. */
int rml_ring_look(struct rml_ring_in *in);

/* The first `count` cells of the last peek are used; the next peek begins behind them. */
void rml_ring_take(struct rml_ring_in *in, uint32_t count);

/* Evict from this core's cache the `count` cells that the last take took (RML_RING_FLUSH); lines that
 * hold cells not yet taken stay. */
void rml_ring_evict(const struct rml_ring_in *in, uint32_t count);

/* The `count` oldest taken cells may be overwritten from now on. */
void rml_ring_release(struct rml_ring_in *in, uint32_t count);

/* Likewise, and in the total order, so that who looks afterwards for a sleeping producer finds it. */
void rml_ring_release_total(struct rml_ring_in *in, uint32_t count);

#endif
