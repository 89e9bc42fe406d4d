/*
 * bench_checkpoint - what checkpoints cost a worker, and how long they take: the whole way.
 *
 *     bench_checkpoint [--runs 3] [--keys 1000000] [--run-ms 1000] [--batch 256]
 *
 * Two workers of the engine, of one partition each and the same query, are driven round by round in one
 * thread; one of them has a checkpointer, whose thread and writer are on the other CPU, and a state folder
 * in the present working directory. All keys are live in both, and every record is of another key than the
 * --keys before it, which is the worst there is for a snapshot. A round takes --batch records; putting
 * them into the lane is not measured.
 *
 *     dirty      so many keys changed since the last checkpoint: from its beginning until it is durable;
 *                `raw_ms` is a raw write of the same bytes right after it (bench/support/raw.h), and
 *                `rows_raw_ms` one of 128 bytes for each key that changed
 *     restore    checkpoint read, worker opened: after 33 checkpoints with 1 % of all keys each ("few"),
 *                then after as many with a tenth of them ("tenth"), and in the end after many with most
 *                of them ("most")
 *     rounds     what rounds take, and the records of a second of rounds: with one checkpoint begun in a run
 *                ("one"), with one after the other ("back_to_back"), and without any ("none") right before.
 *                All by two clocks: `wall`, and `cpu`, which stands still while the thread is not running,
 *                be it that others have its CPU or that it waits for room in a buffer
 *     histogram  how many rounds took up to so many microseconds
 *
 * In the end both workers have had the same records, one of them in several lives, and their rows must be
 * the same. One line of JSON for each figure, medians of the runs.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/support/arguments.h"
#include "bench/support/events.h"
#include "bench/support/figures.h"
#include "bench/support/pair.h"
#include "bench/support/query.h"
#include "bench/support/raw.h"
#include "runtime/base/check.h"
#include "runtime/checkpoint/vault.h"
#include "runtime/lane/lane_out.h"
#include "runtime/state/snapshot.h"

#define ROW_BYTES  128u
#define STRIDE     UINT64_C(2654435761)  // a prime beyond all numbers of keys
#define ROUNDS_MAX 10000000u             // of one run
#define RUNS_MAX   1000u

static const char pipeline[] =
    "version: 1\n"
    "pipeline: bench\n"
    "schema: {event: {ts: time_ns, key: u64, value: f64, id: u64}}\n"
    "runtime: {workers: 1, partitions: 1}\n"
    "sources:\n"
    "  events:\n"
    "    {schema: event, event_time: ts, partition_by: [key], out_of_order: 0ms, cells: 16777216}\n"
    "stages:\n"
    "  per_hour:\n"
    "    from: events\n"
    "    key: key\n"
    "    window: {type: tumbling, size: 1h}\n"
    "    aggregate:\n"
    "      count: count()\n"
    "      sum: sum(value)\n"
    "      mean: avg(value)\n"
    "      least: min(value)\n"
    "      greatest: max(value)\n"
    "      spread: var_pop(value)\n"
    "      oldest: first(id)\n"
    "      newest: last(id)\n"
    "sinks: {live: {from: per_hour, type: ring}}\n";

static uint32_t run_count = 3, key_count = 1000000, run_ms = 1000, batch = 256;
static char folder[] = "bench-checkpoint-XXXXXX";
static struct bench_raw raw = {.fd = -1};

enum clock { WALL, CPU, CLOCKS };

static const char *const clock_name[CLOCKS] = {"wall", "cpu"};

static struct bench_figures round_us[CLOCKS];  // of the present run

/* Rounds up to so many microseconds; the last column has the rest. */
static const uint32_t bounds_us[] = {10,  15,  20,  30,  40,   50,   75,   100,   150,
                                     200, 300, 500, 750, 1000, 2000, 5000, 10000, 50000};

#define BOUNDS ((uint32_t)(sizeof bounds_us / sizeof bounds_us[0]))

struct histogram {
    uint64_t count[CLOCKS][BOUNDS + 1];
};

static struct side {
    struct bench_query query;
    struct rml_lane_out *out;
    uint64_t fed;  // records in all its lives
    // Of the checkpoint that was begun last.
    bool is_saving;
    int64_t began_ns;
    double ms;
    uint64_t bytes, checkpoints;
} plain, saved;

/* Records in */

