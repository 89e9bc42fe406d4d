/*
 * table_rows - rows of result tables: one that was found, and many on their way into the catalog.
 */
#ifndef RML_CHECKPOINT_TABLE_ROWS_H
#define RML_CHECKPOINT_TABLE_ROWS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A name is shorter than that, so that one byte counts it; it and a key fit into a key of the catalog. */
#define RML_TABLE_NAME_BYTES 64u
#define RML_TABLE_KEY_BYTES  447u

struct rml_table_row {
    const char *table;  // not terminated
    const void *key, *value;
    uint32_t table_bytes, key_bytes, value_bytes;
};

/* Rows to be put or removed, one behind the other in memory. All zeros: none. */
struct rml_table_rows {
    unsigned char *bytes;
    size_t used, room;
    uint64_t count;
};

/* `value` NULL: remove it. The key has 1 to RML_TABLE_KEY_BYTES bytes. 0 or -ENOMEM. */
int rml_table_rows_put(struct rml_table_rows *rows, const char *table, const void *key,
                       uint32_t key_bytes, const void *value, uint32_t value_bytes);

/*
 * The row that begins at `*at`, which is 0 at first and is moved behind it; `value` NULL: it is to be removed. It lies
 * in the memory of `rows`. False: there is none.
 */
bool rml_table_rows_next(const struct rml_table_rows *rows, size_t *at,
                         struct rml_table_row *ret_row);

/* Forget them and keep the memory; give that back, too. */
void rml_table_rows_clear(struct rml_table_rows *rows);
void rml_table_rows_fini(struct rml_table_rows *rows);

#endif
