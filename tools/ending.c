#include "tools/ending.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/err.h"
#include "runtime/time/clock.h"
#include "runtime/time/time.h"
#include "tools/aftermath.h"
#include "tools/balance.h"
#include "tools/ctl.h"
#include "tools/exit.h"
#include "tools/json.h"

#define PROGRESS_NS INT64_C(1000000000)

static const struct rml_ending *ending;  // the command that this process is

static struct rml_board_totals totals;
static struct rml_balance balance;

static int64_t now(void)
{
    return rml_clock_system.monotonic_ns(rml_clock_system.context);
}

static uint64_t taken(const struct rml_board *board)
{
    uint64_t records = 0;
    rml_board_total(board, &totals);
    for (uint32_t s = 0; s < board->head->sources; s++)
        records += totals.source[s][RML_SOURCE_taken];
    return records;
}

static void say_progress(const struct rml_view *view)
{
    char says[RML_CLAIM_SAYS];
    if (rml_view_comes_up(view, says)) {
        fprintf(stderr, "ringctl: pipeline %s: %s%s%s\n", view->pipeline,
                rml_ctl_state(&view->board), says[0] != '\0' ? "; it says: " : "", says);
        return;
    }
    fprintf(stderr,
            "ringctl: pipeline %s: %s, %" PRIu32 " lanes to go, %" PRIu64 " records taken\n",
            view->pipeline, rml_ctl_state(&view->board), rml_ctl_lanes(&view->board),
            taken(&view->board));
}

// 0 once it has ended, -ETIMEDOUT.
static int wait_for_end(const struct rml_ctl *ctl, const struct rml_view *view, int64_t began)
{
    for (;;) {
        int64_t left_ns = PROGRESS_NS;
        if (ctl->timeout_ns != RML_CTL_TIMEOUT_NONE) {
            left_ns = rml_time_sub(rml_time_add(began, ctl->timeout_ns), now());
            if (left_ns <= 0)
                return -ETIMEDOUT;
        }
        if (rml_view_wait(view, left_ns < PROGRESS_NS ? left_ns : PROGRESS_NS))
            return 0;
        if (left_ns >= PROGRESS_NS)
            say_progress(view);
    }
}

/* How it ended */

static uint64_t count_lost(const struct rml_board *board)
{
    uint64_t lost = 0;
    for (uint32_t s = 0; s < board->head->sinks; s++)
        lost += totals.sink[s][RML_SINK_lost];
    return lost;
}

static uint64_t count_left(void)
{
    uint64_t left = 0;
    for (uint32_t s = 0; s < balance.source_count; s++) {
        uint64_t took = balance.sources[s].counts[RML_SOURCE_taken];
        left += balance.sources[s].published > took ? balance.sources[s].published - took : 0;
    }
    return left;
}

// Lanes end with the keeper, and what the last engine counted is not what was in them.
static void say_what_died(const struct rml_board *board)
{
    struct rml_board_death death;
    bool has_journal = false;
    rml_board_death_read(board, &death);
    fflush(stdout);
    if (death.wall_ns != 0)
        fprintf(stderr, "ringctl: process %" PRIu32 " died before that: %s\n", death.pid,
                death.why);
    for (uint32_t s = 0; s < board->head->sources; s++)
        has_journal |= board->sources[s].has_journal != 0;
    bool has_state = board->head->state_folder[0] != '\0';
    fprintf(stderr, "ringctl: %s %s\n", has_state ? "the next run" : "it keeps no state:",
            rml_aftermath(has_state, has_journal));
}

