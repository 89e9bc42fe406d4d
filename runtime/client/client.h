/*
 * ringmill/client.h - write records into a running pipeline.
 *
 *     struct rml_producer *producer;
 *     char error[RML_PRODUCER_ERROR_BYTES];
 *     int rc = rml_producer_open(&producer, "llm/calls", LLM_CALL_SCHEMA_HASH,
 *                                sizeof(struct llm_call), NULL, error, sizeof error);
 *     ...
 *     rml_producer_put(producer, &call);      // shared memory only: no lock, hardly ever a system call
 *     ...
 *     rml_producer_publish(producer);         // when quiet for a while: what was put becomes visible
 *     rml_producer_close(producer);           // publishes too
 *
 * `ringmill gen header FILE` writes the struct and the hash of a pipeline file's schema. Link with
 * `pkg-config --libs ringmill-client`; it needs libc alone. The library starts no thread, handles no
 * signal and raises none, and wants no polling.
 *
 * AT THE SAME TIME. A producer is for one thread at a time; different producers are independent, and
 * a process may have many: each thread opens its own.
 *
 * LANE. Whether producers of a source share a lane (`lane: shared` in the pipeline file) makes no difference
 * here but this: in a shared lane records are with the producer until they are published. So publish finds out
 * that there is no room, and what close finds no room for is dropped and counted.
 *
 * FORK. A producer belongs to the process that opened it. In a child of fork every call on it returns
 * -ECHILD and changes nothing; rml_producer_close there only frees memory and descriptors. exec
 * closes everything. The engine notices the end of a producer by its socket: a child that lives on
 * and has not closed its copy delays that.
 *
 * ERRORS are negative errno values. After -EPIPE (the engine is gone, or has detached this producer:
 * rml_producer_reason) and -EPROTO (the engine's positions cannot be true) the producer is of no more
 * use: close it, open another. What was published when a call still returned something else is taken,
 * if the engine lives. That it was killed, and its keeper, is noticed by a publish that comes a tenth of a second
 * later, or sooner.
 */
#ifndef RINGMILL_CLIENT_H
#define RINGMILL_CLIENT_H

#include <stddef.h>
#include <stdint.h>

#ifndef RML_PUBLIC
# define RML_PUBLIC __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

struct rml_producer;

#define RML_PRODUCER_ERROR_BYTES 512

/* All zero is what most want. */
struct rml_producer_options {
    uint32_t cells;          // records that each partition's ring holds, a power of two; 0: as the
                             // pipeline file says. The engine may refuse more than it allows.
    uint32_t publish_every;  // records put before put publishes by itself; 0: 64
    int64_t wait_ns;         // how long a full ring may hold a call up; 0: 10 s, < 0: for ever
    int64_t open_ns;         // how long open may wait for the engine's answer; 0: 5 s
};

/*
 * Attach to the source `place`, "pipeline/source". `schema_hash` and `record_bytes` say what the
 * caller's records look like. `options` may be NULL. On failure `error` (may be NULL), of
 * `error_bytes` bytes, gets a sentence. 0 and a new producer; -ENOENT: no such pipeline is running, or
 * it has no such source; -ECONNREFUSED: the pipeline died; -EPROTO, -EPROTONOSUPPORT: the schema or
 * the protocol is another; -EACCES, -EPERM: not allowed; -ETIMEDOUT: no answer; -EINVAL, -ENOMEM.
 */
RML_PUBLIC int rml_producer_open(struct rml_producer **ret_producer, const char *place,
                                 uint64_t schema_hash, uint32_t record_bytes,
                                 const struct rml_producer_options *options, char *error,
                                 size_t error_bytes);

/*
 * Route the record by its key and copy it into the lane; every so many are published. 1: taken; 0: there
 * was no room and the source says `on_full: drop_newest`: dropped and counted; -ETIMEDOUT with `on_full:
 * block`: no room in time, and the record was not taken; -EPIPE, -EPROTO, -ECHILD.
 */
RML_PUBLIC int rml_producer_put(struct rml_producer *producer, const void *record);

/*
 * Make everything written so far visible to the engine, and wake it if it sleeps. 0; -EPIPE, -ECHILD. In a
 * shared lane also -EPROTO, and -ETIMEDOUT with `on_full: block`: no room in time, what had none is still with the
 * producer; with `on_full: drop_newest` it stays there until a later call, which is no error.
 */
RML_PUBLIC int rml_producer_publish(struct rml_producer *producer);

