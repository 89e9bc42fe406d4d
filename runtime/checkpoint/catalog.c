#include "runtime/checkpoint/catalog.h"

#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <unistd.h>

#include <lmdb.h>

#include "runtime/base/check.h"
#include "runtime/base/err.h"
#include "runtime/base/hash.h"
#include "runtime/checkpoint/catalog_check.h"
#include "runtime/checkpoint/disk.h"
#include "runtime/checkpoint/readers.h"

#define SUM_BYTES    8u
#define NEW_FILE     RML_CATALOG_FILE ".new"
#define OPEN_FLAGS   (MDB_NOSUBDIR | MDB_NOTLS)
#define EPOCH_BYTES  8u
#define REMOVE_VALUE UINT32_MAX

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

/* What the rows of "checkpoints" hold. */
struct header_row {
    int64_t wall_ns;
    uint32_t part_count, note_count;
};

struct part_row {  // then the extents, then the blob
    uint32_t extent_count, blob_bytes;
};

static int code_of(int rc)
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

static int fail(const struct rml_catalog *catalog, int rc, const char *what, struct rml_err *err)
{
    return RML_FAIL(err, code_of(rc), "%.250s: %s: %s", catalog->path, what, mdb_strerror(rc));
}

// LMDB says EIO of a disk that is full; so say how full it is.
static int fail_write(const struct rml_catalog *catalog, int rc, const char *table,
                      struct rml_err *err)
{
    struct statvfs disk;
    if (code_of(rc) == -EBADMSG)
        return RML_FAIL(err, -EBADMSG, "%.250s is damaged%s%s: not committed: %s", catalog->path,
                        table[0] != '\0' ? ", in table " : "", table, mdb_strerror(rc));
    if (statvfs(catalog->path, &disk) < 0)
        return fail(catalog, rc, "not committed", err);
    return RML_FAIL(err, code_of(rc), "%.250s: not committed: %s (the disk has %llu bytes free)",
                    catalog->path, mdb_strerror(rc),
                    (unsigned long long)disk.f_bavail * disk.f_frsize);
}

/* Values with their check sums. */

static uint64_t sum_of(const MDB_val *key, const void *value, size_t bytes)
{
    return XXH3_64bits_withSeed(value, bytes, XXH3_64bits(key->mv_data, key->mv_size));
}

// LMDB hands out the room, and the value is put together in it, its sum behind it.
static int put(MDB_txn *txn, MDB_dbi dbi, MDB_val *key, const struct iovec *parts, uint32_t count)
{
    size_t bytes = 0;
    for (uint32_t i = 0; i < count; i++)
        bytes += parts[i].iov_len;
    MDB_val value = {bytes + SUM_BYTES, NULL};
    int rc = mdb_put(txn, dbi, key, &value, MDB_RESERVE);
    if (rc != 0)
        return rc;
    char *at = value.mv_data;
    for (uint32_t i = 0; i < count; at += parts[i++].iov_len)
        if (parts[i].iov_len > 0)
            memcpy(at, parts[i].iov_base, parts[i].iov_len);
    uint64_t sum = sum_of(key, value.mv_data, bytes);
    memcpy(at, &sum, sizeof sum);
    return 0;
}

// Is the sum right? Takes it off.
static bool is_whole(const MDB_val *key, MDB_val *value)
{
    if (value->mv_size < SUM_BYTES)
        return false;
    uint64_t sum;
    size_t bytes = value->mv_size - SUM_BYTES;
    memcpy(&sum, (const char *)value->mv_data + bytes, sizeof sum);
    if (sum != sum_of(key, value->mv_data, bytes))
        return false;
    value->mv_size = bytes;
    return true;
}

/* Rows on their way into a change: a head, the table's name, the key, the value. */

struct row_change {
    uint32_t table_bytes, key_bytes, value_bytes;  // REMOVE_VALUE: there is none
};

