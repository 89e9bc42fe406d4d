#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/err.h"
#include "runtime/time/clock.h"
#include "runtime/time/time.h"
#include "tools/about.h"
#include "tools/commands.h"
#include "tools/ctl.h"
#include "tools/exit.h"
#include "tools/explain.h"
#include "tools/json.h"
#include "tools/look.h"
#include "tools/signals.h"

#define EVERY_LEAST_NS INT64_C(10000000)
#define HEAD_EVERY     20  // lines

/* Two looks, of which `after` is the newer one; too large for a stack. */
static struct rml_look looks[2];
static const struct rml_look *before = &looks[0], *after = &looks[1];

static const char *every_text, *count_text;
static uint32_t every_count, count_count;

static int64_t now(void)
{
    return rml_clock_system.monotonic_ns(rml_clock_system.context);
}

static void look_again(const struct rml_view *view)
{
    struct rml_look *newest = before == &looks[0] ? &looks[0] : &looks[1];
    before = after;
    after = newest;
    rml_look_take(newest, &view->board, now());
}

static double rate(uint64_t was, uint64_t is)
{
    return rml_look_rate(before, after, was, is);
}

static double source_rate(uint32_t source)
{
    return rate(before->totals.source[source][RML_SOURCE_taken],
                after->totals.source[source][RML_SOURCE_taken]);
}

static double stage_rate(const struct rml_board *board, uint32_t stage)
{
    return rate(rml_look_out(before, board, stage), rml_look_out(after, board, stage));
}

static double sink_rate(uint32_t sink)
{
    return rate(before->totals.sink[sink][RML_SINK_rows], after->totals.sink[sink][RML_SINK_rows]);
}

// Rows of a ring are written by its stage, and counted there.
static bool is_file(const struct rml_board *board, uint32_t sink)
{
    return board->sinks[sink].kind != RML_SINK_RING;
}

static double sleep_rate(uint32_t worker)
{
    return rate(before->totals.worker[worker][RML_WORKER_sleeps],
                after->totals.worker[worker][RML_WORKER_sleeps]);
}

/* For people: a column for each thing, under its kind */

#define COLUMN_LEAST 9  // wide enough for a hundred million a second

enum { KIND_SOURCE, KIND_STAGE, KIND_SINK, KIND_BUSY, KIND_SLEEPS, KINDS };

static const char *const kind_titles[KINDS] = {"records/s", "out/s", "written/s", "busy %",
                                               "sleeps/s"};

static uint32_t kind_count(const struct rml_board *board, int kind)
{
    const uint32_t counts[KINDS] = {board->head->sources, board->head->stages, board->head->sinks,
                                    board->head->workers, board->head->workers};
    return counts[kind];
}

static void column_name(const struct rml_board *board, int kind, uint32_t i,
                        char text[RML_BOARD_NAME])
{
    if (kind == KIND_BUSY || kind == KIND_SLEEPS)
        snprintf(text, RML_BOARD_NAME, "%" PRIu32, i);
    else
        snprintf(text, RML_BOARD_NAME, "%s",
                 kind == KIND_SOURCE  ? board->sources[i].name
                 : kind == KIND_STAGE ? board->stages[i].name
                                      : board->sinks[i].name);
}

static int column_width(const struct rml_board *board, int kind, uint32_t i)
{
    char name[RML_BOARD_NAME];
    column_name(board, kind, i, name);
    int width = (int)strlen(name);
    return width < COLUMN_LEAST ? COLUMN_LEAST : width;
}

static double column_value(const struct rml_board *board, int kind, uint32_t i)
{
    switch (kind) {
    case KIND_SOURCE:
        return source_rate(i);
    case KIND_STAGE:
        return stage_rate(board, i);
    case KIND_SINK:
        return sink_rate(i);
    case KIND_BUSY:
        return 100 * rml_look_busy(before, after, i);
    default:
        return sleep_rate(i);
    }
}

