#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "operators/registry.h"
#include "runtime/base/err.h"
#include "runtime/lane/wire.h"
#include "runtime/plan/plan.h"
#include "runtime/time/clock.h"
#include "tools/args.h"
#include "tools/children.h"
#include "tools/commands.h"
#include "tools/exit.h"
#include "tools/llm/tally.h"
#include "tools/llm_yaml.h"
#include "tools/usage.h"

#define SECOND        INT64_C(1000000000)
#define LOOK_AGAIN_NS INT64_C(5000000)
#define WORD          32
#define SEED          "1"
#define NONE          UINT32_MAX  // no such child was started

struct demo {
    uint64_t seconds, producers, rate;
    struct rml_children children;
    uint32_t engine, rows, first_producer;  // indices of children
    char folder[4096];                      // where this program lies
    char source[2 * RML_WIRE_NAME + 2], stage[2 * RML_WIRE_NAME + 2];
    const char *pipeline;
    struct llm_tally *tally;
    int tally_fd;
    char tally_word[WORD];
    bool interrupted;
};

__attribute__((format(printf, 1, 2))) static void say(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fputs("demo: ", stdout);
    vprintf(format, args);
    fputc('\n', stdout);
    va_end(args);
    fflush(stdout);
}

/* Setting up */

static int open_tally(struct demo *demo, const struct rml_plan *plan, struct rml_err *err)
{
    demo->tally_fd = memfd_create("ringmill-demo", MFD_CLOEXEC);
    if (demo->tally_fd < 0 || ftruncate(demo->tally_fd, sizeof *demo->tally) < 0)
        return RML_FAIL(err, -errno, "no memory to share: %s", strerrordesc_np(errno));
    snprintf(demo->tally_word, sizeof demo->tally_word, "%d", demo->tally_fd);
    demo->tally = llm_tally_attach(demo->tally_word);
    if (demo->tally == NULL)
        return RML_FAIL(err, -ENOMEM, "no memory to share");
    uint32_t stage = rml_plan_stage_find(plan, "per_second");
    int64_t size = plan->stages[stage].window.size_ns;
    int64_t now = rml_clock_system.wall_ns(rml_clock_system.context);
    demo->tally->window_ns = size;
    demo->tally->first_end_ns = (now / size + 1) * size;
    demo->tally->out_of_order_ns = plan->sources[plan->stages[stage].source].out_of_order_ns;
    demo->tally->producer_count = (uint32_t)demo->producers;
    return 0;
}

/* The pipeline file as a descriptor, to be an engine's standard input. */
static int open_pipeline_file(struct rml_err *err)
{
    int fd = memfd_create("llm.yaml", MFD_CLOEXEC);
    if (fd < 0 || write(fd, rml_llm_yaml, rml_llm_yaml_length) != (ssize_t)rml_llm_yaml_length
        || lseek(fd, 0, SEEK_SET) < 0)
        return RML_FAIL(err, -errno, "no memory for the pipeline file: %s", strerrordesc_np(errno));
    return fd;
}

/* A program that came with this one: beside it where they were built, or where they are installed. */
static const char *helper(const struct demo *demo, const char *name, char *path, size_t bytes)
{
    snprintf(path, bytes, "%s/%s", demo->folder, name);
    if (access(path, X_OK) < 0)
        snprintf(path, bytes, "%s/%s/%s", demo->folder, RML_LIBEXEC, name);
    return path;
}

/* Wait until `is_there`; false when it will not be: a child ended, or one wants us to end. */
static bool wait_until(struct demo *demo, const char *what, bool (*is_there)(const struct demo *))
{
    int64_t end = rml_clock_system.monotonic_ns(NULL) + LLM_PATIENCE_NS;
    while (!is_there(demo)) {
        switch (rml_children_wait(&demo->children, LOOK_AGAIN_NS)) {
        case RML_CHILDREN_ENDED:
            return false;
        case RML_CHILDREN_SIGNALLED:
            demo->interrupted = true;
            return false;
        case RML_CHILDREN_NOTHING:
            break;
        }
        if (rml_clock_system.monotonic_ns(NULL) > end) {
            fprintf(stderr, "demo: waited for %s in vain\n", what);
            return false;
        }
    }
    return true;
}

