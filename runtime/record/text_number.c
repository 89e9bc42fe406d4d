/*
 * Most floats that people look at are whole, or have a few decimals. Those are found by arithmetic:
 * where n and 10^k are floats exactly, n / 10^k is rounded once, just as reading the text of n with k
 * decimals is, so an equal quotient means an equal number. The others are printed with more and more
 * digits until they read back.
 */
#include "runtime/record/text_number.h"

#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DECIMALS_MAX 6

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

// One function per float type. The first way is taken only for sizes that %g prints without an
// exponent (1e-4 up to `whole_max`), so that both ways print alike.
#define PRINT_SHORTEST(function, type, read, floor_of, normal_min, digits_min, digits_max, \
                       whole_max)                                                          \
 static uint32_t function##_decimal(type value, char *text)                                \
 {                                                                                         \
  static const type scales[DECIMALS_MAX + 1] = {1, 10, 100, 1000, 10000, 100000, 1000000}; \
  type size = value < 0 ? -value : value;                                                  \
  if (size != 0 && size < (type)1e-4)                                                      \
   return 0;                                                                               \
  for (uint32_t k = 0; k <= DECIMALS_MAX; k++) {                                           \
   type scaled = floor_of(size * scales[k] + (type)0.5);                                   \
   if (scaled >= (type)(whole_max))                                                        \
    return 0;                                                                              \
   if (scaled / scales[k] == size)                                                         \
    return print_decimal(signbit(value) != 0, (uint64_t)scaled, k, text);                  \
  }                                                                                        \
  return 0;                                                                                \
 }                                                                                         \
                                                                                           \
 uint32_t function(type value, char *text)                                                 \
 {                                                                                         \
  uint32_t length = function##_decimal(value, text);                                       \
  if (length > 0)                                                                          \
   return length;                                                                          \
  char digits[RML_NUMBER_TEXT_MAX];                                                        \
  int used = 0;                                                                            \
  int least = value < normal_min && value > -(normal_min) ? 1 : digits_min;                \
  for (int precision = least; precision <= digits_max; precision++) {                      \
   used = snprintf(digits, sizeof digits, "%.*g", precision, (double)value);               \
   if (precision == digits_max || read(digits, NULL) == value)                             \
    break;                                                                                 \
  }                                                                                        \
  memcpy(text, digits, (size_t)used);                                                      \
  return (uint32_t)used;                                                                   \
 }

// Every number of FLT_DIG or DBL_DIG digits is told from its neighbours, so trying fewer finds nothing
// new (%g leaves zeros at the end out), but for numbers below the normal ones, which have less bits.
PRINT_SHORTEST(rml_print_f64, double, strtod, floor, DBL_MIN, DBL_DIG, DBL_DECIMAL_DIG, 1e15)
PRINT_SHORTEST(rml_print_f32, float, strtof, floorf, FLT_MIN, FLT_DIG, FLT_DECIMAL_DIG, 1e6)
