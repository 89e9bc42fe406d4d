/*
 * bench_journal - what a journal costs, and how soon a producer knows that its records are durable.
 *
 *     bench_journal [--runs 3] [--records 4000000] [--slice-ms 500]
 *
 * A pipeline as an engine runs it, in this process, with one worker and its state in the present working
 * directory. Records have 32 bytes, and are counted by key.
 *
 *     throughput  records of a second, as fast as they are taken: with a journal ("journal"), without one, and with
 *                 checkpoints likewise ("none"), and by a loop that writes and flushes the same bytes ("raw"): as
 *                 many writes as the journal had groups, of their mean size, each flushed with fdatasync, into a file
 *                 whose space was written before, past the page cache where that can be
 *     to_none     both as parts of the run right before
 *     to_raw
 *     latency     from the moment that a record should be published to that at which the producer is told that it is
 *                 durable, at several rates, and for several `journal.delay`. The load is open, as in bench_latency. A
 *                 producer that asks all the time, as this one does, is told of whole publishes
 *     flush       how long one write of 4 KiB and its flush takes in the raw loop, of which a record waits for between
 *                 one and two
 *     histogram   of latencies: how many took up to so many microseconds
 *
 * All records must have been taken in the end, and all be durable. One line of JSON for each figure; medians of
 * the runs.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "bench/support/arguments.h"
#include "bench/support/figures.h"
#include "bench/support/pair.h"
#include "operators/registry.h"
#include "runtime/base/check.h"
#include "runtime/base/err.h"
#include "runtime/control/engine.h"
#include "runtime/lane/lane_out.h"
#include "runtime/plan/plan.h"
#include "runtime/time/clock.h"

#define RAW_BYTES  (64u << 20)
#define RAW_MOST   (2u << 20)  // of one group
#define RAW_BLOCK  4096u
#define FLUSHES    200u  // of one block, for their time
#define WARM       100u  // records
#define KEYS       1000u
#define STUCK_NS   INT64_C(60000000000)
#define RUNS_MAX   100u
#define PATH_BYTES 4200

static const char pipeline[] =
    "version: 1\n"
    "pipeline: bench\n"
    "schema: {event: {ts: time_ns, key: u64, value: f64, id: u64}}\n"
    "runtime: {workers: 1, partitions: 1, state: ./state, journal: {delay: %ums}}\n"
    "sources:\n"
    "  events: {schema: event, event_time: ts, partition_by: [key], cells: 4194304, journal: %s}\n"
    "stages:\n"
    "  per_hour:\n"
    "    {from: events, key: key, window: {type: tumbling, size: 1h}, aggregate: {n: count()}}\n"
    "sinks: {live: {from: per_hour, type: ring}}\n";

struct event {
    int64_t ts;
    uint64_t key;
    double value;
    uint64_t id;
};

static uint32_t runs = 3, records = 4000000, slice_ms = 500;
static char folder[] = "bench-journal-XXXXXX";

_Noreturn static void give_up(const char *what, const char *why)
{
    fprintf(stderr, "bench_journal: %s: %s\n", what, why);
    exit(1);
}

/* The engine, and the thread that controls it */

static struct side {
    struct rml_plan *plan;
    struct rml_engine *engine;
    struct rml_lane_out *out;
    uint32_t lane;
    uint64_t sent;
    pthread_t control;
    _Atomic uint32_t is_over;
} side;

static void complain(void *context, const char *sentence)
{
    (void)context;
    fprintf(stderr, "bench_journal: %s\n", sentence);
}

static void *control(void *context)
{
    (void)context;
    const struct timespec pause = {.tv_nsec = 1000000};
    // acquire and release: all that the other thread did before it said that it is over
    while (atomic_load_explicit(&side.is_over, memory_order_acquire) == 0) {
        rml_engine_poll(side.engine);
        nanosleep(&pause, NULL);
    }
    return NULL;
}

static void open_plan(bool journal, uint32_t delay_ms)
{
    char text[1024];
    struct rml_plan_errors errors = {0};
    struct rml_err err = {0};
    snprintf(text, sizeof text, pipeline, delay_ms, journal ? "true" : "false");
    if (rml_plan_parse(text, strlen(text), "bench", rml_operators_functions(), &side.plan, &errors,
                       &err)
        < 0)
        give_up("the pipeline", errors.count > 0 ? errors.list[0].text : err.text);
    rml_plan_errors_fini(&errors);
    RML_CHECK(side.plan->sources[0].schema.record_bytes == sizeof(struct event));
}

