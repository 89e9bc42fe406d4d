#include "runtime/ring/queue.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/check.h"
#include "runtime/base/err.h"

int rml_queue_open(struct rml_queue *queue, uint32_t bytes, uint32_t count, struct rml_err *err)
{
    memset(queue, 0, sizeof *queue);
    const struct rml_ring_shape shape = {bytes, count};
    int rc = rml_ring_check_shape(shape, err);
    if (rc < 0)
        return rc;
    size_t room = ((size_t)bytes * count + RML_RING_LINE - 1) / RML_RING_LINE * RML_RING_LINE;
    queue->cells = aligned_alloc(RML_RING_LINE, room);
    if (queue->cells == NULL)
        return RML_FAIL(err, -ENOMEM, "no memory for a queue of %u messages", count);
    memset(queue->cells, 0, room);
    const struct rml_ring_place place = {
        .shape = shape,
        .cells = queue->cells,
        .published = &queue->published,
        .released = &queue->released,
    };
    RML_CHECK(rml_ring_attach_out(&queue->out, &place) == 0);
    RML_CHECK(rml_ring_attach_in(&queue->in, &place) == 0);
    return 0;
}

void rml_queue_close(struct rml_queue *queue)
{
    free(queue->cells);
    queue->cells = NULL;
}

bool rml_queue_give(struct rml_queue *queue, const void *message)
{
    void *cell;
    int32_t room = rml_ring_claim(&queue->out, 1, &cell);
    RML_CHECK(room >= 0);  // both ends are ours
    if (room == 0)
        return false;
    memcpy(cell, message, queue->out.place.shape.cell_bytes);
    rml_ring_commit(&queue->out, 1);
    rml_ring_publish(&queue->out);
    return true;
}

bool rml_queue_take(struct rml_queue *queue, void *message)
{
    const void *cell;
    int32_t there = rml_ring_peek(&queue->in, 1, &cell);
    RML_CHECK(there >= 0);  // both ends are ours
    if (there == 0)
        return false;
    memcpy(message, cell, queue->in.place.shape.cell_bytes);
    rml_ring_take(&queue->in, 1);
    rml_ring_release(&queue->in, 1);
    return true;
}
