/*
 * bench_growth - what it costs while a partition's keys become many: no pause above one page split?
 *
 *     bench_growth [--keys 10000000] [--batch 64] [--rate 1000000]
 *
 * A partition over records in memory takes batches in which every key is new, until it has --keys:
 *
 *     without_room  nobody makes memory ready ahead of it
 *     plain         a thread does, as in a worker (runtime/state/room.h); as fast as it goes
 *     paced         the same, --rate new keys a second and no more
 *     prefaulted    all the memory was made ready before (runtime.state_prefault); as fast as it goes
 *     saved         that with snapshots, one begun after each tenth of the keys and copied as a worker does,
 *                   a little after each batch
 *
 * What a batch takes with the copying after it is counted in a histogram, by the wall clock and by the clock of
 * the thread's CPU time. After every fourth batch as many records' worth of a plain array is written to, two lines
 * at random places for a record, which has been there since the beginning ("flat"): what it waits for is the
 * machine's doing, in the same moments. So is what as many records of keys that are there ("known") wait for
 * in the end. The longest batches are told with the number of keys there were and the page faults that were in them.
 *
 * `split` is the reference: a full page of the table of keys that splits for one key more, the page not
 * being in a cache, in memory that is there. `to_split` says how many batches took longer than the 99th percentile
 * of splits, and than the longest, of growing and of flat. With --batch 1 a batch has one split or none.
 * Contenders keep their memory until all are done (some 10 GB with ten million keys): a hypervisor that takes back
 * what is given back stops others for that. One line of JSON for each figure.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "bench/support/arguments.h"
#include "bench/support/bare.h"
#include "bench/support/figures.h"
#include "bench/support/pair.h"
#include "runtime/base/check.h"
#include "runtime/base/err.h"
#include "runtime/base/hash.h"
#include "runtime/plan/plan.h"
#include "runtime/state/keys.h"
#include "runtime/state/room.h"
#include "runtime/state/snapshot.h"
#include "runtime/time/time.h"

#define BATCH_MAX     4096u
#define LONGEST       8u
#define SPLITS        500u
#define PARTS         10u
#define FLAT_EVERY    4u  // batches
#define FLAT_LINES    2u  // for each record: one of its page, one of its row
#define FLAT_BYTES    ((size_t)1 << 30)
#define PREFAULT      ((uint64_t)256)    // bytes for each key, more than they take
#define COPY_GRANULES RML_PAGE_GRANULES  // after each batch, as a worker does
#define COLD_BYTES    ((size_t)64 << 20)
#define BUFFER_BYTES  ((size_t)16 << 20)
#define SPLIT_BYTES   ((size_t)128 << 20)  // enough for pages and rows of all that are split

static uint32_t key_count = 10000000, batch = 64, rate = 1000000;

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

/* An array that is just there */

static struct flat {
    unsigned char *bytes;
    uint64_t random;
} flat;

static int open_flat(void)
{
    flat.random = 88172645463325252;
    flat.bytes = mmap(NULL, FLAT_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (flat.bytes == MAP_FAILED)
        return -ENOMEM;
    (void)madvise(flat.bytes, FLAT_BYTES, MADV_HUGEPAGE);
    memset(flat.bytes, 1, FLAT_BYTES);
    return 0;
}

// Marsaglia's xorshift.
static void write_flat(uint32_t count)
{
    uint64_t x = flat.random;
    for (uint32_t i = 0; i < count * FLAT_LINES; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        flat.bytes[x % FLAT_BYTES]++;
    }
    flat.random = x;
}

/* What something takes */

struct moment {
    uint32_t faults;
    int64_t cpu_ns, wall_ns;
};

static struct moment begin(void)
{
    struct moment m = {.faults = count_faults()};
    m.cpu_ns = bench_cpu_ns();
    m.wall_ns = bench_now_ns();
    return m;
}

static void end(struct moment since, struct times *times, uint32_t keys)
{
    int64_t wall_ns = bench_now_ns() - since.wall_ns, cpu_ns = bench_cpu_ns() - since.cpu_ns;
    uint32_t faults = count_faults() - since.faults;
    add(&times->pauses[WALL], (double)wall_ns / 1e3, keys, faults);
    add(&times->pauses[CPU], (double)cpu_ns / 1e3, keys, faults);
}

static void take(struct bench_bare *bare, struct copying *copying, struct times *times,
                 uint32_t first, uint32_t count)
{
    static struct bench_event events[BATCH_MAX];
    fill(events, first, count);
    struct moment since = begin();
    bench_bare_take(bare, events, count, RML_TIME_NONE);
    copy_some(bare, copying, first);
    end(since, times, first);
}

static void take_flat(struct times *times, uint32_t keys)
{
    struct moment since = begin();
    write_flat(batch);
    end(since, times, keys);
}

/* Contenders */

static struct contender {
    const char *name;
    bool has_room, prefaults, is_paced, saves;
    struct rml_room *room;
    struct bench_bare bare;
} contenders[] = {
    {.name = "without_room"},
    {.name = "plain", .has_room = true},
    {.name = "paced", .has_room = true, .is_paced = true},
    {.name = "prefaulted", .has_room = true, .prefaults = true},
    {.name = "saved", .has_room = true, .prefaults = true, .saves = true},
};

#define CONTENDERS ((uint32_t)(sizeof contenders / sizeof contenders[0]))

// As in a worker, but on the other CPU: this one has the records.
static int open_room(struct contender *c)
{
    struct rml_err err = {0};
    if (!c->has_room)
        return 0;
    int rc = rml_room_open(&c->room, &err);
    if (rc < 0)
        return rc;
    c->bare.plan->state_prefault_bytes = c->prefaults ? key_count * PREFAULT : 0;
    rml_partition_serve(c->bare.partition, c->room);
    rc = rml_room_fulfil(c->room);
    (void)bench_stay_on(1);
    if (rc == 0)
        rc = rml_room_start(c->room, &err);
    (void)bench_stay_on(0);
    return rc;
}

struct outcome {
    struct times growing, known, flat;
    double s;  // that growing took
};

static int open_outcome(struct outcome *o)
{
    uint32_t batches = key_count / batch + 1;
    *o = (struct outcome){0};
    int rc = open_times(&o->growing, batches);
    if (rc == 0)
        rc = open_times(&o->known, batches);
    return rc == 0 ? open_times(&o->flat, batches) : rc;
}

static void close_outcome(struct outcome *o)
{
    close_times(&o->growing);
    close_times(&o->known);
    close_times(&o->flat);
}

static struct splits {
    double p50, p99, max;  // microseconds of CPU time
} splits;

static uint32_t count_over(const struct times *times, double us)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < times->pauses[CPU].us.count; i++)
        count += times->pauses[CPU].us.values[i] > us;
    return count;
}

