/*
 * expr_kernel - the loops over columns that an expression is made of.
 *
 * A kernel goes through all rows without asking about any: it computes a value for each and keeps
 * whether some row had no answer. Only then a second loop ("settle") marks which ones. So the check
 * of an integer addition costs three instructions of a vector and no branch.
 *
 * A null is a byte per row: RML_EXPR_NULL where a null was passed on, with RML_EXPR_NO_ANSWER where
 * arithmetic made it. Combining nulls is `|`.
 */
#ifndef RML_RECORD_EXPR_KERNEL_H
#define RML_RECORD_EXPR_KERNEL_H

#include <stdbool.h>
#include <stdint.h>

#define RML_EXPR_NULL      1
#define RML_EXPR_NO_ANSWER 2

enum rml_expr_op {

#define RML_EXPR_BINARY(NAME, function, print, a_type, b_type, r_type, fails) RML_EXPR_##NAME,
#define RML_EXPR_UNARY(NAME, function, print, a_type, r_type, fails)          RML_EXPR_##NAME,
#include "runtime/record/expr_op.def"
#undef RML_EXPR_UNARY
#undef RML_EXPR_BINARY
    RML_EXPR_STRICT_OPS,  // above: those of the table, and null as soon as an operand is

    RML_EXPR_EQ_STR = RML_EXPR_STRICT_OPS,
    RML_EXPR_NE_STR,
    RML_EXPR_LT_STR,
    RML_EXPR_LE_STR,
    RML_EXPR_GT_STR,
    RML_EXPR_GE_STR,
    RML_EXPR_WIDEN,  // a string to a wider type
    RML_EXPR_AND,
    RML_EXPR_OR,
    RML_EXPR_IS_NULL,
    RML_EXPR_IF,
    RML_EXPR_COALESCE,
    RML_EXPR_COLUMN,
    RML_EXPR_CONST,
};

/* Which operands are one value for all rows instead of a column; never both. */
enum rml_expr_shape { RML_EXPR_VV, RML_EXPR_VS, RML_EXPR_SV, RML_EXPR_SHAPES };

struct rml_expr_kernel {
    const char *print;  // operator or function name; "": a conversion that is not written
    bool fails;         // may have no answer
    uint8_t operands;   // 1 or 2; one operand is always a column
    /* Fill `out`, which overlaps no operand; whether any row, null ones included, had no answer. */
    bool (*run[RML_EXPR_SHAPES])(const void *a, const void *b, void *out, uint32_t rows);
    /* Mark the rows of which no operand is null and that have no answer. */
    void (*settle[RML_EXPR_SHAPES])(const void *a, const void *b, uint8_t *null, uint32_t rows);
};

extern const struct rml_expr_kernel rml_expr_kernels[RML_EXPR_STRICT_OPS];

/* A comparison of strings, EQ_STR ... GE_STR; steps are in words, 0 where one string serves all rows. */
struct rml_expr_strings {
    const uint64_t *a, *b;
    uint32_t a_words, b_words;  // width of one
    uint32_t a_step, b_step;
};

void rml_expr_compare_strings(enum rml_expr_op op, const struct rml_expr_strings *strings,
                              uint8_t *out, uint32_t rows);

/* Three-valued logic. A null array may be NULL; `null` is filled (all of it) and unless both are NULL. */
void rml_expr_and(const uint8_t *a, const uint8_t *a_null, const uint8_t *b, const uint8_t *b_null,
                  uint8_t *out, uint8_t *null, uint32_t rows);
void rml_expr_or(const uint8_t *a, const uint8_t *a_null, const uint8_t *b, const uint8_t *b_null,
                 uint8_t *out, uint8_t *null, uint32_t rows);

/*
 * out[i] = take[i] ? a[i] : b[i] for cells of `bytes` (1, or a multiple of 8); *_step is 0 where one
 * cell serves all rows, else 1.
 */
void rml_expr_choose(const uint8_t *take, const void *a, uint32_t a_step, const void *b,
                     uint32_t b_step, uint32_t bytes, void *out, uint32_t rows);

/* Mark the values that are not numbers as RML_EXPR_NULL in `null`, which is filled whole from
 * `before` (NULL: no nulls). False, with `null` left alone, when there is none and no `before`. */
bool rml_expr_mark_nan(const double *values, const uint8_t *before, uint8_t *null, uint32_t rows);

#endif
