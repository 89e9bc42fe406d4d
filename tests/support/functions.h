/*
 * functions - aggregate functions of the tests' own: faces without operators behind them, so that
 * reading pipeline files is tested alone.
 */
#ifndef RML_TESTS_FUNCTIONS_H
#define RML_TESTS_FUNCTIONS_H

#include "runtime/plan/functions.h"

static enum rml_type plan_type_u64(enum rml_type argument)
{
    (void)argument;
    return RML_U64;
}

static enum rml_type plan_type_f64(enum rml_type argument)
{
    (void)argument;
    return RML_F64;
}

static enum rml_type plan_type_argument(enum rml_type argument)
{
    return argument;
}

static inline const struct rml_functions *plan_functions(void)
{
    static const struct rml_function list[] = {
        {"count", RML_ARGUMENT_NONE, RML_PARAMETERS_NONE, false, 16, false, "Records.",
         plan_type_u64, NULL, false},
        {"count_if", RML_ARGUMENT_BOOL, RML_PARAMETERS_NONE, false, 16, false,
         "Records for which it is true.", plan_type_u64, NULL, false},
        {"sum", RML_ARGUMENT_NUMBER, RML_PARAMETERS_NONE, true, 16, false, "The sum.",
         plan_type_f64, NULL, false},
        {"avg", RML_ARGUMENT_NUMBER, RML_PARAMETERS_NONE, true, 16, false, "The mean.",
         plan_type_f64, NULL, false},
        {"rate", RML_ARGUMENT_NUMBER, RML_PARAMETERS_NONE, true, 16, false, "By the second.",
         plan_type_f64, NULL, true},
        {"first", RML_ARGUMENT_ANY, RML_PARAMETERS_NONE, true, 16, true, "The first.",
         plan_type_argument, NULL, false},
        {"ewma", RML_ARGUMENT_NUMBER, RML_PARAMETERS_SPAN, true, 16, false, "It fades.",
         plan_type_f64, NULL, false},
        {"quantile", RML_ARGUMENT_NUMBER, RML_PARAMETERS_QUANTILE, true, 16, false, "A quantile.",
         plan_type_f64, NULL, false},
        {"top", RML_ARGUMENT_ANY, RML_PARAMETERS_COUNT, true, 16, false, "The first.",
         plan_type_f64, NULL, false},
        {"distinct", RML_ARGUMENT_ANY, RML_PARAMETERS_NONE, false, 16, false, "How many.",
         plan_type_u64, NULL, false},
        {"histogram", RML_ARGUMENT_NUMBER, RML_PARAMETERS_BOUNDS, false, 16, false, "Counts.",
         plan_type_u64, NULL, false},
    };
    static const struct rml_functions functions = {sizeof list / sizeof list[0], list, false};
    return &functions;
}

#endif
