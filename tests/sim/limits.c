#include "tests/sim/limits.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name;
    uint64_t least;
} kinds[] = {

#define SIM_LIMIT(name, least, sentence) {#name, least},
#include "tests/sim/limits.def"
};

#define ALL_POINTS (SIM_BIT(SIM_POINTS) - 1)

_Static_assert(SIM_POINTS < 128, "a bit for each point");

struct limits limits_none(void)
{
    struct limits limits = {.without = 0};
    for (int i = 0; i < LIMITS; i++)
        limits.most[i] = LIMIT_NONE;
    return limits;
}

uint64_t limits_keep(const struct limits *limits, enum sim_limit which, uint64_t drawn)
{
    return limits->most[which] < drawn ? limits->most[which] : drawn;
}

uint64_t limits_least(enum sim_limit which)
{
    return kinds[which].least;
}

static bool read_one(struct limits *limits, const char *text, size_t length)
{
    for (int i = 0; i < LIMITS; i++) {
        size_t name = strlen(kinds[i].name);
        if (length <= name + 1 || strncmp(text, kinds[i].name, name) != 0 || text[name] != '=')
            continue;
        char *end;
        uint64_t value = strtoull(text + name + 1, &end, 10);
        limits->most[i] = value < kinds[i].least ? kinds[i].least : value;
        return end == text + length;
    }
    return false;
}

static bool read_point(struct limits *limits, const char *text, size_t length)
{
    for (int i = 0; i < SIM_POINTS; i++) {
        const char *name = sim_point_name((enum sim_point)i);
        if (strlen(name) != length || strncmp(text, name, length) != 0)
            continue;
        limits->without |= SIM_BIT(i);
        return true;
    }
    return false;
}

static bool read_list(struct limits *limits, const char *text,
                      bool (*read)(struct limits *limits, const char *text, size_t length))
{
    while (*text != '\0') {
        size_t length = strcspn(text, ",");
        if (!read(limits, text, length))
            return false;
        text += length + (text[length] == ',');
    }
    return true;
}

bool limits_read(struct limits *limits, const char *text)
{
    return read_list(limits, text, read_one);
}

bool limits_read_without(struct limits *limits, const char *text)
{
    return read_list(limits, text, read_point);
}

bool limits_read_only(struct limits *limits, const char *text)
{
    struct limits only = limits_none();
    bool is_read = limits_read_without(&only, text);
    limits->without |= ~only.without & ALL_POINTS;
    return is_read;
}

__attribute__((format(printf, 3, 4))) static void append(char *text, size_t bytes,
                                                         const char *format, ...)
{
    size_t used = strlen(text);
    va_list more;
    va_start(more, format);
    vsnprintf(text + used, bytes - used, format, more);
    va_end(more);
}

void limits_print(const struct limits *limits, uint64_t seed, char *text, size_t bytes)
{
    text[0] = '\0';
    append(text, bytes, "--seed %llu", (unsigned long long)seed);
    const char *before = " --limits ";
    for (int i = 0; i < LIMITS; i++) {
        if (limits->most[i] == LIMIT_NONE)
            continue;
        append(text, bytes, "%s%s=%llu", before, kinds[i].name,
               (unsigned long long)limits->most[i]);
        before = ",";
    }
    // whichever list is shorter
    int count = 0;
    for (int i = 0; i < SIM_POINTS; i++)
        count += (limits->without >> i & 1) != 0;
    bool is_few = 2 * count <= SIM_POINTS;
    before = is_few ? " --without " : " --only ";
    for (int i = 0; i < SIM_POINTS; i++) {
        if ((limits->without >> i & 1) != is_few)
            continue;
        append(text, bytes, "%s%s", before, sim_point_name((enum sim_point)i));
        before = ",";
    }
    if (sim.wrong != SIM_nothing_wrong)
        append(text, bytes, " --with %s", sim_wrong_name(sim.wrong));
}
