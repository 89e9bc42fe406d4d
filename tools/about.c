#include "tools/about.h"

#include <inttypes.h>
#include <stdio.h>

#define SECOND UINT64_C(1000000000)

// Of less than a second, two digits at least; cut off, so that no unit has a thousand.
static void print_small(const char *sign, uint32_t ns, char text[32])
{
    static const struct {
        const char *name;
        uint32_t ns;
    } units[] = {{"ms", 1000000}, {"us", 1000}};

    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        uint32_t tenths = ns / (units[i].ns / 10);
        if (tenths >= 100) {
            snprintf(text, 32, "%s%" PRIu32 "%s", sign, tenths / 10, units[i].name);
            return;
        }
        if (tenths >= 10) {
            snprintf(text, 32, "%s%" PRIu32 ".%" PRIu32 "%s", sign, tenths / 10, tenths % 10,
                     units[i].name);
            return;
        }
    }
    snprintf(text, 32, "%s%" PRIu32 "%s", sign, ns, ns == 0 ? "s" : "ns");
}

void rml_about_duration(int64_t ns, char text[32])
{
    const char *sign = ns < 0 ? "-" : "";
    uint64_t size = ns < 0 ? -(uint64_t)ns : (uint64_t)ns;
    uint64_t s = size / SECOND;
    if (size < SECOND)
        print_small(sign, (uint32_t)size, text);
    else if (s < 10)
        snprintf(text, 32, "%s%.2fs", sign, (double)size / 1e9);
    else if (s < 60)
        snprintf(text, 32, "%s%.1fs", sign, (double)size / 1e9);
    else if (s < 3600)
        snprintf(text, 32, "%s%" PRIu64 "m %" PRIu64 "s", sign, s / 60, s % 60);
    else if (s < 86400)
        snprintf(text, 32, "%s%" PRIu64 "h %" PRIu64 "m", sign, s / 3600, s / 60 % 60);
    else
        snprintf(text, 32, "%s%" PRIu64 "d %" PRIu64 "h", sign, s / 86400, s / 3600 % 24);
}

void rml_about_rate(double per_second, char text[32])
{
    snprintf(text, 32, per_second > 0 && per_second < 10 ? "%.1f" : "%.0f", per_second);
}
