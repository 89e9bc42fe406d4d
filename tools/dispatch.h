/*
 * dispatch - from the first word of a command line to the function that does it.
 */
#ifndef RML_TOOLS_DISPATCH_H
#define RML_TOOLS_DISPATCH_H

#include <stdint.h>

struct rml_command {
    const char *name;
    const char *arguments;  // as --help shows them
    const char *sentence;
    int (*run)(int argc, char **argv);
};

struct rml_program {
    const char *name;
    const char *sentence;
    const struct rml_command *commands;
    uint32_t command_count;
};

/* Run the command that argv names; also --help, help, --version. Returns the exit code, which is not
 * RML_EXIT_OK where something that was printed could not be written. */
int rml_dispatch(const struct rml_program *program, int argc, char **argv);

#endif
