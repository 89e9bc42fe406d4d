/*
 * header - the C structs of a pipeline's records and result rows, as a header's text.
 */
#ifndef RML_TOOLS_HEADER_H
#define RML_TOOLS_HEADER_H

#include <stdbool.h>
#include <stdio.h>

#include "runtime/plan/plan.h"

/* Whether two records of the whole pipeline would have the same name in C; `err` says which then. */
bool rml_header_clashes(const struct rml_plan *plan, struct rml_err *err);

/*
 * Write the header of the whole pipeline (`only` NULL), or of one schema or stage by name. False if
 * there is none of that name; nothing is written then.
 */
bool rml_header_print(const struct rml_plan *plan, const char *only, FILE *out);

#endif
