/*
 * vault - checkpoints in a state directory: written whole, or not there.
 *
 *     extents        what partitions are made of, in space written before use
 *     catalog.mdb    which checkpoints there are, and the rows of result tables
 *
 * A checkpoint exists if and only if its row in the catalog is committed. vault_write.c tells the order
 * of things and why; docs/checkpoints.md what is promised when an engine or a machine stops.
 *
 *     rml_vault_begin(vault, wall_ns, expected_bytes, &epoch, err);
 *     rml_vault_keep(vault, partition, extents, count, err);      what is still needed of the last one,
 *     rml_vault_append(vault, partition, bytes, count, err);      and what is new, in order
 *     rml_vault_describe(vault, partition, blob, bytes, err);
 *     rml_vault_note(...); rml_vault_row(...);
 *     rml_vault_commit(vault, err);                               0: it outlasts whatever comes
 *
 * One thread at a time may call these functions: the one that recovers at first, later the one that
 * writes checkpoints. What is written passes through the vault's own buffers; when append returns, the
 * caller's memory is free again. Other processes look at the directory through checkpoints.h.
 */
#ifndef RML_CHECKPOINT_VAULT_H
#define RML_CHECKPOINT_VAULT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/checkpoint/catalog.h"
#include "runtime/checkpoint/disk.h"
#include "runtime/checkpoint/extents.h"
#include "runtime/checkpoint/manifest.h"

struct rml_err;
struct rml_vault;

#define RML_VAULT_KEEP_MAX     16u
#define RML_VAULT_EXTENTS_FILE "extents"

/* Rules that a test breaks on purpose, to see that breaking them is noticed. */
enum rml_vault_broken_rule {
    RML_VAULT_COMMITS_BEFORE_FLUSH = 1,
    RML_VAULT_BELIEVES_EXTENTS = 2,
    RML_VAULT_RELEASES_EARLY = 4,
};

/* All zero is a good beginning. */
struct rml_vault_options {
    const struct rml_disk_way *const *ways;  // NULL: all there are
    int64_t lock_wait_ns;        // for a killed owner's writes, or a reader's first look
    uint32_t keep;               // checkpoints kept whole; 0: 2, which is the least
    uint64_t first_bytes;        // written before use at once; 0: 64 MiB
    uint64_t step_bytes;         // and in steps of this; 0: 64 MiB
    uint64_t limit_bytes;        // of the extent file; 0: none
    uint64_t lost_bytes_max;     // by errors, until the vault must be opened anew; 0: 1 GiB
    uint64_t catalog_bytes;      // address space at first; 0: 64 MiB
    uint64_t catalog_bytes_max;  // 0: 1 TiB
    uint64_t rows_bytes_max;     // result rows of one checkpoint; 0: 1 GiB
    void (*progress)(void *context, uint64_t written_bytes, uint64_t wanted_bytes);  // of growing
    void *progress_context;
    /* How a catalog with damaged rows is mended; NULL: it is refused. */
    const struct rml_catalog_mending *mending;
    unsigned broken_rules;  // 0, but in tests
};

/*
 * Open the state directory, making it if it is not there. 0, or a negative errno with a sentence:
 * -EBUSY another process has it, -EPROTONOSUPPORT another format, -EBADMSG damaged beyond reading.
 * A damaged newest checkpoint is not among them: rml_vault_newest tells.
 */
int rml_vault_open(struct rml_vault **ret_vault, const char *folder,
                   const struct rml_vault_options *options, struct rml_err *err);

/* Abandons what is under way. Accepts NULL. */
void rml_vault_close(struct rml_vault *vault);

/* How it is written, and why not better (empty when there is no better way). */
const char *rml_vault_way(const struct rml_vault *vault);
const char *rml_vault_why_not(const struct rml_vault *vault);

/* The directory's random number, RML_VAULT_ID_BYTES of it. */
const unsigned char *rml_vault_id(const struct rml_vault *vault);

struct rml_extents_room rml_vault_room(const struct rml_vault *vault);
struct rml_catalog_use rml_vault_catalog_use(const struct rml_vault *vault);

/*
 * The newest checkpoint's manifest, until the next commit or going back. 0; -ENOENT: there is none;
 * -EBADMSG: there is one and its rows are damaged, says the sentence.
 */
int rml_vault_newest(const struct rml_vault *vault, const struct rml_manifest **ret_manifest,
                     struct rml_err *err);

/* Any of those that are kept, by epoch; NULL: it is not, or its rows are damaged. */
const struct rml_manifest *rml_vault_kept(const struct rml_vault *vault, uint64_t epoch);

