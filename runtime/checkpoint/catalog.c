#include "runtime/checkpoint/catalog.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "runtime/base/check.h"
#include "runtime/base/err.h"
#include "runtime/checkpoint/catalog_check.h"
#include "runtime/checkpoint/catalog_state.h"
#include "runtime/checkpoint/catalog_value.h"
#include "runtime/checkpoint/readers.h"

#define OPEN_FLAGS (MDB_NOSUBDIR | MDB_NOTLS)

int rml_catalog_code(int rc)
{
    if (rc > 0)
        return -rc;
    switch (rc) {
    case MDB_NOTFOUND:
        return -ENOENT;
    case MDB_MAP_FULL:
        return -ENOSPC;
    case MDB_VERSION_MISMATCH:
        return -EPROTONOSUPPORT;
    case MDB_PAGE_NOTFOUND:
    case MDB_CORRUPTED:
    case MDB_INVALID:
    case MDB_INCOMPATIBLE:
        return -EBADMSG;
    default:
        return -EIO;
    }
}

int rml_catalog_fail(const struct rml_catalog *catalog, int rc, const char *what,
                     struct rml_err *err)
{
    return RML_FAIL(err, rml_catalog_code(rc), "%.250s: %s: %s", catalog->path, what,
                    mdb_strerror(rc));
}

// LMDB says EIO of a disk that is full; so say how full it is.
int rml_catalog_fail_write(const struct rml_catalog *catalog, int rc, const char *table,
                           struct rml_err *err)
{
    struct statvfs disk;
    if (rml_catalog_code(rc) == -EBADMSG)
        return RML_FAIL(err, -EBADMSG, "%.250s is damaged%s%s: not committed: %s", catalog->path,
                        table[0] != '\0' ? ", in table " : "", table, mdb_strerror(rc));
    if (statvfs(catalog->path, &disk) < 0)
        return rml_catalog_fail(catalog, rc, "not committed", err);
    return RML_FAIL(err, rml_catalog_code(rc),
                    "%.250s: not committed: %s (the disk has %llu bytes free)", catalog->path,
                    mdb_strerror(rc), (unsigned long long)disk.f_bavail * disk.f_frsize);
}

/* The head. */

static MDB_val head_key(void)
{
    static char name[] = RML_CATALOG_HEAD_KEY;
    return (MDB_val){sizeof name - 1, name};
}

int rml_catalog_put_head(MDB_txn *txn, MDB_dbi dbi, const struct rml_catalog_head *head)
{
    MDB_val key = head_key();
    struct rml_catalog_head_row row = {RML_CATALOG_HEAD_MAGIC, RML_VAULT_FORMAT, mdb_txn_id(txn),
                                       *head};
    return rml_catalog_value_put(txn, dbi, &key, &(struct rml_value_part){&row, sizeof row}, 1);
}

static int get_head(const struct rml_catalog *catalog, MDB_txn *txn,
                    struct rml_catalog_head *ret_head, struct rml_err *err)
{
    MDB_val key = head_key(), value;
    int rc = mdb_get(txn, catalog->main, &key, &value);
    if (rc != 0 && rc != MDB_NOTFOUND)
        return rml_catalog_fail(catalog, rc, "reading the head", err);
    struct rml_catalog_head_row row;
    int format =
        rc == 0 ? rml_catalog_check_format(catalog->path, value.mv_data, value.mv_size, err) : 0;
    if (format < 0)
        return format;
    if (rc == MDB_NOTFOUND || value.mv_size < sizeof row)
        return RML_FAIL(err, -EBADMSG, "%.250s is damaged: it has no head", catalog->path);
    memcpy(&row, value.mv_data, sizeof row);
    if (row.magic != RML_CATALOG_HEAD_MAGIC || !rml_catalog_value_is_whole(&key, &value)
        || value.mv_size != sizeof row || row.transaction != mdb_txn_id(txn))
        return RML_FAIL(err, -EBADMSG, "%.250s is damaged: its head is not what was written",
                        catalog->path);
    *ret_head = row.head;
    return 0;
}

/* Opening. */

