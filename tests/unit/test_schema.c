#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/err.h"
#include "runtime/record/schema.h"
#include "tests/support/test.h"

struct every_type {
    uint8_t a;
    uint16_t b;
    int8_t c;
    uint32_t d;
    uint8_t e;
    char f[16];
    int64_t g;
    float h;
    double i;
    char j[8];
    uint8_t k;
};

static void fields_lie_where_a_c_compiler_puts_them(void **state)
{
    (void)state;
    struct rml_schema schema;
    rml_schema_init(&schema, "every", false);
    assert_int_equal(rml_schema_add(&schema, "a", RML_U8, false, NULL), 0);
    assert_int_equal(rml_schema_add(&schema, "b", RML_U16, false, NULL), 0);
    assert_int_equal(rml_schema_add(&schema, "c", RML_I8, false, NULL), 0);
    assert_int_equal(rml_schema_add(&schema, "d", RML_U32, false, NULL), 0);
    assert_int_equal(rml_schema_add(&schema, "e", RML_BOOL, false, NULL), 0);
    assert_int_equal(rml_schema_add(&schema, "f", RML_STR16, false, NULL), 0);
    assert_int_equal(rml_schema_add(&schema, "g", RML_TIME, false, NULL), 0);
    assert_int_equal(rml_schema_add(&schema, "h", RML_F32, false, NULL), 0);
    assert_int_equal(rml_schema_add(&schema, "i", RML_F64, false, NULL), 0);
    assert_int_equal(rml_schema_add(&schema, "j", RML_STR8, false, NULL), 0);
    assert_int_equal(rml_schema_add(&schema, "k", RML_U8, false, NULL), 0);
    assert_int_equal(rml_schema_seal(&schema, NULL), 0);

    static const size_t offsets[] = {
        offsetof(struct every_type, a), offsetof(struct every_type, b),
        offsetof(struct every_type, c), offsetof(struct every_type, d),
        offsetof(struct every_type, e), offsetof(struct every_type, f),
        offsetof(struct every_type, g), offsetof(struct every_type, h),
        offsetof(struct every_type, i), offsetof(struct every_type, j),
        offsetof(struct every_type, k),
    };
    for (uint32_t i = 0; i < schema.field_count; i++)
        assert_int_equal(schema.fields[i].offset, offsets[i]);
    assert_int_equal(schema.record_bytes, sizeof(struct every_type));
}

static void a_row_with_nulls_begins_with_their_word(void **state)
{
    (void)state;
    struct rml_schema schema;
    rml_schema_init(&schema, "row", true);
    assert_int_equal(rml_schema_add(&schema, "a", RML_U8, true, NULL), 0);
    assert_int_equal(rml_schema_seal(&schema, NULL), 0);
    assert_int_equal(schema.fields[0].offset, 8);
    assert_int_equal(schema.record_bytes, 16);
}

static uint64_t hash_of(const char *name, enum rml_type type, bool has_nulls, bool nullable)
{
    struct rml_schema schema;
    rml_schema_init(&schema, "s", has_nulls);
    assert_int_equal(rml_schema_add(&schema, name, type, nullable, NULL), 0);
    assert_int_equal(rml_schema_seal(&schema, NULL), 0);
    return schema.hash;
}

static void the_hash_tells_names_types_and_nulls_apart(void **state)
{
    (void)state;
    uint64_t hash = hash_of("a", RML_U64, false, false);
    assert_true(hash == hash_of("a", RML_U64, false, false));
    assert_true(hash != hash_of("b", RML_U64, false, false));
    assert_true(hash != hash_of("a", RML_I64, false, false));
    assert_true(hash != hash_of("a", RML_U64, true, false));
    assert_true(hash_of("a", RML_U64, true, true) != hash_of("a", RML_U64, true, false));
}

static void a_name_is_taken_once(void **state)
{
    (void)state;
    struct rml_schema schema;
    struct rml_err err = {0};
    rml_schema_init(&schema, "s", false);
    assert_int_equal(rml_schema_add(&schema, "ts", RML_U8, false, &err), 0);
    assert_int_equal(rml_schema_add(&schema, "ts", RML_U8, false, &err), -EEXIST);
    assert_string_equal(err.text, "there are two fields named ts");
    assert_int_equal(schema.field_count, 1);
}

