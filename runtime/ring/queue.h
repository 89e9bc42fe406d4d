/*
 * queue - messages of a fixed size from one thread to another of the same process.
 *
 * A ring (ring.h) in private memory: one thread gives, one takes, nothing waits or allocates after
 * open. Who finds the queue full or empty and wants to sleep uses a bell.
 */
#ifndef RML_RING_QUEUE_H
#define RML_RING_QUEUE_H

#include <stdalign.h>
#include <stdbool.h>

#include "runtime/ring/ring.h"

struct rml_queue {
    alignas(2 * RML_RING_LINE) struct rml_ring_out out;  // the giver's
    alignas(2 * RML_RING_LINE) struct rml_ring_in in;    // the taker's
    alignas(2 * RML_RING_LINE) _Atomic uint64_t published;
    alignas(2 * RML_RING_LINE) _Atomic uint64_t released;
    void *cells;
};

/* An empty queue for `count` messages (a power of two) of `bytes` (a multiple of 8). */
int rml_queue_open(struct rml_queue *queue, uint32_t bytes, uint32_t count, struct rml_err *err);

/* Accepts a queue that is all zeros. */
void rml_queue_close(struct rml_queue *queue);

/* Copy one message in. False: the queue is full. */
bool rml_queue_give(struct rml_queue *queue, const void *message);

/* Copy the oldest message out. False: there is none. */
bool rml_queue_take(struct rml_queue *queue, void *message);

#endif
