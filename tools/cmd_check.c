#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "operators/registry.h"
#include "runtime/base/err.h"
#include "runtime/plan/plan.h"
#include "runtime/plan/print.h"
#include "tools/args.h"
#include "tools/commands.h"
#include "tools/exit.h"
#include "tools/json.h"

#define FILES_MAX 1024

static const char *plural(uint32_t count)
{
    return count == 1 ? "" : "s";
}

static void print_ok(const struct rml_plan *plan)
{
    printf("ok: pipeline %s: %u source%s, %u stage%s, %u sink%s", plan->name, plan->source_count,
           plural(plan->source_count), plan->stage_count, plural(plan->stage_count),
           plan->sink_count, plural(plan->sink_count));
    if (plan->test_count > 0)
        printf(", %u test%s", plan->test_count, plural(plan->test_count));
    printf("\n");
}

/* What is no error, and probably not meant: rows that are made and go nowhere. */

#define NO_SINKS_TEXT "there are no sinks: `ringmill run` makes rows that nobody gets"
#define NO_SINKS_HINT "add sinks; `ringmill replay` and `ringmill test` need none"
#define UNREAD_TEXT   "nobody reads stage %s: its rows are thrown away"
#define UNREAD_HINT   "name it in the `from` of a sink or of another stage, or take it out"

static bool is_unread(const struct rml_plan *plan, uint32_t stage)
{
    return plan->sink_count > 0 && !plan->stages[stage].has_reader;
}

static void print_warnings(const struct rml_plan *plan, const char *path)
{
    if (plan->sink_count == 0)
        fprintf(stderr, "%s: warning: " NO_SINKS_TEXT "\n      = " NO_SINKS_HINT "\n", path);
    for (uint32_t i = 0; i < plan->stage_count; i++) {
        if (is_unread(plan, i))
            fprintf(stderr, "%s:%u: warning: " UNREAD_TEXT "\n      = " UNREAD_HINT "\n", path,
                    plan->stages[i].line, plan->stages[i].name);
    }
}

static void json_warning(struct rml_json *json, uint32_t line, const char *text, const char *hint)
{
    rml_json_open(json, NULL, '{');
    if (line > 0)
        rml_json_unsigned(json, "line", line);
    rml_json_text(json, "text", text);
    rml_json_text(json, "hint", hint);
    rml_json_close(json, '}');
}

static void json_warnings(struct rml_json *json, const struct rml_plan *plan)
{
    rml_json_open(json, "warnings", '[');
    if (plan->sink_count == 0)
        json_warning(json, 0, NO_SINKS_TEXT, NO_SINKS_HINT);
    for (uint32_t i = 0; i < plan->stage_count; i++) {
        char text[sizeof UNREAD_TEXT + RML_NAME_MAX];
        snprintf(text, sizeof text, UNREAD_TEXT, plan->stages[i].name);
        if (is_unread(plan, i))
            json_warning(json, plan->stages[i].line, text, UNREAD_HINT);
    }
    rml_json_close(json, ']');
}

static void json_errors(struct rml_json *json, const struct rml_plan_errors *errors)
{
    rml_json_open(json, "errors", '[');
    for (uint32_t i = 0; i < errors->count; i++) {
        const struct rml_plan_error *error = &errors->list[i];
        rml_json_open(json, NULL, '{');
        rml_json_unsigned(json, "line", error->line);
        rml_json_unsigned(json, "column", error->column);
        rml_json_unsigned(json, "length", error->length);
        rml_json_text(json, "text", error->text);
        rml_json_text(json, "hint", error->hint[0] != '\0' ? error->hint : NULL);
        rml_json_close(json, '}');
    }
    rml_json_close(json, ']');
    rml_json_unsigned(json, "more_errors", errors->more);
}

static void json_file(struct rml_json *json, const char *path, const struct rml_plan *plan,
                      const struct rml_plan_errors *errors, const struct rml_err *err)
{
    rml_json_open(json, NULL, '{');
    rml_json_text(json, "file", path);
    rml_json_bool(json, "ok", plan != NULL);
    if (plan != NULL) {
        rml_json_text(json, "pipeline", plan->name);
        rml_json_unsigned(json, "sources", plan->source_count);
        rml_json_unsigned(json, "stages", plan->stage_count);
        rml_json_unsigned(json, "sinks", plan->sink_count);
        rml_json_unsigned(json, "tests", plan->test_count);
        json_warnings(json, plan);
    } else if (errors->count > 0) {
        json_errors(json, errors);
    } else {
        rml_json_text(json, "unreadable", err->text);
    }
    rml_json_close(json, '}');
}

static int check_file(const char *path, const struct rml_functions *functions,
                      struct rml_json *json)
{
    struct rml_plan *plan = NULL;
    struct rml_plan_errors errors;
    struct rml_err err = {0};
    int rc = rml_plan_load(path, functions, &plan, &errors, &err);
    if (json != NULL) {
        json_file(json, path, plan, &errors, &err);
    } else if (rc == 0) {
        print_ok(plan);
        print_warnings(plan, path);
    } else {
        rml_plan_failure_print(&errors, path, &err, stderr);
    }
    rml_plan_errors_fini(&errors);
    rml_plan_close(plan);
    return rc == 0 ? RML_EXIT_OK : rc == -EINVAL ? RML_EXIT_PIPELINE : RML_EXIT_FAILED;
}

int rml_cmd_check(int argc, char **argv)
{
    bool as_json = false, no_plugins = false;
    const struct rml_option options[] = {
        {.name = "--json", .sentence = "Say it as one JSON value.", .ret_flag = &as_json},
        {.name = "--no-plugins",
         .sentence =
             "Run no code of others: plug-ins that a file names are errors, all else is checked.",
         .ret_flag = &no_plugins},
    };
    const struct rml_args args = {
        .usage = "ringmill check FILE... [--json] [--no-plugins]",
        .sentence = "Read pipeline files and say everything that is wrong with them, each with its "
                    "place and what to do; a good one with rows that nobody reads gets a warning. "
                    "FILE may be -, standard input. Exits 78 if one is bad.",
        .options = options,
        .option_count = 2,
        .words_least = 1,
        .words_most = FILES_MAX,
    };
    const char *files[FILES_MAX];
    uint32_t file_count;
    int code;
    if (!rml_args_read(&args, argc, argv, files, &file_count, &code))
        return code;

    struct rml_functions functions = *rml_operators_functions();
    functions.loads_plugins = !no_plugins;
    struct rml_json json = {.out = stdout};
    if (as_json) {
        rml_json_open(&json, NULL, '{');
        rml_json_unsigned(&json, "schema_version", 1);
        rml_json_open(&json, "files", '[');
    }
    int worst = RML_EXIT_OK;
    for (uint32_t i = 0; i < file_count; i++) {
        code = check_file(files[i], &functions, as_json ? &json : NULL);
        if (code > worst)
            worst = code;
    }
    if (as_json) {
        rml_json_close(&json, ']');
        rml_json_close(&json, '}');
        printf("\n");
    }
    return worst;
}
