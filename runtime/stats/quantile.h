/*
 * quantile - where the values of a stream lie, in at most 8 KiB at 1 %, mergeable in any order.
 *
 * A value's bucket is its sign, its exponent and the first `bits` bits of its mantissa, cut straight
 * from the double's bits: no logarithm. Any value of a bucket is told within
 *
 *     relative error <= 1 / (2^(bits + 1) + 1)    bits 4: 3.03 %, 6: 0.775 %, 9: 0.0977 %
 *
 * by the bucket's harmonic middle. The family is DDSketch (C. Masson, J. E. Rim, H. K. Lee, "DDSketch:
 * A Fast and Fully-Mergeable Quantile Sketch with Relative-Error Guarantees", 2019), with the linear
 * steps inside an octave of HdrHistogram (G. Tene).
 *
 * A sketch is one flat region of bytes without pointers, which the caller may move or copy. It begins
 * with 64 bytes that keep the first 7 values as they are, and grows by the caller's hand:
 *
 *     up to 63 values    all of them: answers are exact
 *     more               a header, a directory, and blocks of 64 buckets that have something in them
 *
 * Values keep their order when they meet buckets, so quantiles of a mixed-sign stream need nothing
 * special. Zeros and infinities are counted apart. Magnitudes below 2^-1019 count as zero.
 *
 * Memory is bounded for any data. When the buckets of all magnitudes need more than the largest
 * region, the block of the least magnitude (of either sign) is given up: its values, and all that
 * come later with such a magnitude, are counted as fallen and lie at zero. At 1 % there is room for
 * about 60 octaves with fewer than 65536 values in each bucket (a range of 1 to 1e18, shared by the
 * two signs), 30 octaves with fewer than 2^32 in each. The relative promise then holds for the magnitudes from
 * rml_quantile_floor() up; those below are off by less than the floor, absolutely.
 *
 * What a sketch holds depends on which values went in and on nothing else: the bytes in use after a
 * merge are the same for any order of adding and merging. For a block, once given up, stays so; and it
 * is given up only when the values so far leave no choice, as they do for all larger sets too. (Values
 * kept as they are lie in the order of adding until a merge sorts them.)
 */
#ifndef RML_STATS_QUANTILE_H
#define RML_STATS_QUANTILE_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define RML_QUANTILE_BYTES_MIN 64u
#define RML_QUANTILE_BYTES_MAX 16384u  // of any accuracy
#define RML_QUANTILE_BUCKETS   UINT16_MAX
#define RML_QUANTILE_KEPT_MAX  63u

struct rml_quantile {
    uint16_t kept;  // values that lie here as they are, or RML_QUANTILE_BUCKETS: counted in buckets
    uint16_t units;  // of 64 bytes in use, from the region's start; buckets only
    uint16_t floor;  // blocks below are not counted apart; buckets only
    uint8_t bits, shift;

    union {
        double values[7];  // they go on to the end of the region

        struct {
            uint64_t zero, fallen, below, above;  // below, above: -infinity, +infinity
            double least, greatest;               // of the finite values
            uint16_t first, span;  // blocks of the directory: the lowest with values to the highest
            uint32_t unused;
        };
    };
};

/*
 * Behind the head lies the directory: the place of block first + i, sign s, is entry 2 i + s, made
 * of the block's unit << 2 | its level. 0: nothing is in that block.
 */
static inline const uint16_t *rml_quantile_places(const struct rml_quantile *sketch)
{
    return (const void *)(sketch + 1);
}

_Static_assert(sizeof(struct rml_quantile) == RML_QUANTILE_BYTES_MIN, "the head is one unit");

/* Mantissa bits for a relative error of `accuracy`, from 0.001 to 0.05; 0 for any other. */
uint32_t rml_quantile_bits(double accuracy);

/* No sketch of so many bits ever needs more: 8 KiB up to 6 bits, else 16 KiB. */
uint32_t rml_quantile_bytes_max(uint32_t bits);

/* The sketch of no values, in a region of at least RML_QUANTILE_BYTES_MIN, 8-byte aligned. */
void rml_quantile_init(struct rml_quantile *sketch, uint32_t bits);

/* Bytes in use, from the start. */
uint32_t rml_quantile_bytes(const struct rml_quantile *sketch);

/* rml_quantile_add for what it does not do itself. */
int rml_quantile_add_apart(struct rml_quantile *sketch, uint32_t capacity, double x);

/*
 * Add one value, which is a number (infinities are). 0; -ENOSPC and no change: the region, which has
 * `capacity` bytes, is too small. The caller then moves the bytes in use to a larger one, of twice
 * the bytes say, and tries again: at the latest with rml_quantile_bytes_max there is room.
 */
static inline int rml_quantile_add(struct rml_quantile *sketch, uint32_t capacity, double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    // Most values meet a bucket that is there, counts below 256 in its first layer, and is not the
    // first to be so small or so large.
    if (sketch->kept == RML_QUANTILE_BUCKETS && x >= sketch->least && x <= sketch->greatest) {
        uint64_t bucket = (bits & INT64_MAX) >> sketch->shift;
        uint64_t block = (bucket >> 6) - sketch->first;
        if (block < sketch->span) {
            uint32_t place = rml_quantile_places(sketch)[2 * block + (bits >> 63)];
            uint8_t *count = (uint8_t *)sketch + ((uint64_t)(place >> 2) << 6) + (bucket & 63);
            if (place != 0 && *count != UINT8_MAX) {
                ++*count;
                return 0;
            }
        }
    }
    return rml_quantile_add_apart(sketch, capacity, x);
}

/*
 * Add the values of `from` to those of `into`, which have the same bits. 0; -ENOSPC and no change, as
 * with rml_quantile_add.
 */
int rml_quantile_merge(struct rml_quantile *into, uint32_t capacity,
                       const struct rml_quantile *from);

/* Values so far. */
uint64_t rml_quantile_count(const struct rml_quantile *sketch);

/*
 * The q-quantile, q from 0 to 1, linear between the two values around it: type 7 of R. J. Hyndman,
 * Y. Fan, "Sample Quantiles in Statistical Packages", 1996. Between values of one sign the relative
 * error holds for the answer, between two signs for the larger of the two magnitudes. q = 0 and q = 1
 * are the least and the greatest value exactly. false: no values, or it lies between the two
 * infinities.
 */
bool rml_quantile_at(const struct rml_quantile *sketch, double q, double *ret_value);

/* Magnitudes below this lie at zero; 0 while there is no such, but for the least of all doubles. */
double rml_quantile_floor(const struct rml_quantile *sketch);

#endif
