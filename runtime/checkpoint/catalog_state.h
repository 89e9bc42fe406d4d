/*
 * catalog_state - what an open catalog is made of, for the files that it is made of: opening it and looking at it
 * (catalog.c), making one and mending one (catalog_make.c), a commit (catalog_commit.c), the entries of checkpoints
 * (catalog_checkpoints.c) and those of result tables (catalog_rows.c). How any value lies in it: catalog_value.h.
 */
#ifndef RML_CHECKPOINT_CATALOG_STATE_H
#define RML_CHECKPOINT_CATALOG_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <lmdb.h>

#include "runtime/checkpoint/catalog.h"

struct rml_catalog {
    char path[400];
    MDB_env *env;
    MDB_dbi main, checkpoints, rows;
    bool is_reading, has_failed;
    uint32_t views;
    struct rml_catalog_options options;
    uint64_t map_bytes;
    struct rml_catalog_head head;
};

struct rml_catalog_view {
    struct rml_catalog *catalog;
    MDB_txn *txn;
    MDB_cursor *cursor;  // over rows
    struct rml_catalog_head head;
};

/* What LMDB says, as a negative errno; and with a sentence, of a look or of a change that was not made. `table`
 * is the one whose row could not be put, or empty. */
int rml_catalog_code(int rc);
int rml_catalog_fail(const struct rml_catalog *catalog, int rc, const char *what,
                     struct rml_err *err);
int rml_catalog_fail_write(const struct rml_catalog *catalog, int rc, const char *table,
                           struct rml_err *err);

/* A catalog that is not mapped yet, of this file. NULL with a sentence: no memory. */
struct rml_catalog *rml_catalog_new(const char *folder, const char *file,
                                    const struct rml_catalog_options *options, struct rml_err *err);

/* Let LMDB have the file, and take it back. 0, or a negative errno with a sentence. */
int rml_catalog_map(struct rml_catalog *catalog, unsigned flags, struct rml_err *err);
void rml_catalog_unmap(struct rml_catalog *catalog);

/* Handles of the databases, and the head. 0, or a negative errno with a sentence. */
int rml_catalog_read_head(struct rml_catalog *catalog, struct rml_err *err);

/* Inside of a transaction; what LMDB returned. */
int rml_catalog_open_databases(struct rml_catalog *catalog, MDB_txn *txn, unsigned flags);
int rml_catalog_put_head(MDB_txn *txn, MDB_dbi dbi, const struct rml_catalog_head *head);
int rml_catalog_put_manifest(MDB_txn *txn, MDB_dbi dbi, const struct rml_manifest *manifest);
int rml_catalog_drop_manifest(MDB_txn *txn, MDB_dbi dbi, uint64_t epoch);
/* `failed` is told of which table the row was that could not be put. */
int rml_catalog_put_rows(MDB_txn *txn, MDB_dbi dbi, const struct rml_table_rows *rows,
                         char failed[RML_TABLE_NAME_BYTES]);

/* An entry of "rows" as a row without its value, where it looks like one. */
bool rml_catalog_row_of(const void *key, size_t key_bytes, struct rml_table_row *ret_row);

#endif
