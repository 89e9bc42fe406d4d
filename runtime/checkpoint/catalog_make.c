#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/err.h"
#include "runtime/checkpoint/catalog_check.h"
#include "runtime/checkpoint/catalog_state.h"
#include "runtime/checkpoint/catalog_value.h"
#include "runtime/checkpoint/disk.h"

#define NEW_FILE RML_CATALOG_FILE ".new"

/* Under another name until it is whole: a power loss may tear LMDB's first pages. */

// What was put so far, `rc` being what LMDB said of that, and the head.
static int commit_new(struct rml_catalog *catalog, MDB_txn *txn, int rc,
                      const struct rml_catalog_head *head, struct rml_err *err)
{
    if (rc == 0)
        rc = rml_catalog_put_head(txn, catalog->main, head);
    if (rc == 0)
        rc = mdb_txn_commit(txn);
    else
        mdb_txn_abort(txn);
    if (rc == 0)
        rc = mdb_env_sync(catalog->env, 1);
    return rc == 0 ? 0 : rml_catalog_fail_write(catalog, rc, "", err);
}

static void remove_file(const char *folder, const char *file)
{
    char path[400];
    snprintf(path, sizeof path, "%s/%s", folder, file);
    unlink(path);
}

// Close it, and let it be the catalog if all went well.
static int put_in_place(struct rml_catalog *catalog, const char *folder, int rc,
                        struct rml_err *err)
{
    char path[400];
    snprintf(path, sizeof path, "%s/" RML_CATALOG_FILE, folder);
    rml_catalog_unmap(catalog);
    if (rc == 0 && rename(catalog->path, path) < 0)
        rc = RML_FAIL(err, -errno, "cannot rename %.250s: %s", catalog->path,
                      strerrordesc_np(errno));
    rml_catalog_close(catalog);
    return rc;
}

/* An empty one. */

static int fill_empty(struct rml_catalog *catalog, const unsigned char vault[RML_VAULT_ID_BYTES],
                      struct rml_err *err)
{
    int rc = rml_catalog_map(catalog, 0, err);
    if (rc < 0)
        return rc;
    MDB_txn *txn;
    rc = mdb_txn_begin(catalog->env, NULL, 0, &txn);
    if (rc != 0)
        return rml_catalog_fail(catalog, rc, "cannot make it", err);
    rc = rml_catalog_open_databases(catalog, txn, MDB_CREATE);
    struct rml_catalog_head head = {.next_epoch = 1};
    memcpy(head.vault, vault, sizeof head.vault);
    return commit_new(catalog, txn, rc, &head, err);
}

int rml_catalog_make(const char *folder, const unsigned char vault[RML_VAULT_ID_BYTES],
                     const struct rml_catalog_options *options, struct rml_err *err)
{
    remove_file(folder, NEW_FILE);
    struct rml_catalog *catalog = rml_catalog_new(folder, NEW_FILE, options, err);
    if (catalog == NULL)
        return -ENOMEM;
    int rc = put_in_place(catalog, folder, fill_empty(catalog, vault, err), err);
    remove_file(folder, NEW_FILE "-lock");
    return rc == 0 ? rml_disk_flush_folder(folder, err) : rc;
}

/* One of what can be read. */

struct collecting {
    struct rml_catalog *to;
    MDB_txn *txn;
    const struct rml_catalog_mending *mending;
    struct rml_catalog_head head;
    bool has_head;
    struct rml_err *err;
};

static bool wants_row(void *context, const void *key, size_t key_bytes)
{
    const struct collecting *c = context;
    struct rml_table_row row;
    return !rml_catalog_row_of(key, key_bytes, &row)
           || !c->mending->gives_up(c->mending->context, &row);
}

static int collect_head(struct collecting *c, MDB_val *key, MDB_val *value)
{
    struct rml_catalog_head_row row;
    if (!rml_catalog_value_is_whole(key, value) || value->mv_size != sizeof row)
        return RML_FAIL(c->err, -EBADMSG, "its head is damaged, too");
    memcpy(&row, value->mv_data, sizeof row);
    c->head = row.head;
    c->has_head = true;
    return 0;
}

