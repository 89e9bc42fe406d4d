/*
 * raw - what it costs a disk to take so many bytes: the reference for checkpoints.
 *
 * They go through the page cache into a file whose space was written before, and are flushed once. One
 * thread.
 */
#ifndef RML_BENCH_RAW_H
#define RML_BENCH_RAW_H

#include <stddef.h>

struct bench_raw {
    int fd;  // -1: closed
    unsigned char *bytes;
    size_t count;
    char path[256];
};

#define BENCH_RAW_CLOSED ((struct bench_raw){.fd = -1})

/* A file at `path`, and `count` bytes to write into it that no disk can make smaller. Negative errno. */
int bench_raw_open(struct bench_raw *raw, const char *path, size_t count);
void bench_raw_close(struct bench_raw *raw);  // and removes the file

/* Write the first `count` of them again, and flush. Tells how many milliseconds that took; negative errno. */
int bench_raw_write(const struct bench_raw *raw, size_t count, double *ret_ms);

#endif
