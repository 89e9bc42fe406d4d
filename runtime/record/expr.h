/*
 * expr - expressions of the pipeline file: parsed, typed and compiled once, then run a column at a
 * time.
 *
 *     status != 0 and latency_ms >= 0        if(tokens > 0, latency_ms / tokens, 0)
 *
 * Grammar, weakest first: `or`, `and`, `not`, comparison (== != < <= > >=, not chained), + -, * / %,
 * unary -, primary (number, 'string' or "string", true, false, null, duration such as 200ms, name,
 * call, parentheses). Functions: if(c,a,b) coalesce(a,...) is_null(a) min(a,...) max(a,...) abs
 * floor ceil round sqrt log exp pow(a,b) clamp(x,lo,hi).
 *
 * A string has no escapes: one that holds a quote is written with the other kind. At most 4096 bytes
 * of text and 100 levels of parentheses, calls, `not` and unary `-`.
 *
 * NULLS. Arithmetic is total: what has no answer is null and is counted. That is x / 0, x % 0, an
 * integer outside of its type, the square root or logarithm of a negative number, log(0), a
 * negative power of 0, and any float that would not be a number (0 * inf, inf - inf). Infinities
 * that come in stay, and overflow of floats makes them. A float that comes in as no number is a
 * null, not counted. A null operand makes the result null, except in is_null, in coalesce (the first
 * that is not null), in if (a null condition takes the second branch; the branch not taken does not
 * matter), and where one side of and/or decides alone (three-valued logic as in SQL). A filter
 * passes a row only when the expression is true.
 *
 * INTEGERS. u8 to u32 and the signed types are computed as i64. Where a u64 takes part, the result is
 * u64 if the other side is unsigned too (a type, or a constant that is not negative), else i64;
 * both are computed exactly and judged by the result alone. Comparison is the mathematical one,
 * whatever the types. `%` has the sign of the dividend. abs, floor, ceil and round leave unsigned
 * integers as they are, the latter three all integers.
 *
 * FLOATS. `/`, sqrt, log, exp and pow are of floats; integers that meet a float become floats,
 * rounded to nearest, in comparisons too. round() goes away from zero at a half.
 *
 * TIMES are integers of their own type: time - time is i64, time + or - integer is a time, time %
 * integer is i64. They compare with times, integers, and strings that can be read as times. A
 * duration is an i64 of nanoseconds.
 *
 * STRINGS compare bytewise; a literal longer than the column compared with is an error.
 *
 * COMMON TYPE. The branches of if and the arguments of coalesce, min, max and clamp become one type:
 * the same stays; integers become i64, or u64 if one is u64 and all are unsigned; with a float all
 * become f64; strings the widest. A constant integer is a time where the others are. An u64 that
 * i64 cannot hold has no answer there. clamp(x, lo, hi) is min(max(x, lo), hi).
 */
#ifndef RML_RECORD_EXPR_H
#define RML_RECORD_EXPR_H

#include "runtime/record/batch.h"

struct rml_expr;          // compiled, read-only, used by any number of threads at once
struct rml_expr_scratch;  // working columns of one thread

/* Where and why a text is no expression: byte offsets into the text, and a sentence. */
struct rml_expr_error {
    uint32_t offset;
    uint32_t length;
    char text[256];  // what is wrong
    char hint[128];  // what to do, or a near name ("did you mean latency_ms?"); may be empty
};

/*
 * Compile `text` against those columns of `frame` whose bit is set in `visible` (NULL: all). Two
 * branches of a pipeline may each map a column of the same name; the visible ones have distinct
 * names. Returns 0 and a new expression, freed by rml_expr_free; -EINVAL with `error` filled; -ENOMEM.
 */
int rml_expr_compile(const char *text, size_t length, const struct rml_frame *frame,
                     const uint64_t *visible, struct rml_expr **ret_expr,
                     struct rml_expr_error *error);
void rml_expr_free(struct rml_expr *expr);

enum rml_type rml_expr_type(const struct rml_expr *expr);
bool rml_expr_nullable(const struct rml_expr *expr);

/* Set the bits of the frame columns that the expression reads. */
void rml_expr_columns(const struct rml_expr *expr, uint64_t wanted[RML_COLUMNS_MAX / 64]);

/* Working memory large enough for every expression given, for one thread; allocated here, once. */
int rml_expr_scratch_open(struct rml_expr_scratch **ret_scratch,
                          const struct rml_expr *const *exprs, uint32_t expr_count);
void rml_expr_scratch_close(struct rml_expr_scratch *scratch);

/*
 * Evaluate for every row of the batch (selected or not: values of unselected rows are unspecified
 * but well-formed) into `out`, whose `data` and null array `out_null` are the caller's memory;
 * out->null is set to out_null or to NULL when no row is null. Returns how many SELECTED rows came
 * out null because arithmetic had no answer (nulls passed on from inputs are not counted again).
 */
uint32_t rml_expr_eval(const struct rml_expr *expr, const struct rml_batch *batch,
                       struct rml_expr_scratch *scratch, struct rml_column *out, uint8_t *out_null);

/*
 * Evaluate a bool expression as a filter: write the indices of selected rows for which it is true
 * to `select` (RML_BATCH_ROWS entries, may be the batch's own) and return their number.
 */
uint32_t rml_expr_filter(const struct rml_expr *expr, const struct rml_batch *batch,
                         struct rml_expr_scratch *scratch, uint16_t *select,
                         uint32_t *ret_no_answer);

/* The expression as the compiler understood it, fully parenthesised, for `explain`; cut to bytes. */
void rml_expr_print(const struct rml_expr *expr, char *text, size_t bytes);

#endif
