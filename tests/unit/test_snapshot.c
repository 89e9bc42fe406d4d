#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/err.h"
#include "runtime/state/restored.h"
#include "runtime/state/snapshot.h"
#include "tests/support/random.h"
#include "tests/support/scarce.h"
#include "tests/support/test.h"

#define PAGES     100u
#define MANY      1500u  // pages of a state whose memory is made ready by a thread
#define STREAMS   200u
#define ALL_BYTES ((size_t)(PAGES + 2) * RML_PAGE_BYTES)  // with page 0 and that of owners

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

// As a partition does, which has some words outside of its pages.
static uint32_t begin(struct rml_pages *pages, uint64_t number, struct stream *s)
{
    const struct rml_snapshot_sink sink = {put, s};
    uint32_t needs = rml_snapshot_begin(pages, number, &sink);
    struct rml_snapshot_head head = {.magic = RML_SNAPSHOT_MAGIC,
                                     .number = number,
                                     .root_bytes = draw(300),
                                     .needs = needs,
                                     .page_count = draw(4) == 0 ? 0 : pages->fresh};
    unsigned char roots[300];
    memset(roots, (int)number, sizeof roots);
    put(s, &head, sizeof head);
    put(s, roots, head.root_bytes);
    return needs;
}

// A stream, cut into parts.
static int give_stream(struct rml_restored *restored, const unsigned char *bytes, size_t count)
{
    int rc = rml_restored_stream(restored, NULL);
    for (size_t at = 0, part; rc == 0 && at < count; at += part) {
        size_t most = draw(3) == 0 ? 40 : 100000;
        part = 1 + draw(most < count - at ? most : count - at);
        rc = rml_restored_bytes(restored, bytes + at, part, NULL);
    }
    return rc;
}

static void open_restored(struct rml_restored *restored)
{
    assert_int_equal(rml_restored_open(restored, (uint64_t)PAGES * RML_PAGE_BYTES, NULL), 0);
}

// What the last streams up to `last` give must be `expected`.
static void assert_restores(const struct stream *streams, uint32_t last, uint32_t needs,
                            const unsigned char *expected, uint64_t *ret_used)
{
    struct rml_restored restored;
    open_restored(&restored);
    for (uint32_t i = 0; i <= needs; i++)
        assert_int_equal(give_stream(&restored, streams[last - i].bytes, streams[last - i].count),
                         0);
    assert_int_equal(rml_restored_end(&restored, NULL), 0);
    assert_int_equal(restored.head.number, last);
    for (size_t i = 0; i < restored.head.root_bytes; i++)
        assert_int_equal(restored.roots[i], (unsigned char)last);
    // the first bytes of a page that was given back name the next one: they are state as well
    assert_memory_equal(restored.pages.base, expected, ALL_BYTES);
    if (ret_used != NULL)
        memcpy(ret_used, restored.have, (PAGES + 2) * sizeof *ret_used);
    rml_restored_close(&restored);
}

// What a process that is started again has: pages as they were then, and nothing that is known of before.
static void go_on_in_other_pages(struct rml_pages *pages, uint64_t number, uint32_t needs,
                                 const unsigned char *then, const uint64_t *used)
{
    struct rml_pages other = open_pages(false);
    memcpy(other.base, then, ALL_BYTES);
    other.fresh = pages->fresh;
    other.free_page = pages->free_page;
    other.in_use = pages->in_use;
    rml_pages_close(pages);
    *pages = other;
    assert_int_equal(rml_snapshot_track(pages, NULL), 0);
    rml_snapshot_go_on(pages, number, needs, used);
}