static void what_is_no_name_is_refused(void **state)
{
    (void)state;
    static const char *const wrong[] = {"",
                                        "9lives",
                                        "a-b",
                                        "a b",
                                        "\xc3\xa4",
                                        "x.y",
                                        "a23456789012345678901234567890123456789012345678"};
    struct rml_schema schema;
    rml_schema_init(&schema, "s", false);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_int_equal(rml_schema_add(&schema, wrong[i], RML_U8, false, NULL), -EINVAL);
    const char *longest = "a2345678901234567890123456789012345678901234567";
    assert_int_equal(rml_schema_add(&schema, longest, RML_U8, false, NULL), 0);
}

static void a_record_has_no_more_fields_than_a_word_has_bits(void **state)
{
    (void)state;
    struct rml_schema schema;
    rml_schema_init(&schema, "s", false);
    for (int i = 0; i < RML_FIELDS_MAX; i++) {
        char name[16];
        snprintf(name, sizeof name, "f%d", i);
        assert_int_equal(rml_schema_add(&schema, name, RML_STR64, false, NULL), 0);
    }
    assert_int_equal(rml_schema_add(&schema, "one_more", RML_U8, false, NULL), -E2BIG);
    assert_int_equal(rml_schema_seal(&schema, NULL), 0);
    assert_int_equal(schema.record_bytes, RML_RECORD_MAX);
}

static void a_record_has_no_more_bytes_than_its_limit(void **state)
{
    (void)state;
    struct rml_schema schema;
    struct rml_err err = {0};
    rml_schema_init(&schema, "s", true);
    char name[16] = "f";
    for (int i = 0; i < RML_FIELDS_MAX - 1; i++) {
        snprintf(name, sizeof name, "f%d", i);
        assert_int_equal(rml_schema_add(&schema, name, RML_STR64, false, NULL), 0);
    }
    assert_int_equal(rml_schema_add(&schema, "last", RML_STR64, false, &err), -E2BIG);
    assert_string_equal(err.text, "field last does not fit: a record has at most 4096 bytes");
}

static void a_schema_without_fields_is_refused(void **state)
{
    (void)state;
    struct rml_schema schema;
    struct rml_err err = {0};
    rml_schema_init(&schema, "empty", false);
    assert_int_equal(rml_schema_seal(&schema, &err), -EINVAL);
    assert_string_equal(err.text, "schema empty has no fields");
}

static void a_field_is_found_by_its_whole_name(void **state)
{
    (void)state;
    struct rml_schema schema;
    rml_schema_init(&schema, "s", false);
    assert_int_equal(rml_schema_add(&schema, "latency", RML_U8, false, NULL), 0);
    assert_int_equal(rml_schema_add(&schema, "latency_ms", RML_U8, false, NULL), 0);
    assert_int_equal(rml_schema_find(&schema, "latency_ms / 2", 10), 1);
    assert_int_equal(rml_schema_find(&schema, "latency_ms", 7), 0);
    assert_int_equal(rml_schema_find(&schema, "late", 4), RML_FIELD_ABSENT);
}

static void every_type_is_found_by_its_name(void **state)
{
    (void)state;
    for (unsigned int type = 0; type < RML_TYPES; type++) {
        const char *name = rml_type_info[type].name;
        assert_int_equal(rml_type_find(name, strlen(name)), type);
        assert_int_equal(rml_type_find(name, strlen(name) - 1), RML_TYPES);
    }
    assert_int_equal(rml_type_find("string", 6), RML_TYPES);
}

TEST_MAIN(CLAIM(fields_lie_where_a_c_compiler_puts_them),
          CLAIM(a_row_with_nulls_begins_with_their_word),
          CLAIM(the_hash_tells_names_types_and_nulls_apart), CLAIM(a_name_is_taken_once),
          CLAIM(what_is_no_name_is_refused),
          CLAIM(a_record_has_no_more_fields_than_a_word_has_bits),
          CLAIM(a_record_has_no_more_bytes_than_its_limit),
          CLAIM(a_schema_without_fields_is_refused), CLAIM(a_field_is_found_by_its_whole_name),
          CLAIM(every_type_is_found_by_its_name))
