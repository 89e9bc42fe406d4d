/*
 * identity - what state depends on in a pipeline file, as text that can be kept with it and compared.
 *
 * A file may be changed between two runs as long as the state of the first means the same to the
 * second. Each part of the file on which that hangs has a name and a sentence; state goes with a file whose parts are
 * all the same, in the same order. Filters, sinks, limits and paths are no parts of it.
 */
#ifndef RML_PLAN_IDENTITY_H
#define RML_PLAN_IDENTITY_H

#include <stddef.h>

#include "runtime/plan/plan.h"

#define RML_IDENTITY_NAME_BYTES (RML_NAME_MAX + 16)
#define RML_IDENTITY_TEXT_BYTES 4096

struct rml_identity {
    char name[RML_IDENTITY_NAME_BYTES];  // "pipeline", "source calls", "stage per_minute"
    char text[RML_IDENTITY_TEXT_BYTES];
};

/* How many parts a plan has. */
uint32_t rml_identity_count(const struct rml_plan *plan);

/* Part `index` of them. */
void rml_identity_part(const struct rml_plan *plan, uint32_t index,
                       struct rml_identity *ret_identity);

#endif
