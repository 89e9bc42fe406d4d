/*
 * time - event time and durations: int64 nanoseconds, floor arithmetic, text.
 *
 * Event time counts from the Unix epoch and may be negative. Arithmetic saturates at the ends of
 * int64, because the ends come from input: RML_TIME_NONE, the least, means "no time yet", and
 * RML_TIME_END, the greatest, "no more to come".
 */
#ifndef RML_TIME_TIME_H
#define RML_TIME_TIME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RML_TIME_NONE INT64_MIN
#define RML_TIME_END  INT64_MAX

static inline int64_t rml_time_add(int64_t a, int64_t b)
{
    int64_t sum;
    if (__builtin_add_overflow(a, b, &sum))
        return b < 0 ? INT64_MIN : INT64_MAX;
    return sum;
}

static inline int64_t rml_time_sub(int64_t a, int64_t b)
{
    int64_t difference;
    if (__builtin_sub_overflow(a, b, &difference))
        return b < 0 ? INT64_MAX : INT64_MIN;
    return difference;
}

/* Greatest q with q * divisor <= value; divisor > 0. */
static inline int64_t rml_time_floor_div(int64_t value, int64_t divisor)
{
    int64_t q = value / divisor;
    return value % divisor < 0 ? q - 1 : q;
}

/* "0", "-5ms", "200ms", "1.5s", "2m", "1h", "7d", "30us", "10ns" (also µs). A bare number other than
 * 0 is -EINVAL: a unit is missing. -ERANGE beyond int64. `length` bytes, no terminator needed. */
int rml_duration_parse(const char *text, size_t length, int64_t *ret_ns);

/* The shortest exact text in the largest unit that divides: "1500ms" for 1.5 s. At most 32 bytes. */
void rml_duration_print(int64_t ns, char text[32]);

/* Integer nanoseconds, or RFC 3339 / "YYYY-MM-DD HH:MM:SS[.fffffffff]" (UTC unless an offset is
 * given; more than nine decimals only if they are zeros). -EINVAL or -ERANGE. */
int rml_time_parse(const char *text, size_t length, int64_t *ret_ns);

/* RFC 3339 in UTC with as many decimals as needed in groups of three: "2023-11-16T18:17:03.979960Z".
 * At most 40 bytes. */
void rml_time_print_rfc3339(int64_t ns, char text[40]);

#endif
