/*
 * The functions that an expression may call: one line of a table each, and what it makes of its
 * arguments.
 */
#include <string.h>

#include "runtime/base/check.h"
#include "runtime/base/suggest.h"
#include "runtime/record/expr_lex.h"
#include "runtime/record/expr_tree.h"

struct call {
    struct rml_expr_tree *tree;
    struct rml_expr_span span;
    const char *name;
    uint32_t *args;
    uint32_t arg_count;
    enum rml_expr_op op;  // the table's, where one operation is all there is to it
};

static const struct rml_expr_node *argument(const struct call *call, uint32_t i)
{
    return &call->tree->nodes[call->args[i]];
}

// Make the arguments from `first` on one type; RML_TYPES with the error filled.
static enum rml_type unify(const struct call *call, uint32_t first)
{
    enum rml_type type =
        rml_expr_common_type(call->tree, call->args + first, call->arg_count - first);
    for (uint32_t i = first; type != RML_TYPES && i < call->arg_count; i++)
        call->args[i] = rml_expr_convert(call->tree, call->args[i], type);
    return type;
}

static uint32_t call_if(const struct call *call)
{
    struct rml_expr_node *condition = &call->tree->nodes[call->args[0]];
    if (condition->type == RML_TYPES)
        condition->type = RML_BOOL;
    if (condition->type != RML_BOOL) {
        rml_expr_fail(call->tree->error, condition->offset, condition->length, NULL,
                      "the condition of if needs bool, got %s",
                      rml_expr_type_name(condition->type));
        return RML_EXPR_NO_NODE;
    }
    enum rml_type type = unify(call, 1);
    if (type == RML_TYPES)
        return RML_EXPR_NO_NODE;
    bool nullable = argument(call, 1)->nullable || argument(call, 2)->nullable;
    return rml_expr_node(call->tree, call->span, RML_EXPR_IF, type, nullable, call->args, 3);
}

static uint32_t call_coalesce(const struct call *call)
{
    enum rml_type type = unify(call, 0);
    if (type == RML_TYPES)
        return RML_EXPR_NO_NODE;
    uint32_t so_far = call->args[0];
    for (uint32_t i = 1; i < call->arg_count; i++) {
        const uint32_t pair[] = {so_far, call->args[i]};
        bool nullable = call->tree->nodes[so_far].nullable && argument(call, i)->nullable;
        so_far = rml_expr_node(call->tree, call->span, RML_EXPR_COALESCE, type, nullable, pair, 2);
    }
    return so_far;
}

static uint32_t call_is_null(const struct call *call)
{
    if (argument(call, 0)->type == RML_TYPES)
        call->args[0] = rml_expr_convert(call->tree, call->args[0], RML_BOOL);
    return rml_expr_node(call->tree, call->span, RML_EXPR_IS_NULL, RML_BOOL, false, call->args, 1);
}

// The common type of all arguments, if it is one with an order.
static enum rml_type unify_numbers(const struct call *call)
{
    enum rml_type type = unify(call, 0);
    if (type == RML_TYPES || rml_type_is_number(type))
        return type;
    rml_expr_fail(call->tree->error, call->span.offset, call->span.length, NULL,
                  "%s needs numbers, got %s", call->name, rml_expr_type_name(type));
    return RML_TYPES;
}

// The operation of a kind, given that of RML_KIND_INT; UINT and FLOAT follow it in the table.
static enum rml_expr_op of_kind(enum rml_expr_op op, enum rml_type type)
{
    _Static_assert(RML_EXPR_MIN_U == RML_EXPR_MIN_I + RML_KIND_UINT, "in the order of the kinds");
    _Static_assert(RML_EXPR_MIN_F == RML_EXPR_MIN_I + RML_KIND_FLOAT, "in the order of the kinds");
    _Static_assert(RML_EXPR_MAX_U == RML_EXPR_MAX_I + RML_KIND_UINT, "in the order of the kinds");
    _Static_assert(RML_EXPR_MAX_F == RML_EXPR_MAX_I + RML_KIND_FLOAT, "in the order of the kinds");
    return (enum rml_expr_op)((unsigned int)op + (unsigned int)rml_type_info[type].kind);
}

static uint32_t call_extreme(const struct call *call)
{
    enum rml_type type = unify_numbers(call);
    if (type == RML_TYPES)
        return RML_EXPR_NO_NODE;
    uint32_t so_far = call->args[0];
    for (uint32_t i = 1; i < call->arg_count; i++)
        so_far = rml_expr_strict(call->tree, call->span, of_kind(call->op, type), type, so_far,
                                 call->args[i]);
    return so_far;
}

static uint32_t call_clamp(const struct call *call)
{
    enum rml_type type = unify_numbers(call);
    if (type == RML_TYPES)
        return RML_EXPR_NO_NODE;
    uint32_t raised = rml_expr_strict(call->tree, call->span, of_kind(RML_EXPR_MAX_I, type), type,
                                      call->args[0], call->args[1]);
    return rml_expr_strict(call->tree, call->span, of_kind(RML_EXPR_MIN_I, type), type, raised,
                           call->args[2]);
}

static bool is_integer(enum rml_type type)
{
    return type != RML_TYPES && type != RML_TIME && rml_type_is_number(type)
           && rml_type_info[type].kind != RML_KIND_FLOAT;
}

