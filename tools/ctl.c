#include "tools/ctl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/check.h"
#include "runtime/base/err.h"
#include "runtime/base/rundir.h"
#include "runtime/plan/units.h"
#include "runtime/time/time.h"
#include "tools/exit.h"
#include "tools/pipelines.h"
#include "tools/usage.h"

#define OPTIONS_MAX 16
#define LIST_BYTES  300
#define LEAST_NS    1000000  // that --timeout may be

bool rml_ctl_duration(const char *option, const char *text, int64_t least_ns, int64_t *ret_ns)
{
    if (rml_duration_parse(text, strlen(text), ret_ns) == 0 && *ret_ns >= least_ns)
        return true;
    char least[32];
    rml_duration_print(least_ns, least);
    rml_usage_fail("%s: a duration such as 500ms or 2s is wanted, at least %s, not %s", option,
                   least, text);
    return false;
}

bool rml_ctl_count(const char *option, const char *text, int64_t *ret_count)
{
    int64_t count;
    if (text == NULL)
        return true;
    if (rml_integer_parse(text, strlen(text), &count) == 0 && count >= 1) {
        *ret_count = count;
        return true;
    }
    rml_usage_fail("%s: a number is wanted, at least 1, not %s", option, text);
    return false;
}

static bool is_number(const char *word)
{
    return word != NULL && word[0] != '\0' && word[strspn(word, "0123456789")] == '\0';
}

bool rml_ctl_read(struct rml_ctl *ctl, const struct rml_args *args, int argc, char **argv,
                  int *ret_exit)
{
    const char *timeout = NULL;
    uint32_t timeout_count = 0;
    struct rml_option options[OPTIONS_MAX] = {
        {.name = "--json",
         .sentence = "Say it as JSON, with a \"schema\" that counts incompatible changes.",
         .ret_flag = &ctl->as_json},
        {.name = "--timeout",
         .value = "DURATION",
         .sentence = ctl->timeout_sentence != NULL
                         ? ctl->timeout_sentence
                         : "Wait at most so long for the pipeline's answer (5s, or as "
                           "$" RML_CTL_ANSWER " says); then exit 5.",
         .ret_values = &timeout,
         .ret_count = &timeout_count,
         .most = 1},
    };
    RML_CHECK(args->option_count + 2 <= OPTIONS_MAX && args->words_most <= RML_CTL_WORDS_MAX);
    for (uint32_t i = 0; i < args->option_count; i++)
        options[2 + i] = args->options[i];
    struct rml_args all = *args;
    all.options = options;
    all.option_count = args->option_count + 2;
    const char **words = ctl->words;
    if (!rml_args_read(&all, argc, argv, words, &ctl->word_count, ret_exit))
        return false;
    uint32_t word_count = ctl->wants_words ? 0 : ctl->word_count;
    ctl->stage = ctl->wants_stage ? words[--word_count] : NULL;
    uint32_t first = ctl->wants_verb;
    ctl->verb = ctl->wants_verb ? words[0] : NULL;
    ctl->pipeline = word_count > first ? words[first] : NULL;
    ctl->epoch = word_count > first + 1 ? words[first + 1] : NULL;
    if (ctl->wants_verb && ctl->epoch == NULL && is_number(ctl->pipeline)) {
        ctl->epoch = ctl->pipeline;  // no pipeline has such a name
        ctl->pipeline = NULL;
    }
    ctl->timeout_ns = RML_CTL_TIMEOUT_NONE;
    ctl->answer_ns = ctl->answer_ns > 0 ? ctl->answer_ns : RML_CTL_ANSWER_NS;
    const char *answer = getenv(RML_CTL_ANSWER);
    bool is_said = answer != NULL && answer[0] != '\0';
    if ((timeout_count > 0 && !rml_ctl_duration("--timeout", timeout, LEAST_NS, &ctl->timeout_ns))
        || (is_said && !rml_ctl_duration(RML_CTL_ANSWER, answer, LEAST_NS, &ctl->answer_ns))) {
        *ret_exit = RML_EXIT_USAGE;
        return false;
    }
    return true;
}

