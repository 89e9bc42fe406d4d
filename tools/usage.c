#include "tools/usage.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "tools/exit.h"

static struct {
    const char *program, *command;
} line;

void rml_usage_of(const char *program, const char *command)
{
    line.program = program;
    line.command = command;
}

int rml_usage_fail(const char *format, ...)
{
    const char *program = line.program != NULL ? line.program : program_invocation_short_name;
    const char *blank = line.command != NULL ? " " : "";
    const char *command = line.command != NULL ? line.command : "";
    va_list args;
    va_start(args, format);
    fprintf(stderr, "%s%s%s: ", program, blank, command);
    vfprintf(stderr, format, args);
    fprintf(stderr, "\ntry '%s%s%s --help'\n", program, blank, command);
    va_end(args);
    return RML_EXIT_USAGE;
}
