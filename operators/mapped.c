#include "operators/mapped.h"

#include "runtime/partition/operator.h"

void rml_mapped_fill(const struct rml_operator_env *env, const struct rml_batch *batch)
{
    const struct rml_plan_stage *stage = &env->plan->stages[env->stage];
    for (uint32_t i = 0; i < stage->mapped_count; i++) {
        uint32_t column = stage->mapped[i].column;
        uint32_t no_answer = rml_expr_eval(stage->mapped[i].expr, batch, env->scratch,
                                           &env->columns[column], env->nulls[column]);
        if (no_answer > 0)
            rml_count(&env->counts[RML_STAGE_no_answer], no_answer);
    }
}
