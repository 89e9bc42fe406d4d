#include <errno.h>
#include <inttypes.h>
#include <libgen.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "operators/registry.h"
#include "runtime/base/check.h"
#include "runtime/base/err.h"
#include "runtime/control/claim.h"
#include "runtime/control/engine.h"
#include "runtime/control/fitting.h"
#include "runtime/control/leave.h"
#include "runtime/control/reach.h"
#include "runtime/control/sandbox.h"
#include "runtime/control/server.h"
#include "runtime/keeper/keeper.h"
#include "runtime/keeper/keeping.h"
#include "runtime/keeper/note.h"
#include "runtime/plan/plan.h"
#include "runtime/plan/units.h"
#include "runtime/time/time.h"
#include "tools/aftermath.h"
#include "tools/args.h"
#include "tools/balance.h"
#include "tools/commands.h"
#include "tools/exit.h"
#include "tools/load.h"
#include "tools/usage.h"

static struct {
    bool quiet, alone, fresh;
    const char *renewed[RML_FITTING_NAMES_MAX];  // stages that --fresh names
    uint32_t renewed_count;
    uint64_t from;  // 0: from the newest checkpoint
    struct rml_keeper_options keeper;
} options = {.keeper = {.restarts_most = 10, .within_ns = INT64_C(60000000000)}};

static void say(void *context, const char *sentence)
{
    const struct rml_plan *plan = context;
    if (!options.quiet)
        fprintf(stderr, "ringmill: %s: %s\n", plan->name, sentence);
}

// Where an engine that is started again is heard before it answers; NULL: no keeper starts it.
static const struct rml_claim *kept_claim;

// What goes wrong is said also by who was told to be quiet.
static void complain(void *context, const char *sentence)
{
    const struct rml_plan *plan = context;
    if (kept_claim != NULL)
        rml_claim_say(kept_claim, sentence);
    fprintf(stderr, "ringmill: %s: %s\n", plan->name, sentence);
}

// The keeper starts another engine, which goes on from the last checkpoint.
static void give_up(void *context, const char *sentence)
{
    const struct rml_plan *plan = context;
    char all[700];
    snprintf(all, sizeof all, "%s: %s; going back to the last checkpoint", plan->name, sentence);
    rml_check_give_up(all);
}

static int exit_of(int rc)
{
    if (rc == -EOWNERDEAD)
        return RML_EXIT_DEAD;
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
    if (!options.quiet || !balanced)
        rml_balance_print(&balance, stderr);
    if (lost > 0)
        fprintf(stderr, "ringmill: %s: %" PRIu64 " result rows could not be written\n", plan->name,
                lost);
    bool saved = rml_engine_is_saved(engine);
    return lost == 0 && balanced && saved ? RML_EXIT_OK : RML_EXIT_FAILED;
}

static int serve(struct rml_server *server, struct rml_plan *plan, struct rml_keeping *keeping,
                 int *ret_code, struct rml_err *err)
{
    char path[4096];
    snprintf(path, sizeof path, "%s", plan->path);
    struct rml_engine_options engine_options = {
        .plan = plan,
        .operators = rml_operators_table(),
        .clock = &rml_clock_system,
        .keeping = keeping,
        .fresh = options.fresh,
        .renewed = options.renewed,
        .renewed_count = options.renewed_count,
        .from = options.from,
        .folder = strcmp(path, "-") == 0 ? NULL : dirname(path),
        .complain = complain,
        .complain_context = plan,
        .unsure = give_up,
        .unsure_context = plan,
    };
    rml_server_hook(server, &engine_options);
    struct rml_engine *engine;
    int rc = rml_engine_open(&engine, &engine_options, err);
    if (rc < 0)
        return rc;
    bool drained = false;
    rc = rml_server_run(server, engine, &drained, err);
    if (rc == 0)
        *ret_code = sum_up(engine, plan, drained);
    rml_engine_close(engine);
    return rc;
}

static int run_engine(struct rml_plan *plan, struct rml_claim *claim, struct rml_keeping *keeping,
                      int *ret_code, struct rml_err *err)
{
    const struct rml_server_options server_options = {.plan = plan,
                                                      .clock = &rml_clock_system,
                                                      .claim = claim,
                                                      .keeping = keeping,
                                                      .say = say,
                                                      .say_context = plan};
    struct rml_server *server = NULL;
    int rc = rml_server_open(&server, &server_options, err);
    if (rc == 0)
        rc = serve(server, plan, keeping, ret_code, err);
    rml_server_close(server);  // last: who waits for our end finds the files complete
    return rc;
}

/* What the keeper is told, and tells. */
struct kept {
    const struct rml_plan *plan;
    struct rml_claim *claim;
};

static void keeper_says(void *context, const char *sentence)
{
    const struct kept *kept = context;
    rml_claim_say(kept->claim, sentence);
    fprintf(stderr, "ringmill: %s: %s\n", kept->plan->name, sentence);
}

