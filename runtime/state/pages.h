/*
 * pages - a partition's memory: pages of one size, named by number, never by address.
 *
 * The whole range of addresses is reserved when opening and touched page by page, so that taking a
 * page neither allocates nor fails as long as the limit is not reached. Numbers instead of pointers
 * keep state relocatable: the same bytes mean the same wherever they are mapped.
 */
#ifndef RML_STATE_PAGES_H
#define RML_STATE_PAGES_H

#include <stddef.h>
#include <stdint.h>

struct rml_err;

#define RML_PAGE_BYTES 16384u
#define RML_NO_PAGE    0u  // page 0 is never given out, and stays full of zeros

struct rml_pages {
    unsigned char *base;
    uint32_t limit;      // pages that may be in use at once, and one for page 0
    uint32_t fresh;      // the first page never given out yet
    uint32_t free_page;  // head of the list of returned pages, or RML_NO_PAGE
    uint32_t in_use;
};

/* Reserve room for `bytes_max` bytes of pages. -ENOMEM when the address space has no such room. */
int rml_pages_open(struct rml_pages *pages, uint64_t bytes_max, struct rml_err *err);
void rml_pages_close(struct rml_pages *pages);

/* A page full of zeros, or RML_NO_PAGE when the limit is reached. The last one given comes first. */
uint32_t rml_pages_take(struct rml_pages *pages);
void rml_pages_give(struct rml_pages *pages, uint32_t page);

static inline void *rml_page(const struct rml_pages *pages, uint32_t page)
{
    return pages->base + (size_t)page * RML_PAGE_BYTES;
}

#endif