void rml_catalog_unmap(struct rml_catalog *catalog)
{
    if (catalog->env != NULL)
        mdb_env_close(catalog->env);
    catalog->env = NULL;
}

static uint64_t map_bytes_for(const struct rml_catalog *catalog)
{
    struct stat about;
    uint64_t file_bytes = stat(catalog->path, &about) == 0 ? (uint64_t)about.st_size : 0;
    uint64_t bytes = catalog->map_bytes > 0 ? catalog->map_bytes : catalog->options.map_bytes;
    while (bytes < file_bytes)
        bytes *= 2;
    uint64_t most = catalog->options.map_bytes_max;
    if (most < file_bytes)  // by other rules; it can be read, and shrinks no more
        most = file_bytes;
    return bytes < most ? bytes : most;
}

int rml_catalog_map(struct rml_catalog *catalog, unsigned flags, struct rml_err *err)
{
    if (!catalog->is_reading)
        catalog->map_bytes = map_bytes_for(catalog);
    int rc = mdb_env_create(&catalog->env);
    if (rc == 0)
        rc = mdb_env_set_maxdbs(catalog->env, 2);
    if (rc == 0 && !catalog->is_reading)
        rc = mdb_env_set_mapsize(catalog->env, catalog->map_bytes);
    if (rc == 0)
        rc = mdb_env_open(catalog->env, catalog->path, OPEN_FLAGS | flags, 0600);
    return rc == 0 ? 0 : rml_catalog_fail(catalog, rc, "cannot open it", err);
}

static int begin_reading(struct rml_catalog *catalog, MDB_txn **ret_txn)
{
    int rc = mdb_txn_begin(catalog->env, NULL, MDB_RDONLY, ret_txn);
    if (rc == MDB_MAP_RESIZED && catalog->views == 0) {  // the writer has made its map larger
        rc = mdb_env_set_mapsize(catalog->env, 0);
        if (rc == 0)
            rc = mdb_txn_begin(catalog->env, NULL, MDB_RDONLY, ret_txn);
        else
            catalog->has_failed = true;  // LMDB has no map any more, and would not notice
    }
    return rc;
}

int rml_catalog_open_databases(struct rml_catalog *catalog, MDB_txn *txn, unsigned flags)
{
    int rc = mdb_dbi_open(txn, NULL, 0, &catalog->main);
    if (rc == 0)
        rc = mdb_dbi_open(txn, "checkpoints", flags, &catalog->checkpoints);
    if (rc == 0)
        rc = mdb_dbi_open(txn, RML_CATALOG_ROWS, flags, &catalog->rows);
    return rc;
}

// Handles of databases, and the head.
int rml_catalog_read_head(struct rml_catalog *catalog, struct rml_err *err)
{
    MDB_txn *txn;
    int rc = begin_reading(catalog, &txn);
    if (rc != 0)
        return rml_catalog_fail(catalog, rc, "cannot read it", err);
    rc = mdb_dbi_open(txn, NULL, 0, &catalog->main);
    if (rc == 0)
        rc = get_head(catalog, txn, &catalog->head, err);
    else
        rc = rml_catalog_fail(catalog, rc, "cannot read it", err);
    if (rc == 0) {
        int opened = rml_catalog_open_databases(catalog, txn, 0);
        if (opened != 0)
            rc = RML_FAIL(err, -EBADMSG, "%.250s is damaged: it lacks a database", catalog->path);
    }
    if (rc == 0)
        mdb_txn_commit(txn);  // keeps the handles
    else
        mdb_txn_abort(txn);
    return rc;
}

struct rml_catalog *rml_catalog_new(const char *folder, const char *file,
                                    const struct rml_catalog_options *options, struct rml_err *err)
{
    struct rml_catalog *catalog = calloc(1, sizeof *catalog);
    if (catalog == NULL) {
        rml_err_set(err, -ENOMEM, "no memory for a catalog");
        return NULL;
    }
    snprintf(catalog->path, sizeof catalog->path, "%s/%s", folder, file);
    if (options != NULL)
        catalog->options = *options;
    return catalog;
}

void rml_catalog_close(struct rml_catalog *catalog)
{
    if (catalog == NULL)
        return;
    RML_CHECK(catalog->views == 0);
    rml_catalog_unmap(catalog);
    free(catalog);
}

