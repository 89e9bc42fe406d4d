/*
 * An expression as text, fully parenthesised, with constants computed and conversions left out.
 */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/check.h"
#include "runtime/record/expr_program.h"

struct output {
    char *text;
    size_t bytes, used;  // used stays below bytes
};

__attribute__((format(printf, 2, 3))) static void put(struct output *out, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    int length = vsnprintf(out->text + out->used, out->bytes - out->used, fmt, args);
    va_end(args);
    RML_CHECK(length >= 0);
    size_t room = out->bytes - out->used - 1;
    out->used += (size_t)length < room ? (size_t)length : room;
}

// The fewest digits that read back the same, and always something that only a float has.
static void put_float(struct output *out, double value)
{
    char text[40];
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value)
            break;
    }
    put(out, "%s%s", text, strpbrk(text, ".e") == NULL ? ".0" : "");
}

static void put_const(struct output *out, const struct rml_expr_node *node)
{
    if (node->null) {
        put(out, "null");
        return;
    }
    switch (rml_type_info[node->type].kind) {
    case RML_KIND_INT:
        put(out, "%lld", (long long)node->cell.i);
        break;
    case RML_KIND_UINT:
        put(out, "%llu", (unsigned long long)node->cell.u);
        break;
    case RML_KIND_FLOAT:
        put_float(out, node->cell.f);
        break;
    case RML_KIND_BOOL:
        put(out, "%s", node->cell.b != 0 ? "true" : "false");
        break;
    case RML_KIND_STR: {
        char quote = memchr(node->cell.string, '\'', sizeof node->cell.string) != NULL ? '"' : '\'';
        put(out, "%c%.*s%c", quote, (int)sizeof node->cell.string, node->cell.string, quote);
        break;
    }
    case RML_KINDS:
        RML_UNREACHABLE("every type has a kind");
    }
}

static const char *print_of(enum rml_expr_op op)
{
    static const char *const others[] = {
        [RML_EXPR_EQ_STR - RML_EXPR_STRICT_OPS] = "==",
        [RML_EXPR_NE_STR - RML_EXPR_STRICT_OPS] = "!=",
        [RML_EXPR_LT_STR - RML_EXPR_STRICT_OPS] = "<",
        [RML_EXPR_LE_STR - RML_EXPR_STRICT_OPS] = "<=",
        [RML_EXPR_GT_STR - RML_EXPR_STRICT_OPS] = ">",
        [RML_EXPR_GE_STR - RML_EXPR_STRICT_OPS] = ">=",
        [RML_EXPR_WIDEN - RML_EXPR_STRICT_OPS] = "",
        [RML_EXPR_AND - RML_EXPR_STRICT_OPS] = "and",
        [RML_EXPR_OR - RML_EXPR_STRICT_OPS] = "or",
        [RML_EXPR_IS_NULL - RML_EXPR_STRICT_OPS] = "is_null",
        [RML_EXPR_IF - RML_EXPR_STRICT_OPS] = "if",
        [RML_EXPR_COALESCE - RML_EXPR_STRICT_OPS] = "coalesce",
    };
    return op < RML_EXPR_STRICT_OPS ? rml_expr_kernels[op].print : others[op - RML_EXPR_STRICT_OPS];
}

// Operators stand between or before their operands, functions have names of more letters.
static bool is_operator(const char *print)
{
    return strpbrk(print, "+-*/%=<>") != NULL || strcmp(print, "and") == 0
           || strcmp(print, "or") == 0 || strcmp(print, "not") == 0;
}

static void put_node(struct output *out, const struct rml_expr *expr, uint32_t index)
{
    const struct rml_expr_node *node = &expr->tree.nodes[index];
    if (node->op == RML_EXPR_CONST) {
        put_const(out, node);
        return;
    }
    if (node->op == RML_EXPR_COLUMN) {
        put(out, "%s", expr->frame.columns[node->column].name);
        return;
    }
    const char *print = print_of(node->op);
    if (print[0] == '\0') {  // a conversion: it will be there again when this is read
        put_node(out, expr, node->args[0]);
        return;
    }
    bool infix = is_operator(print);
    if (!infix)
        put(out, "%s", print);
    put(out, "(");
    if (infix && node->arg_count == 1)
        put(out, "%s ", print);
    for (uint32_t i = 0; i < node->arg_count; i++) {
        if (i > 0 && infix)
            put(out, " %s ", print);
        else if (i > 0)
            put(out, ", ");
        put_node(out, expr, node->args[i]);
    }
    put(out, ")");
}

void rml_expr_print(const struct rml_expr *expr, char *text, size_t bytes)
{
    RML_CHECK(bytes > 0);
    struct output out = {text, bytes, 0};
    text[0] = '\0';
    put_node(&out, expr, expr->root);
}
