#include "runtime/checkpoint/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "runtime/base/check.h"
#include "runtime/base/err.h"
#include "runtime/checkpoint/large.h"

#define LOCK_PAUSE_NS INT64_C(1000000)
#define TRIES_MAX     100u
#define BUFFERS_BYTES ((size_t)RML_DISK_DEPTH * RML_DISK_WRITE_BYTES)

const struct rml_disk_way *const rml_disk_ways[] = {&rml_disk_way_io_uring, &rml_disk_way_pwrite,
                                                    &rml_disk_way_buffered, NULL};

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

// Of the open file, not of the process: the ring's reference to the file holds it too.
static int lock_file(const struct rml_disk *disk, const char *path, int64_t wait_ns,
                     struct rml_err *err)
{
    int64_t until = now_ns() + wait_ns;
    while (flock(disk->fd, LOCK_EX | LOCK_NB) < 0) {
        if (errno != EWOULDBLOCK && errno != EINTR)
            return RML_FAIL(err, -errno, "cannot lock %.300s: %s", path, strerrordesc_np(errno));
        if (now_ns() >= until)
            return RML_FAIL(err, -EBUSY,
                            "%.300s is in use by another process, or by the last writes of one "
                            "that was killed: end that one, or wait",
                            path);
        nanosleep(&(struct timespec){.tv_nsec = LOCK_PAUSE_NS}, NULL);
    }
    return 0;
}

// Some file systems take O_DIRECT and want more of it than blocks of ours.
static bool takes_our_blocks(int fd)
{
    struct statx about;
    if (statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &about) < 0
        || (about.stx_mask & STATX_DIOALIGN) == 0)
        return true;  // a kernel before 6.1 cannot say
    return about.stx_dio_offset_align > 0 && RML_DISK_BLOCK_BYTES % about.stx_dio_offset_align == 0
           && RML_DISK_BLOCK_BYTES % about.stx_dio_mem_align == 0;
}

static int open_file(struct rml_disk *disk, const char *path, bool *ret_is_direct,
                     struct rml_err *err)
{
    const int flags = O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW;
    disk->fd = open(path, flags | O_DIRECT, 0600);
    *ret_is_direct = disk->fd >= 0;
    if (disk->fd < 0 && errno == EINVAL)
        disk->fd = open(path, flags, 0600);
    if (disk->fd < 0)
        return RML_FAIL(err, -errno, "cannot open %.300s: %s", path, strerrordesc_np(errno));
    if (*ret_is_direct && !takes_our_blocks(disk->fd)) {
        if (fcntl(disk->fd, F_SETFL, 0) < 0)
            return RML_FAIL(err, -errno, "%.300s: %s", path, strerrordesc_np(errno));
        *ret_is_direct = false;
    }
    if (!*ret_is_direct)
        snprintf(disk->why_not, sizeof disk->why_not,
                 "the file system takes no O_DIRECT of %u bytes", RML_DISK_BLOCK_BYTES);
    return 0;
}

static int start_a_way(struct rml_disk *disk, const struct rml_disk_way *const *ways,
                       bool file_is_direct, const char *path, struct rml_err *err)
{
    int rc = -EOPNOTSUPP;
    for (; *ways != NULL; ways++) {
        bool is_direct = (*ways)->is_direct;
        if (is_direct && !file_is_direct)
            continue;
        if (!is_direct && file_is_direct && fcntl(disk->fd, F_SETFL, 0) < 0)
            return RML_FAIL(err, -errno, "%.300s: %s", path, strerrordesc_np(errno));
        file_is_direct = is_direct;
        disk->way = *ways;
        rc = disk->way->start(disk);
        if (rc == 0)
            return 0;
        snprintf(disk->why_not, sizeof disk->why_not, "%s: %s", disk->way->name,
                 strerrordesc_np(-rc));
        disk->way = NULL;
    }
    return RML_FAIL(err, rc, "%.300s: no way to write it: %s", path, disk->why_not);
}

int rml_disk_open(struct rml_disk *disk, const char *path, const struct rml_disk_options *options,
                  struct rml_err *err)
{
    *disk = RML_DISK_CLOSED;
    bool is_direct;
    int rc = open_file(disk, path, &is_direct, err);
    if (rc == 0)
        rc = lock_file(disk, path, options->lock_wait_ns, err);
    if (rc == 0) {
        disk->buffers = rml_large_open(BUFFERS_BYTES);
        if (disk->buffers == NULL)
            rc = RML_FAIL(err, -ENOMEM, "no memory for buffers of writes");
        else  // what pads a write is no stranger's memory
            memset(disk->buffers, 0, BUFFERS_BYTES);
    }
    if (rc == 0)
        rc = start_a_way(disk, options->ways != NULL ? options->ways : rml_disk_ways, is_direct,
                         path, err);
    if (rc < 0)
        rml_disk_close(disk);
    return rc;
}

void rml_disk_close(struct rml_disk *disk)
{
    if (disk->fd < 0)
        return;
    if (disk->way != NULL) {
        rml_disk_settle(disk);
        disk->way->stop(disk);
    }
    rml_large_close(disk->buffers, BUFFERS_BYTES);
    // The kernel takes a ring apart when it has time, and would hold the lock until then.
    if (!disk->is_broken)
        flock(disk->fd, LOCK_UN);
    close(disk->fd);
    *disk = RML_DISK_CLOSED;
}

