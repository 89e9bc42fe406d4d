#include "runtime/state/rows.h"

#include "runtime/base/check.h"

#define LINE_BYTES 64u

struct rml_rows_shape rml_rows_shape(uint32_t bytes)
{
    RML_CHECK(bytes > 0 && bytes <= RML_PAGE_BYTES);
    uint32_t stride = 8;
    while (stride < bytes && stride < LINE_BYTES)
        stride *= 2;
    if (bytes > LINE_BYTES)
        stride = (bytes + LINE_BYTES - 1) / LINE_BYTES * LINE_BYTES;
    uint32_t leaf_log = 0;
    while ((2u << leaf_log) * stride <= RML_PAGE_BYTES)
        leaf_log++;
    return (struct rml_rows_shape){.stride = stride, .leaf_log = leaf_log};
}

static uint32_t reach_page(struct rml_pages *pages, uint32_t *place)
{
    if (*place == RML_NO_PAGE)
        *place = rml_pages_take(pages);
    return *place;
}

void *rml_rows_reach(struct rml_rows *rows, struct rml_pages *pages, struct rml_rows_shape shape,
                     uint32_t row)
{
    uint32_t leaf = row >> shape.leaf_log;
    RML_CHECK(leaf >> RML_ROWS_LEAVES_LOG < RML_ROWS_ROOT);
    uint32_t directory = reach_page(pages, &rows->root[leaf >> RML_ROWS_LEAVES_LOG]);
    if (directory == RML_NO_PAGE)
        return NULL;
    const uint32_t *leaves = rml_page(pages, directory);
    const uint32_t *place = &leaves[leaf & (RML_ROWS_LEAVES - 1)];
    if (*place == RML_NO_PAGE)
        (void)reach_page(pages, rml_change(pages, place, sizeof *place));
    if (*place == RML_NO_PAGE)
        return NULL;
    return rml_change(pages, rml_rows_in_leaf(pages, shape, *place, row), shape.stride);
}

void rml_rows_clear(struct rml_rows *rows, struct rml_pages *pages)
{
    for (uint32_t i = 0; i < RML_ROWS_ROOT; i++) {
        if (rows->root[i] == RML_NO_PAGE)
            continue;
        const uint32_t *leaves = rml_page(pages, rows->root[i]);
        for (uint32_t j = 0; j < RML_ROWS_LEAVES; j++) {
            if (leaves[j] != RML_NO_PAGE)
                rml_pages_give(pages, leaves[j]);
        }
        rml_pages_give(pages, rows->root[i]);
        rows->root[i] = RML_NO_PAGE;
    }
}
