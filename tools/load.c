#include "tools/load.h"

#include <errno.h>

#include "operators/registry.h"
#include "runtime/base/err.h"
#include "runtime/plan/plan.h"
#include "runtime/plan/print.h"
#include "tools/exit.h"

struct rml_plan *rml_load_plan(const char *path, int *ret_exit)
{
    struct rml_plan *plan = NULL;
    struct rml_plan_errors errors;
    struct rml_err err = {0};
    int rc = rml_plan_load(path, rml_operators_functions(), &plan, &errors, &err);
    if (rc < 0) {
        rml_plan_failure_print(&errors, path, &err, stderr);
        *ret_exit = rc == -EINVAL ? RML_EXIT_PIPELINE : RML_EXIT_FAILED;
    }
    rml_plan_errors_fini(&errors);
    return plan;
}
