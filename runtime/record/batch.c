#include "runtime/record/batch.h"

#include <string.h>

/*
 * One loop for each type: the stride is the record's, the element goes to the column's kind. memcpy
 * of a constant size is one load, whatever the field's alignment in foreign memory.
 */
#define LOAD(name, field_type, cell_type)                                                   \
 static void load_##name(const unsigned char *at, size_t stride, uint32_t rows, void *data) \
 {                                                                                          \
  cell_type *cells = data;                                                                  \
  for (uint32_t i = 0; i < rows; i++) {                                                     \
   field_type value;                                                                        \
   memcpy(&value, at + i * stride, sizeof value);                                           \
   cells[i] = (cell_type)value;                                                             \
  }                                                                                         \
 }

LOAD(u8, uint8_t, int64_t)
LOAD(u16, uint16_t, int64_t)
LOAD(u32, uint32_t, int64_t)
LOAD(u64, uint64_t, uint64_t)
LOAD(i8, int8_t, int64_t)
LOAD(i16, int16_t, int64_t)
LOAD(i32, int32_t, int64_t)
LOAD(i64, int64_t, int64_t)
LOAD(f32, float, double)
LOAD(f64, double, double)

static void load_bool(const unsigned char *at, size_t stride, uint32_t rows, void *data)
{
    uint8_t *cells = data;
    for (uint32_t i = 0; i < rows; i++)
        cells[i] = at[i * stride] != 0;
}

// Keep the bytes before the first NUL: once a NUL was seen, the mask stays zero.
static void load_string(const unsigned char *at, size_t stride, uint32_t rows, void *data,
                        uint32_t width)
{
    unsigned char *cells = data;
    for (uint32_t i = 0; i < rows; i++, cells += width) {
        memcpy(cells, at + i * stride, width);
        size_t length = strnlen((const char *)cells, width);
        memset(cells + length, 0, width - length);
    }
}

static void load_column(enum rml_type type, const unsigned char *at, size_t stride, uint32_t rows,
                        void *data)
{
    switch (type) {
    case RML_U8:
        load_u8(at, stride, rows, data);
        break;
    case RML_U16:
        load_u16(at, stride, rows, data);
        break;
    case RML_U32:
        load_u32(at, stride, rows, data);
        break;
    case RML_U64:
        load_u64(at, stride, rows, data);
        break;
    case RML_I8:
        load_i8(at, stride, rows, data);
        break;
    case RML_I16:
        load_i16(at, stride, rows, data);
        break;
    case RML_I32:
        load_i32(at, stride, rows, data);
        break;
    case RML_I64:
    case RML_TIME:
        load_i64(at, stride, rows, data);
        break;
    case RML_F32:
        load_f32(at, stride, rows, data);
        break;
    case RML_F64:
        load_f64(at, stride, rows, data);
        break;
    case RML_BOOL:
        load_bool(at, stride, rows, data);
        break;
    case RML_STR8:
    case RML_STR16:
    case RML_STR32:
    case RML_STR64:
    case RML_TYPES:
        load_string(at, stride, rows, data, rml_type_info[type].bytes);
        break;
    }
}

void rml_batch_load(const struct rml_schema *schema, const struct rml_frame *frame,
                    const uint64_t wanted[RML_COLUMNS_MAX / 64], const void *records, uint32_t rows,
                    struct rml_column *columns)
{
    for (uint32_t i = 0; i < frame->column_count; i++) {
        if ((wanted[i / 64] >> (i % 64) & 1) == 0 || frame->columns[i].field == RML_FIELD_ABSENT)
            continue;
        const struct rml_field *field = &schema->fields[frame->columns[i].field];
        const unsigned char *at = records;
        load_column(field->type, at + field->offset, schema->record_bytes, rows, columns[i].data);
        columns[i].null = NULL;
    }
}
