/*
 * bench_pipeline - a producer process and one worker, against an ideal loop over the same records.
 *
 * The worker is the engine's: it takes records from a lane that a producer in another process, on
 * another core, fills as fast as it can, and gives the rows of every window to a result ring. It is
 * driven round by round, which is what its thread does while there is something to take. The ideal
 * loop (support/ideal.h) has the records in its own memory. Both see the same records at the same
 * points of event time, and every window's rows must be the same to the bit.
 *
 * A window of records is cut into segments of some milliseconds. For each segment every contender has
 * its turn, so that all meet the same weather; a segment counts where the cores kept their distance
 * and nobody was preempted (support/pair.h). Rows leave in the window's first segment and state is
 * built up in the ones after it, so segments are not alike: what a window takes ("window") is the sum
 * over its segments of each one's median; "taking" leaves the first out. Between windows, unmeasured,
 * all times are moved on.
 *
 * What lies between the ideal and the worker is shown by contenders that do part of the work:
 *
 *     columns        records in memory become columns
 *     keys           and every key is hashed and looked up
 *     partition      the whole step of a partition, over records in memory
 *     lane           records are taken from the producer and not looked at
 *     lane_columns   taken, and made into columns
 *     worker         everything
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/support/arguments.h"
#include "bench/support/events.h"
#include "bench/support/figures.h"
#include "bench/support/ideal.h"
#include "bench/support/pair.h"
#include "bench/support/query.h"
#include "runtime/base/check.h"
#include "runtime/base/hash.h"
#include "runtime/lane/lane_out.h"
#include "runtime/record/batch.h"
#include "runtime/state/keys.h"

#define PUBLISH       256u  // records that the producer publishes together
#define EXIT_NOT_HERE 77    // as test programs say that they were skipped
#define PHASES_MAX    4096u

enum contender { IDEAL, COLUMNS, KEYS, PARTITION, LANE, LANE_COLUMNS, WORKER, CONTENDERS };

static const char *const contender_name[CONTENDERS] = {
    "ideal", "columns", "keys", "partition", "lane", "lane_columns", "worker"};

// Set before the processes part, the same in both.
static uint32_t window_records = 1u << 23;
static uint32_t segment_records = 1u << 17;
static struct bench_query query;

// The consumer's own.
static struct bench_ideal ideal;
static struct bench_tally tally[CONTENDERS];
static double taken_ns;

// What contenders that do part of the work keep.
static struct part_work {
    struct rml_pages pages;
    struct rml_keys keys;
    uint64_t wanted[RML_COLUMNS_MAX / 64];
    struct rml_column columns[RML_COLUMNS_MAX];
    _Alignas(64) uint64_t cells[3][RML_BATCH_ROWS];
    struct rml_mark marks[RML_WORKER_STEP_ROWS];
} part;

static uint32_t job_of(enum contender contender, uint32_t segment)
{
    return (uint32_t)contender | segment << 8;
}

static bool is_fed(enum contender contender)
{
    return contender == LANE || contender == LANE_COLUMNS || contender == WORKER;
}

/* The producer. */

static void produce(void *memory, uint32_t job)
{
    static struct rml_lane_out *out;
    const struct bench_event *events = memory;
    if (!is_fed((enum contender)(job & 255)))
        return;
    if (out == NULL)
        RML_CHECK(rml_lane_out_open(&out, &query.geometry, rml_lane_in_fds(query.lane), -1, NULL)
                  == 0);
    events += (size_t)(job >> 8) * segment_records;
    for (uint32_t sent = 0; sent < segment_records;) {
        uint32_t left = segment_records - sent;
        void *cells;
        int32_t run = rml_lane_out_claim(out, 0, left < PUBLISH ? left : PUBLISH, &cells);
        RML_CHECK(run > 0);
        memcpy(cells, events + sent, (size_t)run * sizeof *events);
        rml_lane_out_commit(out, 0, (uint32_t)run);
        rml_lane_out_publish(out);
        sent += (uint32_t)run;
    }
}

/* The contenders. */

static void load_columns(const struct bench_event *events, uint32_t count)
{
    const struct rml_plan_source *source = &query.plan->sources[0];
    rml_batch_load(&source->schema, &source->frame, part.wanted, events, count, part.columns);
}

static void look_up(uint32_t count)
{
    const uint64_t *keys = part.columns[1].data;
    for (uint32_t done = 0; done < count; done += RML_KEYS_BLOCK) {
        uint64_t hashes[RML_KEYS_BLOCK];
        uint32_t slots[RML_KEYS_BLOCK];
        uint32_t block = count - done < RML_KEYS_BLOCK ? count - done : RML_KEYS_BLOCK;
        for (uint32_t i = 0; i < block; i++)
            hashes[i] = rml_key_hash_bytes(&keys[done + i], 8);
        rml_keys_reach(&part.keys, hashes, keys + done, block, slots);
    }
}

