#include "runtime/state/roots.h"

#include <errno.h>
#include <string.h>

#include "runtime/state/snapshot.h"

void rml_roots_walk(struct rml_roots *roots, void *words, size_t bytes)
{
    roots->bytes += bytes;
    if (!roots->reads) {
        if (roots->sink != NULL)
            roots->sink->put(roots->sink->context, words, bytes);
        return;
    }
    if (roots->rc == 0 && roots->left < bytes)
        roots->rc = -EBADMSG;
    if (roots->rc < 0)
        return;
    memcpy(words, roots->from, bytes);
    roots->from += bytes;
    roots->left -= bytes;
}

void rml_roots_same(struct rml_roots *roots, uint64_t number)
{
    uint64_t other = number;
    RML_ROOTS_WALK(roots, other);
    if (roots->rc == 0 && other != number)
        roots->rc = -EBADMSG;
}

void rml_roots_count(struct rml_roots *roots, uint32_t *count, uint32_t most)
{
    uint32_t number = *count;
    RML_ROOTS_WALK(roots, number);
    if (roots->rc == 0 && number > most)
        roots->rc = -EBADMSG;
    if (roots->rc == 0)
        *count = number;
}

void rml_roots_name(struct rml_roots *roots, const char *name)
{
    char words[RML_ROOTS_NAME_BYTES] = "";
    size_t bytes = strnlen(name, sizeof words - 1);
    memcpy(words, name, bytes);
    RML_ROOTS_WALK(roots, words);
}

void rml_roots_read_name(struct rml_roots *roots, char name[RML_ROOTS_NAME_BYTES])
{
    memset(name, 0, RML_ROOTS_NAME_BYTES);
    rml_roots_walk(roots, name, RML_ROOTS_NAME_BYTES);
    name[RML_ROOTS_NAME_BYTES - 1] = '\0';
}

static void read_part(struct rml_roots *roots, uint64_t bytes,
                      void (*walk)(void *context, struct rml_roots *roots), void *context)
{
    if (roots->rc == 0 && roots->left < bytes)
        roots->rc = -EBADMSG;
    if (roots->rc < 0)
        return;
    struct rml_roots part = {.from = roots->from, .left = bytes, .reads = true};
    if (walk != NULL) {
        walk(context, &part);
        roots->rc = part.rc == 0 && part.left > 0 ? -EBADMSG : part.rc;
    }
    roots->bytes += bytes;
    roots->from += bytes;
    roots->left -= bytes;
}

void rml_roots_part(struct rml_roots *roots, void (*walk)(void *context, struct rml_roots *roots),
                    void *context)
{
    struct rml_roots counting = {0};
    if (!roots->reads)
        walk(context, &counting);
    uint64_t bytes = counting.bytes;
    RML_ROOTS_WALK(roots, bytes);
    if (roots->reads)
        read_part(roots, bytes, walk, context);
    else
        walk(context, roots);
}
