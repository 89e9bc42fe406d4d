#include <string.h>

#include "runtime/base/suggest.h"
#include "tests/support/test.h"

static const char *nearest(const char *text)
{
    static const char *const names[] = {"latency_ms", "tokens", "status", "ts", "model", "min"};
    const char *near = rml_suggest(text, strlen(text), names, sizeof names / sizeof names[0]);
    return near != NULL ? near : "";
}

static void a_slip_of_a_letter_is_near(void **state)
{
    (void)state;
    assert_string_equal(nearest("latncy_ms"), "latency_ms");
    assert_string_equal(nearest("latency_mss"), "latency_ms");
    assert_string_equal(nearest("statis"), "status");
}

static void swapped_neighbours_are_one_slip(void **state)
{
    (void)state;
    assert_string_equal(nearest("st"), "ts");
    assert_string_equal(nearest("tokesn"), "tokens");
}

static void the_case_of_letters_does_not_count(void **state)
{
    (void)state;
    assert_string_equal(nearest("MODEL"), "model");
    assert_string_equal(nearest("Latency_MS"), "latency_ms");
}

static void a_name_cut_short_is_near(void **state)
{
    (void)state;
    assert_string_equal(nearest("latency"), "latency_ms");
    assert_string_equal(nearest("token"), "tokens");
}

static void another_word_is_not_near(void **state)
{
    (void)state;
    assert_string_equal(nearest("price"), "");
    assert_string_equal(nearest("max"), "");
    assert_string_equal(nearest("x"), "");
    assert_string_equal(nearest(""), "");
}

static void a_very_long_text_is_near_to_nothing(void **state)
{
    (void)state;
    char text[200];
    memset(text, 'a', sizeof text);
    const char *name = "a";
    assert_null(rml_suggest(text, sizeof text, &name, 1));
    text[sizeof text - 1] = '\0';
    name = text;
    assert_null(rml_suggest("a", 1, &name, 1));
}

static void of_equally_near_names_the_first_is_taken(void **state)
{
    (void)state;
    static const char *const names[] = {"tone", "bone", "cone"};
    assert_string_equal(rml_suggest("zone", 4, names, 3), "tone");
    assert_string_equal(rml_suggest("cone", 4, names, 3), "cone");
}

TEST_MAIN(CLAIM(a_slip_of_a_letter_is_near), CLAIM(swapped_neighbours_are_one_slip),
          CLAIM(the_case_of_letters_does_not_count), CLAIM(a_name_cut_short_is_near),
          CLAIM(another_word_is_not_near), CLAIM(a_very_long_text_is_near_to_nothing),
          CLAIM(of_equally_near_names_the_first_is_taken))