/* Those that are kept and whose rows can be read, by number from the oldest; and the newest epoch of all,
 * readable or not, 0: there is none. */
uint32_t rml_vault_kept_count(const struct rml_vault *vault);
const struct rml_manifest *rml_vault_kept_at(const struct rml_vault *vault, uint32_t index);
uint64_t rml_vault_newest_epoch(const struct rml_vault *vault);

/*
 * Read a partition of a kept checkpoint: its extents in order, each checked before `each` sees it.
 * 0, what `each` returned, -ENOENT, or -EBADMSG with a sentence that names what is damaged.
 */
int rml_vault_load(struct rml_vault *vault, uint64_t epoch, uint32_t partition,
                   int (*each)(void *context, const struct rml_extent *extent, const void *bytes),
                   void *context, struct rml_err *err);

/* The same of all partitions, one after the other; but what the last checkpoint wrote of each comes
 * first, then what the one before it wrote. */
int rml_vault_load_newest(struct rml_vault *vault, uint64_t epoch,
                          int (*each)(void *context, uint32_t partition,
                                      const struct rml_extent *extent, const void *bytes),
                          void *context, struct rml_err *err);

/* Read all of it, to see that it can be read. */
int rml_vault_verify(struct rml_vault *vault, uint64_t epoch, struct rml_err *err);

/*
 * Give up the newest checkpoint: the one before it is the newest from then on. Rows of result tables
 * stay as they are. 0; -ENOENT: there is none before it; or as commit.
 */
int rml_vault_go_back(struct rml_vault *vault, struct rml_err *err);

/* Do without a newest checkpoint that is damaged, to begin anew: it is dropped with the next commit, and stands as it
 * did until then. */
void rml_vault_give_up(struct rml_vault *vault);

/*
 * Begin the next checkpoint. `expected_bytes` sets room aside side by side; more or less may come.
 * -EBADMSG while the newest one is damaged: go back first, or give it up. -EIO: the vault has failed and must be opened
 * again.
 */
int rml_vault_begin(struct rml_vault *vault, int64_t wall_ns, uint64_t expected_bytes,
                    uint64_t *ret_epoch, struct rml_err *err);

/*
 * Each of these returns 0, or a negative errno with a sentence, after which the checkpoint can only be
 * abandoned; commit then does that, and says the same again.
 *
 * `keep` and `append` make the partition's chain longer, in the order of calls. What is kept are
 * extents of the newest checkpoint, of the same partition. Appends of one partition after another become
 * extents of up to 1 MiB; each change of partition begins a new one, so give a partition's bytes in
 * large pieces. A partition without extents is there once it is described.
 */
int rml_vault_keep(struct rml_vault *vault, uint32_t partition, const struct rml_extent *extents,
                   uint32_t count, struct rml_err *err);
int rml_vault_append(struct rml_vault *vault, uint32_t partition, const void *bytes, size_t count,
                     struct rml_err *err);
int rml_vault_describe(struct rml_vault *vault, uint32_t partition, const void *blob,
                       uint32_t bytes, struct rml_err *err);
int rml_vault_note(struct rml_vault *vault, const char *name, const void *data, uint32_t bytes,
                   struct rml_err *err);

/* Put a row of a result table, or remove it when `value` is NULL. */
int rml_vault_row(struct rml_vault *vault, const char *table, const void *key, uint32_t key_bytes,
                  const void *value, uint32_t value_bytes, struct rml_err *err);

/* See rml_catalog_look: rows as the last checkpoint left them. To be closed before the commit. */
int rml_vault_look(struct rml_vault *vault, struct rml_catalog_view **ret_view,
                   struct rml_err *err);

/*
 * 0: the checkpoint exists, and would after a loss of power. Else it does not exist, was abandoned, and
 * the one before it is as it was; -EIO with rml_vault_has_failed: nobody knows, and only opening the
 * vault again tells.
 */
int rml_vault_commit(struct rml_vault *vault, struct rml_err *err);
void rml_vault_abandon(struct rml_vault *vault);

/*
 * Nothing comes of it before it is opened again: a commit's outcome is not known, or the way to the disk is out of
 * step with the kernel, or errors have made so much room unusable that it is needed again.
 */
bool rml_vault_has_failed(const struct rml_vault *vault);

/* The first block of the extent file. */
struct rml_vault_header {
    char magic[8];
    uint32_t format;
    uint32_t is_whole;  // 0 while the directory is being made
    unsigned char vault[RML_VAULT_ID_BYTES];
    uint32_t granule_bytes;
    uint32_t crc32c;  // of what stands before
};

#define RML_VAULT_HEADER_MAGIC "rmlstate"

#endif
