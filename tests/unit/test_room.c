#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "runtime/base/err.h"
#include "runtime/state/room.h"
#include "tests/support/scarce.h"
#include "tests/support/test.h"

#define MIB        ((uint64_t)1 << 20)
#define MIB_PAGES  ((uint32_t)(MIB / RML_PAGE_BYTES))
#define PAGE_LIMIT 20000u

#ifndef MADV_POPULATE_WRITE
# define MADV_POPULATE_WRITE 23
#endif

static struct rml_pages open_pages(uint64_t bytes)
{
    struct rml_pages pages;
    assert_int_equal(rml_pages_open(&pages, bytes, NULL), 0);
    // what the kernel gives beside what is touched would be in the way of counting
    madvise(pages.base, (size_t)pages.limit * RML_PAGE_BYTES, MADV_NOHUGEPAGE);
    return pages;
}

static void skip_on_old_kernels(void)
{
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(page != MAP_FAILED);
    bool can = madvise(page, 4096, MADV_POPULATE_WRITE) == 0;
    munmap(page, 4096);
    if (!can)
        skip();
}

// How many pages from the first on are there, and that none behind them is. Before the first lies a page
// that says whose they are, written to in part.
static uint32_t touched(const struct rml_pages *pages)
{
    static unsigned char there[PAGE_LIMIT * (RML_PAGE_BYTES / 4096)];
    assert_true(pages->limit <= PAGE_LIMIT);
    const uint32_t small = RML_PAGE_BYTES / 4096;
    assert_int_equal(mincore(pages->base, (size_t)pages->limit * RML_PAGE_BYTES, there), 0);
    uint32_t count = 0, first = 2 * small;
    while (first + count < pages->limit * small && (there[first + count] & 1) != 0)
        count++;
    for (uint32_t i = first + count; i < pages->limit * small; i++)
        assert_int_equal(there[i] & 1, 0);
    return count / small;
}

// How many pages are there behind those that were taken, and that none is behind them; but for the rest of
// the large page that was come to, which is left to whoever takes it.
static uint32_t ready(const struct rml_pages *pages)
{
    static unsigned char there[PAGE_LIMIT * (RML_PAGE_BYTES / 4096)];
    assert_true(pages->limit <= PAGE_LIMIT);
    const uint32_t small = RML_PAGE_BYTES / 4096;
    assert_int_equal(mincore(pages->base, (size_t)pages->limit * RML_PAGE_BYTES, there), 0);
    uint32_t first = (pages->fresh + 2 * MIB_PAGES - 1) / (2 * MIB_PAGES) * (2 * MIB_PAGES) * small;
    uint32_t end = first;
    while (end < pages->limit * small && (there[end] & 1) != 0)
        end++;
    for (uint32_t i = end; i < pages->limit * small; i++)
        assert_int_equal(there[i] & 1, 0);
    return end / small - pages->fresh;
}

// Up to `count` pages; how many there were.
static uint32_t take(struct rml_pages *pages, uint32_t count)
{
    uint32_t taken = 0;
    for (uint32_t page; taken < count && (page = rml_pages_take(pages)) != RML_NO_PAGE; taken++) {
        const unsigned char *bytes = rml_page(pages, page);
        for (uint32_t b = 0; b < RML_PAGE_BYTES; b += 512)
            assert_int_equal(bytes[b], 0);
        memset(rml_page_change(pages, page), 1, RML_PAGE_BYTES);
    }
    return taken;
}

/* What the room asks of the kernel, in a test that stands there. */
static struct {
    struct rml_pages
        *pages;  // of which some are taken while large pages are made ready; NULL: not here
    uint32_t meanwhile;
    uint32_t huge, populated;  // calls
    int populate_errno;        // 0: it is done
    uint32_t first;            // the lowest large page that was asked for, counted from the base
} kernel;

int __wrap_madvise(void *from, size_t bytes, int advice);
int __real_madvise(void *from, size_t bytes, int advice);

