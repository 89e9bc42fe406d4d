#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/base/err.h"
#include "tests/support/test.h"
#include "tools/pipelines.h"

static char rundir[64];
static struct rml_err err;
static struct rml_pipelines pipelines;

static int make_rundir(void **state)
{
    (void)state;
    strcpy(rundir, "/tmp/ringmill-pipelines-XXXXXX");
    return mkdtemp(rundir) == NULL ? -1 : setenv("RINGMILL_RUNDIR", rundir, 1);
}

static int remove_rundir(void **state)
{
    (void)state;
    rml_pipelines_close(&pipelines);
    return rmdir(rundir);
}

// Claim `name` in a process that dies of it.
static void leave(const char *name)
{
    struct rml_claim claim;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        _exit(rml_claim_open(&claim, name, &err) == 0 ? 0 : 1);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

static void what_runs_and_what_died_is_listed_by_name(void **state)
{
    (void)state;
    struct rml_claim b, c;
    leave("a");
    assert_int_equal(rml_claim_open(&c, "c", &err), 0);
    assert_int_equal(rml_claim_open(&b, "b", &err), 0);
    char other[128];
    snprintf(other, sizeof other, "%s/not a name", rundir);
    assert_int_equal(mkdir(other, 0700), 0);

    assert_int_equal(rml_pipelines_open(&pipelines, &err), 0);
    assert_int_equal(pipelines.count, 3);
    assert_string_equal(pipelines.list[0].name, "a");
    assert_int_equal(pipelines.list[0].claim, RML_CLAIM_LEFT);
    assert_string_equal(pipelines.list[1].name, "b");
    assert_int_equal(pipelines.list[1].claim, RML_CLAIM_HELD);
    assert_int_equal(pipelines.list[1].pid, getpid());
    assert_string_equal(pipelines.list[2].name, "c");

    rml_claim_close(&b);
    rml_claim_close(&c);
    assert_int_equal(rmdir(other), 0);
    struct rml_claim a;
    assert_int_equal(rml_claim_open(&a, "a", &err), 0);
    rml_claim_close(&a);
}

static void only_what_runs_is_suggested(void **state)
{
    (void)state;
    struct rml_claim clicks, clicky;
    leave("clicky");
    assert_int_equal(rml_claim_open(&clicks, "clicks", &err), 0);
    assert_int_equal(rml_pipelines_open(&pipelines, &err), 0);
    assert_string_equal(rml_pipelines_near(&pipelines, "clickz"), "clicks");
    assert_string_equal(rml_pipelines_near(&pipelines, "clicky"), "clicks");
    assert_null(rml_pipelines_near(&pipelines, "calls"));
    rml_claim_close(&clicks);
    assert_int_equal(rml_claim_open(&clicky, "clicky", &err), 0);
    rml_claim_close(&clicky);
}

static void where_there_is_no_run_directory_there_is_no_pipeline(void **state)
{
    (void)state;
    char none[128];
    snprintf(none, sizeof none, "%s/none", rundir);
    assert_int_equal(setenv("RINGMILL_RUNDIR", none, 1), 0);
    assert_int_equal(rml_pipelines_open(&pipelines, &err), 0);
    assert_int_equal(pipelines.count, 0);
}

static void a_run_directory_that_is_none_is_an_error_with_its_path(void **state)
{
    (void)state;
    assert_int_equal(setenv("RINGMILL_RUNDIR", "/dev/null", 1), 0);
    assert_int_equal(rml_pipelines_open(&pipelines, &err), -ENOTDIR);
    assert_string_equal(err.text, "/dev/null: Not a directory");
}

#define WITH_RUNDIR(name) cmocka_unit_test_setup_teardown(name, make_rundir, remove_rundir)

TEST_MAIN(WITH_RUNDIR(what_runs_and_what_died_is_listed_by_name),
          WITH_RUNDIR(only_what_runs_is_suggested),
          WITH_RUNDIR(where_there_is_no_run_directory_there_is_no_pipeline),
          WITH_RUNDIR(a_run_directory_that_is_none_is_an_error_with_its_path))
