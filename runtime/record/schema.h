/*
 * schema - the layout of a record: names, types, places.
 *
 * Fields lie in the order written at their natural alignment, as a C compiler for this machine
 * places the members of a struct; the record's size is a multiple of 8. A result row is a record
 * too; where its fields can be null it begins with a word of bits, one for each field.
 */
#ifndef RML_RECORD_SCHEMA_H
#define RML_RECORD_SCHEMA_H

#include "runtime/record/type.h"

struct rml_err;

#define RML_NAME_MAX     47    // characters of any name in a pipeline file
#define RML_FIELDS_MAX   64    // of one record: a row's null bits are one word
#define RML_RECORD_MAX   4096  // bytes of one record
#define RML_FIELD_ABSENT UINT32_MAX

struct rml_field {
    char name[RML_NAME_MAX + 1];
    enum rml_type type;
    uint32_t offset;  // bytes from the record's start
    bool nullable;    // only where the schema has null bits
};

struct rml_schema {
    char name[RML_NAME_MAX + 1];
    uint32_t field_count;
    uint32_t record_bytes;
    bool has_nulls;  // the record begins with a uint64_t: bit i set = field i is null
    uint64_t hash;   // of names, types, offsets: what a producer shows when it attaches
    struct rml_field fields[RML_FIELDS_MAX];
};

/* Start an empty schema. `name` is cut to RML_NAME_MAX by the caller's own check, never here. */
void rml_schema_init(struct rml_schema *schema, const char *name, bool has_nulls);

/*
 * Append a field. -EEXIST: the name is taken; -E2BIG: too many fields or bytes; -EINVAL: not a name
 * (a letter or _, then letters, digits, _; at most RML_NAME_MAX). The sentence says which.
 */
int rml_schema_add(struct rml_schema *schema, const char *name, enum rml_type type, bool nullable,
                   struct rml_err *err);

/* Place the end of the record and compute the hash. Call once, after the last add; -EINVAL if empty. */
int rml_schema_seal(struct rml_schema *schema, struct rml_err *err);

/* The index of the field of that name, or RML_FIELD_ABSENT. */
uint32_t rml_schema_find(const struct rml_schema *schema, const char *name, size_t length);

#endif
