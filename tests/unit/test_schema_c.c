#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/record/schema_c.h"
#include "tests/support/test.h"

static char folder[] = "/tmp/rml-schema-c-XXXXXX";

static void add(struct rml_schema *schema, const char *name, enum rml_type type, bool nullable)
{
    assert_int_equal(rml_schema_add(schema, name, type, nullable, NULL), 0);
}

static void write_header(const struct rml_schema *schema, const char *suffix)
{
    char path[128];
    snprintf(path, sizeof path, "%s/it.h", folder);
    FILE *out = fopen(path, "w");
    assert_non_null(out);
    rml_schema_print_c_start(out);
    rml_schema_print_c(out, schema, suffix);
    rml_schema_print_c_start(out);  // a second header in the same program
    assert_int_equal(ferror(out), 0);
    assert_int_equal(fclose(out), 0);
}

static bool has_compiler(const char *compiler)
{
    char command[128];
    snprintf(command, sizeof command, "command -v %s >/dev/null", compiler);
    return system(command) == 0;
}

// What the compiler says stays visible: it is the first thing to read when a test fails.
static int compile_header(const char *compiler, const char *dialect)
{
    char command[512];
    snprintf(command, sizeof command,
             "echo '#include \"it.h\"' >%s/use.c && %s %s -Wall -Wextra -Wpedantic -Werror "
             "-fsyntax-only %s/use.c",
             folder, compiler, dialect, folder);
    return system(command);
}

static void expect_compiles(const struct rml_schema *schema, const char *suffix)
{
    write_header(schema, suffix);
    assert_int_equal(compile_header("cc", "-x c -std=c11"), 0);
    assert_int_equal(compile_header("cc", "-x c -std=gnu17"), 0);
    if (has_compiler("c++")) {
        assert_int_equal(compile_header("c++", "-x c++ -std=c++11"), 0);
        assert_int_equal(compile_header("c++", "-x c++ -std=gnu++17"), 0);
    }
}

static char *printed(const struct rml_schema *schema, const char *suffix)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    assert_non_null(out);
    rml_schema_print_c(out, schema, suffix);
    assert_int_equal(fclose(out), 0);
    return text;
}

static void a_record_of_every_type_compiles_as_c_and_as_cpp(void **state)
{
    (void)state;
    struct rml_schema schema;
    rml_schema_init(&schema, "every", false);
    for (uint32_t i = 0; i < 2 * RML_TYPES; i++) {
        // backwards and forwards, so that there are gaps of all widths
        enum rml_type type = (enum rml_type)(i < RML_TYPES ? RML_TYPES - 1 - i : i - RML_TYPES);
        char name[RML_NAME_MAX + 1];
        snprintf(name, sizeof name, "field_%u", i);
        add(&schema, name, type, false);
    }
    assert_int_equal(rml_schema_seal(&schema, NULL), 0);
    expect_compiles(&schema, "");
}

static void a_result_row_begins_with_its_null_mask(void **state)
{
    (void)state;
    struct rml_schema schema;
    rml_schema_init(&schema, "per_second", true);
    add(&schema, "model", RML_STR16, true);
    add(&schema, "start", RML_TIME, false);
    add(&schema, "n", RML_U8, true);
    assert_int_equal(rml_schema_seal(&schema, NULL), 0);
    expect_compiles(&schema, "_row");
    char *text = printed(&schema, "_row");
    assert_non_null(strstr(
        text, "struct per_second_row {\n"
              "    uint64_t null_mask;\n"
              "    char model[16] RINGMILL_NONSTRING;  /* null where bit 0 of null_mask is set; "
              "padded with NULs */\n"
              "    int64_t start;  /* nanoseconds since the Unix epoch */\n"
              "    uint8_t n;  /* null where bit 2 of null_mask is set */\n"
              "};\n"));
    free(text);
}

static void a_record_with_small_members_is_padded_by_name(void **state)
{
    (void)state;
    struct rml_schema schema;
    rml_schema_init(&schema, "tiny", false);
    add(&schema, "a", RML_U16, false);
    add(&schema, "b", RML_BOOL, false);
    assert_int_equal(rml_schema_seal(&schema, NULL), 0);
    expect_compiles(&schema, "");
    char *text = printed(&schema, "");
    assert_non_null(strstr(text, "padding_to_8[4];"));
    free(text);
}

static void the_hash_is_the_one_that_the_engine_compares(void **state)
{
    (void)state;
    struct rml_schema schema;
    rml_schema_init(&schema, "llm_call", false);
    add(&schema, "a", RML_U64, false);
    assert_int_equal(rml_schema_seal(&schema, NULL), 0);
    char *text = printed(&schema, ""), wanted[128];
    snprintf(wanted, sizeof wanted, "#define LLM_CALL_SCHEMA_HASH UINT64_C(0x%016llx)\n",
             (unsigned long long)schema.hash);
    assert_non_null(strstr(text, wanted));
    free(text);
}