static void open_lane(void)
{
    struct rml_err err = {0};
    const struct rml_engine_producer producer = {.program = "bench"};
    if (rml_engine_attach(side.engine, 0, &producer, &side.lane, &err) < 0)
        give_up("a lane", err.text);
    const struct rml_lane_in *in = rml_engine_lane(side.engine, side.lane);
    if (rml_lane_out_open(&side.out, rml_lane_in_geometry(in), rml_lane_in_fds(in), -1, &err) < 0)
        give_up("a lane", err.text);
}

static void start(bool journal, uint32_t delay_ms)
{
    struct rml_err err = {0};
    side = (struct side){.plan = NULL};
    open_plan(journal, delay_ms);
    const struct rml_engine_options options = {.plan = side.plan,
                                               .operators = rml_operators_table(),
                                               .clock = &rml_clock_system,
                                               .folder = folder,
                                               .fresh = true,
                                               .complain = complain};
    if (rml_engine_open(&side.engine, &options, &err) < 0
        || rml_engine_start(side.engine, &err) < 0)
        give_up("the engine", err.text);
    open_lane();
    RML_CHECK(pthread_create(&side.control, NULL, control, NULL) == 0);
}

static void stop(void)
{
    // acquire and release: as above
    atomic_store_explicit(&side.is_over, 1, memory_order_release);
    RML_CHECK(pthread_join(side.control, NULL) == 0);
    rml_lane_out_close(side.out);
    rml_engine_finish(side.engine, side.lane);
    rml_engine_drain(side.engine);
    static struct rml_board_totals totals;
    rml_engine_totals(side.engine, &totals);
    RML_CHECK(totals.source[0][RML_SOURCE_taken] == side.sent);
    rml_engine_stop(side.engine);
    rml_engine_close(side.engine);
    rml_plan_close(side.plan);
}

static uint64_t count_of(enum rml_journal_counter counter)
{
    return rml_count_read(&rml_engine_board(side.engine)->head->journal.value[counter]);
}

static void put(void)
{
    uint64_t i = side.sent++;
    const struct event event = {.ts = (int64_t)i, .key = i % KEYS, .value = 1, .id = i};
    if (rml_lane_out_put(side.out, &event) != 1)
        give_up("the engine", "it takes no record");
}

/* Throughput */

enum way { NONE, JOURNAL, RAW, WAYS };

static const char *const way_name[WAYS] = {"none", "journal", "raw"};

struct groups {
    uint64_t flushes, bytes;
};

// Until all are taken, which is after they are durable where there is a journal.
static double run_engine(bool journal, struct groups *ret_groups)
{
    uint32_t spins = 0;
    start(journal, 0);
    const _Atomic uint64_t *taken =
        &rml_engine_board(side.engine)->source_counts[0].value[RML_SOURCE_taken];
    int64_t since_ns = bench_now_ns();
    for (uint32_t i = 0; i < records; i++)
        put();
    rml_lane_out_publish(side.out);
    while (rml_count_read(taken) < records)
        bench_wait(&spins);
    double rate = (double)records * 1e9 / (double)(bench_now_ns() - since_ns);
    if (journal) {
        RML_CHECK(count_of(RML_JOURNAL_failures) == 0);
        RML_CHECK(rml_lane_out_wait_durable(side.out, STUCK_NS) == 0);
        *ret_groups = (struct groups){count_of(RML_JOURNAL_flushes), count_of(RML_JOURNAL_bytes)};
        RML_CHECK(count_of(RML_JOURNAL_records) == records);
    }
    stop();
    return rate;
}

static struct raw {
    int fd;
    unsigned char *bytes;
    uint64_t at;
    const char *way;
} raw;

static void write_raw(size_t bytes)
{
    if (raw.at + bytes > RAW_BYTES)
        raw.at = 0;
    if (pwrite(raw.fd, raw.bytes, bytes, (off_t)raw.at) != (ssize_t)bytes)
        give_up("the raw file", strerror(errno));
    raw.at += bytes;
}

static void open_raw(void)
{
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s/raw", folder);
    int flags = O_RDWR | O_CREAT | O_CLOEXEC;
    raw.way = "direct";
    raw.fd = open(path, flags | O_DIRECT, 0600);
    if (raw.fd < 0 && errno == EINVAL) {
        raw.way = "buffered";
        raw.fd = open(path, flags, 0600);
    }
    raw.bytes = aligned_alloc(RAW_BLOCK, RAW_MOST);
    if (raw.fd < 0 || raw.bytes == NULL)
        give_up(path, strerror(errno));
    for (size_t i = 0; i < RAW_MOST; i++)
        raw.bytes[i] = (unsigned char)(i * 2654435761u >> 13);
    for (uint32_t i = 0; i < RAW_BYTES / RAW_MOST; i++)
        write_raw(RAW_MOST);
    RML_CHECK(fdatasync(raw.fd) == 0);
}

