#include "runtime/record/expr_program.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/check.h"

#define RESULT 0u

struct emitter {
    const struct rml_expr_tree *tree;
    struct rml_expr_program *program;
    uint32_t *free_list;  // registers whose contents were read
    uint32_t free_count;
    uint32_t view_of[RML_COLUMNS_MAX];  // register of a frame column; 0: none
    uint32_t view_end;                  // registers 1 .. view_end - 1 are views
};

static uint8_t cell_bytes(enum rml_type type)
{
    return (uint8_t)rml_type_info[type].cell_bytes;
}

static uint32_t take_register(struct emitter *emitter, uint8_t bytes)
{
    struct rml_expr_program *program = emitter->program;
    uint32_t index = emitter->free_count > 0 ? emitter->free_list[--emitter->free_count]
                                             : program->register_count++;
    if (program->register_bytes[index] < bytes)
        program->register_bytes[index] = bytes;
    return index;
}

static void give_register(struct emitter *emitter, const struct rml_expr_operand *operand)
{
    if (!operand->is_const && operand->index >= emitter->view_end)
        emitter->free_list[emitter->free_count++] = operand->index;
}

static struct rml_expr_step *add_step(struct emitter *emitter, enum rml_expr_step_kind kind,
                                      uint32_t out, uint8_t bytes)
{
    struct rml_expr_step *step = &emitter->program->steps[emitter->program->step_count++];
    *step = (struct rml_expr_step){.kind = kind, .out = out, .bytes = bytes};
    return step;
}

static struct rml_expr_operand register_operand(uint32_t index, uint8_t bytes)
{
    return (struct rml_expr_operand){.index = index, .bytes = bytes};
}

static struct rml_expr_operand const_operand(const struct emitter *emitter, uint32_t node)
{
    return (struct rml_expr_operand){
        .is_const = true, .index = node, .bytes = cell_bytes(emitter->tree->nodes[node].type)};
}

// All columns first: a view costs nothing, and a column that is read twice is looked through once.
static void emit_loads(struct emitter *emitter)
{
    const struct rml_expr_tree *tree = emitter->tree;
    for (uint32_t i = 0; i < tree->count; i++) {
        const struct rml_expr_node *node = &tree->nodes[i];
        if (node->op != RML_EXPR_COLUMN || emitter->view_of[node->column] != 0)
            continue;
        uint32_t view = take_register(emitter, 0);
        struct rml_expr_step *step =
            add_step(emitter, RML_EXPR_STEP_LOAD, view, cell_bytes(node->type));
        step->column = node->column;
        step->is_float = rml_type_info[node->type].kind == RML_KIND_FLOAT;
        emitter->view_of[node->column] = view;
    }
    emitter->view_end = emitter->program->register_count;
}

static struct rml_expr_operand emit_fill(struct emitter *emitter, uint32_t node, uint32_t out)
{
    struct rml_expr_operand constant = const_operand(emitter, node);
    add_step(emitter, RML_EXPR_STEP_FILL, out, constant.bytes)->args[0] = constant;
    return register_operand(out, constant.bytes);
}

static struct rml_expr_operand emit(struct emitter *emitter, uint32_t index, bool is_root);

// An operand that a kernel takes as one value stays one; a null, or one that must be a column, is
// written out for all rows.
static struct rml_expr_operand emit_operand(struct emitter *emitter, uint32_t index,
                                            bool may_be_const)
{
    const struct rml_expr_node *node = &emitter->tree->nodes[index];
    if (node->op != RML_EXPR_CONST)
        return emit(emitter, index, false);
    if (may_be_const && !node->null)
        return const_operand(emitter, index);
    return emit_fill(emitter, index, take_register(emitter, cell_bytes(node->type)));
}

static enum rml_expr_step_kind step_kind_of(enum rml_expr_op op)
{
    if (op < RML_EXPR_STRICT_OPS)
        return RML_EXPR_STEP_STRICT;
    if (op >= RML_EXPR_EQ_STR && op <= RML_EXPR_GE_STR)
        return RML_EXPR_STEP_STRINGS;
    if (op == RML_EXPR_AND || op == RML_EXPR_OR)
        return RML_EXPR_STEP_LOGIC;
    if (op == RML_EXPR_WIDEN)
        return RML_EXPR_STEP_WIDEN;
    if (op == RML_EXPR_IS_NULL)
        return RML_EXPR_STEP_IS_NULL;
    return op == RML_EXPR_IF ? RML_EXPR_STEP_IF : RML_EXPR_STEP_COALESCE;
}