static void the_snapshots_that_one_needs_give_the_pages_as_they_were(void **state)
{
    (void)state;
    seed = rml_test_seed();
    struct rml_pages pages = open_pages(true);
    static struct stream streams[STREAMS];
    unsigned char *then = malloc(ALL_BYTES);
    assert_non_null(then);
    uint32_t taken[PAGES], count = 0, most = 0;
    uint64_t used[PAGES + 2];
    for (uint32_t n = 0; n < STREAMS; n++) {
        // calm times, in which a round is long, and others
        for (uint64_t i = draw(n / 40 % 2 == 0 ? 300 : 8); i > 0; i--)
            change_something(&pages, taken, &count);
        uint32_t needs = begin(&pages, n, &streams[n]);
        most = needs > most ? needs : most;
        memcpy(then, pages.base, ALL_BYTES);
        bool is_last = draw(10) == 0;
        do {
            for (uint64_t i = is_last ? 0 : draw(n / 40 % 2 == 0 ? 100 : 3); i > 0; i--)
                change_something(&pages, taken, &count);
        } while (rml_snapshot_copy(&pages, (uint32_t)draw(2000)));
        assert_restores(streams, n, needs, then, used);
        if (is_last)
            go_on_in_other_pages(&pages, n, needs, then, used);
    }
    assert_int_equal(most, RML_SNAPSHOT_ROUND_MAX - 1);
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
    for (uint32_t i = 0; i < 3000; i++)
        change_something(&pages, taken, &count);
    (void)begin(&pages, 0, &bad);
    (void)rml_snapshot_copy(&pages, 500);
    for (uint32_t i = 0; i < 100; i++)
        change_something(&pages, taken, &count);
    rml_snapshot_abandon(&pages);
    assert_false(rml_snapshot_is_open(&pages));
    size_t was = bad.count;
    for (uint32_t i = 0; i < 100; i++)
        change_something(&pages, taken, &count);
    assert_int_equal(bad.count, was);
    assert_int_equal(begin(&pages, 0, &good), 0);
    while (rml_snapshot_copy(&pages, 100))
        ;
    assert_restores(&good, 0, 0, pages.base, NULL);
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

    // Two granules of one page; pages 33 and 65 and 97 are of the same share as page 1, which nobody's
    // pages leave as it was.
    memset(rml_change(&pages, pages.base + 5 * RML_PAGE_BYTES + 250, 10), 2, 10);
    rml_snapshot_begin(&pages, 1, &(struct rml_snapshot_sink){put, &little});
    while (rml_snapshot_copy(&pages, UINT32_MAX))
        ;
    assert_int_equal(little.count, 4 * sizeof(struct rml_snapshot_piece) + 3 * RML_PAGE_BYTES
                                       + 2 * RML_PAGE_GRANULE_BYTES);
    free(all.bytes);
    free(little.bytes);
    rml_pages_close(&pages);
}

static void the_more_changes_the_fewer_snapshots_are_needed(void **state)
{
    (void)state;
    struct rml_pages pages = open_pages(true);
    for (uint32_t i = 0; i < PAGES; i++)
        memset(rml_page_change(&pages, rml_pages_take(&pages)), 1, RML_PAGE_BYTES);

    static const struct {
        uint32_t changed, needs;  // pages
    } cases[] = {{100, 0}, {90, 0}, {50, 1}, {20, 7}, {8, 15}, {5, 31}, {1, 31}, {0, 31}};

    uint64_t number = 0;
    for (uint32_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        uint32_t needs = 0;
        uint64_t all = 0, changed = (uint64_t)cases[c].changed * RML_PAGE_BYTES;
        for (uint32_t i = 0; i < 2 * RML_SNAPSHOT_ROUND_MAX; i++) {
            struct stream s = {0};
            for (uint32_t page = 1; page <= cases[c].changed; page++)
                (void)rml_page_change(&pages, page);
            needs = rml_snapshot_begin(&pages, number++, &(struct rml_snapshot_sink){put, &s});
            while (rml_snapshot_copy(&pages, UINT32_MAX))
                ;
            assert_true(s.count <= 2 * changed + ALL_BYTES / RML_SNAPSHOT_ROUND_MAX + 20000);
            all = i > 2 * RML_SNAPSHOT_ROUND_MAX - 1 - cases[c].needs - 1 ? all + s.count : 0;
            free(s.bytes);
        }
        assert_int_equal(needs, cases[c].needs);
        assert_true(all <= 3 * (ALL_BYTES + 20000));
    }
    rml_pages_close(&pages);
}

static struct stream three_pages(void)
{
    struct rml_pages pages = open_pages(true);
    struct stream s = {0};
    for (uint32_t i = 0; i < 3; i++)
        memset(rml_page_change(&pages, rml_pages_take(&pages)), 1, RML_PAGE_BYTES);
    (void)begin(&pages, 7, &s);
    while (rml_snapshot_copy(&pages, UINT32_MAX))
        ;
    rml_pages_close(&pages);
    return s;
}

// What is said of these streams, the newest first.
static int give_streams(const struct stream *streams, uint32_t count)
{
    struct rml_restored restored;
    open_restored(&restored);
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i < count; i++)
        rc = give_stream(&restored, streams[i].bytes, streams[i].count);
    if (rc == 0)
        rc = rml_restored_end(&restored, NULL);
    rml_restored_close(&restored);
    return rc;
}

