/*
 * wrap - text for people, broken into lines of at most RML_WRAP_COLUMNS columns.
 */
#ifndef RML_TOOLS_WRAP_H
#define RML_TOOLS_WRAP_H

#include <stdint.h>
#include <stdio.h>

#define RML_WRAP_COLUMNS 79u

/*
 * Print `text`, whose first line goes on behind `first` columns that are there already, and whose further lines are
 * indented by `indent`, and end the last line. Lines end at blanks, but for those within square brackets; a word longer
 * than a line has one of its own. One byte is a column.
 */
void rml_wrap(FILE *out, uint32_t first, uint32_t indent, const char *text);

#endif
