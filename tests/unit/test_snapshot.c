#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/err.h"
#include "runtime/state/snapshot.h"
#include "tests/support/random.h"
#include "tests/support/test.h"

#define PAGES     100u
#define STREAMS   200u
#define ALL_BYTES ((size_t)(PAGES + 1) * RML_PAGE_BYTES)

static uint64_t seed;

static uint64_t draw(uint64_t below)
{
    return rml_test_random(&seed) % below;
}

struct stream {
    unsigned char *bytes;
    size_t count, room;
};

static void put(void *context, const void *bytes, size_t count)
{
    struct stream *s = context;
    if (s->count + count > s->room) {
        s->room = 2 * (s->count + count);
        s->bytes = realloc(s->bytes, s->room);
        assert_non_null(s->bytes);
    }
    memcpy(s->bytes + s->count, bytes, count);
    s->count += count;
}

static struct rml_pages open_pages(bool tracks)
{
    struct rml_pages pages;
    assert_int_equal(rml_pages_open(&pages, (uint64_t)PAGES * RML_PAGE_BYTES, NULL), 0);
    if (tracks)
        assert_int_equal(rml_snapshot_track(&pages, NULL), 0);
    return pages;
}

// Write a little somewhere, or take or give a page.
static void change_something(struct rml_pages *pages, uint32_t *taken, uint32_t *count)
{
    uint64_t what = draw(20);
    if (what == 0 && *count < PAGES) {
        taken[(*count)++] = rml_pages_take(pages);
    } else if (what == 1 && *count > 1) {
        uint32_t at = (uint32_t)draw(*count);
        rml_pages_give(pages, taken[at]);
        taken[at] = taken[--*count];
    } else if (*count > 0) {
        const unsigned char *page = rml_page(pages, taken[draw(*count)]);
        size_t at = draw(RML_PAGE_BYTES), bytes = 1 + draw(draw(8) == 0 ? 4000 : 40);
        bytes = bytes < RML_PAGE_BYTES - at ? bytes : RML_PAGE_BYTES - at;
        memset(rml_change(pages, page + at, bytes), (int)draw(256), bytes);
    }
}

// What the last streams up to `last` give, applied in order, must be `expected`.
static void assert_restores(const struct stream *streams, uint32_t last,
                            const unsigned char *expected)
{
    struct rml_pages pages = open_pages(false);
    uint32_t first = last + 1 > RML_SNAPSHOT_ROUND ? last + 1 - RML_SNAPSHOT_ROUND : 0;
    for (uint32_t i = first; i <= last; i++)
        assert_int_equal(rml_snapshot_apply(&pages, streams[i].bytes, streams[i].count),
                         streams[i].count);
    // the first bytes of a page that was given back name the next one: they are state as well
    assert_memory_equal(pages.base, expected, ALL_BYTES);
    rml_pages_close(&pages);
}

static void the_last_round_of_snapshots_gives_the_pages_as_they_were(void **state)
{
    (void)state;
    seed = rml_test_seed();
    struct rml_pages pages = open_pages(true);
    static struct stream streams[STREAMS];
    unsigned char *then = malloc(ALL_BYTES);
    assert_non_null(then);
    uint32_t taken[PAGES], count = 0;
    for (uint32_t n = 0; n < STREAMS; n++) {
        for (uint64_t i = draw(300); i > 0; i--)
            change_something(&pages, taken, &count);
        const struct rml_snapshot_sink sink = {put, &streams[n]};
        rml_snapshot_begin(&pages, n, &sink);
        memcpy(then, pages.base, ALL_BYTES);
        do {
            for (uint64_t i = draw(100); i > 0; i--)
                change_something(&pages, taken, &count);
        } while (rml_snapshot_copy(&pages, (uint32_t)draw(2000)));
        assert_restores(streams, n, then);
    }
    for (uint32_t n = 0; n < STREAMS; n++)
        free(streams[n].bytes);
    memset(streams, 0, sizeof streams);
    free(then);
    rml_pages_close(&pages);
}

