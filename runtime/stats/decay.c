#include "runtime/stats/decay.h"

#include <math.h>

// What is left of a weight of 1 between the two times, which may lie as far apart as times go.
static double left_after(int64_t span_ns, int64_t from_ns, int64_t to_ns)
{
    return exp(-(double)((uint64_t)to_ns - (uint64_t)from_ns) / (double)span_ns);
}

static void add_weighted(struct rml_decay *decay, int64_t span_ns, int64_t time_ns, double weight,
                         double sum)
{
    if (time_ns <= decay->latest) {
        double left = left_after(span_ns, time_ns, decay->latest);
        decay->weight += weight * left;
        decay->sum += sum * left;
        return;
    }
    double left = left_after(span_ns, decay->latest, time_ns);
    decay->weight = decay->weight * left + weight;
    decay->sum = decay->sum * left + sum;
    decay->latest = time_ns;
}

void rml_decay_add(struct rml_decay *decay, int64_t span_ns, int64_t time_ns, double x)
{
    if (decay->weight > 0)
        add_weighted(decay, span_ns, time_ns, 1, x);
    else
        *decay = (struct rml_decay){.latest = time_ns, .weight = 1, .sum = x};
}

void rml_decay_merge(struct rml_decay *into, int64_t span_ns, const struct rml_decay *from)
{
    if (into->weight > 0 && from->weight > 0)
        add_weighted(into, span_ns, from->latest, from->weight, from->sum);
    else if (from->weight > 0)
        *into = *from;
}

bool rml_decay_mean(const struct rml_decay *decay, double *ret_mean)
{
    if (!(decay->weight > 0) || isnan(decay->sum))
        return false;
    *ret_mean = decay->sum / decay->weight;
    return true;
}
