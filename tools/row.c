#include "tools/row.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "runtime/record/text.h"

void rml_row_begin(struct rml_row *row, void *record)
{
    row->record = record;
    row->filled = row->constant;
    row->err.code = 0;
    memcpy(record, row->blank, row->schema->record_bytes);
}

void rml_row_complain(struct rml_row *row, const char *format, ...)
{
    if (row->err.code != 0)
        return;
    va_list args;
    va_start(args, format);
    vsnprintf(row->err.text, sizeof row->err.text, format, args);
    va_end(args);
    row->err.code = -EBADMSG;
}

void rml_row_put(struct rml_row *row, uint32_t field, const char *text, size_t length)
{
    if (row->err.code != 0)
        return;
    uint64_t bit = UINT64_C(1) << field;
    if ((row->filled & bit) != 0) {
        rml_row_complain(row, "%s stands there twice", row->names[field]);
        return;
    }
    row->filled |= bit;
    struct rml_err err = {0};
    if (rml_text_field_parse(&row->schema->fields[field], text, length, row->record, &err) < 0)
        rml_row_complain(row, "%s: %s", row->names[field], err.text);
}

int rml_row_end(struct rml_row *row)
{
    uint64_t missing = rml_row_all(row) & ~row->filled;
    if (missing != 0)
        rml_row_complain(row, "%s is missing", row->names[__builtin_ctzll(missing)]);
    return row->err.code == 0 ? 1 : -EBADMSG;
}

static bool is_called(const struct rml_row *row, uint32_t field, const char *name, size_t length)
{
    return strlen(row->names[field]) == length && memcmp(row->names[field], name, length) == 0;
}

uint32_t rml_row_find(const struct rml_row *row, const char *name, size_t length, uint32_t guess)
{
    uint32_t found = RML_FIELD_ABSENT;
    if (guess < row->schema->field_count && is_called(row, guess, name, length)) {
        found = guess;
    } else {
        for (uint32_t i = 0; i < row->schema->field_count && found == RML_FIELD_ABSENT; i++) {
            if (is_called(row, i, name, length))
                found = i;
        }
    }
    if (found != RML_FIELD_ABSENT && (row->constant >> found & 1) != 0)
        return RML_FIELD_ABSENT;
    return found;
}
