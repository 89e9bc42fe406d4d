#include "runtime/record/expr_tree.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/check.h"
#include "runtime/record/expr_lex.h"
#include "runtime/time/time.h"

const char *rml_expr_type_name(enum rml_type type)
{
    return type == RML_TYPES ? "null" : rml_type_info[type].name;
}

static enum rml_kind kind_of(enum rml_type type)
{
    return type == RML_TYPES ? RML_KINDS : rml_type_info[type].kind;
}

static bool is_untyped(const struct rml_expr_node *node)
{
    return node->type == RML_TYPES;
}

static bool is_integer(enum rml_type type)
{
    return kind_of(type) == RML_KIND_UINT || (kind_of(type) == RML_KIND_INT && type != RML_TIME);
}

static struct rml_expr_span span_of(const struct rml_expr_node *node)
{
    return (struct rml_expr_span){node->offset, node->length};
}

uint32_t rml_expr_node(struct rml_expr_tree *tree, struct rml_expr_span span, enum rml_expr_op op,
                       enum rml_type type, bool nullable, const uint32_t *args, uint32_t arg_count)
{
    RML_CHECK(tree->count < tree->capacity);
    struct rml_expr_node *node = &tree->nodes[tree->count];
    *node = (struct rml_expr_node){.op = op,
                                   .type = type,
                                   .nullable = nullable,
                                   .arg_count = arg_count,
                                   .offset = span.offset,
                                   .length = span.length};
    for (uint32_t i = 0; i < arg_count; i++)
        node->args[i] = args[i];
    return tree->count++;
}

uint32_t rml_expr_null(struct rml_expr_tree *tree, struct rml_expr_span span)
{
    uint32_t index = rml_expr_node(tree, span, RML_EXPR_CONST, RML_TYPES, true, NULL, 0);
    tree->nodes[index].null = true;
    tree->nodes[index].literal = true;
    return index;
}

uint32_t rml_expr_const(struct rml_expr_tree *tree, struct rml_expr_span span, enum rml_type type,
                        union rml_expr_cell cell)
{
    uint32_t index = rml_expr_node(tree, span, RML_EXPR_CONST, type, false, NULL, 0);
    tree->nodes[index].literal = true;
    tree->nodes[index].cell = cell;
    return index;
}

uint32_t rml_expr_column(struct rml_expr_tree *tree, struct rml_expr_span span, uint32_t column)
{
    const struct rml_frame_column *named = &tree->frame->columns[column];
    // a float that is not a number counts as null wherever an expression meets it
    bool nullable = named->nullable || kind_of(named->type) == RML_KIND_FLOAT;
    uint32_t index = rml_expr_node(tree, span, RML_EXPR_COLUMN, named->type, nullable, NULL, 0);
    tree->nodes[index].column = column;
    return index;
}

// What has only constants below it is computed now, by the kernel that would do so for every row;
// what has no answer is left to be counted when it runs.
static void fold(const struct rml_expr_tree *tree, struct rml_expr_node *node)
{
    const struct rml_expr_kernel *kernel = &rml_expr_kernels[node->op];
    const struct rml_expr_node *first = &tree->nodes[node->args[0]];
    const struct rml_expr_node *last = &tree->nodes[node->args[kernel->operands == 2 ? 1 : 0]];
    if (first->op != RML_EXPR_CONST || last->op != RML_EXPR_CONST)
        return;
    union rml_expr_cell cell = {.words = {0}};
    bool null = first->null || last->null;
    if (!null && kernel->run[RML_EXPR_VV](&first->cell, &last->cell, &cell, 1))
        return;
    // an infinity has no text that could be read again
    if (kind_of(node->type) == RML_KIND_FLOAT && !isfinite(cell.f))
        return;
    node->op = RML_EXPR_CONST;
    node->arg_count = 0;
    node->cell = cell;
    node->null = null;
    node->nullable = null;
    node->literal = true;
}