int rml_catalog_open(struct rml_catalog **ret_catalog, const char *folder,
                     const struct rml_catalog_options *options, struct rml_err *err)
{
    struct rml_catalog *catalog = rml_catalog_new(folder, RML_CATALOG_FILE, options, err);
    if (catalog == NULL)
        return -ENOMEM;
    int rc = rml_catalog_check(catalog->path, err);
    if (rc == 0)
        rc = rml_catalog_map(catalog, 0, err);
    if (rc == 0) {
        int dead;
        mdb_reader_check(catalog->env, &dead);
        // A killed writer's last page may lie in the page cache alone.
        int synced = mdb_env_sync(catalog->env, 1);
        if (synced != 0)
            rc = rml_catalog_fail(catalog, synced, "cannot flush it", err);
    }
    if (rc == 0)
        rc = rml_catalog_read_head(catalog, err);
    if (rc < 0)
        rml_catalog_close(catalog);
    else
        *ret_catalog = catalog;
    return rc;
}

int rml_catalog_open_reading(struct rml_catalog **ret_catalog, const char *folder,
                             struct rml_err *err)
{
    struct rml_catalog *catalog = rml_catalog_new(folder, RML_CATALOG_FILE, NULL, err);
    if (catalog == NULL)
        return -ENOMEM;
    catalog->is_reading = true;
    int rc = rml_catalog_map(catalog, MDB_RDONLY, err);
    if (rc == 0)
        rc = rml_catalog_read_head(catalog, err);
    if (rc < 0)
        rml_catalog_close(catalog);
    else
        *ret_catalog = catalog;
    return rc;
}

const struct rml_catalog_head *rml_catalog_head(const struct rml_catalog *catalog)
{
    return &catalog->head;
}

bool rml_catalog_has_failed(const struct rml_catalog *catalog)
{
    return catalog->has_failed;
}

struct rml_catalog_use rml_catalog_use(const struct rml_catalog *catalog)
{
    MDB_envinfo about;
    MDB_stat tree;
    struct rml_readers readers = {0};
    if (catalog->has_failed || mdb_env_info(catalog->env, &about) != 0
        || mdb_env_stat(catalog->env, &tree) != 0 || rml_readers_look(catalog->env, &readers) != 0)
        return (struct rml_catalog_use){0};
    return (struct rml_catalog_use){
        .bytes = (about.me_last_pgno + 1) * tree.ms_psize,
        .bytes_max = catalog->options.map_bytes_max,
        .reader_count = readers.count,
        .reader_pid = readers.pid,
        .reader_state = readers.state,
        .reader_behind = readers.behind,
    };
}

/* Looking. */

int rml_catalog_look(struct rml_catalog *catalog, struct rml_catalog_view **ret_view,
                     struct rml_err *err)
{
    if (catalog->has_failed)
        return RML_FAIL(err, -EIO, "%.250s has failed: open the vault again", catalog->path);
    struct rml_catalog_view *view = calloc(1, sizeof *view);
    if (view == NULL)
        return RML_FAIL(err, -ENOMEM, "no memory for a view");
    view->catalog = catalog;
    int rc = begin_reading(catalog, &view->txn);
    if (rc != 0) {
        free(view);
        return rml_catalog_fail(catalog, rc, "cannot read it", err);
    }
    catalog->views++;
    rc = get_head(catalog, view->txn, &view->head, err);
    if (rc == 0) {
        int opened = mdb_cursor_open(view->txn, catalog->rows, &view->cursor);
        if (opened != 0)
            rc = rml_catalog_fail(catalog, opened, "cannot read rows", err);
    }
    if (rc < 0)
        rml_catalog_view_close(view);
    else
        *ret_view = view;
    return rc;
}

void rml_catalog_view_close(struct rml_catalog_view *view)
{
    if (view == NULL)
        return;
    if (view->cursor != NULL)
        mdb_cursor_close(view->cursor);
    mdb_txn_abort(view->txn);
    view->catalog->views--;
    free(view);
}

const struct rml_catalog_head *rml_catalog_view_head(const struct rml_catalog_view *view)
{
    return &view->head;
}
