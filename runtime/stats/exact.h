/*
 * exact - a quantile of values that are all kept, wherever they lie, without moving any.
 *
 * Values may lie in many pieces, such as the pages of a state. The wanted rank is found by radix: a
 * pass over all values counts them by 11 bits of their order, the next one looks only at those that
 * share these bits, and so on (the selection half of MSD radix sort; D. E. Knuth, "The Art of Computer
 * Programming", vol. 3, 5.2.5). At most seven passes, no memory of its own beyond 16 KiB of stack.
 */
#ifndef RML_STATS_EXACT_H
#define RML_STATS_EXACT_H

#include <stdbool.h>
#include <stdint.h>

/* The pieces, which the one who keeps them hands out one after another. */
struct rml_exact_pieces {
    /* Begin at the first piece again. */
    void (*rewind)(void *context);
    /* The next piece, or false after the last. */
    bool (*next)(void *context, const double **ret_values, uint32_t *ret_count);
    void *context;
    uint64_t count;  // values in all pieces
};

/*
 * The q-quantile, q from 0 to 1, by type 7 (R. J. Hyndman, Y. Fan, "Sample Quantiles in Statistical
 * Packages", 1996): the values in order stand at 0, 1 / (n - 1), ..., 1, and it is linear between
 * them. No value is NaN. false: there are none, or it lies between the two infinities.
 */
bool rml_exact_quantile(const struct rml_exact_pieces *pieces, double q, double *ret_value);

#endif