static int stay(struct rml_disk *disk, int error)
{
    if (disk->error == 0)
        disk->error = error;
    return disk->error;
}

static void submit(struct rml_disk *disk, const struct rml_disk_write *write)
{
    if (disk->is_broken) {
        stay(disk, -EIO);
        return;
    }
    int rc = disk->way->submit(disk, write);
    if (rc < 0) {
        disk->is_broken = true;
        stay(disk, rc);
        return;
    }
    disk->under_way[write->buffer] = *write;
    disk->under_way_count++;
}

/*
 * What a result means for the rest of its write. A write that was cut within a block goes on from that
 * block's start: the same bytes again, and an offset that O_DIRECT takes.
 */
static void take_result(struct rml_disk *disk, const struct rml_disk_done *done)
{
    struct rml_disk_write *write = &disk->under_way[done->buffer];
    struct rml_disk_write rest = *write;
    write->bytes = 0;
    disk->under_way_count--;
    bool try_again = done->result == -EINTR || done->result == -EAGAIN;
    if (done->result < 0 && !try_again) {
        stay(disk, done->result);
        return;
    }
    if (done->result >= 0 && (uint32_t)done->result >= rest.bytes)
        return;
    uint32_t arrived = try_again ? 0 : (uint32_t)done->result & ~(RML_DISK_BLOCK_BYTES - 1);
    uint32_t *tries = &disk->tries[done->buffer];
    *tries = arrived > 0 ? 0 : *tries + 1;
    if (*tries == TRIES_MAX) {
        stay(disk, -EIO);
        return;
    }
    rest.offset += arrived;
    rest.from += arrived;
    rest.bytes -= arrived;
    if (disk->error == 0)
        submit(disk, &rest);
}

static void reap_one(struct rml_disk *disk)
{
    struct rml_disk_done done;
    int rc = disk->way->reap(disk, &done);
    if (rc == 0) {
        RML_CHECK(done.buffer < RML_DISK_DEPTH && disk->under_way[done.buffer].bytes > 0);
        take_result(disk, &done);
        return;
    }
    // Nobody knows what is still under way: neither the buffers nor the ring are used again.
    disk->is_broken = true;
    disk->under_way_count = 0;
    stay(disk, rc);
}

static int free_buffer(const struct rml_disk *disk)
{
    for (int i = 0; i < (int)RML_DISK_DEPTH; i++)
        if (disk->under_way[i].bytes == 0)
            return i;
    return -1;
}

int rml_disk_buffer(struct rml_disk *disk)
{
    int buffer = free_buffer(disk);
    while (buffer < 0 && disk->error == 0) {
        reap_one(disk);
        buffer = free_buffer(disk);
    }
    return disk->error != 0 ? disk->error : buffer;
}

int rml_disk_write(struct rml_disk *disk, int buffer, uint64_t offset, uint32_t bytes)
{
    RML_CHECK(buffer >= 0 && disk->under_way[buffer].bytes == 0);
    RML_CHECK(bytes > 0 && bytes <= RML_DISK_WRITE_BYTES);
    RML_CHECK((offset | bytes) % RML_DISK_BLOCK_BYTES == 0);
    if (disk->error != 0)
        return disk->error;
    disk->tries[buffer] = 0;
    submit(disk,
           &(struct rml_disk_write){.offset = offset, .buffer = (uint32_t)buffer, .bytes = bytes});
    return disk->error;
}

int rml_disk_drain(struct rml_disk *disk)
{
    while (disk->under_way_count > 0)
        reap_one(disk);
    return disk->error;
}

int rml_disk_flush(struct rml_disk *disk)
{
    int rc = rml_disk_drain(disk);
    if (rc == 0)
        rc = disk->is_broken ? -EIO : disk->way->flush(disk);
    return rc < 0 ? stay(disk, rc) : 0;
}

int rml_disk_settle(struct rml_disk *disk)
{
    int error = rml_disk_drain(disk);
    disk->error = 0;
    return error;
}

int rml_disk_read(int fd, uint64_t offset, void *into, uint32_t bytes)
{
    for (uint32_t at = 0; at < bytes;) {
        ssize_t got = pread(fd, (char *)into + at, bytes - at, (off_t)(offset + at));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -errno;
        uint32_t arrived = (uint32_t)got & ~(RML_DISK_BLOCK_BYTES - 1);
        if (arrived == 0)
            return -ENODATA;
        at += arrived;
    }
    return 0;
}

int rml_disk_open_reading(const char *path)
{
    const int flags = O_RDONLY | O_CLOEXEC | O_NOFOLLOW;
    int fd = open(path, flags | O_DIRECT);
    if (fd < 0 && errno == EINVAL)
        fd = open(path, flags);
    if (fd < 0)
        return -errno;
    if (!takes_our_blocks(fd))
        fcntl(fd, F_SETFL, 0);
    return fd;
}

int rml_disk_flush_folder(const char *folder, struct rml_err *err)
{
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    int rc = fd < 0 || fsync(fd) < 0 ? -errno : 0;
    if (fd >= 0)
        close(fd);
    return rc == 0 ? 0 : RML_FAIL(err, rc, "cannot flush %.300s: %s", folder, strerrordesc_np(-rc));
}
