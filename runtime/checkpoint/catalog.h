/*
 * catalog - what is true: the manifests of checkpoints and the rows of result tables, in LMDB.
 *
 * One transaction adds a checkpoint, drops those that are kept no longer, and puts the result rows that
 * belong to it. LMDB flushes the pages of a transaction before it writes the page that makes them the
 * database, and writes that one through to the disk; so a transaction is there as a whole or not at all.
 *
 *     main database   "head"        format, vault, newest epoch, next epoch; and the transaction's own
 *                                   number, so that a damaged meta page cannot pass off an older state
 *     "checkpoints"   epoch, 'h'           wall time, counts of the rows below
 *                     epoch, 'n', name     a note
 *                     epoch, 'p', number   a partition: extents and blob
 *     "rows"          table, key           a row of a result table
 *
 * Numbers in keys are big-endian, so that order in the database is order of numbers. Every value ends
 * in a check sum of its key and itself: LMDB notices next to nothing of what happens to its file.
 *
 * A catalog is used by one thread at a time. One process must not have the same catalog open twice, for
 * LMDB's locks are those of fcntl, which the first close would give back.
 *
 * catalog_state.h says which of the files beside this one does what.
 */
#ifndef RML_CHECKPOINT_CATALOG_H
#define RML_CHECKPOINT_CATALOG_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/checkpoint/manifest.h"
#include "runtime/checkpoint/table_rows.h"

struct rml_catalog;
struct rml_catalog_gap;
struct rml_catalog_view;
struct rml_err;

#define RML_VAULT_FORMAT      1u
#define RML_VAULT_ID_BYTES    16u
#define RML_CATALOG_FILE      "catalog.mdb"
#define RML_CATALOG_KEY_BYTES 511u  // LMDB's own limit

struct rml_catalog_head {
    unsigned char vault[RML_VAULT_ID_BYTES];
    uint64_t newest_epoch;   // 0: there is no checkpoint
    uint64_t next_epoch;     // no epoch is ever used twice
    uint64_t written_bytes;  // of the extent file, before use
    uint64_t commits;        // counts them, to tell whether one took place
};

struct rml_catalog_options {
    uint64_t map_bytes;      // address space to begin with; doubled when the catalog fills it
    uint64_t map_bytes_max;  // and no more than this, but for what a file that is there has
};

/*
 * Make a catalog without checkpoints for a vault, in place of none: it is there as a whole or not at all.
 * 0, or a negative errno with a sentence.
 */
int rml_catalog_make(const char *folder, const unsigned char vault[RML_VAULT_ID_BYTES],
                     const struct rml_catalog_options *options, struct rml_err *err);

/*
 * Open it for writing, for the only process that may: the caller holds the vault's lock. The file is
 * looked through before LMDB sees it (catalog_check.h), and stale readers are forgotten. 0, or a
 * negative errno with a sentence: -ENOENT where there is none, -EBADMSG damaged, -EPROTONOSUPPORT of
 * another format.
 */
int rml_catalog_open(struct rml_catalog **ret_catalog, const char *folder,
                     const struct rml_catalog_options *options, struct rml_err *err);

/* Open it beside whoever writes it, to read. */
int rml_catalog_open_reading(struct rml_catalog **ret_catalog, const char *folder,
                             struct rml_err *err);

/* Accepts NULL. */
void rml_catalog_close(struct rml_catalog *catalog);

/* As of the last commit. */
const struct rml_catalog_head *rml_catalog_head(const struct rml_catalog *catalog);

/* What it takes on the disk, and who makes it take more (readers.h). All 0 where nobody knows. */
struct rml_catalog_use {
    uint64_t bytes, bytes_max;
    uint32_t reader_count;   // other processes' looks that are open
    uint32_t reader_pid;     // whose is the oldest; 0: there is none
    uint64_t reader_state;   // the number of the commit that made the state it looks at
    uint64_t reader_behind;  // how many came after that
};

struct rml_catalog_use rml_catalog_use(const struct rml_catalog *catalog);

struct rml_catalog_change {
    const struct rml_manifest *added;  // NULL: none
    const uint64_t *dropped;           // epochs
    uint32_t dropped_count;
    const struct rml_table_rows *rows;  // NULL: none
    uint64_t newest_epoch, next_epoch, written_bytes;
};

