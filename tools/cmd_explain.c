#include <stdio.h>

#include "runtime/plan/settings.h"
#include "runtime/plan/units.h"
#include "runtime/time/time.h"
#include "tools/args.h"
#include "tools/commands.h"
#include "tools/exit.h"
#include "tools/explain.h"
#include "tools/load.h"
#include "tools/usage.h"

static void limit_text(const struct rml_setting_info *info, int64_t value, char text[32])
{
    if (info->kind == RML_SETTING_DURATION)
        rml_duration_print(value, text);
    else if (info->kind == RML_SETTING_SIZE)
        rml_size_print((uint64_t)value, text);
    else
        snprintf(text, 32, "%lld", (long long)value);
}

static void print_keys(void)
{
    for (uint32_t s = 0; s < RML_SETTINGS; s++) {
        const struct rml_setting_info *info = &rml_setting_info[s];
        printf("%s%s: %s", rml_section_paths[info->section], info->key,
               info->choices != NULL ? info->choices : rml_setting_kind_names[info->kind]);
        char least[32], most[32];
        limit_text(info, info->least, least);
        limit_text(info, info->most, most);
        if (info->least != info->most)
            printf(", %s to %s", least, most);
        else if (info->least != 0)
            printf(", only %s", least);
        printf("\n    %s\n    %s%s\n", info->sentence,
               info->standard != NULL ? "default: " : "must be written",
               info->standard != NULL ? info->standard : "");
    }
}

int rml_cmd_explain(int argc, char **argv)
{
    bool as_json = false, keys = false;
    const struct rml_option options[] = {
        {.name = "--json", .sentence = "Say it as one JSON value.", .ret_flag = &as_json},
        {.name = "--keys",
         .sentence = "Without a file: every key that a pipeline file may hold.",
         .ret_flag = &keys},
    };
    const struct rml_args args = {
        .usage = "ringmill explain FILE [--json] | ringmill explain --keys",
        .sentence = "Show what a pipeline file means: the layout of records, stages with their "
                    "expressions as they are understood, windows, memory, defaults.",
        .options = options,
        .option_count = 2,
        .words_most = 1,
    };
    const char *file = NULL;
    uint32_t file_count;
    int code;
    if (!rml_args_read(&args, argc, argv, &file, &file_count, &code))
        return code;
    if (keys == (file_count == 1))
        return keys ? rml_usage_fail("--keys stands without a FILE")
                    : rml_usage_fail("FILE is missing, or --keys");
    if (keys) {
        print_keys();
        return RML_EXIT_OK;
    }
    struct rml_plan *plan = rml_load_plan(file, &code);
    if (plan == NULL)
        return code;
    if (as_json)
        rml_explain_json(plan, stdout);
    else
        rml_explain_text(plan, stdout);
    rml_plan_close(plan);
    return RML_EXIT_OK;
}
