/*
 * decay - a mean in which values fade with their age, in three words, mergeable.
 *
 * A value of time t weighs exp(-(T - t) / span) at time T: after `span` it counts 0.37 of a new one,
 * after 3 spans 0.05. The mean is the weighted sum over the sum of weights, and T falls out of it. So
 * it does not matter in which order values came, only what times they have: under disorder and over
 * panes merged in any order it is the same mean but for the last digits, which no sum of
 * doubles keeps in another order. (An average that takes each value as it comes, new = old + a (x - old),
 * has no such meaning: it can be merged with nothing, and records that came in another order give
 * another number. This is its form for times that are not equally far apart: A. Eckner,
 * "Algorithms for Unevenly Spaced Time Series: Moving Averages and Other Rolling Operators", 2012.)
 *
 * Weights are kept relative to the latest time, so nothing overflows; what is older than some 700 spans
 * weighs nothing. All zeros is the state of no values.
 */
#ifndef RML_STATS_DECAY_H
#define RML_STATS_DECAY_H

#include <stdbool.h>
#include <stdint.h>

struct rml_decay {
    int64_t latest;      // greatest time
    double weight, sum;  // as of then
};

_Static_assert(sizeof(struct rml_decay) == 24, "a decaying mean is three words of a state");

/* Add a value of time `time_ns`; span_ns > 0. */
void rml_decay_add(struct rml_decay *decay, int64_t span_ns, int64_t time_ns, double x);

/* Add the values of `from`, which has the same span. */
void rml_decay_merge(struct rml_decay *into, int64_t span_ns, const struct rml_decay *from);

/* The mean. false: no values, or no number because of infinities. */
bool rml_decay_mean(const struct rml_decay *decay, double *ret_mean);

#endif