static int open_lane(struct side *side)
{
    int rc = rml_lane_out_open(&side->out, &side->query.geometry, rml_lane_in_fds(side->query.lane),
                               -1, NULL);
    if (rc == 0)
        rml_lane_out_wait_max(side->out, 0);  // the worker is this very thread
    return rc;
}

// First every key in turn, then all of them again and again in another order.
static struct bench_event event(uint64_t number)
{
    uint64_t key = number < key_count ? number : number * STRIDE % key_count;
    return (struct bench_event){
        .ts = 1, .key = key, .value = (double)(key % 1000) + 0.25, .id = number};
}

// Returns how many there was room for.
static uint32_t feed(struct side *side, uint32_t count)
{
    uint32_t fed = 0;
    while (fed < count) {
        void *cells;
        int32_t run = rml_lane_out_claim(side->out, 0, count - fed, &cells);
        if (run <= 0)
            break;
        struct bench_event *events = cells;
        for (int32_t i = 0; i < run; i++)
            events[i] = event(side->fed++);
        rml_lane_out_commit(side->out, 0, (uint32_t)run);
        fed += (uint32_t)run;
    }
    rml_lane_out_publish(side->out);
    return fed;
}

/* Checkpoints, as the control thread sees to them */

static void begin_checkpoint(struct side *side)
{
    RML_CHECK(!side->is_saving);
    side->began_ns = bench_now_ns();
    const struct rml_worker_message save = {
        .kind = RML_WORKER_SAVE, .number = rml_checkpointer_begin(side->query.checkpointer, false)};
    RML_CHECK(rml_worker_tell(side->query.worker, &save));
    side->is_saving = true;
}

static void see_to_checkpoints(struct side *side)
{
    struct rml_checkpointer_news news;
    while (side->query.checkpointer != NULL
           && rml_checkpointer_hear(side->query.checkpointer, &news)) {
        if (news.kind != RML_CHECKPOINTER_DONE)
            continue;  // when one is due is for this program to say
        RML_CHECK(news.rc == 0);
        side->is_saving = false;
        side->ms = (double)(bench_now_ns() - side->began_ns) / 1e6;
        side->bytes = news.bytes;
        side->checkpoints++;
        const struct rml_worker_message message = {.kind = RML_WORKER_SAVED};
        RML_CHECK(rml_worker_tell(side->query.worker, &message));
    }
    struct rml_worker_report report;
    while (rml_worker_hear(side->query.worker, &report))
        RML_CHECK(report.kind == RML_WORKER_WANTS_SAVING || report.kind == RML_WORKER_SOURCE_DONE);
}

static void finish_checkpoint(struct side *side)
{
    uint32_t spins = 0;
    while (side->is_saving) {
        if (!rml_worker_round(side->query.worker))
            bench_wait(&spins);
        see_to_checkpoints(side);
    }
    (void)rml_worker_round(side->query.worker);  // it hears that it is saved
}

/* Rounds */

// Put records in, and have them taken.
static void take(struct side *side, uint32_t count)
{
    const _Atomic uint64_t *taken = &side->query.sources[0].value[RML_SOURCE_taken];
    uint64_t until = rml_count_read(taken) + feed(side, count);
    do {
        int64_t cpu_ns = bench_cpu_ns(), since_ns = bench_now_ns();
        (void)rml_worker_round(side->query.worker);
        int64_t took_ns = bench_now_ns() - since_ns;
        cpu_ns = bench_cpu_ns() - cpu_ns;
        bench_figures_add(&round_us[WALL], (double)took_ns / 1e3);
        bench_figures_add(&round_us[CPU], (double)cpu_ns / 1e3);
    } while (rml_count_read(taken) < until);
}

static void take_all(struct side *side, uint64_t count)
{
    for (uint64_t until = side->fed + count; side->fed < until;) {
        uint64_t left = until - side->fed;
        take(side, left < RML_WORKER_STEP_ROWS ? (uint32_t)left : RML_WORKER_STEP_ROWS);
        see_to_checkpoints(side);
    }
}

enum pace { NONE, ONE, BACK_TO_BACK };

static const char *const pace_name[] = {"none", "one", "back_to_back"};

struct run {
    double p50[CLOCKS], p99[CLOCKS], p999[CLOCKS], max[CLOCKS];  // microseconds
    double rate[CLOCKS];                                         // records a second
    uint64_t checkpoints;
};

