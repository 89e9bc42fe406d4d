/*
 * arena - memory that is given out piece by piece and given back all at once.
 *
 * The room is reserved when it opens and becomes memory where it is touched, so that a piece never
 * moves and asking for one never fails: the reader of a pipeline file bounds what it asks for by the
 * file's own limits (1 MiB, RML_YAML_NODES_MAX), and a broken bound is our own mistake.
 */
#ifndef RML_PLAN_ARENA_H
#define RML_PLAN_ARENA_H

#include <stddef.h>

#define RML_ARENA_BYTES ((size_t)128 << 20)

struct rml_arena {
    unsigned char *memory;
    size_t used;
};

/* 0, or -ENOMEM when the address space has no room. */
int rml_arena_open(struct rml_arena *arena);
void rml_arena_close(struct rml_arena *arena);

/* `count` elements of `bytes` each, zeroed, aligned for any type. */
void *rml_arena_give(struct rml_arena *arena, size_t count, size_t bytes);

/* A copy of `length` bytes with a NUL behind. */
char *rml_arena_text(struct rml_arena *arena, const char *text, size_t length);

#endif