// Which operands of a step may be one value: the branches of an if, the last of a coalesce, and of
// two operands either, but not both.
static bool takes_const(const struct emitter *emitter, const struct rml_expr_node *node, uint32_t i)
{
    enum rml_expr_step_kind kind = step_kind_of(node->op);
    if (kind == RML_EXPR_STEP_IF || kind == RML_EXPR_STEP_COALESCE)
        return i > 0;
    if ((kind != RML_EXPR_STEP_STRICT && kind != RML_EXPR_STEP_STRINGS) || node->arg_count != 2)
        return false;
    const struct rml_expr_node *last = &emitter->tree->nodes[node->args[1]];
    return i > 0 || last->op != RML_EXPR_CONST || last->null;
}

static struct rml_expr_operand emit_operation(struct emitter *emitter,
                                              const struct rml_expr_node *node, bool is_root)
{
    struct rml_expr_operand args[3] = {{.is_const = true}, {.is_const = true}, {.is_const = true}};
    for (uint32_t i = 0; i < node->arg_count; i++)
        args[i] = emit_operand(emitter, node->args[i], takes_const(emitter, node, i));

    // taken before the operands are given back: a kernel's result overlaps none of them
    uint8_t bytes = cell_bytes(node->type);
    uint32_t out = is_root ? RESULT : take_register(emitter, bytes);
    struct rml_expr_step *step = add_step(emitter, step_kind_of(node->op), out, bytes);
    step->op = node->op;
    if (node->arg_count == 2)
        step->shape = args[0].is_const ? RML_EXPR_SV : args[1].is_const ? RML_EXPR_VS : RML_EXPR_VV;
    for (uint32_t i = 0; i < node->arg_count; i++) {
        step->args[i] = args[i];
        give_register(emitter, &args[i]);
    }
    return register_operand(out, bytes);
}

static struct rml_expr_operand emit(struct emitter *emitter, uint32_t index, bool is_root)
{
    const struct rml_expr_node *node = &emitter->tree->nodes[index];
    if (node->op == RML_EXPR_CONST) {
        RML_CHECK(is_root);
        return emit_fill(emitter, index, RESULT);
    }
    if (node->op != RML_EXPR_COLUMN)
        return emit_operation(emitter, node, is_root);
    struct rml_expr_operand view =
        register_operand(emitter->view_of[node->column], cell_bytes(node->type));
    if (is_root)
        add_step(emitter, RML_EXPR_STEP_COPY, RESULT, view.bytes)->args[0] = view;
    return view;
}

int rml_expr_program_init(struct rml_expr_program *program, const struct rml_expr_tree *tree,
                          uint32_t root)
{
    // a node makes a step, and a copy or fill may be added for it; a register is a step's result
    uint32_t steps_max = 2 * tree->count + 1;
    *program = (struct rml_expr_program){
        .steps = calloc(steps_max, sizeof *program->steps),
        .register_bytes = calloc(steps_max + 1, sizeof *program->register_bytes),
        .register_count = RESULT + 1,
    };
    struct emitter emitter = {.tree = tree, .program = program};
    emitter.free_list = calloc(steps_max + 1, sizeof *emitter.free_list);
    if (program->steps == NULL || program->register_bytes == NULL || emitter.free_list == NULL) {
        free(emitter.free_list);
        rml_expr_program_fini(program);
        return -ENOMEM;
    }
    program->register_bytes[RESULT] = cell_bytes(tree->nodes[root].type);
    emit_loads(&emitter);
    emit(&emitter, root, true);
    RML_CHECK(program->step_count <= steps_max);
    free(emitter.free_list);
    return 0;
}

void rml_expr_program_fini(struct rml_expr_program *program)
{
    free(program->steps);
    free(program->register_bytes);
    *program = (struct rml_expr_program){.steps = NULL};
}
