/*
 * journal_queue - entries on their way from a worker to the journal, and back once they are on the disk.
 *
 * Buffers go round. The worker fills buffer number `given` and gives it; the journal's thread writes it
 * and says how many are durable; the worker then acts on what is in them, in order, and fills them again.
 * Each side is one thread, and nothing allocates after open.
 *
 * MEMORY ORDER
 *
 *     journal.entries    give -> given        what is in the buffers, and how much
 *     journal.durable    say -> durable       that the entries are on the disk
 */
#ifndef RML_CHECKPOINT_JOURNAL_QUEUE_H
#define RML_CHECKPOINT_JOURNAL_QUEUE_H

#include <stdalign.h>
#include <stdatomic.h>
#include <stdint.h>

#include "runtime/checkpoint/journal.h"

struct rml_bell;
struct rml_err;

#define RML_JOURNAL_QUEUE_BUFFERS 16u  // of RML_JOURNAL_BLOCK_BYTES

/* What is in a buffer. */
struct rml_journal_load {
    uint32_t bytes;
    uint32_t steps, records;  // as its writer counts them
};

struct rml_journal_queue {
    unsigned char *memory;
    struct rml_journal_load loads[RML_JOURNAL_QUEUE_BUFFERS];
    struct rml_bell *news;    // the journal's thread sleeps there, on all workers
    struct rml_bell *worker;  // and the worker there; set by the worker before it is started
    alignas(128) _Atomic uint64_t given;    // the worker writes
    alignas(128) _Atomic uint64_t durable;  // the journal's thread writes
};

/* 0, or -ENOMEM with a sentence. */
int rml_journal_queue_open(struct rml_journal_queue *queue, struct rml_bell *news,
                           struct rml_err *err);
void rml_journal_queue_close(struct rml_journal_queue *queue);  // accepts one of zeros

/* The memory of the buffer number `number`, aligned to 8. */
static inline unsigned char *rml_journal_queue_buffer(const struct rml_journal_queue *queue,
                                                      uint64_t number)
{
    return queue->memory + number % RML_JOURNAL_QUEUE_BUFFERS * RML_JOURNAL_BLOCK_BYTES;
}

static inline struct rml_journal_load rml_journal_queue_load(const struct rml_journal_queue *queue,
                                                             uint64_t number)
{
    return queue->loads[number % RML_JOURNAL_QUEUE_BUFFERS];
}

/* The worker: this is in buffer number `number`, the next to be given. */
void rml_journal_queue_give(struct rml_journal_queue *queue, uint64_t number,
                            struct rml_journal_load load);

/* How many are on the disk. */
uint64_t rml_journal_queue_durable(const struct rml_journal_queue *queue);

/* The journal's thread: how many were given; the first `number` are on the disk. */
uint64_t rml_journal_queue_given(const struct rml_journal_queue *queue);
void rml_journal_queue_say(struct rml_journal_queue *queue, uint64_t number);

#endif
