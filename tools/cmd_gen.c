#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tools/args.h"
#include "tools/commands.h"
#include "tools/exit.h"
#include "tools/header.h"
#include "tools/load.h"

static int write_header(const struct rml_plan *plan, const char *only, const char *path)
{
    FILE *out = path != NULL ? fopen(path, "we") : stdout;
    if (out == NULL) {
        fprintf(stderr, "ringmill: %s: %s\n", path, strerrordesc_np(errno));
        return RML_EXIT_FAILED;
    }
    bool found = rml_header_print(plan, only, out);
    bool written = fflush(out) == 0 && ferror(out) == 0;
    if (path != NULL)
        written = fclose(out) == 0 && written;
    if (!found) {
        fprintf(stderr, "ringmill: pipeline %s has no schema or stage %s\n", plan->name, only);
        return RML_EXIT_USAGE;
    }
    if (!written)
        fprintf(stderr, "ringmill: %s cannot be written\n",
                path != NULL ? path : "standard output");
    return written ? RML_EXIT_OK : RML_EXIT_FAILED;
}

int rml_cmd_gen(int argc, char **argv)
{
    const char *only = NULL, *path = NULL;
    uint32_t only_count = 0, path_count = 0;
    const struct rml_option options[] = {
        {.name = "--schema",
         .value = "NAME",
         .sentence = "Only the struct of this schema, or of this stage's rows.",
         .ret_values = &only,
         .ret_count = &only_count,
         .most = 1},
        {.name = "-o",
         .value = "OUT",
         .sentence = "Write to this file instead of standard output.",
         .ret_values = &path,
         .ret_count = &path_count,
         .most = 1},
    };
    const struct rml_args args = {
        .usage = "ringmill gen header FILE [--schema NAME] [-o OUT]",
        .sentence = "Write the C header of a pipeline: the records that producers write, and the\n"
                    "rows that its stages put out.",
        .options = options,
        .option_count = 2,
        .words_least = 2,
        .words_most = 2,
    };
    const char *words[2];
    uint32_t word_count;
    int code;
    if (!rml_args_read(&args, argc, argv, words, &word_count, &code))
        return code;
    if (strcmp(words[0], "header") != 0) {
        fprintf(stderr, "%s is nothing to generate; did you mean header?\nusage: %s\n", words[0],
                args.usage);
        return RML_EXIT_USAGE;
    }
    struct rml_plan *plan = rml_load_plan(words[1], &code);
    if (plan == NULL)
        return code;
    code = write_header(plan, only, path);
    rml_plan_close(plan);
    return code;
}
