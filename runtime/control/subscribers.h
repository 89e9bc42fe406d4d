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
 * Let a subscriber in that has `socket`, which stays the caller's, and wants the rows of `stage` (a
 * name, or one with ".late" behind it): the workers know the listener. 0 and its number; -ENOENT: no ring
 * has rows of that stage (the sentence says which do); -EMFILE: as many as there can be; or another
 * negative errno.
 */
int rml_subscribers_add(struct rml_subscribers *subscribers, int socket, const char *stage,
                        uint32_t *ret_number, struct rml_err *err);

/* What another engine needs to know to go on with it: its output, and the descriptor of its line. */
uint32_t rml_subscribers_output(const struct rml_subscribers *subscribers, uint32_t number);
int rml_subscribers_line(const struct rml_subscribers *subscribers, uint32_t number);

/* Likewise one that an engine had let in which died; `line` is ours from here on, or closed. */
int rml_subscribers_go_on(struct rml_subscribers *subscribers, int socket, uint32_t output,
                          int line, uint32_t *ret_number, struct rml_err *err);

/* Send RESULTS to the one of that number, over `socket`. As rml_wire_send. */
int rml_subscribers_offer(const struct rml_subscribers *subscribers, uint32_t number, int socket);

/* What RESULTS would say, and its descriptors. */
struct rml_wire_results rml_subscribers_results(const struct rml_subscribers *subscribers,
                                                uint32_t number, int ret_fds[2]);

/* Have it look at its rings. */
void rml_subscribers_knock(const struct rml_subscribers *subscribers, uint32_t number);

/* The subscriber has gone, or is to be: hang up; the rest follows when the workers are done with it. */
void rml_subscribers_remove(struct rml_subscribers *subscribers, uint32_t number);

/* For rml_engine_options.listener_done, with the subscribers as context. */
void rml_subscribers_done(void *context, uint32_t slot);

/* Free everything; no worker runs any more. Accepts one of zeros. */
void rml_subscribers_close(struct rml_subscribers *subscribers);

#endif
