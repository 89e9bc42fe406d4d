#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/checkpoint/large.h"
#include "tests/support/scarce.h"
#include "tests/support/test.h"

#define MIB ((size_t)1 << 20)

static void it_is_zeros_and_lies_where_pages_begin(void **state)
{
    (void)state;
    static const size_t sizes[] = {1, 4096, 4097, 2 * MIB - 1, 2 * MIB, 2 * MIB + 1, 7 * MIB};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        unsigned char *memory = rml_large_open(sizes[i]);
        assert_non_null(memory);
        assert_int_equal((uintptr_t)memory % 4096, 0);
        for (size_t b = 0; b < sizes[i]; b += b % 509 + 1)
            assert_int_equal(memory[b], 0);
        memset(memory, 1, sizes[i]);
        rml_large_close(memory, sizes[i]);
    }
}

// Bytes of address space that this process has.
static size_t mapped(void)
{
    static const char path[] = "/proc/self/statm";
    char text[64] = "";
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    assert_non_null(fgets(text, sizeof text, file));
    fclose(file);
    return strtoull(text, NULL, 10) * 4096;
}

static void closing_leaves_nothing_mapped(void **state)
{
    (void)state;
    (void)mapped();  // what a file needs is there
    size_t before = mapped();
    for (size_t i = 0; i < 100; i++)
        rml_large_close(rml_large_open(i * 100000 + 1), i * 100000 + 1);
    assert_true(mapped() < before + 2 * MIB);
    unsigned char *memory = rml_large_open(16 * MIB);
    assert_in_range(mapped(), before + 16 * MIB, before + 17 * MIB);
    rml_large_close(memory, 16 * MIB);
    rml_large_close(NULL, 16 * MIB);
}

static void where_there_is_none_that_is_told(void **state)
{
    (void)state;
    for (size_t bytes = 4096; bytes <= 4 * MIB; bytes *= 1024) {
        scarce_maps_left = 0;
        void *memory = rml_large_open(bytes);
        scarce_maps_left = SCARCE_NOT;
        assert_null(memory);
    }
}

TEST_MAIN(CLAIM(it_is_zeros_and_lies_where_pages_begin), CLAIM(closing_leaves_nothing_mapped),
          CLAIM(where_there_is_none_that_is_told))