int __wrap_madvise(void *from, size_t bytes, int advice)
{
    if (kernel.pages == NULL || (advice != MADV_HUGEPAGE && advice != MADV_POPULATE_WRITE))
        return __real_madvise(from, bytes, advice);
    size_t offset = (size_t)((unsigned char *)from - kernel.pages->base);
    if (advice == MADV_HUGEPAGE) {
        assert_int_equal(offset % (2 * MIB), 0);
        assert_int_equal(bytes, 2 * MIB);
        kernel.huge++;
        uint32_t number = (uint32_t)(offset / (2 * MIB));
        kernel.first = number < kernel.first ? number : kernel.first;
        return 0;
    }
    kernel.populated++;
    if (kernel.populate_errno != 0) {
        errno = kernel.populate_errno;
        return -1;
    }
    assert_int_equal(take(kernel.pages, kernel.meanwhile), kernel.meanwhile);
    return 0;
}

static void memory_is_there_before_it_is_taken_and_no_more_than_is_of_use(void **state)
{
    (void)state;
    skip_on_old_kernels();

    static const struct {
        uint32_t taken, least, most;  // pages: there are as many behind those that were taken
    } cases[] = {
        {MIB_PAGES / 4, MIB_PAGES, 4 * MIB_PAGES},
        {2 * MIB_PAGES, 4 * MIB_PAGES, 10 * MIB_PAGES},
        {16 * MIB_PAGES, 4 * MIB_PAGES, 10 * MIB_PAGES},
        {100 * MIB_PAGES, 12 * MIB_PAGES, 27 * MIB_PAGES},
    };

    for (uint32_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct rml_pages pages = open_pages(300 * MIB);
        struct rml_room *room;
        assert_int_equal(rml_room_open(&room, NULL), 0);
        rml_room_serve(room, &pages);
        assert_int_equal(take(&pages, cases[i].taken), cases[i].taken);
        assert_int_equal(rml_room_start(room, NULL), 0);
        rml_room_close(room);  // it is done with all wishes then
        assert_in_range(ready(&pages), cases[i].least, cases[i].most);
        rml_pages_close(&pages);
    }
}

// The thread at work while pages are taken: what it was too late for is there all the same.
static void what_is_prefaulted_is_there_before_anything_is_taken(void **state)
{
    (void)state;
    skip_on_old_kernels();

    static const struct {
        uint64_t bytes;
        uint32_t least,
            most;  // pages that are there, two large pages at most beyond what was asked for
    } cases[] = {
        {0, 0, 0},
        {1, 1, 4 * MIB_PAGES},
        {40 * MIB, 40 * MIB_PAGES, 44 * MIB_PAGES},
        {300 * MIB, 300 * MIB_PAGES, 300 * MIB_PAGES + 4},
        {5000 * MIB, 300 * MIB_PAGES, 300 * MIB_PAGES + 4},
    };

    for (uint32_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct rml_pages pages = open_pages(300 * MIB);
        struct rml_room *room;
        assert_int_equal(rml_room_open(&room, NULL), 0);
        rml_room_prefault(&pages, cases[i].bytes);
        assert_int_equal(pages.touched, 0);  // nobody is there yet who would
        rml_room_serve(room, &pages);
        rml_room_prefault(&pages, cases[i].bytes);
        assert_int_equal(rml_room_fulfil(room), 0);
        assert_in_range(touched(&pages), cases[i].least, cases[i].most);
        if (cases[i].bytes == 40 * MIB) {
            // what is there already is not wished for again
            uint32_t before = touched(&pages);
            assert_int_equal(take(&pages, 20 * MIB_PAGES), 20 * MIB_PAGES);
            assert_int_equal(rml_room_fulfil(room), 0);
            assert_int_equal(touched(&pages), before);
        }
        rml_room_close(room);
        rml_pages_close(&pages);
    }
}

