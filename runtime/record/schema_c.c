#include "runtime/record/schema_c.h"

#include <ctype.h>
#include <inttypes.h>
#include <string.h>

#include "runtime/base/check.h"

#define MASK    "null_mask"
#define PADDING "padding_to_8"

// A name with as many _ behind it as it may take: it cannot become longer than all of a record's.
struct c_name {
    char text[RML_NAME_MAX + RML_FIELDS_MAX + 2];
};

// Words of C++ that are none of C, what gcc's own dialect of C defines as 1, and macros of the library.
static const char *const taken_words[] = {
    "EOF",       "NULL",          "errno",       "alignas",      "alignof",   "and",
    "and_eq",    "asm",           "bitand",      "bitor",        "bool",      "catch",
    "char16_t",  "char32_t",      "char8_t",     "class",        "co_await",  "co_return",
    "co_yield",  "compl",         "concept",     "const_cast",   "consteval", "constexpr",
    "constinit", "decltype",      "delete",      "dynamic_cast", "explicit",  "export",
    "false",     "friend",        "i386",        "linux",        "mutable",   "namespace",
    "new",       "noexcept",      "not",         "not_eq",       "nullptr",   "operator",
    "or",        "or_eq",         "private",     "protected",    "public",    "reinterpret_cast",
    "requires",  "static_assert", "static_cast", "template",     "this",      "thread_local",
    "throw",     "true",          "try",         "typeid",       "typename",  "unix",
    "using",     "virtual",       "wchar_t",     "xor",          "xor_eq",
};

static bool is_taken(const char *name)
{
    for (size_t i = 0; i < sizeof taken_words / sizeof taken_words[0]; i++) {
        if (strcmp(taken_words[i], name) == 0)
            return true;
    }
    return false;
}

static void lengthen(struct c_name *name)
{
    size_t length = strlen(name->text);
    RML_CHECK(length + 1 < sizeof name->text);
    memcpy(name->text + length, "_", 2);
}

static struct c_name name_of_struct(const struct rml_schema *schema, const char *suffix)
{
    struct c_name name;
    snprintf(name.text, sizeof name.text, "%s%s", schema->name, suffix);
    if (is_taken(name.text))
        lengthen(&name);
    return name;
}

static struct c_name name_of_member(const struct rml_schema *schema, uint32_t index)
{
    struct c_name name;
    snprintf(name.text, sizeof name.text, "%s", schema->fields[index].name);
    if (!is_taken(name.text) && strcmp(name.text, MASK) != 0 && strcmp(name.text, PADDING) != 0)
        return name;
    do
        lengthen(&name);
    while (rml_schema_find(schema, name.text, strlen(name.text)) != RML_FIELD_ABSENT);
    return name;
}

// What a C compiler would make of the members: its size, before any padding of ours.
static uint32_t natural_bytes(const struct rml_schema *schema)
{
    uint32_t end = 0, align = 1;
    if (schema->has_nulls)
        end = align = 8;
    for (uint32_t i = 0; i < schema->field_count; i++) {
        const struct rml_type_info *type = &rml_type_info[schema->fields[i].type];
        end = schema->fields[i].offset + type->bytes;
        align = type->align > align ? type->align : align;
    }
    return (end + align - 1) / align * align;
}

static const char *unit_of(enum rml_type type)
{
    if (type == RML_TIME)
        return "nanoseconds since the Unix epoch";
    if (type == RML_BOOL)
        return "0 or 1";
    return rml_type_info[type].kind == RML_KIND_STR ? "padded with NULs" : NULL;
}

static void print_member(FILE *out, const struct rml_schema *schema, uint32_t index)
{
    const struct rml_field *field = &schema->fields[index];
    const struct rml_type_info *type = &rml_type_info[field->type];
    const char *unit = unit_of(field->type);
    fprintf(out, "    %s %s", type->ctype, name_of_member(schema, index).text);
    if (type->kind == RML_KIND_STR)
        fprintf(out, "[%u] RINGMILL_NONSTRING", type->bytes);
    fputc(';', out);
    if (field->nullable) {
        fprintf(out, "  /* null where bit %u of " MASK " is set%s%s */", index,
                unit != NULL ? "; " : "", unit != NULL ? unit : "");
    } else if (unit != NULL) {
        fprintf(out, "  /* %s */", unit);
    }
    fputc('\n', out);
}

static void print_struct(FILE *out, const struct rml_schema *schema, const char *name)
{
    fprintf(out, "\nstruct %s {\n", name);
    if (schema->has_nulls)
        fprintf(out, "    uint64_t " MASK ";\n");
    for (uint32_t i = 0; i < schema->field_count; i++)
        print_member(out, schema, i);
    uint32_t natural = natural_bytes(schema);
    if (natural < schema->record_bytes)
        fprintf(out, "    unsigned char " PADDING "[%u];\n", schema->record_bytes - natural);
    fprintf(out, "};\n");
}

static void print_checks(FILE *out, const struct rml_schema *schema, const char *name)
{
    for (uint32_t i = 0; i < schema->field_count; i++) {
        fprintf(out,
                "RINGMILL_STATIC_ASSERT(offsetof(struct %s, %s) == %u, \"the engine's place\");\n",
                name, name_of_member(schema, i).text, schema->fields[i].offset);
    }
    fprintf(out, "RINGMILL_STATIC_ASSERT(sizeof(struct %s) == %u, \"the engine's size\");\n", name,
            schema->record_bytes);
}

static void print_upper(FILE *out, const char *text)
{
    for (; *text != '\0'; text++)
        fputc(toupper((unsigned char)*text), out);
}

void rml_schema_print_c_start(FILE *out)
{
    fprintf(
        out,
        "#include <stddef.h>\n"
        "#include <stdint.h>\n"
        "\n"
        "#ifndef RINGMILL_STATIC_ASSERT\n"
        "# ifdef __cplusplus\n"
        "#  define RINGMILL_STATIC_ASSERT(promise, why) static_assert(promise, why)\n"
        "# else\n"
        "#  define RINGMILL_STATIC_ASSERT(promise, why) _Static_assert(promise, why)\n"
        "# endif\n"
        "#endif\n"
        "\n"
        "/* Text fills its place to the last byte, or is padded with NULs: strncpy is right. */\n"
        "#ifndef RINGMILL_NONSTRING\n"
        "# ifdef __has_attribute\n"
        "#  if __has_attribute(nonstring)\n"
        "#   define RINGMILL_NONSTRING __attribute__((nonstring))\n"
        "#  endif\n"
        "# endif\n"
        "# ifndef RINGMILL_NONSTRING\n"
        "#  define RINGMILL_NONSTRING\n"
        "# endif\n"
        "#endif\n");
}

void rml_schema_print_c(FILE *out, const struct rml_schema *schema, const char *suffix)
{
    struct c_name name = name_of_struct(schema, suffix);
    print_struct(out, schema, name.text);
    print_checks(out, schema, name.text);
    fprintf(
        out,
        "\n/* Of names, types and places: what a producer shows when it attaches. */\n#define ");
    print_upper(out, schema->name);
    print_upper(out, suffix);
    fprintf(out, "_SCHEMA_HASH UINT64_C(0x%016" PRIx64 ")\n", schema->hash);
}