int rml_table_rows_put(struct rml_table_rows *rows, const char *table, const void *key,
                       uint32_t key_bytes, const void *value, uint32_t value_bytes)
{
    struct row_change change = {(uint32_t)strlen(table), key_bytes,
                                value != NULL ? value_bytes : REMOVE_VALUE};
    RML_CHECK(change.table_bytes > 0 && change.table_bytes < RML_TABLE_NAME_BYTES);
    RML_CHECK(key_bytes > 0 && key_bytes <= RML_TABLE_KEY_BYTES && value_bytes < REMOVE_VALUE);
    if (value == NULL)
        value_bytes = 0;
    size_t need = sizeof change + change.table_bytes + key_bytes + value_bytes;
    if (rows->room - rows->used < need) {
        size_t room = 2 * rows->room + need;
        unsigned char *bytes = realloc(rows->bytes, room);
        if (bytes == NULL)
            return -ENOMEM;
        rows->bytes = bytes;
        rows->room = room;
    }
    unsigned char *at = rows->bytes + rows->used;
    memcpy(at, &change, sizeof change);
    memcpy(at += sizeof change, table, change.table_bytes);
    memcpy(at += change.table_bytes, key, key_bytes);
    if (value_bytes > 0)
        memcpy(at + key_bytes, value, value_bytes);
    rows->used += need;
    rows->count++;
    return 0;
}

void rml_table_rows_clear(struct rml_table_rows *rows)
{
    rows->used = 0;
    rows->count = 0;
}

void rml_table_rows_fini(struct rml_table_rows *rows)
{
    free(rows->bytes);
    *rows = (struct rml_table_rows){0};
}

/* In the database a row's key is the length of the table's name, the name, and the key. */
struct row_key {
    unsigned char bytes[RML_CATALOG_KEY_BYTES];
    uint32_t used;
};

static MDB_val make_row_key(struct row_key *to, const void *table, uint32_t table_bytes,
                            const void *key, uint32_t key_bytes)
{
    RML_CHECK(1 + table_bytes + key_bytes <= sizeof to->bytes);
    to->bytes[0] = (unsigned char)table_bytes;
    memcpy(to->bytes + 1, table, table_bytes);
    if (key_bytes > 0)
        memcpy(to->bytes + 1 + table_bytes, key, key_bytes);
    to->used = 1 + table_bytes + key_bytes;
    return (MDB_val){to->used, to->bytes};
}

// As a row, where it looks like one.
static bool row_of(const void *key, size_t key_bytes, struct rml_table_row *ret_row)
{
    const unsigned char *bytes = key;
    if (key_bytes < 2 || bytes[0] + (size_t)1 >= key_bytes)
        return false;
    *ret_row = (struct rml_table_row){.table = (const char *)bytes + 1,
                                      .table_bytes = bytes[0],
                                      .key = bytes + 1 + bytes[0],
                                      .key_bytes = (uint32_t)key_bytes - 1 - bytes[0]};
    return true;
}

// `failed` is told of which table the row was that could not be put.
static int put_rows(MDB_txn *txn, MDB_dbi dbi, const struct rml_table_rows *rows,
                    char failed[RML_TABLE_NAME_BYTES])
{
    struct row_key key;
    struct row_change change;
    int rc = 0;
    for (size_t at = 0; at < rows->used && rc == 0;) {
        memcpy(&change, rows->bytes + at, sizeof change);
        unsigned char *table = rows->bytes + at + sizeof change;
        unsigned char *value = table + change.table_bytes + change.key_bytes;
        MDB_val name = make_row_key(&key, table, change.table_bytes, table + change.table_bytes,
                                    change.key_bytes);
        bool is_removed = change.value_bytes == REMOVE_VALUE;
        size_t value_bytes = is_removed ? 0 : change.value_bytes;
        at = (size_t)(value - rows->bytes) + value_bytes;
        rc = is_removed ? mdb_del(txn, dbi, &name, NULL)
                        : put(txn, dbi, &name, &(struct iovec){value, value_bytes}, 1);
        if (is_removed && rc == MDB_NOTFOUND)
            rc = 0;
        if (rc != 0)
            snprintf(failed, RML_TABLE_NAME_BYTES, "%.*s", (int)change.table_bytes,
                     (const char *)table);
    }
    return rc;
}

/* Rows of a checkpoint. */

struct epoch_key {
    unsigned char bytes[EPOCH_BYTES + 1 + RML_NOTE_NAME_BYTES];
};

