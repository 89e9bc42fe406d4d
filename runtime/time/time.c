#include "runtime/time/time.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/int128.h"

#define SECOND_NS 1000000000

static const struct unit {
    const char *name;
    int64_t ns;
} units[] = {
    {"d", (int64_t)86400 * SECOND_NS},
    {"h", (int64_t)3600 * SECOND_NS},
    {"m", (int64_t)60 * SECOND_NS},
    {"s", SECOND_NS},
    {"ms", 1000000},
    {"us", 1000},
    {"ns", 1},
    {"\u00b5s", 1000},  // the micro sign, and the Greek letter that looks like it
    {"\u03bcs", 1000},
};

#define UNITS (sizeof units / sizeof units[0])

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

// A text being read from its front; what is not there reads as NUL.
struct reader {
    const char *at, *end;
};

static char look(const struct reader *in)
{
    if (in->at == in->end)
        return '\0';
    return *in->at;
}

static bool accept(struct reader *in, char c)
{
    if (look(in) != c || in->at == in->end)
        return false;
    in->at++;
    return true;
}

static const struct unit *unit_named(const char *text, size_t length)
{
    for (size_t i = 0; i < UNITS; i++) {
        if (strlen(units[i].name) == length && memcmp(units[i].name, text, length) == 0)
            return &units[i];
    }
    return NULL;
}

// Digits as whole * 10^-decimals, exact while they fit.
static int read_decimal(struct reader *in, rml_int128 *ret_whole, int *ret_decimals)
{
    const rml_int128 limit = (rml_int128)1 << 100;
    rml_int128 whole = 0;
    int decimals = 0, digits = 0;
    bool point = false;
    for (; in->at < in->end; in->at++) {
        if (*in->at == '.' && !point && digits > 0) {
            point = true;
            continue;
        }
        if (!is_digit(*in->at))
            break;
        if (whole > limit)
            return -ERANGE;
        whole = whole * 10 + (*in->at - '0');
        decimals += point;
        digits++;
    }
    *ret_whole = whole;
    *ret_decimals = decimals;
    return digits > 0 && !(point && decimals == 0) ? 0 : -EINVAL;
}

static int narrowed(rml_int128 ns, int64_t *ret_ns)
{
    if (ns > INT64_MAX || ns < INT64_MIN)
        return -ERANGE;
    *ret_ns = (int64_t)ns;
    return 0;
}

int rml_duration_parse(const char *text, size_t length, int64_t *ret_ns)
{
    struct reader in = {text, text + length};
    bool negative = accept(&in, '-');
    rml_int128 whole;
    int decimals;
    int rc = read_decimal(&in, &whole, &decimals);
    if (rc < 0)
        return rc;
    if (in.at == in.end && whole == 0) {
        *ret_ns = 0;
        return 0;
    }
    const struct unit *unit = unit_named(in.at, (size_t)(in.end - in.at));
    if (unit == NULL)
        return -EINVAL;
    for (; decimals > 0 && whole % 10 == 0; decimals--)
        whole /= 10;
    if (whole > (rml_int128)1 << 79)
        return decimals > 0 ? -EINVAL : -ERANGE;
    rml_int128 ns = whole * unit->ns;  // below 2^126
    for (; decimals > 0; decimals--, ns /= 10) {
        if (ns % 10 != 0)
            return -EINVAL;  // not a whole number of nanoseconds
    }
    return narrowed(negative ? -ns : ns, ret_ns);
}

void rml_duration_print(int64_t ns, char text[32])
{
    if (ns == 0) {
        snprintf(text, 32, "0s");
        return;
    }
    for (size_t i = 0; i < UNITS; i++) {
        if (ns % units[i].ns == 0) {
            snprintf(text, 32, "%lld%s", (long long)(ns / units[i].ns), units[i].name);
            return;
        }
    }
}

/*
 * Days since 1970-01-01 of a date of the proleptic Gregorian calendar. Years are counted from March,
 * so that the leap day is the year's last and the months' lengths follow one line, (153 m + 2) / 5.
 */