static void close_raw(void)
{
    close(raw.fd);
    free(raw.bytes);
}

static size_t mean_of(const struct groups *groups)
{
    uint64_t mean = groups->bytes / groups->flushes;
    mean = (mean + RAW_BLOCK - 1) / RAW_BLOCK * RAW_BLOCK;
    return mean < RAW_MOST ? mean : RAW_MOST;
}

static double run_raw(const struct groups *groups)
{
    size_t bytes = mean_of(groups);
    int64_t since_ns = bench_now_ns();
    for (uint64_t i = 0; i < groups->flushes; i++) {
        write_raw(bytes);
        if (fdatasync(raw.fd) < 0)
            give_up("the raw file", strerror(errno));
    }
    return (double)records * 1e9 / (double)(bench_now_ns() - since_ns);
}

static double median(const double *values, uint32_t count)
{
    double copy[RUNS_MAX];
    memcpy(copy, values, count * sizeof *values);
    struct bench_figures figures = {.values = copy, .count = count, .limit = count};
    return bench_figures_quantile(&figures, 0.5);
}

static void measure_throughput(void)
{
    double rate[WAYS][RUNS_MAX], to_none[RUNS_MAX], to_raw[RUNS_MAX];
    double flushes[RUNS_MAX], bytes[RUNS_MAX];
    for (uint32_t i = 0; i < runs; i++) {
        struct groups groups = {0};
        rate[NONE][i] = run_engine(false, NULL);
        rate[JOURNAL][i] = run_engine(true, &groups);
        rate[RAW][i] = run_raw(&groups);
        to_none[i] = rate[JOURNAL][i] / rate[NONE][i];
        to_raw[i] = rate[JOURNAL][i] / rate[RAW][i];
        flushes[i] = (double)groups.flushes;
        bytes[i] = (double)groups.bytes / (double)groups.flushes;
    }
    for (uint32_t w = 0; w < WAYS; w++)
        printf("{\"bench\":\"journal\",\"figure\":\"throughput\",\"way\":\"%s\",\"records\":%u,"
               "\"records_s\":%.4g}\n",
               way_name[w], records, median(rate[w], runs));
    printf("{\"bench\":\"journal\",\"figure\":\"groups\",\"flushes\":%.0f,\"mean_bytes\":%.0f,"
           "\"raw\":\"%s\"}\n",
           median(flushes, runs), median(bytes, runs), raw.way);
    printf("{\"bench\":\"journal\",\"figure\":\"to_none\",\"records_s\":%.3f}\n",
           median(to_none, runs));
    printf("{\"bench\":\"journal\",\"figure\":\"to_raw\",\"records_s\":%.3f}\n",
           median(to_raw, runs));
}

/* Latency */

static const uint32_t rates[] = {1000, 10000, 100000};
static const uint32_t delays_ms[] = {0, 1, 10};
static const uint32_t bounds_us[] = {50,   100,  150,  200,  300,   500,   750,   1000,
                                     1500, 2000, 3000, 5000, 10000, 20000, 50000, 100000};

#define RATES  (sizeof rates / sizeof rates[0])
#define DELAYS (sizeof delays_ms / sizeof delays_ms[0])
#define BOUNDS ((uint32_t)(sizeof bounds_us / sizeof bounds_us[0]))

static void print_latency(const char *figure, uint32_t delay_ms, uint32_t rate,
                          struct bench_figures *us)
{
    printf("{\"bench\":\"journal\",\"figure\":\"%s\",\"delay_ms\":%u,\"rate\":%u,\"records\":%u,"
           "\"unit\":\"us\",\"p50\":%.0f,\"p90\":%.0f,\"p99\":%.0f,\"p99.9\":%.0f,\"max\":%.0f}\n",
           figure, delay_ms, rate, us->count, bench_figures_quantile(us, 0.5),
           bench_figures_quantile(us, 0.9), bench_figures_quantile(us, 0.99),
           bench_figures_quantile(us, 0.999), bench_figures_quantile(us, 1));
}

