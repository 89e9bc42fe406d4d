/*
 * ahead - things read in order by one thread, which others have read before it asks for them.
 *
 * Reading waits for a disk, and check sums for memory; a few threads of their own do both, each taking
 * every so manieth thing, so that several reads are under way. Where threads are not to be had, the one
 * that asks reads.
 */
#ifndef RML_CHECKPOINT_AHEAD_H
#define RML_CHECKPOINT_AHEAD_H

#include <stddef.h>
#include <stdint.h>

struct rml_ahead;
struct rml_err;

struct rml_ahead_options {
    uint32_t count;  // things 0 to count - 1
    size_t bytes;    // of memory for one, aligned to 4096
    /* Read one. 0, or a negative errno with a sentence. Several threads call this at a time. */
    int (*read)(void *context, uint32_t index, void *memory, struct rml_err *err);
    void *context;
};

/* Begin to read. 0, or -ENOMEM with a sentence. */
int rml_ahead_open(struct rml_ahead **ret_ahead, const struct rml_ahead_options *options,
                   struct rml_err *err);

/* Ends all threads, whether they have read everything or not. Accepts NULL. */
void rml_ahead_close(struct rml_ahead *ahead);

/*
 * The next thing, whose memory lasts until the next call; to be called `count` times at most. 0, or what
 * `read` returned for it, with its sentence; then nothing comes after it.
 */
int rml_ahead_next(struct rml_ahead *ahead, void **ret_memory, struct rml_err *err);

#endif
