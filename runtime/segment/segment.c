#include "runtime/segment/segment.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/check.h"
#include "runtime/base/err.h"
#include "runtime/base/machine.h"

#define SEALS_SIZE (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

// A memfd with its room reserved: writing to it later cannot fail for want of memory.
static int segment_reserve(struct rml_segment *segment, const char *name, size_t bytes,
                           struct rml_err *err)
{
    *segment = RML_SEGMENT_CLOSED;
    if (bytes == 0)
        return RML_FAIL(err, -EINVAL, "a segment of 0 bytes");
    // Reserving more than there is would not fail but bring the kernel's out-of-memory killer.
    uint64_t memory_bytes = rml_machine_memory();
    if (bytes > memory_bytes / 2)
        return RML_FAIL(err, -ENOMEM, "%zu bytes of shared memory on a machine with %" PRIu64,
                        bytes, memory_bytes);

    segment->fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (segment->fd < 0) {
        int rc = -errno;
        return RML_FAIL(err, rc, "memfd_create: %s", strerrordesc_np(-rc));
    }
    int rc;
    do
        rc = fallocate(segment->fd, 0, 0, (off_t)bytes) == 0 ? 0 : -errno;
    while (rc == -EINTR);
    if (rc < 0)
        return RML_FAIL(err, rc, "no room for %zu bytes of shared memory: %s", bytes,
                        strerrordesc_np(-rc));
    segment->bytes = bytes;
    return 0;
}

static int segment_map(struct rml_segment *segment, int fd, int protection, struct rml_err *err)
{
    void *memory = mmap(NULL, segment->bytes, protection, MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED) {
        int rc = -errno;
        return RML_FAIL(err, rc, "mmap of %zu bytes: %s", segment->bytes, strerrordesc_np(-rc));
    }
    // records and results are for those who may read them, and not for whoever gets to see a core
    (void)madvise(memory, segment->bytes, MADV_DONTDUMP);
    segment->memory = memory;
    return 0;
}

static int segment_seal(const struct rml_segment *segment, int seals, struct rml_err *err)
{
    if (fcntl(segment->fd, F_ADD_SEALS, seals) == 0)
        return 0;
    int rc = -errno;
    return RML_FAIL(err, rc, "sealing shared memory (needs Linux 5.1): %s", strerrordesc_np(-rc));
}

int rml_segment_open_theirs(struct rml_segment *segment, const char *name, size_t bytes,
                            struct rml_err *err)
{
    int rc = segment_reserve(segment, name, bytes, err);
    if (rc == 0)
        rc = segment_seal(segment, SEALS_SIZE, err);
    if (rc == 0)
        rc = segment_map(segment, segment->fd, PROT_READ, err);
    if (rc < 0)
        rml_segment_close(segment);
    return rc;
}

int rml_segment_make_ours(struct rml_segment *segment, const char *name, size_t bytes,
                          struct rml_err *err)
{
    int rc = segment_reserve(segment, name, bytes, err);
    if (rc == 0)
        rc = segment_map(segment, segment->fd, PROT_READ | PROT_WRITE, err);
    if (rc < 0)
        rml_segment_close(segment);
    return rc;
}

int rml_segment_seal_ours(const struct rml_segment *segment, struct rml_err *err)
{
    const int seals = SEALS_SIZE | F_SEAL_FUTURE_WRITE;
    // our mappings stay writable, and there will be no further one
    return (fcntl(segment->fd, F_GET_SEALS) & seals) == seals ? 0
                                                              : segment_seal(segment, seals, err);
}

int rml_segment_open_ours(struct rml_segment *segment, const char *name, size_t bytes,
                          struct rml_err *err)
{
    int rc = rml_segment_make_ours(segment, name, bytes, err);
    if (rc == 0)
        rc = rml_segment_seal_ours(segment, err);
    if (rc < 0)
        rml_segment_close(segment);
    return rc;
}

int rml_segment_again_theirs(struct rml_segment *segment, int fd, size_t bytes, struct rml_err *err)
{
    int rc = rml_segment_attach(segment, fd, bytes, false, err);
    if (rc == 0)
        segment->fd = fd;
    return rc;
}

int rml_segment_attach(struct rml_segment *segment, int fd, size_t bytes, bool writable,
                       struct rml_err *err)
{
    *segment = RML_SEGMENT_CLOSED;
    int seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0)
        return RML_FAIL(err, -EPROTO, "the descriptor is not a sealed memfd");
    if ((seals & F_SEAL_SHRINK) == 0)
        return RML_FAIL(err, -EPROTO, "the memfd could still shrink below us");
    struct stat status;  // after the seal was seen, so that the size is final
    if (fstat(fd, &status) < 0) {
        int rc = -errno;
        return RML_FAIL(err, rc, "fstat: %s", strerrordesc_np(-rc));
    }
    if (bytes == 0 || status.st_size < 0 || (size_t)status.st_size != bytes)
        return RML_FAIL(err, -EPROTO, "the memfd has %lld bytes and should have %zu",
                        (long long)status.st_size, bytes);

    segment->bytes = bytes;
    int rc = segment_map(segment, fd, writable ? PROT_READ | PROT_WRITE : PROT_READ, err);
    if (rc < 0)
        *segment = RML_SEGMENT_CLOSED;
    return rc;
}

void rml_segment_close(struct rml_segment *segment)
{
    if (segment->memory != NULL)
        RML_CHECK(munmap(segment->memory, segment->bytes) == 0);
    if (segment->fd >= 0)
        close(segment->fd);
    *segment = RML_SEGMENT_CLOSED;
}