static MDB_val make_epoch_key(struct epoch_key *to, uint64_t epoch, char kind, const void *name,
                              size_t name_bytes)
{
    uint64_t big = htobe64(epoch);
    memcpy(to->bytes, &big, sizeof big);
    to->bytes[EPOCH_BYTES] = (unsigned char)kind;
    if (name_bytes > 0)
        memcpy(to->bytes + EPOCH_BYTES + 1, name, name_bytes);
    return (MDB_val){EPOCH_BYTES + 1 + name_bytes, to->bytes};
}

static uint64_t epoch_of(const MDB_val *key)
{
    uint64_t big = 0;
    if (key->mv_size > EPOCH_BYTES)
        memcpy(&big, key->mv_data, sizeof big);
    return be64toh(big);
}

static int put_part(MDB_txn *txn, MDB_dbi dbi, uint64_t epoch, const struct rml_manifest_part *part)
{
    struct epoch_key key;
    uint32_t big = htobe32(part->partition);
    MDB_val name = make_epoch_key(&key, epoch, 'p', &big, sizeof big);
    struct part_row row = {part->extent_count, part->blob_bytes};
    const struct iovec parts[] = {{&row, sizeof row},
                                  {part->extents, part->extent_count * sizeof *part->extents},
                                  {part->blob, part->blob_bytes}};
    return put(txn, dbi, &name, parts, 3);
}

static int put_manifest(MDB_txn *txn, MDB_dbi dbi, const struct rml_manifest *manifest)
{
    struct epoch_key key;
    MDB_val name = make_epoch_key(&key, manifest->epoch, 'h', NULL, 0);
    struct header_row row = {manifest->wall_ns, manifest->part_count, manifest->note_count};
    int rc = put(txn, dbi, &name, &(struct iovec){&row, sizeof row}, 1);
    for (uint32_t i = 0; i < manifest->note_count && rc == 0; i++) {
        const struct rml_manifest_note *note = &manifest->notes[i];
        name = make_epoch_key(&key, manifest->epoch, 'n', note->name, strlen(note->name));
        rc = put(txn, dbi, &name, &(struct iovec){note->data, note->bytes}, 1);
    }
    for (uint32_t i = 0; i < manifest->part_count && rc == 0; i++)
        rc = put_part(txn, dbi, manifest->epoch, &manifest->parts[i]);
    return rc;
}

