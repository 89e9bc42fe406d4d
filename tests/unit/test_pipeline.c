#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "operators/registry.h"
#include "runtime/plan/plan.h"
#include "runtime/ringmill.h"
#include "tests/support/test.h"

#define FEEDERS 4
#define RECORDS 20000

struct event {
    int64_t ts;
    uint64_t key;
    int64_t n;
};

struct sums_row {
    uint64_t null_mask;
    int64_t window_start, window_end;
    uint64_t key;
    uint32_t revision;
    uint64_t c;
    int64_t s;
};

static const char file[] =
    "version: 1\npipeline: embedded\n"
    "schema: {event: {ts: time_ns, key: u64, n: i64}}\n"
    "runtime: {workers: 2, partitions: 4, state_limit: 64MiB, lanes_max: 8}\n"
    "sources: {in: {schema: event, event_time: ts, partition_by: [key], cells: 1024}}\n"
    "stages:\n"
    "  odd: {from: in, filter: n % 2 != 0}\n"
    "  sums: {from: odd, key: key, window: {type: tumbling, size: 1us}, "
    "aggregate: {c: count(), s: sum(n)}}\n"
    "sinks: {out: {from: sums, type: csv, path: out.csv}}\n";

/* A pipeline in a folder of its own, and what came out of it. */
struct fixture {
    char folder[32], path[64], csv[64], error[RML_PIPELINE_ERROR_BYTES];
    struct rml_pipeline *pipeline;
    uint64_t event_hash, row_hash;
    uint64_t rows, records;
    int64_t sum, last_end;
};

static void read_hashes(struct fixture *f)
{
    struct rml_plan *plan = NULL;
    struct rml_plan_errors errors;
    assert_int_equal(rml_plan_load(f->path, rml_operators_functions(), &plan, &errors, NULL), 0);
    f->event_hash = plan->sources[0].schema.hash;
    f->row_hash = plan->stages[1].output.hash;
    rml_plan_errors_fini(&errors);
    rml_plan_close(plan);
}

static int set_up(void **state)
{
    static struct fixture fixture;
    struct fixture *f = *state = &fixture;
    memset(f, 0, sizeof *f);
    snprintf(f->folder, sizeof f->folder, "/tmp/ringmill-test-XXXXXX");
    assert_non_null(mkdtemp(f->folder));
    snprintf(f->path, sizeof f->path, "%.31s/embedded.yaml", f->folder);
    snprintf(f->csv, sizeof f->csv, "%.31s/out.csv", f->folder);
    FILE *out = fopen(f->path, "w");
    assert_non_null(out);
    assert_true(fputs(file, out) >= 0);
    assert_int_equal(fclose(out), 0);
    read_hashes(f);
    const struct rml_pipeline_options options = {.replay = 1};
    assert_int_equal(rml_pipeline_open(&f->pipeline, f->path, &options, f->error, sizeof f->error),
                     0);
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    rml_pipeline_close(f->pipeline);
    unlink(f->path);
    unlink(f->csv);
    return rmdir(f->folder);
}

static void keep(void *context, const void *record, uint64_t seq)
{
    struct fixture *f = context;
    const struct sums_row *row = record;
    (void)seq;
    assert_true(row->window_end >= f->last_end);  // of all partitions, in the order they fire
    f->last_end = row->window_end;
    f->rows++;
    f->records += row->c;
    f->sum += row->s;
}

static int want_rows(struct fixture *f, const char *stage)
{
    return rml_pipeline_rows(f->pipeline, stage, f->row_hash, sizeof(struct sums_row), keep, f,
                             f->error, sizeof f->error);
}

static int start(struct fixture *f)
{
    return rml_pipeline_start(f->pipeline, f->error, sizeof f->error);
}

static int open_feeder(struct fixture *f, const char *source, struct rml_feeder **feeder)
{
    return rml_feeder_open(feeder, f->pipeline, source, f->event_hash, sizeof(struct event),
                           f->error, sizeof f->error);
}

