#include "tools/dispatch.h"

#include <stdio.h>
#include <string.h>

#include "runtime/base/check.h"
#include "runtime/base/suggest.h"
#include "tools/exit.h"
#include "tools/standard.h"

#define COMMANDS_MAX 64

static void print_help(const struct rml_program *program, FILE *out)
{
    fprintf(out, "%s - %s\n\nusage: %s COMMAND [ARGUMENTS]\n\n", program->name, program->sentence,
            program->name);
    for (uint32_t i = 0; i < program->command_count; i++) {
        const struct rml_command *command = &program->commands[i];
        fprintf(out, "  %s%s%s\n      %s\n", command->name,
                command->arguments[0] != '\0' ? " " : "", command->arguments, command->sentence);
    }
    fprintf(
        out,
        "\n  --help, --version\n      This text; the version. `%s COMMAND --help` says more.\n\n"
        "exit codes: 0 ok, 1 failed, 2 usage, 3 not running, 4 dead, 5 timeout, 6 version,\n"
        "            7 permission, 78 bad pipeline file\n",
        program->name);
}

static int unknown_command(const struct rml_program *program, const char *word)
{
    const char *names[COMMANDS_MAX];
    RML_CHECK(program->command_count <= COMMANDS_MAX);
    for (uint32_t i = 0; i < program->command_count; i++)
        names[i] = program->commands[i].name;
    const char *near = rml_suggest(word, strlen(word), names, program->command_count);
    fprintf(stderr, "%s: there is no command %s", program->name, word);
    if (near != NULL)
        fprintf(stderr, "; did you mean %s?\n", near);
    else
        fprintf(stderr, "; `%s --help` lists them\n", program->name);
    return RML_EXIT_USAGE;
}

static int dispatch(const struct rml_program *program, int argc, char **argv)
{
    const char *word = argc > 1 ? argv[1] : NULL;
    if (word == NULL) {
        print_help(program, stderr);
        return RML_EXIT_USAGE;
    }
    if (strcmp(word, "--version") == 0) {
        printf("%s %s\n", program->name, RML_VERSION);
        return RML_EXIT_OK;
    }
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || strcmp(word, "help") == 0) {
        print_help(program, stdout);
        return RML_EXIT_OK;
    }
    for (uint32_t i = 0; i < program->command_count; i++)
        if (strcmp(program->commands[i].name, word) == 0)
            return program->commands[i].run(argc - 1, argv + 1);
    return unknown_command(program, word);
}

int rml_dispatch(const struct rml_program *program, int argc, char **argv)
{
    rml_standard_open();
    return rml_standard_end(program->name, dispatch(program, argc, argv));
}