static int64_t days_of(int64_t year, int month, int day)
{
    year -= month <= 2;
    int64_t era = rml_time_floor_div(year, 400);
    int64_t of_era = year - era * 400;
    int64_t of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

static void date_of(int64_t days, int64_t *year, int *month, int *day)
{
    days += 719468;
    int64_t era = rml_time_floor_div(days, 146097);
    int64_t of_era = days - era * 146097;
    int64_t years = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    int64_t of_year = of_era - (365 * years + years / 4 - years / 100);
    int64_t shifted = (5 * of_year + 2) / 153;
    *day = (int)(of_year - (153 * shifted + 2) / 5 + 1);
    *month = (int)(shifted < 10 ? shifted + 3 : shifted - 9);
    *year = years + era * 400 + (*month <= 2);
}

static int days_in(int64_t year, int month)
{
    static const int lengths[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return month == 2 && leap ? 29 : lengths[month - 1];
}

// Exactly `count` digits of a value from `low` to `high`.
static int read_digits(struct reader *in, int count, int low, int high, int *ret_value)
{
    int value = 0;
    for (int i = 0; i < count; i++, in->at++) {
        if (!is_digit(look(in)))
            return -EINVAL;
        value = value * 10 + (*in->at - '0');
    }
    if (value < low || value > high)
        return -EINVAL;
    *ret_value = value;
    return 0;
}

// The decimals of a second as nanoseconds; beyond nine only zeros.
static int read_fraction(struct reader *in, int64_t *ret_ns)
{
    int64_t ns = 0, digit_ns = SECOND_NS;
    int digits = 0;
    for (; is_digit(look(in)); in->at++, digits++) {
        digit_ns /= 10;
        if (digit_ns == 0 && *in->at != '0')
            return -EINVAL;
        ns += (*in->at - '0') * digit_ns;
    }
    *ret_ns = ns;
    return digits > 0 ? 0 : -EINVAL;
}

static int read_zone(struct reader *in, int64_t *ret_seconds)
{
    *ret_seconds = 0;
    if (in->at == in->end || accept(in, 'Z') || accept(in, 'z'))
        return 0;
    bool west = look(in) == '-';
    if (!accept(in, '+') && !accept(in, '-'))
        return -EINVAL;
    int hours, minutes;
    if (read_digits(in, 2, 0, 23, &hours) < 0)
        return -EINVAL;
    accept(in, ':');
    if (read_digits(in, 2, 0, 59, &minutes) < 0)
        return -EINVAL;
    *ret_seconds = (west ? -1 : 1) * (hours * 3600 + minutes * 60);
    return 0;
}

static int read_date(struct reader *in, int64_t *ret_days)
{
    int year, month, day;
    if (read_digits(in, 4, 0, 9999, &year) < 0 || !accept(in, '-')
        || read_digits(in, 2, 1, 12, &month) < 0 || !accept(in, '-')
        || read_digits(in, 2, 1, days_in(year, month), &day) < 0)
        return -EINVAL;
    *ret_days = days_of(year, month, day);
    return 0;
}

static int read_clock_time(struct reader *in, int64_t *ret_seconds, int64_t *ret_ns)
{
    int hour, minute, second;
    *ret_ns = 0;
    if (read_digits(in, 2, 0, 23, &hour) < 0 || !accept(in, ':')
        || read_digits(in, 2, 0, 59, &minute) < 0 || !accept(in, ':')
        || read_digits(in, 2, 0, 60, &second) < 0)
        return -EINVAL;
    *ret_seconds = hour * 3600 + minute * 60 + second;
    return accept(in, '.') ? read_fraction(in, ret_ns) : 0;
}

static int parse_civil(const char *text, size_t length, int64_t *ret_ns)
{
    struct reader in = {text, text + length};
    int64_t days, seconds, ns, zone_seconds;
    if (read_date(&in, &days) < 0)
        return -EINVAL;
    if (!accept(&in, 'T') && !accept(&in, 't') && !accept(&in, ' '))
        return -EINVAL;
    if (read_clock_time(&in, &seconds, &ns) < 0 || read_zone(&in, &zone_seconds) < 0
        || in.at != in.end)
        return -EINVAL;
    return narrowed(((rml_int128)days * 86400 + seconds - zone_seconds) * SECOND_NS + ns, ret_ns);
}

int rml_time_parse(const char *text, size_t length, int64_t *ret_ns)
{
    struct reader in = {text, text + length};
    bool negative = accept(&in, '-');
    if (!negative)
        accept(&in, '+');
    if (!is_digit(look(&in)))
        return -EINVAL;
    rml_int128 ns = 0;
    for (; is_digit(look(&in)); in.at++) {
        ns = ns * 10 + (*in.at - '0');
        if (ns > (rml_int128)INT64_MAX + 1)
            return -ERANGE;
    }
    if (in.at == in.end)
        return narrowed(negative ? -ns : ns, ret_ns);
    return parse_civil(text, length, ret_ns);
}

void rml_time_print_rfc3339(int64_t ns, char text[40])
{
    int64_t seconds = rml_time_floor_div(ns, SECOND_NS);
    int64_t rest = (int64_t)((rml_int128)ns - (rml_int128)seconds * SECOND_NS);
    int64_t days = rml_time_floor_div(seconds, 86400);
    int of_day = (int)(seconds - days * 86400);
    int64_t year;
    int month, day;
    date_of(days, &year, &month, &day);
    int used = snprintf(text, 40, "%04d-%02d-%02dT%02d:%02d:%02d", (int)year, month, day,
                        of_day / 3600, of_day / 60 % 60, of_day % 60);
    int decimals = rest == 0 ? 0 : rest % 1000000 == 0 ? 3 : rest % 1000 == 0 ? 6 : 9;
    for (int cut = decimals; cut > 0 && cut < 9; cut += 3)
        rest /= 1000;
    if (decimals > 0)
        used += snprintf(text + used, 40 - (size_t)used, ".%0*d", decimals, (int)rest);
    snprintf(text + used, 40 - (size_t)used, "Z");
}
