#include "runtime/checkpoint/large.h"

#include <sys/mman.h>

#define LARGE_BYTES ((size_t)2 << 20)
#define SMALL_BYTES ((size_t)4096)

// Kernels from 6.7 on put what is whole large pages where large pages begin; with older ones most of it is.
static size_t round_up(size_t bytes)
{
    size_t unit = bytes < LARGE_BYTES ? SMALL_BYTES : LARGE_BYTES;
    return (bytes + unit - 1) / unit * unit;
}

void *rml_large_open(size_t bytes)
{
    size_t wanted = round_up(bytes);
    void *memory = mmap(NULL, wanted, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return NULL;
    if (wanted >= LARGE_BYTES)
        (void)madvise(memory, wanted, MADV_HUGEPAGE);
    (void)madvise(memory, wanted, MADV_DONTDUMP);
    return memory;
}

void rml_large_close(void *memory, size_t bytes)
{
    if (memory != NULL)
        munmap(memory, round_up(bytes));
}