/* How many partitions there are, and which one a record belongs to by its key fields, which are all
 * that is read of it. A record written in place has to go to its own. */
RML_PUBLIC uint32_t rml_producer_partitions(const struct rml_producer *producer);
RML_PUBLIC uint32_t rml_producer_route(const struct rml_producer *producer, const void *record);

/*
 * Up to `want` (> 0) adjacent cells of a partition to fill in place, *ret_cells being 8-byte aligned.
 * Returns how many, which may be fewer. When the ring is full it publishes, and waits as put does; 0
 * with `on_full: drop_newest` (count with rml_producer_drop what is not written then). -EINVAL: no
 * such partition; the rest as put. Claiming a partition again gives its former claim up.
 */
RML_PUBLIC int32_t rml_producer_claim(struct rml_producer *producer, uint32_t partition,
                                      uint32_t want, void **ret_cells);

/* The first `count` cells of the partition's claim are records now, and the claim is over; they become
 * visible with the next publish. 0; -EINVAL: more than were claimed; -ECHILD. */
RML_PUBLIC int rml_producer_commit(struct rml_producer *producer, uint32_t partition,
                                   uint32_t count);

/*
 * DURABLE. A record that was published is taken even if the engine dies. Whether it is still there when the keeper dies
 * with it, or the machine loses power, is another question, and these two answer it. What they call durable is in
 * the results when the pipeline runs again, or in the state of windows that are open; a disk that says that it has
 * flushed is believed. With `journal: true` at the source a record is durable once the journal was flushed with it;
 * without, and with `runtime.state`, once a checkpoint covers it, which takes as long as these are apart. Without
 * either nothing ever is, and both calls return -ENOTSUP; so they do in a shared lane, where the engine does not
 * know whose a record is. Records that were dropped are not meant.
 *
 * What they tell holds whatever stops, until somebody gives up on purpose what was saved (`ringmill run` with --fresh, or
 * without a journal with --from); and it can still be asked when the engine is gone: of records behind those
 * that rml_producer_durable counts then, some may be in the results and some not.
 */

/*
 * *ret_records: of the records written (rml_producer_stats), in the order of put and commit, the first so many are
 * durable. It looks at memory alone, and publishes nothing. It counts by whole publishes, in larger steps where more
 * than 64 of them are on their way, and remembers them from the first call on: so call it once at the start. 0;
 * -ENOTSUP; -EPROTO: the engine's positions cannot be true; -ENOMEM, at the first call; -ECHILD.
 */
RML_PUBLIC int rml_producer_durable(struct rml_producer *producer, uint64_t *ret_records);

/*
 * Publish, then wait until all that was published is durable, for `wait_ns` at most (0: as options.wait_ns; < 0:
 * for ever): spin, then sleep. 0; -ENOTSUP; -ETIMEDOUT: not yet, which is also so while a disk fails; -EPIPE: the
 * engine is gone and has not said so of all; -EPROTO; -ECHILD. Who was detached by a drain or a stop may wait here for
 * what it had published. Each wait costs a flush of the disk, which everybody's records share; who has much to write
 * waits seldom, or goes on and asks rml_producer_durable.
 */
RML_PUBLIC int rml_producer_wait_durable(struct rml_producer *producer, int64_t wait_ns);

/* Count records that were meant for the pipeline and not written, so that its balance shows them. 0;
 * -ECHILD. */
RML_PUBLIC int rml_producer_drop(struct rml_producer *producer, uint64_t records);

struct rml_producer_stats {
    uint64_t written;    // records put and committed
    uint64_t published;  // of them, visible to the engine
    uint64_t released;   // of them, done with: their cells are free again (shared: as published)
    uint64_t dropped;
    uint64_t waits;  // times that a call slept because a ring was full
    uint64_t rings;  // times that a sleeping worker was woken
};

/* 0; -ECHILD. */
RML_PUBLIC int rml_producer_stats(const struct rml_producer *producer,
                                  struct rml_producer_stats *ret_stats);

/* Why the engine detached this producer, as a sentence in `text`: the positive errno-like code; 0 while
 * it has not, and then `text` is empty; -ECHILD. */
RML_PUBLIC int rml_producer_reason(const struct rml_producer *producer, char *text,
                                   size_t text_bytes);

/* Publish, say goodbye, free everything. NULL is accepted. */
RML_PUBLIC void rml_producer_close(struct rml_producer *producer);

#ifdef __cplusplus
}
#endif

#endif
