#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "operators/registry.h"
#include "runtime/base/err.h"
#include "runtime/control/engine.h"
#include "runtime/lane/lane_out.h"
#include "runtime/plan/plan.h"
#include "runtime/time/clock.h"
#include "tools/args.h"
#include "tools/balance.h"
#include "tools/commands.h"
#include "tools/exit.h"
#include "tools/feed.h"
#include "tools/json.h"
#include "tools/load.h"
#include "tools/replay_options.h"
#include "tools/usage.h"

static volatile sig_atomic_t interrupted;

static void on_signal(int number)
{
    (void)number;
    interrupted = 1;
}

/* A second signal does what it would have done without us. */
static void heed_signals(void)
{
    const struct sigaction once = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND};
    sigaction(SIGINT, &once, NULL);
    sigaction(SIGTERM, &once, NULL);
    signal(SIGPIPE, SIG_IGN);  // whoever reads standard output may go: that is an error of the sink
}

struct replay {
    struct rml_replay_options options;
    struct rml_feed *feed;
    struct rml_engine *engine;
    struct rml_lane_out *lanes[RML_SOURCES_MAX];
    bool strict, quiet, as_json;
};

static void complain(void *context, const char *sentence)
{
    (void)context;
    fprintf(stderr, "%s\n", sentence);
}

static int open_engine(struct replay *replay, struct rml_err *err)
{
    const struct rml_engine_options options = {
        .plan = &replay->options.plan,
        .operators = rml_operators_table(),
        .clock = &rml_clock_system,
        .replay = true,
        .complain = complain,
    };
    int rc = rml_engine_open(&replay->engine, &options, err);
    if (rc == 0)
        rc = rml_engine_start(replay->engine, err);
    for (uint32_t i = 0; rc == 0 && i < replay->options.input_count; i++) {
        uint32_t lane = 0;
        rc = rml_engine_attach(replay->engine, replay->options.inputs[i].source, NULL, &lane, err);
        if (rc < 0)
            return rc;
        const struct rml_lane_in *in = rml_engine_lane(replay->engine, lane);
        rc = rml_lane_out_open(&replay->lanes[i], rml_lane_in_geometry(in), rml_lane_in_fds(in), -1,
                               err);
    }
    return rc;
}

static void close_lanes(struct replay *replay)
{
    for (uint32_t i = 0; i < replay->options.input_count; i++) {
        rml_lane_out_close(replay->lanes[i]);
        replay->lanes[i] = NULL;
    }
}

/* Everything through, to the end: 0, or a negative errno with a sentence. */
static int run(struct replay *replay, struct rml_err *err)
{
    int rc = open_engine(replay, err);
    if (rc < 0)
        return rc;
    rc = rml_feed_run(replay->feed, replay->lanes, &interrupted, err);
    close_lanes(replay);
    if (rc < 0)
        return rc;
    rml_engine_drain(replay->engine);
    uint64_t lost = rml_engine_stop(replay->engine);
    if (lost > 0)
        return RML_FAIL(err, -EIO, "%llu rows could not be written", (unsigned long long)lost);
    return 0;
}

/* Print the balance as was asked for; true when it adds up. */
static bool account(const struct replay *replay)
{
    struct rml_board_totals totals;
    rml_engine_totals(replay->engine, &totals);
    struct rml_balance balance;
    rml_balance_init(&balance, &replay->options.plan);
    rml_balance_fill(&balance, &totals);
    for (uint32_t i = 0; i < replay->options.input_count; i++) {
        struct rml_feed_counts counts = rml_feed_counts(replay->feed, i);
        struct rml_balance_source *source = &balance.sources[replay->options.inputs[i].source];
        source->from_file = true;
        source->lines = counts.lines;
        source->malformed_lines = counts.malformed;
        source->published = counts.fed;
    }
    bool holds = rml_balance_holds(&balance);
    if (replay->as_json) {
        struct rml_json json = {.out = stderr};
        rml_json_open(&json, NULL, '{');
        rml_json_text(&json, "schema", "ringmill.replay/1");
        rml_balance_json(&balance, &json);
        rml_json_close(&json, '}');
        fprintf(stderr, "\n");
    } else if (!replay->quiet || !holds) {
        rml_balance_print(&balance, stderr);
    }
    return holds;
}

