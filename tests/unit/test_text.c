#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/err.h"
#include "runtime/record/text.h"
#include "runtime/record/text_number.h"
#include "tests/support/test.h"

static const struct rml_text_options plain = {.rfc3339 = false};
static const struct rml_text_options dates = {.rfc3339 = true};

static struct rml_field field_of(enum rml_type type)
{
    return (struct rml_field){.name = "x", .type = type, .offset = 8};
}

// A record of one field, filled from text; 8 bytes before and behind it show what is written besides.
union record {
    unsigned char bytes[80];
    uint64_t words[10];
};

static int parse(enum rml_type type, const char *text, union record *record, struct rml_err *err)
{
    const struct rml_field field = field_of(type);
    memset(record, 0xa5, sizeof *record);
    int rc = rml_text_field_parse(&field, text, strlen(text), record, err);
    uint32_t end = rc < 0 ? 8 : 8 + rml_type_info[type].bytes;
    for (uint32_t i = 0; i < sizeof record->bytes; i++) {
        if (i < 8 || i >= end)
            assert_int_equal(record->bytes[i], 0xa5);
    }
    return rc;
}

static void expect_printed(enum rml_type type, const char *from, const char *csv, const char *json)
{
    union record record;
    char text[RML_TEXT_FIELD_MAX + 1];
    const struct rml_field field = field_of(type);
    assert_int_equal(parse(type, from, &record, NULL), 0);
    text[rml_text_field_csv(&field, &record, &plain, text)] = '\0';
    assert_string_equal(text, csv);
    text[rml_text_field_json(&field, &record, &plain, text)] = '\0';
    assert_string_equal(text, json);
}

static void expect_refused(enum rml_type type, const char *text, int code, const char *sentence)
{
    union record record;
    struct rml_err err = {.code = 0};
    assert_int_equal(parse(type, text, &record, &err), code);
    assert_int_equal(err.code, code);
    assert_string_equal(err.text, sentence);
}

static void integers_print_as_they_are_at_both_ends_of_their_type(void **state)
{
    (void)state;

    static const struct {
        enum rml_type type;
        const char *text;
    } ends[] = {
        {RML_U8, "0"},
        {RML_U8, "255"},
        {RML_U16, "65535"},
        {RML_U32, "4294967295"},
        {RML_U64, "18446744073709551615"},
        {RML_I8, "-128"},
        {RML_I8, "127"},
        {RML_I16, "-32768"},
        {RML_I16, "32767"},
        {RML_I32, "-2147483648"},
        {RML_I32, "2147483647"},
        {RML_I64, "-9223372036854775808"},
        {RML_I64, "9223372036854775807"},
        {RML_TIME, "-9223372036854775808"},
    };

    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++)
        expect_printed(ends[i].type, ends[i].text, ends[i].text, ends[i].text);
    expect_printed(RML_I16, " +7\t", "7", "7");
    expect_printed(RML_U64, "-0", "0", "0");
}

static void an_integer_beyond_its_type_does_not_fit(void **state)
{
    (void)state;
    expect_refused(RML_U8, "300", -ERANGE, "300 does not fit u8");
    expect_refused(RML_U8, "-1", -ERANGE, "-1 does not fit u8");
    expect_refused(RML_I8, "128", -ERANGE, "128 does not fit i8");
    expect_refused(RML_I8, "-129", -ERANGE, "-129 does not fit i8");
    expect_refused(RML_U32, "4294967296", -ERANGE, "4294967296 does not fit u32");
    expect_refused(RML_I64, "9223372036854775808", -ERANGE, "9223372036854775808 does not fit i64");
    expect_refused(RML_U64, "18446744073709551616", -ERANGE,
                   "18446744073709551616 does not fit u64");
    expect_refused(RML_U64, "99999999999999999999999", -ERANGE,
                   "99999999999999999999999 does not fit u64");
}

static void what_is_no_integer_is_said_to_be_none(void **state)
{
    (void)state;
    expect_refused(RML_I32, "", -EINVAL, "nothing stands where a whole number should");
    expect_refused(RML_I32, "  ", -EINVAL, "nothing stands where a whole number should");
    expect_refused(RML_I32, "-", -EINVAL, "'-' is not a whole number");
    expect_refused(RML_I32, "3.5", -EINVAL, "'3.5' is not a whole number");
    expect_refused(RML_I32, "1e3", -EINVAL, "'1e3' is not a whole number");
    expect_refused(RML_I32, "0x10", -EINVAL, "'0x10' is not a whole number");
    expect_refused(RML_I32, "1 2", -EINVAL, "'1 2' is not a whole number");
}