static uint64_t count(struct fixture *f, const char *of, const char *counter)
{
    uint64_t value = UINT64_MAX;
    assert_int_equal(rml_pipeline_count(f->pipeline, of, counter, &value), 0);
    return value;
}

static void *feed(void *context)
{
    struct rml_feeder *feeder = context;
    for (int64_t i = 0; i < RECORDS; i++) {
        const struct event event = {.ts = i * 10, .key = (uint64_t)i % 7, .n = i};
        if (rml_feeder_put(feeder, &event) != 1)
            return NULL;
    }
    rml_feeder_close(feeder);
    return feeder;
}

static void what_threads_feed_at_once_is_in_the_rows(void **state)
{
    struct fixture *f = *state;
    pthread_t threads[FEEDERS];
    struct rml_feeder *feeders[FEEDERS];
    assert_int_equal(want_rows(f, "sums"), 0);
    assert_int_equal(start(f), 0);
    for (int i = 0; i < FEEDERS; i++)
        assert_int_equal(open_feeder(f, "in", &feeders[i]), 0);
    for (int i = 0; i < FEEDERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, feed, feeders[i]), 0);
    for (int i = 0; i < FEEDERS; i++) {
        void *fed = NULL;
        assert_int_equal(pthread_join(threads[i], &fed), 0);
        assert_non_null(fed);
    }
    assert_int_equal(rml_pipeline_drain(f->pipeline), 0);
    // 200 windows of 100 records each from every feeder, half of them odd, over 7 keys
    assert_int_equal(f->rows, RECORDS / 100 * 7);
    assert_int_equal(f->records, FEEDERS * RECORDS / 2);
    assert_int_equal(f->sum, (int64_t)FEEDERS * (RECORDS / 2) * (RECORDS / 2));
    assert_int_equal(count(f, "in", "published"), FEEDERS * RECORDS);
    assert_int_equal(count(f, "in", "dropped"), 0);
    assert_int_equal(count(f, "in", "delivered"), FEEDERS * RECORDS);
    assert_int_equal(count(f, "odd", "filtered"), FEEDERS * RECORDS / 2);
    assert_int_equal(count(f, "sums", "aggregated"), FEEDERS * RECORDS / 2);
    assert_int_equal(access(f->csv, F_OK), -1);  // rows went to the function instead
}

static void rows_that_nobody_wants_go_to_the_files_beside_the_pipeline_file(void **state)
{
    struct fixture *f = *state;
    struct rml_feeder *feeder;
    assert_int_equal(start(f), 0);
    assert_int_equal(open_feeder(f, "in", &feeder), 0);
    assert_non_null(feed(feeder));
    assert_int_equal(rml_pipeline_drain(f->pipeline), 0);
    FILE *in = fopen(f->csv, "r");
    assert_non_null(in);
    uint64_t lines = 0;
    for (int c; (c = fgetc(in)) != EOF;)
        lines += c == '\n';
    assert_int_equal(fclose(in), 0);
    assert_int_equal(lines, 1 + RECORDS / 100 * 7);
}

static void a_feeder_that_is_open_at_the_drain_is_told_and_closes_well(void **state)
{
    struct fixture *f = *state;
    struct rml_feeder *feeder;
    const struct event event = {.ts = 5, .key = 1, .n = 1};
    assert_int_equal(want_rows(f, "sums"), 0);
    assert_int_equal(start(f), 0);
    assert_int_equal(open_feeder(f, "in", &feeder), 0);
    assert_int_equal(rml_feeder_put(feeder, &event), 1);
    assert_int_equal(rml_feeder_publish(feeder), 0);
    assert_int_equal(rml_pipeline_drain(f->pipeline), 0);
    assert_int_equal(f->records, 1);
    assert_int_equal(rml_feeder_publish(feeder), -EPIPE);
    rml_feeder_close(feeder);
    assert_int_equal(count(f, "in", "published"), 1);
}

/* A function for rows that is held up, and a feeder that goes on until the drain. */
struct hold_up {
    sem_t row_came, told;
    struct rml_feeder *feeder;
    int last_put;
};

