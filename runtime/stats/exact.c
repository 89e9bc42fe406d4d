#include "runtime/stats/exact.h"

#include <math.h>
#include <string.h>

#include "runtime/base/check.h"
#include "runtime/stats/interpolate.h"

#define DIGIT  11u
#define DIGITS (1u << DIGIT)

// Bits that are in order as the doubles are.
static uint64_t order_of(double x)
{
    uint64_t bits;
    x += 0.0;  // of the two zeros, one
    memcpy(&bits, &x, sizeof bits);
    return bits >> 63 != 0 ? ~bits : bits | UINT64_C(1) << 63;
}

static double value_of(uint64_t order)
{
    uint64_t bits = order >> 63 != 0 ? order & INT64_MAX : ~order;
    double x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* What is known of the wanted value: its first bits, and its rank among all that begin so. */
struct search {
    uint64_t first;    // the other bits are 0
    uint32_t unknown;  // bits
    uint64_t rank, count;
};

static void count_digits(const struct rml_exact_pieces *pieces, const struct search *search,
                         uint32_t shift, uint64_t *counts)
{
    const double *values;
    uint32_t count;
    uint64_t others = search->unknown < 64 ? UINT64_MAX << search->unknown : 0;
    memset(counts, 0, DIGITS * sizeof counts[0]);
    pieces->rewind(pieces->context);
    while (pieces->next(pieces->context, &values, &count)) {
        for (uint32_t i = 0; i < count; i++) {
            uint64_t order = order_of(values[i]);
            counts[order >> shift & (DIGITS - 1)] += ((order ^ search->first) & others) == 0;
        }
    }
}

static void narrow(const struct rml_exact_pieces *pieces, struct search *search)
{
    uint64_t counts[DIGITS];
    uint32_t width = search->unknown < DIGIT ? search->unknown : DIGIT;
    uint32_t shift = search->unknown - width;
    count_digits(pieces, search, shift, counts);
    // The last digit is narrower, and shows bits that are known already.
    uint64_t digit = search->first >> shift & (DIGITS - 1);
    while (search->rank >= counts[digit])
        search->rank -= counts[digit++];
    RML_CHECK(digit < DIGITS);
    search->first = (search->first & ~((uint64_t)(DIGITS - 1) << shift)) | digit << shift;
    search->count = counts[digit];
    search->unknown = shift;
}

static double least_above(const struct rml_exact_pieces *pieces, double value)
{
    const double *values;
    uint32_t count;
    double least = (double)INFINITY;
    pieces->rewind(pieces->context);
    while (pieces->next(pieces->context, &values, &count)) {
        for (uint32_t i = 0; i < count; i++)
            least = values[i] > value && values[i] < least ? values[i] : least;
    }
    return least;
}

bool rml_exact_quantile(const struct rml_exact_pieces *pieces, double q, double *ret_value)
{
    RML_CHECK(q >= 0 && q <= 1);
    if (pieces->count == 0)
        return false;
    double at = q * (double)(pieces->count - 1);
    struct search search = {.unknown = 64, .rank = (uint64_t)at, .count = pieces->count};
    double part = at - (double)search.rank;
    while (search.unknown > 0)
        narrow(pieces, &search);
    double value = value_of(search.first);
    if (part > 0 && search.rank + 1 == search.count)
        value = rml_interpolate(value, least_above(pieces, value), part);
    if (isnan(value))
        return false;
    *ret_value = value;
    return true;
}
