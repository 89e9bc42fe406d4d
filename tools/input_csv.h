/*
 * input_csv - comma-separated values, fed to libcsv a line at a time so that each row has a number.
 */
#ifndef RML_TOOLS_INPUT_CSV_H
#define RML_TOOLS_INPUT_CSV_H

#include <stdint.h>

struct rml_err;
struct rml_input_csv;
struct rml_line;
struct rml_row;

/* 0, or -ENOMEM. The row stays the caller's, and is where records are filled. */
int rml_input_csv_open(struct rml_input_csv **ret_csv, struct rml_row *row, struct rml_err *err);
void rml_input_csv_close(struct rml_input_csv *csv);

/* One more line of the header: 1 when the header is complete, 0 when it goes on or the line is blank;
 * -EBADMSG with a sentence, also when a field has no column. */
int rml_input_csv_header(struct rml_input_csv *csv, const struct rml_line *line,
                         struct rml_err *err);

/* One more line, the row being begun by the caller: 1 when it completes a record, 0 when it is blank
 * or ends inside a quoted cell, -EBADMSG with the complaint in row->err. */
int rml_input_csv_line(struct rml_input_csv *csv, const struct rml_line *line);

/* The line on which a record began that has not ended; 0: there is none. */
uint64_t rml_input_csv_open_since(const struct rml_input_csv *csv);

/* Give that record up: the next line begins another. */
void rml_input_csv_forget(struct rml_input_csv *csv);

#endif
