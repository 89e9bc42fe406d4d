#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/record/expr.h"
#include "tests/support/test.h"

/*
 * Four records as columns, with something in each that an expression can stumble over. An array of
 * cells is as long as a batch, since expressions compute whole columns.
 */
enum { TS, BIG, SMALL, N, X, F, OK, MODEL, NAME, COLUMNS };

static _Alignas(64) union {
    int64_t i[RML_BATCH_ROWS];
    uint64_t u[RML_BATCH_ROWS];
    double f[RML_BATCH_ROWS];
    uint8_t b[RML_BATCH_ROWS];
    char s[64 * RML_BATCH_ROWS];
} cells[COLUMNS], result;

static uint8_t n_null[RML_BATCH_ROWS], result_null[RML_BATCH_ROWS];
static struct rml_frame frame;
static struct rml_column columns[COLUMNS], out;
static struct rml_batch batch;
static struct rml_expr_error error;
static uint32_t no_answer;

static void add_column(const char *name, enum rml_type type)
{
    uint32_t i = frame.column_count++;
    snprintf(frame.columns[i].name, sizeof frame.columns[i].name, "%s", name);
    frame.columns[i].type = type;
    frame.columns[i].field = i;
    columns[i] = (struct rml_column){.type = type, .data = &cells[i]};
}

static int set_up(void **state)
{
    (void)state;
    add_column("ts", RML_TIME);
    add_column("big", RML_U64);
    add_column("small", RML_U16);
    add_column("n", RML_I64);
    add_column("x", RML_F64);
    add_column("f", RML_F32);
    add_column("ok", RML_BOOL);
    add_column("model", RML_STR16);
    add_column("name", RML_STR8);
    frame.columns[N].nullable = true;
    columns[N].null = n_null;

    static const int64_t ts[] = {0, 1700158623979960000, -1, INT64_MAX};
    static const uint64_t big[] = {0, 5, UINT64_MAX, (uint64_t)INT64_MAX + 1};
    static const int64_t small[] = {0, 200, 429, 65535};
    static const int64_t n[] = {7, -7, INT64_MIN, INT64_MAX};
    static const double x[] = {1.5, -2.5, (double)NAN, (double)INFINITY};
    static const double f[] = {0, 0.5, -1, 2};
    static const char *const model[] = {"gpt", "llama-3-70b-it-8", "", "gpt-4"};
    for (int row = 0; row < 4; row++) {
        cells[TS].i[row] = ts[row];
        cells[BIG].u[row] = big[row];
        cells[SMALL].i[row] = small[row];
        cells[N].i[row] = n[row];
        cells[X].f[row] = x[row];
        cells[F].f[row] = f[row];
        cells[OK].b[row] = row % 2 == 0;
        memcpy(cells[MODEL].s + 16 * (size_t)row, model[row], strlen(model[row]));
        memcpy(cells[NAME].s + 8 * (size_t)row, model[row], row == 1 ? 8 : strlen(model[row]));
    }
    n_null[0] = 1;
    batch = (struct rml_batch){.rows = 4, .selected = 4, .columns = columns};
    return 0;
}

static struct rml_expr *compiled(const char *text)
{
    struct rml_expr *expr = NULL;
    if (rml_expr_compile(text, strlen(text), &frame, NULL, &expr, &error) < 0)
        fail_msg("%s: %s (%s)", text, error.text, error.hint);
    return expr;
}

static enum rml_type evaluate(const char *text)
{
    struct rml_expr *expr = compiled(text);
    const struct rml_expr *const list[] = {expr};
    struct rml_expr_scratch *scratch;
    assert_int_equal(rml_expr_scratch_open(&scratch, list, 1), 0);
    out = (struct rml_column){.data = &result};
    memset(&result, 0xa5, sizeof result);
    memset(result_null, 0xa5, sizeof result_null);
    no_answer = rml_expr_eval(expr, &batch, scratch, &out, result_null);
    enum rml_type type = rml_expr_type(expr);
    assert_int_equal(out.type, type);
    assert_true(rml_expr_nullable(expr) || out.null == NULL);
    rml_expr_scratch_close(scratch);
    rml_expr_free(expr);
    return type;
}

