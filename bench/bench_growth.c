/*
 * bench_growth - what it costs while a partition's keys become many: no pause above one page split?
 *
 *     bench_growth [--keys 10000000] [--batch 64]
 *
 * A partition over records in memory takes batches in which every key is new, until it has --keys; memory is
 * made ready for it as a worker has that done (runtime/state/room.h), and for `without_room` it is not. The
 * contender `saved` also has snapshots, one begun after each tenth of the keys and copied as a worker does,
 * a little after each batch. What a batch takes with the copying after it is counted in a histogram, by
 * the wall clock and by the clock of the thread's CPU time; so are, in the end, as many records of keys
 * that are there ("known"): what they wait for is the machine's doing, not that of growing. The longest
 * batches are told with the number of keys there were and the page faults that were in them.
 *
 * `split` is the reference: a full page of the table of keys that splits for one key more, the page not
 * being in a cache, in memory that is there. Contenders keep their memory until all are done (some 5 GB with ten
 * million keys): a hypervisor that takes back what is given back stops others for that. `to_split` are ratios: quantiles of batches to those of splits.
 * One line of JSON for each figure.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "bench/support/arguments.h"
#include "bench/support/bare.h"
#include "bench/support/figures.h"
#include "bench/support/pair.h"
#include "runtime/base/check.h"
#include "runtime/base/err.h"
#include "runtime/base/hash.h"
#include "runtime/state/keys.h"
#include "runtime/state/room.h"
#include "runtime/state/snapshot.h"
#include "runtime/time/time.h"

#define BATCH_MAX     4096u
#define LONGEST       8u
#define SPLITS        500u
#define PARTS         10u
#define CONTENDERS    3u
#define COPY_GRANULES RML_PAGE_GRANULES  // after each batch, as a worker does
#define COLD_BYTES    ((size_t)64 << 20)
#define BUFFER_BYTES  ((size_t)16 << 20)
#define SPLIT_BYTES   ((size_t)128 << 20)  // enough for pages and rows of all that are split

static uint32_t key_count = 10000000, batch = 64;

enum clock { WALL, CPU, CLOCKS };

static const char *const clock_name[CLOCKS] = {"wall", "cpu"};

static const uint32_t bounds_us[] = {2,   5,   10,  15,  20,  30,   40,   50,   75,
                                     100, 150, 200, 300, 500, 1000, 2000, 5000, 10000};

#define BOUNDS ((uint32_t)(sizeof bounds_us / sizeof bounds_us[0]))

struct pauses {
    struct bench_figures us;
    uint64_t count[BOUNDS + 1];

    struct longest {
        double us;
        uint32_t keys, faults;  // that there were; of pages, in the batch
    } longest[LONGEST];         // falling
};

struct times {
    struct pauses pauses[CLOCKS];
};

static unsigned char *buffer;  // snapshots go round in it
static size_t buffer_used;

static int open_times(struct times *times, uint32_t limit)
{
    *times = (struct times){0};
    int rc = 0;
    for (uint32_t c = 0; c < CLOCKS && rc == 0; c++)
        rc = bench_figures_init(&times->pauses[c].us, limit);
    return rc;
}

static void close_times(struct times *times)
{
    for (uint32_t c = 0; c < CLOCKS; c++)
        bench_figures_fini(&times->pauses[c].us);
}

// Page faults of this thread that no disk was asked for.
static uint32_t count_faults(void)
{
    struct rusage usage;
    RML_CHECK(getrusage(RUSAGE_THREAD, &usage) == 0);
    return (uint32_t)usage.ru_minflt;
}

static void add(struct pauses *p, double us, uint32_t keys, uint32_t faults)
{
    bench_figures_add(&p->us, us);
    uint32_t column = 0;
    while (column < BOUNDS && us > bounds_us[column])
        column++;
    p->count[column]++;
    uint32_t place = LONGEST;
    while (place > 0 && us > p->longest[place - 1].us)
        place--;
    if (place == LONGEST)
        return;
    memmove(&p->longest[place + 1], &p->longest[place],
            (LONGEST - 1 - place) * sizeof p->longest[0]);
    p->longest[place] = (struct longest){us, keys, faults};
}

static void print_times(const char *contender, const char *what, struct times *times)
{
    for (uint32_t c = 0; c < CLOCKS; c++) {
        struct pauses *p = &times->pauses[c];
        printf(
            "{\"bench\":\"growth\",\"contender\":\"%s\",\"figure\":\"%s\",\"keys\":%u,\"batch\":%u,"
            "\"clock\":\"%s\",\"unit\":\"us\",\"p50\":%.2f,\"p99\":%.2f,\"p99.9\":%.1f,"
            "\"max\":%.1f,\"up_to_us\":{",
            contender, what, key_count, batch, clock_name[c], bench_figures_quantile(&p->us, 0.5),
            bench_figures_quantile(&p->us, 0.99), bench_figures_quantile(&p->us, 0.999),
            bench_figures_quantile(&p->us, 1));
        for (uint32_t i = 0; i < BOUNDS; i++)
            printf("\"%u\":%llu,", bounds_us[i], (unsigned long long)p->count[i]);
        printf("\"more\":%llu},\"longest_us_keys_faults\":[", (unsigned long long)p->count[BOUNDS]);
        for (uint32_t i = 0; i < LONGEST; i++)
            printf("%s[%.1f,%u,%u]", i > 0 ? "," : "", p->longest[i].us, p->longest[i].keys,
                   p->longest[i].faults);
        printf("]}\n");
    }
    fflush(stdout);
}

/* The partition */

