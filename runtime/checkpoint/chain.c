#include "runtime/checkpoint/chain.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/err.h"
#include "runtime/checkpoint/crc32c.h"
#include "runtime/checkpoint/disk.h"

int rml_chain_read_extent(const struct rml_chain_reader *reader, uint32_t partition,
                          const struct rml_extent *extent, void *memory, struct rml_err *err)
{
    const unsigned long long offset = extent->offset, epoch = extent->epoch;
    if (extent->bytes == 0 || extent->bytes > RML_EXTENT_BYTES_MAX
        || extent->offset % RML_DISK_BLOCK_BYTES != 0)
        return RML_FAIL(err, -EBADMSG,
                        "%.250s: partition %u: an extent of %u bytes at byte %llu, which cannot be",
                        reader->path, partition, extent->bytes, offset);
    uint32_t blocks =
        (extent->bytes + RML_DISK_BLOCK_BYTES - 1) / RML_DISK_BLOCK_BYTES * RML_DISK_BLOCK_BYTES;
    int rc = rml_disk_read(reader->fd, extent->offset, memory, blocks);
    if (rc == -ENODATA)
        return RML_FAIL(err, -EBADMSG,
                        "%.250s is damaged: it ends before byte %llu, where partition %u has %u "
                        "bytes of checkpoint %llu",
                        reader->path, offset + extent->bytes, partition, extent->bytes, epoch);
    if (rc < 0)
        return RML_FAIL(err, rc, "%.250s: cannot read %u bytes of partition %u at byte %llu: %s",
                        reader->path, extent->bytes, partition, offset, strerrordesc_np(-rc));
    if (!reader->believes && rml_crc32c(0, memory, extent->bytes) != extent->crc32c)
        return RML_FAIL(err, -EBADMSG,
                        "%.250s is damaged: the %u bytes at byte %llu, which checkpoint %llu wrote "
                        "for partition %u, are not what was written",
                        reader->path, extent->bytes, offset, epoch, partition);
    return 0;
}

int rml_chain_read(const struct rml_chain_reader *reader, const struct rml_manifest_part *part,
                   struct rml_err *err)
{
    void *memory = aligned_alloc(RML_DISK_BLOCK_BYTES, RML_EXTENT_BYTES_MAX);
    if (memory == NULL)
        return RML_FAIL(err, -ENOMEM, "no memory to read extents");
    int rc = 0;
    for (uint32_t i = 0; i < part->extent_count && rc == 0; i++) {
        rc = rml_chain_read_extent(reader, part->partition, &part->extents[i], memory, err);
        if (rc == 0 && reader->each != NULL)
            rc = reader->each(reader->context, &part->extents[i], memory);
    }
    free(memory);
    return rc;
}
