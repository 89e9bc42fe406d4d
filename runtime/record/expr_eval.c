/*
 * Running a compiled expression over a batch: step by step, each step one loop over all rows.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/check.h"
#include "runtime/record/expr_program.h"

#define LINE_BYTES 64
#define RESULT     0u

struct slot {
    void *storage;          // RML_BATCH_ROWS cells; of the result the caller's
    uint8_t *null_storage;  // RML_BATCH_ROWS bytes
    const void *data;       // what the register holds now: the storage, or a column of the batch
    const uint8_t *null;    // NULL: no row is null
};

struct rml_expr_scratch {
    uint32_t slot_count;
    struct slot *slots;  // storage of slot 0 is set for each evaluation
    uint8_t *pass;       // the result of a filter
    uint8_t *pass_null;
    uint8_t *take;  // which rows take the first branch
    uint8_t *never_null;
};

static void *rows_of(size_t bytes)
{
    return aligned_alloc(LINE_BYTES, RML_BATCH_ROWS * bytes);
}

static int slot_open(struct slot *slot, uint8_t bytes)
{
    slot->null_storage = rows_of(1);
    slot->storage = bytes > 0 ? rows_of(bytes) : NULL;
    return slot->null_storage == NULL || (bytes > 0 && slot->storage == NULL) ? -ENOMEM : 0;
}

static uint8_t widest(const struct rml_expr *const *exprs, uint32_t expr_count, uint32_t slot)
{
    uint8_t bytes = 0;
    for (uint32_t i = 0; i < expr_count; i++) {
        const struct rml_expr_program *program = &exprs[i]->program;
        if (slot < program->register_count && program->register_bytes[slot] > bytes)
            bytes = program->register_bytes[slot];
    }
    return bytes;
}

int rml_expr_scratch_open(struct rml_expr_scratch **ret_scratch,
                          const struct rml_expr *const *exprs, uint32_t expr_count)
{
    struct rml_expr_scratch *scratch = calloc(1, sizeof *scratch);
    if (scratch == NULL)
        return -ENOMEM;
    scratch->slot_count = 1;
    for (uint32_t i = 0; i < expr_count; i++) {
        if (exprs[i]->program.register_count > scratch->slot_count)
            scratch->slot_count = exprs[i]->program.register_count;
    }
    scratch->slots = calloc(scratch->slot_count, sizeof *scratch->slots);
    scratch->pass = rows_of(1);
    scratch->pass_null = rows_of(1);
    scratch->take = rows_of(1);
    scratch->never_null = rows_of(1);
    if (scratch->slots == NULL || scratch->pass == NULL || scratch->pass_null == NULL
        || scratch->take == NULL || scratch->never_null == NULL)
        goto fail;
    memset(scratch->never_null, 0, RML_BATCH_ROWS);
    for (uint32_t i = RESULT + 1; i < scratch->slot_count; i++) {
        if (slot_open(&scratch->slots[i], widest(exprs, expr_count, i)) < 0)
            goto fail;
    }
    *ret_scratch = scratch;
    return 0;

fail:
    rml_expr_scratch_close(scratch);
    return -ENOMEM;
}

void rml_expr_scratch_close(struct rml_expr_scratch *scratch)
{
    if (scratch == NULL)
        return;
    for (uint32_t i = RESULT + 1; scratch->slots != NULL && i < scratch->slot_count; i++) {
        free(scratch->slots[i].storage);
        free(scratch->slots[i].null_storage);
    }
    free(scratch->slots);
    free(scratch->pass);
    free(scratch->pass_null);
    free(scratch->take);
    free(scratch->never_null);
    free(scratch);
}

struct run {
    const struct rml_expr *expr;
    const struct rml_batch *batch;
    struct rml_expr_scratch *scratch;
    uint32_t rows;
};

static const void *data_of(const struct run *run, const struct rml_expr_operand *operand)
{
    if (operand->is_const)
        return &run->expr->tree.nodes[operand->index].cell;
    return run->scratch->slots[operand->index].data;
}

// Constants that stay one value are never null.
static const uint8_t *null_of(const struct run *run, const struct rml_expr_operand *operand)
{
    return operand->is_const ? NULL : run->scratch->slots[operand->index].null;
}

static const uint8_t *either_null(const struct run *run, const uint8_t *a, const uint8_t *b,
                                  uint8_t *storage)
{
    if (a == NULL && b == NULL)
        return NULL;
    if (a == NULL || b == NULL) {
        memcpy(storage, a != NULL ? a : b, run->rows);
        return storage;
    }
    for (uint32_t i = 0; i < run->rows; i++)
        storage[i] = a[i] | b[i];
    return storage;
}

static void run_load(const struct run *run, const struct rml_expr_step *step, struct slot *out)
{
    const struct rml_column *column = &run->batch->columns[step->column];
    out->data = column->data;
    out->null = column->null;
    if (step->is_float
        && rml_expr_mark_nan(column->data, column->null, out->null_storage, run->rows))
        out->null = out->null_storage;
}

static void run_fill(const struct run *run, const struct rml_expr_step *step, struct slot *out)
{
    const struct rml_expr_node *node = &run->expr->tree.nodes[step->args[0].index];
    unsigned char *cells = out->storage;
    for (uint32_t i = 0; i < run->rows; i++)
        memcpy(cells + (size_t)i * step->bytes, &node->cell, step->bytes);
    if (node->null)
        memset(out->null_storage, RML_EXPR_NULL, run->rows);
    out->null = node->null ? out->null_storage : NULL;
}

static void run_copy(const struct run *run, const struct rml_expr_step *step, struct slot *out)
{
    memcpy(out->storage, data_of(run, &step->args[0]), (size_t)run->rows * step->bytes);
    out->null = either_null(run, null_of(run, &step->args[0]), NULL, out->null_storage);
}

static void run_strict(const struct run *run, const struct rml_expr_step *step, struct slot *out)
{
    const struct rml_expr_kernel *kernel = &rml_expr_kernels[step->op];
    const void *a = data_of(run, &step->args[0]);
    const void *b = kernel->operands == 2 ? data_of(run, &step->args[1]) : NULL;
    const uint8_t *b_null = kernel->operands == 2 ? null_of(run, &step->args[1]) : NULL;

    out->null = either_null(run, null_of(run, &step->args[0]), b_null, out->null_storage);
    if (!kernel->run[step->shape](a, b, out->storage, run->rows))
        return;
    if (out->null == NULL)
        memset(out->null_storage, 0, run->rows);
    kernel->settle[step->shape](a, b, out->null_storage, run->rows);
    out->null = out->null_storage;
}

static void run_strings(const struct run *run, const struct rml_expr_step *step, struct slot *out)
{
    const struct rml_expr_operand *a = &step->args[0], *b = &step->args[1];
    const struct rml_expr_strings strings = {
        .a = data_of(run, a),
        .b = data_of(run, b),
        .a_words = a->bytes / 8u,
        .b_words = b->bytes / 8u,
        .a_step = a->is_const ? 0 : a->bytes / 8u,
        .b_step = b->is_const ? 0 : b->bytes / 8u,
    };
    out->null = either_null(run, null_of(run, a), null_of(run, b), out->null_storage);
    rml_expr_compare_strings(step->op, &strings, out->storage, run->rows);
}

static void run_widen(const struct run *run, const struct rml_expr_step *step, struct slot *out)
{
    const unsigned char *from = data_of(run, &step->args[0]);
    unsigned char *to = out->storage;
    uint32_t narrow = step->args[0].bytes;
    memset(to, 0, (size_t)run->rows * step->bytes);
    for (uint32_t i = 0; i < run->rows; i++)
        memcpy(to + (size_t)i * step->bytes, from + (size_t)i * narrow, narrow);
    out->null = either_null(run, null_of(run, &step->args[0]), NULL, out->null_storage);
}

static void run_logic(const struct run *run, const struct rml_expr_step *step, struct slot *out)
{
    const uint8_t *a = data_of(run, &step->args[0]), *a_null = null_of(run, &step->args[0]);
    const uint8_t *b = data_of(run, &step->args[1]), *b_null = null_of(run, &step->args[1]);
    if (step->op == RML_EXPR_AND)
        rml_expr_and(a, a_null, b, b_null, out->storage, out->null_storage, run->rows);
    else
        rml_expr_or(a, a_null, b, b_null, out->storage, out->null_storage, run->rows);
    out->null = a_null != NULL || b_null != NULL ? out->null_storage : NULL;
}

static void run_is_null(const struct run *run, const struct rml_expr_step *step, struct slot *out)
{
    const uint8_t *null = null_of(run, &step->args[0]);
    uint8_t *result = out->storage;
    out->null = NULL;
    if (null == NULL) {
        memset(result, 0, run->rows);
        return;
    }
    for (uint32_t i = 0; i < run->rows; i++)
        result[i] = null[i] != 0;
}

// `take` says which rows get the first value.
static void choose(const struct run *run, const struct rml_expr_step *step,
                   const struct rml_expr_operand *a, const struct rml_expr_operand *b,
                   const uint8_t *take, struct slot *out)
{
    rml_expr_choose(take, data_of(run, a), a->is_const ? 0 : 1, data_of(run, b),
                    b->is_const ? 0 : 1, step->bytes, out->storage, run->rows);
}

// A condition that is null is not true: the second branch.
static void run_if(const struct run *run, const struct rml_expr_step *step, struct slot *out)
{
    const uint8_t *take = data_of(run, &step->args[0]), *unknown = null_of(run, &step->args[0]);
    const uint8_t *a_null = null_of(run, &step->args[1]), *b_null = null_of(run, &step->args[2]);
    uint8_t *known = run->scratch->take;
    if (unknown != NULL) {
        for (uint32_t i = 0; i < run->rows; i++)
            known[i] = take[i] & (unknown[i] == 0);
        take = known;
    }
    choose(run, step, &step->args[1], &step->args[2], take, out);
    out->null = NULL;
    if (a_null == NULL && b_null == NULL)
        return;
    const uint8_t *none = run->scratch->never_null;
    rml_expr_choose(take, a_null != NULL ? a_null : none, 1, b_null != NULL ? b_null : none, 1, 1,
                    out->null_storage, run->rows);
    out->null = out->null_storage;
}

// Null only where both are; then a lack of an answer on either side is the reason.
static void run_coalesce(const struct run *run, const struct rml_expr_step *step, struct slot *out)
{
    const uint8_t *a_null = null_of(run, &step->args[0]), *b_null = null_of(run, &step->args[1]);
    out->null = NULL;
    if (a_null == NULL) {
        memcpy(out->storage, data_of(run, &step->args[0]), (size_t)run->rows * step->bytes);
        return;
    }
    uint8_t *take = run->scratch->take;
    for (uint32_t i = 0; i < run->rows; i++)
        take[i] = a_null[i] == 0;
    choose(run, step, &step->args[0], &step->args[1], take, out);
    if (b_null == NULL)
        return;
    for (uint32_t i = 0; i < run->rows; i++)
        out->null_storage[i] = a_null[i] != 0 && b_null[i] != 0 ? a_null[i] | b_null[i] : 0;
    out->null = out->null_storage;
}

typedef void step_fn(const struct run *run, const struct rml_expr_step *step, struct slot *out);

static step_fn *const step_fns[] = {
    [RML_EXPR_STEP_LOAD] = run_load,       [RML_EXPR_STEP_FILL] = run_fill,
    [RML_EXPR_STEP_COPY] = run_copy,       [RML_EXPR_STEP_STRICT] = run_strict,
    [RML_EXPR_STEP_STRINGS] = run_strings, [RML_EXPR_STEP_WIDEN] = run_widen,
    [RML_EXPR_STEP_LOGIC] = run_logic,     [RML_EXPR_STEP_IS_NULL] = run_is_null,
    [RML_EXPR_STEP_IF] = run_if,           [RML_EXPR_STEP_COALESCE] = run_coalesce,
};

// Run all steps with the result going to `data` and `null`; returns where its nulls lie, or NULL.
static const uint8_t *run_program(const struct run *run, void *data, uint8_t *null)
{
    const struct rml_expr_program *program = &run->expr->program;
    struct slot *slots = run->scratch->slots;
    RML_CHECK(program->register_count <= run->scratch->slot_count);
    RML_CHECK(run->rows <= RML_BATCH_ROWS);

    slots[RESULT].storage = data;
    slots[RESULT].null_storage = null;
    for (uint32_t i = 0; i < program->step_count; i++) {
        const struct rml_expr_step *step = &program->steps[i];
        struct slot *out = &slots[step->out];
        out->data = out->storage;
        step_fns[step->kind](run, step, out);
    }
    return slots[RESULT].null;
}

static uint32_t count_no_answer(const struct rml_batch *batch, const uint8_t *null)
{
    uint32_t count = 0;
    if (batch->select == NULL) {
        for (uint32_t i = 0; i < batch->rows; i++)
            count += (null[i] & RML_EXPR_NO_ANSWER) != 0;
        return count;
    }
    for (uint32_t i = 0; i < batch->selected; i++)
        count += (null[batch->select[i]] & RML_EXPR_NO_ANSWER) != 0;
    return count;
}

uint32_t rml_expr_eval(const struct rml_expr *expr, const struct rml_batch *batch,
                       struct rml_expr_scratch *scratch, struct rml_column *out, uint8_t *out_null)
{
    const struct run run = {expr, batch, scratch, batch->rows};
    const uint8_t *null = run_program(&run, out->data, out_null);
    out->type = rml_expr_type(expr);
    out->null = NULL;
    if (null == NULL)
        return 0;

    RML_CHECK(null == out_null);
    uint32_t no_answer = count_no_answer(batch, null);
    uint8_t any = 0;
    for (uint32_t i = 0; i < batch->rows; i++) {
        any |= out_null[i];
        out_null[i] &= RML_EXPR_NULL;  // set wherever the other bit is
    }
    out->null = any != 0 ? out_null : NULL;
    return no_answer;
}

uint32_t rml_expr_filter(const struct rml_expr *expr, const struct rml_batch *batch,
                         struct rml_expr_scratch *scratch, uint16_t *select,
                         uint32_t *ret_no_answer)
{
    RML_CHECK(rml_expr_type(expr) == RML_BOOL);
    const struct run run = {expr, batch, scratch, batch->rows};
    uint8_t *pass = scratch->pass;
    const uint8_t *null = run_program(&run, pass, scratch->pass_null);
    *ret_no_answer = 0;
    if (null != NULL) {
        *ret_no_answer = count_no_answer(batch, null);
        for (uint32_t i = 0; i < batch->rows; i++)
            pass[i] &= null[i] == 0;
    }

    // Always written, kept by moving on: a branch per row would be guessed wrong half the time.
    uint32_t count = 0;
    if (batch->select == NULL) {
        for (uint32_t i = 0; i < batch->rows; i++) {
            select[count] = (uint16_t)i;
            count += pass[i];
        }
        return count;
    }
    for (uint32_t i = 0; i < batch->selected; i++) {
        uint16_t row = batch->select[i];
        select[count] = row;
        count += pass[row];
    }
    return count;
}
