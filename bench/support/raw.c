#include "bench/support/raw.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/support/pair.h"
#include "runtime/base/check.h"

#define WRITE_BYTES ((size_t)1 << 20)

static void fill(unsigned char *bytes, size_t count)
{
    uint64_t word = 1;
    for (size_t at = 0; at + sizeof word <= count; at += sizeof word) {
        word = word * UINT64_C(6364136223846793005) + 1442695040888963407;
        memcpy(bytes + at, &word, sizeof word);
    }
}

int bench_raw_open(struct bench_raw *raw, const char *path, size_t count)
{
    *raw = BENCH_RAW_CLOSED;
    raw->count = count;
    raw->bytes = malloc(count);
    if (raw->bytes == NULL)
        return -ENOMEM;
    fill(raw->bytes, count);
    snprintf(raw->path, sizeof raw->path, "%s", path);
    raw->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (raw->fd < 0)
        return -errno;
    double ms;
    return bench_raw_write(raw, count, &ms);
}

void bench_raw_close(struct bench_raw *raw)
{
    free(raw->bytes);
    if (raw->fd >= 0) {
        close(raw->fd);
        unlink(raw->path);
    }
    *raw = BENCH_RAW_CLOSED;
}

int bench_raw_write(const struct bench_raw *raw, size_t count, double *ret_ms)
{
    RML_CHECK(count <= raw->count);
    int64_t since_ns = bench_now_ns();
    for (size_t at = 0; at < count;) {
        size_t part = count - at < WRITE_BYTES ? count - at : WRITE_BYTES;
        ssize_t put = pwrite(raw->fd, raw->bytes + at, part, (off_t)at);
        if (put < 0 && errno != EINTR)
            return -errno;
        at += put > 0 ? (size_t)put : 0;
    }
    if (fdatasync(raw->fd) < 0)
        return -errno;
    *ret_ms = (double)(bench_now_ns() - since_ns) / 1e6;
    return 0;
}