int64_t rml_ctl_answer_ns(const struct rml_ctl *ctl)
{
    if (ctl->timeout_ns == RML_CTL_TIMEOUT_NONE)
        return ctl->answer_ns;
    // where it limits something longer, an answer has its own limit within
    bool is_for_more = ctl->timeout_sentence != NULL;
    return is_for_more && ctl->timeout_ns > ctl->answer_ns ? ctl->answer_ns : ctl->timeout_ns;
}

int rml_ctl_fail(int rc, const char *sentence)
{
    if (rc == -EINVAL)
        return rml_usage_fail("%s", sentence);
    fprintf(stderr, "ringctl: %s\n", sentence);
    switch (rc) {
    case -ENOENT:
    case -EAGAIN:
    case -EPIPE:
        return RML_EXIT_NOT_RUNNING;
    case -EOWNERDEAD:
        return RML_EXIT_DEAD;
    case -ETIMEDOUT:
    case -EINPROGRESS:
        return RML_EXIT_TIMEOUT;
    case -EPROTONOSUPPORT:
        return RML_EXIT_VERSION;
    case -EACCES:
    case -EPERM:
        return RML_EXIT_PERMISSION;
    default:
        return RML_EXIT_FAILED;
    }
}

// The names of those that run, with commas.
static void list_running(const struct rml_pipelines *pipelines, char text[LIST_BYTES])
{
    size_t used = 0;
    text[0] = '\0';
    for (uint32_t i = 0; i < pipelines->count && used < LIST_BYTES; i++) {
        if (pipelines->list[i].rc == 0 && rml_claim_is_held(pipelines->list[i].claim))
            used += (size_t)snprintf(text + used, LIST_BYTES - used, "%s%s", used > 0 ? ", " : "",
                                     pipelines->list[i].name);
    }
}

// The only one that runs; a sentence about what else there is.
static int only_one(const struct rml_pipelines *pipelines, char name[RML_WIRE_NAME],
                    struct rml_err *err)
{
    uint32_t running = 0, dead = 0;
    const struct rml_pipeline *dead_one = NULL;
    for (uint32_t i = 0; i < pipelines->count; i++) {
        const struct rml_pipeline *one = &pipelines->list[i];
        if (one->rc == 0 && rml_claim_is_held(one->claim) && running++ == 0)
            memcpy(name, one->name, RML_WIRE_NAME);
        if (one->rc == 0 && one->claim == RML_CLAIM_LEFT && dead++ == 0)
            dead_one = one;
    }
    char list[LIST_BYTES];
    list_running(pipelines, list);
    if (running > 1)
        return RML_FAIL(err, -EINVAL, "%u pipelines are running: say which of %s", running, list);
    if (running == 0 && dead == 1)
        return RML_FAIL(err, -EOWNERDEAD,
                        "no pipeline is running; %s is dead: `ringmill run` of its file starts it "
                        "again, `ringctl clean` removes what it left",
                        dead_one->name);
    if (running == 0 && dead > 1)
        return RML_FAIL(err, -EOWNERDEAD,
                        "no pipeline is running; %u are dead: `ringctl ls` shows which", dead);
    char path[300];
    if (running == 1)
        return 0;
    return rml_rundir(path, sizeof path) < 0
               ? RML_FAIL(err, -ENOENT, "no pipeline is running")
               : RML_FAIL(err, -ENOENT, "no pipeline is running in the run directory %s", path);
}

static int choose(char name[RML_WIRE_NAME], struct rml_err *err)
{
    struct rml_pipelines pipelines;
    int rc = rml_pipelines_open(&pipelines, err);
    if (rc == -EACCES)
        return RML_WRAP(err, rc, "name the pipeline: which ones run is not shown to you");
    if (rc < 0)
        return rc;
    rc = only_one(&pipelines, name, err);
    rml_pipelines_close(&pipelines);
    return rc;
}

