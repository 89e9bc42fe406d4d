#include <errno.h>
#include <inttypes.h>
#include <libgen.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "operators/registry.h"
#include "runtime/base/err.h"
#include "runtime/control/claim.h"
#include "runtime/control/engine.h"
#include "runtime/control/leave.h"
#include "runtime/control/server.h"
#include "runtime/plan/plan.h"
#include "tools/args.h"
#include "tools/balance.h"
#include "tools/commands.h"
#include "tools/exit.h"
#include "tools/load.h"

static bool quiet;

static void say(void *context, const char *sentence)
{
    const struct rml_plan *plan = context;
    if (!quiet)
        fprintf(stderr, "ringmill: %s: %s\n", plan->name, sentence);
}

// What goes wrong is said also by who was told to be quiet.
static void complain(void *context, const char *sentence)
{
    const struct rml_plan *plan = context;
    fprintf(stderr, "ringmill: %s: %s\n", plan->name, sentence);
}

static int exit_of(int rc)
{
    return rc == -EACCES || rc == -EPERM ? RML_EXIT_PERMISSION : RML_EXIT_FAILED;
}

// What came of it, and the exit code.
static int sum_up(struct rml_engine *engine, const struct rml_plan *plan, bool drained)
{
    static struct rml_board_totals totals;
    static struct rml_balance balance;
    uint64_t lost = rml_engine_stop(engine);
    rml_engine_totals(engine, &totals);
    rml_balance_init(&balance, plan);
    rml_balance_fill(&balance, &totals);
    for (uint32_t i = 0; i < plan->source_count; i++)
        balance.sources[i].may_leave = !drained;
    bool balanced = rml_balance_holds(&balance);
    if (!quiet || !balanced)
        rml_balance_print(&balance, stderr);
    if (lost > 0)
        fprintf(stderr, "ringmill: %s: %" PRIu64 " result rows could not be written\n", plan->name,
                lost);
    return lost == 0 && balanced ? RML_EXIT_OK : RML_EXIT_FAILED;
}

static int serve(struct rml_server *server, struct rml_plan *plan, int *ret_code,
                 struct rml_err *err)
{
    char path[4096];
    snprintf(path, sizeof path, "%s", plan->path);
    struct rml_engine_options options = {
        .plan = plan,
        .operators = rml_operators_table(),
        .clock = &rml_clock_system,
        .folder = strcmp(path, "-") == 0 ? NULL : dirname(path),
        .complain = complain,
        .complain_context = plan,
    };
    rml_server_hook(server, &options);
    struct rml_engine *engine;
    int rc = rml_engine_open(&engine, &options, err);
    if (rc < 0)
        return rc;
    bool drained = false;
    rc = rml_server_run(server, engine, &drained, err);
    if (rc == 0)
        *ret_code = sum_up(engine, plan, drained);
    rml_engine_close(engine);
    return rc;
}

static int run_engine(struct rml_plan *plan, struct rml_claim *claim, int *ret_code,
                      struct rml_err *err)
{
    const struct rml_server_options options = {
        .plan = plan, .clock = &rml_clock_system, .claim = claim, .say = say, .say_context = plan};
    struct rml_server *server = NULL;
    int rc = rml_server_open(&server, &options, err);
    if (rc == 0)
        rc = serve(server, plan, ret_code, err);
    rml_server_close(server);  // last: who waits for our end finds the files complete
    return rc;
}

static int run(struct rml_plan *plan)
{
    struct rml_err err = {0};
    struct rml_claim claim;
    int code = RML_EXIT_FAILED;
    rml_leave_off();  // a signal that comes early is not to leave a claimed name behind
    int rc = rml_claim_open(&claim, plan->name, &err);
    if (rc == 0)
        rc = rml_claim_listen(&claim, &err);
    if (rc == 0)
        rc = run_engine(plan, &claim, &code, &err);
    if (rc < 0) {
        fprintf(stderr, "ringmill: %s: %s\n", plan->name, err.text);
        code = exit_of(rc);
    }
    rml_claim_close(&claim);
    return code;
}

int rml_cmd_run(int argc, char **argv)
{
    const struct rml_option options[] = {
        {.name = "--quiet", .sentence = "Say only what goes wrong.", .ret_flag = &quiet},
    };
    const struct rml_args args = {
        .usage = "ringmill run FILE [--quiet]",
        .sentence =
            "Run a pipeline until SIGINT, SIGTERM, `ringctl drain` or `ringctl stop`. The "
            "first signal drains: what producers published is taken, windows fire, files are "
            "complete. A second one stops at once, with what has fired so far; a further one does not "
            "wait for files either. Files of sinks are written anew.",
        .options = options,
        .option_count = sizeof options / sizeof options[0],
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
    code = run(plan);
    rml_plan_close(plan);
    return code;
}
