#include "bench/support/arguments.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

uint32_t bench_number(const char *text, uint32_t most)
{
    char *end;
    errno = 0;
    unsigned long value = strtoul(text, &end, 10);
    return errno != 0 || *end != '\0' || end == text || value > most ? 0 : (uint32_t)value;
}

bool bench_counts_read(int argc, char **argv, const struct bench_count *counts, uint32_t count)
{
    for (int i = 1; i < argc; i += 2) {
        uint32_t c = 0;
        while (c < count && strcmp(argv[i], counts[c].name) != 0)
            c++;
        if (c == count || i + 1 == argc)
            return false;
        *counts[c].ret_value = bench_number(argv[i + 1], counts[c].most);
        if (*counts[c].ret_value == 0)
            return false;
    }
    return true;
}
