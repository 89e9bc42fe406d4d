/*
 * THE BROADCAST RING
 *
 * Row n lies in slot n modulo row_count, behind a stamp that says which row the slot holds:
 *
 *     stamp 2n + 1    row n is being written
 *     stamp 2n + 2    row n is there
 *
 *     line 0    `announced`: rows given, as of the last announce; `first`: where their numbers begin
 *     ...       slots: stamp, then the words of the row
 *
 * WHO WRITES WHAT
 *
 * The writer writes everything. Readers write nothing here: their mapping cannot, and that is why no
 * reader can hold the writer up. The price is that a slot may be overwritten under a reader's eyes, so
 * a reader copies the row and then looks at the stamp again (a sequence lock: L. Lamport, "Concurrent
 * reading and writing", 1977; in terms of the C11 model: H.-J. Boehm, "Can seqlocks get along with
 * programming language memory models?", MSPC 2012).
 *
 * MEMORY ORDER
 *
 *     broadcast.row    stamp 2n+2 -> first look at the stamp     the words of row n
 *     broadcast.next   each word -> each word                    that stamp 2n+1 was stored before it
 *
 * The second edge is on every word: a reader that copied one word of row n + row_count cannot then
 * still see the stamp of row n. It stands on the accesses and not in a fence beside them, because
 * ThreadSanitizer knows nothing of fences; on x86-64 neither costs an instruction.
 *
 * SLEEP
 *
 * The writer stores `announced`, then looks whether a reader sleeps; a reader says that it sleeps, then
 * looks at `announced`. These four accesses are sequentially consistent, so one of the two sees the
 * other. Who sleeps where is the business of those who use the ring.
 *
 * A CRASH
 *
 * A writer that dies in a row leaves an odd stamp: readers wait there, and either learn of the death from
 * the socket that the ring came over, or another writer goes on (rml_broadcast_resume_out) and gives the
 * row anew; nobody has read it, for no look at its stamp was even. A reader's death is noticed by nobody
 * here.
 */
#include "runtime/ring/broadcast.h"

#include <stdalign.h>
#include <stdatomic.h>
#include <string.h>

#include "runtime/base/check.h"

#define LINE_BYTES ((size_t)64)

struct rml_broadcast_lines {
    alignas(LINE_BYTES) _Atomic uint64_t announced;
    _Atomic uint64_t first;  // number of the first row that ever was to come here
    alignas(LINE_BYTES) _Atomic uint64_t slots[];
};

_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2, "a lock in shared memory would outlive its owner");

static size_t slot_words(struct rml_broadcast_shape shape)
{
    return 1 + shape.row_bytes / 8;
}

static size_t slot_at(struct rml_broadcast_shape shape, uint64_t number)
{
    return (size_t)(number & (shape.row_count - 1)) * slot_words(shape);
}

size_t rml_broadcast_bytes(struct rml_broadcast_shape shape)
{
    if (shape.row_bytes == 0 || shape.row_bytes % 8 != 0 || shape.row_bytes > RML_BROADCAST_ROW_MAX)
        return 0;
    if (shape.row_count < 2 || shape.row_count > RML_BROADCAST_ROWS_MAX
        || (shape.row_count & (shape.row_count - 1)) != 0)
        return 0;
    size_t bytes = sizeof(struct rml_broadcast_lines) + 8 * slot_words(shape) * shape.row_count;
    return (bytes + LINE_BYTES - 1) / LINE_BYTES * LINE_BYTES;
}

void rml_broadcast_attach_out(struct rml_broadcast_out *out, void *memory,
                              struct rml_broadcast_shape shape)
{
    RML_CHECK(rml_broadcast_bytes(shape) > 0);
    RML_CHECK((uintptr_t)memory % LINE_BYTES == 0);
    *out = (struct rml_broadcast_out){.lines = memory, .shape = shape};
}

void rml_broadcast_resume_out(struct rml_broadcast_out *out, void *memory,
                              struct rml_broadcast_shape shape)
{
    rml_broadcast_attach_out(out, memory, shape);
    // relaxed: written by one that is dead
    out->given = atomic_load_explicit(&out->lines->announced, memory_order_relaxed);
    for (uint32_t i = 0; i < shape.row_count; i++) {
        const _Atomic uint64_t *slot = &out->lines->slots[slot_at(shape, out->given)];
        // relaxed: likewise
        if (atomic_load_explicit(slot, memory_order_relaxed) != 2 * out->given + 2)
            break;  // not given, or not whole
        out->given++;
    }
    rml_broadcast_announce(out);
}

void rml_broadcast_number_out(struct rml_broadcast_out *out, uint64_t number)
{
    RML_CHECK(out->given == 0);
    out->given = number;
    // relaxed: no reader is there yet
    atomic_store_explicit(&out->lines->first, number, memory_order_relaxed);
    rml_broadcast_announce(out);
}