static void floats_print_with_as_few_digits_as_read_back(void **state)
{
    (void)state;
    static const char *const shortest[] = {
        "0",
        "-0",
        "1",
        "-1",
        "0.1",
        "0.3",
        "1.5",
        "3.141592653589793",
        "100",
        "123456",
        "1e+15",
        "1e+300",
        "5e-324",
        "1e-05",
        "0.0001",
        "0.30000000000000004",
        "1.005",
        "2.675",
        "0.000125",
        "-12.75",
        "99999.999999",
        "999999999999999",
    };
    for (size_t i = 0; i < sizeof shortest / sizeof shortest[0]; i++)
        expect_printed(RML_F64, shortest[i], shortest[i], shortest[i]);
    expect_printed(RML_F64, "9007199254740993", "9007199254740992", "9007199254740992");
    expect_printed(RML_F64, "1000000.50", "1000000.5", "1000000.5");
    expect_printed(RML_F32, "0.1", "0.1", "0.1");
    expect_printed(RML_F32, "3e6", "3e+06", "3e+06");
    expect_printed(RML_F32, "16777216", "16777216", "16777216");
    expect_printed(RML_F32, "3.4028235e38", "3.4028235e+38", "3.4028235e+38");
    expect_printed(RML_F32, "0.333333343", "0.33333334", "0.33333334");
}

