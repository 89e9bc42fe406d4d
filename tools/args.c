#include "tools/args.h"

#include <stdio.h>
#include <string.h>

#include "runtime/base/check.h"
#include "runtime/base/suggest.h"
#include "tools/exit.h"
#include "tools/usage.h"
#include "tools/wrap.h"

#define OPTIONS_MAX 32
#define INDENT      6   // of what is said of an option
#define HANGING     11  // of further lines of the usage

static bool print_help(const struct rml_args *args, int *ret_exit)
{
    printf("usage: ");
    rml_wrap(stdout, strlen("usage: "), HANGING, args->usage);
    printf("\n");
    rml_wrap(stdout, 0, 0, args->sentence);
    if (args->option_count > 0)
        printf("\n");
    for (uint32_t i = 0; i < args->option_count; i++) {
        const struct rml_option *option = &args->options[i];
        bool may_lack = option->value != NULL && option->ret_flag != NULL;
        printf("  %s%s%s%s\n%*s", option->name,
               may_lack                ? " ["
               : option->value != NULL ? " "
                                       : "",
               option->value != NULL ? option->value : "", may_lack ? "]" : "", INDENT, "");
        rml_wrap(stdout, INDENT, INDENT, option->sentence);
    }
    *ret_exit = RML_EXIT_OK;
    return false;
}

static bool complain(const char *what, const char *word, int *ret_exit)
{
    *ret_exit = rml_usage_fail("%s %s", word, what);
    return false;
}

// The name of word `number` (from 0) of those that must be there, as `usage` has it behind program and command.
static bool complain_of_lack(const struct rml_args *args, uint32_t number, int *ret_exit)
{
    const char *at = args->usage;
    for (uint32_t left = 2 + number; *at != '\0' && left > 0; left -= at[0] != '[')
        at += strcspn(at, " ") + (at[strcspn(at, " ")] != '\0');
    *ret_exit = rml_usage_fail("%.*s is missing", (int)strcspn(at, " ."), at);
    return false;
}

static const struct rml_option *find_option(const struct rml_args *args, const char *word,
                                            size_t length)
{
    for (uint32_t i = 0; i < args->option_count; i++) {
        if (strlen(args->options[i].name) == length
            && memcmp(args->options[i].name, word, length) == 0)
            return &args->options[i];
    }
    return NULL;
}

static bool unknown_option(const struct rml_args *args, const char *word, size_t length,
                           int *ret_exit)
{
    const char *names[OPTIONS_MAX];
    RML_CHECK(args->option_count <= OPTIONS_MAX);
    for (uint32_t i = 0; i < args->option_count; i++)
        names[i] = args->options[i].name;
    const char *near = rml_suggest(word, length, names, args->option_count);
    char what[120];
    snprintf(what, sizeof what, "is no option here%s%s%s", near != NULL ? "; did you mean " : "",
             near != NULL ? near : "", near != NULL ? "?" : "");
    return complain(what, word, ret_exit);
}

// Take the option at argv[*at], moving on over its value.
static bool take_option(const struct rml_args *args, int argc, char **argv, int *at, int *ret_exit)
{
    const char *word = argv[*at];
    const char *equals = strchr(word, '=');
    size_t length = equals != NULL ? (size_t)(equals - word) : strlen(word);
    const struct rml_option *option = find_option(args, word, length);
    if (option == NULL)
        return unknown_option(args, word, length, ret_exit);
    if (option->value == NULL) {
        if (equals != NULL)
            return complain("takes no value", option->name, ret_exit);
        *option->ret_flag = true;
        return true;
    }
    const char *value = equals != NULL ? equals + 1 : NULL;
    bool is_behind = *at + 1 < argc && (option->ret_flag == NULL || argv[*at + 1][0] != '-');
    if (value == NULL && is_behind)
        value = argv[++*at];
    if (value == NULL && option->ret_flag != NULL) {
        *option->ret_flag = true;
        return true;
    }
    if (value == NULL)
        return complain("needs a value", option->name, ret_exit);
    if (*option->ret_count == option->most)
        return complain("is given too often", option->name, ret_exit);
    option->ret_values[(*option->ret_count)++] = value;
    return true;
}

bool rml_args_read(const struct rml_args *args, int argc, char **argv, const char **ret_words,
                   uint32_t *ret_word_count, int *ret_exit)
{
    uint32_t count = 0;
    bool options_over = false;
    const struct rml_option *last = NULL;  // whose value may be left out, and stands behind it
    for (int at = 1; at < argc; at++) {
        const char *word = argv[at];
        if (!options_over && strcmp(word, "--") == 0) {
            options_over = true;
            continue;
        }
        if (!options_over && (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0))
            return print_help(args, ret_exit);
        if (!options_over && word[0] == '-' && word[1] != '\0') {
            const struct rml_option *option = find_option(args, word, strlen(word));
            int before = at;
            if (!take_option(args, argc, argv, &at, ret_exit))
                return false;
            if (option != NULL && option->value != NULL && option->ret_flag != NULL && at > before)
                last = option;
            continue;
        }
        if (count == args->words_most)
            return complain("is one word too many", word, ret_exit);
        ret_words[count++] = word;
    }
    if (count < args->words_least && last != NULL) {
        *last->ret_flag = true;
        ret_words[count++] = last->ret_values[--*last->ret_count];
    }
    if (count < args->words_least)
        return complain_of_lack(args, count, ret_exit);
    *ret_word_count = count;
    return true;
}
