#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "runtime/base/check.h"
#include "runtime/base/err.h"
#include "runtime/record/text.h"
#include "runtime/time/time.h"

#define NUMBER_MAX 400  // characters: no float needs more to be told from its neighbours
#define SHOWN_MAX  80   // characters of a wrong text that its message repeats

struct span {
    const char *text;
    size_t length;
};

static int shown(struct span span)
{
    return (int)(span.length < SHOWN_MAX ? span.length : SHOWN_MAX);
}

static const char *more(struct span span)
{
    return span.length > SHOWN_MAX ? "..." : "";
}

static int fail_unlike(struct span span, const char *what, struct rml_err *err)
{
    if (span.length == 0)
        return RML_FAIL(err, -EINVAL, "nothing stands where %s should", what);
    return RML_FAIL(err, -EINVAL, "'%.*s%s' is not %s", shown(span), span.text, more(span), what);
}

static int fail_range(struct span span, enum rml_type type, struct rml_err *err)
{
    return RML_FAIL(err, -ERANGE, "%.*s%s does not fit %s", shown(span), span.text, more(span),
                    rml_type_info[type].name);
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static struct span trimmed(struct span span)
{
    while (span.length > 0 && is_blank(span.text[0])) {
        span.text++;
        span.length--;
    }
    while (span.length > 0 && is_blank(span.text[span.length - 1]))
        span.length--;
    return span;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_word(struct span span, const char *word)
{
    return span.length == strlen(word) && strncasecmp(span.text, word, span.length) == 0;
}

/* Integers */

// Digits with a sign before them or not, as sign and size; a size beyond 64 bits is -ERANGE.
static int read_integer(struct span span, bool *ret_negative, uint64_t *ret_size)
{
    size_t at = 0;
    bool negative = span.length > 0 && span.text[0] == '-';
    if (negative || (span.length > 0 && span.text[0] == '+'))
        at++;
    if (at == span.length)
        return -EINVAL;
    uint64_t size = 0;
    bool too_large = false;
    for (; at < span.length; at++) {
        if (!is_digit(span.text[at]))
            return -EINVAL;
        too_large |= __builtin_mul_overflow(size, (uint64_t)10, &size);
        too_large |= __builtin_add_overflow(size, (uint64_t)(span.text[at] - '0'), &size);
    }
    if (too_large)
        return -ERANGE;
    *ret_negative = negative;
    *ret_size = size;
    return 0;
}

static bool fits(enum rml_type type, bool negative, uint64_t size)
{
    uint32_t bits = 8 * rml_type_info[type].bytes;
    bool is_unsigned = type == RML_U8 || type == RML_U16 || type == RML_U32 || type == RML_U64;
    if (is_unsigned)
        return negative ? size == 0 : size <= UINT64_MAX >> (64 - bits);
    uint64_t limit = (uint64_t)1 << (bits - 1);
    return negative ? size <= limit : size < limit;
}

static int parse_integer(struct span span, enum rml_type type, void *at, struct rml_err *err)
{
    bool negative = false;
    uint64_t size = 0;
    int rc = read_integer(span, &negative, &size);
    if (rc == -EINVAL)
        return fail_unlike(span, "a whole number", err);
    if (rc == -ERANGE || !fits(type, negative, size))
        return fail_range(span, type, err);
    uint64_t bits = negative ? 0 - size : size;
    memcpy(at, &bits, rml_type_info[type].bytes);
    return 0;
}

/* Floats */

static bool is_odd_float(struct span span, double *ret_value)
{
    bool negative = span.length > 0 && span.text[0] == '-';
    if (negative || (span.length > 0 && span.text[0] == '+')) {
        span.text++;
        span.length--;
    }
    if (is_word(span, "nan"))
        *ret_value = (double)NAN;
    else if (is_word(span, "inf") || is_word(span, "infinity"))
        *ret_value = (double)(negative ? -INFINITY : INFINITY);
    else
        return false;
    return true;
}

// strtod takes more than we do: hexadecimal, blanks, words. What has only these letters it takes whole
// or not at all.
static bool looks_decimal(struct span span)
{
    for (size_t i = 0; i < span.length; i++) {
        if (span.text[i] == '\0' || strchr("0123456789.eE+-", span.text[i]) == NULL)
            return false;
    }
    return span.length > 0 && span.length <= NUMBER_MAX;
}

static int parse_float(struct span span, enum rml_type type, void *at, struct rml_err *err)
{
    double large = 0;
    float small = 0;
    if (is_odd_float(span, &large)) {
        small = (float)large;
    } else {
        char copy[NUMBER_MAX + 1], *end;
        if (!looks_decimal(span))
            return fail_unlike(span, "a number", err);
        memcpy(copy, span.text, span.length);
        copy[span.length] = '\0';
        large = strtod(copy, &end);
        if (end != copy + span.length)
            return fail_unlike(span, "a number", err);
        small = strtof(copy, NULL);  // not from the double: that would round twice
        if (type == RML_F32 ? isinf(small) : isinf(large))
            return fail_range(span, type, err);
    }
    if (type == RML_F32)
        memcpy(at, &small, sizeof small);
    else
        memcpy(at, &large, sizeof large);
    return 0;
}

/* The others */

static int parse_bool(struct span span, void *at, struct rml_err *err)
{
    uint8_t value = is_word(span, "true") || is_word(span, "1");
    if (value == 0 && !is_word(span, "false") && !is_word(span, "0"))
        return fail_unlike(span, "true or false", err);
    memcpy(at, &value, sizeof value);
    return 0;
}

static int parse_time(struct span span, void *at, struct rml_err *err)
{
    int64_t ns;
    int rc = rml_time_parse(span.text, span.length, &ns);
    if (rc == -EINVAL)
        rc = rml_duration_parse(span.text, span.length, &ns);
    if (rc == -ERANGE)
        return fail_range(span, RML_TIME, err);
    if (rc < 0)
        return fail_unlike(span, "a time such as 2023-11-16T18:17:03Z or nanoseconds since 1970",
                           err);
    memcpy(at, &ns, sizeof ns);
    return 0;
}

static int parse_string(struct span span, enum rml_type type, void *at, struct rml_err *err)
{
    uint32_t bytes = rml_type_info[type].bytes;
    if (span.length > bytes)
        return RML_FAIL(err, -ERANGE, "'%.*s%s' does not fit %s: it has %zu bytes", shown(span),
                        span.text, more(span), rml_type_info[type].name, span.length);
    if (span.length > 0 && memchr(span.text, '\0', span.length) != NULL)
        return RML_FAIL(err, -EINVAL, "a string cannot hold a NUL");
    memset(at, 0, bytes);
    if (span.length > 0)
        memcpy(at, span.text, span.length);
    return 0;
}

int rml_text_field_parse(const struct rml_field *field, const char *text, size_t length,
                         void *record, struct rml_err *err)
{
    struct span whole = {text, length}, span = trimmed(whole);
    void *at = (char *)record + field->offset;
    switch (rml_type_info[field->type].kind) {
    case RML_KIND_INT:
        if (field->type == RML_TIME)
            return parse_time(span, at, err);
        return parse_integer(span, field->type, at, err);
    case RML_KIND_UINT:
        return parse_integer(span, field->type, at, err);
    case RML_KIND_FLOAT:
        return parse_float(span, field->type, at, err);
    case RML_KIND_BOOL:
        return parse_bool(span, at, err);
    case RML_KIND_STR:
        return parse_string(whole, field->type, at, err);
    case RML_KINDS:
        break;
    }
    RML_UNREACHABLE("a type's kind is one of them");
}
