#include "runtime/state/pages.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "runtime/base/check.h"
#include "runtime/base/err.h"
#include "runtime/state/roots.h"
#include "runtime/state/snapshot.h"

#define HUGE_BYTES ((size_t)2 << 20)

int rml_pages_open(struct rml_pages *pages, uint64_t bytes_max, struct rml_err *err)
{
    uint64_t count = bytes_max / RML_PAGE_BYTES + 1;
    if (count > UINT32_MAX)
        count = UINT32_MAX;
    size_t bytes = (size_t)count * RML_PAGE_BYTES;
    void *base = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED)
        return RML_FAIL(err, -ENOMEM, "no address space for %zu bytes of state: %s", bytes,
                        strerror(errno));
    // Large pages keep look-ups among a million keys out of the page tables; where the kernel has
    // none to give, small ones serve.
    if (bytes >= HUGE_BYTES)
        (void)madvise(base, bytes, MADV_HUGEPAGE);
    *pages = (struct rml_pages){.base = base, .limit = (uint32_t)count, .fresh = 1};
    return 0;
}

void rml_pages_close(struct rml_pages *pages)
{
    rml_snapshot_untrack(pages);
    if (pages->base != NULL)
        munmap(pages->base, (size_t)pages->limit * RML_PAGE_BYTES);
    *pages = (struct rml_pages){0};
}

uint32_t rml_pages_take(struct rml_pages *pages)
{
    uint32_t page = pages->free_page;
    if (page != RML_NO_PAGE) {
        memcpy(&pages->free_page, rml_page(pages, page), sizeof pages->free_page);
        memset(rml_page_change(pages, page), 0, RML_PAGE_BYTES);
    } else if (pages->fresh < pages->limit) {
        page = pages->fresh++;
    } else {
        return RML_NO_PAGE;
    }
    pages->in_use++;
    return page;
}

void rml_pages_give(struct rml_pages *pages, uint32_t page)
{
    RML_CHECK(page != RML_NO_PAGE && page < pages->fresh);
    RML_CHECK(pages->in_use > 0);
    memcpy(rml_change(pages, rml_page(pages, page), sizeof page), &pages->free_page, sizeof page);
    pages->free_page = page;
    pages->in_use--;
}

void rml_pages_roots(struct rml_pages *pages, struct rml_roots *roots)
{
    rml_roots_same(roots, RML_PAGE_BYTES);
    rml_roots_count(roots, &pages->fresh, pages->limit);
    rml_roots_count(roots, &pages->free_page, pages->limit - 1);
    rml_roots_count(roots, &pages->in_use, pages->limit - 1);
}
