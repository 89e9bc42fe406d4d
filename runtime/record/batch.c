/*
 * Loading is one loop per field type: a strided read, a conversion without a branch, a store.
 * Unrolled, it goes as fast as the cache below the first gives the records: measured 0.28 ns for a
 * column of eight bytes from records of 32 bytes, 0.31 ns with the loop rolled up.
 *
 * The memory may belong to a hostile producer that goes on writing. Every read is volatile, so that
 * the compiler cannot read a second time what it has looked at once.
 */
#include "runtime/record/batch.h"

#include "runtime/base/check.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "a string's first byte is a word's least");

typedef void load_fn(const unsigned char *from, uint32_t stride, uint32_t rows, void *to);

// A word of a string, which may begin at any byte.
typedef uint64_t __attribute__((may_alias, aligned(1))) loose_word;

// The top bit of the first zero byte is set, and below it none: a borrow may set bits of later
// bytes, never of earlier ones. (Mycroft's test for a zero byte.)
static inline uint64_t word_zeros(uint64_t word)
{
    return (word - 0x0101010101010101u) & ~word & 0x8080808080808080u;
}

// The bytes before the first zero byte; all of them when there is none.
static inline uint64_t word_before(uint64_t word, uint64_t zeros)
{
    return word & (((zeros & (0 - zeros)) >> 7) - 1);
}

// Inlined with a constant `words`, so that the inner loop is unrolled.
static inline __attribute__((always_inline)) void
load_str(const unsigned char *from, uint32_t stride, uint32_t rows, uint32_t words, void *to)
{
    loose_word *cell = to;
    for (uint32_t i = 0; i < rows; i++) {
        const void *at = from + (uint64_t)i * stride;
        const volatile loose_word *raw = at;
        uint64_t going_on = UINT64_MAX;  // all ones until a NUL was seen, then 0
        for (uint32_t w = 0; w < words; w++) {
            uint64_t word = raw[w] & going_on;
            uint64_t zeros = word_zeros(word);
            *cell++ = word_before(word, zeros);
            going_on = zeros != 0 ? 0 : going_on;
        }
    }
}

// NOLINTBEGIN(bugprone-macro-parentheses): a type cannot stand in parentheses
#define CELL_INT(value)   ((int64_t)(value))
#define CELL_UINT(value)  ((uint64_t)(value))
#define CELL_FLOAT(value) ((double)(value))
#define CELL_BOOL(value)  ((uint8_t)((value) != 0))

#define CTYPE_INT   int64_t
#define CTYPE_UINT  uint64_t
#define CTYPE_FLOAT double
#define CTYPE_BOOL  uint8_t

#define LOAD_NUMBER(load, raw_type, kind, ctype)                                       \
 typedef ctype __attribute__((may_alias)) raw_type;                                    \
 static void load(const unsigned char *from, uint32_t stride, uint32_t rows, void *to) \
 {                                                                                     \
  CTYPE_##kind *cell = to;                                                             \
  _Pragma("GCC unroll 8") for (uint32_t i = 0; i < rows; i++)                          \
  {                                                                                    \
   const void *at = from + (uint64_t)i * stride;                                       \
   const volatile raw_type *raw = at;                                                  \
   cell[i] = CELL_##kind(*raw);                                                        \
  }                                                                                    \
 }
#define LOAD_INT(load, raw, bytes, ctype)   LOAD_NUMBER(load, raw, INT, ctype)
#define LOAD_UINT(load, raw, bytes, ctype)  LOAD_NUMBER(load, raw, UINT, ctype)
#define LOAD_FLOAT(load, raw, bytes, ctype) LOAD_NUMBER(load, raw, FLOAT, ctype)
#define LOAD_BOOL(load, raw, bytes, ctype)  LOAD_NUMBER(load, raw, BOOL, ctype)
#define LOAD_STR(load, raw, bytes, ctype)                                              \
 static void load(const unsigned char *from, uint32_t stride, uint32_t rows, void *to) \
 {                                                                                     \
  load_str(from, stride, rows, (bytes) / 8, to);                                       \
 }

// NOLINTEND(bugprone-macro-parentheses)

// Names are made here, where they are still as written: one step further `bool` is a macro.
#define RML_TYPE(NAME, name, bytes, kind, ctype) LOAD_##kind(load_##name, raw_##name, bytes, ctype)
#include "runtime/record/type.def"
#undef RML_TYPE

#define RML_TYPE(NAME, name, bytes, kind, ctype) [RML_##NAME] = load_##name,
static load_fn *const load_of_type[RML_TYPES] = {
#include "runtime/record/type.def"
};
#undef RML_TYPE

void rml_batch_load(const struct rml_schema *schema, const struct rml_frame *frame,
                    const uint64_t wanted[RML_COLUMNS_MAX / 64], const void *records, uint32_t rows,
                    struct rml_column *columns)
{
    RML_CHECK(rows <= RML_BATCH_ROWS);
    RML_CHECK(!schema->has_nulls);
    RML_CHECK((uintptr_t)records % 8 == 0);

    for (uint32_t i = 0; i < frame->column_count; i++) {
        uint32_t index = frame->columns[i].field;
        if (index == RML_FIELD_ABSENT || (wanted[i / 64] >> (i % 64) & 1) == 0)
            continue;
        RML_CHECK(index < schema->field_count);
        const struct rml_field *field = &schema->fields[index];
        const unsigned char *from = records;
        load_of_type[field->type](from + field->offset, schema->record_bytes, rows,
                                  columns[i].data);
        columns[i].type = field->type;
        columns[i].null = NULL;
    }
}