// The rows as text, nulls as "-"; strings and times are left to tests of their own.
static const char *rows_of(const char *text)
{
    static char line[512];
    enum rml_type type = evaluate(text);
    int used = 0;
    for (int row = 0; row < 4; row++) {
        char *at = line + used;
        size_t room = sizeof line - (size_t)used;
        if (out.null != NULL && out.null[row] != 0)
            used += snprintf(at, room, " -");
        else if (rml_type_info[type].kind == RML_KIND_INT)
            used += snprintf(at, room, " %lld", (long long)result.i[row]);
        else if (rml_type_info[type].kind == RML_KIND_UINT)
            used += snprintf(at, room, " %llu", (unsigned long long)result.u[row]);
        else if (rml_type_info[type].kind == RML_KIND_FLOAT)
            used += snprintf(at, room, " %.17g", result.f[row]);
        else if (type == RML_BOOL)
            used += snprintf(at, room, " %s",
                             result.b[row] == 1   ? "true"
                             : result.b[row] == 0 ? "false"
                                                  : "?");
        else
            used += snprintf(at, room, " '%.*s'", (int)rml_type_info[type].bytes,
                             result.s + (size_t)row * rml_type_info[type].bytes);
    }
    return line + 1;
}

#define ROWS(text, expected) assert_string_equal(rows_of(text), expected)

static void arithmetic_beyond_its_range_is_null_and_counted(void **state)
{
    (void)state;
    ROWS("n + 1", "- -6 -9223372036854775807 -");
    assert_int_equal(no_answer, 1);  // a null passed on is not counted
    ROWS("n - 1", "- -8 - 9223372036854775806");
    ROWS("n * 2", "- -14 - -");
    assert_int_equal(no_answer, 2);
    ROWS("-n", "- 7 - -9223372036854775807");
    ROWS("abs(n)", "- 7 - 9223372036854775807");
    ROWS("big + 1", "1 6 - 9223372036854775809");
    ROWS("big - 1", "- 4 18446744073709551614 9223372036854775807");
    ROWS("big * 2", "0 10 - -");
}

static void what_has_no_answer_is_null_and_counted(void **state)
{
    (void)state;
    ROWS("1 / small", "- 0.0050000000000000001 0.002331002331002331 1.5259021896696422e-05");
    assert_int_equal(no_answer, 1);
    ROWS("small % 0", "- - - -");
    assert_int_equal(no_answer, 4);
    ROWS("sqrt(f)", "0 0.70710678118654757 - 1.4142135623730951");
    ROWS("log(f)", "- -0.69314718055994529 - 0.69314718055994529");
    assert_int_equal(no_answer, 2);
    ROWS("pow(f, -1)", "- 2 -1 0.5");
    ROWS("pow(f, 0.5)", "0 0.70710678118654757 - 1.4142135623730951");
    ROWS("0 * x", "0 -0 - -");
    assert_int_equal(no_answer, 1);  // 0 * inf; what came in as NaN was null before
}

static void infinities_stay_and_may_come_to_be(void **state)
{
    (void)state;
    ROWS("x + 1", "2.5 -1.5 - inf");
    ROWS("exp(f * 1000)", "1 1.4035922178528375e+217 0 inf");
    assert_int_equal(no_answer, 0);
    ROWS("x - x", "0 0 - -");
    assert_int_equal(no_answer, 1);
}

static void a_float_that_is_not_a_number_counts_as_null(void **state)
{
    (void)state;
    ROWS("x", "1.5 -2.5 - inf");
    ROWS("is_null(x)", "false false true false");
    ROWS("x == x", "true true - true");
    ROWS("coalesce(x, 0)", "1.5 -2.5 0 inf");
    assert_int_equal(no_answer, 0);
}

static void the_remainder_has_the_sign_of_the_dividend(void **state)
{
    (void)state;
    ROWS("n % 4", "- -3 0 3");
    ROWS("n % -4", "- -3 0 3");
    ROWS("n % -1", "- 0 0 0");
    ROWS("big % 3", "0 2 0 2");
    ROWS("n % big", "- -2 -9223372036854775808 9223372036854775807");
    ROWS("big % n", "- 5 9223372036854775807 1");
}