static void add_up(struct run *run, uint64_t records, struct histogram *histogram)
{
    for (uint32_t c = 0; c < CLOCKS; c++) {
        run->p50[c] = bench_figures_quantile(&round_us[c], 0.5);
        run->p99[c] = bench_figures_quantile(&round_us[c], 0.99);
        run->p999[c] = bench_figures_quantile(&round_us[c], 0.999);
        run->max[c] = bench_figures_quantile(&round_us[c], 1);
        double sum_us = 0;
        for (uint32_t i = 0; i < round_us[c].count; i++) {
            sum_us += round_us[c].values[i];
            uint32_t column = 0;
            while (column < BOUNDS && round_us[c].values[i] > bounds_us[column])
                column++;
            histogram->count[c][column]++;
        }
        run->rate[c] = (double)records * 1e6 / sum_us;
    }
}

static struct run run(struct side *side, enum pace pace, struct histogram *histogram)
{
    struct run r = {.checkpoints = side->checkpoints};
    uint64_t fed = side->fed;
    int64_t until_ns = bench_now_ns() + run_ms * INT64_C(1000000);
    round_us[WALL].count = round_us[CPU].count = 0;
    if (pace != NONE)
        begin_checkpoint(side);
    while (bench_now_ns() < until_ns) {
        take(side, batch);
        see_to_checkpoints(side);
        if (pace == BACK_TO_BACK && !side->is_saving)
            begin_checkpoint(side);
    }
    add_up(&r, side->fed - fed, histogram);
    finish_checkpoint(side);
    r.checkpoints = side->checkpoints - r.checkpoints;
    return r;
}

/* Figures */

static double median(const double *values, uint32_t count)
{
    double copy[RUNS_MAX];
    memcpy(copy, values, count * sizeof *values);
    struct bench_figures figures = {.values = copy, .count = count, .limit = count};
    return bench_figures_quantile(&figures, 0.5);
}

static void print_runs(enum pace pace, enum clock clock, const struct run *runs)
{
    double p50[RUNS_MAX], p99[RUNS_MAX], p999[RUNS_MAX], max[RUNS_MAX], rate[RUNS_MAX];
    uint64_t checkpoints = 0;
    for (uint32_t i = 0; i < run_count; i++) {
        p50[i] = runs[i].p50[clock];
        p99[i] = runs[i].p99[clock];
        p999[i] = runs[i].p999[clock];
        max[i] = runs[i].max[clock];
        rate[i] = runs[i].rate[clock];
        checkpoints += runs[i].checkpoints;
    }
    printf("{\"bench\":\"checkpoint\",\"figure\":\"rounds\",\"checkpoints\":\"%s\",\"count\":%llu,"
           "\"keys\":%u,\"batch\":%u,\"clock\":\"%s\",\"unit\":\"us\",\"p50\":%.1f,\"p99\":%.1f,"
           "\"p99.9\":%.1f,\"max\":%.0f,\"records_s\":%.4g}\n",
           pace_name[pace], (unsigned long long)checkpoints, key_count, batch, clock_name[clock],
           median(p50, run_count), median(p99, run_count), median(p999, run_count),
           median(max, run_count), median(rate, run_count));
}

static void print_ratios(enum pace pace, enum clock clock, const struct run *with,
                         const struct run *without)
{
    double p50[RUNS_MAX], p99[RUNS_MAX], p999[RUNS_MAX], more[RUNS_MAX], most[RUNS_MAX];
    double rate[RUNS_MAX];
    for (uint32_t i = 0; i < run_count; i++) {
        p50[i] = with[i].p50[clock] / without[i].p50[clock];
        p99[i] = with[i].p99[clock] / without[i].p99[clock];
        p999[i] = with[i].p999[clock] / without[i].p999[clock];
        more[i] = with[i].p999[clock] - without[i].p999[clock];
        most[i] = with[i].max[clock] - without[i].max[clock];
        rate[i] = with[i].rate[clock] / without[i].rate[clock];
    }
    printf("{\"bench\":\"checkpoint\",\"figure\":\"to_none\",\"checkpoints\":\"%s\",\"keys\":%u,"
           "\"batch\":%u,\"clock\":\"%s\",\"p50\":%.2f,\"p99\":%.2f,\"p99.9\":%.2f,"
           "\"p99.9_more_us\":%.1f,\"max_more_us\":%.0f,\"records_s\":%.3f}\n",
           pace_name[pace], key_count, batch, clock_name[clock], median(p50, run_count),
           median(p99, run_count), median(p999, run_count), median(more, run_count),
           median(most, run_count), median(rate, run_count));
}

