#include "tools/about.h"

#include <inttypes.h>
#include <stdio.h>

#define SECOND UINT64_C(1000000000)

void rml_about_duration(int64_t ns, char text[32])
{
    const char *sign = ns < 0 ? "-" : "";
    uint64_t size = ns < 0 ? -(uint64_t)ns : (uint64_t)ns;
    uint64_t s = size / SECOND;
    if (s < 10)
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
