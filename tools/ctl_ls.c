#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/err.h"
#include "runtime/time/clock.h"
#include "tools/about.h"
#include "tools/commands.h"
#include "tools/ctl.h"
#include "tools/exit.h"
#include "tools/json.h"
#include "tools/look.h"
#include "tools/pipelines.h"
#include "tools/table.h"

#define LOOK_MS   250  // between the two looks that a rate needs
#define ANSWER_NS INT64_C(1000000000)

/* One line of the list. */
struct seen {
    const struct rml_pipeline *pipeline;
    int rc;  // of opening the view; 0: it is open, and what follows is known
    struct rml_err err;
    struct rml_view view;
    uint64_t records;  // taken, of all sources, by the second look
    double rate;
};

static int64_t now(void)
{
    return rml_clock_system.monotonic_ns(rml_clock_system.context);
}

static uint64_t records_of(const struct rml_board *board)
{
    static struct rml_board_totals totals;
    rml_board_total(board, &totals);
    uint64_t records = 0;
    for (uint32_t s = 0; s < board->head->sources; s++)
        records += totals.source[s][RML_SOURCE_taken];
    return records;
}

static void open_one(struct seen *one, int64_t answer_ns)
{
    one->view = RML_VIEW_CLOSED;
    one->rc = one->pipeline->rc;
    if (one->rc == 0)
        one->rc = rml_view_open(&one->view, one->pipeline->name, answer_ns, &one->err);
    else
        rml_err_set(&one->err, one->rc, "pipeline %s: %s", one->pipeline->name,
                    strerrordesc_np(-one->rc));
    if (one->rc == 0)
        one->records = records_of(&one->view.board);
}

// Look again at all of them, so that each has a rate.
static void look_again(struct seen *seen, uint32_t count)
{
    bool any = false;
    for (uint32_t i = 0; i < count; i++)
        any = any || seen[i].rc == 0;
    if (!any)
        return;
    int64_t before = now();
    poll(NULL, 0, LOOK_MS);
    double passed_s = (double)(now() - before) / 1e9;
    for (uint32_t i = 0; i < count; i++) {
        if (seen[i].rc != 0)
            continue;
        uint64_t records = records_of(&seen[i].view.board);
        seen[i].rate = (double)(records - seen[i].records) / passed_s;
        seen[i].records = records;
    }
}

static const char *state_of(const struct seen *one)
{
    switch (one->rc) {
    case 0:
        return rml_ctl_state(&one->view.board);
    case -EOWNERDEAD:
        return "dead";
    case -EAGAIN:
        return "starting";
    case -EINPROGRESS:
        return "restarting";
    case -ETIMEDOUT:
        return "silent";
    case -EPROTONOSUPPORT:
        return "other version";
    case -EACCES:
    case -EPERM:
        return "not allowed";
    default:
        return "unknown";
    }
}

static void row(struct rml_table *table, const struct seen *one)
{
    rml_table_row(table);
    rml_table_cell(table, "%s", one->pipeline->name);
    rml_table_cell(table, "%s", state_of(one));
    rml_table_cell(table, one->pipeline->pid > 0 ? "%" PRIu32 : "-", one->pipeline->pid);
    if (one->rc != 0) {
        for (int i = 0; i < 4; i++)
            rml_table_cell(table, "-");
        return;
    }
    char since[40], rate[32];
    rml_ctl_second(one->view.board.head->start_ns, since);
    rml_about_rate(one->rate, rate);
    rml_table_cell(table, "%s", since);
    rml_table_number(table, rml_ctl_lanes(&one->view.board));
    rml_table_number(table, one->records);
    rml_table_cell(table, "%s", rate);
}

static int print_text(const struct seen *seen, uint32_t count)
{
    static const char *const columns[] = {"PIPELINE", "STATE",    ">PID",      "SINCE",
                                          ">LANES",   ">RECORDS", ">RECORDS/S"};
    struct rml_table table;
    rml_table_begin(&table, columns, sizeof columns / sizeof columns[0]);
    for (uint32_t i = 0; i < count; i++)
        row(&table, &seen[i]);
    int rc = rml_table_end(&table, stdout);
    for (uint32_t i = 0; i < count; i++) {
        if (seen[i].rc != 0)
            fprintf(stderr, "ringctl: %s\n", seen[i].err.text);
    }
    return rc < 0 ? RML_EXIT_FAILED : RML_EXIT_OK;
}

static void json_one(struct rml_json *json, const struct seen *one)
{
    rml_json_open(json, NULL, '{');
    rml_json_text(json, "name", one->pipeline->name);
    rml_json_text(json, "state", state_of(one));
    rml_json_unsigned(json, "pid", one->pipeline->pid);
    if (one->rc == 0) {
        rml_json_integer(json, "start_ns", one->view.board.head->start_ns);
        rml_json_unsigned(json, "lanes", rml_ctl_lanes(&one->view.board));
        rml_json_unsigned(json, "records", one->records);
        rml_json_real(json, "records_per_s", one->rate);
    } else {
        rml_json_text(json, "why", one->err.text);
    }
    rml_json_close(json, '}');
}

static int print_json(const struct seen *seen, uint32_t count)
{
    struct rml_json json = {.out = stdout};
    rml_json_open(&json, NULL, '{');
    rml_json_text(&json, "schema", "ringctl.ls/1");
    rml_json_open(&json, "pipelines", '[');
    for (uint32_t i = 0; i < count; i++)
        json_one(&json, &seen[i]);
    rml_json_close(&json, ']');
    rml_json_close(&json, '}');
    printf("\n");
    return RML_EXIT_OK;
}

static int list(const struct rml_ctl *ctl, const struct rml_pipelines *pipelines)
{
    struct seen *seen = calloc(pipelines->count + 1, sizeof *seen);
    if (seen == NULL)
        return rml_ctl_fail(-ENOMEM, "no memory for a list of pipelines");
    int64_t answer_ns = ctl->timeout_ns != RML_CTL_TIMEOUT_NONE ? ctl->timeout_ns : ctl->answer_ns;
    for (uint32_t i = 0; i < pipelines->count; i++) {
        seen[i].pipeline = &pipelines->list[i];
        open_one(&seen[i], answer_ns);
    }
    look_again(seen, pipelines->count);
    int code =
        ctl->as_json ? print_json(seen, pipelines->count) : print_text(seen, pipelines->count);
    for (uint32_t i = 0; i < pipelines->count; i++)
        rml_view_close(&seen[i].view);
    free(seen);
    return code;
}

int rml_ctl_cmd_ls(int argc, char **argv)
{
    const struct rml_args args = {
        .usage = "ringctl ls [--json] [--timeout DURATION]",
        .sentence = "List the pipelines of the run directory: those that run, with what they took "
                    "so far and a rate, and those that died there.",
    };
    struct rml_ctl ctl = {
        .answer_ns =
            ANSWER_NS,  // less than usual: one that is silent holds up the lines of all others
        .timeout_sentence =
            "Wait at most so long for each pipeline's answer (1s, or as $" RML_CTL_ANSWER
            " says); it is silent then."};
    int code;
    if (!rml_ctl_read(&ctl, &args, argc, argv, &code))
        return code;
    struct rml_pipelines pipelines;
    struct rml_err err = {0};
    int rc = rml_pipelines_open(&pipelines, &err);
    if (rc < 0)
        return rml_ctl_fail(rc, err.text);
    code = list(&ctl, &pipelines);
    rml_pipelines_close(&pipelines);
    return code;
}