static void what_an_abandoned_snapshot_had_is_in_the_next_one(void **state)
{
    (void)state;
    seed = rml_test_seed() + 1;
    struct rml_pages pages = open_pages(true);
    uint32_t taken[PAGES], count = 0;
    struct stream good = {0}, bad = {0};
    const struct rml_snapshot_sink to_good = {put, &good}, to_bad = {put, &bad};
    for (uint32_t i = 0; i < 3000; i++)
        change_something(&pages, taken, &count);
    rml_snapshot_begin(&pages, 0, &to_bad);
    (void)rml_snapshot_copy(&pages, 500);
    for (uint32_t i = 0; i < 100; i++)
        change_something(&pages, taken, &count);
    rml_snapshot_abandon(&pages);
    assert_false(rml_snapshot_is_open(&pages));
    size_t was = bad.count;
    for (uint32_t i = 0; i < 100; i++)
        change_something(&pages, taken, &count);
    assert_int_equal(bad.count, was);
    rml_snapshot_begin(&pages, 0, &to_good);
    while (rml_snapshot_copy(&pages, 100))
        ;
    assert_restores(&good, 0, pages.base);
    free(good.bytes);
    free(bad.bytes);
    rml_pages_close(&pages);
}

static void a_snapshot_is_as_large_as_what_changed_and_its_share_of_the_rest(void **state)
{
    (void)state;
    struct rml_pages pages = open_pages(true);
    struct stream all = {0}, little = {0};
    for (uint32_t i = 0; i < PAGES; i++)
        memset(rml_page_change(&pages, rml_pages_take(&pages)), 1, RML_PAGE_BYTES);
    rml_snapshot_begin(&pages, 0, &(struct rml_snapshot_sink){put, &all});
    while (rml_snapshot_copy(&pages, UINT32_MAX))
        ;
    assert_int_equal(all.count, PAGES * (RML_PAGE_BYTES + sizeof(struct rml_snapshot_piece)));

    // Two granules of one page; pages 33 and 65 and 97 are of the same share as page 1.
    memset(rml_change(&pages, pages.base + 5 * RML_PAGE_BYTES + 250, 10), 2, 10);
    rml_snapshot_begin(&pages, 1, &(struct rml_snapshot_sink){put, &little});
    while (rml_snapshot_copy(&pages, UINT32_MAX))
        ;
    assert_int_equal(little.count, 5 * sizeof(struct rml_snapshot_piece) + 4 * RML_PAGE_BYTES
                                       + 2 * RML_PAGE_GRANULE_BYTES);
    free(all.bytes);
    free(little.bytes);
    rml_pages_close(&pages);
}

static void a_stream_that_was_cut_or_damaged_is_not_applied_beyond(void **state)
{
    (void)state;
    struct rml_pages pages = open_pages(true);
    struct stream s = {0};
    for (uint32_t i = 0; i < 3; i++)
        memset(rml_page_change(&pages, rml_pages_take(&pages)), 1, RML_PAGE_BYTES);
    rml_snapshot_begin(&pages, 0, &(struct rml_snapshot_sink){put, &s});
    while (rml_snapshot_copy(&pages, UINT32_MAX))
        ;
    rml_pages_close(&pages);
    const size_t piece = sizeof(struct rml_snapshot_piece) + RML_PAGE_BYTES;
    struct rml_pages other = open_pages(false);
    assert_int_equal(rml_snapshot_apply(&other, s.bytes, s.count - 1), 2 * piece);
    assert_int_equal(rml_snapshot_apply(&other, s.bytes, 8), 0);
    struct rml_snapshot_piece head;
    memcpy(&head, s.bytes, sizeof head);
    const struct rml_snapshot_piece wrong[] = {
        {.page = 0, .granule_count = head.granule_count, .granules = head.granules},
        {.page = PAGES + 1, .granule_count = head.granule_count, .granules = head.granules},
        {.page = 1, .granule_count = head.granule_count - 1, .granules = head.granules},
        {.page = 1, .granule_count = 0, .granules = 0},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        memcpy(s.bytes, &wrong[i], sizeof wrong[i]);
        assert_int_equal(rml_snapshot_apply(&other, s.bytes, s.count), -EBADMSG);
    }
    free(s.bytes);
    rml_pages_close(&other);
}

TEST_MAIN(CLAIM(the_last_round_of_snapshots_gives_the_pages_as_they_were),
          CLAIM(what_an_abandoned_snapshot_had_is_in_the_next_one),
          CLAIM(a_snapshot_is_as_large_as_what_changed_and_its_share_of_the_rest),
          CLAIM(a_stream_that_was_cut_or_damaged_is_not_applied_beyond))