static uint64_t next_random(uint64_t *seed)
{
    // splitmix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014)
    uint64_t z = *seed += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

// Neither an exponent nor a point nor a sign is a digit; zeros at either end tell nothing.
static int digits_in(const char *text)
{
    int count = 0, zeros = 0;
    for (; *text != '\0' && *text != 'e'; text++) {
        if (*text < '0' || *text > '9' || (count == 0 && *text == '0'))
            continue;
        zeros = *text == '0' ? zeros + 1 : 0;
        count++;
    }
    return count - zeros;
}

static void expect_shortest_f64(double value)
{
    char text[RML_NUMBER_TEXT_MAX + 1], shorter[64];
    text[rml_print_f64(value, text)] = '\0';
    assert_memory_equal(&(double){strtod(text, NULL)}, &value, sizeof value);
    int digits = digits_in(text);
    if (digits > 1) {
        snprintf(shorter, sizeof shorter, "%.*e", digits - 2, value);
        assert_false(strtod(shorter, NULL) == value);
    }
    if (strchr(text, '.') != NULL) {  // the nearest of that length, as the C library rounds it
        snprintf(shorter, sizeof shorter, "%.*g", digits, value);
        assert_string_equal(text, shorter);
    }
}

static void expect_shortest_f32(float value)
{
    char text[RML_NUMBER_TEXT_MAX + 1], shorter[64];
    text[rml_print_f32(value, text)] = '\0';
    assert_memory_equal(&(float){strtof(text, NULL)}, &value, sizeof value);
    int digits = digits_in(text);
    if (digits > 1) {
        snprintf(shorter, sizeof shorter, "%.*e", digits - 2, (double)value);
        assert_false(strtof(shorter, NULL) == value);
    }
    if (strchr(text, '.') != NULL) {
        snprintf(shorter, sizeof shorter, "%.*g", digits, (double)value);
        assert_string_equal(text, shorter);
    }
}

static void any_float_reads_back_and_none_has_a_digit_too_many(void **state)
{
    (void)state;
    uint64_t seed = 1;
    for (int i = 0; i < 100000; i++) {
        uint64_t bits = next_random(&seed);
        double any, some = (double)(int64_t)(bits >> 30) / (double)(1 + bits % 1000);
        memcpy(&any, &bits, sizeof any);
        if (isfinite(any))
            expect_shortest_f64(any);
        expect_shortest_f64(some);
        expect_shortest_f64((double)(bits % 1000000) / 1000);
        expect_shortest_f64(ldexp((double)(1 + (bits >> 60)), (int)(bits % 200) - 100));
        expect_shortest_f64(exp((double)(bits >> 40) / 16777216 * 50 - 12));
        float small;
        memcpy(&small, &bits, sizeof small);
        if (isfinite(small))
            expect_shortest_f32(small);
        expect_shortest_f32((float)(bits % 1000000) / 1000);
        expect_shortest_f32(expf((float)(bits >> 40) / 16777216 * 30 - 12));
    }
}

static void floats_that_are_no_numbers_are_spelled_out(void **state)
{
    (void)state;
    expect_printed(RML_F64, "inf", "inf", "\"Infinity\"");
    expect_printed(RML_F64, "-Infinity", "-inf", "\"-Infinity\"");
    expect_printed(RML_F64, "NaN", "nan", "\"NaN\"");
    expect_printed(RML_F32, "+inf", "inf", "\"Infinity\"");
    expect_printed(RML_F32, "-inf", "-inf", "\"-Infinity\"");
    expect_printed(RML_F32, "nan", "nan", "\"NaN\"");
}

static void a_float_too_large_for_its_type_does_not_fit(void **state)
{
    (void)state;
    expect_refused(RML_F64, "1e999", -ERANGE, "1e999 does not fit f64");
    expect_refused(RML_F32, "1e39", -ERANGE, "1e39 does not fit f32");
    expect_printed(RML_F32, "1e-60", "0", "0");
}

static void what_is_no_float_is_said_to_be_none(void **state)
{
    (void)state;
    expect_refused(RML_F64, "", -EINVAL, "nothing stands where a number should");
    expect_refused(RML_F64, "0x1p3", -EINVAL, "'0x1p3' is not a number");
    expect_refused(RML_F64, "1,5", -EINVAL, "'1,5' is not a number");
    expect_refused(RML_F64, "1e", -EINVAL, "'1e' is not a number");
    expect_refused(RML_F64, "-", -EINVAL, "'-' is not a number");
    expect_refused(RML_F64, "nano", -EINVAL, "'nano' is not a number");
}

static void a_float_is_rounded_once(void **state)
{
    (void)state;
    // just above the middle between two floats, and as a double exactly there
    union record record;
    float value;
    assert_int_equal(parse(RML_F32, "1.00000005960464477540", &record, NULL), 0);
    memcpy(&value, record.bytes + 8, sizeof value);
    assert_true(value == nextafterf(1, 2));
}

static void booleans_are_words_or_digits(void **state)
{
    (void)state;
    expect_printed(RML_BOOL, "true", "true", "true");
    expect_printed(RML_BOOL, "False", "false", "false");
    expect_printed(RML_BOOL, "1", "true", "true");
    expect_printed(RML_BOOL, "0", "false", "false");
    expect_refused(RML_BOOL, "yes", -EINVAL, "'yes' is not true or false");
    expect_refused(RML_BOOL, "", -EINVAL, "nothing stands where true or false should");
}

static void times_are_nanoseconds_dates_or_durations(void **state)
{
    (void)state;
    expect_printed(RML_TIME, "1700000000000000000", "1700000000000000000", "1700000000000000000");
    expect_printed(RML_TIME, "1970-01-01T00:00:01.5Z", "1500000000", "1500000000");
    expect_printed(RML_TIME, "1970-01-01 00:00:01", "1000000000", "1000000000");
    expect_printed(RML_TIME, "-5ms", "-5000000", "-5000000");
    expect_refused(RML_TIME, "noon", -EINVAL,
                   "'noon' is not a time such as 2023-11-16T18:17:03Z or nanoseconds since 1970");
    expect_refused(RML_TIME, "9223372036854775808", -ERANGE,
                   "9223372036854775808 does not fit time_ns");
}

static void times_print_as_dates_when_asked(void **state)
{
    (void)state;
    union record record;
    char text[RML_TEXT_FIELD_MAX + 1];
    const struct rml_field field = field_of(RML_TIME);
    assert_int_equal(parse(RML_TIME, "1500ms", &record, NULL), 0);
    text[rml_text_field_csv(&field, &record, &dates, text)] = '\0';
    assert_string_equal(text, "1970-01-01T00:00:01.500Z");
    text[rml_text_field_json(&field, &record, &dates, text)] = '\0';
    assert_string_equal(text, "\"1970-01-01T00:00:01.500Z\"");
}

static void strings_are_padded_and_must_fit(void **state)
{
    (void)state;
    union record record;
    assert_int_equal(parse(RML_STR8, "ab", &record, NULL), 0);
    assert_memory_equal(record.bytes + 8, "ab\0\0\0\0\0\0", 8);
    assert_int_equal(parse(RML_STR8, "12345678", &record, NULL), 0);
    assert_memory_equal(record.bytes + 8, "12345678", 8);
    expect_printed(RML_STR8, " a ", " a ", "\" a \"");
    expect_refused(RML_STR8, "123456789", -ERANGE, "'123456789' does not fit str8: it has 9 bytes");
    const struct rml_field field = field_of(RML_STR8);
    assert_int_equal(rml_text_field_parse(&field, "a\0b", 3, &record, NULL), -EINVAL);
}

static void a_long_wrong_text_is_cut_in_its_message(void **state)
{
    (void)state;
    char text[1000];
    union record record;
    struct rml_err err;
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    assert_int_equal(parse(RML_I64, text, &record, &err), -EINVAL);
    assert_non_null(strstr(err.text, "xxx...' is not a whole number"));
    assert_true(strlen(err.text) < 150);
}

static void csv_quotes_only_what_needs_it(void **state)
{
    (void)state;
    expect_printed(RML_STR16, "plain", "plain", "\"plain\"");
    expect_printed(RML_STR16, "a,b", "\"a,b\"", "\"a,b\"");
    expect_printed(RML_STR16, "say \"hi\"", "\"say \"\"hi\"\"\"", "\"say \\\"hi\\\"\"");
    expect_printed(RML_STR16, "two\nlines", "\"two\nlines\"", "\"two\\nlines\"");
    expect_printed(RML_STR16, "", "", "\"\"");
}

static void json_escapes_what_it_must_and_keeps_utf_8(void **state)
{
    (void)state;
    expect_printed(RML_STR16, "a\\b\x01\x1f", "a\\b\x01\x1f", "\"a\\\\b\\u0001\\u001f\"");
    expect_printed(RML_STR16, "\b\f\t", "\b\f\t", "\"\\b\\f\\t\"");
    expect_printed(RML_STR16, "\r", "\"\r\"", "\"\\r\"");
    expect_printed(RML_STR16, "ä€😀\x7f", "ä€😀\x7f", "\"ä€😀\x7f\"");
}

static void a_byte_that_is_not_utf_8_becomes_the_replacement_character(void **state)
{
    (void)state;
    static const char *const wrong[] = {
        "\x80",  // a tail without a head
        "\xc3",  // a head without a tail
        "\xff",
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        expect_printed(RML_STR8, wrong[i], wrong[i], "\"\xef\xbf\xbd\"");
    // an overlong slash, a surrogate, a character beyond the last: each byte for itself
    expect_printed(RML_STR8, "\xc0\xaf", "\xc0\xaf", "\"\xef\xbf\xbd\xef\xbf\xbd\"");
    expect_printed(RML_STR8, "\xed\xa0\x80", "\xed\xa0\x80",
                   "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"");
    expect_printed(RML_STR8, "\xf4\x90\x80\x80", "\xf4\x90\x80\x80",
                   "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"");
    // a field may end in the middle of a character
    expect_printed(RML_STR8, "1234567\xc3", "1234567\xc3", "\"1234567\xef\xbf\xbd\"");
}

static void add(struct rml_schema *schema, const char *name, enum rml_type type, bool nullable)
{
    assert_int_equal(rml_schema_add(schema, name, type, nullable, NULL), 0);
}

static void a_row_prints_its_nulls_and_an_empty_string_apart(void **state)
{
    (void)state;
    struct rml_schema schema;
    rml_schema_init(&schema, "row", true);
    add(&schema, "start", RML_TIME, false);
    add(&schema, "model", RML_STR8, true);
    add(&schema, "n", RML_U64, false);
    add(&schema, "avg", RML_F64, true);
    assert_int_equal(rml_schema_seal(&schema, NULL), 0);

    struct {
        uint64_t null_mask;
        int64_t start;
        char model[8];
        uint64_t n;
        double avg;
    } row = {.null_mask = 8, .start = 1000, .model = "", .n = 3, .avg = 2.5};

    char text[1024];
    assert_in_range(rml_text_row_bytes_max(&schema), 1, sizeof text - 1);

    text[rml_text_header_csv(&schema, text, sizeof text)] = '\0';
    assert_string_equal(text, "start,model,n,avg\n");
    text[rml_text_row_csv(&schema, &row, &plain, text, sizeof text)] = '\0';
    assert_string_equal(text, "1000,\"\",3,\n");
    text[rml_text_row_json(&schema, &row, &plain, text, sizeof text)] = '\0';
    assert_string_equal(text, "{\"start\":1000,\"model\":\"\",\"n\":3,\"avg\":null}\n");

    row.null_mask = 2;
    text[rml_text_row_csv(&schema, &row, &dates, text, sizeof text)] = '\0';
    assert_string_equal(text, "1970-01-01T00:00:00.000001Z,,3,2.5\n");
}

static void a_row_of_the_longest_values_fits_the_stated_bytes(void **state)
{
    (void)state;
    struct rml_schema schema;
    rml_schema_init(&schema, "row", false);
    for (uint32_t i = 0; i < RML_TYPES; i++)
        add(&schema, rml_type_info[i].name, (enum rml_type)i, false);
    assert_int_equal(rml_schema_seal(&schema, NULL), 0);
    uint32_t room = rml_text_row_bytes_max(&schema);
    _Alignas(8) unsigned char record[RML_RECORD_MAX];
    uint64_t seed = 7;
    char *text = malloc(room);  // exactly, so that a sanitizer sees one byte more
    assert_non_null(text);
    for (int i = 0; i < 20000; i++) {
        for (uint32_t at = 0; at < schema.record_bytes; at++)
            record[at] = i == 0 ? 0x01 : i == 1 ? '"' : (unsigned char)next_random(&seed);
        assert_in_range(rml_text_row_csv(&schema, record, &dates, text, room), 1, room);
        assert_in_range(rml_text_row_json(&schema, record, &dates, text, room), 1, room);
    }
    free(text);
}

static void what_is_printed_reads_back_as_the_same_bytes(void **state)
{
    (void)state;
    uint64_t seed = 11;
    for (int i = 0; i < 20000; i++) {
        for (int type = 0; type < RML_TYPES; type++) {
            const struct rml_field field = field_of((enum rml_type)type);
            const struct rml_type_info *info = &rml_type_info[type];
            if (info->kind == RML_KIND_STR)
                continue;  // in quotes or not: the reader of the format undoes it
            union record from, to;
            from.words[1] = info->kind == RML_KIND_BOOL ? (uint64_t)(i & 1) : next_random(&seed);
            to.words[1] = from.words[1] ^ UINT64_MAX;
            char text[RML_TEXT_FIELD_MAX];
            uint32_t length = rml_text_field_csv(&field, &from, i & 1 ? &plain : &dates, text);
            assert_int_equal(rml_text_field_parse(&field, text, length, &to, NULL), 0);
            if (length == 3 && memcmp(text, "nan", 3) == 0)
                continue;  // one of many
            assert_memory_equal(from.bytes + 8, to.bytes + 8, info->bytes);
        }
    }
}

TEST_MAIN(CLAIM(integers_print_as_they_are_at_both_ends_of_their_type),
          CLAIM(an_integer_beyond_its_type_does_not_fit),
          CLAIM(what_is_no_integer_is_said_to_be_none),
          CLAIM(floats_print_with_as_few_digits_as_read_back),
          CLAIM(any_float_reads_back_and_none_has_a_digit_too_many),
          CLAIM(floats_that_are_no_numbers_are_spelled_out),
          CLAIM(a_float_too_large_for_its_type_does_not_fit),
          CLAIM(what_is_no_float_is_said_to_be_none), CLAIM(a_float_is_rounded_once),
          CLAIM(booleans_are_words_or_digits), CLAIM(times_are_nanoseconds_dates_or_durations),
          CLAIM(times_print_as_dates_when_asked), CLAIM(strings_are_padded_and_must_fit),
          CLAIM(a_long_wrong_text_is_cut_in_its_message), CLAIM(csv_quotes_only_what_needs_it),
          CLAIM(json_escapes_what_it_must_and_keeps_utf_8),
          CLAIM(a_byte_that_is_not_utf_8_becomes_the_replacement_character),
          CLAIM(a_row_prints_its_nulls_and_an_empty_string_apart),
          CLAIM(a_row_of_the_longest_values_fits_the_stated_bytes),
          CLAIM(what_is_printed_reads_back_as_the_same_bytes))
