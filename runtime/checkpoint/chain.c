#include "runtime/checkpoint/chain.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/err.h"
#include "runtime/checkpoint/ahead.h"
#include "runtime/checkpoint/crc32c.h"
#include "runtime/checkpoint/disk.h"

#define AHEAD_FROM 8u  // extents; for fewer starting threads is not worth while

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

/* An extent, and whose it is. */
struct place {
    uint32_t partition;
    const struct rml_extent *extent;
};

// A part's extents in the order in which they are read; how many there are.
static uint32_t put_in_order(const struct rml_manifest_part *part, bool newest_first,
                             struct place *order)
{
    uint32_t put = 0;
    for (uint32_t end = part->extent_count; end > 0;) {
        uint32_t from = newest_first ? end - 1 : 0;
        while (from > 0 && part->extents[from - 1].epoch == part->extents[end - 1].epoch)
            from--;
        for (uint32_t i = from; i < end; i++)
            order[put++] = (struct place){part->partition, &part->extents[i]};
        end = from;
    }
    return put;
}

struct reading {
    const struct rml_chain_reader *reader;
    struct place *order;
    uint32_t count;
};

static int read_one(void *context, uint32_t index, void *memory, struct rml_err *err)
{
    const struct reading *r = context;
    const struct place *place = &r->order[index];
    return rml_chain_read_extent(r->reader, place->partition, place->extent, memory, err);
}

static int give(const struct reading *r, uint32_t index, const void *bytes)
{
    const struct place *place = &r->order[index];
    return r->reader->each != NULL
               ? r->reader->each(r->reader->context, place->partition, place->extent, bytes)
               : 0;
}

static int read_alone(struct reading *r, struct rml_err *err)
{
    void *memory = aligned_alloc(RML_DISK_BLOCK_BYTES, RML_EXTENT_BYTES_MAX);
    int rc = memory != NULL ? 0 : RML_FAIL(err, -ENOMEM, "no memory to read extents");
    for (uint32_t i = 0; i < r->count && rc == 0; i++) {
        rc = read_one(r, i, memory, err);
        if (rc == 0)
            rc = give(r, i, memory);
    }
    free(memory);
    return rc;
}

static int read_ahead(struct reading *r, struct rml_err *err)
{
    const struct rml_ahead_options options = {
        .count = r->count, .bytes = RML_EXTENT_BYTES_MAX, .read = read_one, .context = r};
    struct rml_ahead *ahead;
    int rc = rml_ahead_open(&ahead, &options, err);
    if (rc < 0)
        return rc;
    for (uint32_t i = 0; i < r->count && rc == 0; i++) {
        void *memory;
        rc = rml_ahead_next(ahead, &memory, err);
        if (rc == 0)
            rc = give(r, i, memory);
    }
    rml_ahead_close(ahead);
    return rc;
}

int rml_chain_read(const struct rml_chain_reader *reader, const struct rml_manifest_part *parts,
                   uint32_t part_count, struct rml_err *err)
{
    size_t room = 1;
    for (uint32_t i = 0; i < part_count; i++)
        room += parts[i].extent_count;
    struct reading r = {.reader = reader, .order = malloc(room * sizeof *r.order)};
    if (r.order == NULL)
        return RML_FAIL(err, -ENOMEM, "no memory to read extents");
    for (uint32_t i = 0; i < part_count; i++)
        r.count += put_in_order(&parts[i], reader->newest_first, r.order + r.count);
    int rc = r.count < AHEAD_FROM ? read_alone(&r, err) : read_ahead(&r, err);
    free(r.order);
    return rc;
}
