/*
 * vault_state - what an open vault is made of, for the files that it is made of: its directory and the header in it
 * (vault_files.c), opening it, what it keeps and reading that (vault.c), and writing a checkpoint (vault_write.c).
 */
#ifndef RML_CHECKPOINT_VAULT_STATE_H
#define RML_CHECKPOINT_VAULT_STATE_H

#include "runtime/base/err.h"
#include "runtime/checkpoint/vault.h"

#define RML_VAULT_EPOCHS_MAX 64u
#define RML_VAULT_NO_BUFFER  (-1)

/* Where the next byte goes. */
struct vault_stream {
    int buffer;                 // RML_VAULT_NO_BUFFER: the next byte begins a granule
    uint32_t filled;            // of the buffer
    uint64_t offset;            // of the buffer in the file
    struct rml_extent_run run;  // what is left of it, behind the buffer
    uint64_t expected_bytes;
    bool is_open;  // `extent`, of `partition`
    uint32_t partition;
    struct rml_extent extent;
};

struct rml_vault {
    char folder[300], path[320];
    struct rml_vault_options options;
    struct rml_disk disk;
    struct rml_extents extents;
    struct rml_catalog *catalog;
    struct rml_manifest kept[RML_VAULT_KEEP_MAX];  // by epoch, rising; those that can be read
    uint32_t kept_count;
    uint64_t unreadable[RML_VAULT_EPOCHS_MAX];  // to be dropped with the next commit
    uint32_t unreadable_count;
    struct rml_err damage;  // of the newest one's rows; code 0: none
    uint64_t next_epoch;
    bool is_under_way;
    struct rml_err why;  // the one under way can only be abandoned; code 0: it goes well
    struct rml_manifest made;
    struct rml_table_rows rows;
    struct vault_stream stream;
};

/* Make the folder if there is none. 0, or a negative errno with a sentence. */
int rml_vault_make_folder(const struct rml_vault *vault, struct rml_err *err);

/* A directory with a whole header and a catalog of the same vault, made if there was none. Its disk is open.
 * Likewise. */
int rml_vault_open_files(struct rml_vault *vault, struct rml_err *err);

/* Tell the extents what a checkpoint needs; or what all do that are kept, and that the rest is free. 0, or -ERANGE
 * where the file is too short for it. */
int rml_vault_mark_needed(struct rml_vault *vault, const struct rml_manifest *manifest);
int rml_vault_mark_all_needed(struct rml_vault *vault);

/* Of the extent file, as the catalog has it. */
uint64_t rml_vault_written_bytes(const struct rml_vault *vault);

#endif
