#include "operators/transform.h"

#include <errno.h>
#include <stdlib.h>

#include "operators/mapped.h"
#include "runtime/base/err.h"
#include "runtime/partition/operator.h"

struct transform {
    struct rml_operator_env env;
    uint16_t select[RML_BATCH_ROWS];
};

static struct transform *transform_of(struct rml_operator *op)
{
    return (void *)op;
}

static int transform_open(struct rml_operator **ret_operator, const struct rml_operator_env *env,
                          struct rml_err *err)
{
    struct transform *transform = calloc(1, sizeof *transform);
    if (transform == NULL)
        return RML_FAIL(err, -ENOMEM, "no memory");
    transform->env = *env;
    *ret_operator = (void *)transform;
    return 0;
}

static void transform_close(struct rml_operator *op)
{
    free(op);
}

static void filter_take(struct rml_operator *op, const struct rml_batch *batch,
                        const struct rml_run *run)
{
    struct transform *filter = transform_of(op);
    const struct rml_operator_env *env = &filter->env;
    uint32_t no_answer = 0;
    struct rml_batch out = *batch;
    out.selected = rml_expr_filter(env->plan->stages[env->stage].filter, batch, env->scratch,
                                   filter->select, &no_answer);
    out.select = filter->select;
    rml_count(&env->counts[RML_STAGE_in], batch->selected);
    rml_count(&env->counts[RML_STAGE_passed], out.selected);
    rml_count(&env->counts[RML_STAGE_filtered], batch->selected - out.selected);
    rml_count(&env->counts[RML_STAGE_no_answer], no_answer);
    // A batch that passed whole stays whole: the stages below run faster without a selection.
    if (out.selected == batch->selected)
        out.select = batch->select;
    env->pass(env->context, env->stage, false, &out, run);
}

static void map_take(struct rml_operator *op, const struct rml_batch *batch,
                     const struct rml_run *run)
{
    const struct rml_operator_env *env = &transform_of(op)->env;
    rml_count(&env->counts[RML_STAGE_in], batch->selected);
    rml_count(&env->counts[RML_STAGE_passed], batch->selected);
    rml_mapped_fill(env, batch);
    env->pass(env->context, env->stage, false, batch, run);
}

const struct rml_operator_kind rml_operator_filter = {
    .name = "filter",
    .open = transform_open,
    .close = transform_close,
    .take = filter_take,
};

const struct rml_operator_kind rml_operator_map = {
    .name = "map",
    .open = transform_open,
    .close = transform_close,
    .take = map_take,
};
