/*
 * The way through a ring of the kernel's: registered file, registered buffers.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#include <liburing.h>

#include "runtime/base/check.h"
#include "runtime/checkpoint/disk.h"

#define FILE_INDEX 0
#define FLUSH_MARK UINT64_C(0xffffffff)

/*
 * An older kernel says EINVAL to a flag that it does not know, and the ring works without. A ring
 * of a single issuer would be bound to the thread that opens it, and recovery and checkpoints
 * run on two.
 */
static int set_up(struct io_uring *ring)
{
    static const unsigned flags[] = {IORING_SETUP_COOP_TASKRUN | IORING_SETUP_CLAMP, 0};
    int rc = -EINVAL;
    for (uint32_t i = 0; i < sizeof flags / sizeof flags[0] && rc == -EINVAL; i++) {
        struct io_uring_params params = {.flags = flags[i]};
        rc = io_uring_queue_init_params(RML_DISK_DEPTH, ring, &params);
    }
    return rc;
}

static int start(struct rml_disk *disk)
{
    struct io_uring *ring = calloc(1, sizeof *ring);
    if (ring == NULL)
        return -ENOMEM;
    int rc = set_up(ring);
    if (rc < 0) {
        free(ring);
        return rc;
    }
    struct iovec buffers[RML_DISK_DEPTH];
    for (uint32_t i = 0; i < RML_DISK_DEPTH; i++)
        buffers[i] = (struct iovec){rml_disk_memory(disk, (int)i), RML_DISK_WRITE_BYTES};
    rc = io_uring_register_buffers(ring, buffers, RML_DISK_DEPTH);
    if (rc == 0)
        rc = io_uring_register_files(ring, &disk->fd, 1);
    if (rc < 0) {
        io_uring_queue_exit(ring);
        free(ring);
        return rc;
    }
    disk->own = ring;
    return 0;
}

static void stop(struct rml_disk *disk)
{
    io_uring_queue_exit(disk->own);
    free(disk->own);
}

static int send_one(struct io_uring *ring)
{
    int rc;
    do
        rc = io_uring_submit(ring);
    while (rc == -EINTR);
    return rc < 0 ? rc : rc == 1 ? 0 : -EIO;
}

static int submit(struct rml_disk *disk, const struct rml_disk_write *write)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(disk->own);
    RML_CHECK(sqe != NULL);  // as many as buffers
    io_uring_prep_write_fixed(sqe, FILE_INDEX,
                              rml_disk_memory(disk, (int)write->buffer) + write->from, write->bytes,
                              write->offset, (int)write->buffer);
    sqe->flags |= IOSQE_FIXED_FILE;
    sqe->user_data = write->buffer;
    return send_one(disk->own);
}

static int wait_one(struct io_uring *ring, uint64_t *ret_mark, int *ret_result)
{
    struct io_uring_cqe *cqe;
    int rc;
    do
        rc = io_uring_wait_cqe(ring, &cqe);
    while (rc == -EINTR);
    if (rc < 0)
        return rc;
    *ret_mark = cqe->user_data;
    *ret_result = cqe->res;
    io_uring_cqe_seen(ring, cqe);
    return 0;
}

static int reap(struct rml_disk *disk, struct rml_disk_done *ret_done)
{
    uint64_t mark;
    int rc = wait_one(disk->own, &mark, &ret_done->result);
    ret_done->buffer = (uint32_t)mark;
    return rc;
}

static int flush(struct rml_disk *disk)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(disk->own);
    RML_CHECK(sqe != NULL);
    io_uring_prep_fsync(sqe, FILE_INDEX, IORING_FSYNC_DATASYNC);
    sqe->flags |= IOSQE_FIXED_FILE;
    sqe->user_data = FLUSH_MARK;
    int rc = send_one(disk->own), result = 0;
    if (rc == 0) {
        uint64_t mark;
        rc = wait_one(disk->own, &mark, &result);
        RML_CHECK(rc < 0 || mark == FLUSH_MARK);
    }
    if (rc < 0)  // its completion may come yet, and must not be taken for a write's
        disk->is_broken = true;
    return rc < 0 ? rc : result;
}

const struct rml_disk_way rml_disk_way_io_uring = {
    .name = "io_uring",
    .is_direct = true,
    .start = start,
    .stop = stop,
    .submit = submit,
    .reap = reap,
    .flush = flush,
};
