/*
 * distinct - how many different values a stream has: exactly below 384, with 1.6 % standard error
 * beyond, in at most 4 KiB, mergeable.
 *
 * HyperLogLog (P. Flajolet, E. Fusy, O. Gandouet, F. Meunier, 2007) with what S. Heule, M. Nunkesser,
 * A. Hall, "HyperLogLog in Practice", 2013, made of it: hashes of 64 bits, and few values kept
 * sparsely. Where theirs corrects the bias by tables, this one uses the estimator of O. Ertl, "New
 * cardinality estimation algorithms for HyperLogLog sketches", 2017, which needs none.
 *
 * A sketch is one flat region without pointers, which the caller may move or copy:
 *
 *     up to 383 different values   their hashes, as a table; it grows by the caller's hand from 64 bytes
 *     more                         4096 registers of 6 bits
 *
 * The table's places are in an order of their own (O. Amble, D. E. Knuth, "Ordered hash tables",
 * 1974): in regions of one size, the bytes are the same for any order of adding and merging. 64-bit
 * hashes of 383 values coincide with a chance below 1e-14.
 */
#ifndef RML_STATS_DISTINCT_H
#define RML_STATS_DISTINCT_H

#include <stdint.h>

#define RML_DISTINCT_BYTES_MIN 64u
#define RML_DISTINCT_BYTES_MAX 4096u  // and no sketch ever needs more
#define RML_DISTINCT_EXACT_MAX 383u
#define RML_DISTINCT_REGISTERS UINT32_MAX

struct rml_distinct {
    uint32_t hashes;  // in the table, or RML_DISTINCT_REGISTERS
    uint32_t slots;   // of the table
    uint64_t table[];
};

/* The sketch of no values in a region of `capacity` bytes, 8-byte aligned: a power of two from
 * RML_DISTINCT_BYTES_MIN to RML_DISTINCT_BYTES_MAX. */
void rml_distinct_init(struct rml_distinct *sketch, uint32_t capacity);

/*
 * A value's hash, of its bytes. It has nothing to do with the hash that keys are routed by: in a
 * partition those begin alike, and a sketch over them would be wrong.
 */
uint64_t rml_distinct_hash(const void *value, uint32_t bytes);

/*
 * Add a value by its hash. 0; -ENOSPC and no change: the region is too small. The caller then makes a
 * sketch in a region of twice the size, merges this one into it (which fits) and tries again.
 */
int rml_distinct_add(struct rml_distinct *sketch, uint64_t hash);

/* Add the values of `from`. 0; -ENOSPC: the region is too small, and some of them are added. With one
 * of RML_DISTINCT_BYTES_MAX, or larger than that of `from` and empty, there is room. */
int rml_distinct_merge(struct rml_distinct *into, const struct rml_distinct *from);

/* How many different values, to the nearest whole number. */
uint64_t rml_distinct_count(const struct rml_distinct *sketch);

#endif
