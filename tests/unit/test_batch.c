#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/record/batch.h"
#include "tests/support/test.h"

static uint64_t seed;

static uint64_t draw(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

// One column the way somebody in no hurry would load it.
static void load_slowly(enum rml_type type, const unsigned char *field, unsigned char *cell)
{
    uint32_t bytes = rml_type_info[type].bytes;
    uint64_t raw = 0;
    for (uint32_t i = 0; i < bytes && i < 8; i++)
        raw |= (uint64_t)field[i] << (8 * i);
    float f;
    double d;
    uint32_t low = (uint32_t)raw;
    switch (rml_type_info[type].kind) {
    case RML_KIND_INT: {
        int64_t value = (int64_t)raw;
        bool is_signed = type == RML_I8 || type == RML_I16 || type == RML_I32;
        if (is_signed && (field[bytes - 1] & 0x80) != 0)
            value -= INT64_C(1) << (8 * bytes);
        memcpy(cell, &value, 8);
        break;
    }
    case RML_KIND_UINT:
        memcpy(cell, &raw, 8);
        break;
    case RML_KIND_FLOAT:
        memcpy(&f, &low, 4);
        memcpy(&d, &raw, 8);
        d = type == RML_F32 ? (double)f : d;
        memcpy(cell, &d, 8);
        break;
    case RML_KIND_BOOL:
        *cell = raw != 0;
        break;
    case RML_KIND_STR:
        memset(cell, 0, bytes);
        for (uint32_t i = 0; i < bytes && field[i] != 0; i++)
            cell[i] = field[i];
        break;
    case RML_KINDS:
        fail();
    }
}

// A schema, a frame over it, and columns of canaries.
struct rig {
    struct rml_schema schema;
    struct rml_frame frame;
    struct rml_column columns[RML_COLUMNS_MAX];
    unsigned char *records;
    unsigned char *cells[RML_FIELDS_MAX];
};

static void rig_open(struct rig *rig)
{
    memset(rig, 0, sizeof *rig);
    rml_schema_init(&rig->schema, "random", false);
    uint32_t count = 1 + (uint32_t)(draw() % 20);
    for (uint32_t i = 0; i < count; i++) {
        char name[16];
        snprintf(name, sizeof name, "f%u", i);
        enum rml_type type = (enum rml_type)(draw() % RML_TYPES);
        assert_int_equal(rml_schema_add(&rig->schema, name, type, false, NULL), 0);
        rig->frame.columns[i].type = type;
        rig->frame.columns[i].field = i;
        rig->cells[i] = aligned_alloc(64, RML_BATCH_ROWS * 64);
        memset(rig->cells[i], 0xa5, RML_BATCH_ROWS * 64);
        rig->columns[i].data = rig->cells[i];
        rig->columns[i].null = rig->cells[i];
    }
    rig->frame.column_count = count;
    assert_int_equal(rml_schema_seal(&rig->schema, NULL), 0);
    size_t bytes = (size_t)RML_BATCH_ROWS * rig->schema.record_bytes;
    rig->records = malloc(bytes);
    for (size_t i = 0; i < bytes; i++)
        rig->records[i] = (unsigned char)(draw() % 4 == 0 ? 0 : draw());
}

static void rig_close(struct rig *rig)
{
    for (uint32_t i = 0; i < rig->frame.column_count; i++)
        free(rig->cells[i]);
    free(rig->records);
}

static void check_column(const struct rig *rig, uint32_t i, uint32_t rows)
{
    enum rml_type type = rig->frame.columns[i].type;
    uint32_t cell_bytes = rml_type_info[type].cell_bytes;
    for (uint32_t row = 0; row < rows; row++) {
        unsigned char expected[64];
        const unsigned char *record = rig->records + (size_t)row * rig->schema.record_bytes;
        load_slowly(type, record + rig->schema.fields[i].offset, expected);
        assert_memory_equal(rig->cells[i] + (size_t)row * cell_bytes, expected, cell_bytes);
    }
    assert_int_equal(rig->cells[i][(size_t)rows * cell_bytes], 0xa5);
    assert_null(rig->columns[i].null);
    assert_int_equal(rig->columns[i].type, type);
}

static void any_bytes_load_as_one_value_at_a_time_would(void **state)
{
    (void)state;
    for (uint64_t round = 1; round <= 300; round++) {
        seed = round * 0x9e3779b97f4a7c15u;
        struct rig rig;
        rig_open(&rig);
        uint64_t wanted[RML_COLUMNS_MAX / 64] = {draw(), draw()};
        uint32_t rows = (uint32_t)(draw() % RML_BATCH_ROWS);
        rml_batch_load(&rig.schema, &rig.frame, wanted, rig.records, rows, rig.columns);
        for (uint32_t i = 0; i < rig.frame.column_count; i++) {
            if ((wanted[0] >> i & 1) != 0)
                check_column(&rig, i, rows);
            else
                assert_int_equal(rig.cells[i][0], 0xa5);
        }
        rig_close(&rig);
    }
}

static void a_column_of_an_expression_is_left_alone(void **state)
{
    (void)state;
    seed = 5;
    struct rig rig;
    rig_open(&rig);
    rig.frame.columns[0].field = RML_FIELD_ABSENT;
    uint64_t wanted[RML_COLUMNS_MAX / 64] = {UINT64_MAX, UINT64_MAX};
    rml_batch_load(&rig.schema, &rig.frame, wanted, rig.records, 1, rig.columns);
    assert_int_equal(rig.cells[0][0], 0xa5);
    assert_non_null(rig.columns[0].null);
    rig_close(&rig);
}

TEST_MAIN(CLAIM(any_bytes_load_as_one_value_at_a_time_would),
          CLAIM(a_column_of_an_expression_is_left_alone))
