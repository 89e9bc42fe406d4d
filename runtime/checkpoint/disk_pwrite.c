/*
 * The ways without a ring: a write is over when it has been sent, and only its result waits.
 */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "runtime/base/check.h"
#include "runtime/checkpoint/disk.h"

struct results {
    struct rml_disk_done list[RML_DISK_DEPTH];
    uint32_t count;
};

static int start(struct rml_disk *disk)
{
    disk->own = calloc(1, sizeof(struct results));
    return disk->own != NULL ? 0 : -ENOMEM;
}

static void stop(struct rml_disk *disk)
{
    free(disk->own);
}

static int submit(struct rml_disk *disk, const struct rml_disk_write *write)
{
    struct results *results = disk->own;
    RML_CHECK(results->count < RML_DISK_DEPTH);
    const unsigned char *from = rml_disk_memory(disk, (int)write->buffer) + write->from;
    ssize_t put = pwrite(disk->fd, from, write->bytes, (off_t)write->offset);
    results->list[results->count++] =
        (struct rml_disk_done){.buffer = write->buffer, .result = put < 0 ? -errno : (int)put};
    return 0;
}

static int reap(struct rml_disk *disk, struct rml_disk_done *ret_done)
{
    struct results *results = disk->own;
    RML_CHECK(results->count > 0);
    *ret_done = results->list[--results->count];
    return 0;
}

static int flush(struct rml_disk *disk)
{
    int rc;
    do
        rc = fdatasync(disk->fd) == 0 ? 0 : -errno;
    while (rc == -EINTR);
    return rc;
}

const struct rml_disk_way rml_disk_way_pwrite = {
    .name = "pwrite",
    .is_direct = true,
    .start = start,
    .stop = stop,
    .submit = submit,
    .reap = reap,
    .flush = flush,
};

const struct rml_disk_way rml_disk_way_buffered = {
    .name = "buffered",
    .start = start,
    .stop = stop,
    .submit = submit,
    .reap = reap,
    .flush = flush,
};
