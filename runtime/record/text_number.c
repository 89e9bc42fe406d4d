/*
 * The shortest digits of a float: all numbers between the middles to its two neighbours read as the
 * float, so one looks for the decimal with fewest digits in there (G. L. Steele, J. L. White, "How to
 * print floating-point numbers accurately", 1990). For the sizes that people look at, all of it fits
 * integers of 128 bits exactly; the others are printed with more and more digits until they read
 * back, which takes ten times as long.
 */
#include "runtime/record/text_number.h"

#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/int128.h"

// Sizes that %g prints without an exponent whatever the digits, so that both ways print alike.
#define PLAIN_MIN     1e-4
#define PLAIN_F64_MAX 1e15
#define PLAIN_F32_MAX 1e6

uint32_t rml_print_u64(uint64_t value, char *text)
{
    char digits[20];
    uint32_t count = 0;
    do {
        digits[sizeof digits - ++count] = (char)('0' + value % 10);
        value /= 10;
    } while (value != 0);
    memcpy(text, digits + sizeof digits - count, count);
    return count;
}

uint32_t rml_print_i64(int64_t value, char *text)
{
    if (value >= 0)
        return rml_print_u64((uint64_t)value, text);
    text[0] = '-';
    return 1 + rml_print_u64(0 - (uint64_t)value, text + 1);
}

// `scaled` with its last `decimals` digits behind a point, of which the last is not 0.
static uint32_t print_decimal(bool negative, uint64_t scaled, uint32_t decimals, char *text)
{
    char digits[RML_NUMBER_TEXT_MAX];
    uint32_t count = rml_print_u64(scaled, digits);
    uint32_t used = 0;
    if (negative)
        text[used++] = '-';
    if (count <= decimals)
        text[used++] = '0';
    for (uint32_t i = count; i > 0 && i > decimals; i--)
        text[used++] = digits[count - i];
    if (decimals > 0)
        text[used++] = '.';
    for (uint32_t i = decimals; i > count; i--)
        text[used++] = '0';
    uint32_t tail = decimals < count ? decimals : count;
    memcpy(text + used, digits + count - tail, tail);
    return used + tail;
}

static uint64_t power_of_ten(uint32_t exponent)
{
    static const uint64_t powers[] = {1u,
                                      10u,
                                      100u,
                                      1000u,
                                      10000u,
                                      100000u,
                                      1000000u,
                                      10000000u,
                                      100000000u,
                                      1000000000u,
                                      10000000000u,
                                      100000000000u,
                                      1000000000000u,
                                      10000000000000u,
                                      100000000000000u,
                                      1000000000000000u,
                                      10000000000000000u,
                                      100000000000000000u,
                                      1000000000000000000u};
    return powers[exponent];
}

/*
 * mantissa * 2^exponent, from PLAIN_MIN up to PLAIN_F64_MAX, with a mantissa of `bits` bits that is no
 * power of two (below one the neighbour is nearer). `digits` is what tells all such floats apart.
 *
 * Bounds: the size has 16 bits before the point at least in units of 10^-decimals and 60 at most; an
 * exponent of -66 leaves `shift` 67; 54 bits of a doubled mantissa times 10^21 are 124 bits.
 */
static uint32_t print_shortest(bool negative, uint64_t mantissa, int exponent, int bits, int digits,
                               char *text)
{
    // at most the true decimal exponent, and at least one less
    int magnitude = ((exponent + bits - 1) * 1233) >> 12;
    uint32_t decimals = (uint32_t)(digits - 1 - magnitude), shift = (uint32_t)(1 - exponent);
    rml_int128 scale =
        (rml_int128)power_of_ten(decimals / 2) * power_of_ten(decimals - decimals / 2);
    rml_int128 middle = 2 * (rml_int128)mantissa * scale, unit = (rml_int128)1 << shift;
    // a middle reads as the neighbour that is even
    rml_int128 open = mantissa & 1;
    uint64_t low = (uint64_t)((middle - scale + open + unit - 1) >> shift);
    uint64_t high = (uint64_t)((middle + scale - open) >> shift);

    uint32_t dropped = 0;
    while (high / 10 > (low - 1) / 10) {
        high /= 10;
        low = (low + 9) / 10;
        dropped++;
    }
    // of several with as few digits the one nearest to the float itself, of two as near the even one
    rml_int128 step = unit * power_of_ten(dropped), rest = middle % step * 2;
    uint64_t nearest = (uint64_t)(middle / step);
    nearest += rest > step || (rest == step && nearest % 2 == 1);
    nearest = nearest < low ? low : nearest > high ? high : nearest;
    return print_decimal(negative, nearest, decimals - dropped, text);
}

// Whole numbers, which are common, and sizes without an exponent; 0: neither.
static uint32_t print_plain(double value, double plain_max, int bits, int digits, char *text)
{
    double size = fabs(value);
    if (size >= plain_max || (size < PLAIN_MIN && size != 0))
        return 0;
    bool negative = signbit(value) != 0;
    uint64_t whole = (uint64_t)size;
    if ((double)whole == size)
        return print_decimal(negative, whole, 0, text);
    int exponent;
    double fraction = frexp(size, &exponent);
    if (fraction == 0.5)  // a power of two
        return 0;
    return print_shortest(negative, (uint64_t)ldexp(fraction, bits), exponent - bits, bits, digits,
                          text);
}

uint32_t rml_print_f64(double value, char *text)
{
    uint32_t length = print_plain(value, PLAIN_F64_MAX, DBL_MANT_DIG, DBL_DECIMAL_DIG, text);
    if (length > 0)
        return length;
    // every number of DBL_DIG digits is told from its neighbours, but for those below the normal ones
    char digits[RML_NUMBER_TEXT_MAX];
    int used = 0;
    for (int precision = fabs(value) < DBL_MIN ? 1 : DBL_DIG; precision <= DBL_DECIMAL_DIG;
         precision++) {
        used = snprintf(digits, sizeof digits, "%.*g", precision, value);
        if (strtod(digits, NULL) == value)
            break;
    }
    memcpy(text, digits, (size_t)used);
    return (uint32_t)used;
}

uint32_t rml_print_f32(float value, char *text)
{
    double wide = (double)value;
    uint32_t length = print_plain(wide, PLAIN_F32_MAX, FLT_MANT_DIG, FLT_DECIMAL_DIG, text);
    if (length > 0)
        return length;
    char digits[RML_NUMBER_TEXT_MAX];
    int used = 0;
    for (int precision = fabsf(value) < FLT_MIN ? 1 : FLT_DIG; precision <= FLT_DECIMAL_DIG;
         precision++) {
        used = snprintf(digits, sizeof digits, "%.*g", precision, wide);
        if (strtof(digits, NULL) == value)
            break;
    }
    memcpy(text, digits, (size_t)used);
    return (uint32_t)used;
}
