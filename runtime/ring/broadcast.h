/*
 * broadcast - one writer gives rows to any number of readers, and waits for none of them.
 *
 * The ring lies in memory that the readers can only read. Every row has a number, counted from 0; a
 * row stays until the ring has gone round once, and a reader that is slower than that is told exactly
 * how many rows it missed. Layout and memory order: the essay at the top of broadcast.c.
 */
#ifndef RML_RING_BROADCAST_H
#define RML_RING_BROADCAST_H

#include <stddef.h>
#include <stdint.h>

struct rml_broadcast_lines;  // what lies in shared memory, known to broadcast.c alone

#define RML_BROADCAST_ROWS_MAX (1u << 24)
#define RML_BROADCAST_ROW_MAX  8192u  // bytes of one row

struct rml_broadcast_shape {
    uint32_t row_bytes;  // a multiple of 8, at most RML_BROADCAST_ROW_MAX
    uint32_t row_count;  // rows kept, a power of two from 2 to RML_BROADCAST_ROWS_MAX
};

/* The writer's end, in its own memory; its fields are broadcast.c's. One thread uses it. */
struct rml_broadcast_out {
    struct rml_broadcast_lines *lines;
    struct rml_broadcast_shape shape;
    uint64_t given;
};

/* A reader's end, likewise. */
struct rml_broadcast_in {
    const struct rml_broadcast_lines *lines;
    struct rml_broadcast_shape shape;
    uint64_t next;    // number of the row to be read next
    uint64_t missed;  // rows that were overwritten before they were read
};

/* Bytes of memory that a ring takes, a multiple of 64; 0 when there is no such ring. */
size_t rml_broadcast_bytes(struct rml_broadcast_shape shape);

/* Hold the writer's end of an empty ring in `memory`: zeroed, 64-byte aligned, rml_broadcast_bytes
 * long. The memory stays the caller's; there is nothing to close. */
void rml_broadcast_attach_out(struct rml_broadcast_out *out, void *memory,
                              struct rml_broadcast_shape shape);

/* Hold the writer's end again, after the writer died: the next row has the number behind those that are
 * there whole. One that it was writing is written anew. */
void rml_broadcast_resume_out(struct rml_broadcast_out *out, void *memory,
                              struct rml_broadcast_shape shape);

/* Nobody has given anything yet: the first row has this number. */
void rml_broadcast_number_out(struct rml_broadcast_out *out, uint64_t number);

/*
 * Hold a reader's end; `shape` is what the writer said, not what lies in `memory`. The first row read
 * is the next one given, or with `from_oldest` the oldest that is still there (none of those that
 * were given before that are counted as missed).
 */
void rml_broadcast_attach_in(struct rml_broadcast_in *in, const void *memory,
                             struct rml_broadcast_shape shape, int from_oldest);

/* Give one row of row_bytes, 8-byte aligned. It is there for readers when this returns. */
void rml_broadcast_give(struct rml_broadcast_out *out, const void *row);

/*
 * Put the rows given so far before whatever the caller looks at next in the total order of all
 * sequentially consistent accesses: then a reader that said it would sleep is seen, or it sees them.
 */
void rml_broadcast_announce(struct rml_broadcast_out *out);

/* What there is of a row: not yet given; there, and copied; or overwritten. */
enum rml_broadcast_found { RML_BROADCAST_NOT_YET, RML_BROADCAST_THERE, RML_BROADCAST_GONE };

/*
 * Copy the row of that number to `row` (row_bytes, 8-byte aligned), for a reader that keeps account of its
 * own: in->next and in->missed stay as they are. Where it has gone, *ret_newest is the row that has its
 * place or is about to get it; the oldest that may still be there is the one behind *ret_newest - row_count.
 */
enum rml_broadcast_found rml_broadcast_copy(const struct rml_broadcast_in *in, uint64_t number,
                                            void *row, uint64_t *ret_newest);

/* Likewise: has the row of that number ever been there? Where do the ring's numbers begin (true once a row is
 * there)? How many have been announced, in the total order? */
int rml_broadcast_reached(const struct rml_broadcast_in *in, uint64_t number);
uint64_t rml_broadcast_first(const struct rml_broadcast_in *in);
uint64_t rml_broadcast_announced(const struct rml_broadcast_in *in);

/*
 * Copy the next row to `row` (row_bytes, 8-byte aligned) and its number to *ret_number. 1: there was
 * one; 0: not yet. Rows that were overwritten meanwhile are passed over and counted in in->missed.
 */
int rml_broadcast_read(struct rml_broadcast_in *in, void *row, uint64_t *ret_number);

/* Is there a row to read, or has one been missed? Looked up in the total order: for a reader that has
 * said that it will sleep. */
int rml_broadcast_look(const struct rml_broadcast_in *in);

#endif
