#include "runtime/base/utf8.h"
#include "tests/support/test.h"

static size_t length_of(const char *text, size_t left)
{
    return rml_utf8_length((const unsigned char *)text, left);
}

static void characters_of_every_length_are_known(void **state)
{
    (void)state;
    assert_int_equal(length_of("a", 1), 1);
    assert_int_equal(length_of("\xc2\x80", 2), 2);
    assert_int_equal(length_of("\xe0\xa0\x80", 3), 3);
    assert_int_equal(length_of("\xf0\x90\x80\x80", 4), 4);
    assert_int_equal(length_of("\xf4\x8f\xbf\xbf", 4), 4);
}

static void what_the_standard_calls_ill_formed_is_none(void **state)
{
    (void)state;
    assert_int_equal(length_of("\x80", 1), 0);              // no first byte
    assert_int_equal(length_of("\xc1\xbf", 2), 0);          // longer than need be
    assert_int_equal(length_of("\xe0\x9f\xbf", 3), 0);      // likewise
    assert_int_equal(length_of("\xed\xa0\x80", 3), 0);      // a surrogate
    assert_int_equal(length_of("\xf4\x90\x80\x80", 4), 0);  // beyond U+10FFFF
    assert_int_equal(length_of("\xe2\x82z", 3), 0);         // breaks off
}

static void a_character_that_is_cut_is_none_and_nothing_behind_is_read(void **state)
{
    (void)state;
    assert_int_equal(length_of("\xe2\x82\xac", 2), 0);
    assert_int_equal(length_of("\xe2\x82\xac", 1), 0);
}

TEST_MAIN(CLAIM(characters_of_every_length_are_known),
          CLAIM(what_the_standard_calls_ill_formed_is_none),
          CLAIM(a_character_that_is_cut_is_none_and_nothing_behind_is_read))