/* Does our engine answer, and not another of the same name? */
static bool engine_answers(const struct demo *demo)
{
    struct rml_err err = {0};
    struct ucred peer = {0};
    socklen_t bytes = sizeof peer;
    int fd = rml_wire_connect(demo->pipeline, SECOND, &err);
    if (fd < 0)
        return false;
    bool ours = getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &bytes) == 0
                && peer.pid == demo->children.child[demo->engine].pid;
    close(fd);
    return ours;
}

static bool rows_are_seen(const struct demo *demo)
{
    // relaxed: the engine has let it in, and this word carries nothing else
    return atomic_load_explicit(&demo->tally->rows.is_there, memory_order_relaxed) != 0;
}

/* Starting */

static bool start_engine(struct demo *demo, struct rml_err *err)
{
    char path[8192];
    int input = open_pipeline_file(err);
    if (input < 0)
        return false;
    const char *const argv[] = {"ringmill", "run", "-", NULL};
    const struct rml_child_options options = {
        .name = "the engine",
        .path = helper(demo, "ringmill", path, sizeof path),
        .argv = argv,
        .input = input,
        .keep = -1,
    };
    say("an engine process runs docs/examples/llm.yaml (ringmill run)");
    int index = rml_child_start(&demo->children, &options, err);
    close(input);
    if (index < 0)
        return false;
    demo->engine = (uint32_t)index;
    return wait_until(demo, "the engine", engine_answers);
}

static bool start_rows(struct demo *demo, struct rml_err *err)
{
    char path[8192];
    const char *const argv[] = {"ringmill-llm-rows", demo->stage, demo->tally_word, NULL};
    const struct rml_child_options options = {
        .name = "the subscriber",
        .path = helper(demo, argv[0], path, sizeof path),
        .argv = argv,
        .input = -1,
        .keep = demo->tally_fd,
    };
    say("a subscriber process shows the rows of %s (tools/llm/rows.c)", demo->stage);
    int index = rml_child_start(&demo->children, &options, err);
    if (index < 0)
        return false;
    demo->rows = (uint32_t)index;
    return wait_until(demo, "the subscriber", rows_are_seen);
}

static bool start_producers(struct demo *demo, struct rml_err *err)
{
    char path[8192], rate[WORD], number[WORD];
    const char *const argv[] = {"ringmill-llm-calls", demo->source, rate, SEED, number,
                                demo->tally_word,     NULL};
    const struct rml_child_options options = {
        .name = "a producer",
        .path = helper(demo, argv[0], path, sizeof path),
        .argv = argv,
        .input = -1,
        .keep = demo->tally_fd,
    };
    say("%" PRIu64 " producer process%s %" PRIu64 " calls a second for %" PRIu64
        " s (tools/llm/calls.c)",
        demo->producers, demo->producers == 1 ? " writes" : "es write", demo->rate, demo->seconds);
    snprintf(rate, sizeof rate, "%.3f", (double)demo->rate / (double)demo->producers);
    demo->first_producer = demo->children.count;
    for (uint64_t i = 0; i < demo->producers; i++) {
        snprintf(number, sizeof number, "%" PRIu64, i);
        if (rml_child_start(&demo->children, &options, err) < 0)
            return false;
    }
    return true;
}

static bool start(struct demo *demo, struct rml_err *err)
{
    return start_engine(demo, err) && start_rows(demo, err) && start_producers(demo, err);
}

/* Ending */

/* Producers first, then the engine, which drains; the subscriber ends once it has read the last row.
 * True: all of them ended well. */
static bool end_producers(struct demo *demo)
{
    struct rml_children *children = &demo->children;
    if (demo->first_producer == NONE)
        return true;
    say("the producers end");
    for (uint32_t i = demo->first_producer; i < children->count; i++)
        rml_child_signal(&children->child[i], SIGTERM);
    bool well = true;
    for (uint32_t i = demo->first_producer; i < children->count; i++)
        well = rml_child_join(children, i, LLM_PATIENCE_NS) && well;
    return well;
}

