/* Chunks of pages against a plain list of what was taken. */
#include "runtime/base/err.h"
#include "runtime/state/chunks.h"
#include "tests/support/random.h"
#include "tests/support/test.h"

#define HELD_MAX 3000u

static struct {
    uint32_t chunk, bytes;
    unsigned char mark;
} held[HELD_MAX];

static void open_pages(struct rml_pages *pages, uint64_t bytes)
{
    struct rml_err err = {0};
    assert_int_equal(rml_pages_open(pages, bytes, &err), 0);
}

static void chunks_never_overlap_and_all_pages_come_back(void **state)
{
    (void)state;
    uint64_t seed = rml_test_seed();
    struct rml_pages pages;
    struct rml_chunks chunks;
    open_pages(&pages, (uint64_t)64 << 20);
    rml_chunks_init(&chunks, &pages);
    for (uint32_t round = 0, count = 0; round < 20; round++) {
        uint32_t most = (uint32_t)(rml_test_random(&seed) % HELD_MAX);
        for (uint32_t i = 0; i < 3000; i++) {
            if (count < most) {
                held[count].bytes = 64u << rml_test_random(&seed) % RML_CHUNK_SIZES;
                held[count].chunk = rml_chunks_take(&chunks, held[count].bytes);
                held[count].mark = (unsigned char)rml_test_random(&seed);
                assert_int_not_equal(held[count].chunk, RML_NO_CHUNK);
                memset(rml_chunk_change(&pages, held[count].chunk, held[count].bytes),
                       held[count].mark, held[count].bytes);
                count++;
            } else if (count > 0) {
                uint32_t at = (uint32_t)(rml_test_random(&seed) % count);
                const unsigned char *bytes = rml_chunk(&pages, held[at].chunk);
                for (uint32_t b = 0; b < held[at].bytes; b++)
                    assert_int_equal(bytes[b], held[at].mark);
                rml_chunks_give(&chunks, held[at].chunk);
                held[at] = held[--count];
            }
        }
        if (round == 19) {
            while (count > 0)
                rml_chunks_give(&chunks, held[--count].chunk);
        }
    }
    rml_chunks_fini(&chunks);
    assert_int_equal(pages.in_use, 0);
    rml_pages_close(&pages);
}

static void where_there_is_no_page_there_is_no_chunk(void **state)
{
    (void)state;
    struct rml_pages pages;
    struct rml_chunks chunks;
    open_pages(&pages, 8 * RML_PAGE_BYTES);
    rml_chunks_init(&chunks, &pages);
    uint32_t count = 0, chunk;
    while ((chunk = rml_chunks_take(&chunks, 8192)) != RML_NO_CHUNK)
        held[count++].chunk = chunk;
    assert_int_equal(count, 12);  // two pages of the eight are for notes
    assert_int_equal(rml_chunks_take(&chunks, 64), RML_NO_CHUNK);
    rml_chunks_give(&chunks, held[--count].chunk);
    assert_int_equal(rml_chunks_take(&chunks, 64), RML_NO_CHUNK);
    rml_chunks_give(&chunks, held[--count].chunk);
    assert_int_not_equal(chunk = rml_chunks_take(&chunks, 64), RML_NO_CHUNK);
    rml_chunks_give(&chunks, chunk);
    while (count > 0)
        rml_chunks_give(&chunks, held[--count].chunk);
    rml_chunks_fini(&chunks);
    assert_int_equal(pages.in_use, 0);
    rml_pages_close(&pages);
}

TEST_MAIN(CLAIM(chunks_never_overlap_and_all_pages_come_back),
          CLAIM(where_there_is_no_page_there_is_no_chunk))