/*
 * All of it or nothing. 0 when it is committed, or a negative errno with a sentence when it is
 * not. An error of LMDB's commit leaves the outcome open; then the catalog is opened again, what it
 * says is made durable, and the outcome is known. Where even that fails the catalog has failed: this and
 * every later change returns -EIO, and only opening the vault again tells.
 */
int rml_catalog_commit(struct rml_catalog *catalog, const struct rml_catalog_change *change,
                       struct rml_err *err);
bool rml_catalog_has_failed(const struct rml_catalog *catalog);

/*
 * One state of the catalog, held still. While it is open no page of that state is used again, so the
 * file grows: be quick. The writer may not commit while it has a view open itself.
 */
int rml_catalog_look(struct rml_catalog *catalog, struct rml_catalog_view **ret_view,
                     struct rml_err *err);
void rml_catalog_view_close(struct rml_catalog_view *view);
const struct rml_catalog_head *rml_catalog_view_head(const struct rml_catalog_view *view);

/* Epochs with any row, rising; up to `room` of them. Returns how many there are, or a negative errno. */
int rml_catalog_epochs(struct rml_catalog_view *view, uint64_t *epochs, uint32_t room);

/* Read one, into an empty manifest; 0, -ENOENT, or -EBADMSG naming the row that is damaged. */
int rml_catalog_manifest(struct rml_catalog_view *view, uint64_t epoch,
                         struct rml_manifest *ret_manifest, struct rml_err *err);

/*
 * The row of that key, or with `or_next` of the first key from there on, in this table or, where
 * `table` is NULL, of the first row of all. It lies in the view's memory. 0, -ENOENT, or -EBADMSG for a
 * damaged one (`ret_row` says which, so that one can go on behind it; its key is NULL where that cannot be said, because a
 * page on the way is damaged, or leads back to rows before `key`).
 */
int rml_catalog_row(struct rml_catalog_view *view, const char *table, const void *key,
                    uint32_t key_bytes, bool or_next, struct rml_table_row *ret_row,
                    struct rml_err *err);

/* Of what that returned: is no row known there, because a page on the way is damaged? */
static inline bool rml_catalog_is_out_of_reach(int rc, const struct rml_table_row *row)
{
    return rc == -EBADMSG && row->key == NULL;
}

/* The last row of the table whose key lies before `key`; of all of its rows where `key` is NULL.
 * Likewise. */
int rml_catalog_row_before(struct rml_catalog_view *view, const char *table, const void *key,
                           uint32_t key_bytes, struct rml_table_row *ret_row, struct rml_err *err);

/* The row behind the one that was found last, of whatever table. */
int rml_catalog_next_row(struct rml_catalog_view *view, struct rml_table_row *ret_row,
                         struct rml_err *err);

/* Who says what may be left out of a catalog that is damaged. */
struct rml_catalog_mending {
    /* Rows that are given up are not even looked at. */
    bool (*gives_up)(void *context, const struct rml_table_row *row);  // without a value
    /* One that is kept; `is_whole`: it is what was written. */
    void (*kept)(void *context, const struct rml_table_row *row, bool is_whole);
    /* What lay here cannot be read, and may be given up or not (catalog_check.h). */
    void (*lacks)(void *context, const struct rml_catalog_gap *gap);
    /* 0: what was kept is all that there should be. Else nothing is changed. */
    int (*approve)(void *context, struct rml_err *err);
    void *context;
};

/* May rows of this table have lain in the gap? */
bool rml_catalog_gap_may_have(const struct rml_catalog_gap *gap, const char *table);

/*
 * Put another catalog in the place of one whose rows rml_catalog_open finds damaged: its checkpoints, which have
 * to be sound, and of its rows those that can be read and are not given up. 0, or a negative errno with a
 * sentence, and the catalog is as it was. The caller holds the vault's lock.
 */
int rml_catalog_mend(const char *folder, const struct rml_catalog_options *options,
                     const struct rml_catalog_mending *mending, struct rml_err *err);

/* The head as it lies in the file: what catalog_check.c has to know of it. */
#define RML_CATALOG_ROWS       "rows"
#define RML_CATALOG_HEAD_KEY   "head"
#define RML_CATALOG_HEAD_MAGIC UINT32_C(0x524d4c43)

struct rml_catalog_head_row {
    uint32_t magic, format;
    uint64_t transaction;
    struct rml_catalog_head head;
};

#endif
