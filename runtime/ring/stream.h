/*
 * stream - copying past the cache, evicting from it, pausing: all that is a processor's own.
 *
 * A store that bypasses the cache does not first fetch the line from the core that read it last,
 * and a line that its reader has evicted is found in memory sooner than in that reader's cache.
 * On other processors than x86-64 neither can be had, and both say so.
 */
#ifndef RML_RING_STREAM_H
#define RML_RING_STREAM_H

#include <stdbool.h>
#include <stddef.h>

/* Can this machine do it? */
bool rml_stream_able(void);
bool rml_evict_able(void);

/*
 * Copy `bytes`, a multiple of 8, to 8-byte aligned memory by stores that bypass the cache where
 * there are such. They are not ordered with other stores until rml_stream_fence: a release store
 * alone does not carry them.
 */
void rml_stream_copy(void *to, const void *from, size_t bytes);
void rml_stream_fence(void);

/* Evict the 64-byte lines from `from` on, which is the first of them, up to `to`; nothing happens
 * where rml_evict_able says no. */
void rml_evict(void *from, const void *to);

/* Between two looks at a word that another core will change. */
static inline void rml_pause(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

#endif
