/*
 * pile - rows on their way into result tables, until a checkpoint takes them along.
 *
 *                    the writer's                           the checkpointer's
 *     rows ──► filling ───── a round of marks is complete ──► ready ──► durable: gone
 *          └─► behind ───── and these are filling then
 *
 * What a partition makes up to its mark belongs to the checkpoint under way, what it makes behind it to
 * the next one. From the end of a round to the beginning of the next the ready rows hold still. They stay
 * until a checkpoint that has them is durable, and one that failed leaves them to the one after it.
 *
 * WHO WRITES WHAT. `ready` is handed over with the round (memory-order.md, writer.notes), and comes back
 * with the news that make workers begin another. `bytes` is a number that all may read and that orders
 * nothing: it says how much lies in all three.
 */
#ifndef RML_IO_PILE_H
#define RML_IO_PILE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/partition/result.h"

/* Beyond this workers take no more records until a checkpoint has come; half of it asks for one. What
 * steps that have begun still make comes on top. */
#define RML_PILE_BYTES ((uint64_t)64 << 20)

struct rml_pile_rows {
    unsigned char *bytes;
    size_t used, room;
    uint64_t count;
};

struct rml_pile {
    struct rml_pile_rows ready, filling, behind;
    _Atomic uint64_t bytes;
};

/* A row as it lies there, its record behind it. */
struct rml_pile_row {
    uint32_t output, partition;
    uint32_t record_bytes;
    uint32_t zero;
    int64_t fire;
    uint64_t seq;
    unsigned char record[];
};

/* All rows of a block, behind the mark of its partition or not. There must be memory. */
void rml_pile_add(struct rml_pile *pile, struct rml_result_block *block, bool behind);

/* The round of marks is complete. */
void rml_pile_turn(struct rml_pile *pile);

/* The checkpointer: what was ready is durable. */
void rml_pile_settle(struct rml_pile *pile);

/* The ready row at `*at`, which moves behind it; NULL: there is none. Begin with 0. */
const struct rml_pile_row *rml_pile_next(const struct rml_pile *pile, size_t *at);

/* Anyone: bytes in it. */
uint64_t rml_pile_bytes(const struct rml_pile *pile);

void rml_pile_fini(struct rml_pile *pile);

#endif
