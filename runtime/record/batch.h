/*
 * batch - a few hundred records as columns, with a selection vector.
 *
 * A frame names the columns that the stages below one source use; a batch is a frame filled for up
 * to RML_BATCH_ROWS records. Filters never move a value: they narrow `select`. A map fills one more
 * column of the same frame. In the manner of MonetDB/X100 (Boncz, Zukowski, Nes: "MonetDB/X100:
 * Hyper-Pipelining Query Execution", CIDR 2005): every loop runs over one array, and all arrays of
 * a batch together stay in the first-level cache.
 */
#ifndef RML_RECORD_BATCH_H
#define RML_RECORD_BATCH_H

#include "runtime/record/schema.h"

#define RML_BATCH_ROWS  256
#define RML_COLUMNS_MAX 128  // of one frame: fields and mapped columns

/* One column's name and type, as expressions see it. */
struct rml_frame_column {
    char name[RML_NAME_MAX + 1];
    enum rml_type type;
    bool nullable;
    uint32_t
        field;  // the source's field it is loaded from; RML_FIELD_ABSENT: an expression fills it
};

struct rml_frame {
    uint32_t column_count;
    struct rml_frame_column columns[RML_COLUMNS_MAX];
};

/* One column's values. `null` is NULL while no row of this batch is null, else 1 = null by row. */
struct rml_column {
    enum rml_type type;
    void *data;     // RML_BATCH_ROWS elements of the type's cell_bytes, 64-byte aligned
    uint8_t *null;  // RML_BATCH_ROWS bytes, or NULL
};

struct rml_batch {
    uint32_t rows;                     // records in the batch, at most RML_BATCH_ROWS
    uint32_t selected;                 // how many of them count; rows when select is NULL
    const uint16_t *select;            // their indices, ascending; NULL: all rows
    const struct rml_column *columns;  // by frame index; data is NULL where nobody asked for it
};

/*
 * Load the columns of `frame` that `wanted` asks for (bit i of word i/64 = column i) from `rows`
 * records of `schema` lying one behind the other at `records`. Each field is read once and never
 * again, because the memory may be a hostile producer's. What comes out is well-formed whatever the
 * bytes were: a bool is 0 or 1, a string has only NULs after its first. Columns without a field are
 * left alone. The caller owns the columns' memory; each loaded one has its type set and no nulls.
 * `records` is 8-byte aligned and `schema` one without null bits: what comes in has no nulls.
 */
void rml_batch_load(const struct rml_schema *schema, const struct rml_frame *frame,
                    const uint64_t wanted[RML_COLUMNS_MAX / 64], const void *records, uint32_t rows,
                    struct rml_column *columns);

#endif
