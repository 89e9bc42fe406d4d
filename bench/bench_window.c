/*
 * bench_window - what each kind of window costs a record, and a result, in a partition over records in
 * memory.
 *
 *     bench_window [--keys 1000] [--records 20000] [--rounds 1200] [--kinds N]
 *
 * With --kinds only the first so many: windows that overlap much take long to fill where keys are many.
 *
 * A round takes so many records, evenly over the time between two results, with keys chosen uniformly;
 * then time comes to the end of a window, and each key that has records in it gives a row. All kinds take
 * their turns within each round, and a ratio compares two of one round. One line of JSON per figure, as
 * median and quartiles of the rounds, and as the mean of all: work that is done once in many windows is
 * seen in the mean alone. `record` is ns per record, `result` ns per row, `ratio` both together against
 * tumbling windows, `pause` how many rounds had to wait how long for all rows of a window, in powers of
 * two of microseconds, and the longest. Windows are full before the first round counts. Sessions end between records, and
 * what their rows cost is part of `record`: their gap is twice the mean time between two records of a key,
 * so that a session has some seven records.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/support/arguments.h"
#include "bench/support/bare.h"
#include "bench/support/figures.h"
#include "bench/support/pair.h"
#include "runtime/base/check.h"
#include "runtime/time/time.h"

#define SECOND_NS INT64_C(1000000000)
#define AGGREGATE \
 "{n: count(), sum: sum(value), least: min(value), most: max(value), mean: avg(value)}"
#define SKETCH "{n: count(), p99: 'quantile(value, 0.99)'}"

static uint32_t key_count = 1000, record_count = 20000, round_count = 1200, kind_count = UINT32_MAX;

static const struct kind {
    const char *name;
    const char *window;
    int64_t every_ns;
    uint32_t overlap;        // windows that cover one moment
    bool rows_come_between;  // between records, not when time comes to the end of a round
    const char *aggregate;
} kinds[] = {
    {"tumbling 1s", "{type: tumbling, size: 1s}", SECOND_NS, 1, false, AGGREGATE},
    {"session", NULL, SECOND_NS, 1, true, AGGREGATE},
    {"sliding 5s/1s", "{type: sliding, size: 5s, every: 1s}", SECOND_NS, 5, false, AGGREGATE},
    {"sliding 60s/1s", "{type: sliding, size: 60s, every: 1s}", SECOND_NS, 60, false, AGGREGATE},
    {"sliding 60s/100ms", "{type: sliding, size: 60s, every: 100ms}", SECOND_NS / 10, 600, false,
     AGGREGATE},
    {"quantile, tumbling 1s", "{type: tumbling, size: 1s}", SECOND_NS, 1, false, SKETCH},
    {"quantile, sliding 60s/1s", "{type: sliding, size: 60s, every: 1s}", SECOND_NS, 60, false,
     SKETCH},
    {"quantile, sliding 60s/100ms", "{type: sliding, size: 60s, every: 100ms}", SECOND_NS / 10, 600,
     false, SKETCH},
    {"1000/10 records", "{type: sliding, size: 1000 records, every: 10 records}", SECOND_NS, 50,
     true, AGGREGATE},
    {"quantile, 1000/10 records", "{type: sliding, size: 1000 records, every: 10 records}",
     SECOND_NS, 50, true, SKETCH},
};

#define KINDS  ((uint32_t)(sizeof kinds / sizeof kinds[0]))
#define PAUSES 24u

static struct contender {
    struct bench_bare bare;
    struct bench_event *events;
    int64_t end_ns;   // of the round
    double total_ns;  // of the round
    double record_sum_ns, result_sum_ns;
    uint64_t row_sum;
    double longest_ns;
    uint32_t pauses[PAUSES];  // below 1 << i microseconds and not in the one before
    struct bench_figures record, result, ratio;
} contenders[KINDS];

static int open_kind(uint32_t k)
{
    struct contender *c = &contenders[k];
    c->events = calloc(record_count, sizeof *c->events);
    if (c->events == NULL || bench_figures_init(&c->record, round_count) < 0
        || bench_figures_init(&c->result, round_count) < 0
        || bench_figures_init(&c->ratio, round_count) < 0) {
        fprintf(stderr, "bench_window: no memory\n");
        return -1;
    }
    bench_events_fill(c->events, record_count, key_count, false, kinds[k].every_ns);
    char session[64];
    snprintf(session, sizeof session, "{type: session, gap: %" PRIu64 "ns}",
             2 * (uint64_t)SECOND_NS * key_count / record_count);
    const char *window = kinds[k].window != NULL ? kinds[k].window : session;
    return bench_bare_open(&c->bare, window, kinds[k].aggregate, key_count, false);
}

static void close_kind(struct contender *c)
{
    bench_bare_close(&c->bare);
    bench_figures_fini(&c->record);
    bench_figures_fini(&c->result);
    bench_figures_fini(&c->ratio);
    free(c->events);
}

static uint64_t rows_of(struct contender *c)
{
    return rml_count_read(&c->bare.stage.value[RML_STAGE_rows_out]);
}

static void add_pause(struct contender *c, double ns)
{
    uint32_t i = 0;
    while (i + 1 < PAUSES && ns >= 1e3 * (double)(1u << i))
        i++;
    c->pauses[i]++;
    c->longest_ns = ns > c->longest_ns ? ns : c->longest_ns;
}

static void run_round(uint32_t k, bool counts)
{
    struct contender *c = &contenders[k];
    int64_t every = kinds[k].every_ns;
    c->end_ns += every;
    int64_t from = bench_now_ns();
    bench_bare_take(&c->bare, c->events, record_count, RML_TIME_NONE);
    int64_t taken = bench_now_ns();
    uint64_t rows = rows_of(c);
    if (!kinds[k].rows_come_between)
        bench_bare_take(&c->bare, c->events, 0, c->end_ns);
    int64_t fired = bench_now_ns();
    rows = rows_of(c) - rows;
    c->total_ns = (double)(fired - from);
    bench_events_shift(c->events, record_count, every);
    if (!counts)
        return;
    c->record_sum_ns += (double)(taken - from);
    c->result_sum_ns += (double)(fired - taken);
    c->row_sum += rows;
    bench_figures_add(&c->record, (double)(taken - from) / record_count);
    add_pause(c, (double)(fired - taken));
    if (rows > 0)
        bench_figures_add(&c->result, (double)(fired - taken) / (double)rows);
    bench_figures_add(&c->ratio, c->total_ns / contenders[0].total_ns);
}

static void run_rounds(void)
{
    uint32_t filling = 0;
    for (uint32_t k = 0; k < kind_count; k++)
        filling = kinds[k].overlap + 2 > filling ? kinds[k].overlap + 2 : filling;
    for (uint32_t round = 0; round < filling + round_count; round++) {
        for (uint32_t k = 0; k < kind_count; k++)
            run_round(k, round >= filling);
    }
}

static void print_figure(const struct kind *kind, const char *what, struct bench_figures *figures,
                         double mean)
{
    if (figures->count == 0)
        return;
    struct bench_quartiles q = bench_figures_quartiles(figures);
    printf("{\"bench\":\"window\",\"window\":\"%s\",\"keys\":%u,\"records\":%u,\"figure\":\"%s\","
           "\"median\":%.3f,\"q1\":%.3f,\"q3\":%.3f,\"mean\":%.3f}\n",
           kind->name, key_count, record_count, what, q.median, q.q1, q.q3, mean);
}

static void print_pauses(uint32_t k)
{
    const struct contender *c = &contenders[k];
    printf(
        "{\"bench\":\"window\",\"window\":\"%s\",\"keys\":%u,\"figure\":\"pause\",\"longest_us\":%.0f,"
        "\"below_us\":{",
        kinds[k].name, key_count, c->longest_ns / 1e3);
    const char *comma = "";
    for (uint32_t i = 0; i < PAUSES; i++) {
        if (c->pauses[i] == 0)
            continue;
        printf("%s\"%u\":%u", comma, 1u << i, c->pauses[i]);
        comma = ",";
    }
    printf("}}\n");
}

static void print_kind(uint32_t k)
{
    struct contender *c = &contenders[k];
    const struct contender *t = &contenders[0];
    double records = (double)record_count * round_count;
    print_figure(&kinds[k], "record", &c->record, c->record_sum_ns / records);
    print_figure(&kinds[k], "result", &c->result,
                 c->row_sum > 0 ? c->result_sum_ns / (double)c->row_sum : 0);
    print_figure(&kinds[k], "ratio", &c->ratio,
                 (c->record_sum_ns + c->result_sum_ns) / (t->record_sum_ns + t->result_sum_ns));
    if (!kinds[k].rows_come_between)
        print_pauses(k);
}

int main(int argc, char **argv)
{
    const struct bench_count counts[] = {
        {"--keys", &key_count, 10000000},
        {"--records", &record_count, 10000000},
        {"--rounds", &round_count, 1000000},
        {"--kinds", &kind_count, KINDS},
    };
    if (!bench_counts_read(argc, argv, counts, sizeof counts / sizeof counts[0])) {
        fprintf(stderr,
                "bench_window [--keys 1000] [--records 20000] [--rounds 1200] [--kinds N]\n");
        return 2;
    }
    kind_count = kind_count < KINDS ? kind_count : KINDS;
    int rc = 0;
    for (uint32_t k = 0; k < kind_count && rc == 0; k++)
        rc = open_kind(k);
    if (rc == 0) {
        run_rounds();
        for (uint32_t k = 0; k < kind_count; k++)
            print_kind(k);
    }
    for (uint32_t k = 0; k < kind_count; k++)
        close_kind(&contenders[k]);
    return rc < 0;
}
