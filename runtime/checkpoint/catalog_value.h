/*
 * catalog_value - a value as it lies in the catalog: behind it the check sum of its key and itself.
 */
#ifndef RML_CHECKPOINT_CATALOG_VALUE_H
#define RML_CHECKPOINT_CATALOG_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <lmdb.h>

struct rml_value_part {
    const void *data;
    size_t bytes;
};

/* Put a value that is made of parts. What LMDB returned. */
int rml_catalog_value_put(MDB_txn *txn, MDB_dbi dbi, MDB_val *key,
                          const struct rml_value_part *parts, uint32_t count);

/* Is the sum of a value that was found right? Takes it off. */
bool rml_catalog_value_is_whole(const MDB_val *key, MDB_val *value);

#endif
