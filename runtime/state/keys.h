/*
 * keys - from a key's bytes to a small number, its slot, which indexes everything else.
 *
 * Extendible hashing (R. Fagin, J. Nievergelt, N. Pippenger, H. R. Strong, "Extendible Hashing - A
 * Fast Access Method for Dynamic Files", 1979) over the partition's pages: a directory indexed by
 * the hash's first bits names pages, and growing splits one page, so that no pause grows with the
 * number of keys. Inside a page, buckets of one cache line each hold seven short tags compared at once.
 * Look-ups of a batch run in three passes, each fetching ahead what the next one needs.
 */
#ifndef RML_STATE_KEYS_H
#define RML_STATE_KEYS_H

#include "runtime/state/rows.h"

struct rml_err;
struct rml_roots;

#define RML_NO_SLOT    UINT32_MAX
#define RML_KEYS_BLOCK 64u  // look-ups of one call at most

/* A key's row. What a user of the table keeps beside each key lies behind the key. */
struct rml_key_row {
    uint32_t
        uses;  // who needs the slot: panes that have a row for it; while it is free: the next free one
    uint32_t slot;
    unsigned char key[];
};

struct rml_keys {
    struct rml_pages *pages;
    uint32_t *directory;  // 1 << depth page numbers
    uint32_t depth;
    uint32_t key_bytes;
    uint32_t beside_at, beside_bytes;  // from the key's beginning
    uint32_t keys_max;
    uint32_t count;
    uint32_t slots_used;  // slots ever given out; all live slots are below
    uint32_t free_slot;
    struct rml_rows_shape row_shape;
    struct rml_rows rows;
};

/*
 * An empty table for keys of `key_bytes` bytes, with `beside_bytes` more beside each, which are zeros when
 * a key is new. -ENOMEM without room for the directory; -EINVAL when
 * keys_max is more than rows can index, or the pages are more than 64 GiB. The pages stay the caller's and must outlive the table.
 */
int rml_keys_open(struct rml_keys *keys, struct rml_pages *pages, uint32_t key_bytes,
                  uint32_t beside_bytes, uint32_t keys_max, struct rml_err *err);
void rml_keys_close(struct rml_keys *keys);

/*
 * Find or insert `count` keys (at most RML_KEYS_BLOCK): key i lies at key_cells + i * key_bytes, and
 * hashes[i] is its rml_key_hash_bytes. slots[i] becomes its slot, or RML_NO_SLOT when it is new and
 * a limit forbids another key. Returns how many have a slot before the first that has none. A new
 * slot's `uses` is 0: whoever needs it adds to that, and calls rml_keys_drop when it is 0 again or
 * still.
 */
uint32_t rml_keys_reach(struct rml_keys *keys, const uint64_t *hashes, const void *key_cells,
                        uint32_t count, uint32_t *restrict slots);

/* The table, but for what is in pages, and for its limits (runtime/state/roots.h). */
void rml_keys_roots(struct rml_keys *keys, struct rml_roots *roots);

/* Forget the key in `slot`, which nobody uses any more. */
void rml_keys_drop(struct rml_keys *keys, uint32_t slot);

/* The row of a slot that was given out; and to change it. */
static inline const struct rml_key_row *rml_keys_row(const struct rml_keys *keys, uint32_t slot)
{
    return rml_rows_known(&keys->rows, keys->pages, keys->row_shape, slot);
}

static inline struct rml_key_row *rml_keys_row_change(struct rml_keys *keys, uint32_t slot)
{
    return rml_rows_change(&keys->rows, keys->pages, keys->row_shape, slot);
}

/* What lies beside its key, aligned to 4 bytes. */
static inline const void *rml_keys_beside(const struct rml_keys *keys, uint32_t slot)
{
    return rml_keys_row(keys, slot)->key + keys->beside_at;
}

static inline void *rml_keys_beside_change(struct rml_keys *keys, uint32_t slot)
{
    return rml_change(keys->pages, rml_keys_beside(keys, slot), keys->beside_bytes);
}

#endif