uint32_t rml_expr_strict(struct rml_expr_tree *tree, struct rml_expr_span span, enum rml_expr_op op,
                         enum rml_type type, uint32_t a, uint32_t b)
{
    const struct rml_expr_kernel *kernel = &rml_expr_kernels[op];
    const uint32_t args[] = {a, b};
    bool nullable = kernel->fails || tree->nodes[a].nullable;
    if (kernel->operands == 2)
        nullable = nullable || tree->nodes[b].nullable;
    uint32_t index =
        rml_expr_node(tree, span, op, type, nullable, args, kernel->operands == 2 ? 2 : 1);
    fold(tree, &tree->nodes[index]);
    return index;
}

// A string that meets a time is read as one; the others stay as they are.
static bool adapt_time_text(struct rml_expr_tree *tree, uint32_t index)
{
    struct rml_expr_node *node = &tree->nodes[index];
    if (kind_of(node->type) != RML_KIND_STR || !node->literal)
        return true;
    int64_t ns;
    size_t length = strnlen(node->cell.string, sizeof node->cell.string);
    if (rml_time_parse(node->cell.string, length, &ns) < 0) {
        rml_expr_fail(tree->error, node->offset, node->length,
                      "write it as in '2023-11-16T18:17:03Z'", "not a time");
        return false;
    }
    node->type = RML_TIME;
    node->cell = (union rml_expr_cell){.i = ns};
    return true;
}

// Where one of two operands is a bare null, it becomes a null of the other's type.
static bool adapt_null(struct rml_expr_tree *tree, struct rml_expr_span span, uint32_t a,
                       uint32_t b)
{
    struct rml_expr_node *x = &tree->nodes[a], *y = &tree->nodes[b];
    if (is_untyped(x) && is_untyped(y)) {
        rml_expr_fail(tree->error, span.offset, span.length, NULL,
                      "nulls on both sides: the result has no type");
        return false;
    }
    if (is_untyped(x))
        x->type = y->type;
    if (is_untyped(y))
        y->type = x->type == RML_TIME ? RML_I64 : x->type;
    return true;
}

/* Numbers */

// Whether the values can be taken as unsigned without looking at them.
static bool is_unsigned(const struct rml_expr_node *node)
{
    if (node->op == RML_EXPR_CONST && is_integer(node->type))
        return node->type == RML_U64 || node->null || node->cell.i >= 0;
    return node->type == RML_U64 || node->type == RML_U32 || node->type == RML_U16
           || node->type == RML_U8;
}

enum signature { II, UU, IU, UI, FF };

static enum signature signature_of(const struct rml_expr_node *a, const struct rml_expr_node *b)
{
    if (kind_of(a->type) == RML_KIND_FLOAT || kind_of(b->type) == RML_KIND_FLOAT)
        return FF;
    bool a_wide = a->type == RML_U64, b_wide = b->type == RML_U64;
    if (!a_wide && !b_wide)
        return II;
    if (is_unsigned(a) && is_unsigned(b))
        return UU;
    return a_wide ? UI : IU;
}

uint32_t rml_expr_float(struct rml_expr_tree *tree, uint32_t index, const char *what)
{
    struct rml_expr_node *node = &tree->nodes[index];
    if (is_untyped(node))
        node->type = RML_F64;
    if (kind_of(node->type) == RML_KIND_FLOAT)
        return index;
    if (!is_integer(node->type)) {
        rml_expr_fail(tree->error, node->offset, node->length,
                      node->type == RML_TIME ? "subtract a time first: the difference is a number"
                                             : NULL,
                      "%s needs numbers, got %s", what, rml_expr_type_name(node->type));
        return RML_EXPR_NO_NODE;
    }
    bool wide = kind_of(node->type) == RML_KIND_UINT;
    return rml_expr_strict(tree, span_of(node), wide ? RML_EXPR_FLOAT_U : RML_EXPR_FLOAT_I, RML_F64,
                           index, RML_EXPR_NO_NODE);
}

static const char *const arithmetic_names[] = {"+", "-", "*", "%"};

static bool check_number(struct rml_expr_tree *tree, const char *what, uint32_t index)
{
    const struct rml_expr_node *node = &tree->nodes[index];
    if (rml_type_is_number(node->type))
        return true;
    rml_expr_fail(tree->error, node->offset, node->length,
                  kind_of(node->type) == RML_KIND_BOOL ? "write if(condition, 1, 0)" : NULL,
                  "%s needs numbers, got %s", what, rml_expr_type_name(node->type));
    return false;
}