static void put(void *context, const void *bytes, size_t count)
{
    (void)context;
    const unsigned char *from = bytes;
    while (count > 0) {
        size_t fits = BUFFER_BYTES - buffer_used < count ? BUFFER_BYTES - buffer_used : count;
        memcpy(buffer + buffer_used, from, fits);
        buffer_used = (buffer_used + fits) % BUFFER_BYTES;
        from += fits;
        count -= fits;
    }
}

// Keys from `first` on; a prime beyond all numbers of keys sets them apart.
static void fill(struct bench_event *events, uint32_t first, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        events[i] = (struct bench_event){
            .ts = 1, .key = (uint64_t)(first + i) * UINT64_C(2654435761), .value = i};
}

struct copying {
    bool saves, is_open;
    uint64_t number;
    uint32_t next_keys;
};

// As in a worker, but on the other CPU: this one has the records.
static int open_room(struct rml_room **ret_room)
{
    struct rml_err err = {0};
    int rc = rml_room_open(ret_room, &err);
    (void)bench_stay_on(1);
    if (rc == 0)
        rc = rml_room_start(*ret_room, &err);
    (void)bench_stay_on(0);
    return rc;
}

static void copy_some(struct bench_bare *bare, struct copying *copying, uint32_t keys)
{
    static const struct rml_snapshot_sink sink = {.put = put};
    if (!copying->saves)
        return;
    if (copying->is_open) {
        copying->is_open = rml_partition_copy(bare->partition, COPY_GRANULES);
    } else if (keys >= copying->next_keys) {
        uint32_t needs;
        rml_partition_snapshot(bare->partition, ++copying->number, &sink, &needs);
        copying->is_open = true;
        copying->next_keys += key_count / PARTS;
    }
}

static void take(struct bench_bare *bare, struct copying *copying, struct times *times,
                 uint32_t first, uint32_t count)
{
    static struct bench_event events[BATCH_MAX];
    fill(events, first, count);
    uint32_t faults = count_faults();
    int64_t cpu_ns = bench_cpu_ns(), since_ns = bench_now_ns();
    bench_bare_take(bare, events, count, RML_TIME_NONE);
    copy_some(bare, copying, first);
    int64_t took_ns = bench_now_ns() - since_ns;
    cpu_ns = bench_cpu_ns() - cpu_ns;
    faults = count_faults() - faults;
    add(&times->pauses[WALL], (double)took_ns / 1e3, first, faults);
    add(&times->pauses[CPU], (double)cpu_ns / 1e3, first, faults);
}

static struct splits {
    double p50, p99, max;  // microseconds of CPU time
} splits;

static void print_ratios(const char *contender, struct times *growing, struct times *known)
{
    struct bench_figures *us = &growing->pauses[CPU].us;
    printf(
        "{\"bench\":\"growth\",\"contender\":\"%s\",\"figure\":\"to_split\",\"clock\":\"cpu\","
        "\"p99_to_p50\":%.2f,\"p99.9_to_p99\":%.2f,\"max_to_max\":%.2f,\"known_max_to_max\":%.2f}\n",
        contender, bench_figures_quantile(us, 0.99) / splits.p50,
        bench_figures_quantile(us, 0.999) / splits.p99, bench_figures_quantile(us, 1) / splits.max,
        bench_figures_quantile(&known->pauses[CPU].us, 1) / splits.max);
}

static struct grown {
    struct rml_room *room;
    struct bench_bare bare;
} grown[CONTENDERS];

static int grow(const char *contender, struct grown *into, bool saves, bool has_room)
{
    struct bench_bare *bare = &into->bare;
    struct times growing = {0}, known = {0};
    struct copying copying = {.saves = saves, .next_keys = key_count / PARTS};
    int rc = open_times(&growing, key_count / batch + 1);
    if (rc == 0)
        rc = open_times(&known, key_count / batch + 1);
    if (rc == 0)
        rc = bench_bare_open(bare, "{type: tumbling, size: 1h}", "{n: count(), total: sum(value)}",
                             key_count, saves);
    if (rc == 0 && has_room)
        rc = open_room(&into->room);
    if (rc == 0 && has_room)
        rml_partition_serve(bare->partition, into->room);
    for (uint32_t keys = 0; rc == 0 && keys < key_count; keys += batch)
        take(bare, &copying, &growing, keys, key_count - keys < batch ? key_count - keys : batch);
    copying.next_keys = UINT32_MAX;
    for (uint32_t keys = 0; rc == 0 && keys + batch <= key_count; keys += batch)
        take(bare, &copying, &known, keys, batch);
    if (rc == 0) {
        print_times(contender, "growing", &growing);
        print_times(contender, "known", &known);
        print_ratios(contender, &growing, &known);
        bench_bare_take(bare, NULL, 0, RML_TIME_END);
        RML_CHECK(rml_count_read(&bare->stage.value[RML_STAGE_rows_out]) == key_count);
    }
    close_times(&growing);
    close_times(&known);
    return rc;
}

