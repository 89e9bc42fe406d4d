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
    uint64_t *used;   // not zeros since ever: written at some time before the last snapshot
    uint64_t *left;   // still to be copied
    uint64_t *taken;  // in the last snapshot, for the case that it is abandoned
    uint32_t end;     // pages of the last snapshot are below
    uint32_t next;    // before this page nothing is left
    bool is_open;
    bool is_numbered;  // there was a snapshot
    // The last snapshot that has whole the pages of this remainder, modulo the longest round.
    uint64_t whole[RML_SNAPSHOT_ROUND_MAX];
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
    close_map(pages, pages->snapshot->used);
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
    struct rml_snapshot *s = pages->snapshot;
    s->used = open_map(pages);
    s->left = open_map(pages);
    s->taken = open_map(pages);
    uint64_t *changed = open_map(pages);
    if (changed == NULL || s->used == NULL || s->left == NULL || s->taken == NULL) {
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

// Add what changed to what is used.
static uint32_t choose_round(const struct rml_pages *pages, uint32_t end)
{
    uint64_t *used = pages->snapshot->used;
    uint64_t used_count = 0, changed_count = 0;
    for (uint32_t page = 1; page < end; page++) {
        used[page] |= pages->changed[page];
        used_count += (uint64_t)__builtin_popcountll(used[page]);
        changed_count += (uint64_t)__builtin_popcountll(pages->changed[page]);
    }
    uint32_t round = RML_SNAPSHOT_ROUND_MAX;
    while (round > 1 && round * changed_count > 2 * (used_count - changed_count))
        round /= 2;
    return round;
}

// Which snapshots there must be to have all pages.
static uint32_t note_whole(struct rml_snapshot *s, uint64_t number, uint32_t round)
{
    uint64_t oldest = number;
    for (uint32_t i = 0; i < RML_SNAPSHOT_ROUND_MAX; i++) {
        if (!s->is_numbered || i % round == number % round)
            s->whole[i] = number;
        oldest = s->whole[i] < oldest ? s->whole[i] : oldest;
    }
    s->is_numbered = true;
    RML_CHECK(number - oldest < RML_SNAPSHOT_ROUND_MAX);
    return (uint32_t)(number - oldest);
}

uint32_t rml_snapshot_begin(struct rml_pages *pages, uint64_t number,
                            const struct rml_snapshot_sink *sink)
{
    struct rml_snapshot *s = pages->snapshot;
    RML_CHECK(s != NULL && !s->is_open);
    s->sink = *sink;
    s->end = pages->fresh;
    s->next = 1;
    s->is_open = true;
    uint32_t round = choose_round(pages, s->end);
    for (uint32_t page = (uint32_t)(number % round); page < s->end; page += round)
        pages->changed[page] = s->used[page];
    size_t bytes = s->end * sizeof(uint64_t);
    memcpy(s->left, pages->changed, bytes);
    memcpy(s->taken, pages->changed, bytes);
    memset(pages->changed, 0, bytes);
    s->left[0] = 0;  // full of zeros for ever
    return note_whole(s, number, round);
}

void rml_snapshot_go_on(struct rml_pages *pages, uint64_t number, uint32_t needs,
                        const uint64_t *used)
{
    struct rml_snapshot *s = pages->snapshot;
    memcpy(s->used, used, pages->fresh * sizeof *used);
    RML_CHECK(needs <= number && needs < RML_SNAPSHOT_ROUND_MAX);
    for (uint32_t i = 0; i < RML_SNAPSHOT_ROUND_MAX; i++)
        s->whole[i] = number - needs;
    // Whatever its round was, each snapshot since then had these whole.
    for (uint64_t n = number - needs; n <= number; n++)
        s->whole[n % RML_SNAPSHOT_ROUND_MAX] = n;
    s->is_numbered = true;
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
