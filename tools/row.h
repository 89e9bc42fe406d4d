/*
 * row - one record being filled from text, field by field, whatever the text's format.
 */
#ifndef RML_TOOLS_ROW_H
#define RML_TOOLS_ROW_H

#include "runtime/base/err.h"
#include "runtime/record/schema.h"

struct rml_row {
    const struct rml_schema *schema;
    const char *names[RML_FIELDS_MAX];  // what the file calls each field
    uint64_t constant;                  // fields whose value the user gave: bit i is field i
    uint64_t filled;                    // fields that have a value
    unsigned char *blank;               // the record before the file has a say: zeros and constants
    unsigned char *record;
    struct rml_err err;  // the first complaint about this record; code 0: none
};

static inline uint64_t rml_row_all(const struct rml_row *row)
{
    uint32_t count = row->schema->field_count;
    return count == 64 ? UINT64_MAX : (UINT64_C(1) << count) - 1;
}

/* Empty the row; what is put from now on goes into `record` (schema->record_bytes). */
void rml_row_begin(struct rml_row *row, void *record);

/* The file has this text for the field; a complaint is kept in row->err. */
void rml_row_put(struct rml_row *row, uint32_t field, const char *text, size_t length);

/* Keep a complaint, unless there is one already. */
__attribute__((format(printf, 2, 3))) void rml_row_complain(struct rml_row *row, const char *format,
                                                            ...);

/* The file has no more for this record: 1 when every field has a value, else -EBADMSG. */
int rml_row_end(struct rml_row *row);

/* The field that the file calls `name`, or RML_FIELD_ABSENT: unknown, or a constant of the user's.
 * `guess` is tried first, for files that keep the order of the schema. */
uint32_t rml_row_find(const struct rml_row *row, const char *name, size_t length, uint32_t guess);

#endif
