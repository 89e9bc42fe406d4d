/*
 * expr_program - a typed tree as a list of steps over numbered registers.
 *
 * A register is a column of RML_BATCH_ROWS cells with its nulls. Register 0 is the result, the next
 * ones are views of the frame's columns, the rest are working memory, used again as soon as what
 * lies in them was read. A constant stays one value where the kernel takes it so.
 */
#ifndef RML_RECORD_EXPR_PROGRAM_H
#define RML_RECORD_EXPR_PROGRAM_H

#include "runtime/record/expr_tree.h"

enum rml_expr_step_kind {
    RML_EXPR_STEP_LOAD,     // a view of a frame column
    RML_EXPR_STEP_FILL,     // a constant for all rows
    RML_EXPR_STEP_COPY,     // a view as the result
    RML_EXPR_STEP_STRICT,   // rml_expr_kernels[op]
    RML_EXPR_STEP_STRINGS,  // a comparison
    RML_EXPR_STEP_WIDEN,
    RML_EXPR_STEP_LOGIC,  // and, or
    RML_EXPR_STEP_IS_NULL,
    RML_EXPR_STEP_IF,
    RML_EXPR_STEP_COALESCE,
};

/* What a step reads: a register, or one constant for all rows. */
struct rml_expr_operand {
    bool is_const;
    uint8_t bytes;   // of a cell
    uint32_t index;  // of the register, or of the constant's node
};

struct rml_expr_step {
    enum rml_expr_step_kind kind;
    enum rml_expr_op op;
    enum rml_expr_shape shape;
    uint32_t out;     // register
    uint32_t column;  // LOAD
    uint8_t bytes;    // of a result's cell
    bool is_float;    // LOAD: look for values that are not numbers
    struct rml_expr_operand args[3];
};

struct rml_expr_program {
    struct rml_expr_step *steps;
    uint32_t step_count;
    uint32_t register_count;
    uint8_t *register_bytes;  // of the widest cell each must hold; 0 for views
};

struct rml_expr {
    struct rml_expr_tree tree;
    uint32_t root;
    struct rml_expr_program program;
    struct rml_frame frame;  // a copy: the names are printed when the caller's is gone
};

/* Returns 0 or -ENOMEM. */
int rml_expr_program_init(struct rml_expr_program *program, const struct rml_expr_tree *tree,
                          uint32_t root);
void rml_expr_program_fini(struct rml_expr_program *program);

#endif
