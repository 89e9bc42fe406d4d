/*
 * route - which partition a record belongs to, by the key fields in it.
 *
 * The key is the fields' bytes one behind the other; in a string field the bytes after the first NUL
 * count as NUL, so that equal strings are equal keys. The hash of the key, and its way to a
 * partition, are runtime/base/hash.h's.
 */
#ifndef RML_LANE_ROUTE_H
#define RML_LANE_ROUTE_H

#include <string.h>

#include "runtime/base/hash.h"
#include "runtime/lane/geometry.h"

/* What a record's key looks like, so that the common ones need no loop. */
enum rml_route_kind {
    RML_ROUTE_ONE,  // one partition, or no key
    RML_ROUTE_RAW4,
    RML_ROUTE_RAW8,
    RML_ROUTE_RAW16,
    RML_ROUTE_STR8,
    RML_ROUTE_STR16,
    RML_ROUTE_FIELDS
};

static inline enum rml_route_kind rml_route_kind(const struct rml_lane_geometry *geometry)
{
    if (geometry->partitions == 1 || geometry->key_field_count == 0)
        return RML_ROUTE_ONE;
    const struct rml_lane_key_field *field = &geometry->key[0];
    if (geometry->key_field_count > 1)
        return RML_ROUTE_FIELDS;
    if (field->is_str) {
        return field->bytes == 8    ? RML_ROUTE_STR8
               : field->bytes == 16 ? RML_ROUTE_STR16
                                    : RML_ROUTE_FIELDS;
    }
    return field->bytes == 4    ? RML_ROUTE_RAW4
           : field->bytes == 8  ? RML_ROUTE_RAW8
           : field->bytes == 16 ? RML_ROUTE_RAW16
                                : RML_ROUTE_FIELDS;
}

/* Of eight characters read from memory, those before the first NUL. */
static inline uint64_t rml_route_before_nul(uint64_t word)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    const uint64_t ones = 0x0101010101010101u;
    // The lowest bit that this leaves belongs to the first NUL (Mycroft's test; the false hits that
    // a borrow makes lie above it).
    uint64_t nul = (word - ones) & ~word & (ones << 7);
    return nul == 0 ? word : word & (((nul & -nul) >> 7) - 1);
#else
# error "the first character has to be the lowest byte"
#endif
}

static inline uint32_t rml_route_string(const unsigned char *from, uint32_t bytes,
                                        unsigned char *to)
{
    uint32_t length = (uint32_t)strnlen((const char *)from, bytes);
    memcpy(to, from, length);
    memset(to + length, 0, bytes - length);
    return bytes;
}

/* The key's bytes into `key`, which has RML_LANE_KEY_BYTES_MAX; returns how many. */
static inline uint32_t rml_route_key(const struct rml_lane_geometry *geometry, const void *record,
                                     unsigned char *key)
{
    uint32_t used = 0;
    for (uint32_t i = 0; i < geometry->key_field_count; i++) {
        const struct rml_lane_key_field *field = &geometry->key[i];
        const unsigned char *from = (const unsigned char *)record + field->offset;
        if (field->is_str) {
            used += rml_route_string(from, field->bytes, key + used);
        } else {
            memcpy(key + used, from, field->bytes);
            used += field->bytes;
        }
    }
    return used;
}

static inline uint64_t rml_route_hash_str16(const unsigned char *from)
{
    uint64_t words[2];
    memcpy(words, from, sizeof words);
    uint64_t first = rml_route_before_nul(words[0]);
    // A NUL in the first half, seen by its last byte, ends the string for the second half too.
    words[1] = first >> 56 == 0 ? 0 : rml_route_before_nul(words[1]);
    words[0] = first;
    return rml_key_hash_bytes(words, 16);
}

/* The partition of a record; `kind` is rml_route_kind of the same geometry. Reads only the key. */
static inline uint32_t rml_route(const struct rml_lane_geometry *geometry, enum rml_route_kind kind,
                                 const void *record)
{
    const unsigned char *first = (const unsigned char *)record + geometry->key[0].offset;
    unsigned char key[RML_LANE_KEY_BYTES_MAX];
    uint64_t hash = 0, word;
    switch (kind) {
    case RML_ROUTE_ONE:
        return 0;
    case RML_ROUTE_RAW4:
        hash = rml_key_hash_bytes(first, 4);
        break;
    case RML_ROUTE_RAW8:
        hash = rml_key_hash_bytes(first, 8);
        break;
    case RML_ROUTE_RAW16:
        hash = rml_key_hash_bytes(first, 16);
        break;
    case RML_ROUTE_STR8:
        memcpy(&word, first, sizeof word);
        word = rml_route_before_nul(word);
        hash = rml_key_hash_bytes(&word, 8);
        break;
    case RML_ROUTE_STR16:
        hash = rml_route_hash_str16(first);
        break;
    case RML_ROUTE_FIELDS:
        hash = rml_key_hash_bytes(key, rml_route_key(geometry, record, key));
        break;
    }
    return rml_partition_of(hash, geometry->partitions);
}

#endif
