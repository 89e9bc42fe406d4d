#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "runtime/state/room.h"
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

static void memory_is_there_before_it_is_taken_and_no_more_than_is_of_use(void **state)
{
    (void)state;
    skip_on_old_kernels();

    static const struct {
        uint32_t taken, least, most;  // pages: there are as many behind those that were taken
    } cases[] = {
        {1, 1 * MIB_PAGES, 4 * MIB_PAGES},
        {16 * MIB_PAGES, 2 * MIB_PAGES, 6 * MIB_PAGES},
        {100 * MIB_PAGES, 12 * MIB_PAGES, 27 * MIB_PAGES},
    };

    for (uint32_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct rml_pages pages = open_pages(300 * MIB);
        struct rml_room *room;
        assert_int_equal(rml_room_open(&room, NULL), 0);
        assert_int_equal(rml_room_start(room, NULL), 0);
        rml_room_serve(room, &pages);
        assert_int_equal(take(&pages, cases[i].taken), cases[i].taken);
        rml_room_close(room);
        uint32_t behind = touched(&pages) - cases[i].taken;
        assert_in_range(behind, cases[i].least, cases[i].most);
        rml_pages_close(&pages);
    }
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

TEST_MAIN(CLAIM(memory_is_there_before_it_is_taken_and_no_more_than_is_of_use),
          CLAIM(nothing_is_touched_beyond_the_limit), CLAIM(wishes_that_nobody_hears_do_no_harm))
