/*
 * print - the errors of a pipeline file as a person reads them.
 *
 *     llm.yaml:14:9: error: unknown key frm in stage ok
 *       14 |   ok: {frm: calls, filter: status != 0}
 *          |        ^~~
 *          = did you mean from?
 */
#ifndef RML_PLAN_PRINT_H
#define RML_PLAN_PRINT_H

#include <stdio.h>

#include "runtime/plan/plan.h"

/* Every error with its line; `colour` as terminals understand it. */
void rml_plan_errors_print(const struct rml_plan_errors *errors, const char *path, bool colour,
                           FILE *out);

/*
 * Whatever rml_plan_load returned an error with: the errors of the file if it has any, else the
 * sentence. Coloured if `out` is a terminal and NO_COLOR is not set.
 */
void rml_plan_failure_print(const struct rml_plan_errors *errors, const char *path,
                            const struct rml_err *err, FILE *out);

#endif