static int drop_epoch(MDB_txn *txn, MDB_dbi dbi, uint64_t epoch)
{
    MDB_cursor *cursor;
    int rc = mdb_cursor_open(txn, dbi, &cursor);
    if (rc != 0)
        return rc;
    while (rc == 0) {
        struct epoch_key start;
        MDB_val key = make_epoch_key(&start, epoch, '\0', NULL, 0), value;
        rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
        if (rc == 0)
            rc = epoch_of(&key) == epoch ? mdb_cursor_del(cursor, 0) : MDB_NOTFOUND;
    }
    mdb_cursor_close(cursor);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

/* The head. */

static MDB_val head_key(void)
{
    static char name[] = RML_CATALOG_HEAD_KEY;
    return (MDB_val){sizeof name - 1, name};
}

static int put_head(MDB_txn *txn, MDB_dbi dbi, const struct rml_catalog_head *head)
{
    MDB_val key = head_key();
    struct rml_catalog_head_row row = {RML_CATALOG_HEAD_MAGIC, RML_VAULT_FORMAT, mdb_txn_id(txn),
                                       *head};
    return put(txn, dbi, &key, &(struct iovec){&row, sizeof row}, 1);
}

static int get_head(const struct rml_catalog *catalog, MDB_txn *txn,
                    struct rml_catalog_head *ret_head, struct rml_err *err)
{
    MDB_val key = head_key(), value;
    int rc = mdb_get(txn, catalog->main, &key, &value);
    if (rc != 0 && rc != MDB_NOTFOUND)
        return fail(catalog, rc, "reading the head", err);
    struct rml_catalog_head_row row;
    int format =
        rc == 0 ? rml_catalog_check_format(catalog->path, value.mv_data, value.mv_size, err) : 0;
    if (format < 0)
        return format;
    if (rc == MDB_NOTFOUND || value.mv_size < sizeof row)
        return RML_FAIL(err, -EBADMSG, "%.250s is damaged: it has no head", catalog->path);
    memcpy(&row, value.mv_data, sizeof row);
    if (row.magic != RML_CATALOG_HEAD_MAGIC || !is_whole(&key, &value)
        || value.mv_size != sizeof row || row.transaction != mdb_txn_id(txn))
        return RML_FAIL(err, -EBADMSG, "%.250s is damaged: its head is not what was written",
                        catalog->path);
    *ret_head = row.head;
    return 0;
}

/* Opening. */

static void close_env(struct rml_catalog *catalog)
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

static int open_env(struct rml_catalog *catalog, unsigned flags, struct rml_err *err)
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
    return rc == 0 ? 0 : fail(catalog, rc, "cannot open it", err);
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

static int open_databases(struct rml_catalog *catalog, MDB_txn *txn, unsigned flags)
{
    int rc = mdb_dbi_open(txn, NULL, 0, &catalog->main);
    if (rc == 0)
        rc = mdb_dbi_open(txn, "checkpoints", flags, &catalog->checkpoints);
    if (rc == 0)
        rc = mdb_dbi_open(txn, RML_CATALOG_ROWS, flags, &catalog->rows);
    return rc;
}

// Handles of databases, and the head.
static int read_head(struct rml_catalog *catalog, struct rml_err *err)
{
    MDB_txn *txn;
    int rc = begin_reading(catalog, &txn);
    if (rc != 0)
        return fail(catalog, rc, "cannot read it", err);
    rc = mdb_dbi_open(txn, NULL, 0, &catalog->main);
    if (rc == 0)
        rc = get_head(catalog, txn, &catalog->head, err);
    else
        rc = fail(catalog, rc, "cannot read it", err);
    if (rc == 0) {
        int opened = open_databases(catalog, txn, 0);
        if (opened != 0)
            rc = RML_FAIL(err, -EBADMSG, "%.250s is damaged: it lacks a database", catalog->path);
    }
    if (rc == 0)
        mdb_txn_commit(txn);  // keeps the handles
    else
        mdb_txn_abort(txn);
    return rc;
}

static struct rml_catalog *new_catalog(const char *folder, const char *file,
                                       const struct rml_catalog_options *options,
                                       struct rml_err *err)
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
    close_env(catalog);
    free(catalog);
}

// Under another name until it is whole: a power loss may tear LMDB's first pages.
static int fill_new(struct rml_catalog *catalog, const unsigned char vault[RML_VAULT_ID_BYTES],
                    struct rml_err *err)
{
    int rc = open_env(catalog, 0, err);
    if (rc < 0)
        return rc;
    MDB_txn *txn;
    rc = mdb_txn_begin(catalog->env, NULL, 0, &txn);
    if (rc != 0)
        return fail(catalog, rc, "cannot make it", err);
    rc = open_databases(catalog, txn, MDB_CREATE);
    struct rml_catalog_head head = {.next_epoch = 1};
    memcpy(head.vault, vault, sizeof head.vault);
    if (rc == 0)
        rc = put_head(txn, catalog->main, &head);
    if (rc == 0)
        rc = mdb_txn_commit(txn);
    else
        mdb_txn_abort(txn);
    if (rc == 0)
        rc = mdb_env_sync(catalog->env, 1);
    return rc == 0 ? 0 : fail_write(catalog, rc, "", err);
}

static void remove_file(const char *folder, const char *file)
{
    char path[400];
    snprintf(path, sizeof path, "%s/%s", folder, file);
    unlink(path);
}

int rml_catalog_make(const char *folder, const unsigned char vault[RML_VAULT_ID_BYTES],
                     const struct rml_catalog_options *options, struct rml_err *err)
{
    remove_file(folder, NEW_FILE);
    struct rml_catalog *catalog = new_catalog(folder, NEW_FILE, options, err);
    if (catalog == NULL)
        return -ENOMEM;
    int rc = fill_new(catalog, vault, err);
    close_env(catalog);
    char path[400];
    snprintf(path, sizeof path, "%s/" RML_CATALOG_FILE, folder);
    if (rc == 0 && rename(catalog->path, path) < 0)
        rc = RML_FAIL(err, -errno, "cannot rename %.250s: %s", catalog->path,
                      strerrordesc_np(errno));
    rml_catalog_close(catalog);
    remove_file(folder, NEW_FILE "-lock");
    return rc == 0 ? rml_disk_flush_folder(folder, err) : rc;
}