static void take_columns(const struct bench_event *events, bool with_keys)
{
    for (uint32_t done = 0; done < segment_records; done += RML_BATCH_ROWS) {
        uint32_t left = segment_records - done;
        uint32_t rows = left < RML_BATCH_ROWS ? left : RML_BATCH_ROWS;
        load_columns(events + done, rows);
        if (with_keys)
            look_up(rows);
    }
}

static void take_steps(const struct bench_event *events)
{
    for (uint32_t done = 0; done < segment_records; done += RML_WORKER_STEP_ROWS) {
        uint32_t left = segment_records - done;
        const struct rml_step step = {.kind = RML_STEP_BATCH,
                                      .count =
                                          left < RML_WORKER_STEP_ROWS ? left : RML_WORKER_STEP_ROWS,
                                      .time = RML_TIME_NONE};
        const struct rml_step_input input = {.records = events + done};
        RML_CHECK(rml_partition_step(query.partition, &step, &input) == (int)step.count);
    }
}

static void take_from_lane(bool with_columns)
{
    uint32_t spins = 0;
    for (uint32_t taken = 0; taken < segment_records;) {
        struct rml_lane_run run;
        int32_t rows = rml_lane_in_peek(query.lane, 0, RML_WORKER_STEP_ROWS, part.marks, &run);
        RML_CHECK(rows >= 0);
        if (rows == 0) {
            bench_wait(&spins);
            continue;
        }
        const struct bench_event *events = run.records;
        for (uint32_t done = 0; with_columns && done < run.rows; done += RML_BATCH_ROWS) {
            uint32_t left = run.rows - done;
            load_columns(events + done, left < RML_BATCH_ROWS ? left : RML_BATCH_ROWS);
        }
        rml_lane_in_take(query.lane, 0, run.rows);
        rml_lane_in_release(query.lane, 0, run.rows);
        taken += run.rows;
    }
}

static void run_worker(void)
{
    const _Atomic uint64_t *taken = &query.sources[0].value[RML_SOURCE_taken];
    uint64_t until = rml_count_read(taken) + segment_records;
    uint32_t spins = 0;
    while (rml_count_read(taken) < until) {
        if (!rml_worker_round(query.worker))
            bench_wait(&spins);
    }
    RML_CHECK(rml_count_read(taken) == until);
}

static void consume(void *memory, uint32_t job)
{
    const struct bench_event *events = memory;
    events += (size_t)(job >> 8) * segment_records;
    int64_t since_ns = bench_now_ns();
    switch ((enum contender)(job & 255)) {
    case IDEAL:
        bench_ideal_take(&ideal, events, segment_records);
        break;
    case COLUMNS:
        take_columns(events, false);
        break;
    case KEYS:
        take_columns(events, true);
        break;
    case PARTITION:
        take_steps(events);
        break;
    case LANE:
        take_from_lane(false);
        break;
    case LANE_COLUMNS:
        take_from_lane(true);
        break;
    case WORKER:
        run_worker();
        break;
    case CONTENDERS:
        break;
    }
    taken_ns = (double)(bench_now_ns() - since_ns);
}

/* Measuring. */

static uint32_t phases;
static uint64_t rows_per_window;

static struct results {
    struct bench_figures phase[PHASES_MAX];  // nanoseconds of each segment of a window
    struct bench_figures rate;               // of all segments but the first
    struct bench_figures to_ideal;           // this rate to the ideal's of the same segment
} results[CONTENDERS][BENCH_CLASSES];

static uint32_t kept, dropped;