static void signed_and_unsigned_are_computed_exactly(void **state)
{
    (void)state;
    ROWS("big + n", "- -2 9223372036854775807 -");
    assert_int_equal(no_answer, 1);
    ROWS("n - big", "- -12 - -1");
    ROWS("big > n", "- true true true");
    ROWS("n < big", "- true true true");
    ROWS("big == -1", "false false false false");
    ROWS("big >= -1", "true true true true");
    ROWS("big == 18446744073709551615", "false false true false");
    ROWS("-9223372036854775808 == n", "- false true false");
    assert_int_equal(evaluate("big + 1"), RML_U64);
    assert_int_equal(evaluate("big + small"), RML_U64);
    assert_int_equal(evaluate("big + n"), RML_I64);
    assert_int_equal(evaluate("small + small"), RML_I64);
    assert_int_equal(evaluate("small"), RML_U16);
}

static void logic_knows_three_values(void **state)
{
    (void)state;
    ROWS("n > 0 and true", "- false false true");
    ROWS("n > 0 and false", "false false false false");
    ROWS("n > 0 or true", "true true true true");
    ROWS("n > 0 or false", "- false false true");
    ROWS("not n > 0", "- true true false");
    ROWS("null and ok", "- false - false");
    ROWS("ok or null", "true - true -");
    ROWS("ok == null", "- - - -");
    ROWS("not ok", "false true false true");
    ROWS("ok == false", "false true false true");
}

static void a_null_condition_takes_the_second_branch(void **state)
{
    (void)state;
    ROWS("if(n > 0, 1, 2)", "2 2 2 1");
    ROWS("if(1 / small > 0, 1, 2)", "2 1 1 1");
    assert_int_equal(no_answer, 0);
    ROWS("if(ok, n, null)", "- - -9223372036854775808 -");
    ROWS("if(ok, 1, 2.5)", "1 2.5 1 2.5");
    ROWS("if(small == 0, 0, 1 / small)",
         "0 0.0050000000000000001 0.002331002331002331 1.5259021896696422e-05");
    assert_int_equal(no_answer, 0);
    ROWS("if(ok, ok, n > 0)", "true false true true");
}

static void coalesce_takes_the_first_that_is_there(void **state)
{
    (void)state;
    ROWS("coalesce(n, 3)", "3 -7 -9223372036854775808 9223372036854775807");
    ROWS("coalesce(null, n, null)", "- -7 -9223372036854775808 9223372036854775807");
    ROWS("coalesce(small % 0, small)", "0 200 429 65535");
    assert_int_equal(no_answer, 0);
    ROWS("coalesce(small % 0, null)", "- - - -");
    assert_int_equal(no_answer, 4);
    // what is too large for the common type, i64, is not there either
    ROWS("coalesce(big, n)", "0 5 -9223372036854775808 9223372036854775807");
    assert_int_equal(no_answer, 0);
}

static void extremes_are_null_when_one_is(void **state)
{
    (void)state;
    ROWS("min(n, 0)", "- -7 -9223372036854775808 0");
    ROWS("max(n, small, 300)", "- 300 429 9223372036854775807");
    ROWS("clamp(small, 100, 500)", "100 200 429 500");
    ROWS("clamp(x, -1, 1)", "1 -1 - 1");
    ROWS("max(big, 7)", "7 7 18446744073709551615 9223372036854775808");
}

static void rounding_keeps_whole_numbers(void **state)
{
    (void)state;
    ROWS("floor(x)", "1 -3 - inf");
    ROWS("ceil(x)", "2 -2 - inf");
    ROWS("round(x)", "2 -3 - inf");
    assert_int_equal(evaluate("round(big)"), RML_U64);
    ROWS("round(big)", "0 5 18446744073709551615 9223372036854775808");
}

static void strings_compare_bytewise(void **state)
{
    (void)state;
    ROWS("model == 'gpt'", "true false false false");
    ROWS("model < 'gpt-4'", "true false true false");
    ROWS("\"gpt\" <= model", "true true false true");
    ROWS("model == name", "true false true true");
    ROWS("name >= model", "true false true true");
    ROWS("model != ''", "true true false true");
    ROWS("if(ok, name, model)", "'gpt' 'llama-3-70b-it-8' '' 'gpt-4'");
    ROWS("if(ok, 'a', \"it's\")", "'a' 'it's' 'a' 'it's'");
    ROWS("coalesce(null, name, 'none')", "'gpt' 'llama-3-' '' 'gpt-4'");
    assert_int_equal(evaluate("if(ok, name, model)"), RML_STR16);
    assert_int_equal(evaluate("name"), RML_STR8);
}