// The type of an arithmetic of which an operand is a time; RML_TYPES: there is none.
static enum rml_type time_arithmetic(enum rml_expr_arithmetic what, enum rml_type a,
                                     enum rml_type b)
{
    switch (what) {
    case RML_EXPR_ADD:
        return is_integer(a) || is_integer(b) ? RML_TIME : RML_TYPES;
    case RML_EXPR_SUB:
        if (a != RML_TIME)
            return RML_TYPES;
        return b == RML_TIME ? RML_I64 : is_integer(b) ? RML_TIME : RML_TYPES;
    case RML_EXPR_MOD:
        return a == RML_TIME && is_integer(b) ? RML_I64 : RML_TYPES;
    case RML_EXPR_MUL:
        break;
    }
    return RML_TYPES;
}

static const enum rml_expr_op arithmetic_ops[][5] = {
    [RML_EXPR_ADD] = {RML_EXPR_ADD_I, RML_EXPR_ADD_U, RML_EXPR_ADD_IU, RML_EXPR_ADD_UI,
                      RML_EXPR_ADD_F},
    [RML_EXPR_SUB] = {RML_EXPR_SUB_I, RML_EXPR_SUB_U, RML_EXPR_SUB_IU, RML_EXPR_SUB_UI,
                      RML_EXPR_SUB_F},
    [RML_EXPR_MUL] = {RML_EXPR_MUL_I, RML_EXPR_MUL_U, RML_EXPR_MUL_IU, RML_EXPR_MUL_UI,
                      RML_EXPR_MUL_F},
    [RML_EXPR_MOD] = {RML_EXPR_MOD_I, RML_EXPR_MOD_U, RML_EXPR_MOD_IU, RML_EXPR_MOD_UI},
};

static uint32_t arithmetic_with_time(struct rml_expr_tree *tree, struct rml_expr_span span,
                                     enum rml_expr_arithmetic what, uint32_t a, uint32_t b)
{
    struct rml_expr_node *x = &tree->nodes[a], *y = &tree->nodes[b];
    if (what == RML_EXPR_SUB && x->literal && is_integer(x->type))
        x->type = RML_TIME;
    enum rml_type type = time_arithmetic(what, x->type, y->type);
    if (type == RML_TYPES) {
        rml_expr_fail(tree->error, span.offset, span.length,
                      "a time can be subtracted from a time, and a duration added or subtracted",
                      "%s %s %s has no meaning", rml_expr_type_name(x->type),
                      arithmetic_names[what], rml_expr_type_name(y->type));
        return RML_EXPR_NO_NODE;
    }
    enum signature signature = x->type == RML_U64 ? UI : y->type == RML_U64 ? IU : II;
    return rml_expr_strict(tree, span, arithmetic_ops[what][signature], type, a, b);
}

uint32_t rml_expr_arithmetic(struct rml_expr_tree *tree, struct rml_expr_span span,
                             enum rml_expr_arithmetic what, uint32_t a, uint32_t b)
{
    if (!adapt_null(tree, span, a, b) || !check_number(tree, arithmetic_names[what], a)
        || !check_number(tree, arithmetic_names[what], b))
        return RML_EXPR_NO_NODE;
    const struct rml_expr_node *x = &tree->nodes[a], *y = &tree->nodes[b];
    if (x->type == RML_TIME || y->type == RML_TIME)
        return arithmetic_with_time(tree, span, what, a, b);

    enum signature signature = signature_of(x, y);
    if (signature != FF) {
        enum rml_type type = signature == UU ? RML_U64 : RML_I64;
        return rml_expr_strict(tree, span, arithmetic_ops[what][signature], type, a, b);
    }
    if (what == RML_EXPR_MOD) {
        rml_expr_fail(tree->error, span.offset, span.length, NULL,
                      "%% is of integers, got %s and %s", rml_expr_type_name(x->type),
                      rml_expr_type_name(y->type));
        return RML_EXPR_NO_NODE;
    }
    a = rml_expr_float(tree, a, arithmetic_names[what]);
    b = rml_expr_float(tree, b, arithmetic_names[what]);
    return rml_expr_strict(tree, span, arithmetic_ops[what][FF], RML_F64, a, b);
}