static int reserve(uint32_t windows)
{
    for (uint32_t i = 0; i < CONTENDERS * BENCH_CLASSES; i++) {
        struct results *r = &results[0][0] + i;
        int rc = bench_figures_init(&r->rate, windows * phases);
        if (rc == 0)
            rc = bench_figures_init(&r->to_ideal, windows * phases);
        for (uint32_t p = 0; rc == 0 && p < phases; p++)
            rc = bench_figures_init(&r->phase[p], windows);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static void give_back(void)
{
    for (uint32_t i = 0; i < CONTENDERS * BENCH_CLASSES; i++) {
        struct results *r = &results[0][0] + i;
        bench_figures_fini(&r->rate);
        bench_figures_fini(&r->to_ideal);
        for (uint32_t p = 0; p < phases; p++)
            bench_figures_fini(&r->phase[p]);
    }
}

static void note(enum contender contender, enum bench_class distance, uint32_t phase,
                 double ideal_ns)
{
    struct results *r = &results[contender][distance];
    bench_figures_add(&r->phase[phase], taken_ns);
    if (phase == 0)
        return;
    bench_figures_add(&r->rate, segment_records * 1e9 / taken_ns);
    if (ideal_ns > 0)
        bench_figures_add(&r->to_ideal, ideal_ns / taken_ns);
}

static void run_segment(struct bench_pair *pair, uint32_t phase, bool counts)
{
    double ideal_ns = 0;
    for (enum contender c = IDEAL; c < CONTENDERS; c++) {
        struct bench_segment segment = bench_pair_run(pair, job_of(c, phase), consume);
        if (!counts)
            continue;
        kept += segment.kept;
        dropped += !segment.kept;
        if (!segment.kept)
            continue;
        if (c == IDEAL)
            ideal_ns = taken_ns;
        note(c, segment.distance, phase, ideal_ns);
    }
}

static void see_rows(void)
{
    for (uint32_t i = 0; i < ideal.row_count; i++)
        bench_tally_add(&tally[IDEAL], &ideal.rows[i]);
    bench_query_partition_rows(&query, &tally[PARTITION]);
    bench_query_worker_rows(&query, &tally[WORKER]);
    RML_CHECK(memcmp(&tally[PARTITION], &tally[IDEAL], sizeof tally[IDEAL]) == 0);
    RML_CHECK(memcmp(&tally[WORKER], &tally[IDEAL], sizeof tally[IDEAL]) == 0);
    rows_per_window = ideal.row_count;
}

static void run_window(struct bench_pair *pair, bool counts)
{
    for (uint32_t phase = 0; phase < phases; phase++) {
        run_segment(pair, phase, counts);
        if (phase == 0)
            see_rows();  // of the window before
    }
    bench_events_shift(pair->memory, window_records, BENCH_WINDOW_NS);
}

/* Printing. */

static uint32_t keys;
static bool zipf;

static void print_head(enum contender contender, uint32_t distance)
{
    printf("{\"bench\":\"pipeline\",\"contender\":\"%s\",\"keys\":%u,\"spread\":\"%s\","
           "\"window_records\":%u,\"distance\":\"%s\",",
           contender_name[contender], keys, zipf ? "zipf" : "uniform", window_records,
           bench_class_name[distance]);
}

static void print_figure(enum contender contender, uint32_t distance, const char *what,
                         const char *unit, struct bench_figures *figures)
{
    if (figures->count == 0)
        return;
    struct bench_quartiles q = bench_figures_quartiles(figures);
    print_head(contender, distance);
    printf("\"figure\":\"%s\",\"segments\":%u,\"unit\":\"%s\",\"q1\":%.4g,\"median\":%.4g,"
           "\"q3\":%.4g}\n",
           what, figures->count, unit, q.q1, q.median, q.q3);
}

// What a whole window takes, rows included. A segment that was never kept is taken to be like the
// others; 0 where that is the first one, which is like no other, or more than half of them.
static double window_ns(struct results *r)
{
    double sum = 0;
    uint32_t seen = 0;
    if (r->phase[0].count == 0)
        return 0;
    for (uint32_t p = 1; p < phases; p++) {
        if (r->phase[p].count == 0)
            continue;
        sum += bench_figures_quartiles(&r->phase[p]).median;
        seen++;
    }
    if (seen < phases / 2)
        return 0;
    return bench_figures_quartiles(&r->phase[0]).median + sum / seen * (phases - 1);
}

static void print_window(enum contender contender, uint32_t distance)
{
    struct results *r = &results[contender][distance];
    double ns = window_ns(r), ideal_ns = window_ns(&results[IDEAL][distance]);
    if (ns == 0)
        return;
    print_head(contender, distance);
    printf("\"figure\":\"window\",\"rows\":%llu,\"unit\":\"records/s\",\"median\":%.4g",
           (unsigned long long)rows_per_window, window_records * 1e9 / ns);
    if (ideal_ns > 0)
        printf(",\"to_ideal\":%.3f", ideal_ns / ns);
    printf("}\n");
}

static void print_all(void)
{
    for (enum contender c = IDEAL; c < CONTENDERS; c++)
        for (uint32_t distance = 0; distance < BENCH_CLASSES; distance++) {
            struct results *r = &results[c][distance];
            print_figure(c, distance, "taking", "records/s", &r->rate);
            print_figure(c, distance, "taking_to_ideal", "ratio", &r->to_ideal);
            print_window(c, distance);
        }
    fflush(stdout);
}

/* Setting up. */

static int open_part(void)
{
    const struct rml_frame *frame = &query.plan->sources[0].frame;
    for (uint32_t i = 0; i < 3; i++) {
        part.columns[i] =
            (struct rml_column){.type = frame->columns[i].type, .data = part.cells[i]};
        part.wanted[0] |= UINT64_C(1) << i;
    }
    int rc = rml_pages_open(&part.pages, query.plan->state_bytes_max, NULL);
    return rc < 0 ? rc : rml_keys_open(&part.keys, &part.pages, 8, 0, query.plan->keys_max, NULL);
}

static void close_all(void)
{
    rml_keys_close(&part.keys);
    rml_pages_close(&part.pages);
    part = (struct part_work){0};
    bench_ideal_close(&ideal);
    bench_query_close(&query);
    give_back();
}

static int open_all(uint32_t seconds)
{
    memset(tally, 0, sizeof tally);
    int rc = reserve(seconds * 100 + 1);
    if (rc == 0)
        rc = bench_query_open(&query, keys);
    if (rc == 0)
        rc = open_part();
    return rc < 0 ? rc : bench_ideal_open(&ideal, keys, BENCH_WINDOW_NS);
}

// One number of keys and one spread.
static int measure(uint32_t seconds)
{
    struct bench_pair pair;
    int rc = open_all(seconds);
    if (rc == 0)
        rc = bench_pair_open(&pair, (size_t)window_records * sizeof(struct bench_event), produce);
    if (rc < 0) {
        fprintf(stderr, "bench_pipeline: %s\n",
                rc == -ENODEV ? "two CPUs are needed, and there are fewer" : strerror(-rc));
        close_all();
        return rc == -ENODEV ? EXIT_NOT_HERE : 1;
    }
    bench_events_fill(pair.memory, window_records, keys, zipf, BENCH_WINDOW_NS);
    run_window(&pair, false);  // memory is touched for the first time
    int64_t until = bench_now_ns() + seconds * INT64_C(1000000000);
    do
        run_window(&pair, true);
    while (bench_now_ns() < until);
    bench_pair_close(&pair);
    print_all();
    close_all();
    return 0;
}

static int usage(FILE *to, int status)
{
    fprintf(to, "usage: bench_pipeline [--seconds N] [--keys N] [--spread uniform|zipf]\n"
                "                      [--window N] [--segment N]\n"
                "  --seconds N  how long to measure each number of keys and spread (20)\n"
                "  --keys N     only this many; without it 1000, 100000, and 1000000\n"
                "  --spread S   only this one; without it both\n"
                "  --window N   records in a window, a power of two (8388608)\n"
                "  --segment N  records in a segment, a power of two up to a window (131072)\n");
    return status;
}

static bool is_power_of_two(uint32_t value)
{
    return value != 0 && (value & (value - 1)) == 0;
}

struct shapes {
    uint32_t seconds;
    uint32_t keys;
    const char *spread;
};

static int measure_shapes(const struct shapes *shapes)
{
    static const uint32_t standard[] = {1000, 100000, 1000000};
    uint32_t count = shapes->keys != 0 ? 1 : (uint32_t)(sizeof standard / sizeof standard[0]);
    for (uint32_t i = 0; i < 2 * count; i++) {
        keys = shapes->keys != 0 ? shapes->keys : standard[i / 2];
        zipf = i % 2 == 1;
        if (shapes->spread != NULL && strcmp(shapes->spread, zipf ? "zipf" : "uniform") != 0)
            continue;
        int rc = measure(shapes->seconds);
        if (rc != 0)
            return rc;
    }
    printf("{\"bench\":\"pipeline\",\"segments_kept\":%u,\"segments_dropped\":%u}\n", kept,
           dropped);
    return 0;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"seconds", required_argument, NULL, 's'},
                                            {"keys", required_argument, NULL, 'k'},
                                            {"spread", required_argument, NULL, 'p'},
                                            {"window", required_argument, NULL, 'w'},
                                            {"segment", required_argument, NULL, 'g'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    struct shapes shapes = {.seconds = 20};
    bool good = true;
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;)
        switch (option) {
        case 's':
            shapes.seconds = bench_number(optarg, 3600);
            break;
        case 'k':
            shapes.keys = bench_number(optarg, 10000000);
            good = good && shapes.keys != 0;
            break;
        case 'p':
            shapes.spread = optarg;
            good = good && (strcmp(optarg, "uniform") == 0 || strcmp(optarg, "zipf") == 0);
            break;
        case 'w':
            window_records = bench_number(optarg, 1u << 26);
            break;
        case 'g':
            segment_records = bench_number(optarg, 1u << 26);
            break;
        case 'h':
            return usage(stdout, 0);
        default:
            return usage(stderr, 2);
        }
    phases = segment_records != 0 ? window_records / segment_records : 0;
    if (!good || optind != argc || shapes.seconds == 0 || !is_power_of_two(window_records)
        || !is_power_of_two(segment_records) || phases == 0 || phases > PHASES_MAX)
        return usage(stderr, 2);
    return measure_shapes(&shapes);
}
