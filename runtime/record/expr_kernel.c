#include "runtime/record/expr_kernel.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

#include "runtime/base/check.h"
#include "runtime/base/int128.h"

// What each operation of expr_op.def computes for one row; true: there is no answer.

static inline bool add_i(int64_t a, int64_t b, int64_t *r)
{
    // by hand, because compilers make vectors of this and not of __builtin_add_overflow
    uint64_t sum = (uint64_t)a + (uint64_t)b;
    *r = (int64_t)sum;
    return (((uint64_t)a ^ sum) & ((uint64_t)b ^ sum)) >> 63;
}

static inline bool sub_i(int64_t a, int64_t b, int64_t *r)
{
    uint64_t difference = (uint64_t)a - (uint64_t)b;
    *r = (int64_t)difference;
    return (((uint64_t)a ^ (uint64_t)b) & ((uint64_t)a ^ difference)) >> 63;
}

static inline bool mul_i(int64_t a, int64_t b, int64_t *r)
{
    return __builtin_mul_overflow(a, b, r);
}

static inline bool mod_i(int64_t a, int64_t b, int64_t *r)
{
    // the remainder by -1 is 0, and asking the processor for that of the least integer is a trap
    *r = b == 0 || b == -1 ? 0 : a % b;
    return b == 0;
}

static inline bool add_u(uint64_t a, uint64_t b, uint64_t *r)
{
    *r = a + b;
    return *r < a;
}

static inline bool sub_u(uint64_t a, uint64_t b, uint64_t *r)
{
    *r = a - b;
    return a < b;
}

static inline bool mul_u(uint64_t a, uint64_t b, uint64_t *r)
{
    return __builtin_mul_overflow(a, b, r);
}

static inline bool mod_u(uint64_t a, uint64_t b, uint64_t *r)
{
    *r = b == 0 ? 0 : a % b;
    return b == 0;
}

// Signed and unsigned together: exact, then an int64_t if it is one.
static inline bool narrow(rml_int128 value, int64_t *r)
{
    *r = (int64_t)value;
    return value < INT64_MIN || value > INT64_MAX;
}

static inline bool remainder_of(rml_int128 a, rml_int128 b, int64_t *r)
{
    return b == 0 ? narrow(0, r) || true : narrow(a % b, r);
}

// NOLINTBEGIN(bugprone-macro-parentheses): a type cannot stand in parentheses
#define MIXED(name, a_type, b_type, value)               \
 static inline bool name(a_type a, b_type b, int64_t *r) \
 {                                                       \
  rml_int128 x = a, y = b;                               \
  return value;                                          \
 }
MIXED(add_iu, int64_t, uint64_t, narrow(x + y, r))
MIXED(add_ui, uint64_t, int64_t, narrow(x + y, r))
MIXED(sub_iu, int64_t, uint64_t, narrow(x - y, r))
MIXED(sub_ui, uint64_t, int64_t, narrow(x - y, r))
MIXED(mul_iu, int64_t, uint64_t, narrow(x *y, r))
MIXED(mul_ui, uint64_t, int64_t, narrow(x *y, r))
MIXED(mod_iu, int64_t, uint64_t, remainder_of(x, y, r))
MIXED(mod_ui, uint64_t, int64_t, remainder_of(x, y, r))

// Operands are numbers here, not NaN: a result that is none has no answer.
#define FLOATING(name, value, no_answer)                \
 static inline bool name(double a, double b, double *r) \
 {                                                      \
  *r = (value);                                         \
  return (no_answer) || *r != *r;                       \
 }
FLOATING(add_f, a + b, false)
FLOATING(sub_f, a - b, false)
FLOATING(mul_f, a *b, false)
FLOATING(div_f, a / b, b == 0)
FLOATING(pow_f, pow(a, b), a == 0 && b < 0)

#define PLAIN(name, a_type, b_type, r_type, value)      \
 static inline bool name(a_type a, b_type b, r_type *r) \
 {                                                      \
  *r = (r_type)(value);                                 \
  return false;                                         \
 }