uint32_t rml_expr_divide(struct rml_expr_tree *tree, struct rml_expr_span span, uint32_t a,
                         uint32_t b)
{
    a = rml_expr_float(tree, a, "/");
    b = a != RML_EXPR_NO_NODE ? rml_expr_float(tree, b, "/") : a;
    if (b == RML_EXPR_NO_NODE)
        return b;
    return rml_expr_strict(tree, span, RML_EXPR_DIV_F, RML_F64, a, b);
}

uint32_t rml_expr_negate(struct rml_expr_tree *tree, struct rml_expr_span span, uint32_t a)
{
    const struct rml_expr_node *node = &tree->nodes[a];
    if (is_untyped(node))
        return a;
    if (node->type == RML_TIME || !check_number(tree, "-", a)) {
        if (node->type == RML_TIME)
            rml_expr_fail(tree->error, node->offset, node->length, NULL, "a time has no opposite");
        return RML_EXPR_NO_NODE;
    }
    if (kind_of(node->type) == RML_KIND_FLOAT)
        return rml_expr_strict(tree, span, RML_EXPR_NEG_F, RML_F64, a, RML_EXPR_NO_NODE);
    enum rml_expr_op op = node->type == RML_U64 ? RML_EXPR_NEG_U : RML_EXPR_NEG_I;
    return rml_expr_strict(tree, span, op, RML_I64, a, RML_EXPR_NO_NODE);
}

/* Comparisons */

static const enum rml_expr_op comparison_ops[][5] = {
    [RML_EXPR_EQ] = {RML_EXPR_EQ_I, RML_EXPR_EQ_U, RML_EXPR_EQ_IU, RML_EXPR_EQ_UI, RML_EXPR_EQ_F},
    [RML_EXPR_NE] = {RML_EXPR_NE_I, RML_EXPR_NE_U, RML_EXPR_NE_IU, RML_EXPR_NE_UI, RML_EXPR_NE_F},
    [RML_EXPR_LT] = {RML_EXPR_LT_I, RML_EXPR_LT_U, RML_EXPR_LT_IU, RML_EXPR_LT_UI, RML_EXPR_LT_F},
    [RML_EXPR_LE] = {RML_EXPR_LE_I, RML_EXPR_LE_U, RML_EXPR_LE_IU, RML_EXPR_LE_UI, RML_EXPR_LE_F},
    [RML_EXPR_GT] = {RML_EXPR_GT_I, RML_EXPR_GT_U, RML_EXPR_GT_IU, RML_EXPR_GT_UI, RML_EXPR_GT_F},
    [RML_EXPR_GE] = {RML_EXPR_GE_I, RML_EXPR_GE_U, RML_EXPR_GE_IU, RML_EXPR_GE_UI, RML_EXPR_GE_F},
};

static uint32_t compare_numbers(struct rml_expr_tree *tree, struct rml_expr_span span,
                                enum rml_expr_comparison what, uint32_t a, uint32_t b)
{
    const struct rml_expr_node *x = &tree->nodes[a], *y = &tree->nodes[b];
    enum signature signature = signature_of(x, y);
    const enum rml_expr_op op = comparison_ops[what][signature];
    if (signature == FF) {
        const char *name = rml_expr_kernels[op].print;
        a = rml_expr_float(tree, a, name);
        b = a != RML_EXPR_NO_NODE ? rml_expr_float(tree, b, name) : a;
        if (b == RML_EXPR_NO_NODE)
            return b;
    }
    return rml_expr_strict(tree, span, op, RML_BOOL, a, b);
}

// A literal that the column has no room for would never be equal to it: surely a mistake.
static bool check_string_fits(struct rml_expr_tree *tree, uint32_t literal, uint32_t other)
{
    const struct rml_expr_node *node = &tree->nodes[literal];
    const struct rml_expr_node *column = &tree->nodes[other];
    uint32_t room = rml_type_info[column->type].bytes;
    if (!node->literal || column->literal || node->null
        || strnlen(node->cell.string, sizeof node->cell.string) <= room)
        return true;
    rml_expr_fail(tree->error, node->offset, node->length, NULL,
                  "the string is longer than the %u bytes of %s", room,
                  rml_type_info[column->type].name);
    return false;
}

