#include "tools/header.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <strings.h>

#include "runtime/base/err.h"
#include "runtime/record/schema_c.h"

static void print_upper(const char *text, FILE *out)
{
    for (; *text != '\0'; text++)
        fputc(toupper((unsigned char)*text), out);
}

static bool is_first_of_its_schema(const struct rml_plan *plan, uint32_t source)
{
    for (uint32_t i = 0; i < source; i++)
        if (strcmp(plan->sources[i].schema.name, plan->sources[source].schema.name) == 0)
            return false;
    return true;
}

// Rows that nobody takes need no struct.
static bool has_rows(const struct rml_plan_stage *stage)
{
    return stage->kind == RML_STAGE_WINDOW || stage->has_reader;
}

static bool is_wanted(const char *only, const char *name)
{
    return only == NULL || strcmp(only, name) == 0;
}

static bool is_there(const struct rml_plan *plan, const char *only)
{
    if (only == NULL || rml_plan_stage_find(plan, only) != UINT32_MAX)
        return true;
    for (uint32_t i = 0; i < plan->source_count; i++)
        if (strcmp(plan->sources[i].schema.name, only) == 0)
            return true;
    return false;
}

// Macros are in capitals, so names that differ in that alone are one name, too.
static bool are_one(char names[][RML_NAME_MAX + 5], uint32_t last, struct rml_err *err)
{
    for (uint32_t i = 0; i < last; i++) {
        if (strcasecmp(names[i], names[last]) != 0)
            continue;
        rml_err_set(
            err, -EEXIST,
            "in C, the records %s and %s would have one name: rename a schema or a stage, or write "
            "headers of their own with --schema",
            names[i], names[last]);
        return true;
    }
    return false;
}

bool rml_header_clashes(const struct rml_plan *plan, struct rml_err *err)
{
    char names[RML_SOURCES_MAX + RML_STAGES_MAX][RML_NAME_MAX + 5];
    uint32_t count = 0;
    for (uint32_t i = 0; i < plan->source_count; i++) {
        if (!is_first_of_its_schema(plan, i))
            continue;
        snprintf(names[count], sizeof names[count], "%s", plan->sources[i].schema.name);
        if (are_one(names, count++, err))
            return true;
    }
    for (uint32_t i = 0; i < plan->stage_count; i++) {
        if (!has_rows(&plan->stages[i]))
            continue;
        snprintf(names[count], sizeof names[count], "%s_row", plan->stages[i].name);
        if (are_one(names, count++, err))
            return true;
    }
    return false;
}

bool rml_header_print(const struct rml_plan *plan, const char *only, FILE *out)
{
    if (!is_there(plan, only))
        return false;
    fprintf(out,
            "/* Records of the pipeline %s, written by `ringmill gen header`: change the pipeline "
            "file, not this. */\n#ifndef RINGMILL_",
            plan->name);
    print_upper(plan->name, out);
    fprintf(out, "_H\n#define RINGMILL_");
    print_upper(plan->name, out);
    fprintf(out, "_H\n\n");
    rml_schema_print_c_start(out);
    for (uint32_t i = 0; i < plan->source_count; i++)
        if (is_first_of_its_schema(plan, i) && is_wanted(only, plan->sources[i].schema.name))
            rml_schema_print_c(out, &plan->sources[i].schema, "");
    for (uint32_t i = 0; i < plan->stage_count; i++) {
        const struct rml_plan_stage *stage = &plan->stages[i];
        bool named = only != NULL && strcmp(only, stage->name) == 0;
        if (named || (only == NULL && has_rows(stage)))
            rml_schema_print_c(out, &stage->output, "_row");
    }
    fprintf(out, "\n#endif\n");
    return true;
}
