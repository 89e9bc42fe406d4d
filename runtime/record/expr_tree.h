/*
 * expr_tree - a typed expression as a tree of nodes, built bottom-up.
 *
 * Every node is made by a function that checks the types of its operands, converts them where the
 * rules say so, and computes at once what has only constants below it. Nodes lie in one array and
 * name each other by index; an operand always stands before the node that uses it.
 */
#ifndef RML_RECORD_EXPR_TREE_H
#define RML_RECORD_EXPR_TREE_H

#include "runtime/record/expr.h"
#include "runtime/record/expr_kernel.h"

#define RML_EXPR_LENGTH_MAX  4096  // bytes of text
#define RML_EXPR_NESTING_MAX 100   // parentheses, calls, not and - inside one another
#define RML_EXPR_NO_NODE     UINT32_MAX

union rml_expr_cell {
    int64_t i;
    uint64_t u;
    double f;
    uint8_t b;
    char string[64];
    uint64_t words[8];
};

struct rml_expr_node {
    enum rml_expr_op op;
    enum rml_type type;  // RML_TYPES: a null that has not met a type yet
    bool nullable;
    bool null;        // CONST: of no value
    bool literal;     // CONST: takes on the type of what it meets
    uint32_t column;  // COLUMN: of the frame
    uint32_t args[3];
    uint32_t arg_count;
    uint32_t offset, length;   // in the text
    union rml_expr_cell cell;  // CONST
};

struct rml_expr_tree {
    struct rml_expr_node *nodes;
    uint32_t count, capacity;
    const struct rml_frame *frame;  // while it is built
    struct rml_expr_error *error;
};

enum rml_expr_arithmetic { RML_EXPR_ADD, RML_EXPR_SUB, RML_EXPR_MUL, RML_EXPR_MOD };

enum rml_expr_comparison {
    RML_EXPR_EQ,
    RML_EXPR_NE,
    RML_EXPR_LT,
    RML_EXPR_LE,
    RML_EXPR_GT,
    RML_EXPR_GE,
};

/* Where in the text a node comes from. */
struct rml_expr_span {
    uint32_t offset, length;
};

/* Each returns the new node's index, or RML_EXPR_NO_NODE with the tree's error filled. */
uint32_t rml_expr_null(struct rml_expr_tree *tree, struct rml_expr_span span);
uint32_t rml_expr_const(struct rml_expr_tree *tree, struct rml_expr_span span, enum rml_type type,
                        union rml_expr_cell cell);
uint32_t rml_expr_column(struct rml_expr_tree *tree, struct rml_expr_span span, uint32_t column);
uint32_t rml_expr_arithmetic(struct rml_expr_tree *tree, struct rml_expr_span span,
                             enum rml_expr_arithmetic what, uint32_t a, uint32_t b);
uint32_t rml_expr_divide(struct rml_expr_tree *tree, struct rml_expr_span span, uint32_t a,
                         uint32_t b);
uint32_t rml_expr_negate(struct rml_expr_tree *tree, struct rml_expr_span span, uint32_t a);
uint32_t rml_expr_compare(struct rml_expr_tree *tree, struct rml_expr_span span,
                          enum rml_expr_comparison what, uint32_t a, uint32_t b);
uint32_t rml_expr_logic(struct rml_expr_tree *tree, struct rml_expr_span span, enum rml_expr_op op,
                        uint32_t a, uint32_t b);
uint32_t rml_expr_not(struct rml_expr_tree *tree, struct rml_expr_span span, uint32_t a);

/* A call of a function of the table in expr_call.c, where names and numbers of arguments are checked. */
uint32_t rml_expr_call(struct rml_expr_tree *tree, struct rml_expr_span name_span,
                       struct rml_expr_span span, const char *name, uint32_t name_length,
                       const uint32_t *args, uint32_t arg_count);

#define RML_EXPR_CALL_ARGS_MAX 64

/* For expr_call.c: the pieces that typed nodes are made of. */
uint32_t rml_expr_strict(struct rml_expr_tree *tree, struct rml_expr_span span, enum rml_expr_op op,
                         enum rml_type type, uint32_t a, uint32_t b);
uint32_t rml_expr_node(struct rml_expr_tree *tree, struct rml_expr_span span, enum rml_expr_op op,
                       enum rml_type type, bool nullable, const uint32_t *args, uint32_t arg_count);
/* The type that all of the operands can become; RML_TYPES with the error filled when there is none. */
enum rml_type rml_expr_common_type(struct rml_expr_tree *tree, const uint32_t *args,
                                   uint32_t arg_count);
/* The node at `index` as `type`, which rml_expr_common_type has found. */
uint32_t rml_expr_convert(struct rml_expr_tree *tree, uint32_t index, enum rml_type type);
uint32_t rml_expr_float(struct rml_expr_tree *tree, uint32_t index, const char *what);

/* "null" or the type's name, for messages. */
const char *rml_expr_type_name(enum rml_type type);

#endif
