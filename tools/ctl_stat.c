#include <poll.h>
#include <stdio.h>
#include <unistd.h>

#include "runtime/base/err.h"
#include "runtime/time/clock.h"
#include "runtime/time/time.h"
#include "tools/commands.h"
#include "tools/ctl.h"
#include "tools/exit.h"
#include "tools/signals.h"
#include "tools/standard.h"
#include "tools/stat.h"

#define EVERY_LEAST_NS INT64_C(10000000)

static const char *every_text, *count_text;
static uint32_t every_count, count_count;

static int64_t now(void)
{
    return rml_clock_system.monotonic_ns(rml_clock_system.context);
}

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
    static struct rml_stat stat;  // too large for a stack
    enum happened happened = INTERVAL_OVER;
    int64_t deadline = now();
    rml_stat_begin(&stat, view, deadline);
    for (int64_t i = 0; happened == INTERVAL_OVER && i < count; i++) {
        // on time, unless we were stopped for longer than that
        int64_t began = rml_stat_after(&stat)->at_ns;
        deadline = rml_time_add(began - deadline > every_ns ? began : deadline, every_ns);
        happened = wait_until(view, signals, deadline);
        if (happened == SIGNALLED)
            break;
        rml_stat_next(&stat, now());
        if (ctl->as_json)
            rml_stat_json(&stat);
        else
            rml_stat_text(&stat);
        if (!rml_standard_is_written())
            break;
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
            "Show what goes through a pipeline, one line for each interval: records taken from "
            "each source, rows that each stage let out, rows that each sink wrote, how busy "
            "workers were and how often they went to sleep. Only shared memory is read: the "
            "pipeline is not disturbed. Exits 4 if the pipeline dies.",
        .options = options,
        .option_count = sizeof options / sizeof options[0],
    };
    struct rml_ctl ctl = {0};
    return rml_ctl_run(&ctl, &args, argc, argv, show);
}
