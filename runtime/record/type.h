/*
 * type - the types a record's fields can have, and how a column holds each.
 *
 * A record is a C struct; a column is an array of one of five kinds, wide enough for every type of
 * that kind, so that expressions and aggregates know five loops instead of sixteen.
 */
#ifndef RML_RECORD_TYPE_H
#define RML_RECORD_TYPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum rml_type {

#define RML_TYPE(NAME, name, bytes, kind, ctype) RML_##NAME,
#include "runtime/record/type.def"
#undef RML_TYPE
    RML_TYPES
};

/* What one element of a column is. */
enum rml_kind {
    RML_KIND_INT,    // int64_t
    RML_KIND_UINT,   // uint64_t (u64 alone: the smaller unsigned types fit an int64_t)
    RML_KIND_FLOAT,  // double
    RML_KIND_BOOL,   // uint8_t, 0 or 1
    RML_KIND_STR,    // the type's bytes, NUL padded, all bytes after the first NUL are NUL
    RML_KINDS
};

struct rml_type_info {
    const char *name;     // as in a pipeline file
    const char *ctype;    // as in a generated header; STR: an array of `bytes` of it
    uint32_t bytes;       // in a record
    uint32_t align;       // in a record
    enum rml_kind kind;   // of its column
    uint32_t cell_bytes;  // one element of its column: 8, or 1 for BOOL, or `bytes` for STR
};

extern const struct rml_type_info rml_type_info[RML_TYPES];

/* The type of that name, or RML_TYPES. */
enum rml_type rml_type_find(const char *name, size_t length);

static inline bool rml_type_is_number(enum rml_type type)
{
    enum rml_kind kind = rml_type_info[type].kind;
    return kind == RML_KIND_INT || kind == RML_KIND_UINT || kind == RML_KIND_FLOAT;
}

#endif