// The kind's title, in the middle of dashes over its columns.
static void print_title(const struct rml_board *board, int kind)
{
    int width = -1;
    for (uint32_t i = 0; i < kind_count(board, kind); i++)
        width += 1 + column_width(board, kind, i);
    int title = (int)strlen(kind_titles[kind]), dashes = width - title;
    printf(" ");
    for (int i = 0; i < dashes / 2; i++)
        printf("-");
    printf("%s", kind_titles[kind]);
    for (int i = dashes / 2; i < dashes; i++)
        printf("-");
}

static void print_head(const struct rml_board *board)
{
    printf("%8s", "");
    for (int kind = 0; kind < KINDS; kind++) {
        if (kind_count(board, kind) > 0)
            print_title(board, kind);
    }
    printf("\n%8s", "UTC");
    for (int kind = 0; kind < KINDS; kind++) {
        for (uint32_t i = 0; i < kind_count(board, kind); i++) {
            char name[RML_BOARD_NAME];
            column_name(board, kind, i, name);
            printf(" %*s", column_width(board, kind, i), name);
        }
    }
    printf("\n");
}

static void print_line(const struct rml_board *board, uint64_t number)
{
    if (number % HEAD_EVERY == 0)
        print_head(board);
    char time[40];
    rml_ctl_second(rml_clock_system.wall_ns(rml_clock_system.context), time);
    printf("%.8s", strchr(time, 'T') + 1);
    for (int kind = 0; kind < KINDS; kind++) {
        for (uint32_t i = 0; i < kind_count(board, kind); i++) {
            char value[32] = "-";
            if (kind != KIND_SINK || is_file(board, i))
                rml_about_rate(column_value(board, kind, i), value);
            printf(" %*s", column_width(board, kind, i), value);
        }
    }
    printf("\n");
}

/* For programs */

static void json_sources(struct rml_json *json, const struct rml_board *board)
{
    rml_json_open(json, "sources", '[');
    for (uint32_t s = 0; s < board->head->sources; s++) {
        rml_json_open(json, NULL, '{');
        rml_json_text(json, "name", board->sources[s].name);
        rml_json_unsigned(json, "taken", after->totals.source[s][RML_SOURCE_taken]);
        rml_json_real(json, "records_per_s", source_rate(s));
        rml_json_close(json, '}');
    }
    rml_json_close(json, ']');
}

static void json_stages(struct rml_json *json, const struct rml_board *board)
{
    rml_json_open(json, "stages", '[');
    for (uint32_t s = 0; s < board->head->stages; s++) {
        rml_json_open(json, NULL, '{');
        rml_json_text(json, "name", board->stages[s].name);
        rml_json_unsigned(json, "in", after->totals.stage[s][RML_STAGE_in]);
        rml_json_unsigned(json, "out", rml_look_out(after, board, s));
        rml_json_real(
            json, "in_per_s",
            rate(before->totals.stage[s][RML_STAGE_in], after->totals.stage[s][RML_STAGE_in]));
        rml_json_real(json, "out_per_s", stage_rate(board, s));
        rml_json_close(json, '}');
    }
    rml_json_close(json, ']');
}

static void json_sinks(struct rml_json *json, const struct rml_board *board)
{
    rml_json_open(json, "sinks", '[');
    for (uint32_t s = 0; s < board->head->sinks; s++) {
        rml_json_open(json, NULL, '{');
        rml_json_text(json, "name", board->sinks[s].name);
        rml_json_text(json, "type", rml_explain_sink_kinds[board->sinks[s].kind]);
        if (is_file(board, s)) {
            rml_json_unsigned(json, "rows", after->totals.sink[s][RML_SINK_rows]);
            rml_json_unsigned(json, "lost", after->totals.sink[s][RML_SINK_lost]);
            rml_json_real(json, "rows_per_s", sink_rate(s));
        }
        rml_json_close(json, '}');
    }
    rml_json_close(json, ']');
}

static void json_workers(struct rml_json *json, const struct rml_board *board)
{
    rml_json_open(json, "workers", '[');
    for (uint32_t w = 0; w < board->head->workers; w++) {
        rml_json_open(json, NULL, '{');
        rml_json_unsigned(json, "worker", w);
        rml_json_real(json, "busy", rml_look_busy(before, after, w));
        rml_json_real(json, "sleeps_per_s", sleep_rate(w));
        rml_json_close(json, '}');
    }
    rml_json_close(json, ']');
}