static int replay_file(struct replay *replay)
{
    struct rml_err err = {0};
    const struct rml_feed_options feed = {
        .replay = &replay->options,
        .strict = replay->strict,
        .progress = !replay->quiet && !replay->as_json && isatty(STDERR_FILENO),
    };
    int code = RML_EXIT_FAILED;
    int rc = rml_feed_open(&replay->feed, &feed, &err);
    if (rc == 0)
        rc = run(replay, &err);
    if (rc < 0)
        fprintf(stderr, "%s\n", err.text);
    else if (account(replay))
        code = RML_EXIT_OK;
    if (rc == 0 && interrupted) {
        fprintf(stderr, "interrupted: the rest of the input was not read\n");
        code = RML_EXIT_FAILED;
    }
    close_lanes(replay);
    rml_engine_close(replay->engine);
    rml_feed_close(replay->feed);
    return code;
}

int rml_cmd_replay(int argc, char **argv)
{
    struct replay *replay = calloc(1, sizeof *replay);
    if (replay == NULL) {
        fprintf(stderr, "no memory to replay\n");
        return RML_EXIT_FAILED;
    }
    struct rml_replay_words words = {0};
#define ONE(option_name, value_name, member, text)                                               \
 {                                                                                               \
  .name = (option_name), .value = (value_name), .sentence = (text), .ret_values = &words.member, \
  .ret_count = &words.member##_count, .most = 1                                                  \
 }
#define MANY(option_name, value_name, member, text)                                                \
 {                                                                                                 \
  .name = (option_name), .value = (value_name), .sentence = (text), .ret_values = words.member##s, \
  .ret_count = &words.member##_count, .most = sizeof words.member##s / sizeof *words.member##s     \
 }
    const struct rml_option options[] = {
        MANY("--input", "SOURCE=FILE", input,
             "Feed the file to the source; - is standard input. Once for each source."),
        MANY("--output", "STAGE=FILE", output,
             "Write the stage's rows to the file; - is standard output, STAGE.late its late "
             "records. Without any, stages that no other reads go to standard output."),
        ONE("--format", "csv|jsonl", format,
            "Of standard input and output, and of files whose ending says neither; else jsonl."),
        MANY("--map", "FIELD=COLUMN", map, "The file has the field under another name."),
        MANY("--set", "FIELD=VALUE", set, "The field has this value in every record."),
        ONE("--speed", "max|N", speed,
            "N seconds of event time to a second; max, the default: as fast as it goes."),
        ONE("--workers", "N", workers, "As many worker threads, whatever the file says."),
        ONE("--batch", "N", batch, "Publish every N records; it changes no result."),
        ONE("--times", "ns|rfc3339", times, "How times are printed; ns is the default."),
        {.name = "--strict",
         .sentence = "The first malformed line ends it, with exit code 1.",
         .ret_flag = &replay->strict},
        {.name = "--quiet",
         .sentence = "Say nothing of progress or balance unless something is wrong.",
         .ret_flag = &replay->quiet},
        {.name = "--json",
         .sentence = "The balance as one line of JSON, on standard error.",
         .ret_flag = &replay->as_json},
    };
#undef ONE
#undef MANY
    const struct rml_args args = {
        .usage = "ringmill replay FILE --input SOURCE=FILE [--output STAGE=FILE]... [OPTION]...",
        .sentence =
            "Take files of events through a pipeline, to their end, by the same lanes, workers "
            "and stages as `run`. CSV has a header line of field names; JSONL an object a line. "
            "The same input gives the same bytes, whatever the workers, batches and speed.",
        .options = options,
        .option_count = sizeof options / sizeof options[0],
        .words_least = 1,
        .words_most = 1,
    };
    const char *file;
    uint32_t file_count;
    int code;
    if (!rml_args_read(&args, argc, argv, &file, &file_count, &code))
        goto out;
    struct rml_plan *plan = rml_load_plan(file, &code);
    if (plan == NULL)
        goto out;
    struct rml_err err = {0};
    if (rml_replay_options_make(plan, &words, &replay->options, &err) < 0) {
        code = rml_usage_fail("%s", err.text);
    } else {
        heed_signals();
        code = replay_file(replay);
        rml_replay_options_fini(&replay->options);
    }
    rml_plan_close(plan);
out:
    free(replay);
    return code;
}
