/*
 * rows - an array of equal rows over pages, found by index, with room only where rows were touched.
 *
 * A row's number splits into (directory, leaf, place): a small root names directory pages, those
 * name leaf pages, leaves hold a power of two of rows. A leaf that nobody touched does not exist.
 */
#ifndef RML_STATE_ROWS_H
#define RML_STATE_ROWS_H

#include "runtime/state/pages.h"

#define RML_ROWS_ROOT       64u
#define RML_ROWS_LEAVES     (RML_PAGE_BYTES / (uint32_t)sizeof(uint32_t))  // of one directory
#define RML_ROWS_LEAVES_LOG 12u
#define RML_ROWS_BYTES_MAX  ((uint64_t)RML_ROWS_ROOT * RML_ROWS_LEAVES * RML_PAGE_BYTES)

/* How rows of some size lie in leaves; shared by all arrays of such rows. */
struct rml_rows_shape {
    uint32_t stride;    // bytes from row to row
    uint32_t leaf_log;  // a leaf holds 1 << leaf_log rows
};

struct rml_rows {
    uint32_t root[RML_ROWS_ROOT];  // directory pages
};

/* The shape for rows of `bytes`: rows up to a cache line do not straddle two. bytes <= a page. */
struct rml_rows_shape rml_rows_shape(uint32_t bytes);

/* How many rows of this shape an array can hold. */
static inline uint64_t rml_rows_max(struct rml_rows_shape shape)
{
    return ((uint64_t)RML_ROWS_ROOT * RML_ROWS_LEAVES) << shape.leaf_log;
}

/* The leaf page that holds `row`, or RML_NO_PAGE. Where there is no directory either, page 0 says so,
 * being full of zeros. */
static inline uint32_t rml_rows_leaf(const struct rml_rows *rows, const struct rml_pages *pages,
                                     struct rml_rows_shape shape, uint32_t row)
{
    uint32_t leaf = row >> shape.leaf_log;
    const uint32_t *leaves = rml_page(pages, rows->root[leaf >> RML_ROWS_LEAVES_LOG]);
    return leaves[leaf & (RML_ROWS_LEAVES - 1)];
}

/* The row at its place in a leaf that exists. */
static inline const void *rml_rows_in_leaf(const struct rml_pages *pages,
                                           struct rml_rows_shape shape, uint32_t leaf_page,
                                           uint32_t row)
{
    const unsigned char *leaf = rml_page(pages, leaf_page);
    return leaf + (size_t)(row & ((1u << shape.leaf_log) - 1)) * shape.stride;
}

/* The row; or where its leaf does not exist a place full of zeros. */
static inline const void *rml_rows_look(const struct rml_rows *rows, const struct rml_pages *pages,
                                        struct rml_rows_shape shape, uint32_t row)
{
    return rml_rows_in_leaf(pages, shape, rml_rows_leaf(rows, pages, shape, row), row);
}

/* A row that was reached before. */
static inline const void *rml_rows_known(const struct rml_rows *rows, const struct rml_pages *pages,
                                         struct rml_rows_shape shape, uint32_t row)
{
    return rml_rows_in_leaf(pages, shape, rml_rows_leaf(rows, pages, shape, row), row);
}

/* A row that was reached before, to be changed. */
static inline void *rml_rows_change(const struct rml_rows *rows, struct rml_pages *pages,
                                    struct rml_rows_shape shape, uint32_t row)
{
    return rml_change(pages, rml_rows_known(rows, pages, shape, row), shape.stride);
}

/* The row, or NULL when its leaf does not exist. */
static inline const void *rml_rows_find(const struct rml_rows *rows, const struct rml_pages *pages,
                                        struct rml_rows_shape shape, uint32_t row)
{
    uint32_t leaf = rml_rows_leaf(rows, pages, shape, row);
    return leaf == RML_NO_PAGE ? NULL : rml_rows_in_leaf(pages, shape, leaf, row);
}

/* The row, to be changed, its leaf made of zeros if it was not there; NULL when no page is left. row < rml_rows_max. */
void *rml_rows_reach(struct rml_rows *rows, struct rml_pages *pages, struct rml_rows_shape shape,
                     uint32_t row);

/* Give every page of the array back. */
void rml_rows_clear(struct rml_rows *rows, struct rml_pages *pages);

#endif
