#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/base/err.h"
#include "runtime/control/claim.h"
#include "tests/support/test.h"

static char rundir[64];
static struct rml_err err;

static int make_rundir(void **state)
{
    (void)state;
    strcpy(rundir, "/tmp/ringmill-claim-XXXXXX");
    return mkdtemp(rundir) == NULL ? -1 : setenv("RINGMILL_RUNDIR", rundir, 1);
}

static int remove_rundir(void **state)
{
    (void)state;
    return rmdir(rundir);  // fails where a test left something
}

static enum rml_claim_state look(const char *name, uint32_t *ret_pid)
{
    enum rml_claim_state state;
    assert_int_equal(rml_claim_look(name, &state, ret_pid), 0);
    return state;
}

static void a_name_is_free_held_and_free_again(void **state)
{
    (void)state;
    uint32_t pid;
    assert_int_equal(look("p", &pid), RML_CLAIM_FREE);
    struct rml_claim claim;
    assert_int_equal(rml_claim_open(&claim, "p", &err), 0);
    assert_int_equal(look("p", &pid), RML_CLAIM_HELD);
    assert_int_equal(pid, getpid());
    assert_int_equal(look("q", &pid), RML_CLAIM_FREE);
    rml_claim_close(&claim);
    assert_int_equal(look("p", &pid), RML_CLAIM_FREE);
}

static void what_is_said_counts_while_it_restarts_and_is_forgotten_with_the_next_death(void **state)
{
    (void)state;
    uint32_t pid;
    char says[RML_CLAIM_SAYS];
    struct rml_claim claim;
    rml_claim_says("p", says);
    assert_string_equal(says, "");
    assert_int_equal(rml_claim_open(&claim, "p", &err), 0);
    rml_claim_restarting(&claim, true);
    rml_claim_say(&claim, "records.csv: No space left on device");
    rml_claim_say(&claim, "short\n");
    assert_int_equal(look("p", &pid), RML_CLAIM_RESTARTING);
    assert_int_equal(pid, getpid());
    rml_claim_says("p", says);
    assert_string_equal(says, "short?");
    rml_claim_restarting(&claim, false);
    rml_claim_says("p", says);
    assert_string_equal(says, "");
    rml_claim_say(&claim, "too late");  // by an engine that is up by now
    assert_int_equal(look("p", &pid), RML_CLAIM_HELD);
    rml_claim_restarting(&claim, true);
    rml_claim_says("p", says);
    assert_string_equal(says, "");
    rml_claim_close(&claim);
}

static void a_second_claim_names_the_holder_and_leaves_it_alone(void **state)
{
    (void)state;
    struct rml_claim first, second;
    assert_int_equal(rml_claim_open(&first, "p", &err), 0);
    assert_int_equal(rml_claim_listen(&first, &err), 0);
    assert_int_equal(rml_claim_open(&second, "p", &err), -EBUSY);
    char want[80];
    snprintf(want, sizeof want, "pipeline p is running already, as process %ld", (long)getpid());
    assert_string_equal(err.text, want);
    rml_claim_close(&second);
    uint32_t pid;
    assert_int_equal(look("p", &pid), RML_CLAIM_HELD);
    assert_int_equal(access(first.socket, F_OK), 0);
    rml_claim_close(&first);
}

static void what_a_dead_process_left_is_seen_and_can_be_claimed(void **state)
{
    (void)state;
    struct rml_claim claim;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)  // dies with everything open
        _exit(rml_claim_open(&claim, "p", &err) == 0 && rml_claim_listen(&claim, &err) == 0 ? 0
                                                                                            : 1);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    uint32_t pid;
    assert_int_equal(look("p", &pid), RML_CLAIM_LEFT);
    assert_int_equal(pid, child);
    assert_int_equal(rml_claim_open(&claim, "p", &err), 0);
    assert_int_equal(look("p", &pid), RML_CLAIM_HELD);
    assert_int_equal(pid, getpid());
    rml_claim_close(&claim);
}

static void looking_never_stands_in_the_way_of_a_claim(void **state)
{
    (void)state;
    struct rml_claim claim;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        enum rml_claim_state seen;
        uint32_t pid;
        for (;;)
            (void)rml_claim_look("p", &seen, &pid);
    }
    for (int i = 0; i < 2000; i++) {
        assert_int_equal(rml_claim_open(&claim, "p", &err), 0);
        rml_claim_close(&claim);
    }
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_int_equal(waitpid(child, NULL, 0), child);
}

#define WITH_RUNDIR(name) cmocka_unit_test_setup_teardown(name, make_rundir, remove_rundir)

TEST_MAIN(WITH_RUNDIR(a_name_is_free_held_and_free_again),
          WITH_RUNDIR(what_is_said_counts_while_it_restarts_and_is_forgotten_with_the_next_death),
          WITH_RUNDIR(a_second_claim_names_the_holder_and_leaves_it_alone),
          WITH_RUNDIR(what_a_dead_process_left_is_seen_and_can_be_claimed),
          WITH_RUNDIR(looking_never_stands_in_the_way_of_a_claim))