static void a_time_is_an_integer_of_its_own_type(void **state)
{
    (void)state;
    assert_int_equal(evaluate("ts + 1s"), RML_TIME);
    ROWS("ts + 1s", "1000000000 1700158624979960000 999999999 -");
    assert_int_equal(no_answer, 1);
    assert_int_equal(evaluate("ts - ts"), RML_I64);
    assert_int_equal(evaluate("1700158623979960000 - ts"), RML_I64);
    ROWS("ts % 1s", "0 979960000 -1 854775807");
    ROWS("ts >= '2023-11-16 18:17:03'", "false true false true");
    ROWS("ts < 5", "true false true false");
    ROWS("max(ts, 1)", "1 1700158623979960000 1 9223372036854775807");
    assert_int_equal(evaluate("max(ts, 1)"), RML_TIME);
}

static void unselected_rows_are_not_counted(void **state)
{
    (void)state;
    static const uint16_t second_and_third[] = {1, 2};
    batch.select = second_and_third;
    batch.selected = 2;
    evaluate("1 / small");
    assert_int_equal(no_answer, 0);
    evaluate("n * 2");
    assert_int_equal(no_answer, 1);
    batch.select = NULL;
    batch.selected = 4;
}

static uint32_t filter(const char *text, uint16_t *select)
{
    struct rml_expr *expr = compiled(text);
    const struct rml_expr *const list[] = {expr};
    struct rml_expr_scratch *scratch;
    assert_int_equal(rml_expr_scratch_open(&scratch, list, 1), 0);
    uint32_t count = rml_expr_filter(expr, &batch, scratch, select, &no_answer);
    rml_expr_scratch_close(scratch);
    rml_expr_free(expr);
    return count;
}

static void only_what_is_true_passes_a_filter(void **state)
{
    (void)state;
    uint16_t select[RML_BATCH_ROWS];
    assert_int_equal(filter("n > 0", select), 1);
    assert_int_equal(select[0], 3);
    assert_int_equal(no_answer, 0);
    assert_int_equal(filter("1 / small < 1", select), 3);
    assert_int_equal(no_answer, 1);
    assert_int_equal(filter("ok", select), 2);
    assert_int_equal(select[1], 2);

    // narrowing the batch's own selection in place
    batch.select = select;
    batch.selected = 2;
    assert_int_equal(filter("small > 0", select), 1);
    assert_int_equal(select[0], 2);
    batch.select = NULL;
    batch.selected = 4;
}

// A text that is none: which part of it, why, and what to do.
static void refused(const char *text, const char *part, const char *why, const char *hint)
{
    struct rml_expr *expr = NULL;
    assert_int_equal(rml_expr_compile(text, strlen(text), &frame, NULL, &expr, &error), -EINVAL);
    assert_null(expr);
    assert_string_equal(error.text, why);
    assert_string_equal(error.hint, hint);
    assert_int_equal(error.length, strlen(part));
    assert_true(error.offset + error.length <= strlen(text));
    assert_memory_equal(text + error.offset, part, strlen(part));
}

static void signs_of_other_languages_are_answered_with_ours(void **state)
{
    (void)state;
    refused("!ok", "!", "! is no operator here", "write not ok");
    refused("ok ? 1 : 2", "?", "? is no operator here", "write if(a, b, c)");
    refused("small = 200", "=", "= is no operator here", "write ==");
    refused("ok && ok", "&&", "&& is no operator here", "write and");
    refused("ok || ok", "||", "|| is no operator here", "write or");
    refused("ok AND ok", "AND", "expected an operator or the end, got AND", "write and");
    refused("n is null", "is", "expected an operator or the end, got is",
            "write is_null(x) or not is_null(x)");
    refused("1 < n < 3", "<", "comparisons do not chain, got <", "write a < b and b < c");
}

static void unknown_names_are_answered_with_near_ones(void **state)
{
    (void)state;
    refused("modle == 'a'", "modle", "no column is named modle", "did you mean model?");
    refused("price > 1", "price", "no column is named price", "");
    refused("True", "True", "no column is named True", "did you mean true?");
    refused("flor(x)", "flor", "no function is named flor", "did you mean floor?");
}

