#include "runtime/checkpoint/crc32c.h"

#include <string.h>

#define POLYNOMIAL UINT32_C(0x82f63b78)  // reflected

// One bit after the other: eight steps make the table's entry, which is cheap enough not to keep it.
static uint32_t entry(uint32_t index)
{
    for (int bit = 0; bit < 8; bit++)
        index = index >> 1 ^ ((index & 1) != 0 ? POLYNOMIAL : 0);
    return index;
}

uint32_t rml_crc32c_table(uint32_t crc, const void *bytes, size_t count)
{
    uint32_t table[256];
    for (uint32_t i = 0; i < 256; i++)
        table[i] = entry(i);
    crc = ~crc;
    for (size_t i = 0; i < count; i++)
        crc = crc >> 8 ^ table[(crc ^ ((const unsigned char *)bytes)[i]) & 0xff];
    return ~crc;
}

#ifdef __x86_64__
# include <immintrin.h>

__attribute__((target("sse4.2"))) static uint32_t
by_instruction(uint32_t crc, const unsigned char *at, size_t count)
{
    uint64_t sum = (uint32_t)~crc;
    for (; count >= 8; count -= 8, at += 8) {
        uint64_t word;
        memcpy(&word, at, 8);
        sum = _mm_crc32_u64(sum, word);
    }
    for (; count > 0; count--)
        sum = _mm_crc32_u8((uint32_t)sum, *at++);
    return ~(uint32_t)sum;
}

uint32_t rml_crc32c(uint32_t crc, const void *bytes, size_t count)
{
    return __builtin_cpu_supports("sse4.2") ? by_instruction(crc, bytes, count)
                                            : rml_crc32c_table(crc, bytes, count);
}
#else
uint32_t rml_crc32c(uint32_t crc, const void *bytes, size_t count)
{
    return rml_crc32c_table(crc, bytes, count);
}
#endif
