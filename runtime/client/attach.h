/*
 * attach - what producers and subscribers do alike to come to a running pipeline.
 */
#ifndef RML_CLIENT_ATTACH_H
#define RML_CLIENT_ATTACH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/lane/wire.h"

struct rml_err;

/*
 * Tells a process from its children: a page of its own that fork fills with zeros in the child, so
 * that one load is enough.
 */
struct rml_owner {
    uint32_t *page;  // NULL: not open
};

int rml_owner_open(struct rml_owner *owner, struct rml_err *err);
void rml_owner_close(struct rml_owner *owner);

#define RML_OWNER_MARK 0x72a91e05u

static inline bool rml_owner_is_here(const struct rml_owner *owner)
{
    return *owner->page == RML_OWNER_MARK;
}

/* "pipeline/name" into its two parts; 0, or -EINVAL with a sentence that says what `name` is. */
int rml_attach_split(const char *place, const char *what, char pipeline[RML_WIRE_NAME],
                     char name[RML_WIRE_NAME], struct rml_err *err);

/* This program's name, made fit to be shown to people. */
void rml_attach_program(char program[RML_WIRE_NAME]);

#define RML_ATTACH_WAIT_NS INT64_C(5000000000)  // where the caller does not say how long

/*
 * A descriptor that is connected to the pipeline and has said `hello` (one of ours, or it is -EINVAL);
 * or what rml_wire_connect says, after at most `wait_ns` nanoseconds (0: the above). An engine that
 * refuses us may be gone by then: that is for the answer to say.
 */
int rml_attach_connect(const char *pipeline, const struct rml_wire_head *hello, int64_t wait_ns,
                       struct rml_err *err);

/*
 * Receive the answer into `message`, of `room` bytes, at most `wait_ns` nanoseconds (0: as above): 0 when
 * it is of type `wanted`, with its descriptors; -ETIMEDOUT; what a refusal says; -EPIPE when the engine
 * hung up; -EPROTO; then no descriptor is left open.
 */
int rml_attach_answer(int socket, enum rml_wire_type wanted, int64_t wait_ns, void *message,
                      size_t room, int *fds, uint32_t fds_max, uint32_t *ret_fd_count,
                      struct rml_err *err);

int64_t rml_attach_now_ns(void);  // monotonic

/*
 * An engine that dies hangs up on whoever was just attaching, and another one takes its place: is this
 * worth another try before `end_ns`? Pauses for a moment if so.
 */
bool rml_attach_again(int rc, int64_t end_ns);

/* When an attempt that begins now and may take `wait_ns` (0: as above) is over. */
int64_t rml_attach_end_ns(int64_t wait_ns);

#endif