static void types_that_do_not_fit_are_named(void **state)
{
    (void)state;
    refused("ok and x", "x", "and needs bool, got f64", "compare it, as in x != 0");
    refused("not model", "model", "not needs bool, got str16", "compare it, as in model != ''");
    refused("small + ok", "ok", "+ needs numbers, got bool", "write if(condition, 1, 0)");
    refused("model == 1", "model == 1", "== cannot compare str16 and i64", "");
    refused("ok < ok", "ok < ok", "< cannot compare bool and bool",
            "booleans are compared with == and != only");
    refused("x % 2", "x % 2", "% is of integers, got f64 and i64", "");
    refused("ts + ts", "ts + ts", "time_ns + time_ns has no meaning",
            "a time can be subtracted from a time, and a duration added or subtracted");
    refused("ts / 2", "ts", "/ needs numbers, got time_ns",
            "subtract a time first: the difference is a number");
    refused("if(ok, 1, 'a')", "'a'", "i64 and str8 do not go together", "");
    refused("if(n, 1, 2)", "n", "the condition of if needs bool, got i64", "");
    refused("name == 'longer than 8'", "'longer than 8'",
            "the string is longer than the 8 bytes of str8", "");
    refused("ts > 'noon'", "'noon'", "not a time", "write it as in '2023-11-16T18:17:03Z'");
    refused("null", "null", "null alone has no type", "");
    refused("null == null", "null == null", "nulls on both sides: the result has no type", "");
}

static void wrong_numbers_of_arguments_show_the_form(void **state)
{
    (void)state;
    refused("if(ok, 1)", "if(ok, 1)", "if takes 3 arguments, got 2", "write if(condition, a, b)");
    refused("floor()", "floor()", "floor takes 1 argument, got 0", "write floor(x)");
    refused("coalesce()", "coalesce()", "coalesce takes at least 1 argument, got 0",
            "write coalesce(a, b, ...)");
}

static void what_is_no_expression_is_refused_where_it_goes_wrong(void **state)
{
    (void)state;
    refused("", "", "the expression is empty", "");
    refused("  ", "", "the expression is empty", "");
    refused("1 +", "", "expected a value, but the expression ends", "");
    refused("(1", "", "expected ), but the expression ends", "");
    refused("1 2", "2", "expected an operator or the end, got 2", "");
    refused("min(1,)", ")", "expected a value, got )", "");
    refused("min(1 2)", "2", "expected , or ), got 2", "");
    refused("n > 5q", "5q", "neither a number nor a duration",
            "a duration ends in ns, us, ms, s, m, h or d");
    refused("18446744073709551616 > n", "18446744073709551616", "a number too large for u64",
            "write it with a decimal point to make it a float");
    refused("1e999", "1e999", "a number too large for f64", "");
    refused("'abc", "'abc", "the string does not end: ' is missing", "");
    refused("n @ 1", "@", "@ means nothing here", "");
    refused("and", "and", "expected a value, got and", "");
}

static void no_text_is_too_deep_or_too_long_to_be_answered(void **state)
{
    (void)state;
    static char text[2 * RML_NAME_MAX * 1000];
    struct rml_expr *expr = NULL;
    memset(text, '(', 4000);
    assert_int_equal(rml_expr_compile(text, 4000, &frame, NULL, &expr, &error), -EINVAL);
    assert_string_equal(error.text, "nested more than 100 deep");
    memset(text, '-', 4000);
    assert_int_equal(rml_expr_compile(text, 4000, &frame, NULL, &expr, &error), -EINVAL);
    assert_string_equal(error.text, "nested more than 100 deep");
    for (int i = 0; i < 4000; i += 4)
        memcpy(text + i, "not ", 4);
    assert_int_equal(rml_expr_compile(text, 4000, &frame, NULL, &expr, &error), -EINVAL);
    assert_string_equal(error.text, "nested more than 100 deep");
    memset(text, ' ', 5000);
    assert_int_equal(rml_expr_compile(text, 5000, &frame, NULL, &expr, &error), -EINVAL);
    assert_string_equal(error.text, "an expression has at most 4096 bytes");

    // a chain as long as the text allows is no nesting
    text[0] = 'n';
    for (int i = 1; i + 1 < 4096; i += 2)
        memcpy(text + i, "-n", 2);
    assert_int_equal(rml_expr_compile(text, 4095, &frame, NULL, &expr, &error), 0);
    rml_expr_free(expr);
}

