#include "runtime/checkpoint/journal_queue.h"

#include <errno.h>
#include <stdlib.h>

#include "runtime/base/err.h"
#include "runtime/ring/bell.h"

_Static_assert(RML_JOURNAL_BLOCK_BYTES % 64 == 0, "each buffer begins on a line of its own");

int rml_journal_queue_open(struct rml_journal_queue *queue, struct rml_bell *news,
                           struct rml_err *err)
{
    queue->news = news;
    queue->memory = aligned_alloc(64, (size_t)RML_JOURNAL_QUEUE_BUFFERS * RML_JOURNAL_BLOCK_BYTES);
    return queue->memory != NULL ? 0 : RML_FAIL(err, -ENOMEM, "no memory for a journal's buffers");
}

void rml_journal_queue_close(struct rml_journal_queue *queue)
{
    free(queue->memory);
    queue->memory = NULL;
}

void rml_journal_queue_give(struct rml_journal_queue *queue, uint64_t number,
                            struct rml_journal_load load)
{
    queue->loads[number % RML_JOURNAL_QUEUE_BUFFERS] = load;
    // release: journal.entries
    atomic_store_explicit(&queue->given, number + 1, memory_order_release);
    rml_bell_ring(queue->news);
}

uint64_t rml_journal_queue_durable(const struct rml_journal_queue *queue)
{
    // acquire: journal.durable
    return atomic_load_explicit(&queue->durable, memory_order_acquire);
}

uint64_t rml_journal_queue_given(const struct rml_journal_queue *queue)
{
    // acquire: journal.entries
    return atomic_load_explicit(&queue->given, memory_order_acquire);
}

void rml_journal_queue_say(struct rml_journal_queue *queue, uint64_t number)
{
    // release: journal.durable
    atomic_store_explicit(&queue->durable, number, memory_order_release);
    if (queue->worker != NULL)
        rml_bell_ring(queue->worker);
}