static void names_that_mean_something_get_a_line_behind_them(void **state)
{
    (void)state;
    struct rml_schema schema;
    rml_schema_init(&schema, "class", true);
    static const char *const names[] = {"class", "class_", "new",  "errno",       "null_mask",
                                        "linux", "NULL",   "this", "padding_to_8"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        add(&schema, names[i], RML_U8, false);
    assert_int_equal(rml_schema_seal(&schema, NULL), 0);
    expect_compiles(&schema, "");
    char *text = printed(&schema, "");
    assert_non_null(strstr(text, "struct class_ {"));
    assert_non_null(strstr(text, "uint8_t class__;\n    uint8_t class_;\n    uint8_t new_;"));
    free(text);
}

// What one does with text in a record: whole, cut off, compared, printed, and put in by its designator.
static const char using_text[] =
    "#include <stdio.h>\n"
    "#include <string.h>\n"
    "#include \"it.h\"\n"
    "void put(struct call *call, const char *model);\n"
    "int is_same(const struct call *a, const struct call *b);\n"
    "void put(struct call *call, const char *model)\n"
    "{\n"
    "    strncpy(call->model, model, sizeof call->model);\n"
    "    strncpy(call->region, \"eu-north\", sizeof call->region);\n"
    "    printf(\"%.16s %.*s\\n\", call->model, (int)strnlen(call->region, 8), call->region);\n"
    "}\n"
    "int is_same(const struct call *a, const struct call *b)\n"
    "{\n"
    "    return strncmp(a->model, b->model, sizeof a->model) == 0;\n"
    "}\n"
    "#ifndef __cplusplus\n"
    "struct call full(void);\n"
    "struct call full(void)\n"
    "{\n"
    "    return (struct call){.model = \"sixteen-letters!\", .region = \"eu-north\"};\n"
    "}\n"
    "#endif\n";

static int compile_use(const char *compiler, const char *dialect)
{
    char path[128], command[512];
    snprintf(path, sizeof path, "%s/use.c", folder);
    FILE *out = fopen(path, "w");
    assert_non_null(out);
    fputs(using_text, out);
    assert_int_equal(fclose(out), 0);
    snprintf(command, sizeof command,
             "%s -D_DEFAULT_SOURCE %s -Wall -Wextra -Wpedantic -Werror -O2 -c -o /dev/null %s",
             compiler, dialect, path);
    return system(command);
}

// strncpy into an array that need not end with a NUL is what gcc warns of, once it optimizes.
static void code_that_puts_text_into_records_compiles_without_a_warning(void **state)
{
    (void)state;
    static const char *const compilers[][2] = {{"cc", "c++"}, {"gcc", "g++"}, {"clang", "clang++"}};
    struct rml_schema schema;
    rml_schema_init(&schema, "call", false);
    add(&schema, "model", RML_STR16, false);
    add(&schema, "region", RML_STR8, false);
    assert_int_equal(rml_schema_seal(&schema, NULL), 0);
    write_header(&schema, "");
    for (size_t i = 0; i < sizeof compilers / sizeof compilers[0]; i++) {
        if (has_compiler(compilers[i][0])) {
            assert_int_equal(compile_use(compilers[i][0], "-x c -std=c11"), 0);
            assert_int_equal(compile_use(compilers[i][0], "-x c -std=gnu17"), 0);
        }
        if (has_compiler(compilers[i][1]))
            assert_int_equal(compile_use(compilers[i][1], "-x c++ -std=c++17"), 0);
    }
}

static void a_struct_laid_out_otherwise_is_refused_by_the_compiler(void **state)
{
    (void)state;
    struct rml_schema schema;
    rml_schema_init(&schema, "moved", false);
    add(&schema, "a", RML_U32, false);
    add(&schema, "b", RML_U32, false);
    assert_int_equal(rml_schema_seal(&schema, NULL), 0);
    schema.fields[1].offset = 8;
    write_header(&schema, "");
    assert_int_not_equal(compile_header("cc 2>/dev/null", "-x c -std=c11"), 0);
}

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) != NULL ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    char path[128];
    snprintf(path, sizeof path, "%s/it.h", folder);
    unlink(path);
    snprintf(path, sizeof path, "%s/use.c", folder);
    unlink(path);
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest claims[] = {
        CLAIM(a_record_of_every_type_compiles_as_c_and_as_cpp),
        CLAIM(a_result_row_begins_with_its_null_mask),
        CLAIM(a_record_with_small_members_is_padded_by_name),
        CLAIM(the_hash_is_the_one_that_the_engine_compares),
        CLAIM(names_that_mean_something_get_a_line_behind_them),
        CLAIM(code_that_puts_text_into_records_compiles_without_a_warning),
        CLAIM(a_struct_laid_out_otherwise_is_refused_by_the_compiler),
    };
    return cmocka_run_group_tests(claims, make_folder, remove_folder);
}
