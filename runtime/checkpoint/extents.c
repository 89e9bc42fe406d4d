#include "runtime/checkpoint/extents.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/check.h"
#include "runtime/base/err.h"

enum granule { GRANULE_FREE, GRANULE_HELD, GRANULE_NEEDED, GRANULE_LOST, GRANULE_HEADER };

static uint64_t granules_of(uint64_t bytes)
{
    return bytes / RML_EXTENT_GRANULE_BYTES + (bytes % RML_EXTENT_GRANULE_BYTES != 0);
}

static int make_room(struct rml_extents *extents, uint64_t count)
{
    unsigned char *granules = realloc(extents->granules, count);
    if (granules == NULL)
        return -ENOMEM;
    extents->granules = granules;
    return 0;
}

int rml_extents_open(struct rml_extents *extents, struct rml_disk *disk,
                     const struct rml_extents_options *options, uint64_t written_bytes)
{
    *extents = (struct rml_extents){.disk = disk, .options = *options};
    uint64_t count = written_bytes / RML_EXTENT_GRANULE_BYTES;
    if (count == 0)
        count = 1;
    int rc = make_room(extents, count);
    if (rc < 0)
        return rc;
    memset(extents->granules, GRANULE_FREE, count);
    extents->granules[0] = GRANULE_HEADER;
    extents->count = count;
    return 0;
}

void rml_extents_close(struct rml_extents *extents)
{
    free(extents->granules);
    *extents = (struct rml_extents){0};
}

static int write_zeros(struct rml_extents *extents, uint64_t from, uint64_t to)
{
    struct rml_disk *disk = extents->disk;
    for (uint64_t granule = from; granule < to; granule++) {
        int buffer = rml_disk_buffer(disk);
        if (buffer < 0)
            return buffer;
        memset(rml_disk_memory(disk, buffer), 0, RML_EXTENT_GRANULE_BYTES);
        int rc = rml_disk_write(disk, buffer, granule * RML_EXTENT_GRANULE_BYTES,
                                RML_EXTENT_GRANULE_BYTES);
        if (rc < 0)
            return rc;
        if (extents->options.progress != NULL)
            extents->options.progress(extents->options.progress_context,
                                      (granule + 1) * RML_EXTENT_GRANULE_BYTES,
                                      to * RML_EXTENT_GRANULE_BYTES);
    }
    return rml_disk_drain(disk);
}

static uint64_t limit_count(const struct rml_extents *extents)
{
    uint64_t limit = extents->options.limit_bytes;
    return limit == 0 ? INT64_MAX / RML_EXTENT_GRANULE_BYTES : limit / RML_EXTENT_GRANULE_BYTES;
}

/*
 * What the checkpoint has under way arrives first, so that an error after it is of growing alone. A full
 * disk takes nothing away: the error is forgotten and the same place tried again once there is room.
 * After any other nobody knows what the file holds, and the place is passed over.
 */
static int grow(struct rml_extents *extents, uint64_t count, struct rml_err *err)
{
    uint64_t limit = limit_count(extents);
    uint64_t step = granules_of(extents->options.step_bytes);
    uint64_t to = count - extents->count < step ? extents->count + step : count;
    if (to > limit)
        to = limit;
    if (to < count)
        return RML_FAIL(err, -ENOSPC, "the extent file may not grow past %" PRIu64 " bytes",
                        limit * RML_EXTENT_GRANULE_BYTES);
    int rc = make_room(extents, to);
    if (rc < 0)
        return RML_FAIL(err, rc, "no memory for a map of %" PRIu64 " granules", to);
    rc = rml_disk_drain(extents->disk);
    if (rc < 0)
        return RML_FAIL(err, rc, "a write to the extent file failed: %s", strerrordesc_np(-rc));
    rc = write_zeros(extents, extents->count, to);
    bool is_full = rc == -ENOSPC || rc == -EDQUOT;
    if (is_full)
        rml_disk_settle(extents->disk);
    if (rc == 0)
        rc = rml_disk_flush(extents->disk);
    if (rc < 0)
        rml_err_set(err, rc, "the extent file cannot grow to %" PRIu64 " bytes: %s",
                    to * RML_EXTENT_GRANULE_BYTES, strerrordesc_np(-rc));
    if (is_full)
        return rc;
    memset(extents->granules + extents->count, rc < 0 ? GRANULE_LOST : GRANULE_FREE,
           to - extents->count);
    extents->count = to;
    return rc;
}

