/*
 * ringmill-llm-rows - a subscriber process: shows the seconds of the pipeline `llm` as they close,
 * until the pipeline ends.
 *
 *     ringmill-llm-rows llm/per_second [TALLY]
 *
 * TALLY is a descriptor that `ringmill demo` passes on (tally.h). It links the client library alone.
 */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "llm.h"
#include "runtime/client/subscribe.h"
#include "tools/llm/tally.h"
#include "tools/llm/usage.h"

#define PROGRAM      "ringmill-llm-rows"
#define WINDOWS_KEPT 8u   // corrections reach back by three seconds
#define MODELS_MAX   64u  // that a second is shown of
#define SHOWN        5u
#define QUIET_NS     INT64_C(20000000)  // no row for so long: the second's rows are all there

struct second {
    int64_t start_ns;
    uint32_t models;
    bool shown;
    int64_t latency_ns;  // of its first row; -1: not measured
    struct per_second_row rows[MODELS_MAX];
};

struct watch {
    struct rml_subscriber *subscriber;
    struct llm_tally *tally;
    struct second seconds[WINDOWS_KEPT];
    uint32_t waiting;  // seconds that are not shown yet
    uint64_t counted;
    uint32_t samples;
};

/* Showing */

static int by_calls(const void *left, const void *right)
{
    const struct per_second_row *a = left, *b = right;
    return (a->calls < b->calls) - (a->calls > b->calls);
}

static double percent(uint64_t part, uint64_t whole)
{
    return whole == 0 ? 0 : 100 * (double)part / (double)whole;
}

static void show(struct second *second)
{
    uint64_t calls = 0, errors = 0;
    for (uint32_t i = 0; i < second->models; i++) {
        calls += second->rows[i].calls;
        errors += second->rows[i].errors;
    }
    time_t seconds = (time_t)(second->start_ns / 1000000000);
    struct tm utc;
    gmtime_r(&seconds, &utc);
    printf("\n%02d:%02d:%02d  %" PRIu64 " calls of %u models, %.1f %% failed", utc.tm_hour,
           utc.tm_min, utc.tm_sec, calls, second->models, percent(errors, calls));
    if (second->latency_ns >= 0)
        printf("; here %.2f ms after it closed", (double)second->latency_ns * 1e-6);
    printf("\n  model               calls   failed    avg ms    p99 ms  M tokens\n");
    qsort(second->rows, second->models, sizeof second->rows[0], by_calls);
    for (uint32_t i = 0; i < second->models && i < SHOWN; i++) {
        const struct per_second_row *row = &second->rows[i];
        printf("  %-14.16s %10" PRIu64 " %6.1f %% %9.0f %9.0f %9.2f\n", row->model, row->calls,
               percent(row->errors, row->calls), row->avg_ms, row->p99_ms,
               (double)row->tokens * 1e-6);
    }
    if (second->models > SHOWN)
        printf("  and %u more\n", second->models - SHOWN);
    fflush(stdout);
    second->shown = true;
}

static struct second *oldest_waiting(struct watch *watch)
{
    struct second *oldest = NULL;
    for (uint32_t i = 0; i < WINDOWS_KEPT; i++) {
        struct second *second = &watch->seconds[i];
        if (!second->shown && (oldest == NULL || second->start_ns < oldest->start_ns))
            oldest = second;
    }
    return oldest;
}

/* Show what has come and is not shown yet, the oldest first. */
static void show_all(struct watch *watch)
{
    for (struct second *oldest; (oldest = oldest_waiting(watch)) != NULL; watch->waiting--)
        show(oldest);
}

/* Measuring */

// From when the last producer could let the window close until now; -1: that is not known.
static int64_t latency_of(const struct watch *watch, const struct per_second_row *row)
{
    int64_t now = llm_monotonic_ns(), last = 0;
    if (watch->tally == NULL || row->revision > 0)
        return -1;
    int window = llm_tally_window(watch->tally, row->window_end);
    for (uint32_t i = 0; window >= 0 && i < watch->tally->producer_count; i++) {
        _Atomic int64_t *word = &watch->tally->producers[i].closed_ns[window];
        // relaxed: written before the record that let this row come to be was published
        int64_t closed = atomic_load_explicit(word, memory_order_relaxed);
        if (closed == 0)  // it has not come so far: something else than a record closed the window
            return -1;
        last = closed > last ? closed : last;
    }
    return last == 0 || last > now ? -1 : now - last;
}

