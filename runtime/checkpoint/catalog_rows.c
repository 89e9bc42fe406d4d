#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/check.h"
#include "runtime/base/err.h"
#include "runtime/checkpoint/catalog_check.h"
#include "runtime/checkpoint/catalog_state.h"
#include "runtime/checkpoint/catalog_value.h"

_Static_assert(RML_TABLE_NAME_BYTES + RML_TABLE_KEY_BYTES <= RML_CATALOG_KEY_BYTES,
               "a name, its length and a key are a key of the catalog");

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

bool rml_catalog_row_of(const void *key, size_t key_bytes, struct rml_table_row *ret_row)
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

static bool is_before(const void *a, size_t a_bytes, const MDB_val *b)
{
    int way = memcmp(a, b->mv_data, a_bytes < b->mv_size ? a_bytes : b->mv_size);
    return way < 0 || (way == 0 && a_bytes < b->mv_size);
}

bool rml_catalog_gap_may_have(const struct rml_catalog_gap *gap, const char *table)
{
    struct row_key key;
    const MDB_val begin = make_row_key(&key, table, (uint32_t)strlen(table), "", 0);
    bool begins_in_it =
        gap->low_bytes >= begin.mv_size && memcmp(gap->low, begin.mv_data, begin.mv_size) == 0;
    bool begins_before_it = gap->low_bytes == 0 || is_before(gap->low, gap->low_bytes, &begin);
    bool ends_behind_it = gap->high_bytes == 0 || !is_before(gap->high, gap->high_bytes, &begin);
    return begins_in_it || (begins_before_it && ends_behind_it);
}

int rml_catalog_put_rows(MDB_txn *txn, MDB_dbi dbi, const struct rml_table_rows *rows,
                         char failed[RML_TABLE_NAME_BYTES])
{
    struct rml_table_row row;
    size_t at = 0;
    int rc = 0;
    while (rc == 0 && rml_table_rows_next(rows, &at, &row)) {
        struct row_key key;
        MDB_val name = make_row_key(&key, row.table, row.table_bytes, row.key, row.key_bytes);
        const struct rml_value_part value = {row.value, row.value_bytes};
        rc = row.value == NULL ? mdb_del(txn, dbi, &name, NULL)
                               : rml_catalog_value_put(txn, dbi, &name, &value, 1);
        if (row.value == NULL && rc == MDB_NOTFOUND)
            rc = 0;
        if (rc != 0)
            snprintf(failed, RML_TABLE_NAME_BYTES, "%.*s", (int)row.table_bytes, row.table);
    }
    return rc;
}

static int take_row(const struct rml_catalog_view *view, int rc, MDB_val *key, MDB_val *value,
                    struct rml_table_row *ret_row, struct rml_err *err)
{
    if (rc == MDB_NOTFOUND)
        return -ENOENT;
    if (rc != 0)
        return rml_catalog_fail(view->catalog, rc, "reading rows", err);
    if (!rml_catalog_row_of(key->mv_data, key->mv_size, ret_row))
        return RML_FAIL(err, -EBADMSG, "%.250s is damaged: a row without a table",
                        view->catalog->path);
    bool whole = rml_catalog_value_is_whole(key, value);
    ret_row->value = value->mv_data;
    ret_row->value_bytes = (uint32_t)value->mv_size;
    return whole ? 0
                 : RML_FAIL(err, -EBADMSG,
                            "%.250s is damaged: a row of table %.*s is not what was written",
                            view->catalog->path, (int)ret_row->table_bytes, ret_row->table);
}

// A damaged page leads elsewhere. Whoever goes on from there would come by here again, without end.
static int fail_out_of_order(const struct rml_catalog_view *view, struct rml_err *err)
{
    return RML_FAIL(err, -EBADMSG, "%.250s is damaged: its rows are not in order",
                    view->catalog->path);
}

int rml_catalog_row(struct rml_catalog_view *view, const char *table, const void *key,
                    uint32_t key_bytes, bool or_next, struct rml_table_row *ret_row,
                    struct rml_err *err)
{
    if (table != NULL && (strlen(table) >= RML_TABLE_NAME_BYTES || key_bytes > RML_TABLE_KEY_BYTES))
        return -ENOENT;
    struct row_key start;
    const MDB_val asked = make_row_key(&start, table != NULL ? table : "",
                                       table != NULL ? (uint32_t)strlen(table) : 0, key, key_bytes);
    MDB_val value, at = asked;
    int rc = mdb_cursor_get(view->cursor, &at, &value, or_next ? MDB_SET_RANGE : MDB_SET_KEY);
    if (rc == 0 && is_before(at.mv_data, at.mv_size, &asked))
        return fail_out_of_order(view, err);
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
    const MDB_val asked = make_row_key(&start, table, table_bytes, key != NULL ? key : behind_all,
                                       key != NULL ? key_bytes : RML_TABLE_KEY_BYTES);
    MDB_val value, at = asked;
    int rc = mdb_cursor_get(view->cursor, &at, &value, MDB_SET_RANGE);
    rc = mdb_cursor_get(view->cursor, &at, &value, rc == 0 ? MDB_PREV : MDB_LAST);
    if (rc == 0 && !is_before(at.mv_data, at.mv_size, &asked))
        return fail_out_of_order(view, err);
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
