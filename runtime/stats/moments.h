/*
 * moments - count, mean and variance of a stream of doubles in 32 bytes, mergeable.
 *
 * One value at a time after B. P. Welford, "Note on a Method for Calculating Corrected Sums of Squares
 * and Products", 1962; two states into one after T. F. Chan, G. H. Golub, R. J. LeVeque, "Updating
 * Formulae and a Pairwise Algorithm for Computing Sample Variances", 1979. Neither ever subtracts
 * two large sums from each other, so values that lie close together far from zero keep their digits.
 *
 * The mean has two doubles: with one alone, a mean of 1e12 moves in steps of 1e-4, stands still
 * once a value's share is less than that, and the variance follows it into the fourth digit.
 *
 * All zeros is the state of no values. States may be copied as bytes. The order of values and of
 * merging shows in the last digits only, as with any sum of floats.
 */
#ifndef RML_STATS_MOMENTS_H
#define RML_STATS_MOMENTS_H

#include <stdbool.h>
#include <stdint.h>

struct rml_moments {
    uint64_t count;
    double mean, mean_rest;  // the mean is their exact sum
    double squares;          // sum of squared distances from the mean
};

_Static_assert(sizeof(struct rml_moments) == 32, "moments are four words of a state");

/* The mean moves by `step`: what the addition loses goes to the rest (D. E. Knuth's TwoSum). */
static inline void rml_moments_move(struct rml_moments *m, double step)
{
    double sum = m->mean + step;
    double taken = sum - m->mean;
    m->mean_rest += (m->mean - (sum - taken)) + (step - taken);
    m->mean = sum;
}

/* Add one value. One that is no number makes every later answer no number. */
static inline void rml_moments_add(struct rml_moments *m, double x)
{
    m->count++;
    double before = (x - m->mean) - m->mean_rest;
    rml_moments_move(m, before / (double)m->count);
    m->squares += before * ((x - m->mean) - m->mean_rest);
}

/* Add the values of `from` to those of `into`. */
void rml_moments_merge(struct rml_moments *into, const struct rml_moments *from);

/*
 * Variance: of the values themselves (pop: divided by their count), or of what they are a sample of
 * (samp: divided by one less). false, and nothing stored: there are none (pop), fewer than two
 * (samp), or an infinity or NaN among them.
 */
bool rml_moments_var_pop(const struct rml_moments *m, double *ret_variance);
bool rml_moments_var_samp(const struct rml_moments *m, double *ret_variance);

/* Their square roots, on the same terms. */
bool rml_moments_stddev_pop(const struct rml_moments *m, double *ret_deviation);
bool rml_moments_stddev_samp(const struct rml_moments *m, double *ret_deviation);

#endif
