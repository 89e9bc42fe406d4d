/*
 * catalog_check - is a catalog's file sound enough to be given to LMDB?
 *
 * LMDB maps its file and believes it: a flipped bit in a page of a tree sends it to another page, into
 * an assertion or past the end of the mapping, and one in a meta page silently to an older state. So the
 * file is read here first, as any file, and everything that LMDB would follow is followed: meta pages,
 * trees, order of keys, overflow pages, and that no page which is listed as free is in use. What pages hold
 * besides is guarded by the check sums of rows (catalog.h).
 *
 * It knows LMDB's data version 1, as the 0.9 releases write it. Nobody may be writing.
 */
#ifndef RML_CHECKPOINT_CATALOG_CHECK_H
#define RML_CHECKPOINT_CATALOG_CHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct rml_err;

/* 0, or a negative errno with a sentence: -ENOENT, -EBADMSG, -EPROTONOSUPPORT, or that of reading. */
int rml_catalog_check(const char *path, struct rml_err *err);

/*
 * Is the head, as it lies in a catalog, of the format that this program reads? Other formats may have another
 * length, so this is looked at before all else of it. 0, or -EPROTONOSUPPORT with a sentence; what is no head at
 * all passes.
 */
int rml_catalog_check_format(const char *path, const void *head, size_t bytes, struct rml_err *err);

enum rml_catalog_tree {
    RML_CATALOG_TREE_FREE,  // pages that nobody uses: of no interest to who collects
    RML_CATALOG_TREE_MAIN,
    RML_CATALOG_TREE_CHECKPOINTS,
    RML_CATALOG_TREE_ROWS
};

/* Keys that nobody could read: from `low` on, and before `high`, or the one that is both. 0 bytes: no bound. */
struct rml_catalog_gap {
    const void *low, *high;
    size_t low_bytes, high_bytes;
};

/* Who collects what can be read of a catalog that is damaged. Keys and values are as they lie in the
 * database, and are gone after the call. */
struct rml_catalog_entries {
    /* Of "rows": not wanted is not even looked at. */
    bool (*wants)(void *context, const void *key, size_t key_bytes);
    /* 0, or a negative errno that ends it, with a sentence of its own. */
    int (*take)(void *context, enum rml_catalog_tree tree, const void *key, size_t key_bytes,
                const void *value, size_t value_bytes);
    /* Of "rows": what lay here cannot be read. */
    void (*lacks)(void *context, const struct rml_catalog_gap *gap);
    void *context;
};

/*
 * Every entry, in order. In "rows" what cannot be read is left out, an entry or a page at a time, and
 * told; all else has to be sound. As rml_catalog_check.
 */
int rml_catalog_collect(const char *path, const struct rml_catalog_entries *entries,
                        struct rml_err *err);

#endif
