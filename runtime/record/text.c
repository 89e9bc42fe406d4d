#include "runtime/record/text.h"

#include <math.h>
#include <string.h>

#include "runtime/base/check.h"
#include "runtime/base/utf8.h"
#include "runtime/record/text_number.h"
#include "runtime/time/time.h"

_Static_assert(2 + 6 * 64 <= RML_TEXT_FIELD_MAX, "the longest string, all escapes, in quotes");

static uint32_t put(char *text, const char *what)
{
    uint32_t length = 0;
    for (; what[length] != '\0'; length++)
        text[length] = what[length];
    return length;
}

/* Values that look alike in both formats */

// The bytes of an integer at the low end of a word; what the type means by them is the caller's.
static uint64_t load_unsigned(const void *at, uint32_t bytes)
{
    uint64_t value = 0;
    memcpy(&value, at, bytes);
    return value;
}

static int64_t load_signed(const void *at, uint32_t bytes)
{
    uint32_t unused_bits = 64 - 8 * bytes;
    return (int64_t)(load_unsigned(at, bytes) << unused_bits) >> unused_bits;
}

static uint32_t put_time(int64_t ns, const struct rml_text_options *options, bool quoted,
                         char *text)
{
    if (!options->rfc3339)
        return rml_print_i64(ns, text);
    char time[40];
    rml_time_print_rfc3339(ns, time);
    uint32_t used = 0;
    if (quoted)
        text[used++] = '"';
    used += put(text + used, time);
    if (quoted)
        text[used++] = '"';
    return used;
}

struct odd_floats {
    const char *not_a_number, *infinity, *minus_infinity;
};

static uint32_t put_f64(double value, const struct odd_floats *odd, char *text)
{
    if (isnan(value))
        return put(text, odd->not_a_number);
    if (isinf(value))
        return put(text, value < 0 ? odd->minus_infinity : odd->infinity);
    return rml_print_f64(value, text);
}

static uint32_t put_f32(float value, const struct odd_floats *odd, char *text)
{
    return isfinite(value) ? rml_print_f32(value, text) : put_f64((double)value, odd, text);
}

static uint32_t put_number(enum rml_type type, const void *at, const struct odd_floats *odd,
                           char *text)
{
    float small;
    double large;
    switch (type) {
    case RML_I8:
    case RML_I16:
    case RML_I32:
    case RML_I64:
        return rml_print_i64(load_signed(at, rml_type_info[type].bytes), text);
    case RML_F32:
        memcpy(&small, at, sizeof small);
        return put_f32(small, odd, text);
    case RML_F64:
        memcpy(&large, at, sizeof large);
        return put_f64(large, odd, text);
    case RML_BOOL:
        return put(text, load_unsigned(at, 1) != 0 ? "true" : "false");
    case RML_U8:
    case RML_U16:
    case RML_U32:
    case RML_U64:
        return rml_print_u64(load_unsigned(at, rml_type_info[type].bytes), text);
    case RML_TIME:
    case RML_STR8:
    case RML_STR16:
    case RML_STR32:
    case RML_STR64:
    case RML_TYPES:
        break;
    }
    RML_UNREACHABLE("times and strings have their own functions");
}

/* CSV */

static uint32_t put_string_csv(const char *string, size_t length, bool nullable, char *text)
{
    bool quoted = length == 0 && nullable;  // nothing at all would be a null
    for (size_t i = 0; i < length; i++)
        quoted = quoted || string[i] == ',' || string[i] == '"' || string[i] == '\n'
                 || string[i] == '\r';
    uint32_t used = 0;
    if (quoted)
        text[used++] = '"';
    for (size_t i = 0; i < length; i++) {
        if (string[i] == '"')
            text[used++] = '"';
        text[used++] = string[i];
    }
    if (quoted)
        text[used++] = '"';
    return used;
}

uint32_t rml_text_field_csv(const struct rml_field *field, const void *record,
                            const struct rml_text_options *options, char text[RML_TEXT_FIELD_MAX])
{
    static const struct odd_floats odd = {"nan", "inf", "-inf"};
    const struct rml_type_info *info = &rml_type_info[field->type];
    const char *at = (const char *)record + field->offset;
    if (info->kind == RML_KIND_STR)
        return put_string_csv(at, strnlen(at, info->bytes), field->nullable, text);
    if (field->type == RML_TIME)
        return put_time(load_signed(at, 8), options, false, text);
    return put_number(field->type, at, &odd, text);
}

/* JSON */