static void memory_that_is_not_to_be_had_is_told_to_whoever_waits_for_it(void **state)
{
    (void)state;
    static const int errors[] = {ENOMEM, EINVAL, 0};

    for (uint32_t i = 0; i < sizeof errors / sizeof errors[0]; i++) {
        struct rml_pages pages = open_pages(300 * MIB);
        struct rml_room *room;
        assert_int_equal(rml_room_open(&room, NULL), 0);
        rml_room_serve(room, &pages);
        rml_room_prefault(&pages, 10 * MIB);
        kernel.pages = &pages;
        kernel.meanwhile = 0;
        kernel.populate_errno = errors[i];
        assert_int_equal(rml_room_fulfil(room), -errors[i]);
        kernel.populate_errno = 0;
        kernel.pages = NULL;
        assert_int_equal(rml_room_fulfil(room), 0);  // nothing more was wished for
        assert_int_equal(take(&pages, 20 * MIB_PAGES), 20 * MIB_PAGES);
        rml_room_close(room);
        rml_pages_close(&pages);
    }
}

static void a_thread_makes_memory_ready_while_it_is_taken(void **state)
{
    (void)state;
    struct rml_pages pages = open_pages(100 * MIB);
    struct rml_room *room;
    assert_int_equal(rml_room_open(&room, NULL), 0);
    rml_room_serve(room, &pages);
    assert_int_equal(rml_room_start(room, NULL), 0);
    assert_int_equal(take(&pages, 90 * MIB_PAGES), 90 * MIB_PAGES);
    rml_room_close(room);
    rml_pages_close(&pages);
}

static void large_pages_are_asked_for_only_where_there_is_time_to_make_them(void **state)
{
    (void)state;

    static const struct {
        uint32_t meanwhile,
            least;  // pages that are taken; large pages between them and what is made
    } cases[] = {{0, 0}, {10, 0}, {128, 1}, {1000, 7}};

    for (uint32_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct rml_pages pages = open_pages(300 * MIB);
        struct rml_room *room;
        assert_int_equal(rml_room_open(&room, NULL), 0);
        rml_room_serve(room, &pages);
        assert_int_equal(take(&pages, 150 * MIB_PAGES), 150 * MIB_PAGES);
        kernel.pages = &pages;
        kernel.meanwhile = kernel.huge = 0;
        kernel.first = UINT32_MAX;
        assert_int_equal(rml_room_fulfil(room), 0);  // nothing below what was taken is
        assert_true(kernel.huge > 0 && kernel.first >= 150 / 2);
        kernel.meanwhile = cases[i].meanwhile;
        kernel.huge = kernel.populated = 0;
        for (uint32_t steps = 0; kernel.populated == 0; steps++) {
            assert_true(steps < 100);
            assert_int_equal(take(&pages, MIB_PAGES), MIB_PAGES);
            kernel.first = UINT32_MAX;
            assert_int_equal(rml_room_fulfil(room), 0);
        }
        // now it is known how fast they are
        uint32_t before = 0;
        kernel.huge = kernel.populated = 0;
        for (uint32_t steps = 0; kernel.populated == 0 && steps < 100; steps++) {
            assert_int_equal(take(&pages, MIB_PAGES), MIB_PAGES);
            before = pages.fresh / (2 * MIB_PAGES);
            kernel.first = UINT32_MAX;
            assert_int_equal(rml_room_fulfil(room), 0);
        }
        assert_true(kernel.populated > 0);
        assert_true(kernel.first > before + cases[i].least);
        kernel.pages = NULL;
        rml_room_close(room);
        rml_pages_close(&pages);
    }
}

static void other_memory_is_touched_where_somebody_makes_room(void **state)
{
    (void)state;
    skip_on_old_kernels();
    for (uint32_t has_room = 0; has_room < 2; has_room++) {
        struct rml_pages pages = open_pages(8 * MIB);
        struct rml_room *room;
        unsigned char *other =
            mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        assert_true(other != MAP_FAILED);
        assert_int_equal(rml_room_open(&room, NULL), 0);
        if (has_room)
            rml_room_serve(room, &pages);
        rml_room_touch(&pages, other + 4096, 8192);
        assert_int_equal(rml_room_fulfil(room), 0);
        unsigned char there[4];
        assert_int_equal(mincore(other, 4 * 4096, there), 0);
        for (uint32_t i = 0; i < 4; i++)
            assert_int_equal(there[i] & 1, has_room && (i == 1 || i == 2));
        rml_room_close(room);
        rml_pages_close(&pages);
        munmap(other, MIB);
    }
}

