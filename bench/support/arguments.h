/*
 * arguments - what the command lines of benches have in common.
 */
#ifndef RML_BENCH_ARGUMENTS_H
#define RML_BENCH_ARGUMENTS_H

#include <stdbool.h>
#include <stdint.h>

/* A whole number from 1 to `most`; 0 when the text is none. */
uint32_t bench_number(const char *text, uint32_t most);

/* "--name N", from 1 to `most`. */
struct bench_count {
    const char *name;  // with its dashes
    uint32_t *ret_value;
    uint32_t most;
};

/* Read a command line of such alone. False: it is none, and some values may be changed. */
bool bench_counts_read(int argc, char **argv, const struct bench_count *counts, uint32_t count);

#endif
