#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/support/test.h"
#include "tools/json.h"

static char *text;
static size_t length;
static struct rml_json json;

static int open_json(void **state)
{
    (void)state;
    json = (struct rml_json){.out = open_memstream(&text, &length)};
    return json.out == NULL ? -1 : 0;
}

static int close_json(void **state)
{
    (void)state;
    free(text);
    return 0;
}

static const char *written(void)
{
    fclose(json.out);
    return text;
}

static void commas_stand_between_values_only(void **state)
{
    (void)state;
    rml_json_open(&json, NULL, '{');
    rml_json_unsigned(&json, "a", 1);
    rml_json_open(&json, "b", '[');
    rml_json_integer(&json, NULL, -2);
    rml_json_bool(&json, NULL, true);
    rml_json_close(&json, ']');
    rml_json_text(&json, "c", NULL);
    rml_json_close(&json, '}');
    assert_string_equal(written(), "{\"a\":1,\"b\":[-2,true],\"c\":null}");
}

static void any_bytes_become_text(void **state)
{
    (void)state;
    rml_json_text(&json, NULL, "\"\\\n\x7f \xc3\xa9 \xff\xe2\x82");
    assert_string_equal(written(),
                        "\"\\\"\\\\\\u000a\\u007f \xc3\xa9 \xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"");
}

static void a_number_that_is_none_is_null(void **state)
{
    (void)state;
    rml_json_open(&json, NULL, '[');
    rml_json_real(&json, NULL, 0.5);
    rml_json_real(&json, NULL, (double)NAN);
    rml_json_real(&json, NULL, (double)INFINITY);
    rml_json_close(&json, ']');
    assert_string_equal(written(), "[0.500,null,null]");
}

#define WITH_JSON(name) cmocka_unit_test_setup_teardown(name, open_json, close_json)

TEST_MAIN(WITH_JSON(commas_stand_between_values_only), WITH_JSON(any_bytes_become_text),
          WITH_JSON(a_number_that_is_none_is_null))
