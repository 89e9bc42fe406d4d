#include "runtime/plan/units.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const struct unit {
    const char *name;
    int64_t bytes;
} units[] = {
    {"TiB", INT64_C(1) << 40}, {"GiB", INT64_C(1) << 30},      {"MiB", INT64_C(1) << 20},
    {"KiB", INT64_C(1) << 10}, {"TB", INT64_C(1000000000000)}, {"GB", INT64_C(1000000000)},
    {"MB", INT64_C(1000000)},  {"kB", INT64_C(1000)},          {"B", 1},
};

#define UNITS        (sizeof units / sizeof units[0])
#define UNITS_BINARY 4

int rml_integer_parse(const char *text, size_t length, int64_t *ret_value)
{
    size_t at = length > 0 && (text[0] == '-' || text[0] == '+');
    int64_t sign = at > 0 && text[0] == '-' ? -1 : 1;
    if (at == length)
        return -EINVAL;
    int64_t value = 0;
    for (size_t i = at; i < length; i++)
        if (text[i] < '0' || text[i] > '9')
            return -EINVAL;
    for (; at < length; at++) {
        if (__builtin_mul_overflow(value, 10, &value)
            || __builtin_add_overflow(value, sign * (text[at] - '0'), &value))
            return -ERANGE;
    }
    *ret_value = value;
    return 0;
}

int rml_records_parse(const char *text, size_t length, int64_t *ret_records)
{
    size_t digits = 0;
    while (digits < length && text[digits] >= '0' && text[digits] <= '9')
        digits++;
    size_t at = digits;
    while (at < length && text[at] == ' ')
        at++;
    const char *unit = length - at == 6 ? "record" : "records";
    if (length - at != strlen(unit) || memcmp(text + at, unit, length - at) != 0)
        return -EINVAL;
    return rml_integer_parse(text, digits, ret_records);
}

int rml_size_parse(const char *text, size_t length, int64_t *ret_bytes)
{
    size_t digits = 0;
    while (digits < length && text[digits] >= '0' && text[digits] <= '9')
        digits++;
    for (size_t u = 0; u < UNITS; u++) {
        if (strlen(units[u].name) != length - digits
            || memcmp(text + digits, units[u].name, length - digits) != 0)
            continue;
        int64_t count;
        int rc = rml_integer_parse(text, digits, &count);
        if (rc < 0)
            return rc;
        if (__builtin_mul_overflow(count, units[u].bytes, &count))
            return -ERANGE;
        *ret_bytes = count;
        return 0;
    }
    return -EINVAL;
}

void rml_size_print(uint64_t bytes, char text[32])
{
    for (size_t u = 0; u < UNITS_BINARY; u++) {
        uint64_t unit = (uint64_t)units[u].bytes;
        if (bytes > 0 && bytes % unit == 0) {
            snprintf(text, 32, "%" PRIu64 "%s", bytes / unit, units[u].name);
            return;
        }
    }
    snprintf(text, 32, "%" PRIu64 "B", bytes);
}

void rml_size_print_about(uint64_t bytes, char text[32])
{
    for (size_t u = 0; u < UNITS_BINARY; u++) {
        uint64_t unit = (uint64_t)units[u].bytes;
        if (bytes >= unit) {
            snprintf(text, 32, "%.1f %s", (double)bytes / (double)unit, units[u].name);
            return;
        }
    }
    snprintf(text, 32, "%" PRIu64 " bytes", bytes);
}

int64_t rml_units_gcd(int64_t a, int64_t b)
{
    while (b != 0) {
        int64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a < 0 ? -a : a;
}
