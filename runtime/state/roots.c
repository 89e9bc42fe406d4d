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
