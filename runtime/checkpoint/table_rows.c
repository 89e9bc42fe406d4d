#include "runtime/checkpoint/table_rows.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/check.h"

#define REMOVE_VALUE UINT32_MAX

/* Before each row; behind it the table's name, the key, the value. */
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

bool rml_table_rows_next(const struct rml_table_rows *rows, size_t *at,
                         struct rml_table_row *ret_row)
{
    if (*at >= rows->used)
        return false;
    struct row_change change;
    memcpy(&change, rows->bytes + *at, sizeof change);
    const unsigned char *table = rows->bytes + *at + sizeof change;
    const unsigned char *key = table + change.table_bytes, *value = key + change.key_bytes;
    bool is_removed = change.value_bytes == REMOVE_VALUE;
    *ret_row = (struct rml_table_row){.table = (const char *)table,
                                      .table_bytes = change.table_bytes,
                                      .key = key,
                                      .key_bytes = change.key_bytes,
                                      .value = is_removed ? NULL : value,
                                      .value_bytes = is_removed ? 0 : change.value_bytes};
    *at = (size_t)(value - rows->bytes) + ret_row->value_bytes;
    return true;
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