static void print_text(const struct rml_view *view, const char *how, uint64_t left, uint64_t lost,
                       const struct rml_board_saves *saves)
{
    if (!rml_view_died(view))
        rml_balance_print(&balance, stdout);
    printf("pipeline %s %s", view->pipeline, how);
    if (left > 0)
        printf("; %" PRIu64 " records were left in lanes", left);
    if (lost > 0)
        printf("; %" PRIu64 " result rows could not be written", lost);
    printf("\n");
    if (rml_view_died(view))
        say_what_died(&view->board);
    if ((saves->is_end_unsaved & RML_BOARD_END_UNSAVED) == 0)
        return;
    uint64_t epoch = saves->epoch != 0 ? saves->epoch : saves->restored_epoch;
    fflush(stdout);
    if (epoch != 0)
        fprintf(stderr,
                "ringctl: what was taken since checkpoint %" PRIu64
                " is in none; the next run goes on from there\n",
                epoch);
    else
        fprintf(stderr, "ringctl: no checkpoint has what was taken; the next run begins anew\n");
    if (saves->failed > 0)
        fprintf(stderr, "ringctl: the last that failed: %s\n", saves->failed_why);
}

static void print_json(const struct rml_view *view, const char *how, uint64_t left, uint64_t lost,
                       const struct rml_board_saves *saves)
{
    struct rml_json json = {.out = stdout};
    rml_json_open(&json, NULL, '{');
    rml_json_text(&json, "schema", ending->schema);
    rml_json_text(&json, "pipeline", view->pipeline);
    rml_json_text(&json, "ended", how);
    rml_json_unsigned(&json, "left_in_lanes", left);
    rml_json_unsigned(&json, "rows_lost", lost);
    rml_json_bool(&json, "end_is_saved", (saves->is_end_unsaved & RML_BOARD_END_UNSAVED) == 0);
    rml_balance_json(&balance, &json);
    rml_json_close(&json, '}');
    printf("\n");
}

// The board does not change any more.
static int sum_up(const struct rml_ctl *ctl, const struct rml_view *view)
{
    bool died = rml_view_died(view);
    rml_board_total(&view->board, &totals);
    rml_balance_init_board(&balance, &view->board);
    rml_balance_fill(&balance, &totals);
    for (uint32_t s = 0; s < balance.source_count; s++)
        balance.sources[s].may_leave = true;
    uint64_t left = count_left(), lost = count_lost(&view->board);
    bool drains = strcmp(ending->request, "drain") == 0;
    const char *how = died ? "died" : drains && left == 0 ? "drained" : "stopped";
    struct rml_board_saves saves;
    rml_board_saves_read(&view->board, &saves);
    if (ctl->as_json)
        print_json(view, how, left, lost, &saves);
    else
        print_text(view, how, left, lost, &saves);
    if (died)
        return RML_EXIT_DEAD;
    return rml_balance_holds(&balance) && lost == 0 && saves.is_end_unsaved == 0
                   && !(drains && left > 0)
               ? RML_EXIT_OK
               : RML_EXIT_FAILED;
}

static int end(const struct rml_ctl *ctl, struct rml_view *view)
{
    struct rml_err err = {0};
    int64_t began = now();
    char answer[RML_VIEW_ANSWER] = "";
    int rc = rml_view_insist(view, ending->request, rml_ctl_answer_ns(ctl), answer, &err);
    // one that ends before it answers has been told by another
    if (rc < 0 && rc != -EPIPE)
        return rml_ctl_fail(rc, err.text);
    if (rc == 0 && answer[0] != '\0')
        fprintf(stderr, "ringctl: pipeline %s: %s\n", view->pipeline, answer);
    rc = wait_for_end(ctl, view, began);
    if (rc == 0)
        return sum_up(ctl, view);
    char limit[32];
    rml_duration_print(ctl->timeout_ns, limit);
    rml_err_set(&err, rc, "pipeline %s has not ended within %s; it goes on ending", view->pipeline,
                limit);
    return rml_ctl_fail(rc, err.text);
}

int rml_ending_run(const struct rml_ending *command, const struct rml_args *args, int argc,
                   char **argv)
{
    struct rml_ctl ctl = {.to_end = command->request,
                          .timeout_sentence =
                              "Wait at most so long for the end; then exit 5, while it goes on "
                              "ending. Without it: wait."};
    ending = command;
    return rml_ctl_run(&ctl, args, argc, argv, end);
}
