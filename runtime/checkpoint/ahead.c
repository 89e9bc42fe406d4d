#include "runtime/checkpoint/ahead.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/check.h"
#include "runtime/base/err.h"
#include "runtime/checkpoint/large.h"
#include "runtime/ring/bell.h"
#include "runtime/ring/queue.h"

#define THREADS      3u
#define BUFFERS      2u  // of each thread: one is being read while the other is looked at
#define QUEUE_LENGTH 4u  // all buffers, and the word to stop
#define MEMORY_ALIGN 4096u

struct read {
    void *memory;
    int64_t rc;
};

struct reader {
    const struct rml_ahead *ahead;
    uint32_t first;
    struct rml_queue empty, filled;  // of buffers; one that is NULL says stop
    struct rml_bell emptied, news;
    struct rml_err err;  // of the last thing it read
    bool started;
    pthread_t thread;
};

struct rml_ahead {
    struct rml_ahead_options options;
    unsigned char *memory;
    uint32_t next;
    void *given;  // to the caller, who is done with it when he asks for the next
    uint32_t reader_count;
    struct reader readers[THREADS];
};

static size_t memory_bytes(const struct rml_ahead *ahead)
{
    return THREADS * BUFFERS * ahead->options.bytes;
}

static void *wait_for_buffer(struct reader *r)
{
    void *memory;
    while (!rml_queue_take(&r->empty, &memory)) {
        rml_bell_expect(&r->emptied);
        if (rml_queue_take(&r->empty, &memory)) {
            rml_bell_awake(&r->emptied);
            break;
        }
        rml_bell_wait(&r->emptied, -1);
    }
    return memory;
}

static struct read wait_for_read(struct reader *r)
{
    struct read read;
    while (!rml_queue_take(&r->filled, &read)) {
        rml_bell_expect(&r->news);
        if (rml_queue_take(&r->filled, &read)) {
            rml_bell_awake(&r->news);
            break;
        }
        rml_bell_wait(&r->news, -1);
    }
    return read;
}

static void give_buffer(struct reader *r, void *memory)
{
    RML_CHECK(rml_queue_give(&r->empty, &memory));
    rml_bell_ring(&r->emptied);
}

static void *work(void *context)
{
    struct reader *r = context;
    const struct rml_ahead_options *options = &r->ahead->options;
    for (uint32_t i = r->first; i < options->count; i += THREADS) {
        struct read read = {.memory = wait_for_buffer(r)};
        if (read.memory == NULL)
            break;
        read.rc = options->read(options->context, i, read.memory, &r->err);
        RML_CHECK(rml_queue_give(&r->filled, &read));
        rml_bell_ring(&r->news);
        if (read.rc < 0)
            break;
    }
    return NULL;
}

static int open_reader(struct rml_ahead *ahead, uint32_t index)
{
    struct reader *r = &ahead->readers[index];
    r->ahead = ahead;
    r->first = index;
    r->emptied = r->news = RML_BELL_CLOSED;
    ahead->reader_count++;
    int rc = rml_queue_open(&r->empty, sizeof(void *), QUEUE_LENGTH, NULL);
    if (rc == 0)
        rc = rml_queue_open(&r->filled, sizeof(struct read), QUEUE_LENGTH, NULL);
    if (rc == 0)
        rc = rml_bell_open(&r->emptied, NULL);
    if (rc == 0)
        rc = rml_bell_open(&r->news, NULL);
    for (uint32_t i = 0; rc == 0 && i < BUFFERS; i++)
        give_buffer(r, ahead->memory + (size_t)(index * BUFFERS + i) * ahead->options.bytes);
    if (rc == 0)
        rc = -pthread_create(&r->thread, NULL, work, r);
    r->started = rc == 0;
    if (r->started)
        pthread_setname_np(r->thread, "rml-ahead");
    return rc;
}

static void close_readers(struct rml_ahead *ahead)
{
    for (uint32_t i = 0; i < ahead->reader_count; i++)
        if (ahead->readers[i].started)
            give_buffer(&ahead->readers[i], NULL);
    for (uint32_t i = 0; i < ahead->reader_count; i++) {
        struct reader *r = &ahead->readers[i];
        if (r->started)
            pthread_join(r->thread, NULL);
        rml_queue_close(&r->empty);
        rml_queue_close(&r->filled);
        rml_bell_close(&r->emptied);
        rml_bell_close(&r->news);
    }
    ahead->reader_count = 0;
}

int rml_ahead_open(struct rml_ahead **ret_ahead, const struct rml_ahead_options *options,
                   struct rml_err *err)
{
    RML_CHECK(options->bytes % MEMORY_ALIGN == 0);
    size_t bytes = (sizeof(struct rml_ahead) + 127) / 128 * 128;
    struct rml_ahead *ahead = aligned_alloc(128, bytes);
    if (ahead == NULL)
        return RML_FAIL(err, -ENOMEM, "no memory to read ahead");
    memset(ahead, 0, bytes);
    ahead->options = *options;
    ahead->memory = rml_large_open(memory_bytes(ahead));
    if (ahead->memory == NULL) {
        free(ahead);
        return RML_FAIL(err, -ENOMEM, "no memory to read ahead");
    }
    sigset_t all, before;
    sigfillset(&all);  // signals are others'
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i < THREADS; i++)
        rc = open_reader(ahead, i);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc < 0)
        close_readers(ahead);
    *ret_ahead = ahead;
    return 0;
}

void rml_ahead_close(struct rml_ahead *ahead)
{
    if (ahead == NULL)
        return;
    close_readers(ahead);
    rml_large_close(ahead->memory, memory_bytes(ahead));
    free(ahead);
}

int rml_ahead_next(struct rml_ahead *ahead, void **ret_memory, struct rml_err *err)
{
    RML_CHECK(ahead->next < ahead->options.count);
    uint32_t index = ahead->next++;
    if (ahead->reader_count == 0) {
        *ret_memory = ahead->memory;
        return ahead->options.read(ahead->options.context, index, ahead->memory, err);
    }
    if (ahead->given != NULL)
        give_buffer(&ahead->readers[(index - 1) % THREADS], ahead->given);
    struct reader *r = &ahead->readers[index % THREADS];
    struct read read = wait_for_read(r);
    ahead->given = read.memory;
    *ret_memory = read.memory;
    if (read.rc < 0 && err != NULL)
        *err = r->err;
    return (int)read.rc;
}