static void keeper_pauses(void *context, const char *why)
{
    const struct kept *kept = context;
    rml_claim_restarting(kept->claim, why != NULL);
}

// The keeper has given up, and said why. Lanes end with it.
static void say_how_to_go_on(struct rml_plan *plan)
{
    char sentence[800];
    const char *aftermath = rml_aftermath(plan->state != NULL, plan->journals);
    if (plan->state == NULL)
        snprintf(sentence, sizeof sentence, "its file names no state: %s", aftermath);
    else
        snprintf(sentence, sizeof sentence, "once that is put right, `ringmill run %.400s` %s",
                 plan->path, aftermath);
    complain(plan, sentence);
}

// Returns in the keeper, and in each engine.
static int run_kept(struct rml_plan *plan, struct rml_claim *claim, int *ret_code,
                    struct rml_err *err)
{
    struct kept kept = {.plan = plan, .claim = claim};
    struct rml_keeper *keeper = NULL;
    struct rml_keeping *keeping = NULL;
    options.keeper.say = keeper_says;
    options.keeper.paused = keeper_pauses;
    options.keeper.context = &kept;
    int rc = rml_keeper_open(&keeper, &options.keeper, err);
    if (rc == 0)
        rc = rml_keeper_run(keeper, &keeping, ret_code, err);
    if (rc == 1) {
        kept_claim = claim;
        rc = run_engine(plan, claim, keeping, ret_code, err);
        if (rc < 0)
            rml_note_say(err->text);
        rml_keeping_close(keeping);
    } else {
        rml_claim_close(claim);  // first: who waits for our hanging up finds nothing left
    }
    rml_keeper_close(keeper);
    return rc;
}

// A lane takes some eight descriptors, of the keeper too; the usual soft limit is for programs that use select.
static void raise_descriptor_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);  // else attaching says so when they run out
    }
}

static int let_others_through(struct rml_plan *plan, const struct rml_claim *claim,
                              struct rml_err *err)
{
    char note[512];
    const struct rml_reach reach = rml_reach_of(plan);
    int rc = rml_reach_open(&reach, claim, note, sizeof note, err);
    if (rc == 0 && note[0] != '\0')
        complain(plan, note);
    return rc;
}

static int enter_sandbox(struct rml_plan *plan, struct rml_err *err)
{
    int rc = plan->sandbox == RML_PLAN_SANDBOX_OFF ? 0 : rml_sandbox_enter(err);
    if (rc == 0 || plan->sandbox == RML_PLAN_SANDBOX_ON)
        return rc;
    say(plan, err->text);  // it runs as well without
    return 0;
}

static int run(struct rml_plan *plan)
{
    struct rml_err err = {0};
    struct rml_claim claim;
    int code = RML_EXIT_FAILED;
    raise_descriptor_limit();
    rml_leave_off();  // a signal that comes early is not to leave a claimed name behind
    int rc = rml_claim_open(&claim, plan->name, &err);
    if (rc == 0)
        rc = rml_claim_listen(&claim, &err);
    if (rc == 0)
        rc = let_others_through(plan, &claim, &err);
    if (rc == 0)
        rc = enter_sandbox(plan, &err);
    if (rc == 0 && !options.alone) {
        rc = run_kept(plan, &claim, &code, &err);
    } else {
        if (rc == 0)
            rc = run_engine(plan, &claim, NULL, &code, &err);
        rml_claim_close(&claim);
    }
    if (rc < 0) {
        fprintf(stderr, "ringmill: %s: %s\n", plan->name, err.text);
        if (rc == -EOWNERDEAD)
            say_how_to_go_on(plan);
        code = exit_of(rc);
    }
    return code;
}

static bool take_restarts(const char *word)
{
    int64_t count;
    if (word == NULL)
        return true;
    if (rml_integer_parse(word, strlen(word), &count) < 0 || count < 0
        || count > RML_KEEPER_RESTARTS_MAX) {
        rml_usage_fail("--restarts takes a number from 0 to %u, got %s", RML_KEEPER_RESTARTS_MAX,
                       word);
        return false;
    }
    options.keeper.restarts_most = (uint32_t)count;
    return true;
}

static bool take_within(const char *word)
{
    if (word == NULL
        || (rml_duration_parse(word, strlen(word), &options.keeper.within_ns) == 0
            && options.keeper.within_ns > 0))
        return true;
    rml_usage_fail("--within takes a duration such as 500ms or 60s, got %s", word);
    return false;
}

