#include "runtime/record/expr.h"

#include <errno.h>
#include <stdlib.h>

#include "runtime/record/expr_parse.h"
#include "runtime/record/expr_program.h"

int rml_expr_compile(const char *text, size_t length, const struct rml_frame *frame,
                     const uint64_t *visible, struct rml_expr **ret_expr,
                     struct rml_expr_error *error)
{
    *error = (struct rml_expr_error){.offset = 0};
    struct rml_expr *expr = calloc(1, sizeof *expr);
    if (expr == NULL)
        return -ENOMEM;
    expr->frame = *frame;
    expr->tree.frame = &expr->frame;
    expr->tree.error = error;

    int rc = rml_expr_parse(&expr->tree, text, length, visible, &expr->root);
    if (rc < 0)
        goto fail;
    rc = rml_expr_program_init(&expr->program, &expr->tree, expr->root);
    if (rc < 0)
        goto fail;

    // the parser reserved for the longest tree that a text of this length can have
    struct rml_expr_node *nodes =
        realloc(expr->tree.nodes, expr->tree.count * sizeof *expr->tree.nodes);
    if (nodes != NULL)
        expr->tree.nodes = nodes;
    expr->tree.capacity = expr->tree.count;
    expr->tree.error = NULL;
    *ret_expr = expr;
    return 0;

fail:
    rml_expr_free(expr);
    return rc;
}

void rml_expr_free(struct rml_expr *expr)
{
    if (expr == NULL)
        return;
    rml_expr_program_fini(&expr->program);
    free(expr->tree.nodes);
    free(expr);
}

enum rml_type rml_expr_type(const struct rml_expr *expr)
{
    return expr->tree.nodes[expr->root].type;
}

bool rml_expr_nullable(const struct rml_expr *expr)
{
    return expr->tree.nodes[expr->root].nullable;
}

void rml_expr_columns(const struct rml_expr *expr, uint64_t wanted[RML_COLUMNS_MAX / 64])
{
    for (uint32_t i = 0; i < expr->tree.count; i++) {
        const struct rml_expr_node *node = &expr->tree.nodes[i];
        if (node->op == RML_EXPR_COLUMN)
            wanted[node->column / 64] |= UINT64_C(1) << (node->column % 64);
    }
}
