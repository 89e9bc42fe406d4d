#include <stdio.h>

#include "runtime/base/err.h"
#include "tools/balance.h"
#include "tools/commands.h"
#include "tools/ctl.h"
#include "tools/exit.h"
#include "tools/json.h"

#define LOOKS_MAX 10

static struct rml_board_totals totals;
static struct rml_balance balance;

/*
 * The counters of a pipeline that runs are read one after the other, while it counts. A few looks find
 * a moment of rest where there are any; without one the differences are what is on its way.
 */
static int look(const struct rml_ctl *ctl, struct rml_view *view, struct rml_err *err)
{
    rml_balance_init_board(&balance, &view->board);
    balance.moving = rml_board_state(&view->board) != RML_BOARD_ENDED;
    for (uint32_t s = 0; s < balance.source_count; s++)
        balance.sources[s].may_leave = balance.moving;
    for (int looks = 0; looks < LOOKS_MAX; looks++) {
        int rc = looks == 0 ? 0 : rml_view_ask(view, "refresh", rml_ctl_answer_ns(ctl), NULL, err);
        if (rc < 0)
            return rc;
        rml_board_total(&view->board, &totals);
        rml_balance_fill(&balance, &totals);
        if (rml_balance_holds(&balance))
            break;
    }
    return 0;
}

static void print_json(const struct rml_view *view)
{
    struct rml_json json = {.out = stdout};
    rml_json_open(&json, NULL, '{');
    rml_json_text(&json, "schema", "ringctl.balance/1");
    rml_json_text(&json, "pipeline", view->pipeline);
    rml_json_text(&json, "state", rml_ctl_state(&view->board));
    rml_balance_json(&balance, &json);
    rml_json_close(&json, '}');
    printf("\n");
}

static int show(const struct rml_ctl *ctl, struct rml_view *view)
{
    struct rml_err err = {0};
    int rc = look(ctl, view, &err);
    if (rc < 0)
        return rml_ctl_fail(rc, err.text);
    if (ctl->as_json)
        print_json(view);
    else
        rml_balance_print(&balance, stdout);
    return balance.moving || rml_balance_holds(&balance) ? RML_EXIT_OK : RML_EXIT_FAILED;
}

int rml_ctl_cmd_balance(int argc, char **argv)
{
    const struct rml_args args = {
        .usage = "ringctl balance [PIPELINE] [--json] [--timeout DURATION]",
        .sentence =
            "Show for each source and stage how many records came and by which doors they left. "
            "While records move, sums may differ by what is on its way, and the line says so; "
            "in a pipeline that has ended they may not: that exits 1.",
    };
    struct rml_ctl ctl = {0};
    return rml_ctl_run(&ctl, &args, argc, argv, show);
}