void rml_broadcast_attach_in(struct rml_broadcast_in *in, const void *memory,
                             struct rml_broadcast_shape shape, int from_oldest)
{
    RML_CHECK(rml_broadcast_bytes(shape) > 0);
    RML_CHECK((uintptr_t)memory % LINE_BYTES == 0);
    *in = (struct rml_broadcast_in){.lines = memory, .shape = shape};
    // relaxed: only a place to start from
    uint64_t given = atomic_load_explicit(&in->lines->announced, memory_order_relaxed);
    in->next = given;
    if (!from_oldest)
        return;
    // relaxed: likewise
    uint64_t first = atomic_load_explicit(&in->lines->first, memory_order_relaxed);
    in->next = given > shape.row_count ? given - shape.row_count : 0;
    in->next = in->next < first && first <= given ? first : in->next;
}

void rml_broadcast_give(struct rml_broadcast_out *out, const void *row)
{
    _Atomic uint64_t *slot = &out->lines->slots[slot_at(out->shape, out->given)];
    const uint64_t *words = row;
    // relaxed: each word's store, which is a release, carries it
    atomic_store_explicit(slot, 2 * out->given + 1, memory_order_relaxed);
    for (uint32_t i = 0; i < out->shape.row_bytes / 8; i++) {
        // release: broadcast.next
        atomic_store_explicit(slot + 1 + i, words[i], memory_order_release);
    }
    // release: broadcast.row
    atomic_store_explicit(slot, 2 * out->given + 2, memory_order_release);
    out->given++;
}

void rml_broadcast_announce(struct rml_broadcast_out *out)
{
    // total order: the caller looks for sleeping readers next
    atomic_store_explicit(&out->lines->announced, out->given, memory_order_seq_cst);
}

enum rml_broadcast_found rml_broadcast_copy(const struct rml_broadcast_in *in, uint64_t number,
                                            void *row, uint64_t *ret_newest)
{
    uint64_t *words = row;
    const _Atomic uint64_t *slot = &in->lines->slots[slot_at(in->shape, number)];
    uint64_t wanted = 2 * number + 2;
    // acquire: broadcast.row
    uint64_t stamp = atomic_load_explicit(slot, memory_order_acquire);
    if (stamp < wanted)
        return RML_BROADCAST_NOT_YET;
    if (stamp == wanted) {
        for (uint32_t i = 0; i < in->shape.row_bytes / 8; i++) {
            // acquire: broadcast.next
            words[i] = atomic_load_explicit(slot + 1 + i, memory_order_acquire);
        }
        // relaxed: ordered by the acquires of the words
        stamp = atomic_load_explicit(slot, memory_order_relaxed);
        if (stamp == wanted)
            return RML_BROADCAST_THERE;
    }
    *ret_newest = (stamp - 1) / 2;
    return RML_BROADCAST_GONE;
}

int rml_broadcast_reached(const struct rml_broadcast_in *in, uint64_t number)
{
    const _Atomic uint64_t *slot = &in->lines->slots[slot_at(in->shape, number)];
    // acquire: broadcast.row
    return atomic_load_explicit(slot, memory_order_acquire) >= 2 * number + 2;
}

uint64_t rml_broadcast_first(const struct rml_broadcast_in *in)
{
    // relaxed: stored before the first row, whose stamp carries it
    return atomic_load_explicit(&in->lines->first, memory_order_relaxed);
}

uint64_t rml_broadcast_announced(const struct rml_broadcast_in *in)
{
    // total order: the reader has said that it sleeps, and the writer looks after announcing
    return atomic_load_explicit(&in->lines->announced, memory_order_seq_cst);
}

// The reader has been lapped: go on where there is room to breathe before the writer comes round again.
static void catch_up(struct rml_broadcast_in *in, uint64_t newest)
{
    // Everything up to row_count before the newest may be there.
    uint64_t slack = in->shape.row_count / 8 + 1;
    uint64_t to = newest - in->shape.row_count + slack;
    in->missed += to - in->next;
    in->next = to;
}

int rml_broadcast_read(struct rml_broadcast_in *in, void *row, uint64_t *ret_number)
{
    uint64_t newest = 0;
    for (;;) {
        switch (rml_broadcast_copy(in, in->next, row, &newest)) {
        case RML_BROADCAST_NOT_YET:
            return 0;
        case RML_BROADCAST_THERE:
            *ret_number = in->next++;
            return 1;
        case RML_BROADCAST_GONE:
            catch_up(in, newest);
            break;
        }
    }
}

int rml_broadcast_look(const struct rml_broadcast_in *in)
{
    return rml_broadcast_announced(in) > in->next;
}
