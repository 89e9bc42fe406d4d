#include "tools/commands.h"
#include "tools/dispatch.h"

static const struct rml_command commands[] = {
#define RML_COMMAND(name, arguments, sentence) {#name, arguments, sentence, rml_ctl_cmd_##name},
#include "tools/ringctl.def"
#undef RML_COMMAND
};

int main(int argc, char **argv)
{
    const struct rml_program program = {
        .name = "ringctl",
        .sentence = "look at running pipelines, and end them",
        .commands = commands,
        .command_count = sizeof commands / sizeof commands[0],
    };
    return rml_dispatch(&program, argc, argv);
}
