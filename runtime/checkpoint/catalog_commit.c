#include <errno.h>

#include "runtime/base/check.h"
#include "runtime/base/err.h"
#include "runtime/checkpoint/catalog_state.h"
#include "runtime/checkpoint/readers.h"

static int apply(const struct rml_catalog *catalog, MDB_txn *txn,
                 const struct rml_catalog_change *change, const struct rml_catalog_head *head,
                 char failed[RML_TABLE_NAME_BYTES])
{
    int rc = 0;
    for (uint32_t i = 0; i < change->dropped_count && rc == 0; i++)
        rc = rml_catalog_drop_manifest(txn, catalog->checkpoints, change->dropped[i]);
    if (rc == 0 && change->added != NULL)
        rc = rml_catalog_put_manifest(txn, catalog->checkpoints, change->added);
    if (rc == 0 && change->rows != NULL)
        rc = rml_catalog_put_rows(txn, catalog->rows, change->rows, failed);
    return rc == 0 ? rml_catalog_put_head(txn, catalog->main, head) : rc;
}

static int refuse_to_grow(const struct rml_catalog *catalog, struct rml_err *err)
{
    struct rml_readers readers = {0};
    unsigned long long most = catalog->options.map_bytes_max;
    if (rml_readers_look(catalog->env, &readers) != 0 || readers.pid == 0)
        return RML_FAIL(err, -ENOSPC,
                        "%.250s is full: it may not grow past %llu bytes; fewer rows of tables, or "
                        "a greater limit, would help",
                        catalog->path, most);
    return RML_FAIL(err, -ENOSPC,
                    "%.250s is full: it may not grow past %llu bytes, and process %u reads a state "
                    "of %llu commits ago, so that nothing in it can be used again: end that",
                    catalog->path, most, readers.pid, (unsigned long long)readers.behind);
}

/*
 * LMDB gives the old map up before it asks for the new one, and does not notice when it has none. So when the
 * new one cannot be had it is opened again, as it was.
 */
static int make_map_larger(struct rml_catalog *catalog, struct rml_err *err)
{
    uint64_t most = catalog->options.map_bytes_max, bytes = catalog->map_bytes;
    if (bytes >= most)
        return refuse_to_grow(catalog, err);
    bytes = bytes > most / 2 ? most : 2 * bytes;
    int rc = mdb_env_set_mapsize(catalog->env, bytes);
    if (rc == 0) {
        catalog->map_bytes = bytes;
        return 0;
    }
    rml_catalog_unmap(catalog);
    struct rml_err why = {0};
    if (rml_catalog_map(catalog, 0, &why) < 0 || rml_catalog_read_head(catalog, &why) < 0) {
        catalog->has_failed = true;
        return RML_FAIL(err, -EIO, "%.250s can be mapped no more: %.150s", catalog->path, why.text);
    }
    return RML_FAIL(err, rml_catalog_code(rc),
                    "%.250s is full, and %llu bytes of it cannot be mapped: %s (ulimit -v?)",
                    catalog->path, (unsigned long long)bytes, mdb_strerror(rc));
}

/*
 * One attempt. 0, a negative errno when nothing was changed, or in `*ret_unsure` LMDB's error when
 * nobody knows.
 */
static int try_commit(struct rml_catalog *catalog, const struct rml_catalog_change *change,
                      const struct rml_catalog_head *head, int *ret_unsure, struct rml_err *err)
{
    for (;;) {
        MDB_txn *txn;
        int dead;
        char failed[RML_TABLE_NAME_BYTES] = "";
        mdb_reader_check(catalog->env, &dead);
        int rc = mdb_txn_begin(catalog->env, NULL, 0, &txn);
        if (rc != 0)
            return rml_catalog_fail(catalog, rc, "cannot begin a transaction", err);
        rc = apply(catalog, txn, change, head, failed);
        bool was_applied = rc == 0;
        if (was_applied)
            rc = mdb_txn_commit(txn);
        else
            mdb_txn_abort(txn);
        if (rc == 0)
            return 0;
        if (rc != MDB_MAP_FULL) {
            *ret_unsure = was_applied ? rc : 0;
            return rml_catalog_fail_write(catalog, rc, failed, err);
        }
        rc = make_map_larger(catalog, err);  // nothing was written yet
        if (rc < 0)
            return rc;
    }
}

/*
 * LMDB failed in the middle of a commit. Opened again, the catalog shows one state or the other, and that
 * one is flushed: what is seen then is also what a loss of power leaves. A commit that is seen, but of
 * which the last write was reported as failed, may still be in memory alone; one more commit goes
 * through to the disk, and carries it along.
 */
static int find_out(struct rml_catalog *catalog, const struct rml_catalog_head *wanted,
                    struct rml_err *err)
{
    struct rml_err why = {0};
    rml_catalog_unmap(catalog);
    int rc = rml_catalog_map(catalog, 0, &why);
    if (rc == 0) {
        int synced = mdb_env_sync(catalog->env, 1);
        if (synced != 0)
            rc = rml_catalog_fail(catalog, synced, "cannot flush it", &why);
    }
    if (rc == 0)
        rc = rml_catalog_read_head(catalog, &why);
    if (rc == 0 && catalog->head.commits < wanted->commits)
        return -EIO;  // the sentence stands: it was not committed
    if (rc == 0) {
        int unsure = 0;
        struct rml_catalog_head again = catalog->head;
        again.commits++;
        rc = try_commit(catalog, &(struct rml_catalog_change){0}, &again, &unsure, &why);
        if (rc == 0) {
            catalog->head = again;
            return 0;
        }
    }
    catalog->has_failed = true;
    return RML_FAIL(err, -EIO, "%.250s: whether the last commit took place is not known: %.150s",
                    catalog->path, why.text);
}

int rml_catalog_commit(struct rml_catalog *catalog, const struct rml_catalog_change *change,
                       struct rml_err *err)
{
    RML_CHECK(!catalog->is_reading && catalog->views == 0);
    if (catalog->has_failed)
        return RML_FAIL(err, -EIO, "%.250s has failed: open the vault again", catalog->path);
    struct rml_catalog_head head = catalog->head;
    head.newest_epoch = change->newest_epoch;
    head.next_epoch = change->next_epoch;
    head.written_bytes = change->written_bytes;
    head.commits++;
    int unsure = 0, rc = try_commit(catalog, change, &head, &unsure, err);
    if (unsure != 0)
        return find_out(catalog, &head, err);
    if (rc == 0)
        catalog->head = head;
    return rc;
}
