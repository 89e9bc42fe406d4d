/*
 * pipelines - all that the run directory knows of: what runs, and what died there.
 */
#ifndef RML_TOOLS_PIPELINES_H
#define RML_TOOLS_PIPELINES_H

#include <stdint.h>

#include "runtime/control/claim.h"
#include "runtime/lane/wire.h"

struct rml_err;

struct rml_pipeline {
    char name[RML_WIRE_NAME];
    int rc;  // of looking: 0, or a negative errno, and then nothing else is known
    enum rml_claim_state claim;  // HELD, LEFT or RESTARTING
    uint32_t pid;                // of the process that holds it, or held it
};

struct rml_pipelines {
    struct rml_pipeline *list;  // by name
    uint32_t count;
};

/* 0; a run directory that is not there has none; or a negative errno and a sentence. */
int rml_pipelines_open(struct rml_pipelines *pipelines, struct rml_err *err);
void rml_pipelines_close(struct rml_pipelines *pipelines);

/* The name nearest to `word` of those that run, or NULL. */
const char *rml_pipelines_near(const struct rml_pipelines *pipelines, const char *word);

#endif
