/*
 * How long ringctl waits for an answer: as long as it was told to, by an option or by the environment, or five seconds.
 */
#include <stdint.h>
#include <stdlib.h>

#include "tests/support/test.h"
#include "tools/args.h"
#include "tools/ctl.h"
#include "tools/exit.h"

#define SECOND INT64_C(1000000000)

static int64_t answer_of(const char *timeout_sentence, char *timeout)
{
    struct rml_ctl ctl = {.timeout_sentence = timeout_sentence};
    const struct rml_args args = {.usage = "ringctl look", .sentence = "Look."};
    char command[] = "look", option[] = "--timeout";
    char *argv[] = {command, option, timeout, NULL};
    int code = 0;
    if (!rml_ctl_read(&ctl, &args, timeout != NULL ? 3 : 1, argv, &code))
        return -code;
    return rml_ctl_answer_ns(&ctl);
}

static void an_answer_may_take_as_long_as_it_is_given(void **state)
{
    (void)state;
    char shorter[] = "200ms", longer[] = "60s";
    assert_int_equal(answer_of(NULL, NULL), RML_CTL_ANSWER_NS);
    assert_int_equal(answer_of(NULL, shorter), SECOND / 5);
    assert_int_equal(answer_of(NULL, longer), 60 * SECOND);
}

static void where_something_longer_is_limited_an_answer_has_its_own_limit(void **state)
{
    (void)state;
    char shorter[] = "200ms", longer[] = "60s";
    assert_int_equal(answer_of("Wait for the end.", NULL), RML_CTL_ANSWER_NS);
    assert_int_equal(answer_of("Wait for the end.", shorter), SECOND / 5);
    assert_int_equal(answer_of("Wait for the end.", longer), RML_CTL_ANSWER_NS);
}

static void who_has_a_machine_out_of_breath_says_so_once_for_all_commands(void **state)
{
    (void)state;
    char shorter[] = "200ms", longer[] = "60s";
    setenv(RML_CTL_ANSWER, "30s", 1);
    assert_int_equal(answer_of(NULL, NULL), 30 * SECOND);
    assert_int_equal(answer_of(NULL, shorter), SECOND / 5);
    assert_int_equal(answer_of("Wait for the end.", NULL), 30 * SECOND);
    assert_int_equal(answer_of("Wait for the end.", shorter), SECOND / 5);
    assert_int_equal(answer_of("Wait for the end.", longer), 30 * SECOND);
    setenv(RML_CTL_ANSWER, "", 1);
    assert_int_equal(answer_of(NULL, NULL), RML_CTL_ANSWER_NS);
    setenv(RML_CTL_ANSWER, "30", 1);
    assert_int_equal(answer_of(NULL, NULL), -RML_EXIT_USAGE);
    unsetenv(RML_CTL_ANSWER);
}

TEST_MAIN(CLAIM(an_answer_may_take_as_long_as_it_is_given),
          CLAIM(where_something_longer_is_limited_an_answer_has_its_own_limit),
          CLAIM(who_has_a_machine_out_of_breath_says_so_once_for_all_commands))
