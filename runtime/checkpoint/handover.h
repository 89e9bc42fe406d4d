/*
 * handover - bytes of snapshots on their way from a worker to the checkpointer, in buffers that go round.
 *
 * The worker fills an empty buffer and gives it, the checkpointer takes it and puts it back. Each side
 * is one thread; nothing allocates after open. A worker that needs a buffer at once, because it is about
 * to change what it has not copied, waits for one: that is how a slow disk slows the engine.
 */
#ifndef RML_CHECKPOINT_HANDOVER_H
#define RML_CHECKPOINT_HANDOVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/ring/bell.h"
#include "runtime/ring/queue.h"

struct rml_err;

#define RML_HANDOVER_BYTES (256u << 10)  // of a buffer

struct rml_handover_message {
    void *buffer;
    uint32_t bytes;      // that are in it, may be 0
    uint32_t partition;  // whose snapshot this is the next part of
    uint32_t is_first;   // part of it
    uint32_t needs;      // the snapshot needs so many before it
    uint64_t number;     // of the snapshot
    uint64_t is_last;    // it has no part behind this one
    const uint64_t
        *taken;          // by source: records before its moment; as long as the checkpoint is open
    uint64_t journaled;  // then: entries of the journal that the partition had taken by its moment
};

struct rml_handover {
    struct rml_queue filled, empty;
    struct rml_bell emptied;  // the worker sleeps here
    struct rml_bell *news;    // the checkpointer sleeps there, on all its workers
    unsigned char *memory;
    uint32_t buffers;
};

/* With `buffers` (a power of two) buffers, all empty. 0, or -ENOMEM and so on with a sentence. */
int rml_handover_open(struct rml_handover *handover, uint32_t buffers, struct rml_bell *news,
                      struct rml_err *err);
void rml_handover_close(struct rml_handover *handover);  // accepts one of zeros

/* The worker: an empty buffer, or NULL; one that is waited for; give one away. */
void *rml_handover_room(struct rml_handover *handover);
void *rml_handover_wait(struct rml_handover *handover);
void rml_handover_give(struct rml_handover *handover, const struct rml_handover_message *message);

/* The checkpointer: take the next message, false when there is none; put its buffer back. */
bool rml_handover_take(struct rml_handover *handover, struct rml_handover_message *ret_message);
void rml_handover_put_back(struct rml_handover *handover, void *buffer);

#endif