static void keep_sample(struct watch *watch, int64_t latency_ns)
{
    if (latency_ns < 0 || watch->samples == LLM_SAMPLES_MAX)
        return;
    watch->tally->rows.sample_ns[watch->samples++] = latency_ns;
}

static void sum_up(const struct watch *watch)
{
    if (watch->tally == NULL)
        return;
    struct llm_tally_rows *account = &watch->tally->rows;
    account->counted = watch->counted;
    account->missed = rml_subscriber_missed(watch->subscriber);
    account->sample_count = watch->samples;
}

/* Taking rows */

static struct second *find_second(struct watch *watch, int64_t start_ns)
{
    struct second *oldest = &watch->seconds[0];
    for (uint32_t i = 0; i < WINDOWS_KEPT; i++) {
        struct second *second = &watch->seconds[i];
        if (second->start_ns == start_ns)
            return second;
        if (second->start_ns < oldest->start_ns)
            oldest = second;
    }
    if (!oldest->shown)
        show_all(watch);
    *oldest = (struct second){.start_ns = start_ns, .latency_ns = -1};
    watch->waiting++;
    return oldest;
}

// 0, or -E2BIG when there are more models than can be added up.
static int take(struct watch *watch, const struct per_second_row *row)
{
    int64_t latency = latency_of(watch, row);
    struct second *second = find_second(watch, row->window_start);
    uint32_t i = 0;
    while (i < second->models && memcmp(second->rows[i].model, row->model, sizeof row->model) != 0)
        i++;
    if (i == MODELS_MAX)
        return -E2BIG;
    if (i == second->models) {
        second->models++;
        second->rows[i].calls = 0;
    }
    watch->counted += row->calls - second->rows[i].calls;  // what a correction adds
    second->rows[i] = *row;
    keep_sample(watch, latency);
    if (second->latency_ns < 0)
        second->latency_ns = latency;
    return 0;
}

static int follow(struct watch *watch)
{
    int rc = 0;
    while (rc >= 0) {
        struct per_second_row row;
        rc = rml_subscriber_wait(watch->subscriber, watch->waiting > 0 ? QUIET_NS : -1);
        if (rc == 0)
            show_all(watch);
        while (rc >= 0 && rml_subscriber_read(watch->subscriber, &row, NULL) > 0)
            rc = take(watch, &row);
    }
    show_all(watch);
    return rc;
}

int main(int argc, char **argv)
{
    static struct watch watch;
    if (argc == 2 && strcmp(argv[1], "--help") == 0) {
        printf(
            "usage: ringmill-llm-rows PIPELINE/STAGE [TALLY]\n\n"
            "Show the seconds of a stage like `per_second` of `ringmill demo` as they close, until\n"
            "the pipeline ends; with TALLY, count for the demo.\n");
        return 0;
    }
    if (argc < 2)
        return llm_usage_fail(PROGRAM, "PIPELINE/STAGE is missing");
    if (argc > 3)
        return llm_usage_fail(PROGRAM, "%s is one word too many", argv[3]);
    if (argc > 2 && (watch.tally = llm_tally_attach(argv[2])) == NULL)
        return llm_usage_fail(
            PROGRAM, "TALLY is a descriptor that `ringmill demo` passes on, not %s", argv[2]);
    for (uint32_t i = 0; i < WINDOWS_KEPT; i++)
        watch.seconds[i] = (struct second){.start_ns = INT64_MIN, .shown = true};
    char error[RML_SUBSCRIBER_ERROR_BYTES];
    const struct rml_subscriber_options options = {.open_ns = LLM_PATIENCE_NS};
    int rc = rml_subscriber_open(&watch.subscriber, argv[1], PER_SECOND_ROW_SCHEMA_HASH,
                                 sizeof(struct per_second_row), &options, error, sizeof error);
    if (rc < 0) {
        fprintf(stderr, "ringmill-llm-rows: %s\n", error);
        return 1;
    }
    if (watch.tally != NULL) {
        // relaxed: the engine has let us in, and this word carries nothing else
        atomic_store_explicit(&watch.tally->rows.is_there, 1, memory_order_relaxed);
    }
    rc = follow(&watch);
    sum_up(&watch);
    rml_subscriber_close(watch.subscriber);
    if (rc == -EPIPE)  // the pipeline has ended, and all is read
        return 0;
    fprintf(stderr, "ringmill-llm-rows: %s: %s\n", argv[1], strerrordesc_np(-rc));
    return 1;
}
