#include <errno.h>
#include <string.h>

#include "runtime/base/err.h"
#include "tests/support/test.h"

static void wrap_puts_the_view_of_the_caller_first(void **state)
{
    (void)state;
    struct rml_err err = {0};
    int rc = RML_FAIL(&err, -EINVAL, "cell_count must be a power of two, got %d", 1000);
    rc = RML_WRAP(&err, rc, "ring %d", 3);
    assert_int_equal(rc, -EINVAL);
    assert_string_equal(err.text, "ring 3: cell_count must be a power of two, got 1000");
}

static void wrap_cuts_the_oldest_detail_and_keeps_the_terminator(void **state)
{
    (void)state;
    struct rml_err err = {0};
    rml_err_set(&err, -EIO, "root cause");
    for (int i = 0; i < 200; i++)
        rml_err_prefix(&err, -EIO, "level %d", i);
    assert_int_equal(err.code, -EIO);
    assert_memory_equal(err.text, "level 199: level 198", 20);
    assert_int_equal(strlen(err.text), sizeof err.text - 1);
}

static void a_null_err_still_returns_the_code(void **state)
{
    (void)state;
    assert_int_equal(RML_FAIL(NULL, -ENOMEM, "no text"), -ENOMEM);
    assert_int_equal(RML_WRAP(NULL, -ENOMEM, "no text"), -ENOMEM);
}

TEST_MAIN(CLAIM(wrap_puts_the_view_of_the_caller_first),
          CLAIM(wrap_cuts_the_oldest_detail_and_keeps_the_terminator),
          CLAIM(a_null_err_still_returns_the_code))
