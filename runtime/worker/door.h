/*
 * door - where a worker's result blocks come from, and where they go.
 *
 * Rows for rings are copied at once, and sleeping subscribers are woken; blocks that files need go
 * to the writer, the others straight back. Waiting for a free block is how a slow writer slows the
 * engine; it is counted.
 */
#ifndef RML_WORKER_DOOR_H
#define RML_WORKER_DOOR_H

#include "runtime/partition/result.h"
#include "runtime/worker/worker.h"

struct rml_door_listener {
    const struct rml_listener *listener;  // NULL: the slot is free
    uint64_t rang_for;
};

struct rml_door {
    const struct rml_worker_options *options;
    uint32_t listeners_end;  // slots above are free
    struct rml_door_listener listeners[RML_LISTENERS_MAX];
};

void rml_door_init(struct rml_door *door, const struct rml_worker_options *options);

/* The door as partitions know it; `door` must stay where it is. */
struct rml_result_door rml_door_face(struct rml_door *door);

void rml_door_listen(struct rml_door *door, uint32_t slot, const struct rml_listener *listener);
void rml_door_unlisten(struct rml_door *door, uint32_t slot);

#endif
