#include <stdio.h>
#include <string.h>

#include "runtime/base/check.h"
#include "runtime/base/suggest.h"
#include "runtime/plan/reader.h"

void rml_names_add(struct rml_names *names, const char *name)
{
    RML_CHECK(names->count < RML_COLUMNS_MAX);
    names->list[names->count++] = name;
}

const char *rml_names_hint(const struct rml_names *names, const char *word, char *hint,
                           size_t hint_bytes)
{
    const char *near = rml_suggest(word, strlen(word), names->list, names->count);
    hint[0] = '\0';
    if (near != NULL) {
        snprintf(hint, hint_bytes, "did you mean %s?", near);
        return near;
    }
    size_t used = 0;
    for (uint32_t i = 0; i < names->count && used < hint_bytes; i++) {
        int more = snprintf(hint + used, hint_bytes - used, "%s%s", i == 0 ? "there is " : ", ",
                            names->list[i]);
        RML_CHECK(more > 0);
        used += (size_t)more;
    }
    if (used >= hint_bytes)  // a list cut in the middle of a name helps nobody
        hint[0] = '\0';
    return NULL;
}

// Words that mean something else where the name ends up: in expressions, in the C of gen header.
static const char *const words_of_expressions[] = {"and", "or", "not", "true", "false", "null"};
static const char *const words_of_c[] = {
    "auto",     "bool",    "break",  "case",     "char",   "const",    "continue",
    "default",  "do",      "double", "else",     "enum",   "extern",   "float",
    "for",      "goto",    "if",     "inline",   "int",    "long",     "register",
    "restrict", "return",  "short",  "signed",   "sizeof", "static",   "struct",
    "switch",   "typedef", "union",  "unsigned", "void",   "volatile", "while"};

static bool is_one_of(const char *word, const char *const *list, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(word, list[i]) == 0)
            return true;
    return false;
}

static bool is_identifier(const char *text, uint32_t length)
{
    if (length == 0 || length > RML_NAME_MAX || (text[0] >= '0' && text[0] <= '9'))
        return false;
    for (uint32_t i = 0; i < length; i++) {
        char c = text[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9')
              || c == '_'))
            return false;
    }
    return true;
}

bool rml_reader_name(struct rml_reader *reader, const struct rml_yaml_node *node, const char *what)
{
    if (node->kind == RML_YAML_BROKEN)
        return false;
    if (node->kind != RML_YAML_SCALAR || !is_identifier(node->text, node->text_length)) {
        char hint[160];
        snprintf(hint, sizeof hint, "a letter or _, then letters, digits, _; at most %d",
                 RML_NAME_MAX);
        rml_report_add(reader->report, node->place, hint, "%.60s is no name for a %s", node->text,
                       what);
        return false;
    }
    if (is_one_of(node->text, words_of_expressions,
                  sizeof words_of_expressions / sizeof words_of_expressions[0])) {
        rml_report_add(reader->report, node->place, "choose another name",
                       "%s is a word of expressions, no name for a %s", node->text, what);
        return false;
    }
    if (is_one_of(node->text, words_of_c, sizeof words_of_c / sizeof words_of_c[0])) {
        rml_report_add(reader->report, node->place, "choose another name",
                       "%s is a word of C, so that `ringmill gen header` could not use it for a %s",
                       node->text, what);
        return false;
    }
    return true;
}

bool rml_reader_split_late(const struct rml_yaml_node *node, char *ret_name)
{
    const char *dot = strchr(node->text, '.');
    bool late = dot != NULL && strcmp(dot, ".late") == 0;
    int length = late ? (int)(dot - node->text) : (int)node->text_length;
    // a name too long to be one is cut, and then found nowhere
    snprintf(ret_name, RML_NAME_MAX + 1, "%.*s", length, node->text);
    return late;
}
