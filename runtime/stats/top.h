/*
 * top - which values come most often, each with how far its count may be off, mergeable.
 *
 * Space-Saving (A. Metwally, D. Agrawal, A. El Abbadi, "Efficient Computation of Frequent and Top-k
 * Elements in Data Streams", 2005): so many counters; a value without one takes over that of the least
 * count, and goes on from there. So after n values, with m counters,
 *
 *     count - error <= true count <= count       error <= n / m
 *
 * and every value that came more than n / m times has a counter. While there were no more different
 * values than counters all is exact. Merging keeps all three (P. K. Agarwal, G. Cormode, Z. Huang,
 * J. M. Phillips, Z. Wei, K. Yi, "Mergeable Summaries", 2012): what one side has no counter for may
 * have come as often as its least count says, which is added to count and error, and of all
 * counters the largest m stay.
 *
 * Which of the rare values have a counter depends on the order of values and merges; the same order
 * always gives the same sketch.
 *
 * A sketch is one flat region without pointers: a head, entries, and an index of them by hash.
 */
#ifndef RML_STATS_TOP_H
#define RML_STATS_TOP_H

#include <stdbool.h>
#include <stdint.h>

#define RML_TOP_COUNTERS_MAX 256u
#define RML_TOP_KEY_MAX      64u  // bytes of a value
#define RML_TOP_BYTES_MIN    256u

struct rml_top {
    uint64_t total;     // values so far
    uint64_t least;     // no count is less, once all counters are taken
    uint16_t counters;  // that there may be
    uint16_t fits;      // that the region has room for
    uint16_t used;
    uint16_t cursor;  // entries before it have counts above `least`
    uint16_t key_bytes;
    uint16_t lossy;  // some value lost its counter
    uint32_t unused;
};

struct rml_top_entry {
    uint64_t count;  // at most so often
    uint64_t error;  // at least so often less this
    uint32_t hash;
    uint32_t unused;
    unsigned char key[];
};

_Static_assert(sizeof(struct rml_top) == 32, "entries behind the head are aligned");

/* Bytes of a region with room for all counters: no sketch of these ever needs more. */
uint32_t rml_top_bytes_max(uint32_t counters, uint32_t key_bytes);

/* The sketch of no values, each of `key_bytes` bytes, in a region of at least RML_TOP_BYTES_MIN
 * bytes, 8-byte aligned. */
void rml_top_init(struct rml_top *sketch, uint32_t capacity, uint32_t counters, uint32_t key_bytes);

/* The same sketch in another region, large enough for its entries. */
void rml_top_copy(struct rml_top *into, uint32_t capacity, const struct rml_top *from);

/* Add a value. 0; -ENOSPC and no change: copy it to a larger region and try again. */
int rml_top_add(struct rml_top *sketch, const void *key);

/*
 * Add the values of `from`, which counts as many values of the same bytes. 0; -ENOSPC and no change:
 * `into` must lie in a region of rml_top_bytes_max.
 */
int rml_top_merge(struct rml_top *into, const struct rml_top *from);

/*
 * The `want` largest counts, at most RML_TOP_COUNTERS_MAX, the largest first, those that are equal by
 * their values' bytes. Returns how many there are.
 */
uint32_t rml_top_list(const struct rml_top *sketch, uint32_t want,
                      const struct rml_top_entry **ret_entries);

#endif
