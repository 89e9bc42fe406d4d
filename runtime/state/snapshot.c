#include "runtime/state/snapshot.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "runtime/base/check.h"
#include "runtime/base/err.h"

/* A bit for each granule, a word for each page. */
struct rml_snapshot {
    struct rml_snapshot_sink sink;
    uint64_t *left;   // still to be copied
    uint64_t *taken;  // in the last snapshot, for the case that it is abandoned
    uint32_t end;     // pages of the last snapshot are below
    uint32_t next;    // before this page nothing is left
    bool is_open;
};

_Static_assert(RML_PAGE_GRANULES == 64, "a bit for each granule of a page");

static size_t map_bytes(const struct rml_pages *pages)
{
    return (size_t)pages->limit * sizeof(uint64_t);
}

static uint64_t *open_map(const struct rml_pages *pages)
{
    void *map = mmap(NULL, map_bytes(pages), PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return map != MAP_FAILED ? map : NULL;
}

static void close_map(const struct rml_pages *pages, uint64_t *map)
{
    if (map != NULL)
        munmap(map, map_bytes(pages));
}

void rml_snapshot_untrack(struct rml_pages *pages)
{
    close_map(pages, pages->changed);
    pages->changed = NULL;
    if (pages->snapshot == NULL)
        return;
    close_map(pages, pages->snapshot->left);
    close_map(pages, pages->snapshot->taken);
    free(pages->snapshot);
    pages->snapshot = NULL;
}

int rml_snapshot_track(struct rml_pages *pages, struct rml_err *err)
{
    RML_CHECK(pages->changed == NULL);
    pages->snapshot = calloc(1, sizeof *pages->snapshot);
    if (pages->snapshot == NULL)
        return RML_FAIL(err, -ENOMEM, "no memory to note what changes");
    pages->snapshot->left = open_map(pages);
    pages->snapshot->taken = open_map(pages);
    uint64_t *changed = open_map(pages);
    if (changed == NULL || pages->snapshot->left == NULL || pages->snapshot->taken == NULL) {
        close_map(pages, changed);
        rml_snapshot_untrack(pages);
        return RML_FAIL(err, -ENOMEM, "no memory to note what changes");
    }
    pages->changed = changed;
    return 0;
}

// Copy some granules of a page out: those that lie side by side at once.
static void copy_out(struct rml_pages *pages, uint32_t page, uint64_t granules)
{
    struct rml_snapshot *s = pages->snapshot;
    const unsigned char *bytes = rml_page(pages, page);
    const struct rml_snapshot_piece piece = {
        .page = page,
        .granule_count = (uint32_t)__builtin_popcountll(granules),
        .granules = granules,
    };
    s->sink.put(s->sink.context, &piece, sizeof piece);
    while (granules != 0) {
        unsigned first = (unsigned)__builtin_ctzll(granules);
        uint64_t behind = ~(granules >> first);
        unsigned count = behind != 0 ? (unsigned)__builtin_ctzll(behind) : RML_PAGE_GRANULES;
        s->sink.put(s->sink.context, bytes + first * RML_PAGE_GRANULE_BYTES,
                    count * RML_PAGE_GRANULE_BYTES);
        granules &= first + count < RML_PAGE_GRANULES ? UINT64_MAX << (first + count) : 0;
    }
    s->left[page] &= ~piece.granules;
}

void rml_pages_note(struct rml_pages *pages, uint32_t page, uint64_t granules)
{
    uint64_t wanted = pages->snapshot->left[page] & granules;
    if (wanted != 0)
        copy_out(pages, page, wanted);
    pages->changed[page] |= granules;
}

void rml_snapshot_begin(struct rml_pages *pages, uint64_t number,
                        const struct rml_snapshot_sink *sink)
{
    struct rml_snapshot *s = pages->snapshot;
    RML_CHECK(s != NULL && !s->is_open);
    s->sink = *sink;
    s->end = pages->fresh;
    s->next = 1;
    s->is_open = true;
    for (uint32_t page = (uint32_t)(number % RML_SNAPSHOT_ROUND); page < s->end;
         page += RML_SNAPSHOT_ROUND)
        pages->changed[page] = UINT64_MAX;
    size_t bytes = s->end * sizeof(uint64_t);
    memcpy(s->left, pages->changed, bytes);
    memcpy(s->taken, pages->changed, bytes);
    memset(pages->changed, 0, bytes);
    s->left[0] = 0;  // full of zeros for ever
}

bool rml_snapshot_copy(struct rml_pages *pages, uint32_t granules)
{
    struct rml_snapshot *s = pages->snapshot;
    uint32_t done = 0;
    for (; s->is_open && s->next < s->end; s->next++) {
        uint64_t left = s->left[s->next];
        if (left == 0)
            continue;
        if (done >= granules)
            return true;
        done += (uint32_t)__builtin_popcountll(left);
        copy_out(pages, s->next, left);
    }
    s->is_open = false;
    return false;
}

bool rml_snapshot_is_open(const struct rml_pages *pages)
{
    return pages->snapshot != NULL && pages->snapshot->is_open;
}

void rml_snapshot_abandon(struct rml_pages *pages)
{
    struct rml_snapshot *s = pages->snapshot;
    for (uint32_t page = 1; page < s->end; page++) {
        pages->changed[page] |= s->taken[page];
        s->left[page] = 0;
        s->taken[page] = 0;
    }
    s->is_open = false;
}

// The size of the piece that begins there, or 0 when it is not whole, or -EBADMSG.
static int64_t piece_size(const struct rml_pages *pages, const unsigned char *at, size_t count,
                          struct rml_snapshot_piece *ret_piece)
{
    if (count < sizeof *ret_piece)
        return 0;
    memcpy(ret_piece, at, sizeof *ret_piece);
    if (ret_piece->page == RML_NO_PAGE || ret_piece->page >= pages->limit
        || ret_piece->granules == 0
        || ret_piece->granule_count != (uint32_t)__builtin_popcountll(ret_piece->granules))
        return -EBADMSG;
    size_t size = sizeof *ret_piece + (size_t)ret_piece->granule_count * RML_PAGE_GRANULE_BYTES;
    return size <= count ? (int64_t)size : 0;
}

int64_t rml_snapshot_apply(struct rml_pages *pages, const void *bytes, size_t count)
{
    RML_CHECK(pages->changed == NULL);
    const unsigned char *at = bytes;
    size_t used = 0;
    struct rml_snapshot_piece piece;
    int64_t size;
    while ((size = piece_size(pages, at + used, count - used, &piece)) > 0) {
        const unsigned char *from = at + used + sizeof piece;
        unsigned char *page = pages->base + (size_t)piece.page * RML_PAGE_BYTES;
        for (uint64_t left = piece.granules; left != 0; left &= left - 1) {
            memcpy(page + (size_t)__builtin_ctzll(left) * RML_PAGE_GRANULE_BYTES, from,
                   RML_PAGE_GRANULE_BYTES);
            from += RML_PAGE_GRANULE_BYTES;
        }
        used += (size_t)size;
    }
    return size < 0 ? size : (int64_t)used;
}
