#include "runtime/state/snapshot.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "runtime/base/check.h"
#include "runtime/base/err.h"
#include "runtime/state/room.h"

#define LOOK_PAGES \
 1024u  // that a call looks at, with or without something to copy: some microseconds

/*
 * A bit for each granule, a word for each page. Nothing is done for all pages at once, since there may be
 * a million: a snapshot begins by exchanging maps, and what concerns each page is done when the copying
 * comes to it (sweep), or when the page is about to change, if that is sooner (list_round).
 *
 *                 before the sweep comes        behind it
 *     left        changed before the moment     0
 *     taken       0, or copied on update        all of the page that is in the snapshot
 *     last_taken  of the snapshot before        0
 *     used        without what is in this one   with it
 */
struct rml_snapshot {
    struct rml_snapshot_sink sink;
    uint64_t *left;        // still to be copied
    uint64_t *taken;       // copied in this snapshot, for the case that it is abandoned
    uint64_t *last_taken;  // becomes zeros, and the next one's `taken`
    uint64_t *used;        // not zeros since ever: they were in some snapshot
    uint32_t end;          // pages of the last snapshot are below
    uint32_t next;         // where the sweep is
    uint32_t round;
    uint64_t number;
    uint64_t changed_count, used_count;  // granules in `changed`, in `used`
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
    close_map(pages, pages->snapshot->last_taken);
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
    s->last_taken = open_map(pages);
    uint64_t *changed = open_map(pages);
    if (changed == NULL || s->used == NULL || s->left == NULL || s->taken == NULL
        || s->last_taken == NULL) {
        close_map(pages, changed);
        rml_snapshot_untrack(pages);
        return RML_FAIL(err, -ENOMEM, "no memory to note what changes");
    }
    pages->changed = changed;
    return 0;
}

_Static_assert(RML_SNAPSHOT_MAP_PAGES * sizeof(uint64_t) == 4096, "they fill what is touched");

void rml_snapshot_make_room(struct rml_pages *pages)
{
    const struct rml_snapshot *s = pages->snapshot;
    size_t from = (size_t)pages->fresh / RML_SNAPSHOT_MAP_PAGES * RML_SNAPSHOT_MAP_PAGES
                  + RML_SNAPSHOT_MAP_PAGES;
    if (s == NULL || from + RML_SNAPSHOT_MAP_PAGES > pages->limit)
        return;
    uint64_t *const maps[] = {pages->changed, s->left, s->taken, s->last_taken, s->used};
    for (size_t i = 0; i < sizeof maps / sizeof maps[0]; i++)
        rml_room_touch(pages, maps[i] + from, RML_SNAPSHOT_MAP_PAGES * sizeof(uint64_t));
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
    s->taken[page] |= piece.granules;
}

// A page whose turn it is has all that was ever used in the snapshot.
static void list_round(struct rml_snapshot *s, uint32_t page)
{
    if (page >= s->next && page < s->end && page % s->round == s->number % s->round)
        s->left[page] |= s->used[page] & ~s->taken[page];
}

void rml_pages_note(struct rml_pages *pages, uint32_t page, uint64_t granules)
{
    struct rml_snapshot *s = pages->snapshot;
    if (s->is_open)
        list_round(s, page);
    uint64_t wanted = s->left[page] & granules;
    if (wanted != 0)
        copy_out(pages, page, wanted);
    s->changed_count += (uint64_t)__builtin_popcountll(granules & ~pages->changed[page]);
    pages->changed[page] |= granules;
}

// What was used for the first time since the last snapshot is not known to be before the sweep.
static uint32_t choose_round(const struct rml_snapshot *s)
{
    uint64_t changed = s->changed_count;
    uint64_t used = s->used_count > changed ? s->used_count : changed;
    uint32_t round = RML_SNAPSHOT_ROUND_MAX;
    while (round > 1 && round * changed > 2 * (used - changed))
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
    s->number = number;
    s->round = choose_round(s);
    s->changed_count = 0;
    uint64_t *zeros = s->left, *other_zeros = s->last_taken;
    s->left = pages->changed;
    pages->changed = zeros;
    s->last_taken = s->taken;
    s->taken = other_zeros;
    return note_whole(s, number, s->round);
}

void rml_snapshot_go_on(struct rml_pages *pages, uint64_t number, uint32_t needs,
                        const uint64_t *used)
{
    struct rml_snapshot *s = pages->snapshot;
    memcpy(s->used, used, pages->fresh * sizeof *used);
    for (uint32_t page = 1; page < pages->fresh; page++)
        s->used_count += (uint64_t)__builtin_popcountll(used[page]);
    RML_CHECK(needs <= number && needs < RML_SNAPSHOT_ROUND_MAX);
    for (uint32_t i = 0; i < RML_SNAPSHOT_ROUND_MAX; i++)
        s->whole[i] = number - needs;
    // Whatever its round was, each snapshot since then had these whole.
    for (uint64_t n = number - needs; n <= number; n++)
        s->whole[n % RML_SNAPSHOT_ROUND_MAX] = n;
    s->is_numbered = true;
}

// All that there is to be done for the next page; how many granules were copied.
static uint32_t sweep(struct rml_pages *pages)
{
    struct rml_snapshot *s = pages->snapshot;
    uint32_t page = s->next;
    list_round(s, page);
    uint64_t left = s->left[page];
    if (left != 0)
        copy_out(pages, page, left);
    s->used_count += (uint64_t)__builtin_popcountll(s->taken[page] & ~s->used[page]);
    s->used[page] |= s->taken[page];
    s->last_taken[page] = 0;
    s->next++;
    return (uint32_t)__builtin_popcountll(left);
}

bool rml_snapshot_copy(struct rml_pages *pages, uint32_t granules)
{
    struct rml_snapshot *s = pages->snapshot;
    uint32_t copied = 0;
    for (uint32_t looked = 0; s->is_open && s->next < s->end; looked++) {
        if (copied >= granules || looked == LOOK_PAGES)
            return true;
        copied += sweep(pages);
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
    s->changed_count = 0;
    for (uint32_t page = 1; page < pages->fresh; page++) {
        if (page < s->end) {
            pages->changed[page] |= s->taken[page] | s->left[page];
            s->left[page] = s->taken[page] = s->last_taken[page] = 0;
        }
        s->changed_count += (uint64_t)__builtin_popcountll(pages->changed[page]);
    }
    s->is_open = false;
}