static uint32_t compare_strings(struct rml_expr_tree *tree, struct rml_expr_span span,
                                enum rml_expr_comparison what, uint32_t a, uint32_t b)
{
    if (!check_string_fits(tree, a, b) || !check_string_fits(tree, b, a))
        return RML_EXPR_NO_NODE;
    // as wide as the column, for which there is a faster loop
    struct rml_expr_node *x = &tree->nodes[a], *y = &tree->nodes[b];
    if (x->literal && !y->literal)
        x->type = y->type;
    else if (y->literal && !x->literal)
        y->type = x->type;
    const uint32_t args[] = {a, b};
    bool nullable = tree->nodes[a].nullable || tree->nodes[b].nullable;
    enum rml_expr_op op = (enum rml_expr_op)(RML_EXPR_EQ_STR + (unsigned int)what);
    return rml_expr_node(tree, span, op, RML_BOOL, nullable, args, 2);
}

uint32_t rml_expr_compare(struct rml_expr_tree *tree, struct rml_expr_span span,
                          enum rml_expr_comparison what, uint32_t a, uint32_t b)
{
    struct rml_expr_node *x = &tree->nodes[a], *y = &tree->nodes[b];
    if (!adapt_null(tree, span, a, b))
        return RML_EXPR_NO_NODE;
    if ((x->type == RML_TIME && !adapt_time_text(tree, b))
        || (y->type == RML_TIME && !adapt_time_text(tree, a)))
        return RML_EXPR_NO_NODE;
    if (rml_type_is_number(x->type) && rml_type_is_number(y->type))
        return compare_numbers(tree, span, what, a, b);
    if (kind_of(x->type) == RML_KIND_STR && kind_of(y->type) == RML_KIND_STR)
        return compare_strings(tree, span, what, a, b);

    const char *name = rml_expr_kernels[comparison_ops[what][II]].print;
    bool bools = x->type == RML_BOOL && y->type == RML_BOOL;
    if (bools && (what == RML_EXPR_EQ || what == RML_EXPR_NE)) {
        enum rml_expr_op op = what == RML_EXPR_EQ ? RML_EXPR_EQ_B : RML_EXPR_NE_B;
        return rml_expr_strict(tree, span, op, RML_BOOL, a, b);
    }
    rml_expr_fail(tree->error, span.offset, span.length,
                  bools ? "booleans are compared with == and != only" : NULL,
                  "%s cannot compare %s and %s", name, rml_expr_type_name(x->type),
                  rml_expr_type_name(y->type));
    return RML_EXPR_NO_NODE;
}

/* Logic */

static bool check_bool(struct rml_expr_tree *tree, const char *what, uint32_t index)
{
    struct rml_expr_node *node = &tree->nodes[index];
    if (is_untyped(node))
        node->type = RML_BOOL;
    if (node->type == RML_BOOL)
        return true;
    char hint[sizeof tree->error->hint] = "";
    if (node->op == RML_EXPR_COLUMN) {
        snprintf(hint, sizeof hint, "compare it, as in %s != %s",
                 tree->frame->columns[node->column].name,
                 kind_of(node->type) == RML_KIND_STR ? "''" : "0");
    }
    rml_expr_fail(tree->error, node->offset, node->length, hint, "%s needs bool, got %s", what,
                  rml_expr_type_name(node->type));
    return false;
}

uint32_t rml_expr_logic(struct rml_expr_tree *tree, struct rml_expr_span span, enum rml_expr_op op,
                        uint32_t a, uint32_t b)
{
    const char *name = op == RML_EXPR_AND ? "and" : "or";
    if (!check_bool(tree, name, a) || !check_bool(tree, name, b))
        return RML_EXPR_NO_NODE;
    const uint32_t args[] = {a, b};
    bool nullable = tree->nodes[a].nullable || tree->nodes[b].nullable;
    return rml_expr_node(tree, span, op, RML_BOOL, nullable, args, 2);
}

uint32_t rml_expr_not(struct rml_expr_tree *tree, struct rml_expr_span span, uint32_t a)
{
    if (!check_bool(tree, "not", a))
        return RML_EXPR_NO_NODE;
    return rml_expr_strict(tree, span, RML_EXPR_NOT, RML_BOOL, a, RML_EXPR_NO_NODE);
}