static void what_cannot_be_had_is_told_or_done_without(void **state)
{
    (void)state;
    struct rml_room *room;
    struct rml_err err = {0};
    scarce_blocks_left = 0;
    int rc = rml_room_open(&room, &err);
    scarce_blocks_left = SCARCE_NOT;
    assert_int_equal(rc, -ENOMEM);
    assert_string_equal(err.text, "no memory for a thread that makes room");

    assert_int_equal(rml_room_open(&room, NULL), 0);
    scarce_threads_left = 0;
    rc = rml_room_start(room, &err);
    scarce_threads_left = SCARCE_NOT;
    assert_int_equal(rc, -EAGAIN);
    assert_non_null(strstr(err.text, "no thread that makes room"));

    struct rml_pages pages = open_pages(8 * MIB);
    scarce_blocks_left = 0;
    rml_room_serve(room, &pages);
    scarce_blocks_left = SCARCE_NOT;
    assert_null(pages.room);
    assert_int_equal(take(&pages, 4 * MIB_PAGES), 4 * MIB_PAGES);
    rml_room_touch(&pages, pages.base, 4096);
    rml_room_close(room);
    rml_pages_close(&pages);
}

static void nothing_is_touched_beyond_the_limit(void **state)
{
    (void)state;
    skip_on_old_kernels();
    struct rml_pages pages = open_pages(3 * MIB + 5 * (uint64_t)RML_PAGE_BYTES);
    unsigned char *behind = pages.base + (size_t)pages.limit * RML_PAGE_BYTES;
    struct rml_room *room;
    assert_int_equal(rml_room_open(&room, NULL), 0);
    rml_room_serve(room, &pages);
    uint32_t count = take(&pages, UINT32_MAX);
    assert_int_equal(count, pages.limit - 2);
    assert_true(pages.touched <= pages.limit);
    // whatever lies there is none of ours
    unsigned char there;
    bool is_mapped = mincore(behind, 4096, &there) == 0;
    bool was_there = is_mapped && (there & 1) != 0;
    assert_int_equal(rml_room_start(room, NULL), 0);
    rml_room_close(room);
    if (is_mapped && !was_there) {
        assert_int_equal(mincore(behind, 4096, &there), 0);
        assert_int_equal(there & 1, 0);
    }
    assert_int_equal(touched(&pages), count);
    rml_pages_close(&pages);
}

static void wishes_that_nobody_hears_do_no_harm(void **state)
{
    (void)state;
    struct rml_room *room;
    assert_int_equal(rml_room_open(&room, NULL), 0);
    static struct rml_pages pages[100];
    for (uint32_t i = 0; i < 100; i++) {  // more than the room has place for
        pages[i] = open_pages(8 * MIB);
        rml_room_serve(room, &pages[i]);
        assert_int_equal(take(&pages[i], 100), 100);
    }
    rml_room_close(room);
    for (uint32_t i = 0; i < 100; i++)
        rml_pages_close(&pages[i]);
}

TEST_MAIN(CLAIM(what_is_prefaulted_is_there_before_anything_is_taken),
          CLAIM(memory_that_is_not_to_be_had_is_told_to_whoever_waits_for_it),
          CLAIM(memory_is_there_before_it_is_taken_and_no_more_than_is_of_use),
          CLAIM(a_thread_makes_memory_ready_while_it_is_taken),
          CLAIM(large_pages_are_asked_for_only_where_there_is_time_to_make_them),
          CLAIM(other_memory_is_touched_where_somebody_makes_room),
          CLAIM(what_cannot_be_had_is_told_or_done_without),
          CLAIM(nothing_is_touched_beyond_the_limit), CLAIM(wishes_that_nobody_hears_do_no_harm))
