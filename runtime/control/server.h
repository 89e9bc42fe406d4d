/*
 * server - a pipeline's socket: producers attach, people look and steer, signals end it.
 *
 * The control thread sits here. A producer is known to be gone when its process is (its pidfd) or
 * when it closed the connection; either way what it published is taken before its lane is freed. A
 * peer that says nothing is dropped after a moment, so that it cannot hold a place.
 */
#ifndef RML_CONTROL_SERVER_H
#define RML_CONTROL_SERVER_H

#include "runtime/control/engine.h"

struct rml_err;

struct rml_server_options {
    struct rml_engine *engine;  // open, not yet started
    const struct rml_plan *plan;
    const struct rml_clock *clock;
    /* Told what happens: started, attached, detached, draining. May be NULL. */
    void (*say)(void *context, const char *sentence);
    void *say_context;
};

/*
 * Claim the pipeline's name, start the engine, serve until SIGINT, SIGTERM or a request ends it, and
 * clean up. The first signal (or `drain`) drains: nobody attaches any more, what is published is
 * taken, windows fire. A second one (or `stop`) ends at once. The signals are blocked in the calling
 * thread from here on. 0; or a negative errno and a sentence when it could not start (-EBUSY: it runs
 * already).
 */
int rml_server_run(const struct rml_server_options *options, struct rml_err *err);

#endif