/* Common types */

// Numbers, times, strings and booleans do not mix; a literal integer goes with times too.
static bool go_together(const struct rml_expr_node *a, const struct rml_expr_node *b)
{
    if (a->type == RML_TIME || b->type == RML_TIME)
        return (a->type == b->type) || (a->literal && is_integer(a->type))
               || (b->literal && is_integer(b->type));
    if (rml_type_is_number(a->type))
        return rml_type_is_number(b->type);
    return kind_of(a->type) == kind_of(b->type);
}

// What the operands of a common type have in common, nulls without a type aside.
struct survey {
    const struct rml_expr_node *first;  // NULL: all are nulls
    const struct rml_expr_node *widest;
    bool same, any_time, any_float, any_u64, all_unsigned;
};

static void survey_add(struct survey *survey, const struct rml_expr_node *node)
{
    if (survey->first == NULL)
        *survey =
            (struct survey){.first = node, .widest = node, .same = true, .all_unsigned = true};
    survey->same = survey->same && node->type == survey->first->type;
    survey->any_time = survey->any_time || node->type == RML_TIME;
    survey->any_float = survey->any_float || kind_of(node->type) == RML_KIND_FLOAT;
    survey->any_u64 = survey->any_u64 || node->type == RML_U64;
    survey->all_unsigned = survey->all_unsigned && is_unsigned(node);
    if (rml_type_info[node->type].bytes > rml_type_info[survey->widest->type].bytes)
        survey->widest = node;
}

static enum rml_type survey_type(const struct survey *survey)
{
    if (survey->same)
        return survey->first->type;
    if (kind_of(survey->first->type) == RML_KIND_STR)
        return survey->widest->type;
    if (survey->any_time)
        return RML_TIME;
    if (survey->any_float)
        return RML_F64;
    return survey->any_u64 && survey->all_unsigned ? RML_U64 : RML_I64;
}

enum rml_type rml_expr_common_type(struct rml_expr_tree *tree, const uint32_t *args,
                                   uint32_t arg_count)
{
    bool any_time = false;
    for (uint32_t i = 0; i < arg_count; i++)
        any_time = any_time || tree->nodes[args[i]].type == RML_TIME;

    struct survey survey = {.first = NULL};
    for (uint32_t i = 0; i < arg_count; i++) {
        const struct rml_expr_node *node = &tree->nodes[args[i]];
        if (any_time && !adapt_time_text(tree, args[i]))
            return RML_TYPES;
        if (is_untyped(node))
            continue;
        if (survey.first != NULL && !go_together(survey.first, node)) {
            rml_expr_fail(tree->error, node->offset, node->length, NULL,
                          "%s and %s do not go together", rml_expr_type_name(survey.first->type),
                          rml_expr_type_name(node->type));
            return RML_TYPES;
        }
        survey_add(&survey, node);
    }
    if (survey.first != NULL)
        return survey_type(&survey);
    const struct rml_expr_node *null = &tree->nodes[args[0]];
    rml_expr_fail(tree->error, null->offset, null->length, NULL, "null alone has no type here");
    return RML_TYPES;
}

uint32_t rml_expr_convert(struct rml_expr_tree *tree, uint32_t index, enum rml_type type)
{
    struct rml_expr_node *node = &tree->nodes[index];
    enum rml_kind from = kind_of(node->type), to = kind_of(type);
    if (is_untyped(node) || node->type == type) {
        node->type = type;
        return index;
    }
    if (to == RML_KIND_FLOAT)
        return rml_expr_float(tree, index, "a float");
    if (to == RML_KIND_INT && from == RML_KIND_UINT)
        return rml_expr_strict(tree, span_of(node), RML_EXPR_INT_U, RML_I64, index,
                               RML_EXPR_NO_NODE);
    if (node->op == RML_EXPR_CONST)
        node->type = type;  // the same bits: a wider string, an integer as a time, a small as a u64
    if (to != RML_KIND_STR || node->op == RML_EXPR_CONST)
        return index;
    return rml_expr_node(tree, span_of(node), RML_EXPR_WIDEN, type, node->nullable, &index, 1);
}