static void print_histogram(enum pace pace, enum clock clock, const struct histogram *histogram)
{
    printf("{\"bench\":\"checkpoint\",\"figure\":\"histogram\",\"checkpoints\":\"%s\",\"keys\":%u,"
           "\"batch\":%u,\"clock\":\"%s\",\"up_to_us\":{",
           pace_name[pace], key_count, batch, clock_name[clock]);
    for (uint32_t i = 0; i < BOUNDS; i++)
        printf("\"%u\":%llu,", bounds_us[i], (unsigned long long)histogram->count[clock][i]);
    printf("\"more\":%llu}}\n", (unsigned long long)histogram->count[clock][BOUNDS]);
}

static void measure_rounds(enum pace pace)
{
    static struct run with[RUNS_MAX], without[RUNS_MAX];
    struct histogram histogram_with = {0}, histogram_without = {0};
    for (uint32_t i = 0; i < run_count; i++) {
        without[i] = run(&plain, NONE, &histogram_without);
        with[i] = run(&saved, pace, &histogram_with);
    }
    for (uint32_t c = 0; c < CLOCKS; c++) {
        print_runs(NONE, c, without);
        print_runs(pace, c, with);
        print_ratios(pace, c, with, without);
        print_histogram(NONE, c, &histogram_without);
        print_histogram(pace, c, &histogram_with);
    }
    fflush(stdout);
}

static void checkpoint(struct side *side)
{
    begin_checkpoint(side);
    finish_checkpoint(side);
}

// As many bytes as were never written before need a file that has them.
static int write_raw(size_t bytes, double *ret_ms)
{
    char path[128];
    snprintf(path, sizeof path, "%s/raw", folder);
    int rc = 0;
    if (bytes > raw.count) {
        bench_raw_close(&raw);
        rc = bench_raw_open(&raw, path, bytes + bytes / 4);
    }
    return rc == 0 ? bench_raw_write(&raw, bytes, ret_ms) : rc;
}

static int measure_dirty(uint32_t dirty, uint32_t count)
{
    double ms[RUNS_MAX], bytes[RUNS_MAX], ratio[RUNS_MAX];
    double raw_ms[RUNS_MAX] = {0}, rows_raw_ms[RUNS_MAX] = {0};
    for (uint32_t i = 0; i < count; i++) {
        take_all(&saved, dirty);
        checkpoint(&saved);
        ms[i] = saved.ms;
        bytes[i] = (double)saved.bytes;
        int rc = write_raw(saved.bytes, &raw_ms[i]);
        if (rc == 0)
            rc = write_raw((size_t)dirty * ROW_BYTES, &rows_raw_ms[i]);
        if (rc < 0)
            return rc;
        ratio[i] = ms[i] / raw_ms[i];
    }
    printf("{\"bench\":\"checkpoint\",\"figure\":\"dirty\",\"keys\":%u,\"dirty\":%u,\"ms\":%.2f,"
           "\"bytes\":%.0f,\"raw_ms\":%.2f,\"to_raw\":%.2f,\"rows_raw_ms\":%.2f}\n",
           key_count, dirty, median(ms, count), median(bytes, count), median(raw_ms, count),
           median(ratio, count), median(rows_raw_ms, count));
    fflush(stdout);
    return 0;
}

// The checkpoint is of just before, so that nothing is lost.
static int measure_restore(const char *changed, uint32_t count)
{
    double ms[RUNS_MAX];
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i < count; i++) {
        rml_lane_out_close(saved.out);
        saved.out = NULL;
        (void)bench_stay_on(BENCH_ANYWHERE);  // as an engine that comes up
        rc = bench_query_restart(&saved.query, folder, &ms[i]);
        if (rc == 0)
            rc = open_lane(&saved);
    }
    (void)bench_stay_on(0);
    if (rc < 0)
        return rc;
    printf("{\"bench\":\"checkpoint\",\"figure\":\"restore\",\"keys\":%u,\"changed\":\"%s\","
           "\"ms\":%.1f}\n",
           key_count, changed, median(ms, count));
    fflush(stdout);
    return 0;
}

