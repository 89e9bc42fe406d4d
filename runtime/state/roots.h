/*
 * roots - what a partition knows outside of its pages, written and read by one walk.
 *
 * Whoever has such words names them one after the other, in one function for both ways; what is read
 * lies in the order in which it was written. What can be computed anew is left out. Reading trusts the
 * words as it trusts the pages (a check sum has been compared), but for sizes and counts, which are
 * compared or bounded, so that state of another pipeline is refused before it does harm.
 */
#ifndef RML_STATE_ROOTS_H
#define RML_STATE_ROOTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct rml_snapshot_sink;

struct rml_roots {
    const struct rml_snapshot_sink *sink;  // writing: where to; NULL: count or read
    const unsigned char *from;             // reading: what is left of `left` bytes
    size_t left;
    uint64_t bytes;  // walked so far
    bool reads;
    int rc;  // 0; -EBADMSG: what is read cannot be
};

/* The next words are these: `bytes` at `words`, which are written, or read into. When rc is not 0 words
 * that are read are left as they are. */
void rml_roots_walk(struct rml_roots *roots, void *words, size_t bytes);

/* A number that is the same for whoever reads: a size, a count, a version. */
void rml_roots_same(struct rml_roots *roots, uint64_t number);

/* A count of what follows, at most `most`. */
void rml_roots_count(struct rml_roots *roots, uint32_t *count, uint32_t most);

/* A name of at most RML_ROOTS_NAME_BYTES - 1 bytes, written; and read, empty when rc is not 0. */
#define RML_ROOTS_NAME_BYTES 48u
void rml_roots_name(struct rml_roots *roots, const char *name);
void rml_roots_read_name(struct rml_roots *roots, char name[RML_ROOTS_NAME_BYTES]);

/* A part with a length of its own. Reading, it is skipped where `walk` is NULL, and must else be walked to
 * its end. */
void rml_roots_part(struct rml_roots *roots, void (*walk)(void *context, struct rml_roots *roots),
                    void *context);

/* May words that were read be used to find others? */
static inline bool rml_roots_have(const struct rml_roots *roots)
{
    return roots->reads && roots->rc == 0;
}

#define RML_ROOTS_WALK(roots, object) rml_roots_walk(roots, &(object), sizeof(object))

#endif
