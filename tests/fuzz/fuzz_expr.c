/*
 * Any text as an expression: compiling it ends, an error lies inside the text, and what compiles
 * evaluates on any columns to well-formed values. The first byte of the input shapes the columns.
 */
#include <stdlib.h>
#include <string.h>

#include "runtime/base/check.h"
#include "runtime/record/expr.h"

#define ROWS 67  // no multiple of a vector's width

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static _Alignas(64) unsigned char cells[RML_TYPES][RML_BATCH_ROWS * 64];
static uint8_t nulls[RML_TYPES][RML_BATCH_ROWS];
static _Alignas(64) unsigned char result[RML_BATCH_ROWS * 64];
static uint8_t result_null[RML_BATCH_ROWS];
static struct rml_frame frame;
static struct rml_column columns[RML_TYPES];

// One column of every type, named like its type's first letter and number: u8, i64, str16, bool.
static void fill_columns(uint8_t shape)
{
    uint64_t state = shape * 0x9e3779b97f4a7c15u + 1;
    struct rml_schema schema;
    static _Alignas(8) unsigned char records[ROWS * RML_RECORD_MAX];
    rml_schema_init(&schema, "all", false);
    frame.column_count = RML_TYPES;
    for (uint32_t i = 0; i < RML_TYPES; i++) {
        const char *name = rml_type_info[i].name;
        memcpy(frame.columns[i].name, name, strlen(name) + 1);
        frame.columns[i].type = (enum rml_type)i;
        frame.columns[i].field = i;
        frame.columns[i].nullable = (shape & 1) != 0;
        RML_CHECK(rml_schema_add(&schema, name, (enum rml_type)i, false, NULL) == 0);
        columns[i].data = cells[i];
    }
    RML_CHECK(rml_schema_seal(&schema, NULL) == 0);
    for (size_t i = 0; i < ROWS * schema.record_bytes; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        uint8_t byte = (uint8_t)(state >> 56);
        records[i] = byte < 60 ? 0 : byte < 110 ? 0xff : byte < 140 ? 0x7f : byte;
    }
    const uint64_t all[RML_COLUMNS_MAX / 64] = {UINT64_MAX};
    rml_batch_load(&schema, &frame, all, records, ROWS, columns);
    for (uint32_t i = 0; (shape & 1) != 0 && i < RML_TYPES; i++) {
        for (uint32_t row = 0; row < ROWS; row++)
            nulls[i][row] = (row * 7 + i) % 5 == 0;
        columns[i].null = nulls[i];
    }
}

static void check_cell(enum rml_type type, uint32_t row)
{
    if (type == RML_BOOL)
        RML_CHECK(result[row] <= 1);
    if (rml_type_info[type].kind != RML_KIND_STR)
        return;
    uint32_t bytes = rml_type_info[type].bytes;
    const unsigned char *text = result + (size_t)row * bytes;
    bool ended = false;
    for (uint32_t i = 0; i < bytes; i++) {
        RML_CHECK(!ended || text[i] == 0);
        ended = ended || text[i] == 0;
    }
}

static void evaluate(const struct rml_expr *expr)
{
    struct rml_expr_scratch *scratch;
    uint16_t select[RML_BATCH_ROWS];
    struct rml_batch batch = {.rows = ROWS, .selected = ROWS, .columns = columns};
    struct rml_column out = {.data = result};
    RML_CHECK(rml_expr_scratch_open(&scratch, &expr, 1) == 0);
    uint32_t no_answer = rml_expr_eval(expr, &batch, scratch, &out, result_null);
    RML_CHECK(rml_expr_nullable(expr) || out.null == NULL);

    uint32_t null_count = 0, true_count = 0;
    for (uint32_t row = 0; row < ROWS; row++) {
        bool null = out.null != NULL && out.null[row] != 0;
        RML_CHECK(out.null == NULL || out.null[row] <= 1);
        check_cell(out.type, row);
        null_count += null;
        true_count += out.type == RML_BOOL && !null && result[row] != 0;
    }
    RML_CHECK(no_answer <= null_count);
    if (out.type == RML_BOOL) {
        uint32_t again;
        RML_CHECK(rml_expr_filter(expr, &batch, scratch, select, &again) == true_count);
        RML_CHECK(again == no_answer);
    }
    rml_expr_scratch_close(scratch);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int shape_of_columns = -1;
    if (size == 0)
        return 0;
    // a copy of its own size: a look beyond the end is an error that is seen
    size_t length = size - 1;
    char *text = malloc(length > 0 ? length : 1);
    RML_CHECK(text != NULL);
    memcpy(text, data + 1, length);
    if (shape_of_columns != data[0])
        fill_columns(data[0]);
    shape_of_columns = data[0];

    struct rml_expr *expr;
    struct rml_expr_error error;
    if (rml_expr_compile(text, length, &frame, NULL, &expr, &error) < 0) {
        RML_CHECK(error.text[0] != '\0');
        RML_CHECK((size_t)error.offset + error.length <= length);
    } else {
        char print[512];
        evaluate(expr);
        rml_expr_print(expr, print, sizeof print);
        rml_expr_free(expr);
    }
    free(text);
    return 0;
}
