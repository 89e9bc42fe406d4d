/*
 * journal - entries on disk before anybody acts on them, found again after whatever happened.
 *
 *     rml_journal_write(journal, entries, bytes, err);     blocks of a group, any number
 *     rml_journal_flush(journal, err);                     0: all of them outlast a loss of power
 *     rml_journal_cover(journal, positions);               a checkpoint has what came before these
 *
 * The file is cut into segments, which are written from their beginnings and used again once the oldest of
 * the checkpoints that are kept covers all that is in them. journal.c tells what lies where, and what of it
 * is believed after a loss of power; docs/checkpoints.md what a pipeline makes of it.
 *
 * One thread at a time may call these functions.
 */
#ifndef RML_CHECKPOINT_JOURNAL_H
#define RML_CHECKPOINT_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/checkpoint/disk.h"

struct rml_err;
struct rml_journal;

#define RML_JOURNAL_FILE       "journal"
#define RML_JOURNAL_HEAD_BYTES 128u
#define RML_JOURNAL_BLOCK_BYTES \
 (RML_DISK_WRITE_BYTES - RML_JOURNAL_HEAD_BYTES)  // of entries, at most
#define RML_JOURNAL_VAULT_BYTES 16u

/* How an entry begins. What follows is its writer's. */
struct rml_journal_entry {
    uint32_t bytes;  // with this and what follows, a multiple of 8
    uint32_t partition;
    uint64_t
        position;  // of the partition's entries, which are counted from 0 in the order of writing
};

/* Rules that a test breaks on purpose, to see that breaking them is noticed. */
enum rml_journal_broken_rule {
    RML_JOURNAL_ACKNOWLEDGES_EARLY = 1,  // before the flush
    RML_JOURNAL_BELIEVES_BLOCKS = 2,     // whatever their check sums say
    RML_JOURNAL_USES_AGAIN_EARLY = 4,    // before a checkpoint covers it
    RML_JOURNAL_BELIEVES_BEHIND = 8,     // a block that is torn
};

struct rml_journal_options {
    const struct rml_disk_way *const *ways;  // NULL: all there are
    int64_t lock_wait_ns;                    // for a killed owner's writes
    uint32_t partitions;
    unsigned char vault[RML_JOURNAL_VAULT_BYTES];  // of the state folder
    uint64_t life;            // of the pipeline: entries of another are of no worth
    uint64_t identity;        // of what entries are made of: those of another cannot be understood
    const uint64_t *covered;  // by the checkpoint that was restored: a position for each partition
    uint32_t keep;            // checkpoints; 0: 2, which is the least
    uint32_t segment_bytes;   // of a new file, a multiple of blocks; 0: 4 MiB
    uint64_t first_bytes;     // written before use at once; 0: 16 MiB or max_bytes
    uint64_t max_bytes;       // and no more than this; 0: 1 GiB
    unsigned broken_rules;    // 0, but in tests
};

/*
 * Open the journal in the state folder, making it if it is not there, find what it holds, and make sure of
 * that: what may not have been flushed is written again. 0, or a negative errno with a sentence: -EBUSY
 * another process has it, -EPROTONOSUPPORT another format, -EBADMSG damaged, -EINVAL of another pipeline.
 */
int rml_journal_open(struct rml_journal **ret_journal, const char *folder,
                     const struct rml_journal_options *options, struct rml_err *err);
void rml_journal_close(struct rml_journal *journal);  // accepts NULL

/* Is there a journal in the state folder? */
bool rml_journal_is_there(const char *folder);

/*
 * What was there when it was opened, in the order of writing, until rml_journal_forget. 0, what `each`
 * returned, or -EBADMSG and so on with a sentence.
 */
int rml_journal_read(struct rml_journal *journal,
                     int (*each)(void *context, const struct rml_journal_entry *entry,
                                 struct rml_err *err),
                     void *context, struct rml_err *err);
void rml_journal_forget(struct rml_journal *journal);

/*
 * Write a block of whole entries. 0; -EAGAIN: flush first; -ENOSPC: there is no room before a checkpoint
 * covers more (nothing of this block was written, and what was is as it was); or another negative errno
 * after which only rml_journal_renew helps. Sentences go with the last two.
 */
int rml_journal_write(struct rml_journal *journal, const void *entries, uint32_t bytes,
                      struct rml_err *err);

/* Make the blocks since the last flush outlast a loss of power. 0, or an error as above. */
int rml_journal_flush(struct rml_journal *journal, struct rml_err *err);

/*
 * After an error: blocks since the last flush count as never written, and are to be written again, to another
 * place. 0, or a negative errno with a sentence: try again later.
 */
int rml_journal_renew(struct rml_journal *journal, struct rml_err *err);

/* A checkpoint is durable that covers what lies before these positions, one for each partition. */
void rml_journal_cover(struct rml_journal *journal, const uint64_t *positions);

struct rml_journal_room {
    uint64_t file_bytes, used_bytes, max_bytes;
};

struct rml_journal_room rml_journal_room(const struct rml_journal *journal);

/* How it is written, and why not better (empty when there is no better way). */
const char *rml_journal_way(const struct rml_journal *journal);
const char *rml_journal_why_not(const struct rml_journal *journal);

#endif