static void hold(void *context, const void *record, uint64_t seq)
{
    struct hold_up *h = context;
    (void)record;
    if (seq > 0)
        return;
    sem_post(&h->row_came);
    sem_wait(&h->told);
    sem_post(&h->told);  // for the first row of the next partition
}

static void *feed_for_ever(void *context)
{
    struct hold_up *h = context;
    for (int64_t i = 0;; i++) {
        const struct event event = {.ts = i * 10, .key = (uint64_t)i % 7, .n = 1};
        h->last_put = rml_feeder_put(h->feeder, &event);
        if (h->last_put != 1)
            break;
    }
    sem_post(&h->told);
    return NULL;
}

static void a_feeder_that_waits_for_room_is_told_of_the_drain(void **state)
{
    struct fixture *f = *state;
    struct hold_up h = {0};
    pthread_t thread;
    sem_init(&h.row_came, 0, 0);
    sem_init(&h.told, 0, 0);
    assert_int_equal(rml_pipeline_rows(f->pipeline, "sums", f->row_hash, sizeof(struct sums_row),
                                       hold, &h, f->error, sizeof f->error),
                     0);
    assert_int_equal(start(f), 0);
    assert_int_equal(open_feeder(f, "in", &h.feeder), 0);
    assert_int_equal(pthread_create(&thread, NULL, feed_for_ever, &h), 0);
    sem_wait(&h.row_came);
    // No row is delivered until the feeder has been told, and so no room comes either.
    assert_int_equal(rml_pipeline_drain(f->pipeline), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(h.last_put, -EPIPE);
    rml_feeder_close(h.feeder);
    sem_destroy(&h.row_came);
    sem_destroy(&h.told);
}

static void lanes_of_closed_feeders_are_used_again(void **state)
{
    struct fixture *f = *state;
    const struct event event = {.ts = 5, .key = 1, .n = 1};
    assert_int_equal(want_rows(f, "sums"), 0);
    assert_int_equal(start(f), 0);
    for (int i = 0; i < 100; i++) {  // with lanes_max 8
        struct rml_feeder *feeder;
        int rc;
        // a lane is free once its last record is taken, which a worker does in its own time
        while ((rc = open_feeder(f, "in", &feeder)) == -EMFILE)
            ;
        assert_int_equal(rc, 0);
        assert_int_equal(rml_feeder_put(feeder, &event), 1);
        rml_feeder_close(feeder);
    }
    assert_int_equal(rml_pipeline_drain(f->pipeline), 0);
    assert_int_equal(count(f, "in", "published"), 100);
    assert_int_equal(count(f, "sums", "in"), 100);
}

static void what_cannot_be_is_refused_with_a_sentence(void **state)
{
    struct fixture *f = *state;
    struct rml_feeder *feeder = NULL;
    uint64_t value;
    assert_int_equal(open_feeder(f, "in", &feeder), -ESHUTDOWN);
    assert_int_equal(rml_pipeline_drain(f->pipeline), -ESHUTDOWN);
    assert_int_equal(rml_pipeline_count(f->pipeline, "in", "taken", &value), -ESHUTDOWN);
    assert_int_equal(want_rows(f, "summs"), -ENOENT);
    assert_string_equal(f->error, "pipeline embedded has no stage summs");
    assert_int_equal(want_rows(f, "odd.late"), -ENOENT);
    assert_int_equal(want_rows(f, "odd"), -EPROTO);
    assert_non_null(strstr(f->error, "make the header again"));
    assert_int_equal(want_rows(f, "sums"), 0);
    assert_int_equal(want_rows(f, "sums"), -EEXIST);
    assert_int_equal(start(f), 0);
    assert_int_equal(start(f), -EBUSY);
    assert_int_equal(want_rows(f, "sums"), -EBUSY);
    assert_int_equal(open_feeder(f, "out", &feeder), -ENOENT);
    assert_int_equal(rml_feeder_open(&feeder, f->pipeline, "in", f->event_hash + 1,
                                     sizeof(struct event), f->error, sizeof f->error),
                     -EPROTO);
    assert_int_equal(rml_pipeline_count(f->pipeline, "in", "takn", &value), -ENOENT);
    assert_int_equal(rml_pipeline_count(f->pipeline, "summs", "in", &value), -ENOENT);
    assert_int_equal(rml_pipeline_drain(f->pipeline), 0);
    assert_int_equal(rml_pipeline_drain(f->pipeline), -ESHUTDOWN);
    assert_int_equal(open_feeder(f, "in", &feeder), -ESHUTDOWN);
    assert_null(feeder);
    rml_feeder_close(feeder);
}

static void keep_late(void *context, const void *record, uint64_t seq)
{
    struct fixture *f = context;
    const struct event *event = record;
    assert_int_equal(seq, f->rows++);
    f->sum += event->n;
}

static void late_rows_are_the_records_as_they_came(void **state)
{
    struct fixture *f = *state;
    struct rml_feeder *feeder;
    const struct event events[] = {{5000, 1, 1}, {5, 1, 33}, {4000, 1, 35}, {5001, 1, 1}};
    assert_int_equal(rml_pipeline_rows(f->pipeline, "sums.late", f->row_hash,
                                       sizeof(struct sums_row), keep_late, f, f->error,
                                       sizeof f->error),
                     -EPROTO);
    assert_int_equal(rml_pipeline_rows(f->pipeline, "sums.late", f->event_hash,
                                       sizeof(struct event), keep_late, f, f->error,
                                       sizeof f->error),
                     0);
    assert_int_equal(start(f), 0);
    assert_int_equal(open_feeder(f, "in", &feeder), 0);
    for (size_t i = 0; i < sizeof events / sizeof events[0]; i++)
        assert_int_equal(rml_feeder_put(feeder, &events[i]), 1);
    rml_feeder_close(feeder);
    assert_int_equal(rml_pipeline_drain(f->pipeline), 0);
    assert_int_equal(f->rows, 2);
    assert_int_equal(f->sum, 33 + 35);
}

static void a_file_that_cannot_be_is_told_with_all_its_errors(void **state)
{
    struct fixture *f = *state;
    struct rml_pipeline *pipeline = NULL;
    FILE *out = fopen(f->path, "w");
    assert_non_null(out);
    fputs("version: 1\npipeline: p\nsources: {in: {shema: event}}\nstages: {a: {form: in}}\n", out);
    assert_int_equal(fclose(out), 0);
    assert_int_equal(rml_pipeline_open(&pipeline, f->path, NULL, f->error, sizeof f->error),
                     -EINVAL);
    assert_non_null(strstr(f->error, "did you mean schema?"));
    assert_non_null(strstr(f->error, "did you mean from?"));
    assert_int_not_equal(f->error[strlen(f->error) - 1], '\n');
    char little[10];
    assert_int_equal(rml_pipeline_open(&pipeline, f->path, NULL, little, sizeof little), -EINVAL);
    assert_int_equal(strlen(little), 9);
    assert_int_equal(rml_pipeline_open(&pipeline, f->path, NULL, NULL, 0), -EINVAL);
    assert_int_equal(
        rml_pipeline_open(&pipeline, "/nowhere/p.yaml", NULL, f->error, sizeof f->error), -ENOENT);
    assert_non_null(strstr(f->error, "/nowhere/p.yaml"));
    assert_null(pipeline);
    rml_pipeline_close(pipeline);
}

#define PIPELINE_CLAIM(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

TEST_MAIN(PIPELINE_CLAIM(what_threads_feed_at_once_is_in_the_rows),
          PIPELINE_CLAIM(rows_that_nobody_wants_go_to_the_files_beside_the_pipeline_file),
          PIPELINE_CLAIM(a_feeder_that_is_open_at_the_drain_is_told_and_closes_well),
          PIPELINE_CLAIM(a_feeder_that_waits_for_room_is_told_of_the_drain),
          PIPELINE_CLAIM(lanes_of_closed_feeders_are_used_again),
          PIPELINE_CLAIM(what_cannot_be_is_refused_with_a_sentence),
          PIPELINE_CLAIM(late_rows_are_the_records_as_they_came),
          PIPELINE_CLAIM(a_file_that_cannot_be_is_told_with_all_its_errors))