// Each word is a list with commas.
static bool take_fresh(const char *const *lists, uint32_t count)
{
    static char text[4096];
    size_t used = 0;
    for (uint32_t i = 0; i < count; i++)
        used += (size_t)snprintf(text + used, used < sizeof text ? sizeof text - used : 0, "%s,",
                                 lists[i]);
    bool fits = used < sizeof text;
    char *rest = NULL, *name = fits ? strtok_r(text, ",", &rest) : NULL;
    for (; name != NULL && options.renewed_count < RML_FITTING_NAMES_MAX;
         name = strtok_r(NULL, ",", &rest))
        options.renewed[options.renewed_count++] = name;
    if (!fits || name != NULL)
        rml_usage_fail("--fresh takes at most %u stages", RML_FITTING_NAMES_MAX);
    if (options.fresh && options.renewed_count > 0)
        rml_usage_fail("--fresh alone begins anew with all stages, --fresh %s with that one: "
                       "give one of them",
                       options.renewed[0]);
    return fits && name == NULL && !(options.fresh && options.renewed_count > 0);
}

// One of them at most, and only where there is a state.
static bool take_from(const char *word)
{
    int64_t epoch;
    if (word == NULL)
        return true;
    if (rml_integer_parse(word, strlen(word), &epoch) < 0 || epoch < 1) {
        rml_usage_fail("--from takes a checkpoint's number, as `ringctl checkpoint list` "
                       "shows them, got %s",
                       word);
        return false;
    }
    if (options.fresh)
        rml_usage_fail("--fresh begins anew, --from goes back: give one of them");
    options.from = (uint64_t)epoch;
    return !options.fresh;
}

static bool has_state(const struct rml_plan *plan)
{
    if (options.from != 0 && plan->state == NULL)
        rml_usage_fail("--from: %s keeps no checkpoints: it has no runtime.state", plan->path);
    return options.from == 0 || plan->state != NULL;
}

int rml_cmd_run(int argc, char **argv)
{
    const char *restarts = NULL, *within = NULL, *from = NULL, *fresh[RML_FITTING_NAMES_MAX];
    uint32_t fresh_count = 0;
    uint32_t restarts_count = 0, within_count = 0, from_count = 0;
    const struct rml_option known[] = {
        {.name = "--quiet", .sentence = "Say only what goes wrong.", .ret_flag = &options.quiet},
        {.name = "--fresh",
         .value = "STAGE,...",
         .sentence =
             "Begin anew, whatever checkpoints there are; with names of stages, give up what a "
             "checkpoint holds of those, and go on with all else. Needed for stages that were "
             "changed, or are not in the file any more.",
         .ret_flag = &options.fresh,
         .ret_values = fresh,
         .ret_count = &fresh_count,
         .most = RML_FITTING_NAMES_MAX},
        {.name = "--from",
         .value = "EPOCH",
         .sentence =
             "Go back to this checkpoint, one of those that `ringctl checkpoint list` shows: "
             "those behind it are given up, and what is missing then is counted and said.",
         .ret_values = &from,
         .ret_count = &from_count,
         .most = 1},
        {.name = "--restarts",
         .value = "N",
         .sentence =
             "Start an engine that died again so many times (10) within the time of --within; "
             "then give up and exit 4.",
         .ret_values = &restarts,
         .ret_count = &restarts_count,
         .most = 1},
        {.name = "--within",
         .value = "DURATION",
         .sentence = "The time in which so many restarts are too many (60s).",
         .ret_values = &within,
         .ret_count = &within_count,
         .most = 1},
        {.name = "--no-keeper",
         .sentence =
             "Run the engine in this very process, for a debugger: when it dies it is dead.",
         .ret_flag = &options.alone},
    };
    const struct rml_args args = {
        .usage =
            "ringmill run FILE [--quiet] [--fresh [STAGE,...]] [--from EPOCH] [--restarts N] [--within DURATION] "
            "[--no-keeper]",
        .sentence =
            "Run a pipeline until SIGINT, SIGTERM, SIGHUP, `ringctl drain` or `ringctl stop`. The "
            "first signal drains: what producers published is taken, windows fire, files are "
            "complete. A second one stops at once, with what has fired so far; a further one does not "
            "wait for files either. As it comes up and waits for room for what it takes again, the first one "
            "stops at once; where it died and cannot come up, one ends it after one more try (exit 4). "
            "Files of sinks are written anew, but where the file names a state: then a run goes "
            "on from the last checkpoint, unless the one before it was drained. The engine is a child of this "
            "process, which starts it again should it die: producers and subscribers stay attached.",
        .options = known,
        .option_count = sizeof known / sizeof known[0],
        .words_least = 1,
        .words_most = 1,
    };
    const char *file;
    uint32_t file_count;
    int code;
    if (!rml_args_read(&args, argc, argv, &file, &file_count, &code))
        return code;
    if (!take_restarts(restarts) || !take_within(within) || !take_fresh(fresh, fresh_count)
        || !take_from(from))
        return RML_EXIT_USAGE;
    struct rml_plan *plan = rml_load_plan(file, &code);
    if (plan == NULL)
        return code;
    code = has_state(plan) ? run(plan) : RML_EXIT_USAGE;
    rml_plan_close(plan);
    return code;
}