/* The reference */

static uint32_t reach(struct rml_keys *keys, uint64_t key)
{
    uint64_t hash = rml_key_hash_bytes(&key, sizeof key);
    uint32_t slot;
    RML_CHECK(rml_keys_reach(keys, &hash, &key, 1, &slot) == 1);
    return slot;
}

// Until the next key splits the only page there is: then the directory is two entries long.
static int open_full(struct rml_keys *keys, struct rml_pages *pages, uint64_t *ret_next)
{
    struct rml_keys trial;
    int rc = rml_keys_open(&trial, pages, sizeof(uint64_t), 0, 4096, NULL);
    uint64_t count = *ret_next;
    while (rc == 0 && trial.depth == 0)
        (void)reach(&trial, count++);
    if (rc == 0)
        rml_keys_close(&trial);
    if (rc == 0)
        rc = rml_keys_open(keys, pages, sizeof(uint64_t), 0, 4096, NULL);
    for (uint64_t key = *ret_next; rc == 0 && key + 1 < count; key++)
        (void)reach(keys, key);
    *ret_next = count - 1;
    return rc;
}

static int measure_splits(void)
{
    static struct rml_keys tables[SPLITS];
    static uint64_t next[SPLITS];
    struct times times = {0};
    struct rml_pages pages = {0};
    unsigned char *cold = malloc(COLD_BYTES);
    int rc = cold != NULL ? open_times(&times, SPLITS) : -ENOMEM;
    if (rc == 0)
        rc = rml_pages_open(&pages, SPLIT_BYTES, NULL);
    if (rc == 0)
        memset(pages.base, 0, SPLIT_BYTES);  // what finding memory takes is nothing of a split
    uint32_t opened = 0;
    for (; rc == 0 && opened < SPLITS; opened++) {
        next[opened] = (uint64_t)opened << 32;
        rc = open_full(&tables[opened], &pages, &next[opened]);
    }
    for (uint32_t i = 0; rc == 0 && i < SPLITS; i++) {
        if (i % 50 == 0)
            memset(cold, (int)i, COLD_BYTES);
        uint32_t faults = count_faults();
        int64_t cpu_ns = bench_cpu_ns(), since_ns = bench_now_ns();
        (void)reach(&tables[i], next[i]);
        int64_t took_ns = bench_now_ns() - since_ns;
        cpu_ns = bench_cpu_ns() - cpu_ns;
        RML_CHECK(tables[i].depth == 1);
        faults = count_faults() - faults;
        add(&times.pauses[WALL], (double)took_ns / 1e3, tables[i].count, faults);
        add(&times.pauses[CPU], (double)cpu_ns / 1e3, tables[i].count, faults);
    }
    if (rc == 0) {
        struct bench_figures *us = &times.pauses[CPU].us;
        splits = (struct splits){bench_figures_quantile(us, 0.5), bench_figures_quantile(us, 0.99),
                                 bench_figures_quantile(us, 1)};
        print_times("keys", "split", &times);
    }
    for (uint32_t i = 0; i < opened; i++)
        rml_keys_close(&tables[i]);
    rml_pages_close(&pages);
    close_times(&times);
    free(cold);
    return rc;
}

int main(int argc, char **argv)
{
    const struct bench_count counts[] = {
        {"--keys", &key_count, 100000000},
        {"--batch", &batch, BATCH_MAX},
    };
    if (!bench_counts_read(argc, argv, counts, sizeof counts / sizeof counts[0])
        || key_count < 2 * batch) {
        fprintf(stderr, "bench_growth [--keys 10000000] [--batch 64]\n");
        return 2;
    }
    buffer = malloc(BUFFER_BYTES);
    int rc = buffer != NULL ? 0 : -ENOMEM;
    if (rc == 0) {
        memset(buffer, 1, BUFFER_BYTES);
        rc = measure_splits();
    }
    if (rc == 0)
        rc = grow("without_room", &grown[0], false, false);
    if (rc == 0)
        rc = grow("plain", &grown[1], false, true);
    if (rc == 0)
        rc = grow("saved", &grown[2], true, true);
    if (rc < 0)
        fprintf(stderr, "bench_growth: %s\n", strerrordesc_np(-rc));
    for (uint32_t i = 0; i < CONTENDERS; i++) {
        rml_room_close(grown[i].room);
        if (grown[i].bare.partition != NULL)
            bench_bare_close(&grown[i].bare);
    }
    free(buffer);
    return rc < 0;
}
