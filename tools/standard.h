/*
 * standard - a program's descriptors 0, 1 and 2: they are there, and what was printed got where it should.
 */
#ifndef RML_TOOLS_STANDARD_H
#define RML_TOOLS_STANDARD_H

#include <stdbool.h>

/*
 * To be called first. A program may be started with any of the three closed, and then the next files
 * and sockets that it opens would get their numbers, and what it prints would go into those. Each that
 * is closed gets a stand-in instead, by which nothing can be read, or written: printing goes on to fail.
 */
void rml_standard_open(void);

/* Flush standard output; whether all that was ever printed to it has been written. One thread at a time. */
bool rml_standard_is_written(void);

/* To be called last: `code`, or RML_EXIT_FAILED in the place of RML_EXIT_OK where standard output lacks
 * something, which is said in the name of `program`. */
int rml_standard_end(const char *program, int code);

#endif
