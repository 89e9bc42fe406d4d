/*
 * extents - whose each part of the extent file is, and making more of it.
 *
 * The file is cut into granules of one write. Its space is written with zeros before anything of worth
 * goes there: what lies behind a file's end, or was only reserved, has to be entered into the file
 * system's own tables by the flush of every checkpoint, which makes it two to four times slower.
 *
 *     free   ── take ──►  held    by the checkpoint under way
 *     held   ── settle ►  needed  by a checkpoint that is kept, as the caller says; else free
 *     held   ── lose ──►  lost    a write or flush failed, or nobody knows: not used until reopened
 *
 * One thread at a time calls these functions.
 */
#ifndef RML_CHECKPOINT_EXTENTS_H
#define RML_CHECKPOINT_EXTENTS_H

#include <stdint.h>

#include "runtime/checkpoint/disk.h"

struct rml_err;

#define RML_EXTENT_GRANULE_BYTES ((uint64_t)RML_DISK_WRITE_BYTES)

/* Of whole granules, side by side. */
struct rml_extent_run {
    uint64_t offset, bytes;
};

struct rml_extents_options {
    uint64_t step_bytes;   // the file grows by so much at least
    uint64_t limit_bytes;  // and no further than this; 0: no limit
    /* Told after every step of growing, by the thread that grows; may be NULL. */
    void (*progress)(void *context, uint64_t written_bytes, uint64_t wanted_bytes);
    void *progress_context;
};

struct rml_extents {
    struct rml_disk *disk;
    struct rml_extents_options options;
    unsigned char *granules;  // enum granule
    uint64_t count;           // of those written before; the first is the header's
};

/* Over an open disk, `written_bytes` of which were written before; all of it is free. 0 or -ENOMEM. */
int rml_extents_open(struct rml_extents *extents, struct rml_disk *disk,
                     const struct rml_extents_options *options, uint64_t written_bytes);
void rml_extents_close(struct rml_extents *extents);

/*
 * Hold room for `bytes`, growing the file if there is no run as long. At the limit, or where the
 * disk is full, the longest run there is. 0, or a negative errno with a sentence: -ENOSPC when nothing is
 * free, and whatever growing met.
 */
int rml_extents_take(struct rml_extents *extents, uint64_t bytes, struct rml_extent_run *ret_run,
                     struct rml_err *err);

/* Write at least `bytes` before use, now rather than in the middle of a checkpoint. */
int rml_extents_grow_to(struct rml_extents *extents, uint64_t bytes, struct rml_err *err);

/* What is held or needed becomes free; then say what is needed. */
void rml_extents_settle(struct rml_extents *extents);

/* 0, or -ERANGE when it does not lie in what was written. */
int rml_extents_need(struct rml_extents *extents, uint64_t offset, uint64_t bytes);

/* What is held is lost. */
void rml_extents_lose(struct rml_extents *extents);

struct rml_extents_room {
    uint64_t file_bytes, needed_bytes, free_bytes, lost_bytes;
};

struct rml_extents_room rml_extents_room(const struct rml_extents *extents);

#endif
