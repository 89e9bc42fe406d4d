/*
 * ringmill-llm-calls - a producer process: writes a made-up stream of calls to language models into a
 * running pipeline until SIGINT, SIGTERM, or the end of the pipeline.
 *
 *     ringmill-llm-calls llm/calls [RATE [SEED [NUMBER [TALLY]]]]
 *
 * RATE is calls a second on average, SEED makes the stream, NUMBER tells producers of one seed apart;
 * TALLY is a descriptor that `ringmill demo` passes on (tally.h). It links the client library alone.
 */
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "runtime/client/client.h"
#include "tools/llm/stream.h"
#include "tools/llm/tally.h"
#include "tools/llm/usage.h"

#define PROGRAM      "ringmill-llm-calls"
#define TICK_NS      INT64_C(1000000)
#define BEHIND_MAX_S 0.1  // what a producer that was held up does not make up for
#define CLOCK_EVERY  64   // calls that are reported at one moment

struct calls {
    struct rml_producer *producer;
    struct llm_stream stream;
    double rate;
    const struct llm_tally *tally;
    struct llm_tally_producer *account;
    int64_t closing_ns;  // a record of this time lets the window `closing` close
    int closing;
    uint64_t written, gone;
};

static volatile sig_atomic_t over;

static void on_signal(int number)
{
    (void)number;
    over = 1;
}

static int64_t wall_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void sleep_until(int64_t monotonic_ns)
{
    const struct timespec at = {.tv_sec = monotonic_ns / 1000000000,
                                .tv_nsec = monotonic_ns % 1000000000};
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
}

// A record of time `ts` is about to be put: note which windows it lets close, for the latency.
static void note_closing(struct calls *calls, int64_t ts)
{
    if (calls->account == NULL || ts < calls->closing_ns)
        return;
    int64_t now = llm_monotonic_ns();
    while (ts >= calls->closing_ns && calls->closing < LLM_WINDOWS_MAX) {
        _Atomic int64_t *closed = &calls->account->closed_ns[calls->closing++];
        // relaxed: whoever looks has a row that the record about to be put let come to be
        atomic_store_explicit(closed, now, memory_order_relaxed);
        calls->closing_ns += calls->tally->window_ns;
    }
}

// Report `due` calls, and let them be seen. 0, or what put says.
static int report(struct calls *calls, uint64_t due)
{
    int64_t now = 0;
    for (uint64_t i = 0; i < due && !over; i++) {
        struct llm_call call;
        if (i % CLOCK_EVERY == 0)
            now = wall_ns();
        llm_stream_next(&calls->stream, now, &call);
        note_closing(calls, call.ts);
        int rc = rml_producer_put(calls->producer, &call);
        if (rc < 0)
            return rc;
        calls->written += rc == 1;
        calls->gone += rc == 1 && call.status == 0;
    }
    return rml_producer_publish(calls->producer);
}

static int run(struct calls *calls)
{
    int64_t before = llm_monotonic_ns(), at = before;
    double due = 0;
    int rc = 0;
    while (rc == 0 && !over) {
        at += TICK_NS;
        sleep_until(at);
        int64_t now = llm_monotonic_ns();
        double seconds = (double)(now - before) * 1e-9;
        due += (seconds < BEHIND_MAX_S ? seconds : BEHIND_MAX_S) * calls->rate
               * llm_stream_load(wall_ns());
        before = now;
        if (at < now)
            at = now;
        rc = report(calls, (uint64_t)due);
        due -= (double)(uint64_t)due;
    }
    return rc;
}

static void sum_up(const struct calls *calls, int64_t began, bool was_drained)
{
    struct llm_tally_producer *account = calls->account;
    if (account == NULL)
        return;
    account->written = calls->written;
    account->gone = calls->gone;
    account->first_ns = began;
    account->last_ns = llm_monotonic_ns();
    account->was_drained = was_drained;
}

// False: the line makes no sense, and that is said.
static bool read_words(struct calls *calls, int argc, char **argv)
{
    if (argc < 2)
        llm_usage_fail(PROGRAM, "PIPELINE/SOURCE is missing");
    else if (argc > 6)
        llm_usage_fail(PROGRAM, "%s is one word too many", argv[6]);
    if (argc < 2 || argc > 6)
        return false;
    uint64_t seed = argc > 3 ? strtoull(argv[3], NULL, 10) : 1;
    uint32_t number = argc > 4 ? (uint32_t)strtoul(argv[4], NULL, 10) : 0;
    calls->rate = argc > 2 ? strtod(argv[2], NULL) : 1000;
    llm_stream_init(&calls->stream, seed, number);
    if (argc > 5) {
        struct llm_tally *tally = llm_tally_attach(argv[5]);
        if (tally == NULL || number >= LLM_PRODUCERS_MAX) {
            llm_usage_fail(
                PROGRAM,
                "TALLY is a descriptor that `ringmill demo` passes on, and NUMBER less than "
                "%u, not %s and %s",
                LLM_PRODUCERS_MAX, argv[5], argv[4]);
            return false;
        }
        calls->tally = tally;
        calls->account = &tally->producers[number];
        calls->closing_ns = tally->first_end_ns + tally->out_of_order_ns;
    }
    if (!(calls->rate > 0))
        llm_usage_fail(PROGRAM, "RATE is a number above 0, not %s", argv[2]);
    return calls->rate > 0;
}

int main(int argc, char **argv)
{
    struct calls calls = {0};
    if (argc == 2 && strcmp(argv[1], "--help") == 0) {
        printf(
            "usage: ringmill-llm-calls PIPELINE/SOURCE [RATE [SEED [NUMBER [TALLY]]]]\n\n"
            "Make up calls to language models and put them into a source with the schema of\n"
            "`ringmill demo`: RATE a second (1000), from SEED (1), as producer NUMBER (0) of those\n"
            "that count in the demo's TALLY.\n");
        return 0;
    }
    if (!read_words(&calls, argc, argv))
        return 2;
    const struct sigaction end = {.sa_handler = on_signal};
    sigaction(SIGINT, &end, NULL);
    sigaction(SIGTERM, &end, NULL);
    char error[RML_PRODUCER_ERROR_BYTES];
    const struct rml_producer_options options = {.wait_ns = LLM_PATIENCE_NS,
                                                 .open_ns = LLM_PATIENCE_NS};
    int rc = rml_producer_open(&calls.producer, argv[1], LLM_CALL_SCHEMA_HASH,
                               sizeof(struct llm_call), &options, error, sizeof error);
    if (rc < 0) {
        fprintf(stderr, "ringmill-llm-calls: %s\n", error);
        return 1;
    }
    int64_t began = llm_monotonic_ns();
    rc = run(&calls);
    if (rc == 0)
        rc = rml_producer_publish(calls.producer);  // it may have been drained a moment ago
    bool was_drained = false;
    if (rc < 0) {
        was_drained = rml_producer_reason(calls.producer, error, sizeof error) == ESHUTDOWN;
        fprintf(stderr, "ringmill-llm-calls: %s: %s\n", argv[1],
                error[0] != '\0' ? error : strerrordesc_np(-rc));
    }
    rml_producer_close(calls.producer);
    sum_up(&calls, began, was_drained);
    return rc < 0 && !was_drained;
}