/* Somebody else had the engine drain: the producers, which have ended, say so. */
static bool was_drained(const struct llm_tally *tally)
{
    bool any = false;
    for (uint32_t i = 0; i < tally->producer_count; i++)
        any = any || tally->producers[i].was_drained;
    return any;
}

static bool wind_down(struct demo *demo)
{
    struct rml_children *children = &demo->children;
    bool well = end_producers(demo);
    if (demo->engine != NONE) {
        struct rml_child *engine = &children->child[demo->engine];
        if (!engine->ended)
            say("the engine drains: what was published is taken, all windows fire");
        if (!was_drained(demo->tally))  // a signal on top of that would stop it at once
            rml_child_signal(engine, SIGTERM);
        well = rml_child_join(children, demo->engine, LLM_PATIENCE_NS) && well;
    }
    if (demo->rows != NONE)
        well = rml_child_join(children, demo->rows, LLM_PATIENCE_NS) && well;
    return well;
}

static int by_size(const void *left, const void *right)
{
    int64_t a = *(const int64_t *)left, b = *(const int64_t *)right;
    return (a > b) - (a < b);
}

static void print_latency(struct llm_tally_rows *rows)
{
    int64_t *samples = rows->sample_ns;
    uint32_t count = rows->sample_count;
    if (count == 0) {
        printf("latency  no second closed while records came\n");
        return;
    }
    uint32_t half = count / 2, most = count - 1, p99 = most * 99 / 100;
    qsort(samples, count, sizeof samples[0], by_size);
    printf("latency  p50 %.2f ms, p99 %.2f ms, max %.2f ms over %u rows: from just before the put\n"
           "         of the record that let a second close, to its row read by the subscriber\n",
           (double)samples[half] * 1e-6, (double)samples[p99] * 1e-6, (double)samples[most] * 1e-6,
           count);
}

struct sums {
    uint64_t written, gone;
    int64_t first_ns, last_ns;
};

static struct sums add_up(const struct llm_tally *tally)
{
    struct sums sums = {.first_ns = INT64_MAX};
    for (uint32_t i = 0; i < tally->producer_count; i++) {
        const struct llm_tally_producer *producer = &tally->producers[i];
        sums.written += producer->written;
        sums.gone += producer->gone;
        sums.first_ns = producer->first_ns < sums.first_ns ? producer->first_ns : sums.first_ns;
        sums.last_ns = producer->last_ns > sums.last_ns ? producer->last_ns : sums.last_ns;
    }
    return sums;
}

static bool sum_up(const struct demo *demo)
{
    const struct sums sums = add_up(demo->tally);
    struct llm_tally_rows *rows = &demo->tally->rows;
    double seconds = (double)(sums.last_ns - sums.first_ns) * 1e-9;
    bool drained = was_drained(demo->tally);
    uint64_t left = sums.written - rows->counted - sums.gone;
    bool holds = rows->missed == 0 && (left == 0 || (drained && left < sums.written));
    printf("\nrate     %.0f records/s: %" PRIu64 " in %.2f s, from %" PRIu64 " process%s\n",
           (double)sums.written / seconds, sums.written, seconds, demo->producers,
           demo->producers == 1 ? "" : "es");
    print_latency(rows);
    printf("balance  %" PRIu64 " written %s %" PRIu64 " counted in rows + %" PRIu64 " filtered out",
           sums.written, holds ? "=" : "IS NOT", rows->counted, sums.gone);
    if (drained)
        printf(" + %" PRIu64 " that came when it was drained", left);
    if (rows->missed > 0)
        printf("; the subscriber missed %" PRIu64 " rows", rows->missed);
    printf("\n");
    return holds;
}

/* The whole */

