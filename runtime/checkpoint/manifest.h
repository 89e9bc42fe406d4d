/*
 * manifest - what a checkpoint is made of: for each partition a blob and extents in order.
 *
 * The extents of a partition are a chain: a base and what changed since, written by this checkpoint
 * and by earlier ones. Whoever applies them in order has the partition's state. What blobs, notes and bytes
 * mean is the business of others.
 */
#ifndef RML_CHECKPOINT_MANIFEST_H
#define RML_CHECKPOINT_MANIFEST_H

#include <stddef.h>
#include <stdint.h>

#define RML_NOTE_NAME_BYTES 64

/* Bytes of one partition in the extent file. As it lies in the catalog. */
struct rml_extent {
    uint64_t offset;  // a multiple of RML_DISK_BLOCK_BYTES
    uint64_t epoch;   // of the checkpoint that wrote it
    uint32_t bytes;
    uint32_t crc32c;
};

struct rml_manifest_part {
    uint32_t partition;
    uint32_t extent_count, extent_room;
    uint32_t blob_bytes;
    struct rml_extent *extents;
    void *blob;
};

struct rml_manifest_note {
    char name[RML_NOTE_NAME_BYTES];
    uint32_t bytes;
    void *data;
};

struct rml_manifest {
    uint64_t epoch;
    int64_t wall_ns;
    uint32_t part_count, note_count;
    struct rml_manifest_part *parts;  // by partition, rising
    struct rml_manifest_note *notes;  // by name, rising
};

/* The partition's part, or NULL. */
struct rml_manifest_part *rml_manifest_find(const struct rml_manifest *manifest,
                                            uint32_t partition);

/* The same, added if it is not there; NULL: no memory. */
struct rml_manifest_part *rml_manifest_add_part(struct rml_manifest *manifest, uint32_t partition);

/* All of these copy. 0 or -ENOMEM. */
int rml_manifest_add_extents(struct rml_manifest_part *part, const struct rml_extent *extents,
                             uint32_t count);
int rml_manifest_describe(struct rml_manifest_part *part, const void *blob, uint32_t bytes);
int rml_manifest_set_note(struct rml_manifest *manifest, const char *name, const void *data,
                          uint32_t bytes);

/* NULL: there is none of that name. */
const struct rml_manifest_note *rml_manifest_find_note(const struct rml_manifest *manifest,
                                                       const char *name);

/* Bytes of all extents, and of those that this checkpoint wrote itself. */
struct rml_manifest_size {
    uint64_t chain_bytes, own_bytes;
    uint32_t extents;
    uint32_t checkpoints;  // that wrote them: of the partition with the longest chain
};

/* How many checkpoints wrote the extents of one partition. */
uint32_t rml_manifest_part_checkpoints(const struct rml_manifest_part *part);

struct rml_manifest_size rml_manifest_size(const struct rml_manifest *manifest);

void rml_manifest_fini(struct rml_manifest *manifest);

#endif
