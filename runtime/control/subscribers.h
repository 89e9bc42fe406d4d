/*
 * subscribers - the processes that read result rings, as the server knows them.
 *
 * A subscriber gets the rings of one output, read-only, and a segment of its own in which it says
 * when it sleeps; workers wake it over its connection. Its descriptors stay open here until no worker
 * can use them any more, which is some time after it has gone.
 */
#ifndef RML_CONTROL_SUBSCRIBERS_H
#define RML_CONTROL_SUBSCRIBERS_H

#include "runtime/control/engine.h"
#include "runtime/lane/wire.h"
#include "runtime/segment/segment.h"

struct rml_err;

struct rml_subscribers {
    struct rml_engine *engine;
    const struct rml_plan *plan;

    struct rml_subscription {
        struct rml_listener listener;
        struct rml_segment line;
        bool used;
    } list[RML_LISTENERS_MAX];
};

/*
 * Answer a HELLO_SUBSCRIBE on `socket`, which stays the caller's: RESULTS is sent and the workers
 * know the listener. 0 and its number, for rml_subscribers_remove; -ENOENT: no ring has rows of that
 * stage (the sentence says which do); -EMFILE: as many as there can be; or another negative errno.
 */
int rml_subscribers_add(struct rml_subscribers *subscribers, int socket,
                        const struct rml_wire_hello_subscribe *hello, uint32_t *ret_number,
                        struct rml_err *err);

/* The subscriber has gone, or is to be: hang up; the rest follows when the workers are done with it. */
void rml_subscribers_remove(struct rml_subscribers *subscribers, uint32_t number);

/* For rml_engine_options.listener_done, with the subscribers as context. */
void rml_subscribers_done(void *context, uint32_t slot);

/* Free everything; no worker runs any more. Accepts one of zeros. */
void rml_subscribers_close(struct rml_subscribers *subscribers);

#endif
