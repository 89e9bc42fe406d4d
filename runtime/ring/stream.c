#include "runtime/ring/stream.h"

#include <stdint.h>
#include <string.h>

#if defined(__x86_64__)

# include <cpuid.h>
# include <immintrin.h>

bool rml_stream_able(void)
{
    return true;  // movnti and sfence came before 64-bit mode
}

bool rml_evict_able(void)
{
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (b & (1u << 23)) != 0;  // CLFLUSHOPT
}

static void stream_words(unsigned char *to, const unsigned char *from, size_t bytes)
{
    for (size_t at = 0; at < bytes; at += 8) {
        long long word;
        memcpy(&word, from + at, 8);
        _mm_stream_si64((long long *)(void *)(to + at), word);
    }
}

# ifdef __AVX__
#  define BLOCK 32u

static void stream_block(unsigned char *to, const unsigned char *from)
{
    _mm256_stream_si256((__m256i *)(void *)to, _mm256_loadu_si256((const void *)from));
}
# else
#  define BLOCK 16u

static void stream_block(unsigned char *to, const unsigned char *from)
{
    _mm_stream_si128((__m128i *)(void *)to, _mm_loadu_si128((const void *)from));
}
# endif

void rml_stream_copy(void *to_memory, const void *from_memory, size_t bytes)
{
    unsigned char *to = to_memory;
    const unsigned char *from = from_memory;
    size_t head = (size_t)(-(uintptr_t)to) % BLOCK;
    if (head > bytes)
        head = bytes;
    stream_words(to, from, head);
    size_t at = head;
    for (; bytes - at >= BLOCK; at += BLOCK)
        stream_block(to + at, from + at);
    stream_words(to + at, from + at, bytes - at);
}

void rml_stream_fence(void)
{
    _mm_sfence();
}

__attribute__((target("clflushopt"))) void rml_evict(void *from, const void *to)
{
    for (unsigned char *line = from; line < (const unsigned char *)to; line += 64)
        _mm_clflushopt(line);
}

#else

bool rml_stream_able(void)
{
    return false;
}

bool rml_evict_able(void)
{
    return false;
}

void rml_stream_copy(void *to, const void *from, size_t bytes)
{
    memcpy(to, from, bytes);
}

void rml_stream_fence(void)
{
}

void rml_evict(void *from, const void *to)
{
    (void)from;
    (void)to;
}

#endif