/* Mending: what can be read, into another file. */

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
    return !row_of(key, key_bytes, &row) || !c->mending->gives_up(c->mending->context, &row);
}

static int collect_head(struct collecting *c, MDB_val *key, MDB_val *value)
{
    struct rml_catalog_head_row row;
    if (!is_whole(key, value) || value->mv_size != sizeof row)
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
    int rc = mdb_put(c->txn, dbi, &name, &data, 0);
    if (rc != 0)
        return fail(c->to, rc, "cannot write it", c->err);
    if (is_row && row_of(key, key_bytes, &row)) {
        bool is_good = is_whole(&name, &data);
        row.value = data.mv_data;
        row.value_bytes = (uint32_t)data.mv_size;
        c->mending->kept(c->mending->context, &row, is_good);
    }
    return 0;
}

static int fill_mended(struct collecting *c, const char *from, struct rml_err *err)
{
    const struct rml_catalog_entries entries = {wants_row, collect, c};
    struct stat about;
    uint64_t left_out = 0;
    if (stat(from, &about) == 0 && c->to->map_bytes < 2 * (uint64_t)about.st_size)
        c->to->map_bytes = 2 * (uint64_t)about.st_size;
    int rc = open_env(c->to, 0, err);
    if (rc < 0)
        return rc;
    rc = mdb_txn_begin(c->to->env, NULL, 0, &c->txn);
    if (rc != 0)
        return fail(c->to, rc, "cannot make it", err);
    rc = open_databases(c->to, c->txn, MDB_CREATE);
    rc = rc == 0 ? rml_catalog_collect(from, &entries, &left_out, err)
                 : fail(c->to, rc, "cannot make it", err);
    if (rc == 0 && !c->has_head)
        rc = RML_FAIL(err, -EBADMSG, "%.250s is damaged: it has no head", from);
    if (rc == 0)
        rc = c->mending->approve(c->mending->context, left_out, err);
    if (rc < 0) {
        mdb_txn_abort(c->txn);
        return rc;
    }
    rc = put_head(c->txn, c->to->main, &c->head);
    if (rc == 0)
        rc = mdb_txn_commit(c->txn);
    else
        mdb_txn_abort(c->txn);
    if (rc == 0)
        rc = mdb_env_sync(c->to->env, 1);
    return rc == 0 ? 0 : fail_write(c->to, rc, "", err);
}

/*
 * Who reads the damaged file keeps it, and the locks that go with it; for the new one LMDB makes others. Were
 * the old ones to stay, it would take the number of the next transaction from them.
 */
int rml_catalog_mend(const char *folder, const struct rml_catalog_options *options,
                     const struct rml_catalog_mending *mending, struct rml_err *err)
{
    char from[400];
    snprintf(from, sizeof from, "%s/" RML_CATALOG_FILE, folder);
    remove_file(folder, NEW_FILE);
    struct rml_catalog *catalog = new_catalog(folder, NEW_FILE, options, err);
    if (catalog == NULL)
        return -ENOMEM;
    struct collecting c = {.to = catalog, .mending = mending, .err = err};
    int rc = fill_mended(&c, from, err);
    close_env(catalog);
    if (rc == 0 && rename(catalog->path, from) < 0)
        rc = RML_FAIL(err, -errno, "cannot rename %.250s: %s", catalog->path,
                      strerrordesc_np(errno));
    rml_catalog_close(catalog);
    if (rc < 0)
        remove_file(folder, NEW_FILE);
    else
        remove_file(folder, RML_CATALOG_FILE "-lock");
    remove_file(folder, NEW_FILE "-lock");
    return rc == 0 ? rml_disk_flush_folder(folder, err) : rc;
}

