#include "tools/dispatch.h"

#include <stdio.h>
#include <string.h>

#include "runtime/base/check.h"
#include "runtime/base/suggest.h"
#include "tools/exit.h"
#include "tools/standard.h"
#include "tools/usage.h"
#include "tools/wrap.h"

#define COMMANDS_MAX 64

static void print_help(const struct rml_program *program, FILE *out)
{
    fprintf(out, "%s - %s\n\nusage: %s COMMAND [ARGUMENTS]\n\n", program->name, program->sentence,
            program->name);
    for (uint32_t i = 0; i < program->command_count; i++) {
        const struct rml_command *command = &program->commands[i];
        fprintf(out, "  %s%s%s\n      ", command->name, command->arguments[0] != '\0' ? " " : "",
                command->arguments);
        rml_wrap(out, 6, 6, command->sentence);
    }
    fprintf(
        out,
        "\n  --help, --version\n      This text; the version. `%s COMMAND --help` says more.\n\n"
        "exit codes: 0 ok, 1 failed, 2 usage, 3 not running, 4 dead, 5 timeout,\n"
        "            6 version, 7 permission, 78 bad pipeline file\n",
        program->name);
}

static int unknown_command(const struct rml_program *program, const char *word)
{
    const char *names[COMMANDS_MAX];
    RML_CHECK(program->command_count <= COMMANDS_MAX);
    for (uint32_t i = 0; i < program->command_count; i++)
        names[i] = program->commands[i].name;
    const char *near = rml_suggest(word, strlen(word), names, program->command_count);
    return near != NULL ? rml_usage_fail("there is no command %s; did you mean %s?", word, near)
                        : rml_usage_fail("there is no command %s", word);
}

static int dispatch(const struct rml_program *program, int argc, char **argv)
{
    const char *word = argc > 1 ? argv[1] : NULL;
    rml_usage_of(program->name, NULL);
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
    for (uint32_t i = 0; i < program->command_count; i++) {
        const struct rml_command *command = &program->commands[i];
        if (strcmp(command->name, word) == 0) {
            rml_usage_of(program->name, command->name);
            return command->run(argc - 1, argv + 1);
        }
    }
    return unknown_command(program, word);
}

int rml_dispatch(const struct rml_program *program, int argc, char **argv)
{
    rml_standard_open();
    return rml_standard_end(program->name, dispatch(program, argc, argv));
}
