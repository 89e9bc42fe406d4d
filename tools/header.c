#include "tools/header.h"

#include <ctype.h>
#include <inttypes.h>
#include <string.h>

static void print_upper(const char *text, FILE *out)
{
    for (; *text != '\0'; text++)
        fputc(toupper((unsigned char)*text), out);
}

// What a C compiler would make of the members: its size, before any padding of ours.
static uint32_t natural_bytes(const struct rml_schema *schema)
{
    uint32_t end = schema->has_nulls ? 8 : 0, align = schema->has_nulls ? 8 : 1;
    for (uint32_t i = 0; i < schema->field_count; i++) {
        const struct rml_type_info *type = &rml_type_info[schema->fields[i].type];
        end = schema->fields[i].offset + type->bytes;
        align = type->align > align ? type->align : align;
    }
    return (end + align - 1) / align * align;
}

static void print_struct(const struct rml_schema *schema, const char *suffix, FILE *out)
{
    fprintf(out, "\nstruct %s%s {\n", schema->name, suffix);
    if (schema->has_nulls)
        fprintf(out, "    uint64_t null_bits;  /* bit i: the i-th field below is null */\n");
    for (uint32_t i = 0; i < schema->field_count; i++) {
        const struct rml_field *field = &schema->fields[i];
        const struct rml_type_info *type = &rml_type_info[field->type];
        fprintf(out, "    %s %s", type->ctype, field->name);
        if (type->kind == RML_KIND_STR)
            fprintf(out, "[%u]", type->bytes);
        fputc(';', out);
        if (type->kind == RML_KIND_STR)
            fprintf(out, "  /* padded with NULs */");
        else if (field->type == RML_TIME)
            fprintf(out, "  /* nanoseconds since the Unix epoch */");
        else if (type->kind == RML_KIND_BOOL)
            fprintf(out, "  /* 0 or 1 */");
        fputc('\n', out);
    }
    uint32_t natural = natural_bytes(schema);
    if (natural < schema->record_bytes)
        fprintf(out, "    unsigned char padding_[%u];\n", schema->record_bytes - natural);
    fprintf(out, "};\n\n#define ");
    print_upper(schema->name, out);
    print_upper(suffix, out);
    fprintf(out, "_HASH UINT64_C(0x%016" PRIx64 ")  /* of names, types and places */\n",
            schema->hash);
    fprintf(out,
            "_Static_assert(sizeof(struct %s%s) == %u, \"the layout that the engine reads\");\n",
            schema->name, suffix, schema->record_bytes);
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
    fprintf(out, "_H\n\n#include <stdint.h>\n");
    for (uint32_t i = 0; i < plan->source_count; i++)
        if (is_first_of_its_schema(plan, i) && is_wanted(only, plan->sources[i].schema.name))
            print_struct(&plan->sources[i].schema, "", out);
    for (uint32_t i = 0; i < plan->stage_count; i++) {
        const struct rml_plan_stage *stage = &plan->stages[i];
        bool named = only != NULL && strcmp(only, stage->name) == 0;
        if (named || (only == NULL && has_rows(stage)))
            print_struct(&stage->output, "_row", out);
    }
    fprintf(out, "\n#endif\n");
    return true;
}
