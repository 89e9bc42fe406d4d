#include "operators/registry.h"

#include "operators/aggregate.h"
#include "operators/transform.h"
#include "operators/window.h"
#include "runtime/partition/operator.h"

static const struct rml_operators operators = {
    .by_stage =
        {
            [RML_STAGE_FILTER] = &rml_operator_filter,
            [RML_STAGE_MAP] = &rml_operator_map,
            [RML_STAGE_WINDOW] = &rml_operator_window,
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
