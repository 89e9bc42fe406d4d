/*
 * identity - what state depends on in a pipeline file, as text that can be kept with it and compared.
 *
 * A file may be changed between two runs as long as the state of the first means the same to the
 * second. Each part of the file on which that hangs has a name and a sentence; a part's state goes with a
 * file in which it has the same. Expressions of filters and maps, sinks, limits and paths are in none.
 */
#ifndef RML_PLAN_IDENTITY_H
#define RML_PLAN_IDENTITY_H

#include <stdbool.h>
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

/* Does a stage of this text hold more than counts? Filters and maps do not. */
bool rml_identity_holds_state(const char *text, size_t bytes);

#endif
