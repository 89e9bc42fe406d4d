/*
 * ringmill/subscribe.h - read the result rows of a running pipeline.
 *
 *     struct rml_subscriber *subscriber;
 *     char error[RML_SUBSCRIBER_ERROR_BYTES];
 *     int rc = rml_subscriber_open(&subscriber, "llm/per_second", PER_SECOND_ROW_SCHEMA_HASH,
 *                                  sizeof(struct per_second_row), NULL, error, sizeof error);
 *     ...
 *     struct per_second_row row;
 *     while (rml_subscriber_wait(subscriber, -1) >= 0)  // 0 after a signal
 *         while (rml_subscriber_read(subscriber, &row, NULL) > 0)
 *             ...
 *     rml_subscriber_close(subscriber);
 *
 * A sink of type `ring` in the pipeline file makes the rows of a stage available; any number of
 * subscribers read them. `ringmill gen header FILE` writes the struct and the hash of a stage's rows.
 * Reading is shared memory only: no lock and no system call. The engine waits for no subscriber: the
 * ring keeps so many rows, and one that falls further behind is told how many it missed. Link with
 * `pkg-config --libs ringmill-client`; it needs libc alone.
 *
 * ORDER. Rows of one partition come in the order they were made in; of different partitions, in any.
 * All rows of one key come from one partition.
 *
 * AT THE SAME TIME. A subscriber is for one thread at a time; different ones are independent.
 *
 * GROUPS. Subscribers that open a place with the same `group` share its rows: each row goes to one of them.
 *
 *     while (rml_subscriber_wait(subscriber, -1) > 0)
 *         while (rml_subscriber_read(subscriber, &row, &info) > 0) {
 *             ... work on it; info.again > 0: somebody may have before, and died ...
 *             rml_subscriber_ack(subscriber);
 *         }
 *
 * What a member has read and not acknowledged is its own until its process has ended, or it has been closed;
 * then the others get it (at least once: info.partition and info.seq tell whether it is there again). A member that is
 * stopped holds up what it has read, at most `group_rows`, and nothing else. The engine waits for no
 * group: a row that is overwritten before anybody took it is missed, and one that is overwritten before
 * it was acknowledged goes to nobody else. A group begins with the next row made, or with `from_oldest` of its first
 * member with the oldest there, and is there until the pipeline ends, with members or without; so who
 * comes back goes on where the group was. Groups and plain subscribers do not notice each other. Members of a group
 * trust each other, and are one user's.
 *
 * FORK. A subscriber belongs to the process that opened it: in a child every call on it returns
 * -ECHILD and changes nothing; rml_subscriber_close there only frees memory and descriptors.
 */
#ifndef RINGMILL_SUBSCRIBE_H
#define RINGMILL_SUBSCRIBE_H

#include <stddef.h>
#include <stdint.h>

#ifndef RML_PUBLIC
# define RML_PUBLIC __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

struct rml_subscriber;

#define RML_SUBSCRIBER_ERROR_BYTES 512

/* All zero is what most want. */
struct rml_subscriber_options {
    int from_oldest;  // begin with the oldest row still there, not with the next one made
    int64_t spin_ns;  // how long wait looks for rows before it sleeps; 0: not at all. Waking takes
                      // some 50 us, spinning takes a CPU
    int64_t open_ns;  // how long open may wait for the engine's answer; 0: 5 s
    const char *
        group;  // share the rows with those of this name (letters, digits, _ and -); NULL: with nobody
    uint32_t group_rows;  // of a member: rows read and not acknowledged, at most; 0: 64
};

/*
 * Subscribe to the rows of `place`, "pipeline/stage" or "pipeline/stage.late". `schema_hash` and
 * `record_bytes` say what the caller's rows look like; 0 and 0: any (rml_subscriber_record_bytes).
 * `options` may be NULL. On failure `error` (may be NULL), of `error_bytes` bytes, gets a sentence. 0
 * and a new subscriber; -ENOENT: no such pipeline is running, or it has no ring of that stage;
 * -ECONNREFUSED: the pipeline died; -EPROTO, -EPROTONOSUPPORT: the rows or the protocol are others;
 * -EACCES, -EPERM: not allowed; -ETIMEDOUT: no answer; -EINVAL, -EMFILE, -ENOMEM.
 */
RML_PUBLIC int rml_subscriber_open(struct rml_subscriber **ret_subscriber, const char *place,
                                   uint64_t schema_hash, uint32_t record_bytes,
                                   const struct rml_subscriber_options *options, char *error,
                                   size_t error_bytes);

/* Bytes that rml_subscriber_read writes for each row. */
RML_PUBLIC uint32_t rml_subscriber_record_bytes(const struct rml_subscriber *subscriber);

/* Where a row comes from. */
struct rml_row_info {
    uint32_t partition;
    uint32_t
        again;  // in a group: how many read it before, and ended without acknowledging; 15: or more
    uint64_t seq;     // of the partition's rows of this stage, from 0: with it, the row's identity
    int64_t fire_ns;  // event time at which the row came to be
};

/*
 * Copy the next row to `record`; `ret_info` may be NULL. 1: there was one; 0: not yet; -EPIPE: the
 * engine has gone, and this was seen by rml_subscriber_wait, and all that it left has been read;
 * -ECHILD. In a group also -ENOBUFS: acknowledge first, so many rows are not; -EPROTO: what the members
 * share cannot be.
 */
RML_PUBLIC int rml_subscriber_read(struct rml_subscriber *subscriber, void *record,
                                   struct rml_row_info *ret_info);

/*
 * Wait until there is a row to read, at most `timeout_ns` nanoseconds (0: look only; < 0: for ever).
 * 1: there is one, or some have been missed, or, in a group, there may be one; 0: the time is over, or a signal came;
 * -EPIPE: the engine has gone and all is read; -ECHILD; -ENOBUFS as read.
 */
RML_PUBLIC int rml_subscriber_wait(struct rml_subscriber *subscriber, int64_t timeout_ns);

/*
 * To wait for more than this: rml_subscriber_sleep says that the caller will sleep, and returns 1 when
 * it should not, because there are rows, or -EPIPE or -ECHILD as above; after 0 poll the descriptor
 * for input, then call rml_subscriber_wait with 0. The descriptor is the subscriber's own.
 */
RML_PUBLIC int rml_subscriber_fd(const struct rml_subscriber *subscriber);
RML_PUBLIC int rml_subscriber_sleep(struct rml_subscriber *subscriber);

/*
 * In a group: all rows that were read are done with. How many of them were too late, since the ring had gone
 * round (they may have been of those that count as expired: nobody else gets them); -EINVAL: it is in no group; -ECHILD.
 */
RML_PUBLIC int rml_subscriber_ack(struct rml_subscriber *subscriber);

/* Rows that were overwritten before they were read, over all partitions, ever; in a group by any member. */
RML_PUBLIC uint64_t rml_subscriber_missed(const struct rml_subscriber *subscriber);

/* What a member has read and not acknowledged goes to others. NULL is accepted. */
RML_PUBLIC void rml_subscriber_close(struct rml_subscriber *subscriber);

#ifdef __cplusplus
}
#endif

#endif
