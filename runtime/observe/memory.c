#include "runtime/observe/memory.h"

#include <malloc.h>
#include <stddef.h>

// jemalloc's, where it is linked; no header of it is needed to build without.
extern int mallctl(const char *name, void *old, size_t *old_bytes, void *new_value,
                   size_t new_bytes) __attribute__((weak));

static uint64_t jemalloc_count(const char *name)
{
    size_t value = 0, bytes = sizeof value;
    return mallctl(name, &value, &bytes, NULL, 0) == 0 ? value : 0;
}

void rml_memory_look(struct rml_memory *ret_memory)
{
    if (mallctl != NULL) {
        uint64_t epoch = 1;  // figures are as of the last change of it
        size_t bytes = sizeof epoch;
        (void)mallctl("epoch", &epoch, &bytes, &epoch, sizeof epoch);
        *ret_memory = (struct rml_memory){.allocator = "jemalloc",
                                          .allocated = jemalloc_count("stats.allocated"),
                                          .resident = jemalloc_count("stats.resident")};
        return;
    }
    const struct mallinfo2 info = mallinfo2();
    *ret_memory = (struct rml_memory){.allocator = "malloc",
                                      .allocated = info.uordblks + info.hblkhd,
                                      .resident = info.arena + info.hblkhd};
}
