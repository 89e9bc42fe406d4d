#include "runtime/state/chunks.h"

#include <stdbool.h>
#include <string.h>

#include "runtime/base/check.h"
#include "runtime/state/roots.h"

#define PAGE_LAST (UINT32_MAX >> 8)

/* What is known of a page: it stands in the list of its size while it has room. */
struct note {
    uint32_t before, after;  // pages in the list, RML_NO_PAGE at its ends
    uint16_t used;           // chunks
    uint16_t fresh;          // chunks that were never given: the ones from here on
    uint16_t free;           // 1 + the unit of the chunk that was given back last; 0: none
    uint16_t size_log;       // 64 << size_log bytes
};

_Static_assert(sizeof(struct note) == 16, "notes fill their pages");

static struct rml_rows_shape note_shape(void)
{
    return rml_rows_shape((uint32_t)sizeof(struct note));
}

static struct note *change_note(struct rml_chunks *chunks, uint32_t page)
{
    return rml_rows_change(&chunks->notes, chunks->pages, note_shape(), page);
}

void rml_chunks_init(struct rml_chunks *chunks, struct rml_pages *pages)
{
    *chunks = (struct rml_chunks){.pages = pages};
}

void rml_chunks_fini(struct rml_chunks *chunks)
{
    if (chunks->pages != NULL)
        rml_rows_clear(&chunks->notes, chunks->pages);
    *chunks = (struct rml_chunks){0};
}

static uint32_t per_page(const struct note *note)
{
    return RML_PAGE_BYTES / RML_CHUNK_BYTES_MIN >> note->size_log;
}

static void link_page(struct rml_chunks *chunks, uint32_t page)
{
    struct note *note = change_note(chunks, page);
    note->before = RML_NO_PAGE;
    note->after = chunks->open[note->size_log];
    if (note->after != RML_NO_PAGE)
        change_note(chunks, note->after)->before = page;
    chunks->open[note->size_log] = page;
}

static void unlink_page(struct rml_chunks *chunks, const struct note *note)
{
    if (note->before != RML_NO_PAGE)
        change_note(chunks, note->before)->after = note->after;
    else
        chunks->open[note->size_log] = note->after;
    if (note->after != RML_NO_PAGE)
        change_note(chunks, note->after)->before = note->before;
}

// A page for chunks of that size, or RML_NO_PAGE.
static uint32_t open_page(struct rml_chunks *chunks, uint32_t size_log)
{
    uint32_t page = rml_pages_take(chunks->pages);
    if (page == RML_NO_PAGE)
        return RML_NO_PAGE;
    struct note *note = page <= PAGE_LAST
                            ? rml_rows_reach(&chunks->notes, chunks->pages, note_shape(), page)
                            : NULL;
    if (note == NULL) {
        rml_pages_give(chunks->pages, page);
        return RML_NO_PAGE;
    }
    *note = (struct note){.size_log = (uint16_t)size_log};
    link_page(chunks, page);
    return page;
}

uint32_t rml_chunks_take(struct rml_chunks *chunks, uint32_t bytes)
{
    RML_CHECK(bytes >= RML_CHUNK_BYTES_MIN && bytes <= RML_CHUNK_BYTES_MAX);
    uint32_t size_log = (uint32_t)__builtin_ctz(bytes / RML_CHUNK_BYTES_MIN);
    uint32_t page = chunks->open[size_log];
    if (page == RML_NO_PAGE)
        page = open_page(chunks, size_log);
    if (page == RML_NO_PAGE)
        return RML_NO_CHUNK;
    struct note *note = change_note(chunks, page);
    uint32_t unit;
    if (note->free != 0) {
        unit = note->free - 1u;
        memcpy(&note->free, rml_chunk(chunks->pages, page << 8 | unit), sizeof note->free);
    } else {
        unit = (uint32_t)note->fresh++ << size_log;
    }
    if (++note->used == per_page(note))
        unlink_page(chunks, note);
    return page << 8 | unit;
}

void rml_chunks_give(struct rml_chunks *chunks, uint32_t chunk)
{
    uint32_t page = chunk >> 8;
    struct note *note = change_note(chunks, page);
    RML_CHECK(chunk != RML_NO_CHUNK && note->used > 0);
    bool was_full = note->used == per_page(note);
    note->used--;
    if (note->used == 0) {
        if (!was_full)
            unlink_page(chunks, note);
        rml_pages_give(chunks->pages, page);
        return;
    }
    memcpy(rml_chunk_change(chunks->pages, chunk, sizeof note->free), &note->free,
           sizeof note->free);
    note->free = (uint16_t)((chunk & 0xff) + 1);
    if (was_full)
        link_page(chunks, page);
}

void rml_chunks_roots(struct rml_chunks *chunks, struct rml_roots *roots)
{
    RML_ROOTS_WALK(roots, chunks->notes);
    RML_ROOTS_WALK(roots, chunks->open);
}
