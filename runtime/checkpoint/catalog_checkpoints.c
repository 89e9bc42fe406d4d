#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/err.h"
#include "runtime/checkpoint/catalog_state.h"
#include "runtime/checkpoint/catalog_value.h"

#define EPOCH_BYTES 8u

/* What the entries of "checkpoints" hold. */
struct header_row {
    int64_t wall_ns;
    uint32_t part_count, note_count;
};

struct part_row {  // then the extents, then the blob
    uint32_t extent_count, blob_bytes;
};

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
    const struct rml_value_part parts[] = {
        {&row, sizeof row},
        {part->extents, part->extent_count * sizeof *part->extents},
        {part->blob, part->blob_bytes}};
    return rml_catalog_value_put(txn, dbi, &name, parts, 3);
}

int rml_catalog_put_manifest(MDB_txn *txn, MDB_dbi dbi, const struct rml_manifest *manifest)
{
    struct epoch_key key;
    MDB_val name = make_epoch_key(&key, manifest->epoch, 'h', NULL, 0);
    struct header_row row = {manifest->wall_ns, manifest->part_count, manifest->note_count};
    int rc = rml_catalog_value_put(txn, dbi, &name, &(struct rml_value_part){&row, sizeof row}, 1);
    for (uint32_t i = 0; i < manifest->note_count && rc == 0; i++) {
        const struct rml_manifest_note *note = &manifest->notes[i];
        name = make_epoch_key(&key, manifest->epoch, 'n', note->name, strlen(note->name));
        rc = rml_catalog_value_put(txn, dbi, &name,
                                   &(struct rml_value_part){note->data, note->bytes}, 1);
    }
    for (uint32_t i = 0; i < manifest->part_count && rc == 0; i++)
        rc = put_part(txn, dbi, manifest->epoch, &manifest->parts[i]);
    return rc;
}

int rml_catalog_drop_manifest(MDB_txn *txn, MDB_dbi dbi, uint64_t epoch)
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

int rml_catalog_epochs(struct rml_catalog_view *view, uint64_t *epochs, uint32_t room)
{
    MDB_cursor *cursor;
    int rc = mdb_cursor_open(view->txn, view->catalog->checkpoints, &cursor);
    if (rc != 0)
        return rml_catalog_code(rc);
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
        if (rc == 0 && epoch_of(&key) <= epoch)  // a damaged page leads elsewhere
            rc = MDB_CORRUPTED;
    }
    mdb_cursor_close(cursor);
    return rc == 0 || rc == MDB_NOTFOUND ? (int)count : rml_catalog_code(rc);
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
        if (!rml_catalog_value_is_whole(key, value) || value->mv_size != sizeof *header)
            return -EBADMSG;
        memcpy(header, value->mv_data, sizeof *header);
        return 0;
    }
    if (kind == 'n') {
        snprintf(what, 96, "note %.*s", (int)name_bytes, name);
        return rml_catalog_value_is_whole(key, value) ? read_note(manifest, name, name_bytes, value)
                                                      : -EBADMSG;
    }
    if (kind == 'p' && name_bytes == sizeof big) {
        memcpy(&big, name, sizeof big);
        snprintf(what, 96, "partition %u", be32toh(big));
        return rml_catalog_value_is_whole(key, value) ? read_part(manifest, be32toh(big), value)
                                                      : -EBADMSG;
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
        return rml_catalog_fail(catalog, rc, "cannot read checkpoints", err);
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
