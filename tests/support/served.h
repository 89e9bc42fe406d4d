/*
 * served - a whole pipeline, engine and server, in a thread of this process, until a request ends it.
 */
#ifndef RML_TESTS_SERVED_H
#define RML_TESTS_SERVED_H

#include "operators/registry.h"
#include "runtime/base/check.h"
#include "runtime/control/claim.h"
#include "runtime/control/server.h"

/* The claim listens already. Both stay where they are until the thread has ended. */
struct served {
    const struct rml_plan *plan;
    struct rml_claim *claim;
};

/* What the thread runs, given a struct served. */
static inline void *served_run(void *context)
{
    const struct served *served = context;
    struct rml_server *server;
    struct rml_engine *engine;
    bool drained;
    const struct rml_server_options server_options = {
        .plan = served->plan, .clock = &rml_clock_system, .claim = served->claim};
    struct rml_engine_options options = {
        .plan = served->plan, .operators = rml_operators_table(), .clock = &rml_clock_system};
    RML_CHECK(rml_server_open(&server, &server_options, NULL) == 0);
    rml_server_hook(server, &options);
    RML_CHECK(rml_engine_open(&engine, &options, NULL) == 0);
    RML_CHECK(rml_server_run(server, engine, &drained, NULL) == 0);
    rml_engine_stop(engine);
    rml_engine_close(engine);
    rml_server_close(server);
    return NULL;
}

#endif
