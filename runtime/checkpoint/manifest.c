#include "runtime/checkpoint/manifest.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/check.h"

// Where the partition's part is, or should be.
static uint32_t place_of(const struct rml_manifest *manifest, uint32_t partition)
{
    uint32_t low = 0, high = manifest->part_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (manifest->parts[middle].partition < partition)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

struct rml_manifest_part *rml_manifest_find(const struct rml_manifest *manifest, uint32_t partition)
{
    uint32_t place = place_of(manifest, partition);
    return place < manifest->part_count && manifest->parts[place].partition == partition
               ? &manifest->parts[place]
               : NULL;
}

struct rml_manifest_part *rml_manifest_add_part(struct rml_manifest *manifest, uint32_t partition)
{
    struct rml_manifest_part *part = rml_manifest_find(manifest, partition);
    if (part != NULL)
        return part;
    struct rml_manifest_part *parts =
        realloc(manifest->parts, (manifest->part_count + (size_t)1) * sizeof *parts);
    if (parts == NULL)
        return NULL;
    manifest->parts = parts;
    uint32_t place = place_of(manifest, partition);
    memmove(parts + place + 1, parts + place, (manifest->part_count - place) * sizeof *parts);
    parts[place] = (struct rml_manifest_part){.partition = partition};
    manifest->part_count++;
    return &parts[place];
}

int rml_manifest_add_extents(struct rml_manifest_part *part, const struct rml_extent *extents,
                             uint32_t count)
{
    if (part->extent_room - part->extent_count < count) {
        uint32_t room = 2 * part->extent_room + count;
        struct rml_extent *more = realloc(part->extents, room * sizeof *more);
        if (more == NULL)
            return -ENOMEM;
        part->extents = more;
        part->extent_room = room;
    }
    if (count > 0)
        memcpy(part->extents + part->extent_count, extents, count * sizeof *extents);
    part->extent_count += count;
    return 0;
}

static int copy(void **to, uint32_t *to_bytes, const void *from, uint32_t bytes)
{
    void *memory = malloc(bytes + (size_t)1);
    if (memory == NULL)
        return -ENOMEM;
    if (bytes > 0)
        memcpy(memory, from, bytes);
    free(*to);
    *to = memory;
    *to_bytes = bytes;
    return 0;
}

int rml_manifest_describe(struct rml_manifest_part *part, const void *blob, uint32_t bytes)
{
    return copy(&part->blob, &part->blob_bytes, blob, bytes);
}

int rml_manifest_set_note(struct rml_manifest *manifest, const char *name, const void *data,
                          uint32_t bytes)
{
    RML_CHECK(strlen(name) < RML_NOTE_NAME_BYTES);
    uint32_t place = 0;
    while (place < manifest->note_count && strcmp(manifest->notes[place].name, name) < 0)
        place++;
    if (place == manifest->note_count || strcmp(manifest->notes[place].name, name) != 0) {
        struct rml_manifest_note *notes =
            realloc(manifest->notes, (manifest->note_count + (size_t)1) * sizeof *notes);
        if (notes == NULL)
            return -ENOMEM;
        manifest->notes = notes;
        memmove(notes + place + 1, notes + place, (manifest->note_count - place) * sizeof *notes);
        notes[place] = (struct rml_manifest_note){0};
        snprintf(notes[place].name, sizeof notes[place].name, "%s", name);
        manifest->note_count++;
    }
    return copy(&manifest->notes[place].data, &manifest->notes[place].bytes, data, bytes);
}

const struct rml_manifest_note *rml_manifest_find_note(const struct rml_manifest *manifest,
                                                       const char *name)
{
    for (uint32_t i = 0; i < manifest->note_count; i++)
        if (strcmp(manifest->notes[i].name, name) == 0)
            return &manifest->notes[i];
    return NULL;
}

// A chain is in the order in which it was written.
uint32_t rml_manifest_part_checkpoints(const struct rml_manifest_part *part)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < part->extent_count; i++)
        count += i == 0 || part->extents[i].epoch != part->extents[i - 1].epoch;
    return count;
}

struct rml_manifest_size rml_manifest_size(const struct rml_manifest *manifest)
{
    struct rml_manifest_size size = {0};
    for (uint32_t p = 0; p < manifest->part_count; p++) {
        const struct rml_manifest_part *part = &manifest->parts[p];
        for (uint32_t i = 0; i < part->extent_count; i++) {
            size.chain_bytes += part->extents[i].bytes;
            if (part->extents[i].epoch == manifest->epoch)
                size.own_bytes += part->extents[i].bytes;
        }
        size.extents += part->extent_count;
        uint32_t checkpoints = rml_manifest_part_checkpoints(part);
        size.checkpoints = checkpoints > size.checkpoints ? checkpoints : size.checkpoints;
    }
    return size;
}

void rml_manifest_fini(struct rml_manifest *manifest)
{
    for (uint32_t i = 0; i < manifest->part_count; i++) {
        free(manifest->parts[i].extents);
        free(manifest->parts[i].blob);
    }
    for (uint32_t i = 0; i < manifest->note_count; i++)
        free(manifest->notes[i].data);
    free(manifest->parts);
    free(manifest->notes);
    *manifest = (struct rml_manifest){0};
}
