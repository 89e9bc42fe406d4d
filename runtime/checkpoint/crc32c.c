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

/*
 * The instruction takes a word a cycle and has its sum three cycles later, so three runs of bytes side by
 * side are summed in the time of one, and put together by moving the sums of the first two over what lies
 * behind them: a product with a power of x (V. Gopal et al., "Fast CRC Computation for iSCSI Polynomial
 * Using CRC32 Instruction", Intel, 2011). What multiplies two reflected numbers and reduces the product as
 * the instruction does moves it by 33 bits itself, which the powers are short of.
 */
# define RUN_BYTES 1024u
# define OVER_ONE  UINT32_C(0x170076fa)  // x to the (8 * RUN_BYTES - 33), reflected
# define OVER_TWO  UINT32_C(0xa51b6135)  // x to the (16 * RUN_BYTES - 33)
# define HAS_SIMD  "sse4.2,pclmul"

__attribute__((target(HAS_SIMD))) static uint64_t add_word(uint64_t sum, const unsigned char *at)
{
    uint64_t word;
    memcpy(&word, at, sizeof word);
    return _mm_crc32_u64(sum, word);
}

__attribute__((target(HAS_SIMD))) static uint64_t move_over(uint64_t sum, uint32_t power)
{
    __m128i product =
        _mm_clmulepi64_si128(_mm_cvtsi64_si128((long long)sum), _mm_cvtsi32_si128((int)power), 0);
    return _mm_crc32_u64(0, (uint64_t)_mm_cvtsi128_si64(product));
}

__attribute__((target(HAS_SIMD))) static uint64_t add_three_runs(uint64_t sum,
                                                                 const unsigned char *at)
{
    uint64_t second = 0, third = 0;
    for (const unsigned char *end = at + RUN_BYTES; at < end; at += sizeof(uint64_t)) {
        sum = add_word(sum, at);
        second = add_word(second, at + RUN_BYTES);
        third = add_word(third, at + (size_t)2 * RUN_BYTES);
    }
    return move_over(sum, OVER_TWO) ^ move_over(second, OVER_ONE) ^ third;
}

__attribute__((target(HAS_SIMD))) static uint32_t
by_instruction(uint32_t crc, const unsigned char *at, size_t count)
{
    uint64_t sum = (uint32_t)~crc;
    for (; count >= 3 * RUN_BYTES; count -= 3 * RUN_BYTES, at += 3 * RUN_BYTES)
        sum = add_three_runs(sum, at);
    for (; count >= sizeof(uint64_t); count -= sizeof(uint64_t), at += sizeof(uint64_t))
        sum = add_word(sum, at);
    for (; count > 0; count--)
        sum = _mm_crc32_u8((uint32_t)sum, *at++);
    return ~(uint32_t)sum;
}

uint32_t rml_crc32c(uint32_t crc, const void *bytes, size_t count)
{
    return __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("pclmul")
               ? by_instruction(crc, bytes, count)
               : rml_crc32c_table(crc, bytes, count);
}
#else
uint32_t rml_crc32c(uint32_t crc, const void *bytes, size_t count)
{
    return rml_crc32c_table(crc, bytes, count);
}
#endif