static uint32_t put_escape(unsigned char c, char *text)
{
    static const char short_forms[][2] = {{'"', '"'},  {'\\', '\\'}, {'\n', 'n'}, {'\t', 't'},
                                          {'\r', 'r'}, {'\b', 'b'},  {'\f', 'f'}};
    static const char hex[] = "0123456789abcdef";
    for (size_t i = 0; i < sizeof short_forms / sizeof short_forms[0]; i++) {
        if ((unsigned char)short_forms[i][0] == c) {
            text[0] = '\\';
            text[1] = short_forms[i][1];
            return 2;
        }
    }
    put(text, "\\u00");
    text[4] = hex[c >> 4];
    text[5] = hex[c & 15];
    return 6;
}

static uint32_t put_string_json(const char *string, size_t length, char *text)
{
    const unsigned char *bytes = (const unsigned char *)string;
    uint32_t used = 0;
    text[used++] = '"';
    for (size_t i = 0; i < length;) {
        size_t character = rml_utf8_length(bytes + i, length - i);
        if (character == 0) {
            used += put(text + used, "\xef\xbf\xbd");
            i++;
        } else if (bytes[i] < 0x20 || bytes[i] == '"' || bytes[i] == '\\') {
            used += put_escape(bytes[i], text + used);
            i++;
        } else {
            memcpy(text + used, bytes + i, character);
            used += (uint32_t)character;
            i += character;
        }
    }
    text[used++] = '"';
    return used;
}

uint32_t rml_text_field_json(const struct rml_field *field, const void *record,
                             const struct rml_text_options *options, char text[RML_TEXT_FIELD_MAX])
{
    static const struct odd_floats odd = {"\"NaN\"", "\"Infinity\"", "\"-Infinity\""};
    const struct rml_type_info *info = &rml_type_info[field->type];
    const char *at = (const char *)record + field->offset;
    if (info->kind == RML_KIND_STR)
        return put_string_json(at, strnlen(at, info->bytes), text);
    if (field->type == RML_TIME)
        return put_time(load_signed(at, 8), options, true, text);
    return put_number(field->type, at, &odd, text);
}

/* Rows */

// Of one value in either format.
static uint32_t field_bytes_max(enum rml_type type)
{
    const struct rml_type_info *info = &rml_type_info[type];
    return info->kind == RML_KIND_STR ? 2 + 6 * info->bytes : 42;  // a time with quotes is longest
}

uint32_t rml_text_row_bytes_max(const struct rml_schema *schema)
{
    uint32_t bytes = 3;  // braces and the line's end
    for (uint32_t i = 0; i < schema->field_count; i++)
        bytes += 4 + (uint32_t)strlen(schema->fields[i].name)  // quotes, colon and comma
                 + field_bytes_max(schema->fields[i].type);
    return bytes;
}

static uint64_t null_bits(const struct rml_schema *schema, const void *row)
{
    return schema->has_nulls ? load_unsigned(row, 8) : 0;
}

uint32_t rml_text_header_csv(const struct rml_schema *schema, char *text, uint32_t room)
{
    RML_CHECK(room >= rml_text_row_bytes_max(schema));
    uint32_t used = 0;
    for (uint32_t i = 0; i < schema->field_count; i++) {
        used += put(text + used, schema->fields[i].name);
        text[used++] = i + 1 < schema->field_count ? ',' : '\n';
    }
    return used;
}

uint32_t rml_text_row_csv(const struct rml_schema *schema, const void *row,
                          const struct rml_text_options *options, char *text, uint32_t room)
{
    RML_CHECK(room >= rml_text_row_bytes_max(schema));
    uint64_t nulls = null_bits(schema, row);
    uint32_t used = 0;
    for (uint32_t i = 0; i < schema->field_count; i++) {
        if ((nulls >> i & 1) == 0)
            used += rml_text_field_csv(&schema->fields[i], row, options, text + used);
        text[used++] = i + 1 < schema->field_count ? ',' : '\n';
    }
    return used;
}

uint32_t rml_text_row_json(const struct rml_schema *schema, const void *row,
                           const struct rml_text_options *options, char *text, uint32_t room)
{
    RML_CHECK(room >= rml_text_row_bytes_max(schema));
    uint64_t nulls = null_bits(schema, row);
    uint32_t used = 0;
    for (uint32_t i = 0; i < schema->field_count; i++) {
        text[used++] = i == 0 ? '{' : ',';
        text[used++] = '"';
        used += put(text + used, schema->fields[i].name);  // a name needs no escapes
        used += put(text + used, "\":");
        if ((nulls >> i & 1) != 0)
            used += put(text + used, "null");
        else
            used += rml_text_field_json(&schema->fields[i], row, options, text + used);
    }
    return used + put(text + used, "}\n");
}
