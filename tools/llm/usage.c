#include "tools/llm/usage.h"

#include <stdarg.h>
#include <stdio.h>

int llm_usage_fail(const char *program, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fprintf(stderr, "%s: ", program);
    vfprintf(stderr, format, args);
    fprintf(stderr, "\ntry '%s --help'\n", program);
    va_end(args);
    return 2;
}