int rml_extents_grow_to(struct rml_extents *extents, uint64_t bytes, struct rml_err *err)
{
    uint64_t count = granules_of(bytes);
    return count <= extents->count ? 0 : grow(extents, count, err);
}

// The first free run of `wanted` granules, or the longest there is.
static struct rml_extent_run find(const struct rml_extents *extents, uint64_t wanted)
{
    struct rml_extent_run best = {0, 0};
    uint64_t length = 0;
    for (uint64_t i = 0; i < extents->count && best.bytes < wanted; i++) {
        length = extents->granules[i] == GRANULE_FREE ? length + 1 : 0;
        if (length > best.bytes)
            best = (struct rml_extent_run){i + 1 - length, length};
    }
    return best;
}

// How many free granules the file ends with: growing adds to them.
static uint64_t free_at_end(const struct rml_extents *extents)
{
    uint64_t count = 0;
    while (extents->granules[extents->count - 1 - count] == GRANULE_FREE)
        count++;  // the header's is not
    return count;
}

int rml_extents_take(struct rml_extents *extents, uint64_t bytes, struct rml_extent_run *ret_run,
                     struct rml_err *err)
{
    RML_CHECK(bytes > 0);
    uint64_t wanted = granules_of(bytes);
    struct rml_extent_run run = find(extents, wanted);
    if (run.bytes < wanted) {
        int rc = grow(extents, extents->count - free_at_end(extents) + wanted, err);
        bool is_full = (rc == -ENOSPC || rc == -EDQUOT) && extents->disk->error == 0;
        if (rc < 0 && (!is_full || run.bytes == 0))
            return rc;
        run = find(extents, wanted);
    }
    memset(extents->granules + run.offset, GRANULE_HELD, run.bytes);
    *ret_run = (struct rml_extent_run){run.offset * RML_EXTENT_GRANULE_BYTES,
                                       run.bytes * RML_EXTENT_GRANULE_BYTES};
    return 0;
}

void rml_extents_settle(struct rml_extents *extents)
{
    for (uint64_t i = 0; i < extents->count; i++)
        if (extents->granules[i] == GRANULE_HELD || extents->granules[i] == GRANULE_NEEDED)
            extents->granules[i] = GRANULE_FREE;
}

int rml_extents_need(struct rml_extents *extents, uint64_t offset, uint64_t bytes)
{
    uint64_t file_bytes = extents->count * RML_EXTENT_GRANULE_BYTES;
    if (bytes == 0 || bytes > file_bytes || offset < RML_EXTENT_GRANULE_BYTES
        || offset > file_bytes - bytes)
        return -ERANGE;
    for (uint64_t i = offset / RML_EXTENT_GRANULE_BYTES;
         i <= (offset + bytes - 1) / RML_EXTENT_GRANULE_BYTES; i++)
        extents->granules[i] = GRANULE_NEEDED;
    return 0;
}

void rml_extents_lose(struct rml_extents *extents)
{
    for (uint64_t i = 0; i < extents->count; i++)
        if (extents->granules[i] == GRANULE_HELD)
            extents->granules[i] = GRANULE_LOST;
}

struct rml_extents_room rml_extents_room(const struct rml_extents *extents)
{
    uint64_t counts[GRANULE_HEADER + 1] = {0};
    for (uint64_t i = 0; i < extents->count; i++)
        counts[extents->granules[i]]++;
    return (struct rml_extents_room){
        .file_bytes = extents->count * RML_EXTENT_GRANULE_BYTES,
        .needed_bytes = counts[GRANULE_NEEDED] * RML_EXTENT_GRANULE_BYTES,
        .free_bytes = counts[GRANULE_FREE] * RML_EXTENT_GRANULE_BYTES,
        .lost_bytes = counts[GRANULE_LOST] * RML_EXTENT_GRANULE_BYTES,
    };
}