/* All of it */

static struct bench_tally rows_of(struct side *side)
{
    struct bench_tally tally = {0};
    const struct rml_worker_message end = {.kind = RML_WORKER_END};
    RML_CHECK(rml_worker_tell(side->query.worker, &end));
    while (rml_worker_round(side->query.worker))
        continue;
    bench_query_worker_rows(&side->query, &tally);
    return tally;
}

static void compare_rows(void)
{
    if (plain.fed < saved.fed)
        take_all(&plain, saved.fed - plain.fed);
    while (saved.fed < plain.fed) {
        uint64_t left = plain.fed - saved.fed;
        take_all(&saved, left < 4000000 ? left : 4000000);  // the lane holds them until then
        checkpoint(&saved);
    }
    struct bench_tally expected = rows_of(&plain), got = rows_of(&saved);
    RML_CHECK(expected.rows == key_count);
    RML_CHECK(memcmp(&expected, &got, sizeof got) == 0);
}

static int open_all(void)
{
    struct bench_query_options options = {.pipeline = pipeline, .keys = key_count};
    int rc = bench_figures_init(&round_us[WALL], ROUNDS_MAX);
    if (rc == 0)
        rc = bench_figures_init(&round_us[CPU], ROUNDS_MAX);
    if (rc == 0 && mkdtemp(folder) == NULL)
        rc = -errno;
    (void)bench_stay_on(1);  // threads that are started from here on; one CPU is slower, not wrong
    if (rc == 0)
        rc = bench_query_open_other(&plain.query, &options);
    options.state = folder;
    if (rc == 0)
        rc = bench_query_open_other(&saved.query, &options);
    if (rc == 0)
        rc = open_lane(&plain);
    if (rc == 0)
        rc = open_lane(&saved);
    (void)bench_stay_on(0);
    return rc;
}

static void close_all(void)
{
    static const char *const files[] = {RML_VAULT_EXTENTS_FILE, RML_CATALOG_FILE,
                                        RML_CATALOG_FILE "-lock"};
    rml_lane_out_close(plain.out);
    rml_lane_out_close(saved.out);
    bench_query_close(&plain.query);
    bench_query_close(&saved.query);
    bench_raw_close(&raw);
    for (uint32_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        char path[128];
        snprintf(path, sizeof path, "%s/%s", folder, files[i]);
        unlink(path);
    }
    rmdir(folder);
    bench_figures_fini(&round_us[WALL]);
    bench_figures_fini(&round_us[CPU]);
}

static int measure(void)
{
    take_all(&plain, key_count);
    take_all(&saved, key_count);
    checkpoint(&saved);
    int rc = measure_dirty(key_count / 100, RML_SNAPSHOT_ROUND_MAX + 1);
    if (rc == 0)
        rc = measure_restore("few", run_count);
    if (rc == 0)
        rc = measure_dirty(key_count / 10, RML_SNAPSHOT_ROUND_MAX + 1);
    if (rc == 0)
        rc = measure_restore("tenth", run_count);
    if (rc == 0)
        rc = measure_dirty(key_count, run_count);
    if (rc < 0)
        return rc;
    measure_rounds(ONE);
    measure_rounds(BACK_TO_BACK);
    checkpoint(&saved);  // of what came after the last moment nothing would be left
    rc = measure_restore("most", run_count);
    if (rc == 0)
        compare_rows();
    return rc;
}

int main(int argc, char **argv)
{
    const struct bench_count counts[] = {
        {"--runs", &run_count, RUNS_MAX},
        {"--keys", &key_count, 10000000},
        {"--run-ms", &run_ms, 60000},
        {"--batch", &batch, RML_WORKER_STEP_ROWS},
    };
    if (!bench_counts_read(argc, argv, counts, sizeof counts / sizeof counts[0])
        || key_count < 100) {
        fprintf(stderr,
                "bench_checkpoint [--runs 3] [--keys 1000000] [--run-ms 1000] [--batch 256]\n");
        return 2;
    }
    int rc = open_all();
    if (rc == 0)
        rc = measure();
    if (rc < 0)
        fprintf(stderr, "bench_checkpoint: %s\n", strerrordesc_np(-rc));
    close_all();
    return rc < 0;
}
