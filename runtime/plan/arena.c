#include "runtime/plan/arena.h"

#include <errno.h>
#include <stdalign.h>
#include <string.h>
#include <sys/mman.h>

#include "runtime/base/check.h"

int rml_arena_open(struct rml_arena *arena)
{
    void *memory = mmap(NULL, RML_ARENA_BYTES, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED)
        return -ENOMEM;
    *arena = (struct rml_arena){.memory = memory};
    return 0;
}

void rml_arena_close(struct rml_arena *arena)
{
    if (arena->memory != NULL)
        munmap(arena->memory, RML_ARENA_BYTES);
    *arena = (struct rml_arena){0};
}

void *rml_arena_give(struct rml_arena *arena, size_t count, size_t bytes)
{
    RML_CHECK(bytes > 0 && count <= RML_ARENA_BYTES / bytes);
    size_t start = (arena->used + alignof(max_align_t) - 1) & ~(alignof(max_align_t) - 1);
    RML_CHECK(count * bytes <= RML_ARENA_BYTES - start);
    arena->used = start + count * bytes;
    return arena->memory + start;
}

char *rml_arena_text(struct rml_arena *arena, const char *text, size_t length)
{
    char *copy = rml_arena_give(arena, length + 1, 1);
    memcpy(copy, text, length);
    return copy;
}