static void print_outcome(const struct contender *c, struct outcome *o)
{
    print_times(c->name, "growing", &o->growing);
    print_times(c->name, "flat", &o->flat);
    print_times(c->name, "known", &o->known);
    double in_million = 1e6 / o->growing.pauses[CPU].us.count;
    double flat_in_million = 1e6 / o->flat.pauses[CPU].us.count;
    printf("{\"bench\":\"growth\",\"contender\":\"%s\",\"figure\":\"to_split\",\"clock\":\"cpu\","
           "\"keys_per_s\":%.0f,\"unit\":\"in a million batches\","
           "\"over_p99\":%.1f,\"flat_over_p99\":%.1f,\"over_max\":%.1f,\"flat_over_max\":%.1f,"
           "\"p99.9_to_p99\":%.2f,\"max_to_max\":%.2f,\"flat_max_to_max\":%.2f}\n",
           c->name, key_count / o->s, count_over(&o->growing, splits.p99) * in_million,
           count_over(&o->flat, splits.p99) * flat_in_million,
           count_over(&o->growing, splits.max) * in_million,
           count_over(&o->flat, splits.max) * flat_in_million,
           bench_figures_quantile(&o->growing.pauses[CPU].us, 0.999) / splits.p99,
           bench_figures_quantile(&o->growing.pauses[CPU].us, 1) / splits.max,
           bench_figures_quantile(&o->flat.pauses[CPU].us, 1) / splits.max);
    fflush(stdout);
}

static void grow(struct contender *c, struct outcome *o)
{
    struct copying copying = {.saves = c->saves, .next_keys = key_count / PARTS};
    int64_t since_ns = bench_now_ns();
    for (uint32_t keys = 0, batches = 0; keys < key_count; keys += batch, batches++) {
        int64_t due_ns = since_ns + (int64_t)keys * 1000000000 / rate;
        while (c->is_paced && bench_now_ns() < due_ns)
            ;
        take(&c->bare, &copying, &o->growing, keys,
             key_count - keys < batch ? key_count - keys : batch);
        if (batches % FLAT_EVERY == 0)
            take_flat(&o->flat, keys);
    }
    o->s = (double)(bench_now_ns() - since_ns) / 1e9;
    copying.next_keys = UINT32_MAX;
    for (uint32_t keys = 0; keys + batch <= key_count; keys += batch)
        take(&c->bare, &copying, &o->known, keys, batch);
}

static int compete(struct contender *c)
{
    struct outcome o;
    int rc = open_outcome(&o);
    if (rc == 0)
        rc = bench_bare_open(&c->bare, "{type: tumbling, size: 1h}",
                             "{n: count(), total: sum(value)}", key_count, c->saves);
    if (rc == 0)
        rc = open_room(c);
    if (rc == 0) {
        grow(c, &o);
        print_outcome(c, &o);
        bench_bare_take(&c->bare, NULL, 0, RML_TIME_END);
        RML_CHECK(rml_count_read(&c->bare.stage.value[RML_STAGE_rows_out]) == key_count);
    }
    close_outcome(&o);
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
        struct moment since = begin();
        (void)reach(&tables[i], next[i]);
        end(since, &times, tables[i].count);
        RML_CHECK(tables[i].depth == 1);
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
        {"--rate", &rate, 1000000000},
    };
    if (!bench_counts_read(argc, argv, counts, sizeof counts / sizeof counts[0])
        || key_count < 2 * batch) {
        fprintf(stderr, "bench_growth [--keys 10000000] [--batch 64] [--rate 1000000]\n");
        return 2;
    }
    buffer = malloc(BUFFER_BYTES);
    int rc = buffer != NULL ? 0 : -ENOMEM;
    if (rc == 0) {
        memset(buffer, 1, BUFFER_BYTES);
        (void)bench_stay_on(0);
        rc = measure_splits();
    }
    if (rc == 0)
        rc = open_flat();
    for (uint32_t i = 0; rc == 0 && i < CONTENDERS; i++)
        rc = compete(&contenders[i]);
    if (rc < 0)
        fprintf(stderr, "bench_growth: %s\n", strerrordesc_np(-rc));
    for (uint32_t i = 0; i < CONTENDERS; i++) {
        rml_room_close(contenders[i].room);
        if (contenders[i].bare.partition != NULL)
            bench_bare_close(&contenders[i].bare);
    }
    free(buffer);
    return rc < 0;
}