#define LEAST_AND_GREATEST(letter, type)              \
 PLAIN(min_##letter, type, type, type, b < a ? b : a) \
 PLAIN(max_##letter, type, type, type, b > a ? b : a)
LEAST_AND_GREATEST(i, int64_t)
LEAST_AND_GREATEST(u, uint64_t)
LEAST_AND_GREATEST(f, double)

#define COMPARISONS(letter, type)                \
 PLAIN(eq_##letter, type, type, uint8_t, a == b) \
 PLAIN(ne_##letter, type, type, uint8_t, a != b) \
 PLAIN(lt_##letter, type, type, uint8_t, a < b)  \
 PLAIN(le_##letter, type, type, uint8_t, a <= b) \
 PLAIN(gt_##letter, type, type, uint8_t, a > b)  \
 PLAIN(ge_##letter, type, type, uint8_t, a >= b)
COMPARISONS(i, int64_t)
COMPARISONS(u, uint64_t)
COMPARISONS(f, double)
PLAIN(eq_b, uint8_t, uint8_t, uint8_t, a == b)
PLAIN(ne_b, uint8_t, uint8_t, uint8_t, a != b)

// A negative number lies below every unsigned one.
PLAIN(eq_iu, int64_t, uint64_t, uint8_t, (a >= 0) & ((uint64_t)a == b))
PLAIN(ne_iu, int64_t, uint64_t, uint8_t, (a < 0) | ((uint64_t)a != b))
PLAIN(lt_iu, int64_t, uint64_t, uint8_t, (a < 0) | ((uint64_t)a < b))
PLAIN(le_iu, int64_t, uint64_t, uint8_t, (a < 0) | ((uint64_t)a <= b))
PLAIN(gt_iu, int64_t, uint64_t, uint8_t, (a >= 0) & ((uint64_t)a > b))
PLAIN(ge_iu, int64_t, uint64_t, uint8_t, (a >= 0) & ((uint64_t)a >= b))
PLAIN(eq_ui, uint64_t, int64_t, uint8_t, (b >= 0) & (a == (uint64_t)b))
PLAIN(ne_ui, uint64_t, int64_t, uint8_t, (b < 0) | (a != (uint64_t)b))
PLAIN(lt_ui, uint64_t, int64_t, uint8_t, (b >= 0) & (a < (uint64_t)b))
PLAIN(le_ui, uint64_t, int64_t, uint8_t, (b >= 0) & (a <= (uint64_t)b))
PLAIN(gt_ui, uint64_t, int64_t, uint8_t, (b < 0) | (a > (uint64_t)b))
PLAIN(ge_ui, uint64_t, int64_t, uint8_t, (b < 0) | (a >= (uint64_t)b))

#define ONE(name, a_type, r_type, value, no_answer) \
 static inline bool name(a_type a, r_type *r)       \
 {                                                  \
  *r = (r_type)(value);                             \
  return no_answer;                                 \
 }
ONE(neg_i, int64_t, int64_t, 0 - (uint64_t)a, a == INT64_MIN)
ONE(neg_u, uint64_t, int64_t, 0 - a, a > (uint64_t)INT64_MAX + 1)
ONE(neg_f, double, double, -a, false)
ONE(not_b, uint8_t, uint8_t, a ^ 1, false)
ONE(abs_i, int64_t, int64_t, a < 0 ? 0 - (uint64_t)a : (uint64_t)a, a == INT64_MIN)
ONE(abs_f, double, double, fabs(a), false)
ONE(floor_f, double, double, floor(a), false)
ONE(ceil_f, double, double, ceil(a), false)
ONE(round_f, double, double, round(a), false)
ONE(sqrt_f, double, double, sqrt(a), a < 0)
ONE(log_f, double, double, log(a), a <= 0)
ONE(exp_f, double, double, exp(a), false)
ONE(float_i, int64_t, double, a, false)
ONE(float_u, uint64_t, double, a, false)
ONE(int_u, uint64_t, int64_t, a, a > INT64_MAX)

/*
 * The loops around them. Every loop is written once with the shape as a constant parameter, and
 * inlined into one function per shape. `any` is an integer as wide as the values, because a bool
 * would keep the compiler from working on whole vectors.
 */
#define INLINE static inline __attribute__((always_inline))

// A null that was passed on stays one. Without a branch, as everything in these loops.
INLINE uint8_t marked(uint8_t null, bool no_answer)
{
    uint8_t mark = no_answer ? RML_EXPR_NULL | RML_EXPR_NO_ANSWER : 0;
    return null != 0 ? null : mark;
}

#define RML_EXPR_BINARY(NAME, function, print, a_type, b_type, r_type, fails)                  \
 INLINE bool run_##function(const void *a_data, const void *b_data, void *out, uint32_t rows,  \
                            bool a_scalar, bool b_scalar)                                      \
 {                                                                                             \
  const a_type *restrict a = a_data;                                                           \
  const b_type *restrict b = b_data;                                                           \
  const a_type a_value = a[0];                                                                 \
  const b_type b_value = b[0];                                                                 \
  r_type *restrict r = out;                                                                    \
  uint64_t any = 0;                                                                            \
  for (uint32_t i = 0; i < rows; i++)                                                          \
   any |= function(a_scalar ? a_value : a[i], b_scalar ? b_value : b[i], &r[i]);               \
  return any != 0;                                                                             \
 }                                                                                             \
 INLINE void settle_##function(const void *a_data, const void *b_data, uint8_t *restrict null, \
                               uint32_t rows, bool a_scalar, bool b_scalar)                    \
 {                                                                                             \
  const a_type *restrict a = a_data;                                                           \
  const b_type *restrict b = b_data;                                                           \
  for (uint32_t i = 0; i < rows; i++) {                                                        \
   r_type unused;                                                                              \
   bool no_answer = function(a_scalar ? a[0] : a[i], b_scalar ? b[0] : b[i], &unused);         \
   null[i] = marked(null[i], no_answer);                                                       \
  }                                                                                            \
 }                                                                                             \
 RML_EXPR_SHAPE(function, vv, false, false)                                                    \
 RML_EXPR_SHAPE(function, vs, false, true)                                                     \
 RML_EXPR_SHAPE(function, sv, true, false)

#define RML_EXPR_SHAPE(function, shape, a_scalar, b_scalar)                                   \
 static bool run_##function##_##shape(const void *a, const void *b, void *out, uint32_t rows) \
 {                                                                                            \
  return run_##function(a, b, out, rows, a_scalar, b_scalar);                                 \
 }                                                                                            \
 static void settle_##function##_##shape(const void *a, const void *b, uint8_t *null,         \
                                         uint32_t rows)                                       \
 {                                                                                            \
  settle_##function(a, b, null, rows, a_scalar, b_scalar);                                    \
 }

#define RML_EXPR_UNARY(NAME, function, print, a_type, r_type, fails)                           \
 static bool run_##function(const void *a_data, const void *unused, void *out, uint32_t rows)  \
 {                                                                                             \
  (void)unused;                                                                                \
  const a_type *restrict a = a_data;                                                           \
  r_type *restrict r = out;                                                                    \
  uint64_t any = 0;                                                                            \
  for (uint32_t i = 0; i < rows; i++)                                                          \
   any |= function(a[i], &r[i]);                                                               \
  return any != 0;                                                                             \
 }                                                                                             \
 static void settle_##function(const void *a_data, const void *unused, uint8_t *restrict null, \
                               uint32_t rows)                                                  \
 {                                                                                             \
  (void)unused;                                                                                \
  const a_type *restrict a = a_data;                                                           \
  for (uint32_t i = 0; i < rows; i++) {                                                        \
   r_type r;                                                                                   \
   null[i] = marked(null[i], function(a[i], &r));                                              \
  }                                                                                            \
 }
#include "runtime/record/expr_op.def"
#undef RML_EXPR_UNARY
#undef RML_EXPR_BINARY

// NOLINTEND(bugprone-macro-parentheses)
#define RML_EXPR_BINARY(NAME, function, text, a_type, b_type, r_type, can_fail)       \
 [RML_EXPR_##                                                                         \
     NAME] = {.print = (text),                                                        \
              .fails = (can_fail),                                                    \
              .operands = 2,                                                          \
              .run = {run_##function##_vv, run_##function##_vs, run_##function##_sv}, \
              .settle = {settle_##function##_vv, settle_##function##_vs, settle_##function##_sv}},
#define RML_EXPR_UNARY(NAME, function, text, a_type, r_type, can_fail) \
 [RML_EXPR_##NAME] = {.print = (text),                                 \
                      .fails = (can_fail),                             \
                      .operands = 1,                                   \
                      .run = {run_##function},                         \
                      .settle = {settle_##function}},
const struct rml_expr_kernel rml_expr_kernels[RML_EXPR_STRICT_OPS] = {
#include "runtime/record/expr_op.def"
};
#undef RML_EXPR_UNARY
#undef RML_EXPR_BINARY

// Strings are NUL padded, so a narrower one goes on in zeros, and bytewise order is that of the words
// read with the first byte as the highest.
INLINE bool strings_equal(const uint64_t *a, uint32_t a_words, const uint64_t *b, uint32_t b_words)
{
    uint64_t difference = 0;
    for (uint32_t w = 0; w < (a_words > b_words ? a_words : b_words); w++)
        difference |= (w < a_words ? a[w] : 0) ^ (w < b_words ? b[w] : 0);
    return difference == 0;
}

static int strings_order(const uint64_t *a, uint32_t a_words, const uint64_t *b, uint32_t b_words)
{
    for (uint32_t w = 0; w < (a_words > b_words ? a_words : b_words); w++) {
        uint64_t x = w < a_words ? __builtin_bswap64(a[w]) : 0;
        uint64_t y = w < b_words ? __builtin_bswap64(b[w]) : 0;
        if (x != y)
            return x < y ? -1 : 1;
    }
    return 0;
}

// Inlined with constant widths where the usual strings are compared.
INLINE void find_equal(const struct rml_expr_strings *s, uint32_t a_words, uint32_t b_words,
                       bool negate, uint8_t *out, uint32_t rows)
{
    for (uint32_t i = 0; i < rows; i++) {
        out[i] = strings_equal(s->a + (size_t)i * s->a_step, a_words, s->b + (size_t)i * s->b_step,
                               b_words)
                 ^ negate;
    }
}

static void compare_equal(const struct rml_expr_strings *s, bool negate, uint8_t *out,
                          uint32_t rows)
{
    if (s->a_words == 1 && s->b_words == 1)
        find_equal(s, 1, 1, negate, out, rows);
    else if (s->a_words == 2 && s->b_words == 2)
        find_equal(s, 2, 2, negate, out, rows);
    else
        find_equal(s, s->a_words, s->b_words, negate, out, rows);
}

void rml_expr_compare_strings(enum rml_expr_op op, const struct rml_expr_strings *s, uint8_t *out,
                              uint32_t rows)
{
    if (op == RML_EXPR_EQ_STR || op == RML_EXPR_NE_STR) {
        compare_equal(s, op == RML_EXPR_NE_STR, out, rows);
        return;
    }
    bool below = op == RML_EXPR_LT_STR || op == RML_EXPR_LE_STR;
    bool equal = op == RML_EXPR_LE_STR || op == RML_EXPR_GE_STR;
    for (uint32_t i = 0; i < rows; i++) {
        int order = strings_order(s->a + (size_t)i * s->a_step, s->a_words,
                                  s->b + (size_t)i * s->b_step, s->b_words);
        out[i] = order == 0 ? equal : (order < 0) == below;
    }
}

/*
 * A known false decides `and` alone, a known true decides `or`: then there is no null. `decides` is
 * the value that does, so one loop serves both. Where the result is null its value is 0.
 */
INLINE void logic(const uint8_t *restrict a, const uint8_t *restrict a_null,
                  const uint8_t *restrict b, const uint8_t *restrict b_null, uint8_t *restrict out,
                  uint8_t *restrict null, uint32_t rows, uint8_t decides)
{
    for (uint32_t i = 0; i < rows; i++) {
        uint8_t an = a_null != NULL ? a_null[i] : 0;
        uint8_t bn = b_null != NULL ? b_null[i] : 0;
        bool decided = ((a[i] == decides) & (an == 0)) | ((b[i] == decides) & (bn == 0));
        uint8_t nulls = decided ? 0 : an | bn;
        null[i] = nulls;
        out[i] = decided ? decides : (uint8_t)((decides ^ 1) & (nulls == 0));
    }
}

void rml_expr_and(const uint8_t *a, const uint8_t *a_null, const uint8_t *b, const uint8_t *b_null,
                  uint8_t *out, uint8_t *null, uint32_t rows)
{
    if (a_null != NULL || b_null != NULL) {
        logic(a, a_null, b, b_null, out, null, rows, 0);
        return;
    }
    for (uint32_t i = 0; i < rows; i++)
        out[i] = a[i] & b[i];
}

void rml_expr_or(const uint8_t *a, const uint8_t *a_null, const uint8_t *b, const uint8_t *b_null,
                 uint8_t *out, uint8_t *null, uint32_t rows)
{
    if (a_null != NULL || b_null != NULL) {
        logic(a, a_null, b, b_null, out, null, rows, 1);
        return;
    }
    for (uint32_t i = 0; i < rows; i++)
        out[i] = a[i] | b[i];
}

INLINE void choose_words(const uint8_t *restrict take, const uint64_t *restrict a, bool a_scalar,
                         const uint64_t *restrict b, bool b_scalar, uint64_t *restrict out,
                         uint32_t rows)
{
    const uint64_t a_value = a[0], b_value = b[0];
    for (uint32_t i = 0; i < rows; i++) {
        uint64_t x = a_scalar ? a_value : a[i], y = b_scalar ? b_value : b[i];
        out[i] = take[i] != 0 ? x : y;
    }
}

static void choose_bytes(const uint8_t *restrict take, const uint8_t *restrict a, uint32_t a_step,
                         const uint8_t *restrict b, uint32_t b_step, uint8_t *restrict out,
                         uint32_t rows)
{
    for (uint32_t i = 0; i < rows; i++)
        out[i] = take[i] != 0 ? a[(size_t)i * a_step] : b[(size_t)i * b_step];
}

static void choose_cells(const uint8_t *take, const unsigned char *a, uint32_t a_step,
                         const unsigned char *b, uint32_t b_step, uint32_t bytes,
                         unsigned char *out, uint32_t rows)
{
    for (uint32_t i = 0; i < rows; i++) {
        const unsigned char *from =
            take[i] != 0 ? a + (size_t)i * a_step * bytes : b + (size_t)i * b_step * bytes;
        memcpy(out + (size_t)i * bytes, from, bytes);
    }
}

void rml_expr_choose(const uint8_t *take, const void *a, uint32_t a_step, const void *b,
                     uint32_t b_step, uint32_t bytes, void *out, uint32_t rows)
{
    if (bytes == 1)
        choose_bytes(take, a, a_step, b, b_step, out, rows);
    else if (bytes != 8)
        choose_cells(take, a, a_step, b, b_step, bytes, out, rows);
    else if (a_step != 0 && b_step != 0)
        choose_words(take, a, false, b, false, out, rows);
    else if (a_step != 0)
        choose_words(take, a, false, b, true, out, rows);
    else if (b_step != 0)
        choose_words(take, a, true, b, false, out, rows);
    else
        choose_words(take, a, true, b, true, out, rows);
}

bool rml_expr_mark_nan(const double *values, const uint8_t *before, uint8_t *null, uint32_t rows)
{
    uint64_t any = 0;
    for (uint32_t i = 0; i < rows; i++)
        any |= values[i] != values[i];
    if (any == 0 && before == NULL)
        return false;
    for (uint32_t i = 0; i < rows; i++) {
        uint8_t passed_on = before != NULL ? before[i] : 0;
        null[i] = (uint8_t)(passed_on | (values[i] != values[i] ? RML_EXPR_NULL : 0));
    }
    return true;
}
