/*
 * lines - a file or standard input, a line at a time, with its number.
 */
#ifndef RML_TOOLS_LINES_H
#define RML_TOOLS_LINES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct rml_err;
struct rml_lines;

#define RML_LINE_MAX \
 (1u << 20)  // bytes of one line; what is longer is no line of a table of events

struct rml_line {
    /* `length` bytes without the line feed; text[length] is always a line feed, also where the file's
     * last line has none. The memory is good until the next call. */
    const char *text;
    size_t length;
    uint64_t number;  // from 1
    bool cut;         // longer than RML_LINE_MAX: `text` is its beginning, the rest was skipped
};

/* Open the file at `path`, "-": standard input. 0, or a negative errno with a sentence. */
int rml_lines_open(struct rml_lines **ret_lines, const char *path, struct rml_err *err);
void rml_lines_close(struct rml_lines *lines);

/* 1 and the next line; 0 at the end; a negative errno with a sentence when reading fails. A byte order
 * mark before the first line is left out. */
int rml_lines_next(struct rml_lines *lines, struct rml_line *line, struct rml_err *err);

/* Nothing but blanks and a carriage return? */
bool rml_line_is_blank(const struct rml_line *line);

/* Bytes read so far, and of the whole file; the latter is 0 where that cannot be known (a pipe). */
uint64_t rml_lines_bytes(const struct rml_lines *lines);
uint64_t rml_lines_size(const struct rml_lines *lines);

#endif
