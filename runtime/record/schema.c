#include "runtime/record/schema.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/check.h"
#include "runtime/base/err.h"
#include "runtime/base/hash.h"

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static bool is_name(const char *name)
{
    size_t length = strlen(name);
    if (length == 0 || length > RML_NAME_MAX || !is_letter(name[0]))
        return false;
    for (size_t i = 1; i < length; i++) {
        if (!is_letter(name[i]) && (name[i] < '0' || name[i] > '9'))
            return false;
    }
    return true;
}

static uint32_t aligned(uint32_t offset, uint32_t align)
{
    return (offset + align - 1) / align * align;
}

void rml_schema_init(struct rml_schema *schema, const char *name, bool has_nulls)
{
    RML_CHECK(strlen(name) <= RML_NAME_MAX);
    *schema = (struct rml_schema){.has_nulls = has_nulls};
    memcpy(schema->name, name, strlen(name) + 1);
    schema->record_bytes = has_nulls ? (uint32_t)sizeof(uint64_t) : 0;
}

int rml_schema_add(struct rml_schema *schema, const char *name, enum rml_type type, bool nullable,
                   struct rml_err *err)
{
    RML_CHECK(type < RML_TYPES);
    RML_CHECK(!nullable || schema->has_nulls);

    if (!is_name(name)) {
        return RML_FAIL(err, -EINVAL,
                        "'%s' is not a name: a letter or _, then letters, digits, _; at most %d",
                        name, RML_NAME_MAX);
    }
    if (rml_schema_find(schema, name, strlen(name)) != RML_FIELD_ABSENT)
        return RML_FAIL(err, -EEXIST, "there are two fields named %s", name);
    if (schema->field_count == RML_FIELDS_MAX)
        return RML_FAIL(err, -E2BIG, "field %s is one too many: a record has at most %d", name,
                        RML_FIELDS_MAX);

    const struct rml_type_info *info = &rml_type_info[type];
    uint32_t offset = aligned(schema->record_bytes, info->align);
    if (offset + info->bytes > RML_RECORD_MAX)
        return RML_FAIL(err, -E2BIG, "field %s does not fit: a record has at most %d bytes", name,
                        RML_RECORD_MAX);

    struct rml_field *field = &schema->fields[schema->field_count++];
    *field = (struct rml_field){.type = type, .offset = offset, .nullable = nullable};
    memcpy(field->name, name, strlen(name) + 1);
    schema->record_bytes = offset + info->bytes;
    return 0;
}

int rml_schema_seal(struct rml_schema *schema, struct rml_err *err)
{
    if (schema->field_count == 0)
        return RML_FAIL(err, -EINVAL, "schema %s has no fields", schema->name);
    schema->record_bytes = aligned(schema->record_bytes, 8);

    // The hash is of a text, so that another program can compute it from what it can read.
    char text[RML_FIELDS_MAX * (RML_NAME_MAX + 32) + 64];
    int used = snprintf(text, sizeof text, "%u%s", schema->record_bytes,
                        schema->has_nulls ? " nulls" : "");
    for (uint32_t i = 0; i < schema->field_count; i++) {
        const struct rml_field *field = &schema->fields[i];
        used +=
            snprintf(text + used, sizeof text - (size_t)used, ";%s:%s@%u%s", field->name,
                     rml_type_info[field->type].name, field->offset, field->nullable ? "?" : "");
    }
    schema->hash = rml_key_hash_bytes(text, (uint32_t)used);
    return 0;
}

uint32_t rml_schema_find(const struct rml_schema *schema, const char *name, size_t length)
{
    for (uint32_t i = 0; i < schema->field_count; i++) {
        if (strlen(schema->fields[i].name) == length
            && memcmp(schema->fields[i].name, name, length) == 0)
            return i;
    }
    return RML_FIELD_ABSENT;
}