static void only_visible_columns_are_seen(void **state)
{
    (void)state;
    const uint64_t visible[RML_COLUMNS_MAX / 64] = {UINT64_C(1) << X};
    struct rml_expr *expr = NULL;
    assert_int_equal(rml_expr_compile("n > 1", 5, &frame, visible, &expr, &error), -EINVAL);
    assert_string_equal(error.text, "no column is named n");
    assert_int_equal(rml_expr_compile("x > 1", 5, &frame, visible, &expr, &error), 0);
    uint64_t wanted[RML_COLUMNS_MAX / 64] = {0};
    rml_expr_columns(expr, wanted);
    assert_int_equal(wanted[0], UINT64_C(1) << X);
    rml_expr_free(expr);
}

static void printed(const char *text, const char *expected)
{
    char print[256], again[256];
    struct rml_expr *expr = compiled(text);
    rml_expr_print(expr, print, sizeof print);
    assert_string_equal(print, expected);
    rml_expr_free(expr);
    expr = compiled(print);
    rml_expr_print(expr, again, sizeof again);
    assert_string_equal(again, expected);
    rml_expr_print(expr, again, 4);
    assert_int_equal(strlen(again), strlen(expected) < 3 ? strlen(expected) : 3);
    rml_expr_free(expr);
}

static void an_expression_prints_as_it_was_understood(void **state)
{
    (void)state;
    printed("small != 0 and x >= 0", "((small != 0) and (x >= 0.0))");
    printed("1 + 2 * 3", "7");
    printed("not ok or small - 1 - 2 > 0", "((not ok) or (((small - 1) - 2) > 0))");
    printed("-9223372036854775808", "-9223372036854775808");
    printed("if(big > 0, x / big, 0)", "if((big > 0), (x / big), 0.0)");
    printed("1 / 0", "(1.0 / 0.0)");
    printed("model == \"it's\"", "(model == \"it's\")");
    printed("ts + 200ms", "(ts + 200000000)");
    printed("-x + abs(n)", "((- x) + abs(n))");
    printed("1e300 * x", "(1e+300 * x)");
    printed("coalesce(n, null, 3)", "coalesce(coalesce(n, null), 3)");
}

int main(void)
{
    const struct CMUnitTest claims[] = {CLAIM(arithmetic_beyond_its_range_is_null_and_counted),
                                        CLAIM(what_has_no_answer_is_null_and_counted),
                                        CLAIM(infinities_stay_and_may_come_to_be),
                                        CLAIM(a_float_that_is_not_a_number_counts_as_null),
                                        CLAIM(the_remainder_has_the_sign_of_the_dividend),
                                        CLAIM(signed_and_unsigned_are_computed_exactly),
                                        CLAIM(logic_knows_three_values),
                                        CLAIM(a_null_condition_takes_the_second_branch),
                                        CLAIM(coalesce_takes_the_first_that_is_there),
                                        CLAIM(extremes_are_null_when_one_is),
                                        CLAIM(rounding_keeps_whole_numbers),
                                        CLAIM(strings_compare_bytewise),
                                        CLAIM(a_time_is_an_integer_of_its_own_type),
                                        CLAIM(unselected_rows_are_not_counted),
                                        CLAIM(only_what_is_true_passes_a_filter),
                                        CLAIM(signs_of_other_languages_are_answered_with_ours),
                                        CLAIM(unknown_names_are_answered_with_near_ones),
                                        CLAIM(types_that_do_not_fit_are_named),
                                        CLAIM(wrong_numbers_of_arguments_show_the_form),
                                        CLAIM(what_is_no_expression_is_refused_where_it_goes_wrong),
                                        CLAIM(no_text_is_too_deep_or_too_long_to_be_answered),
                                        CLAIM(only_visible_columns_are_seen),
                                        CLAIM(an_expression_prints_as_it_was_understood)};
    return cmocka_run_group_tests(claims, set_up, NULL);
}
