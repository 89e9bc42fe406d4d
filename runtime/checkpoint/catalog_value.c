#include "runtime/checkpoint/catalog_value.h"

#include <string.h>

#include "runtime/base/hash.h"

#define SUM_BYTES 8u

static uint64_t sum_of(const MDB_val *key, const void *value, size_t bytes)
{
    return XXH3_64bits_withSeed(value, bytes, XXH3_64bits(key->mv_data, key->mv_size));
}

// LMDB hands out the room, and the value is put together in it, its sum behind it.
int rml_catalog_value_put(MDB_txn *txn, MDB_dbi dbi, MDB_val *key,
                          const struct rml_value_part *parts, uint32_t count)
{
    size_t bytes = 0;
    for (uint32_t i = 0; i < count; i++)
        bytes += parts[i].bytes;
    MDB_val value = {bytes + SUM_BYTES, NULL};
    int rc = mdb_put(txn, dbi, key, &value, MDB_RESERVE);
    if (rc != 0)
        return rc;
    char *at = value.mv_data;
    for (uint32_t i = 0; i < count; at += parts[i++].bytes)
        if (parts[i].bytes > 0)
            memcpy(at, parts[i].data, parts[i].bytes);
    uint64_t sum = sum_of(key, value.mv_data, bytes);
    memcpy(at, &sum, sizeof sum);
    return 0;
}

// Is the sum right? Takes it off.
bool rml_catalog_value_is_whole(const MDB_val *key, MDB_val *value)
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
