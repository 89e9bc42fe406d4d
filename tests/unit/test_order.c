/*
 * Values as bytes, held to comparing the values themselves.
 */
#include <string.h>

#include "runtime/record/order.h"
#include "tests/support/random.h"
#include "tests/support/test.h"

#define ROUNDS (RML_TEST_SLOW ? 20000 : 200000)
#define ROOM   (RML_KEY_FIELDS * 65u)

#define RML_KEY_FIELDS 8u

static uint64_t seed;

static uint64_t draw(uint64_t below)
{
    return rml_test_random(&seed) % below;
}

static bool is_float(uint32_t type)
{
    return rml_type_info[type].kind == RML_KIND_FLOAT;
}

static void draw_schema(struct rml_schema *schema)
{
    rml_schema_init(schema, "drawn", false);
    uint32_t count = 1 + (uint32_t)draw(RML_KEY_FIELDS);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t type = (uint32_t)draw(RML_TYPES);
        char name[8] = {'f', (char)('0' + i)};
        if (is_float(type))
            type = RML_I16;
        assert_int_equal(rml_schema_add(schema, name, (enum rml_type)type, false, NULL), 0);
    }
    assert_int_equal(rml_schema_seal(schema, NULL), 0);
}

// Near an end, near zero, or anywhere; strings of few letters, of which some fill their field.
static void draw_value(const struct rml_field *field, unsigned char *record)
{
    static const uint64_t near[] = {0, UINT64_MAX, INT64_MAX, (uint64_t)INT64_MIN, 1 << 8, 1 << 16};
    static const char letters[] = {'a', 'b', ' ', '\x01', '\x7f', '\x80', '\xff'};
    const struct rml_type_info *info = &rml_type_info[field->type];
    unsigned char *at = record + field->offset;
    memset(at, 0, info->bytes);
    if (info->kind == RML_KIND_STR) {
        uint64_t length = draw(4) == 0 ? info->bytes : draw(4);
        for (uint64_t i = 0; i < length; i++)
            at[i] = (unsigned char)letters[draw(sizeof letters)];
        return;
    }
    uint64_t value = draw(3) == 0 ? rml_test_random(&seed) : near[draw(6)] + draw(3) - 1;
    if (info->kind == RML_KIND_BOOL)
        value &= 1;
    memcpy(at, &value, info->bytes);
}

#define WAY(a, b) (((a) > (b)) - ((a) < (b)))

#define COMPARE(ctype)          \
 do {                           \
  ctype x, y;                   \
  memcpy(&x, a + at, sizeof x); \
  memcpy(&y, b + at, sizeof y); \
  return WAY(x, y);             \
 } while (0)

static int compare_value(enum rml_type type, uint32_t at, const unsigned char *a,
                         const unsigned char *b)
{
    switch (type) {
    case RML_U8:
    case RML_BOOL:
        COMPARE(uint8_t);
    case RML_U16:
        COMPARE(uint16_t);
    case RML_U32:
        COMPARE(uint32_t);
    case RML_U64:
        COMPARE(uint64_t);
    case RML_I8:
        COMPARE(int8_t);
    case RML_I16:
        COMPARE(int16_t);
    case RML_I32:
        COMPARE(int32_t);
    case RML_I64:
    case RML_TIME:
        COMPARE(int64_t);
    case RML_STR8:
    case RML_STR16:
    case RML_STR32:
    case RML_STR64:
        return strncmp((const char *)a + at, (const char *)b + at, rml_type_info[type].bytes);
    case RML_F32:
    case RML_F64:
    case RML_TYPES:
        break;
    }
    fail();
    return 0;
}

static int compare(const struct rml_schema *schema, const unsigned char *a, const unsigned char *b)
{
    int way = 0;
    for (uint32_t i = 0; i < schema->field_count && way == 0; i++)
        way = compare_value(schema->fields[i].type, schema->fields[i].offset, a, b);
    return WAY(way, 0);
}

