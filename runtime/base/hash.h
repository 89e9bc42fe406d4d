/*
 * hash - the one hash of keys, and the one rule that turns it into a partition.
 *
 * Producers route with it and the engine checks with it, so both must compile the same function:
 * XXH3 with 64 bits (Y. Collet, xxHash 0.8), taken from its header, which needs no library.
 */
#ifndef RML_BASE_HASH_H
#define RML_BASE_HASH_H

#define XXH_INLINE_ALL
#include <stdint.h>
#include <xxhash.h>

/* Hash of `bytes` bytes at `key`; no alignment needed. */
static inline uint64_t rml_key_hash_bytes(const void *key, uint32_t bytes)
{
    // A constant length lets the compiler keep only that length's path.
    if (bytes == 8)
        return XXH3_64bits(key, 8);
    if (bytes == 16)
        return XXH3_64bits(key, 16);
    return XXH3_64bits(key, bytes);
}

/*
 * The partition of a hash: its upper half scaled to [0, partitions), with no division (D. Lemire,
 * "Fast random integer generation in an interval", 2019).
 */
static inline uint32_t rml_partition_of(uint64_t hash, uint32_t partitions)
{
    return (uint32_t)(((hash >> 32) * partitions) >> 32);
}

#endif