int rml_catalog_open(struct rml_catalog **ret_catalog, const char *folder,
                     const struct rml_catalog_options *options, struct rml_err *err)
{
    struct rml_catalog *catalog = new_catalog(folder, RML_CATALOG_FILE, options, err);
    if (catalog == NULL)
        return -ENOMEM;
    int rc = rml_catalog_check(catalog->path, err);
    if (rc == 0)
        rc = open_env(catalog, 0, err);
    if (rc == 0) {
        int dead;
        mdb_reader_check(catalog->env, &dead);
        // A killed writer's last page may lie in the page cache alone.
        int synced = mdb_env_sync(catalog->env, 1);
        if (synced != 0)
            rc = fail(catalog, synced, "cannot flush it", err);
    }
    if (rc == 0)
        rc = read_head(catalog, err);
    if (rc < 0)
        rml_catalog_close(catalog);
    else
        *ret_catalog = catalog;
    return rc;
}

int rml_catalog_open_reading(struct rml_catalog **ret_catalog, const char *folder,
                             struct rml_err *err)
{
    struct rml_catalog *catalog = new_catalog(folder, RML_CATALOG_FILE, NULL, err);
    if (catalog == NULL)
        return -ENOMEM;
    catalog->is_reading = true;
    int rc = open_env(catalog, MDB_RDONLY, err);
    if (rc == 0)
        rc = read_head(catalog, err);
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

/* Committing. */

static int apply(const struct rml_catalog *catalog, MDB_txn *txn,
                 const struct rml_catalog_change *change, const struct rml_catalog_head *head,
                 char failed[RML_TABLE_NAME_BYTES])
{
    int rc = 0;
    for (uint32_t i = 0; i < change->dropped_count && rc == 0; i++)
        rc = drop_epoch(txn, catalog->checkpoints, change->dropped[i]);
    if (rc == 0 && change->added != NULL)
        rc = put_manifest(txn, catalog->checkpoints, change->added);
    if (rc == 0 && change->rows != NULL)
        rc = put_rows(txn, catalog->rows, change->rows, failed);
    return rc == 0 ? put_head(txn, catalog->main, head) : rc;
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
    close_env(catalog);
    struct rml_err why = {0};
    if (open_env(catalog, 0, &why) < 0 || read_head(catalog, &why) < 0) {
        catalog->has_failed = true;
        return RML_FAIL(err, -EIO, "%.250s can be mapped no more: %.150s", catalog->path, why.text);
    }
    return RML_FAIL(err, code_of(rc),
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
            return fail(catalog, rc, "cannot begin a transaction", err);
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
            return fail_write(catalog, rc, failed, err);
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
    close_env(catalog);
    int rc = open_env(catalog, 0, &why);
    if (rc == 0) {
        int synced = mdb_env_sync(catalog->env, 1);
        if (synced != 0)
            rc = fail(catalog, synced, "cannot flush it", &why);
    }
    if (rc == 0)
        rc = read_head(catalog, &why);
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
        return fail(catalog, rc, "cannot read it", err);
    }
    catalog->views++;
    rc = get_head(catalog, view->txn, &view->head, err);
    if (rc == 0) {
        int opened = mdb_cursor_open(view->txn, catalog->rows, &view->cursor);
        if (opened != 0)
            rc = fail(catalog, opened, "cannot read rows", err);
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

int rml_catalog_epochs(struct rml_catalog_view *view, uint64_t *epochs, uint32_t room)
{
    MDB_cursor *cursor;
    int rc = mdb_cursor_open(view->txn, view->catalog->checkpoints, &cursor);
    if (rc != 0)
        return code_of(rc);
    uint32_t count = 0;
    struct epoch_key start;
    MDB_val key, value;
    rc = mdb_cursor_get(cursor, &key, &value, MDB_FIRST);
    while (rc == 0) {
        uint64_t epoch = epoch_of(&key);
        if (count < room)
            epochs[count] = epoch;
        count++;
        if (epoch == UINT64_MAX)
            break;
        key = make_epoch_key(&start, epoch + 1, '\0', NULL, 0);
        rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
    }
    mdb_cursor_close(cursor);
    return rc == 0 || rc == MDB_NOTFOUND ? (int)count : code_of(rc);
}

static int read_part(struct rml_manifest *manifest, uint32_t partition, const MDB_val *value)
{
    struct part_row row;
    if (value->mv_size < sizeof row)
        return -EBADMSG;
    memcpy(&row, value->mv_data, sizeof row);
    size_t extents_bytes = row.extent_count * sizeof(struct rml_extent);
    if (value->mv_size != sizeof row + extents_bytes + row.blob_bytes)
        return -EBADMSG;
    struct rml_manifest_part *part = rml_manifest_add_part(manifest, partition);
    if (part == NULL)
        return -ENOMEM;
    const char *at = (const char *)value->mv_data + sizeof row;
    int rc = 0;
    for (uint32_t i = 0; i < row.extent_count && rc == 0; i++) {
        struct rml_extent extent;  // the database aligns nothing
        memcpy(&extent, at + i * sizeof extent, sizeof extent);
        rc = rml_manifest_add_extents(part, &extent, 1);
    }
    return rc == 0 ? rml_manifest_describe(part, at + extents_bytes, row.blob_bytes) : rc;
}

static int read_note(struct rml_manifest *manifest, const char *name, size_t name_bytes,
                     const MDB_val *value)
{
    char text[RML_NOTE_NAME_BYTES];
    if (name_bytes >= sizeof text)
        return -EBADMSG;
    memcpy(text, name, name_bytes);
    text[name_bytes] = '\0';
    return rml_manifest_set_note(manifest, text, value->mv_data, (uint32_t)value->mv_size);
}

// One row into the manifest; what the row is goes to `what` first, for whoever has to name it.
static int read_row(struct rml_manifest *manifest, struct header_row *header, const MDB_val *key,
                    MDB_val *value, char what[96])
{
    const char *name = (const char *)key->mv_data + EPOCH_BYTES + 1;
    size_t name_bytes = key->mv_size - EPOCH_BYTES - 1;
    char kind = ((const char *)key->mv_data)[EPOCH_BYTES];
    uint32_t big;
    if (kind == 'h' && name_bytes == 0) {
        snprintf(what, 96, "header");
        if (!is_whole(key, value) || value->mv_size != sizeof *header)
            return -EBADMSG;
        memcpy(header, value->mv_data, sizeof *header);
        return 0;
    }
    if (kind == 'n') {
        snprintf(what, 96, "note %.*s", (int)name_bytes, name);
        return is_whole(key, value) ? read_note(manifest, name, name_bytes, value) : -EBADMSG;
    }
    if (kind == 'p' && name_bytes == sizeof big) {
        memcpy(&big, name, sizeof big);
        snprintf(what, 96, "partition %u", be32toh(big));
        return is_whole(key, value) ? read_part(manifest, be32toh(big), value) : -EBADMSG;
    }
    snprintf(what, 96, "row of no known kind");
    return -EBADMSG;
}

static int read_rows(MDB_cursor *cursor, uint64_t epoch, struct rml_manifest *manifest,
                     char what[96])
{
    struct epoch_key start;
    MDB_val key = make_epoch_key(&start, epoch, '\0', NULL, 0), value;
    int found = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
    if (found != 0 || epoch_of(&key) != epoch)
        return -ENOENT;
    struct header_row header = {.part_count = UINT32_MAX};
    int rc = 0;
    while (rc == 0 && found == 0 && epoch_of(&key) == epoch) {
        rc = read_row(manifest, &header, &key, &value, what);
        found = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
    }
    if (rc < 0)
        return rc;
    snprintf(what, 96, "list of rows");
    if (header.part_count != manifest->part_count || header.note_count != manifest->note_count)
        return -EBADMSG;
    manifest->wall_ns = header.wall_ns;
    return 0;
}

int rml_catalog_manifest(struct rml_catalog_view *view, uint64_t epoch,
                         struct rml_manifest *ret_manifest, struct rml_err *err)
{
    const struct rml_catalog *catalog = view->catalog;
    MDB_cursor *cursor;
    int rc = mdb_cursor_open(view->txn, catalog->checkpoints, &cursor);
    if (rc != 0)
        return fail(catalog, rc, "cannot read checkpoints", err);
    char what[96] = "";
    struct rml_manifest manifest = {.epoch = epoch};
    rc = read_rows(cursor, epoch, &manifest, what);
    mdb_cursor_close(cursor);
    if (rc == 0) {
        *ret_manifest = manifest;
        return 0;
    }
    rml_manifest_fini(&manifest);
    if (rc == -ENOENT)
        return RML_FAIL(err, rc, "%.250s: there is no checkpoint %llu", catalog->path,
                        (unsigned long long)epoch);
    if (rc == -ENOMEM)
        return RML_FAIL(err, rc, "no memory for the manifest of checkpoint %llu",
                        (unsigned long long)epoch);
    return RML_FAIL(err, rc, "%.250s: checkpoint %llu is damaged: the %s is not what was written",
                    catalog->path, (unsigned long long)epoch, what);
}

static int take_row(const struct rml_catalog_view *view, int rc, MDB_val *key, MDB_val *value,
                    struct rml_table_row *ret_row, struct rml_err *err)
{
    if (rc == MDB_NOTFOUND)
        return -ENOENT;
    if (rc != 0)
        return fail(view->catalog, rc, "reading rows", err);
    if (!row_of(key->mv_data, key->mv_size, ret_row))
        return RML_FAIL(err, -EBADMSG, "%.250s is damaged: a row without a table",
                        view->catalog->path);
    bool whole = is_whole(key, value);
    ret_row->value = value->mv_data;
    ret_row->value_bytes = (uint32_t)value->mv_size;
    return whole ? 0
                 : RML_FAIL(err, -EBADMSG,
                            "%.250s is damaged: a row of table %.*s is not what was written",
                            view->catalog->path, (int)ret_row->table_bytes, ret_row->table);
}

int rml_catalog_row(struct rml_catalog_view *view, const char *table, const void *key,
                    uint32_t key_bytes, bool or_next, struct rml_table_row *ret_row,
                    struct rml_err *err)
{
    if (table != NULL && (strlen(table) >= RML_TABLE_NAME_BYTES || key_bytes > RML_TABLE_KEY_BYTES))
        return -ENOENT;
    struct row_key start;
    MDB_val value, at = make_row_key(&start, table != NULL ? table : "",
                                     table != NULL ? (uint32_t)strlen(table) : 0, key, key_bytes);
    int rc = mdb_cursor_get(view->cursor, &at, &value, or_next ? MDB_SET_RANGE : MDB_SET_KEY);
    if (rc == 0 && table != NULL
        && (at.mv_size <= strlen(table) + 1
            || memcmp(at.mv_data, start.bytes, strlen(table) + 1) != 0))
        return -ENOENT;
    return take_row(view, rc, &at, &value, ret_row, err);
}

int rml_catalog_row_before(struct rml_catalog_view *view, const char *table, const void *key,
                           uint32_t key_bytes, struct rml_table_row *ret_row, struct rml_err *err)
{
    unsigned char behind_all[RML_TABLE_KEY_BYTES];  // no row has such a key
    struct row_key start;
    uint32_t table_bytes = (uint32_t)strlen(table);
    RML_CHECK(table_bytes < RML_TABLE_NAME_BYTES && key_bytes <= RML_TABLE_KEY_BYTES);
    memset(behind_all, 0xff, sizeof behind_all);
    MDB_val value, at = make_row_key(&start, table, table_bytes, key != NULL ? key : behind_all,
                                     key != NULL ? key_bytes : RML_TABLE_KEY_BYTES);
    int rc = mdb_cursor_get(view->cursor, &at, &value, MDB_SET_RANGE);
    rc = mdb_cursor_get(view->cursor, &at, &value, rc == 0 ? MDB_PREV : MDB_LAST);
    if (rc == 0
        && (at.mv_size <= table_bytes + 1 || memcmp(at.mv_data, start.bytes, table_bytes + 1) != 0))
        return -ENOENT;
    return take_row(view, rc, &at, &value, ret_row, err);
}

int rml_catalog_next_row(struct rml_catalog_view *view, struct rml_table_row *ret_row,
                         struct rml_err *err)
{
    MDB_val key, value;
    int rc = mdb_cursor_get(view->cursor, &key, &value, MDB_NEXT);
    return take_row(view, rc, &key, &value, ret_row, err);
}
