#include "runtime/stats/moments.h"

#include <math.h>

void rml_moments_merge(struct rml_moments *into, const struct rml_moments *from)
{
    if (from->count == 0)
        return;
    if (into->count == 0) {
        *into = *from;
        return;
    }
    double here = (double)into->count, there = (double)from->count, all = here + there;
    double apart = (from->mean - into->mean) + (from->mean_rest - into->mean_rest);
    into->count += from->count;
    // Divided first, so that the product overflows no sooner than the answer does.
    into->squares += from->squares + apart * (apart * (here * there / all));
    rml_moments_move(into, apart * (there / all));
}

static bool divided(const struct rml_moments *m, uint64_t less, double *ret_variance)
{
    if (m->count <= less || isnan(m->squares))
        return false;
    *ret_variance = m->squares / (double)(m->count - less);
    return true;
}

bool rml_moments_var_pop(const struct rml_moments *m, double *ret_variance)
{
    return divided(m, 0, ret_variance);
}

bool rml_moments_var_samp(const struct rml_moments *m, double *ret_variance)
{
    return divided(m, 1, ret_variance);
}

static bool root(bool there, double *value)
{
    if (there)
        *value = sqrt(*value);
    return there;
}

bool rml_moments_stddev_pop(const struct rml_moments *m, double *ret_deviation)
{
    return root(rml_moments_var_pop(m, ret_deviation), ret_deviation);
}

bool rml_moments_stddev_samp(const struct rml_moments *m, double *ret_deviation)
{
    return root(rml_moments_var_samp(m, ret_deviation), ret_deviation);
}
