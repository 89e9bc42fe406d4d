/*
 * functions - what the reader of a pipeline file must know of the aggregate functions.
 *
 * The functions are the operators' (operators/registry.h); the plan is handed this face of them, so
 * that it can check names and types without knowing what they do.
 */
#ifndef RML_PLAN_FUNCTIONS_H
#define RML_PLAN_FUNCTIONS_H

#include "runtime/record/type.h"

struct rml_plugin_aggregate;

enum rml_function_argument {
    RML_ARGUMENT_NONE,    // count()
    RML_ARGUMENT_NUMBER,  // sum(x)
    RML_ARGUMENT_BOOL,    // count_if(failed)
    RML_ARGUMENT_ANY,     // distinct(x)
};

/* What follows the argument, behind a comma. */
enum rml_function_parameters {
    RML_PARAMETERS_NONE,
    RML_PARAMETERS_SPAN,      // ewma(x, 10s): the duration in nanoseconds
    RML_PARAMETERS_QUANTILE,  // quantile(x, 0.99, 0.5%): a share from 0 to 1, the relative error or 0
    RML_PARAMETERS_COUNT,   // top(x, 3): a number from 1 to RML_TOP_MAX; RML_TOP_PARTS columns each
    RML_PARAMETERS_BOUNDS,  // histogram(x, 10, 100): numbers that rise; a column for each interval
};

#define RML_PARAMETERS_MAX 31

#define RML_TOP_MAX   10
#define RML_TOP_PARTS 3  // a value, its count, by how much that may be too large

#define RML_QUANTILE_ACCURACY 0.01  // where no other is given; from 0.001 to 0.05

struct rml_function {
    const char *name;
    enum rml_function_argument argument;
    enum rml_function_parameters parameters;
    bool nullable;         // an aggregate of nothing is null
    uint32_t state_bytes;  // of one key and pane, to begin with, ...
    bool holds_value;      // ... and a value of the argument's more
    const char *sentence;  // for help and `explain`
    /* The type of the result, given the type of the argument (ignored where there is none). */
    enum rml_type (*type)(enum rml_type argument);
    const struct rml_plugin_aggregate
        *plugin;        // whose it is, which then says what it takes and gives; NULL: ours
    bool needs_length;  // of the window: it divides by that
};

struct rml_functions {
    uint32_t count;
    const struct rml_function *list;
    bool loads_plugins;  // files may bring further ones
};

#define RML_FUNCTIONS_MAX 128  // ours and those of plug-ins

#endif