// Behind the sentence that `name` does not run: what does.
static void suggest(const char *name, struct rml_err *err)
{
    struct rml_pipelines pipelines;
    if (rml_pipelines_open(&pipelines, NULL) < 0)
        return;
    const char *near = rml_pipelines_near(&pipelines, name);
    char list[LIST_BYTES];
    list_running(&pipelines, list);
    size_t used = strlen(err->text);
    if (near != NULL)
        snprintf(err->text + used, sizeof err->text - used, "; did you mean %s?", near);
    else if (list[0] != '\0')
        snprintf(err->text + used, sizeof err->text - used, "; running: %s", list);
    rml_pipelines_close(&pipelines);
}

int rml_ctl_open(const struct rml_ctl *ctl, struct rml_view *ret_view)
{
    struct rml_err err = {0};
    char name[RML_WIRE_NAME];
    const char *pipeline = ctl->pipeline;
    *ret_view = RML_VIEW_CLOSED;
    if (pipeline == NULL) {
        int rc = choose(name, &err);
        if (rc < 0)
            return rml_ctl_fail(rc, err.text);
        pipeline = name;
    }
    int rc = ctl->to_end != NULL
                 ? rml_view_open_to_end(ret_view, pipeline, rml_ctl_answer_ns(ctl), &err)
                 : rml_view_open(ret_view, pipeline, rml_ctl_answer_ns(ctl), &err);
    if (rc == -ENOENT)
        suggest(pipeline, &err);
    if (ctl->to_end != NULL && (rc == -EAGAIN || rc == -ETIMEDOUT || rc == -EINPROGRESS))
        rml_err_prefix(&err, rc, "not told to %s yet, ask again", ctl->to_end);
    return rc < 0 ? rml_ctl_fail(rc, err.text) : RML_EXIT_OK;
}

int rml_ctl_run(struct rml_ctl *ctl, const struct rml_args *args, int argc, char **argv,
                int (*show)(const struct rml_ctl *ctl, struct rml_view *view))
{
    struct rml_args with_words = *args;
    with_words.words_least = ctl->wants_stage;
    with_words.words_most = 1 + (uint32_t)ctl->wants_stage;
    struct rml_view view;
    int code;
    if (!rml_ctl_read(ctl, &with_words, argc, argv, &code))
        return code;
    code = rml_ctl_open(ctl, &view);
    if (code == RML_EXIT_OK)
        code = show(ctl, &view);
    rml_view_close(&view);
    return code;
}

int rml_ctl_ended(const struct rml_view *view)
{
    bool died = rml_view_died(view);
    fprintf(stderr, "ringctl: pipeline %s has %s\n", view->pipeline, died ? "died" : "ended");
    return died ? RML_EXIT_DEAD : RML_EXIT_OK;
}

const char *rml_ctl_state(const struct rml_board *board)
{
    switch (rml_board_state(board)) {
    case RML_BOARD_STARTING:
        return "starting";
    case RML_BOARD_RUNNING:
        return "running";
    case RML_BOARD_DRAINING:
        return "draining";
    case RML_BOARD_ENDED:
        return "ended";
    case RML_BOARD_RESTARTING:
        return "restarting";
    }
    return "?";
}

uint32_t rml_ctl_lanes(const struct rml_board *board)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < board->head->lanes_max; i++) {
        struct rml_board_lane lane;
        rml_board_lane_read(board, i, &lane);
        count += lane.state != RML_BOARD_LANE_FREE;
    }
    return count;
}

void rml_ctl_second(int64_t ns, char text[40])
{
    rml_time_print_rfc3339(rml_time_floor_div(ns, 1000000000) * 1000000000, text);
}