static uint32_t call_abs(const struct call *call)
{
    enum rml_type type = argument(call, 0)->type;
    if (!is_integer(type)) {
        uint32_t value = rml_expr_float(call->tree, call->args[0], call->name);
        return value == RML_EXPR_NO_NODE ? value
                                         : rml_expr_strict(call->tree, call->span, RML_EXPR_ABS_F,
                                                           RML_F64, value, RML_EXPR_NO_NODE);
    }
    bool is_unsigned = type == RML_U8 || type == RML_U16 || type == RML_U32 || type == RML_U64;
    if (is_unsigned)
        return call->args[0];
    return rml_expr_strict(call->tree, call->span, RML_EXPR_ABS_I, RML_I64, call->args[0],
                           RML_EXPR_NO_NODE);
}

static uint32_t call_float(const struct call *call)
{
    uint32_t values[2] = {RML_EXPR_NO_NODE, RML_EXPR_NO_NODE};
    for (uint32_t i = 0; i < call->arg_count; i++) {
        values[i] = rml_expr_float(call->tree, call->args[i], call->name);
        if (values[i] == RML_EXPR_NO_NODE)
            return RML_EXPR_NO_NODE;
    }
    return rml_expr_strict(call->tree, call->span, call->op, RML_F64, values[0], values[1]);
}

// A whole number stays what it is.
static uint32_t call_rounding(const struct call *call)
{
    return is_integer(argument(call, 0)->type) ? call->args[0] : call_float(call);
}

#define ANY RML_EXPR_CALL_ARGS_MAX

static const struct {
    const char *name;
    uint32_t args_min, args_max;
    uint32_t (*make)(const struct call *call);
    enum rml_expr_op op;
    const char *form;
} calls[] = {
    {"if", 3, 3, call_if, RML_EXPR_IF, "if(condition, a, b)"},
    {"coalesce", 1, ANY, call_coalesce, RML_EXPR_COALESCE, "coalesce(a, b, ...)"},
    {"is_null", 1, 1, call_is_null, RML_EXPR_IS_NULL, "is_null(a)"},
    {"min", 1, ANY, call_extreme, RML_EXPR_MIN_I, "min(a, b, ...)"},
    {"max", 1, ANY, call_extreme, RML_EXPR_MAX_I, "max(a, b, ...)"},
    {"clamp", 3, 3, call_clamp, RML_EXPR_MIN_I, "clamp(x, low, high)"},
    {"abs", 1, 1, call_abs, RML_EXPR_ABS_I, "abs(x)"},
    {"floor", 1, 1, call_rounding, RML_EXPR_FLOOR_F, "floor(x)"},
    {"ceil", 1, 1, call_rounding, RML_EXPR_CEIL_F, "ceil(x)"},
    {"round", 1, 1, call_rounding, RML_EXPR_ROUND_F, "round(x)"},
    {"sqrt", 1, 1, call_float, RML_EXPR_SQRT_F, "sqrt(x)"},
    {"log", 1, 1, call_float, RML_EXPR_LOG_F, "log(x)"},
    {"exp", 1, 1, call_float, RML_EXPR_EXP_F, "exp(x)"},
    {"pow", 2, 2, call_float, RML_EXPR_POW_F, "pow(a, b)"},
};

#define CALLS (sizeof calls / sizeof calls[0])

static void fail_unknown(struct rml_expr_tree *tree, struct rml_expr_span span, const char *name,
                         uint32_t length)
{
    const char *names[CALLS];
    for (size_t i = 0; i < CALLS; i++)
        names[i] = calls[i].name;
    const char *near = rml_suggest(name, length, names, CALLS);
    rml_expr_fail(tree->error, span.offset, span.length, NULL, "no function is named %.*s",
                  (int)length, name);
    if (near != NULL)
        rml_expr_hint_near(tree->error, near);
}

uint32_t rml_expr_call(struct rml_expr_tree *tree, struct rml_expr_span name_span,
                       struct rml_expr_span span, const char *name, uint32_t name_length,
                       const uint32_t *args, uint32_t arg_count)
{
    size_t i = 0;
    while (
        i < CALLS
        && (strlen(calls[i].name) != name_length || memcmp(calls[i].name, name, name_length) != 0))
        i++;
    if (i == CALLS) {
        fail_unknown(tree, name_span, name, name_length);
        return RML_EXPR_NO_NODE;
    }
    if (arg_count < calls[i].args_min || arg_count > calls[i].args_max) {
        rml_expr_fail(tree->error, span.offset, span.length, NULL,
                      "%s takes %s%u argument%s, got %u", calls[i].name,
                      calls[i].args_max == ANY ? "at least " : "", calls[i].args_min,
                      calls[i].args_min == 1 ? "" : "s", arg_count);
        rml_expr_hint_form(tree->error, calls[i].form);
        return RML_EXPR_NO_NODE;
    }
    uint32_t converted[RML_EXPR_CALL_ARGS_MAX];  // overwritten as the arguments become one type
    memcpy(converted, args, arg_count * sizeof *args);
    const struct call call = {tree, span, calls[i].name, converted, arg_count, calls[i].op};
    return calls[i].make(&call);
}