static void print_histogram(uint32_t delay_ms, uint32_t rate, const struct bench_figures *us)
{
    uint32_t counts[BOUNDS + 1] = {0};
    for (uint32_t i = 0; i < us->count; i++) {
        uint32_t column = 0;
        while (column < BOUNDS && us->values[i] > bounds_us[column])
            column++;
        counts[column]++;
    }
    printf("{\"bench\":\"journal\",\"figure\":\"histogram\",\"delay_ms\":%u,\"rate\":%u,"
           "\"up_to_us\":{",
           delay_ms, rate);
    for (uint32_t i = 0; i < BOUNDS; i++)
        printf("\"%u\":%u,", bounds_us[i], counts[i]);
    printf("\"more\":%u}}\n", counts[BOUNDS]);
}

// The lane is attached, the file is written for the first time.
static void warm_up(uint64_t *ret_durable)
{
    for (uint32_t i = 0; i < WARM; i++) {
        put();
        RML_CHECK(rml_lane_out_wait_durable(side.out, STUCK_NS) == 0);
    }
    RML_CHECK(rml_lane_out_durable(side.out, ret_durable) == 0 && *ret_durable == WARM);
}

// Records have times at which they are to be published, whatever becomes of those before.
static void run_latency(uint32_t rate, uint32_t count, struct bench_figures *us)
{
    uint64_t told = 0, durable;
    uint32_t spins = 0;
    double gap_ns = 1e9 / rate;
    warm_up(&durable);
    int64_t start_ns = bench_now_ns() + 1000000, news_ns = start_ns;
    while (told < count) {
        int64_t now_ns = bench_now_ns();
        uint64_t due = now_ns > start_ns ? (uint64_t)((double)(now_ns - start_ns) / gap_ns) + 1 : 0;
        uint64_t before = side.sent;
        while (side.sent < due + WARM && side.sent < count + WARM && side.sent - before < 64)
            put();
        if (side.sent > before)
            rml_lane_out_publish(side.out);
        RML_CHECK(rml_lane_out_durable(side.out, &durable) == 0);
        int64_t seen_ns = bench_now_ns();
        for (; told < durable - WARM; told++, news_ns = seen_ns)
            bench_figures_add(us, ((double)(seen_ns - start_ns) - (double)told * gap_ns) / 1e3);
        if (seen_ns - news_ns > STUCK_NS)
            give_up("the engine", "records do not become durable");
        if (side.sent == before)
            bench_wait(&spins);
    }
}

static void measure_latency(void)
{
    for (uint32_t d = 0; d < DELAYS; d++) {
        for (uint32_t r = 0; r < RATES; r++) {
            uint32_t count = (uint32_t)((uint64_t)rates[r] * slice_ms / 1000);
            count = count > 0 ? count : 1;
            struct bench_figures us;
            if (bench_figures_init(&us, count) < 0)
                give_up("figures", "no memory");
            start(true, delays_ms[d]);
            run_latency(rates[r], count, &us);
            stop();
            print_latency("latency", delays_ms[d], rates[r], &us);
            print_histogram(delays_ms[d], rates[r], &us);
            bench_figures_fini(&us);
        }
    }
}

static void measure_flush(void)
{
    struct bench_figures us;
    if (bench_figures_init(&us, FLUSHES) < 0)
        give_up("figures", "no memory");
    for (uint32_t i = 0; i < FLUSHES; i++) {
        int64_t since_ns = bench_now_ns();
        write_raw(RAW_BLOCK);
        RML_CHECK(fdatasync(raw.fd) == 0);
        bench_figures_add(&us, (double)(bench_now_ns() - since_ns) / 1e3);
    }
    print_latency("flush", 0, 0, &us);
    bench_figures_fini(&us);
}

static void clean_up(void)
{
    static const char *const files[] = {"state/journal", "state/extents", "state/catalog.mdb",
                                        "state/catalog.mdb-lock", "raw"};
    char path[PATH_BYTES];
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, files[i]);
        unlink(path);
    }
    snprintf(path, sizeof path, "%s/state", folder);
    rmdir(path);
    rmdir(folder);
}

int main(int argc, char **argv)
{
    const struct bench_count counts[] = {{"--runs", &runs, RUNS_MAX},
                                         {"--records", &records, 100000000},
                                         {"--slice-ms", &slice_ms, 60000}};
    if (!bench_counts_read(argc, argv, counts, sizeof counts / sizeof counts[0])) {
        fprintf(stderr, "usage: bench_journal [--runs 3] [--records 4000000] [--slice-ms 500]\n");
        return 2;
    }
    if (mkdtemp(folder) == NULL)
        give_up(folder, strerror(errno));
    open_raw();
    measure_throughput();
    measure_flush();
    measure_latency();
    measure_flush();
    close_raw();
    clean_up();
    return 0;
}
