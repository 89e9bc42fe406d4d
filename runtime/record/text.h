/*
 * text - values of records as CSV and JSON text, and text as a record's values.
 *
 * What is printed reads back as the same value: floats have as few digits as that allows, with
 * infinities and what is not a number spelled out. Both directions want the numeric locale of C, which
 * a program has unless it asks for another. Nothing here allocates, and any number of threads may
 * call at once.
 */
#ifndef RML_RECORD_TEXT_H
#define RML_RECORD_TEXT_H

#include "runtime/record/schema.h"

struct rml_err;

#define RML_TEXT_FIELD_MAX 400  // bytes of one value: 64 control characters in JSON are the longest

struct rml_text_options {
    bool rfc3339;  // times as RFC 3339 in UTC, else as integer nanoseconds
};

/*
 * Write the value of `field` in `record` to `text`, without a terminator; returns the length, at most
 * RML_TEXT_FIELD_MAX. The value is taken as not null, whatever the record's null bits say.
 *
 * CSV: infinities are inf and -inf, not a number is nan, booleans are true and false. A string stands
 * in quotes where it holds a comma, a quote or a line's end (RFC 4180), or where it is empty in a
 * field that could be null; its bytes are not changed.
 *
 * JSON (RFC 8259): infinities and not a number are the strings "Infinity", "-Infinity", "NaN"; a byte
 * that is not UTF-8 becomes U+FFFD.
 */
uint32_t rml_text_field_csv(const struct rml_field *field, const void *record,
                            const struct rml_text_options *options, char text[RML_TEXT_FIELD_MAX]);
uint32_t rml_text_field_json(const struct rml_field *field, const void *record,
                             const struct rml_text_options *options, char text[RML_TEXT_FIELD_MAX]);

/* Bytes that always suffice for a row of the schema, its CSV header included; at most 32 KiB. */
uint32_t rml_text_row_bytes_max(const struct rml_schema *schema);

/*
 * Write a whole line with its '\n': the names for CSV's first line, or a row with its nulls, which are
 * empty in CSV and null in JSON. `text` has `room` bytes, at least rml_text_row_bytes_max(schema).
 * Returns the length; there is no terminator.
 */
uint32_t rml_text_header_csv(const struct rml_schema *schema, char *text, uint32_t room);
uint32_t rml_text_row_csv(const struct rml_schema *schema, const void *row,
                          const struct rml_text_options *options, char *text, uint32_t room);
uint32_t rml_text_row_json(const struct rml_schema *schema, const void *row,
                           const struct rml_text_options *options, char *text, uint32_t room);

/*
 * Read `length` bytes at `text` (without quotes or escapes: those belong to the format it came in)
 * as the value of `field` into `record`. Blanks around anything but a string are passed over.
 * Integers are decimal; floats also inf, Infinity, nan; booleans true, false, 1, 0; times what
 * rml_time_parse takes, or a duration since 1970 such as 1500ms; strings have no NUL.
 * Returns 0; -EINVAL when it is no such value; -ERANGE when the type cannot hold it. The sentence,
 * "300 does not fit u8", does not name the field. Nothing is written on an error; null bits never.
 */
int rml_text_field_parse(const struct rml_field *field, const char *text, size_t length,
                         void *record, struct rml_err *err);

#endif
