#include <string.h>

#include "tests/support/test.h"
#include "tools/args.h"
#include "tools/exit.h"

#define WORDS_MAX 3u

static bool json;
static const char *names[2], *once[1];
static uint32_t name_count, once_count;

static const struct rml_option options[] = {
    {.name = "--json", .sentence = "For programs.", .ret_flag = &json},
    {.name = "--name",
     .value = "NAME",
     .sentence = "A name.",
     .ret_values = names,
     .ret_count = &name_count,
     .most = 2},
    {.name = "--once",
     .value = "WORD",
     .sentence = "A word.",
     .ret_values = once,
     .ret_count = &once_count,
     .most = 1},
};

static const struct rml_args args = {.usage = "mill grind WORD...",
                                     .sentence = "Grinds.",
                                     .options = options,
                                     .option_count = sizeof options / sizeof options[0],
                                     .words_least = 1,
                                     .words_most = WORDS_MAX};

static const char *words[WORDS_MAX];
static uint32_t word_count;

// Read a line, blanks apart; returns whether to go on, else *ret_exit is what to end with.
static bool read_line(const char *line, int *ret_exit)
{
    static char text[256];
    char *argv[32];
    int argc = 0;
    json = false;
    name_count = once_count = word_count = 0;
    *ret_exit = -1;
    strncpy(text, line, sizeof text - 1);
    char *rest = NULL;
    for (char *word = strtok_r(text, " ", &rest); word != NULL; word = strtok_r(NULL, " ", &rest))
        argv[argc++] = word;
    return rml_args_read(&args, argc, argv, words, &word_count, ret_exit);
}

static void assert_refused(const char *line)
{
    int code;
    assert_false(read_line(line, &code));
    assert_int_equal(code, RML_EXIT_USAGE);
}

static void options_stand_anywhere_among_the_words(void **state)
{
    (void)state;
    int code;
    static const char *const lines[] = {"grind --json --name x a b", "grind a --name x b --json",
                                        "grind a b --name=x --json"};
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        assert_true(read_line(lines[i], &code));
        assert_true(json);
        assert_int_equal(word_count, 2);
        assert_string_equal(words[0], "a");
        assert_string_equal(words[1], "b");
        assert_int_equal(name_count, 1);
        assert_string_equal(names[0], "x");
    }
}

static void behind_two_dashes_everything_is_a_word(void **state)
{
    (void)state;
    int code;
    assert_true(read_line("grind -- --json --help", &code));
    assert_false(json);
    assert_int_equal(word_count, 2);
    assert_string_equal(words[0], "--json");
}

static void a_dash_alone_is_a_word(void **state)
{
    (void)state;
    int code;
    assert_true(read_line("grind -", &code));
    assert_string_equal(words[0], "-");
}

static void a_value_may_look_like_an_option_and_may_be_empty(void **state)
{
    (void)state;
    int code;
    assert_true(read_line("grind a --name --json --once=", &code));
    assert_false(json);
    assert_string_equal(names[0], "--json");
    assert_string_equal(once[0], "");
}

static void what_makes_no_sense_is_a_mistake_of_usage(void **state)
{
    (void)state;
    assert_refused("grind");
    assert_refused("grind a b c d");
    assert_refused("grind a --jsn");
    assert_refused("grind a -j");
    assert_refused("grind a --json=yes");
    assert_refused("grind a --name");
    assert_refused("grind a --once x --once y");
    assert_refused("grind a --name x --name y --name z");
    assert_refused("grind a --=x");
}

static void help_is_no_mistake(void **state)
{
    (void)state;
    int code;
    assert_false(read_line("grind --help", &code));
    assert_int_equal(code, RML_EXIT_OK);
    assert_false(read_line("grind a b c -h", &code));
    assert_int_equal(code, RML_EXIT_OK);
}

TEST_MAIN(CLAIM(options_stand_anywhere_among_the_words),
          CLAIM(behind_two_dashes_everything_is_a_word), CLAIM(a_dash_alone_is_a_word),
          CLAIM(a_value_may_look_like_an_option_and_may_be_empty),
          CLAIM(what_makes_no_sense_is_a_mistake_of_usage), CLAIM(help_is_no_mistake))
