#include "tools/table.h"

#include <errno.h>
#include <inttypes.h>
#include <libsmartcols.h>
#include <stdarg.h>

#define CELL_BYTES 512

void rml_table_begin(struct rml_table *table, const char *const *columns, uint32_t count)
{
    *table = (struct rml_table){.table = scols_new_table()};
    table->failed = table->table == NULL;
    for (uint32_t i = 0; !table->failed && i < count; i++) {
        bool right = columns[i][0] == '>';
        table->failed =
            scols_table_new_column(table->table, columns[i] + right, 0, right ? SCOLS_FL_RIGHT : 0)
            == NULL;
    }
}

void rml_table_row(struct rml_table *table)
{
    if (table->failed)
        return;
    table->line = scols_table_new_line(table->table, NULL);
    table->at = 0;
    table->failed = table->line == NULL;
}

void rml_table_cell(struct rml_table *table, const char *format, ...)
{
    if (table->failed)
        return;
    char text[CELL_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    table->failed = scols_line_set_data(table->line, table->at++, text) != 0;
}

void rml_table_number(struct rml_table *table, uint64_t value)
{
    rml_table_cell(table, "%" PRIu64, value);
}

int rml_table_end(struct rml_table *table, FILE *out)
{
    if (!table->failed) {
        scols_table_set_stream(table->table, out);
        table->failed = scols_print_table(table->table) != 0;
    }
    scols_unref_table(table->table);
    return table->failed ? -ENOMEM : 0;
}