static int collect(void *context, enum rml_catalog_tree tree, const void *key, size_t key_bytes,
                   const void *value, size_t value_bytes)
{
    struct collecting *c = context;
    struct rml_table_row row;
    MDB_val name = {.mv_size = key_bytes}, data = {.mv_size = value_bytes};
    memcpy(&name.mv_data, &key, sizeof key);  // LMDB writes to neither
    memcpy(&data.mv_data, &value, sizeof value);
    if (tree == RML_CATALOG_TREE_MAIN)
        return collect_head(c, &name, &data);
    bool is_row = tree == RML_CATALOG_TREE_ROWS;
    MDB_dbi dbi = is_row ? c->to->rows : c->to->checkpoints;
    // Entries come in order. So said, LMDB fills each page; else it would leave room, and more pages be needed.
    int rc = mdb_put(c->txn, dbi, &name, &data, MDB_APPEND);
    if (rc != 0)
        return rml_catalog_fail(c->to, rc, "cannot write it", c->err);
    if (is_row && rml_catalog_row_of(key, key_bytes, &row)) {
        bool is_good = rml_catalog_value_is_whole(&name, &data);
        row.value = data.mv_data;
        row.value_bytes = (uint32_t)data.mv_size;
        c->mending->kept(c->mending->context, &row, is_good);
    }
    return 0;
}

static void lacks(void *context, const struct rml_catalog_gap *gap)
{
    const struct collecting *c = context;
    c->mending->lacks(c->mending->context, gap);
}

static int fill_mended(struct collecting *c, const char *from, struct rml_err *err)
{
    const struct rml_catalog_entries entries = {wants_row, collect, lacks, c};
    struct stat about;
    uint64_t bytes = stat(from, &about) == 0 ? (uint64_t)about.st_size : 0;
    if (c->to->map_bytes < 2 * bytes)
        c->to->map_bytes = 2 * bytes;
    if (c->to->options.map_bytes_max < bytes)  // by other rules, as where it is opened
        c->to->options.map_bytes_max = bytes;
    int rc = rml_catalog_map(c->to, 0, err);
    if (rc < 0)
        return rc;
    rc = mdb_txn_begin(c->to->env, NULL, 0, &c->txn);
    if (rc != 0)
        return rml_catalog_fail(c->to, rc, "cannot make it", err);
    rc = rml_catalog_open_databases(c->to, c->txn, MDB_CREATE);
    rc = rc == 0 ? rml_catalog_collect(from, &entries, err)
                 : rml_catalog_fail(c->to, rc, "cannot make it", err);
    if (rc == 0 && !c->has_head)
        rc = RML_FAIL(err, -EBADMSG, "%.250s is damaged: it has no head", from);
    if (rc == 0)
        rc = c->mending->approve(c->mending->context, err);
    if (rc < 0) {
        mdb_txn_abort(c->txn);
        return rc;
    }
    return commit_new(c->to, c->txn, 0, &c->head, err);
}

/*
 * Who reads the damaged file keeps it, and the locks that go with it; for the new one LMDB makes others. Were
 * the old ones to stay, it would take the number of the next transaction from them, and the new one be refused. So they
 * go before it comes, for it may be the last that is done here; nobody writes to the damaged file, and so misses
 * nothing. Who begins to read that between the two makes locks for it, which go when it has.
 */
int rml_catalog_mend(const char *folder, const struct rml_catalog_options *options,
                     const struct rml_catalog_mending *mending, struct rml_err *err)
{
    char from[400];
    snprintf(from, sizeof from, "%s/" RML_CATALOG_FILE, folder);
    remove_file(folder, NEW_FILE);
    struct rml_catalog *catalog = rml_catalog_new(folder, NEW_FILE, options, err);
    if (catalog == NULL)
        return -ENOMEM;
    struct collecting c = {.to = catalog, .mending = mending, .err = err};
    int rc = fill_mended(&c, from, err);
    if (rc == 0)
        remove_file(folder, RML_CATALOG_FILE "-lock");
    rc = put_in_place(catalog, folder, rc, err);
    remove_file(folder, rc < 0 ? NEW_FILE : RML_CATALOG_FILE "-lock");
    remove_file(folder, NEW_FILE "-lock");
    return rc == 0 ? rml_disk_flush_folder(folder, err) : rc;
}
