#include <stdlib.h>
#include <string.h>

#include "tests/support/random.h"
#include "tests/support/test.h"
#include "tools/wrap.h"

// What is printed; the caller's to free.
static char *wrapped(uint32_t first, uint32_t indent, const char *text)
{
    char *said = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&said, &bytes);
    assert_non_null(out);
    rml_wrap(out, first, indent, text);
    assert_int_equal(fclose(out), 0);
    return said;
}

static void a_short_text_is_one_line(void **state)
{
    (void)state;
    char *said = wrapped(4, 4, "Say it as JSON.");
    assert_string_equal(said, "Say it as JSON.\n");
    free(said);
    said = wrapped(0, 4, "");
    assert_string_equal(said, "\n");
    free(said);
}

static void a_line_ends_at_the_last_blank_that_fits(void **state)
{
    (void)state;
    char text[RML_WRAP_COLUMNS + 3], *said;
    memset(text, 'x', sizeof text);
    text[RML_WRAP_COLUMNS + 2] = '\0';
    text[RML_WRAP_COLUMNS - 2] = ' ';  // "xx... x" fits to the last column, "xx... xx" does not
    text[RML_WRAP_COLUMNS] = '\0';
    said = wrapped(0, 2, text);
    assert_int_equal(strlen(said), RML_WRAP_COLUMNS + 1);
    assert_ptr_equal(strchr(said, '\n'), said + RML_WRAP_COLUMNS);
    free(said);
    text[RML_WRAP_COLUMNS] = 'x';
    text[RML_WRAP_COLUMNS + 1] = '\0';
    said = wrapped(0, 2, text);
    assert_ptr_equal(strchr(said, '\n'), said + RML_WRAP_COLUMNS - 2);
    assert_string_equal(strchr(said, '\n'), "\n  xx\n");
    free(said);
}

static void what_stands_on_the_line_already_counts(void **state)
{
    (void)state;
    char *said = wrapped(RML_WRAP_COLUMNS - 3, 1, "ab c d");
    assert_string_equal(said, "ab\n c d\n");
    free(said);
}

static void brackets_stay_on_one_line(void **state)
{
    (void)state;
    char *said = wrapped(RML_WRAP_COLUMNS - 12, 2, "FILE [--every N [MORE]] [-x]");
    assert_string_equal(said, "FILE\n  [--every N [MORE]] [-x]\n");
    free(said);
}

// Against the text itself: all of it in order, no line too long but of one word, none that had room for the next word.
static void random_texts_keep_every_word_and_fill_their_lines(void **state)
{
    (void)state;
    uint64_t seed = rml_test_seed();
    for (int round = 0; round < 2000; round++) {
        char text[1000];
        uint32_t used = 0, words = 1 + (uint32_t)(rml_test_random(&seed) % 60);
        for (uint32_t i = 0; i < words; i++) {
            uint32_t length = 1 + (uint32_t)(rml_test_random(&seed) % 14);
            if (i > 0)
                text[used++] = ' ';
            memset(text + used, 'a' + (int)(i % 26), length);
            used += length;
        }
        text[used] = '\0';
        uint32_t first = (uint32_t)(rml_test_random(&seed) % 40);
        uint32_t indent = (uint32_t)(rml_test_random(&seed) % 40);
        char *said = wrapped(first, indent, text);
        uint32_t at = 0, begins = first;
        for (char *line = said; *line != '\0';) {
            char *end = strchr(line, '\n');
            const char *word = line + (line == said ? 0 : indent);
            assert_memory_equal(text + at, word, (size_t)(end - word));
            at += (uint32_t)(end - word);
            uint32_t columns = begins + (uint32_t)(end - word);
            assert_in_range(columns, 1, RML_WRAP_COLUMNS);
            if (text[at] == ' ') {
                size_t next = strcspn(text + at + 1, " ");
                assert_true(columns + 1 + next > RML_WRAP_COLUMNS);
                at++;
            }
            begins = indent;
            line = end + 1;
        }
        assert_int_equal(at, used);
        free(said);
    }
}

TEST_MAIN(CLAIM(a_short_text_is_one_line), CLAIM(a_line_ends_at_the_last_blank_that_fits),
          CLAIM(what_stands_on_the_line_already_counts), CLAIM(brackets_stay_on_one_line),
          CLAIM(random_texts_keep_every_word_and_fill_their_lines))
