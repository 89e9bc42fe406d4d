/*
 * pages - a partition's memory: pages of one size, named by number, never by address.
 *
 * The whole range of addresses is reserved when opening and touched page by page, so that taking a
 * page neither allocates nor fails as long as the limit is not reached. Numbers instead of pointers
 * keep state relocatable: the same bytes mean the same wherever they are mapped.
 *
 * Whoever writes into a page announces it first: what is found in pages is const, and rml_change makes
 * it writable. So it is known, in granules of 256 bytes, what differs from the last checkpoint, and a
 * checkpoint that is being copied gets the old bytes before they go (runtime/state/snapshot.h).
 */
#ifndef RML_STATE_PAGES_H
#define RML_STATE_PAGES_H

#include <stddef.h>
#include <stdint.h>

struct rml_err;
struct rml_room_pages;
struct rml_roots;
struct rml_snapshot;

#define RML_PAGE_BYTES 16384u
#define RML_NO_PAGE    0u  // page 0 is never given out, and stays full of zeros

#define RML_NO_OWNER   0u
#define RML_OWNERS_MAX 256u

#define RML_PAGE_GRANULE_BYTES 256u
#define RML_PAGE_GRANULES      (RML_PAGE_BYTES / RML_PAGE_GRANULE_BYTES)  // a bit each in 64

struct rml_pages {
    unsigned char *base;
    uint32_t limit;      // page numbers are below
    uint32_t fresh;      // the first page never given out yet
    uint32_t free_page;  // head of the list of returned pages, or RML_NO_PAGE
    uint32_t in_use;
    uint8_t owner;      // of the pages that are taken from now on
    uint64_t *changed;  // by page: granules announced since the last snapshot; NULL: nobody asks
    struct rml_snapshot *snapshot;  // where `changed` is not NULL
    // Where somebody makes room ahead (runtime/state/room.h): when `fresh` comes to wish_at, more of it is
    // wished for than what is below `touched`.
    struct rml_room_pages *room;
    uint32_t wish_at, touched;
    void *mapping;  // what `base` is the first large page of
};

/* Reserve room for `bytes_max` bytes of pages. -ENOMEM when the address space has no such room. */
int rml_pages_open(struct rml_pages *pages, uint64_t bytes_max, struct rml_err *err);
void rml_pages_close(struct rml_pages *pages);

/* A page full of zeros, or RML_NO_PAGE when the limit is reached. The last one given comes first. */
uint32_t rml_pages_take(struct rml_pages *pages);
void rml_pages_give(struct rml_pages *pages, uint32_t page);

/* Who takes pages from now on; returns who did until now. It is known of every page who took it, also after
 * a restart: a byte each, in one page of each 16384. */
static inline uint8_t rml_pages_own(struct rml_pages *pages, uint8_t owner)
{
    uint8_t before = pages->owner;
    pages->owner = owner;
    return before;
}

/* Give every page of an owner o > 0 to owners[o]; to RML_NO_OWNER: it is given back. */
void rml_pages_pass_on(struct rml_pages *pages, const uint8_t owners[RML_OWNERS_MAX]);

/* How many pages an owner has. Looks at all. */
uint32_t rml_pages_owned(const struct rml_pages *pages, uint8_t owner);

/* Which pages are in use (runtime/state/roots.h). */
void rml_pages_roots(struct rml_pages *pages, struct rml_roots *roots);

static inline const void *rml_page(const struct rml_pages *pages, uint32_t page)
{
    return pages->base + (size_t)page * RML_PAGE_BYTES;
}

/* Note granules of a page as changed, the first time since the last snapshot that some of them are. */
void rml_pages_note(struct rml_pages *pages, uint32_t page, uint64_t granules);

/*
 * `bytes` (> 0) at `at`, inside one page, are about to be written: the same place, to write through
 * until the partition's step ends.
 */
static inline void *rml_change(struct rml_pages *pages, const void *at, size_t bytes)
{
    size_t offset = (size_t)((const unsigned char *)at - pages->base);
    if (pages->changed != NULL) {
        size_t page = offset / RML_PAGE_BYTES, in_page = offset % RML_PAGE_BYTES;
        unsigned first = (unsigned)(in_page / RML_PAGE_GRANULE_BYTES);
        unsigned last = (unsigned)((in_page + bytes - 1) / RML_PAGE_GRANULE_BYTES);
        uint64_t granules = UINT64_MAX << first & UINT64_MAX >> (RML_PAGE_GRANULES - 1 - last);
        if ((~pages->changed[page] & granules) != 0)
            rml_pages_note(pages, (uint32_t)page, granules);
    }
    return pages->base + offset;
}

static inline void *rml_page_change(struct rml_pages *pages, uint32_t page)
{
    return rml_change(pages, rml_page(pages, page), RML_PAGE_BYTES);
}

#endif