static int run(struct demo *demo, const struct rml_plan *plan)
{
    struct rml_err err = {0};
    demo->pipeline = plan->name;
    snprintf(demo->source, sizeof demo->source, "%s/%s", plan->name, plan->sources[0].name);
    snprintf(demo->stage, sizeof demo->stage, "%s/per_second", plan->name);
    if (open_tally(demo, plan, &err) < 0) {
        fprintf(stderr, "demo: %s\n", err.text);
        return RML_EXIT_FAILED;
    }
    rml_children_open(&demo->children);
    bool started = start(demo, &err);
    if (started) {
        say("from another terminal: %s/ringctl status %s", demo->folder, demo->pipeline);
        enum rml_children_news news =
            rml_children_wait(&demo->children, (int64_t)demo->seconds * SECOND);
        demo->interrupted = news == RML_CHILDREN_SIGNALLED;
        if (news == RML_CHILDREN_ENDED)
            say("a process has ended before its time");
    }
    if (err.code != 0)
        fprintf(stderr, "demo: %s\n", err.text);
    if (demo->interrupted)
        say("interrupted");
    bool well = wind_down(demo);
    if (!started)
        return demo->interrupted && well ? RML_EXIT_OK : RML_EXIT_FAILED;
    return well && sum_up(demo) ? RML_EXIT_OK : RML_EXIT_FAILED;
}

static int run_embedded(struct demo *demo)
{
    struct rml_plan *plan = NULL;
    struct rml_plan_errors errors;
    struct rml_err err = {0};
    int rc = rml_plan_parse(rml_llm_yaml, rml_llm_yaml_length, "llm.yaml",
                            rml_operators_functions(), &plan, &errors, &err);
    rml_plan_errors_fini(&errors);
    if (rc < 0) {
        fprintf(stderr, "demo: llm.yaml: %s\n", err.text);
        return RML_EXIT_FAILED;
    }
    ssize_t length = readlink("/proc/self/exe", demo->folder, sizeof demo->folder - 1);
    while (length > 0 && demo->folder[length] != '/')
        length--;
    if (length >= 0)
        demo->folder[length] = '\0';
    rc = run(demo, plan);
    rml_plan_close(plan);
    return rc;
}

static bool take_number(const char *option, const char *word, uint64_t most, uint64_t *ret_value)
{
    char *end;
    errno = 0;
    unsigned long value = strtoul(word, &end, 10);
    if (word[0] < '0' || word[0] > '9' || *end != '\0' || errno != 0 || value == 0
        || value > most) {
        rml_usage_fail("%s takes a number from 1 to %" PRIu64 ", got %s", option, most, word);
        return false;
    }
    *ret_value = value;
    return true;
}

int rml_cmd_demo(int argc, char **argv)
{
    const char *seconds = "10", *producers = "3", *rate = "1000000";
    uint32_t counts[3] = {0};
    const struct rml_option options[] = {
        {.name = "--seconds",
         .value = "N",
         .sentence = "How long producers write; 10 unless set.",
         .ret_values = &seconds,
         .ret_count = &counts[0],
         .most = 1},
        {.name = "--producers",
         .value = "N",
         .sentence = "How many processes write; 3 unless set.",
         .ret_values = &producers,
         .ret_count = &counts[1],
         .most = 1},
        {.name = "--rate",
         .value = "N",
         .sentence = "Calls a second on average, of all producers together; 1000000 unless set.",
         .ret_values = &rate,
         .ret_count = &counts[2],
         .most = 1},
    };
    const struct rml_args args = {
        .usage = "ringmill demo [--seconds N] [--producers N] [--rate N]",
        .sentence =
            "Show a pipeline at work: an engine, producers that write made-up calls to language "
            "models, and a subscriber that shows the rows, each a process of its own. At the end it "
            "prints rate, latency and balance; the exit code is 1 when the balance does not hold. "
            "Ctrl-C ends it early, and as cleanly.",
        .options = options,
        .option_count = sizeof options / sizeof options[0],
    };
    const char *no_words;
    uint32_t word_count;
    int code;
    if (!rml_args_read(&args, argc, argv, &no_words, &word_count, &code))
        return code;
    static struct demo demo;
    demo = (struct demo){.engine = NONE, .rows = NONE, .first_producer = NONE};
    if (!take_number("--seconds", seconds, 86400, &demo.seconds)
        || !take_number("--producers", producers, LLM_PRODUCERS_MAX, &demo.producers)
        || !take_number("--rate", rate, 1000000000, &demo.rate))
        return RML_EXIT_USAGE;
    return run_embedded(&demo);
}
