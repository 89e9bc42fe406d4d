/*
 * table - columns that line up, for people; libsmartcols draws them.
 */
#ifndef RML_TOOLS_TABLE_H
#define RML_TOOLS_TABLE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct libscols_line;
struct libscols_table;

struct rml_table {
    struct libscols_table *table;
    struct libscols_line *line;  // the last row
    size_t at;                   // its next cell
    bool failed;                 // there was no memory
};

/* A column for each of `count` names; those of numbers, whose names begin with '>', line up at their
 * right. What fails for want of memory is remembered and said by rml_table_end. */
void rml_table_begin(struct rml_table *table, const char *const *columns, uint32_t count);

/* A new row, then its cells from left to right. */
void rml_table_row(struct rml_table *table);
__attribute__((format(printf, 2, 3))) void rml_table_cell(struct rml_table *table,
                                                          const char *format, ...);
void rml_table_number(struct rml_table *table, uint64_t value);

/* Print it, if it has rows, and free it. 0 or -ENOMEM. */
int rml_table_end(struct rml_table *table, FILE *out);

#endif
