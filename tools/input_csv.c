#include "tools/input_csv.h"

#include <csv.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/err.h"
#include "runtime/base/suggest.h"
#include "tools/lines.h"
#include "tools/row.h"

#define COLUMNS_MAX 4096

struct rml_input_csv {
    struct csv_parser parser;
    struct rml_row *row;
    uint32_t columns;              // of the header
    uint32_t fields[COLUMNS_MAX];  // the field behind each column, or RML_FIELD_ABSENT
    char *names[COLUMNS_MAX];      // kept for "did you mean", until the header is complete
    uint32_t cell;                 // of the row that is being read
    uint32_t ends;                 // of rows, seen in the line that is being read
    uint64_t since;                // line on which the open row began; 0: none is open
    size_t open_bytes;             // of the open row, so far
};

int rml_input_csv_open(struct rml_input_csv **ret_csv, struct rml_row *row, struct rml_err *err)
{
    struct rml_input_csv *csv = calloc(1, sizeof *csv);
    // Strict, so that a quote in the wrong place is an error of its line and not a guess.
    if (csv == NULL || csv_init(&csv->parser, CSV_STRICT) != 0) {
        free(csv);
        return RML_FAIL(err, -ENOMEM, "no memory to read CSV");
    }
    csv->row = row;
    *ret_csv = csv;
    return 0;
}

static void forget_names(struct rml_input_csv *csv)
{
    for (uint32_t i = 0; i < csv->columns && i < COLUMNS_MAX; i++) {
        free(csv->names[i]);
        csv->names[i] = NULL;
    }
}

void rml_input_csv_close(struct rml_input_csv *csv)
{
    if (csv == NULL)
        return;
    forget_names(csv);
    csv_free(&csv->parser);
    free(csv);
}

static void on_name(void *text, size_t length, void *context)
{
    struct rml_input_csv *csv = context;
    uint32_t column = csv->columns++;
    if (column >= COLUMNS_MAX)
        return;
    uint32_t field = rml_row_find(csv->row, text, length, column);
    csv->fields[column] = field;
    if (field == RML_FIELD_ABSENT) {
        csv->names[column] = strndup(text, length);
        return;
    }
    uint64_t bit = UINT64_C(1) << field;
    if ((csv->row->filled & bit) != 0)
        rml_row_complain(csv->row, "column %s stands there twice", csv->row->names[field]);
    csv->row->filled |= bit;
}

static void on_cell(void *text, size_t length, void *context)
{
    struct rml_input_csv *csv = context;
    if (csv->ends > 0)
        return;  // behind a carriage return in the middle of the line
    uint32_t column = csv->cell++;
    if (column < csv->columns && csv->fields[column] != RML_FIELD_ABSENT)
        rml_row_put(csv->row, csv->fields[column], text, length);
}

static void on_row(int terminator, void *context)
{
    (void)terminator;
    struct rml_input_csv *csv = context;
    csv->ends++;
}

void rml_input_csv_forget(struct rml_input_csv *csv)
{
    csv_fini(&csv->parser, NULL, NULL, NULL);
    csv->since = 0;
    csv->open_bytes = 0;
    csv->cell = 0;
}

/* Hand one line to libcsv: 1 when it ends a row, 0 when it does not, -EBADMSG. */
static int feed(struct rml_input_csv *csv, const struct rml_line *line,
                void (*on_text)(void *, size_t, void *))
{
    if (csv->since == 0) {
        if (rml_line_is_blank(line))
            return 0;
        csv->since = line->number;
    }
    csv->ends = 0;
    csv->open_bytes += line->length;
    struct rml_row *row = csv->row;
    if (line->cut || csv->open_bytes > RML_LINE_MAX)
        rml_row_complain(row, "longer than %u bytes; is a quote not closed?", RML_LINE_MAX);
    else if (csv_parse(&csv->parser, line->text, line->length + 1, on_text, on_row, csv)
             != line->length + 1)
        rml_row_complain(row,
                         csv_error(&csv->parser) == CSV_EPARSE
                             ? "a quote stands in the middle of cell %u"
                             : "no memory to read cell %u",
                         csv->cell + 1);
    else if (csv->ends > 1)
        rml_row_complain(row, "a carriage return stands in the middle of the line");
    else if (csv->ends == 0)
        return 0;
    return row->err.code == 0 ? 1 : -EBADMSG;
}

/* No column for a field: say what would help. */
static int lacking(struct rml_input_csv *csv, uint32_t field, struct rml_err *err)
{
    const char *unused[COLUMNS_MAX];
    uint32_t unused_count = 0;
    for (uint32_t i = 0; i < csv->columns; i++) {
        if (csv->names[i] != NULL)
            unused[unused_count++] = csv->names[i];
    }
    const char *column = csv->row->names[field], *name = csv->row->schema->fields[field].name;
    const char *near = rml_suggest(column, strlen(column), unused, unused_count);
    if (near != NULL)
        return RML_FAIL(
            err, -EBADMSG,
            "no column %s; there is %s: give --map %s=%s if that is it, or a value with "
            "--set %s=VALUE",
            column, near, name, near, name);
    return RML_FAIL(err, -EBADMSG,
                    "no column %s: name the column with --map %s=COLUMN or give a value with --set "
                    "%s=VALUE",
                    column, name, name);
}

int rml_input_csv_header(struct rml_input_csv *csv, const struct rml_line *line,
                         struct rml_err *err)
{
    struct rml_row *row = csv->row;
    int rc = feed(csv, line, on_name);
    if (rc == 0)
        return 0;
    if (rc > 0 && csv->columns > COLUMNS_MAX)
        rml_row_complain(row, "more than %d columns", COLUMNS_MAX);
    if (row->err.code != 0)
        return RML_FAIL(err, -EBADMSG, "%s", row->err.text);
    uint64_t missing = rml_row_all(row) & ~row->filled;
    if (missing != 0)
        return lacking(csv, (uint32_t)__builtin_ctzll(missing), err);
    forget_names(csv);
    rml_input_csv_forget(csv);
    return 1;
}

int rml_input_csv_line(struct rml_input_csv *csv, const struct rml_line *line)
{
    int rc = feed(csv, line, on_cell);
    if (rc == 0)
        return 0;
    if (rc > 0 && csv->cell != csv->columns)
        rml_row_complain(csv->row, "%u cells where the header has %u", csv->cell, csv->columns);
    rml_input_csv_forget(csv);
    return rml_row_end(csv->row);
}

uint64_t rml_input_csv_open_since(const struct rml_input_csv *csv)
{
    return csv->since;
}
