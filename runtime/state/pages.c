#include "runtime/state/pages.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>

#include "runtime/base/check.h"
#include "runtime/base/err.h"
#include "runtime/state/room.h"
#include "runtime/state/roots.h"
#include "runtime/state/snapshot.h"

#define HUGE_BYTES  ((size_t)2 << 20)
#define SMALL_BYTES ((size_t)4096)
#define GROUP       RML_PAGE_BYTES  // pages whose owners are noted in the first of them

/*
 * Behind page 0 pages come in groups, and the first page of each has a byte for each page of it: whose it
 * is. Free pages, and those pages themselves, are nobody's.
 */
static bool is_of_owners(uint32_t page)
{
    return (page - 1) % GROUP == 0;
}

static const uint8_t *owner_at(const struct rml_pages *pages, uint32_t page)
{
    uint32_t place = (page - 1) % GROUP;
    return (const uint8_t *)rml_page(pages, page - place) + place;
}

static void set_owner(struct rml_pages *pages, uint32_t page, uint8_t owner)
{
    const uint8_t *at = owner_at(pages, page);
    if (*at != owner)
        *(uint8_t *)rml_change(pages, at, sizeof *at) = owner;
}

// With room for the base to lie where a large page begins.
static size_t mapping_bytes(uint64_t limit)
{
    return (size_t)limit * RML_PAGE_BYTES + HUGE_BYTES;
}

int rml_pages_open(struct rml_pages *pages, uint64_t bytes_max, struct rml_err *err)
{
    uint64_t count = bytes_max / RML_PAGE_BYTES + 1;
    count += (count + GROUP - 3) / (GROUP - 1);  // with those that say whose the others are
    if (count > UINT32_MAX)
        count = UINT32_MAX;
    size_t bytes = (size_t)count * RML_PAGE_BYTES;
    unsigned char *mapping = mmap(NULL, mapping_bytes(count), PROT_READ | PROT_WRITE,
                                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapping == MAP_FAILED)
        return RML_FAIL(err, -ENOMEM, "no address space for %zu bytes of state: %s", bytes,
                        strerror(errno));
    unsigned char *base = mapping + (-(uintptr_t)mapping % HUGE_BYTES);
    // Large pages keep look-ups among a million keys out of the page tables; where the kernel has
    // none to give, small ones serve.
    if (bytes >= HUGE_BYTES)
        (void)madvise(base, bytes, MADV_HUGEPAGE);
    // what keys and values there were is nobody's to see in a core
    (void)madvise(base, bytes, MADV_DONTDUMP);
    *pages =
        (struct rml_pages){.base = base, .limit = (uint32_t)count, .fresh = 1, .mapping = mapping};
    return 0;
}

void rml_pages_close(struct rml_pages *pages)
{
    rml_snapshot_untrack(pages);
    if (pages->base != NULL)
        munmap(pages->mapping, mapping_bytes(pages->limit));
    *pages = (struct rml_pages){0};
}

/*
 * Memory that is read before it is written to is one page of zeros at first, the same for all. Then writing to
 * it takes that out of the tables of whatever processor runs a thread of ours, and waits until each has
 * said so: milliseconds where one is a virtual one that does not run.
 */
static void write_first(struct rml_pages *pages, uint32_t page)
{
    volatile unsigned char *at = pages->base + (size_t)page * RML_PAGE_BYTES;
    for (size_t b = 0; b < RML_PAGE_BYTES; b += SMALL_BYTES)
        at[b] = 0;
}

uint32_t rml_pages_take(struct rml_pages *pages)
{
    uint32_t page = pages->free_page;
    if (page != RML_NO_PAGE) {
        memcpy(&pages->free_page, rml_page(pages, page), sizeof pages->free_page);
        memset(rml_page_change(pages, page), 0, RML_PAGE_BYTES);
    } else if (pages->fresh + is_of_owners(pages->fresh) < pages->limit) {
        pages->fresh += is_of_owners(pages->fresh);
        page = pages->fresh++;
        write_first(pages, page);
        if (page % RML_SNAPSHOT_MAP_PAGES == 0)
            rml_snapshot_make_room(pages);
        if (pages->room != NULL)
            rml_room_note(pages);
    } else {
        return RML_NO_PAGE;
    }
    pages->in_use++;
    set_owner(pages, page, pages->owner);
    return page;
}

void rml_pages_give(struct rml_pages *pages, uint32_t page)
{
    RML_CHECK(page != RML_NO_PAGE && page < pages->fresh);
    RML_CHECK(pages->in_use > 0);
    memcpy(rml_change(pages, rml_page(pages, page), sizeof page), &pages->free_page, sizeof page);
    pages->free_page = page;
    pages->in_use--;
    set_owner(pages, page, RML_NO_OWNER);
}

void rml_pages_pass_on(struct rml_pages *pages, const uint8_t owners[RML_OWNERS_MAX])
{
    for (uint32_t page = pages->fresh - 1; page > 0; page--) {
        uint8_t owner = is_of_owners(page) ? RML_NO_OWNER : *owner_at(pages, page);
        if (owner == RML_NO_OWNER)
            continue;
        if (owners[owner] == RML_NO_OWNER)
            rml_pages_give(pages, page);
        else
            set_owner(pages, page, owners[owner]);
    }
}

uint32_t rml_pages_owned(const struct rml_pages *pages, uint8_t owner)
{
    uint32_t count = 0;
    for (uint32_t page = 1; page < pages->fresh; page++)
        count += !is_of_owners(page) && *owner_at(pages, page) == owner;
    return count;
}

void rml_pages_roots(struct rml_pages *pages, struct rml_roots *roots)
{
    rml_roots_same(roots, RML_PAGE_BYTES);
    rml_roots_count(roots, &pages->fresh, pages->limit);
    rml_roots_count(roots, &pages->free_page, pages->limit - 1);
    rml_roots_count(roots, &pages->in_use, pages->limit - 1);
}
