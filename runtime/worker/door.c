#include "runtime/worker/door.h"

#include <sys/socket.h>

#include "runtime/base/check.h"
#include "runtime/io/writer.h"

static struct rml_result_block *door_take(void *context)
{
    struct rml_door *door = context;
    const struct rml_worker_options *options = door->options;
    struct rml_result_block *block = rml_writer_take(options->writer, options->index);
    if (block != NULL)
        return block;
    int64_t since_ns = options->clock->monotonic_ns(options->clock->context);
    while (block == NULL) {
        rml_writer_wait(options->writer, options->index);
        block = rml_writer_take(options->writer, options->index);
    }
    int64_t waited_ns = options->clock->monotonic_ns(options->clock->context) - since_ns;
    rml_count(&options->counts->value[RML_WORKER_backpressure_waits], 1);
    rml_count(&options->counts->value[RML_WORKER_backpressure_ns], (uint64_t)waited_ns);
    return block;
}

static void wake(struct rml_door_listener *slot)
{
    // A socket that is full has rung already, and one that is closed has nobody to wake.
    if (rml_listener_is_due(slot->listener->line, &slot->rang_for))
        (void)send(slot->listener->socket, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void wake_listeners(struct rml_door *door, uint32_t output)
{
    for (uint32_t i = 0; i < door->listeners_end; i++) {
        struct rml_door_listener *slot = &door->listeners[i];
        if (slot->listener != NULL && slot->listener->output == output)
            wake(slot);
    }
}

static void broadcast(struct rml_door *door, struct rml_result_block *block)
{
    const struct rml_worker_options *options = door->options;
    if (options->rings == NULL)
        return;
    struct rml_broadcast_out *ring =
        &options->rings[(size_t)block->output * options->plan->partitions + block->partition];
    if (ring->lines == NULL)
        return;
    RML_CHECK(ring->shape.row_bytes == block->row_stride);
    for (uint32_t i = 0; i < block->rows; i++) {
        const struct rml_result_row *row = rml_result_row_at(block, i);
        // A row that is made again after a crash may be there already.
        if (options->handover == NULL || row->seq >= ring->given)
            rml_broadcast_give(ring, row);
    }
    rml_broadcast_announce(ring);
    wake_listeners(door, block->output);
}

static void door_give(void *context, struct rml_result_block *block)
{
    struct rml_door *door = context;
    const struct rml_worker_options *options = door->options;
    bool has_rows = block->rows > 0 && block->output < RML_OUTPUTS_MAX;
    if (has_rows)
        broadcast(door, block);
    if (options->announce_progress
        || (has_rows && rml_writer_wants(options->writer, block->output)))
        rml_writer_give(options->writer, options->index, block);
    else
        rml_writer_put_back(options->writer, options->index, block);
}

void rml_door_init(struct rml_door *door, const struct rml_worker_options *options)
{
    *door = (struct rml_door){.options = options};
}

struct rml_result_door rml_door_face(struct rml_door *door)
{
    return (struct rml_result_door){
        .take = door_take,
        .give = door_give,
        .context = door,
        .announce_progress = door->options->announce_progress,
    };
}

void rml_door_listen(struct rml_door *door, uint32_t slot, const struct rml_listener *listener)
{
    RML_CHECK(slot < RML_LISTENERS_MAX && door->listeners[slot].listener == NULL);
    door->listeners[slot] = (struct rml_door_listener){.listener = listener};
    if (slot >= door->listeners_end)
        door->listeners_end = slot + 1;
    wake(&door->listeners
              [slot]);  // it may have gone to sleep before rows that we gave unknown to it
}

void rml_door_unlisten(struct rml_door *door, uint32_t slot)
{
    RML_CHECK(slot < RML_LISTENERS_MAX);
    door->listeners[slot].listener = NULL;
    while (door->listeners_end > 0 && door->listeners[door->listeners_end - 1].listener == NULL)
        door->listeners_end--;
}
