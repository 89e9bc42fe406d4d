#include "operators/registry.h"

#include "operators/aggregate.h"
#include "operators/count_window.h"
#include "operators/session.h"
#include "operators/transform.h"
#include "operators/window.h"
#include "runtime/partition/operator.h"

static const struct rml_operators operators = {
    .filter = &rml_operator_filter,
    .map = &rml_operator_map,
    .window =
        {
            [RML_WINDOW_TUMBLING] = &rml_operator_window,
            [RML_WINDOW_SLIDING] = &rml_operator_window,
            [RML_WINDOW_SESSION] = &rml_operator_session,
            [RML_WINDOW_GLOBAL] = &rml_operator_global_window,
            [RML_WINDOW_COUNT] = &rml_operator_count_window,
        },
};

const struct rml_functions *rml_operators_functions(void)
{
    return &rml_aggregate_functions;
}

const struct rml_operators *rml_operators_table(void)
{
    return &operators;
}