static void a_stream_that_was_cut_or_damaged_is_refused(void **state)
{
    (void)state;
    seed = rml_test_seed() + 2;
    struct stream s = three_pages(), same[2] = {s, s};
    const size_t pieces = s.count - 3 * (sizeof(struct rml_snapshot_piece) + RML_PAGE_BYTES);
    assert_int_equal(give_streams(&s, 1), 0);
    assert_int_equal(give_streams(&s, 0), -EBADMSG);
    assert_int_equal(give_streams(same, 2), -EBADMSG);
    for (uint32_t i = 0; i < 200; i++) {
        struct stream cut = {.bytes = s.bytes, .count = draw(i < 40 ? i + 1 : s.count)};
        bool is_whole =
            cut.count >= pieces
            && (cut.count - pieces) % (sizeof(struct rml_snapshot_piece) + RML_PAGE_BYTES) == 0;
        assert_int_equal(give_streams(&cut, 1), is_whole ? 0 : -EBADMSG);
    }
    struct rml_snapshot_head head, other;
    memcpy(&head, s.bytes, sizeof head);
    for (uint32_t i = 0; i < 5; i++) {
        other = head;
        if (i == 0)
            other.magic = 0;
        else if (i == 1)
            other.number = 0;  // can be
        else if (i == 4)
            other.page_count = PAGES + 3;  // more than there are addresses for
        else
            other.needs = i == 2 ? 1 : RML_SNAPSHOT_ROUND_MAX;
        memcpy(s.bytes, &other, sizeof other);
        assert_int_equal(give_streams(&s, 1), i == 1 ? 0 : -EBADMSG);
    }
    memcpy(s.bytes, &head, sizeof head);
    struct rml_snapshot_piece piece;
    memcpy(&piece, s.bytes + pieces, sizeof piece);
    const struct rml_snapshot_piece wrong[] = {
        {.page = 0, .granule_count = piece.granule_count, .granules = piece.granules},
        {.page = PAGES + 2, .granule_count = piece.granule_count, .granules = piece.granules},
        {.page = 1, .granule_count = piece.granule_count - 1, .granules = piece.granules},
        {.page = 1, .granule_count = 0, .granules = 0},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        memcpy(s.bytes + pieces, &wrong[i], sizeof wrong[i]);
        assert_int_equal(give_streams(&s, 1), -EBADMSG);
    }
    free(s.bytes);
}

static void many_pages_come_back_with_a_thread_that_makes_them_ready_and_without(void **state)
{
    (void)state;
    seed = rml_test_seed() + 3;
    struct rml_pages pages;
    const uint64_t bytes = (uint64_t)MANY * RML_PAGE_BYTES;
    assert_int_equal(rml_pages_open(&pages, bytes, NULL), 0);
    assert_int_equal(rml_snapshot_track(&pages, NULL), 0);
    for (uint32_t i = 0; i < MANY; i++) {
        uint32_t page = rml_pages_take(&pages);
        size_t count = 1 + draw(RML_PAGE_BYTES);
        memset(rml_change(&pages, rml_page(&pages, page), count), (int)draw(256), count);
    }
    struct stream s = {0};
    (void)begin(&pages, 0, &s);
    while (rml_snapshot_copy(&pages, UINT32_MAX))
        ;
    struct rml_snapshot_head head;
    memcpy(&head, s.bytes, sizeof head);
    head.page_count = pages.fresh;
    memcpy(s.bytes, &head, sizeof head);
    for (uint32_t threads = 0; threads < 2; threads++) {
        struct rml_restored restored;
        assert_int_equal(rml_restored_open(&restored, bytes, NULL), 0);
        scarce_threads_left = threads;
        assert_int_equal(give_stream(&restored, s.bytes, s.count), 0);
        scarce_threads_left = SCARCE_NOT;
        assert_int_equal(restored.touch != NULL, threads);
        assert_int_equal(rml_restored_end(&restored, NULL), 0);
        assert_null(restored.touch);
        assert_memory_equal(restored.pages.base, pages.base, (size_t)pages.fresh * RML_PAGE_BYTES);
        rml_restored_close(&restored);
        // and one that is given up
        assert_int_equal(rml_restored_open(&restored, bytes, NULL), 0);
        assert_int_equal(give_stream(&restored, s.bytes, s.count / 2), 0);
        rml_restored_close(&restored);
    }
    rml_pages_close(&pages);
    free(s.bytes);
}

static void
a_stream_of_another_format_is_refused_by_its_number_before_anything_of_it_is_used(void **state)
{
    (void)state;
    const struct rml_snapshot_head head = {
        .magic = RML_SNAPSHOT_MAGIC + (UINT64_C(1) << RML_SNAPSHOT_FORMAT_BIT),
        .number = UINT64_MAX,  // and what a later format may have there
        .needs = UINT32_MAX};
    struct rml_restored restored;
    struct rml_err err = {0};
    open_restored(&restored);
    assert_int_equal(rml_restored_stream(&restored, &err), 0);
    assert_int_equal(rml_restored_bytes(&restored, &head, sizeof head, &err), -EPROTONOSUPPORT);
    assert_string_equal(err.text,
                        "its state has format '4' and this program reads format '3': go on with "
                        "the program that wrote it, or `ringmill run --fresh FILE` begins anew");
    rml_restored_close(&restored);
}

TEST_MAIN(CLAIM(a_stream_of_another_format_is_refused_by_its_number_before_anything_of_it_is_used),
          CLAIM(many_pages_come_back_with_a_thread_that_makes_them_ready_and_without),
          CLAIM(the_snapshots_that_one_needs_give_the_pages_as_they_were),
          CLAIM(what_an_abandoned_snapshot_had_is_in_the_next_one),
          CLAIM(a_snapshot_is_as_large_as_what_changed_and_its_share_of_the_rest),
          CLAIM(the_more_changes_the_fewer_snapshots_are_needed),
          CLAIM(a_stream_that_was_cut_or_damaged_is_refused))
