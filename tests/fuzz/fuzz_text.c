/*
 * Any bytes as the text of a field of any type. What reads is printed both ways within the stated
 * room, and what is printed reads as the same value; what does not read leaves the record alone.
 *
 * The first byte is the type, the rest the text.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/check.h"
#include "runtime/base/err.h"
#include "runtime/record/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool is_nan(const struct rml_field *field, const void *record)
{
    float small;
    double large;
    memcpy(&small, record, sizeof small);
    memcpy(&large, record, sizeof large);
    return field->type == RML_F32 ? isnan(small) : field->type == RML_F64 && isnan(large);
}

// In memory of exactly the stated size, so that the sanitizer sees one byte more.
static uint32_t print(const struct rml_field *field, const void *record, bool json, bool rfc3339,
                      char *text)
{
    const struct rml_text_options options = {.rfc3339 = rfc3339};
    char *room = malloc(RML_TEXT_FIELD_MAX);
    RML_CHECK(room != NULL);
    uint32_t length = json ? rml_text_field_json(field, record, &options, room)
                           : rml_text_field_csv(field, record, &options, room);
    RML_CHECK(length <= RML_TEXT_FIELD_MAX);
    memcpy(text, room, length);
    free(room);
    return length;
}

static void read_back(const struct rml_field *field, const unsigned char *record, bool rfc3339)
{
    char text[RML_TEXT_FIELD_MAX];
    unsigned char again[64] = {0};
    uint32_t bytes = rml_type_info[field->type].bytes;
    uint32_t length = print(field, record, false, rfc3339, text);
    if (rml_type_info[field->type].kind == RML_KIND_STR)
        return;  // in quotes or not: the reader of the format undoes it
    RML_CHECK(rml_text_field_parse(field, text, length, again, NULL) == 0);
    RML_CHECK(is_nan(field, record) ? is_nan(field, again) : memcmp(record, again, bytes) == 0);
}

static void check_json(const char *text, uint32_t length)
{
    RML_CHECK(length > 0);
    for (uint32_t i = 0; i < length; i++)
        RML_CHECK((unsigned char)text[i] >= 0x20);
    if (text[0] == '"')
        RML_CHECK(length >= 2 && text[length - 1] == '"');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    const struct rml_field field = {.name = "x", .type = (enum rml_type)(data[0] % RML_TYPES)};
    unsigned char record[64], before[64];
    memset(record, 0xa5, sizeof record);
    memcpy(before, record, sizeof record);
    struct rml_err err = {.code = 0};
    int rc = rml_text_field_parse(&field, (const char *)data + 1, size - 1, record, &err);
    uint32_t bytes = rc < 0 ? 0 : rml_type_info[field.type].bytes;
    RML_CHECK(memcmp(record + bytes, before + bytes, sizeof record - bytes) == 0);
    RML_CHECK(rc == err.code);
    RML_CHECK((rc < 0) == (err.text[0] != '\0'));
    if (rc < 0)
        return 0;

    char text[RML_TEXT_FIELD_MAX];
    read_back(&field, record, false);
    read_back(&field, record, true);
    check_json(text, print(&field, record, true, false, text));
    check_json(text, print(&field, record, true, true, text));
    return 0;
}
