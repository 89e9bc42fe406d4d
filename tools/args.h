/*
 * args - the words and options of one command.
 *
 * Options are `--name` or `--name VALUE` (also `--name=VALUE`), anywhere among the words; `--` ends
 * them, and `-` alone is a word. A table says what there is, and --help is printed from it. Of an option
 * whose value may be left out, the next word is the value unless it is missed among the words then.
 */
#ifndef RML_TOOLS_ARGS_H
#define RML_TOOLS_ARGS_H

#include <stdbool.h>
#include <stdint.h>

struct rml_option {
    const char *name;      // "--json"
    const char *value;     // what stands behind it, for --help: "NAME"; NULL: a flag
    const char *sentence;  // for --help
    bool *ret_flag;        // set when the flag is there; beside `value`: when it is without one
    /* The values given, up to `most` of them (1: giving it twice is an error). */
    const char **ret_values;
    uint32_t *ret_count;
    uint32_t most;
};

struct rml_args {
    const char *usage;     // "ringmill check FILE... [--json]"
    const char *sentence;  // what the command does
    const struct rml_option *options;
    uint32_t option_count;
    uint32_t words_least, words_most;
};

/*
 * Take argv apart (argv[0] is the command itself). True: go on, with `ret_words` pointing into argv.
 * False: finish with *ret_exit, all is said: --help was asked for, or the line makes no sense.
 */
bool rml_args_read(const struct rml_args *args, int argc, char **argv, const char **ret_words,
                   uint32_t *ret_word_count, int *ret_exit);

#endif
