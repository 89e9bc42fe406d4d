/*
 * listener - a reader of broadcast rings in another process that sleeps until there are rows.
 *
 * It writes one word, in a segment of its own that the engine only reads: 0 while it is awake, else a
 * number that is new for each sleep. The engine's threads ring, over a socket, at most once for each
 * sleep and thread. Nothing is lost, because both sides store first and look afterwards, in one total
 * order (broadcast.c): the reader stores its word and looks at the rings, a writer announces its rows
 * and looks at the word.
 */
#ifndef RML_RING_LISTENER_H
#define RML_RING_LISTENER_H

#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct rml_listener_line {
    alignas(64) _Atomic uint64_t sleep;
};

/* The listener: say that a sleep begins; look at the rings next. Then that it has ended. */
static inline void rml_listener_sleeps(struct rml_listener_line *line, uint64_t turn)
{
    // total order: the listener looks at the rings next
    atomic_store_explicit(&line->sleep, turn, memory_order_seq_cst);
}

static inline void rml_listener_wakes(struct rml_listener_line *line)
{
    // relaxed: a ring too many does no harm
    atomic_store_explicit(&line->sleep, 0, memory_order_relaxed);
}

/* The engine, after announcing rows: is this a sleep that the caller has not rung for? */
static inline bool rml_listener_is_due(const struct rml_listener_line *line, uint64_t *rang_for)
{
    // total order: the caller has announced rows before
    uint64_t turn = atomic_load_explicit(&line->sleep, memory_order_seq_cst);
    if (turn == 0 || turn == *rang_for)
        return false;
    *rang_for = turn;
    return true;
}

#endif