static void print_json(const struct rml_view *view, uint64_t number)
{
    struct rml_json json = {.out = stdout};
    rml_json_open(&json, NULL, '{');
    rml_json_text(&json, "schema", "ringctl.stat/1");
    rml_json_text(&json, "pipeline", view->pipeline);
    rml_json_text(&json, "state", rml_ctl_state(&view->board));
    rml_json_unsigned(&json, "interval", number);
    rml_json_integer(&json, "interval_ns", after->at_ns - before->at_ns);
    json_sources(&json, &view->board);
    json_stages(&json, &view->board);
    json_sinks(&json, &view->board);
    json_workers(&json, &view->board);
    rml_json_close(&json, '}');
    printf("\n");
}

/* Interval by interval */

enum happened { INTERVAL_OVER, SIGNALLED, ENDED };

static enum happened wait_until(const struct rml_view *view, int signals, int64_t deadline)
{
    for (;;) {
        struct pollfd what[] = {{.fd = signals, .events = POLLIN},
                                {.fd = view->socket, .events = POLLIN}};
        int64_t left_ns = deadline - now();
        if (left_ns <= 0)
            return INTERVAL_OVER;
        struct timespec left = {left_ns / 1000000000, left_ns % 1000000000};
        if (ppoll(what, 2, &left, NULL) <= 0)
            continue;
        return what[0].revents != 0 ? SIGNALLED : ENDED;
    }
}

static int watch(const struct rml_ctl *ctl, const struct rml_view *view, int64_t every_ns,
                 int64_t count)
{
    struct rml_err err = {0};
    int signals = rml_signals_open(&err);
    if (signals < 0)
        return rml_ctl_fail(signals, err.text);
    enum happened happened = INTERVAL_OVER;
    look_again(view);
    int64_t deadline = after->at_ns;
    for (int64_t number = 0; happened == INTERVAL_OVER && number < count; number++) {
        deadline = rml_time_add(deadline, every_ns);
        happened = wait_until(view, signals, deadline);
        if (happened == SIGNALLED)
            break;
        look_again(view);
        if (ctl->as_json)
            print_json(view, (uint64_t)number);
        else
            print_line(&view->board, (uint64_t)number);
        fflush(stdout);
    }
    close(signals);
    return happened == ENDED ? rml_ctl_ended(view) : RML_EXIT_OK;
}

static int show(const struct rml_ctl *ctl, struct rml_view *view)
{
    int64_t every_ns = 1000000000, count = INT64_MAX;
    if (every_count > 0 && !rml_ctl_duration("--every", every_text, EVERY_LEAST_NS, &every_ns))
        return RML_EXIT_USAGE;
    if (!rml_ctl_count("--count", count_count > 0 ? count_text : NULL, &count))
        return RML_EXIT_USAGE;
    return watch(ctl, view, every_ns, count);
}

int rml_ctl_cmd_stat(int argc, char **argv)
{
    const struct rml_option options[] = {
        {.name = "--every",
         .value = "DURATION",
         .sentence = "The interval (1s).",
         .ret_values = &every_text,
         .ret_count = &every_count,
         .most = 1},
        {.name = "--count",
         .value = "N",
         .sentence =
             "End after so many intervals. Without it: until a signal, or the pipeline's end.",
         .ret_values = &count_text,
         .ret_count = &count_count,
         .most = 1},
    };
    const struct rml_args args = {
        .usage = "ringctl stat [PIPELINE] [--every DURATION] [--count N] [--json]",
        .sentence =
            "Show what goes through a pipeline, one line for each interval: records taken from\n"
            "each source, rows that each stage let out, rows that each sink wrote, how busy\n"
            "workers were and how often they went to sleep. Only shared memory is read: the\n"
            "pipeline is not disturbed. Exits 4 if the pipeline dies.",
        .options = options,
        .option_count = sizeof options / sizeof options[0],
    };
    struct rml_ctl ctl = {0};
    return rml_ctl_run(&ctl, &args, argc, argv, show);
}
