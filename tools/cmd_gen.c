#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "runtime/base/err.h"
#include "runtime/plan/plan.h"
#include "tools/args.h"
#include "tools/commands.h"
#include "tools/exit.h"
#include "tools/header.h"
#include "tools/load.h"
#include "tools/usage.h"

static int write_file(const char *path, const char *text, size_t bytes)
{
    FILE *out = fopen(path, "we");
    bool is_written = out != NULL && fwrite(text, 1, bytes, out) == bytes;
    if (out != NULL)
        is_written = fclose(out) == 0 && is_written;
    if (!is_written)
        fprintf(stderr, "ringmill: %s cannot be written: %s\n", path, strerrordesc_np(errno));
    return is_written ? RML_EXIT_OK : RML_EXIT_FAILED;
}

/* The file is touched only when there is something to put into it. */
static int write_header(const struct rml_plan *plan, const char *only, const char *path)
{
    struct rml_err err = {0};
    if (only == NULL && rml_header_clashes(plan, &err)) {
        fprintf(stderr, "ringmill: %s: %s\n", plan->path, err.text);
        return RML_EXIT_FAILED;
    }
    char *text = NULL;
    size_t bytes = 0;
    FILE *memory = open_memstream(&text, &bytes);
    bool is_found = memory != NULL && rml_header_print(plan, only, memory);
    int code = RML_EXIT_OK;
    if (memory == NULL || fclose(memory) != 0) {
        fprintf(stderr, "ringmill: no memory for a header\n");
        code = RML_EXIT_FAILED;
    } else if (!is_found) {
        code = rml_usage_fail("--schema: pipeline %s has no schema or stage %s", plan->name, only);
    } else if (path != NULL) {
        code = write_file(path, text, bytes);
    } else {
        fwrite(text, 1, bytes, stdout);
    }
    free(text);
    return code;
}

static bool is_same_file(const char *one, const char *other)
{
    struct stat a, b;
    return stat(one, &a) == 0 && stat(other, &b) == 0 && a.st_dev == b.st_dev
           && a.st_ino == b.st_ino;
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
        .sentence = "Write the C header of a pipeline: the records that producers write, and the "
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
    if (strcmp(words[0], "header") != 0)
        return rml_usage_fail("%s is nothing to generate; did you mean header?", words[0]);
    if (path != NULL && is_same_file(path, words[1]))
        return rml_usage_fail("-o %s: that is the pipeline file", path);
    struct rml_plan *plan = rml_load_plan(words[1], &code);
    if (plan == NULL)
        return code;
    code = write_header(plan, only, path);
    rml_plan_close(plan);
    return code;
}
