/*
 * chunks - pieces of pages, in powers of two from 64 bytes to a whole page, named by number.
 *
 * For state that grows: it begins in a small piece, moves to one of twice the size when that is full,
 * and gives the old one back. A page holds chunks of one size; a page all of whose chunks came back
 * goes back itself, so that what closed windows leave can be used for anything.
 */
#ifndef RML_STATE_CHUNKS_H
#define RML_STATE_CHUNKS_H

#include "runtime/state/rows.h"

#define RML_CHUNK_BYTES_MIN 64u
#define RML_CHUNK_BYTES_MAX RML_PAGE_BYTES
#define RML_CHUNK_SIZES     9u  // 64 << 0 ... 64 << 8
#define RML_NO_CHUNK        0u

struct rml_roots;

struct rml_chunks {
    struct rml_pages *pages;
    struct rml_rows notes;           // what is known of each page that holds chunks, by its number
    uint32_t open[RML_CHUNK_SIZES];  // a page of each size with room, the first of a list
};

/* No chunks yet; the pages stay the caller's and must outlive them. */
void rml_chunks_init(struct rml_chunks *chunks, struct rml_pages *pages);

/* Give every note back. All chunks must have been given back before. */
void rml_chunks_fini(struct rml_chunks *chunks);

/* Where chunks are, but for what is in pages (runtime/state/roots.h). */
void rml_chunks_roots(struct rml_chunks *chunks, struct rml_roots *roots);

/*
 * A chunk of `bytes`, a power of two between the limits, aligned to 64 bytes; what is in it is left
 * from before. RML_NO_CHUNK when there is no page for it. At most RML_CHUNK_PAGES_MAX pages are taken.
 */
uint32_t rml_chunks_take(struct rml_chunks *chunks, uint32_t bytes);
#define RML_CHUNK_PAGES_MAX 3u

void rml_chunks_give(struct rml_chunks *chunks, uint32_t chunk);

/* Where it lies: a page's number, and 64-byte units from the page's start in the low 8 bits. */
static inline const void *rml_chunk(const struct rml_pages *pages, uint32_t chunk)
{
    const unsigned char *page = rml_page(pages, chunk >> 8);
    return page + (size_t)(chunk & 0xff) * RML_CHUNK_BYTES_MIN;
}

/* The same, to change its first `bytes`. */
static inline void *rml_chunk_change(struct rml_pages *pages, uint32_t chunk, uint32_t bytes)
{
    return rml_change(pages, rml_chunk(pages, chunk), bytes);
}

#endif