static uint32_t encode(const struct rml_schema *schema, const unsigned char *record,
                       unsigned char *to)
{
    uint32_t used = 0;
    for (uint32_t i = 0; i < schema->field_count; i++) {
        uint32_t took = rml_order_put(&schema->fields[i], record, to + used);
        assert_in_range(took, 1, rml_order_bytes_max(schema->fields[i].type));
        used += took;
    }
    return used;
}

static void bytes_are_in_order_where_values_are_and_none_begins_another(void **state)
{
    (void)state;
    uint32_t ways[3] = {0};
    for (int round = 0; round < ROUNDS; round++) {
        struct rml_schema schema;
        unsigned char a[RML_RECORD_MAX] = {0}, b[RML_RECORD_MAX] = {0}, x[ROOM], y[ROOM];
        draw_schema(&schema);
        for (uint32_t i = 0; i < schema.field_count; i++) {
            const struct rml_field *field = &schema.fields[i];
            draw_value(field, a);
            if (draw(2) == 0)
                draw_value(field, b);
            else
                memcpy(b + field->offset, a + field->offset, rml_type_info[field->type].bytes);
        }
        uint32_t x_bytes = encode(&schema, a, x), y_bytes = encode(&schema, b, y);
        int way = compare(&schema, a, b);
        int bytewise = memcmp(x, y, x_bytes < y_bytes ? x_bytes : y_bytes);
        ways[way + 1]++;
        assert_int_equal(WAY(bytewise, 0), way);
        assert_true(way != 0 || x_bytes == y_bytes);
    }
    assert_true(ways[0] > ROUNDS / 10 && ways[1] > ROUNDS / 100 && ways[2] > ROUNDS / 10);
}

static void what_was_encoded_reads_back_and_what_is_cut_does_not(void **state)
{
    (void)state;
    for (int round = 0; round < ROUNDS / 10; round++) {
        struct rml_schema schema;
        unsigned char record[RML_RECORD_MAX] = {0}, back[RML_RECORD_MAX] = {0}, bytes[ROOM];
        draw_schema(&schema);
        for (uint32_t i = 0; i < schema.field_count; i++)
            draw_value(&schema.fields[i], record);
        uint32_t count = encode(&schema, record, bytes), used = 0;
        assert_true(count > 0);
        uint64_t cut = rml_test_random(&seed) % (count > 0 ? count : 1);
        bool was_cut = false;
        for (uint32_t i = 0; i < schema.field_count; i++) {
            uint32_t left = used < cut ? (uint32_t)cut - used : 0;
            uint32_t took = rml_order_take(&schema.fields[i], bytes + used, count - used, back);
            was_cut |= rml_order_take(&schema.fields[i], bytes + used, left, record) == 0;
            used += took;
        }
        assert_int_equal(used, count);
        assert_true(was_cut);
        assert_int_equal(compare(&schema, record, back), 0);
    }
}

static void times_are_in_order(void **state)
{
    (void)state;
    static const int64_t times[] = {INT64_MIN, INT64_MIN + 1, -1, 0, 1, INT64_MAX - 1, INT64_MAX};
    unsigned char before[8] = {0}, now[8];
    for (size_t i = 0; i < sizeof times / sizeof times[0]; i++) {
        rml_order_put_time(times[i], now);
        assert_int_equal(rml_order_take_time(now), times[i]);
        assert_true(i == 0 || memcmp(before, now, sizeof now) < 0);
        memcpy(before, now, sizeof now);
    }
}

int main(void)
{
    const struct CMUnitTest claims[] = {
        CLAIM(bytes_are_in_order_where_values_are_and_none_begins_another),
        CLAIM(what_was_encoded_reads_back_and_what_is_cut_does_not),
        CLAIM(times_are_in_order),
    };
    seed = rml_test_seed();
    return cmocka_run_group_tests(claims, NULL, NULL);
}
