#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "runtime/base/err.h"
#include "runtime/plan/plan.h"
#include "runtime/time/time.h"
#include "tools/args.h"
#include "tools/commands.h"
#include "tools/exit.h"
#include "tools/expectation.h"
#include "tools/load.h"
#include "tools/rehearsal.h"

/* One test while it runs; its first failure prints the headline. */
struct trial {
    const struct rml_plan *plan;
    const struct rml_plan_test *test;
    struct rml_rehearsal *rehearsal;
    bool failed;
};

/* What one list of expected rows is compared with. */
struct comparison {
    const struct rml_schema *schema;
    struct rml_said_row *said;
    uint32_t said_count;
    const void **came;
    uint32_t came_count;
    uint32_t *partner;
    bool *met;  // of each row that came
};

static void fail_headline(struct trial *trial)
{
    if (!trial->failed)
        printf("FAIL  %s  (%s:%u)\n", trial->test->name, trial->plan->path, trial->test->line);
    trial->failed = true;
}

static void fail_with(struct trial *trial, const struct rml_err *err)
{
    fail_headline(trial);
    printf("      %s:%s\n", trial->plan->path, err->text);
}

static int feed_list(struct trial *trial, const struct rml_plan_test_list *list,
                     struct rml_err *err)
{
    const struct rml_schema *schema = &trial->plan->sources[list->index].schema;
    for (uint32_t i = 0; i < list->row_count; i++) {
        struct rml_said_row said;
        int rc = rml_said_row_read(&list->rows[i], schema, &said, err);
        if (rc < 0)
            return rc;
        rml_rehearsal_feed(trial->rehearsal, list->index, said.record);
        free(said.record);
    }
    return 0;
}

static void print_list_name(const struct trial *trial, const struct rml_plan_test_list *list,
                            const char *what)
{
    printf("      %s%s: %s:\n", trial->plan->stages[list->index].name, list->late ? ".late" : "",
           what);
}

static void print_difference(struct trial *trial, const struct rml_plan_test_list *list,
                             const struct comparison *c)
{
    fail_headline(trial);
    const char *title = "expected, and did not come";
    for (uint32_t i = 0; i < c->said_count; i++) {
        if (c->partner[i] != UINT32_MAX) {
            c->met[c->partner[i]] = true;
            continue;
        }
        if (title != NULL)
            print_list_name(trial, list, title);
        title = NULL;
        printf("        line %u: ", c->said[i].line);
        rml_expectation_print(c->schema, c->said[i].record, c->said[i].named, c->said[i].null,
                              stdout);
    }
    title = "came, and was not expected";
    for (uint32_t i = 0; i < c->came_count; i++) {
        if (c->met[i])
            continue;
        if (title != NULL)
            print_list_name(trial, list, title);
        title = NULL;
        printf("        ");
        rml_expectation_print(c->schema, c->came[i], UINT64_MAX,
                              rml_expectation_nulls(c->schema, c->came[i]), stdout);
    }
}

static int read_said(const struct rml_plan_test_list *list, struct comparison *c,
                     struct rml_err *err)
{
    for (uint32_t i = 0; i < list->row_count; i++) {
        int rc = rml_said_row_read(&list->rows[i], c->schema, &c->said[i], err);
        if (rc < 0)
            return rc;
        c->said_count++;
    }
    return 0;
}

static int compare_list(struct trial *trial, const struct rml_plan_test_list *list,
                        struct rml_err *err)
{
    const struct rml_plan_stage *stage = &trial->plan->stages[list->index];
    struct comparison c = {
        .schema = list->late ? &trial->plan->sources[stage->source].schema : &stage->output,
        .came_count = rml_rehearsal_rows(trial->rehearsal, list->index, list->late, NULL, 0),
    };
    c.said = calloc(list->row_count + 1, sizeof *c.said);
    c.partner = calloc(list->row_count + 1, sizeof *c.partner);
    c.came = calloc(c.came_count + 1, sizeof *c.came);
    c.met = calloc(c.came_count + 1, sizeof *c.met);
    int rc = -ENOMEM;
    if (c.said == NULL || c.partner == NULL || c.came == NULL || c.met == NULL) {
        rml_err_set(err, rc, "%u: no memory to compare rows", trial->test->line);
        goto out;
    }
    rml_rehearsal_rows(trial->rehearsal, list->index, list->late, c.came, c.came_count);
    rc = read_said(list, &c, err);
    if (rc < 0)
        goto out;
    int64_t pairs =
        rml_expectation_match(c.schema, c.said, c.said_count, c.came, c.came_count, c.partner);
    if (pairs < 0)
        rc = RML_FAIL(err, (int)pairs, "%u: no memory to compare rows", trial->test->line);
    else if (pairs != c.said_count || pairs != c.came_count)
        print_difference(trial, list, &c);
out:
    for (uint32_t i = 0; i < c.said_count; i++)
        free(c.said[i].record);
    free(c.said);
    free(c.partner);
    free(c.came);
    free(c.met);
    return rc;
}

static bool run_test(const struct rml_plan *plan, const struct rml_plan_test *test)
{
    struct trial trial = {.plan = plan, .test = test};
    struct rml_err err = {0};
    int rc = rml_rehearsal_open(&trial.rehearsal, plan, &err);
    if (rc < 0)
        rc = RML_WRAP(&err, rc, "%u", test->line);
    for (uint32_t i = 0; rc == 0 && i < test->feed_count; i++)
        rc = feed_list(&trial, &test->feed[i], &err);
    if (rc == 0 && test->advance_ns == RML_TIME_NONE)
        rml_rehearsal_end(trial.rehearsal);
    else if (rc == 0)
        rml_rehearsal_advance(trial.rehearsal, test->advance_ns);
    for (uint32_t i = 0; rc == 0 && i < test->expect_count; i++)
        rc = compare_list(&trial, &test->expect[i], &err);
    if (rc < 0)
        fail_with(&trial, &err);
    rml_rehearsal_close(trial.rehearsal);
    if (!trial.failed)
        printf("ok    %s\n", test->name);
    return !trial.failed;
}

int rml_cmd_test(int argc, char **argv)
{
    const struct rml_args args = {
        .usage = "ringmill test FILE",
        .sentence =
            "Run the tests that stand in a pipeline file: feed their records to its stages on a "
            "simulated clock and compare the rows that come out with those that they expect, on "
            "the fields that these name and in any order. Exits 1 when one fails.",
        .words_least = 1,
        .words_most = 1,
    };
    const char *file;
    uint32_t file_count;
    int code;
    if (!rml_args_read(&args, argc, argv, &file, &file_count, &code))
        return code;
    struct rml_plan *plan = rml_load_plan(file, &code);
    if (plan == NULL)
        return code;
    uint32_t failed = 0;
    for (uint32_t i = 0; i < plan->test_count; i++)
        failed += !run_test(plan, &plan->tests[i]);
    printf("%u passed, %u failed\n", plan->test_count - failed, failed);
    rml_plan_close(plan);
    return failed == 0 ? RML_EXIT_OK : RML_EXIT_FAILED;
}
