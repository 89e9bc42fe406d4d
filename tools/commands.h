/*
 * commands - the commands of the programs, one function each.
 *
 * argv[0] is the command's own name; what comes back is the exit code (exit.h).
 */
#ifndef RML_TOOLS_COMMANDS_H
#define RML_TOOLS_COMMANDS_H

#define RML_COMMAND(name, arguments, sentence) int rml_cmd_##name(int argc, char **argv);
#include "tools/ringmill.def"
#undef RML_COMMAND

#define RML_COMMAND(name, arguments, sentence) int rml_ctl_cmd_##name(int argc, char **argv);
#include "tools/ringctl.def"
#undef RML_COMMAND

#endif
