/*
 * server - a pipeline's socket: producers and subscribers attach, people look and steer, signals end it.
 *
 * The control thread sits here. A producer is known to be gone when its process is (its pidfd) or
 * when it closed the connection; either way what it published is taken before its lane is freed. A
 * peer that says nothing is dropped after a moment, so that it cannot hold a place. Who may do what,
 * and how often, is the gate's to say (runtime/control/gate.h).
 *
 * A control connection takes requests, a text each, and answers each with a REPLY (its last part has a
 * code, 0 or a positive errno):
 *
 *     board      bytes of the board in decimal, and its descriptor (runtime/control/board.h)
 *     refresh    nothing, once the lanes' rows on the board are up to date
 *     checkpoint its epoch, bytes and nanoseconds in decimal, once one that began now is durable; who
 *                waits for that asks nothing else
 *     drain      nothing: no producer attaches any more, all is taken, windows fire, then it ends
 *     stop       nothing: it ends with what results there are
 *
 * It stays open as long as the peer wants, and to the end of the engine: its closing says that all
 * files are written, the board will not change any more, and the name is free.
 *
 * With a keeper an engine that follows one that died goes on with its connections. Who was just saying
 * for the first time what it wants is hung up on, and asks again.
 *
 *     rml_claim_open -> rml_claim_listen
 *         -> rml_server_open -> rml_engine_open (with rml_server_hook) -> rml_server_run
 *         -> rml_engine_stop -> rml_engine_close -> rml_server_close
 */
#ifndef RML_CONTROL_SERVER_H
#define RML_CONTROL_SERVER_H

#include "runtime/control/engine.h"

struct rml_claim;
struct rml_err;
struct rml_keeping;
struct rml_server;

struct rml_server_options {
    const struct rml_plan *plan;
    const struct rml_clock *clock;
    struct rml_claim *claim;      // of the plan's name, and listening; closed with the server
    struct rml_keeping *keeping;  // NULL: there is no keeper; else the claim is its to close
    /* Told what happens: running, attached, detached, draining. May be NULL. */
    void (*say)(void *context, const char *sentence);
    void *say_context;
};

/*
 * Set a server up, before anything of the pipeline is opened. SIGINT and SIGTERM are blocked in the
 * calling thread from here on. 0; or a negative errno and a sentence; the claim is the caller's then.
 */
int rml_server_open(struct rml_server **ret_server, const struct rml_server_options *options,
                    struct rml_err *err);

/* Fill in what the server wants to hear from the engine that will be its own. */
void rml_server_hook(struct rml_server *server, struct rml_engine_options *options);

/*
 * Start the engine and serve until SIGINT, SIGTERM or a request ends it. The first signal (or
 * `drain`) drains: nobody attaches any more, what is published is taken, windows fire. A second one
 * (or `stop`) ends at once; *ret_drained says which it was. While the engine comes up and waits for a file that
 * cannot be written, the first signal is a stop (server_coming_up.h). From its return to rml_server_close a further
 * signal ends the process, whatever files may still be waited for (leave.h). 0; or a negative errno and
 * a sentence when it could not start.
 */
int rml_server_run(struct rml_server *server, struct rml_engine *engine, bool *ret_drained,
                   struct rml_err *err);

/* Give the name back and hang up on everyone; the engine has been stopped. NULL is accepted. */
void rml_server_close(struct rml_server *server);

#endif
