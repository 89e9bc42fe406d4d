/*
 * report - what a running pipeline says of itself, as one JSON document.
 *
 * ringctl's commands show parts of it. Members are only ever added; "schema" counts what is not
 * compatible.
 */
#ifndef RML_CONTROL_REPORT_H
#define RML_CONTROL_REPORT_H

#include <stdio.h>

#include "runtime/control/engine.h"

/* A producer on a lane, as the server knows it. */
struct rml_report_peer {
    int64_t pid;
    int64_t uid;
    const char *program;
};

struct rml_report {
    const struct rml_plan *plan;
    const struct rml_engine *engine;
    const char *state;  // "running" | "draining"
    int64_t uptime_ns;
    /* By lane number; NULL where no process is behind a lane. */
    const struct rml_report_peer *(*peer)(void *context, uint32_t lane);
    void *context;
};

void rml_report_print(const struct rml_report *report, FILE *out);

#endif
