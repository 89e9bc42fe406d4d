/*
 * bench_ring - records from one process to another: our ring, Concurrency Kit's, DPDK's, memcpy.
 *
 * Every contender does the same work: the producer copies records in from its own memory, the
 * consumer copies them out to its own memory and adds up every word, and the sum must be right. One
 * record at a time means that each is published by itself. memcpy is the same payload copied in,
 * out and added up by one process alone: what there is to gain by not crossing.
 *
 * A round runs every contender once, for a few milliseconds each, so that all meet the same weather.
 * A ratio compares two contenders of the same round. "ringmill" is what a lane that chooses among
 * the three variants by trial gets: the variant that was fastest in the last round of the same
 * distance that tried all three, with this round's rate.
 */
#include <errno.h>
#include <getopt.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef BENCH_CK
# include <ck_ring.h>
#endif
#ifdef BENCH_DPDK
# include <rte_config.h>
# include <rte_ring.h>
# include <rte_ring_elem.h>
#endif

#include "bench/ring_mpmc.h"
#include "bench/support/arguments.h"
#include "bench/support/figures.h"
#include "bench/support/pair.h"
#include "runtime/base/check.h"
#include "runtime/ring/ring.h"
#include "runtime/ring/stream.h"

#define BATCH         256u   // also how many records the producer has in memory
#define CHUNK         4096u  // records between two looks at the clock
#define STAGING_BYTES 16384u
#define EXIT_NOT_HERE 77  // as test programs say that they were skipped
#define RECORD_MAX    64u
#define ALWAYS_INLINE static inline __attribute__((always_inline))

enum contender { PLAIN, STAGED, FLUSH, CK, RTE, MEMCPY, CONTENDERS, CHOSEN = CONTENDERS, ROWS };

enum { SIZES = 2, BATCHES = 2 };

static const char *const contender_name[ROWS] = {
    "ringmill_plain", "ringmill_staged", "ringmill_flush", "ck_ring",
    "rte_ring",       "memcpy",          "ringmill"};
static const uint32_t size_bytes[SIZES] = {32, 64};
static const uint32_t batch_records[BATCHES] = {1, BATCH};

struct rec32 {
    uint64_t words[4];
};

struct rec64 {
    uint64_t words[8];
};

#ifdef BENCH_CK
CK_RING_PROTOTYPE(rec32, rec32)
CK_RING_PROTOTYPE(rec64, rec64)
#endif

// What both processes see.
struct arena {
    alignas(128) _Atomic uint64_t total;  // records sent, once the producer has sent all
    alignas(128) _Atomic uint64_t published;
    alignas(128) _Atomic uint64_t released;
#ifdef BENCH_CK
    alignas(128) ck_ring_t ck;
#endif
    alignas(4096) unsigned char cells[];  // of every contender in turn
};

// Set before the processes part, the same in both.
static uint32_t cell_count = 65536;
static int64_t segment_ns = 4000000;
static alignas(64) unsigned char source[BATCH * RECORD_MAX];

// Each process's own.
static struct rml_ring_out out;
static struct rml_ring_in in;
static alignas(64) unsigned char staging[STAGING_BYTES];
static alignas(64) unsigned char sink[BATCH * RECORD_MAX];
static double records_per_second;  // the consumer's result

// How one contender moves up to `count` records; returns how many.
typedef uint32_t push_fn(struct arena *arena, const unsigned char *records, uint32_t count,
                         uint32_t bytes);
typedef uint32_t pop_fn(struct arena *arena, unsigned char *records, uint32_t count,
                        uint32_t bytes);

static struct rml_ring_place our_place(struct arena *arena, uint32_t bytes)
{
    return (struct rml_ring_place){.shape = {.cell_bytes = bytes, .cell_count = cell_count},
                                   .cells = arena->cells,
                                   .published = &arena->published,
                                   .released = &arena->released};
}

ALWAYS_INLINE uint32_t ours_push(struct arena *arena, const unsigned char *records, uint32_t count,
                                 uint32_t bytes)
{
    (void)arena;
    void *cells;
    int32_t run = rml_ring_claim(&out, count, &cells);
    RML_CHECK(run >= 0);
    if (run == 0)
        return 0;
    memcpy(cells, records, count == 1 ? bytes : (size_t)run * bytes);
    rml_ring_commit(&out, (uint32_t)run);
    rml_ring_publish(&out);
    return (uint32_t)run;
}

ALWAYS_INLINE uint32_t ours_pop_from(unsigned char *records, uint32_t count, uint32_t bytes,
                                     int evict)
{
    const void *cells;
    int32_t run = rml_ring_peek(&in, count, &cells);
    RML_CHECK(run >= 0);
    if (run == 0)
        return 0;
    memcpy(records, cells, count == 1 ? bytes : (size_t)run * bytes);
    rml_ring_take(&in, (uint32_t)run);
    if (evict)
        rml_ring_evict(&in, (uint32_t)run);
    rml_ring_release(&in, (uint32_t)run);
    return (uint32_t)run;
}

ALWAYS_INLINE uint32_t ours_pop(struct arena *arena, unsigned char *records, uint32_t count,
                                uint32_t bytes)
{
    (void)arena;
    return ours_pop_from(records, count, bytes, 0);
}

ALWAYS_INLINE uint32_t flush_pop(struct arena *arena, unsigned char *records, uint32_t count,
                                 uint32_t bytes)
{
    (void)arena;
    return ours_pop_from(records, count, bytes, 1);
}

#ifdef BENCH_CK
ALWAYS_INLINE uint32_t ck_push(struct arena *arena, const unsigned char *records, uint32_t count,
                               uint32_t bytes)
{
    uint32_t sent = 0;
    if (bytes == 32) {
        const struct rec32 *each = (const void *)records;
        while (sent < count
               && ck_ring_enqueue_spsc_rec32(&arena->ck, (void *)arena->cells,
                                             (void *)(uintptr_t)&each[sent]))
            sent++;
    } else {
        const struct rec64 *each = (const void *)records;
        while (sent < count
               && ck_ring_enqueue_spsc_rec64(&arena->ck, (void *)arena->cells,
                                             (void *)(uintptr_t)&each[sent]))
            sent++;
    }
    return sent;
}

ALWAYS_INLINE uint32_t ck_pop(struct arena *arena, unsigned char *records, uint32_t count,
                              uint32_t bytes)
{
    uint32_t got = 0;
    if (bytes == 32) {
        struct rec32 *each = (void *)records;
        while (got < count
               && ck_ring_dequeue_spsc_rec32(&arena->ck, (void *)arena->cells, &each[got]))
            got++;
    } else {
        struct rec64 *each = (void *)records;
        while (got < count
               && ck_ring_dequeue_spsc_rec64(&arena->ck, (void *)arena->cells, &each[got]))
            got++;
    }
    return got;
}
#endif

#ifdef BENCH_DPDK
ALWAYS_INLINE uint32_t rte_push(struct arena *arena, const unsigned char *records, uint32_t count,
                                uint32_t bytes)
{
    return rte_ring_sp_enqueue_bulk_elem((void *)arena->cells, records, bytes, count, NULL);
}

ALWAYS_INLINE uint32_t rte_pop(struct arena *arena, unsigned char *records, uint32_t count,
                               uint32_t bytes)
{
    return rte_ring_sc_dequeue_burst_elem((void *)arena->cells, records, bytes, count, NULL);
}
#endif

ALWAYS_INLINE void produce(struct arena *arena, push_fn *push, uint32_t bytes, uint32_t batch)
{
    int64_t deadline = bench_now_ns() + segment_ns;
    uint64_t sent = 0;
    do {
        for (uint64_t until = sent + CHUNK; sent < until;) {
            uint32_t at = (uint32_t)sent % BATCH;
            uint32_t count = batch == 1 ? 1 : BATCH - at;
            uint32_t moved, spins = 0;
            while ((moved = push(arena, source + (size_t)at * bytes, count, bytes)) == 0)
                bench_wait(&spins);
            sent += moved;
        }
    } while (bench_now_ns() < deadline);
    // release: bench.total
    atomic_store_explicit(&arena->total, sent, memory_order_release);
}

ALWAYS_INLINE uint64_t add_up(const unsigned char *records, uint32_t count, uint32_t bytes)
{
    const uint64_t *words = (const void *)records;
    uint64_t sum = 0;
    for (uint32_t i = 0; i < count * (bytes / 8); i++)
        sum += words[i];
    return sum;
}

// Word by word: a record that was just copied in narrow pieces and is read in wide ones stalls on
// every load, in whichever contender the compiler happens to cut it so.
ALWAYS_INLINE uint64_t add_up_one(const unsigned char *record, uint32_t bytes)
{
    const volatile uint64_t *words = (const volatile void *)record;
    uint64_t sum = 0;
    for (uint32_t i = 0; i < bytes / 8; i++)
        sum += words[i];
    return sum;
}

static void report(uint64_t received, uint64_t sum, uint32_t bytes, int64_t taken_ns)
{
    RML_CHECK(received % BATCH == 0);
    RML_CHECK(sum == received / BATCH * add_up(source, BATCH, bytes));
    records_per_second = (double)received * 1e9 / (double)taken_ns;
}

ALWAYS_INLINE void consume(struct arena *arena, pop_fn *pop, uint32_t bytes, uint32_t batch)
{
    uint64_t received = 0, sum = 0;
    uint32_t spins = 0;
    int64_t start = 0;
    for (;;) {
        uint32_t got = pop(arena, sink, batch == 1 ? 1 : BATCH, bytes);
        if (got > 0) {
            if (received == 0)
                start = bench_now_ns();
            sum += batch == 1 ? add_up_one(sink, bytes) : add_up(sink, got, bytes);
            received += got;
            spins = 0;
            continue;
        }
        // acquire: bench.total
        if (received > 0 && atomic_load_explicit(&arena->total, memory_order_acquire) == received)
            break;
        bench_wait(&spins);
    }
    report(received, sum, bytes, bench_now_ns() - start);
}

// Both halves in one process, over the same memory.
ALWAYS_INLINE void copy_alone(struct arena *arena, uint32_t bytes, uint32_t batch)
{
    int64_t start = bench_now_ns();
    uint64_t moved = 0, sum = 0;
    do {
        for (uint64_t until = moved + CHUNK; moved < until; moved += batch) {
            unsigned char *cells = arena->cells + (moved & (cell_count - 1)) * bytes;
            memcpy(cells, source + moved % BATCH * bytes, (size_t)batch * bytes);
            __asm__ volatile("" : : "r"(cells) : "memory");  // the copy is not to be optimized away
            memcpy(sink, cells, (size_t)batch * bytes);
            sum += batch == 1 ? add_up_one(sink, bytes) : add_up(sink, batch, bytes);
        }
    } while (bench_now_ns() < start + segment_ns);
    report(moved, sum, bytes, bench_now_ns() - start);
}

static uint32_t job_of(enum contender contender, uint32_t size, uint32_t batch)
{
    return (uint32_t)contender | size << 8 | batch << 16;
}

// One loop for each shape, so that sizes are constants in it as they would be in a program.
#define IN_EACH_SHAPE(loop, ...)                      \
 do {                                                 \
  switch ((job >> 8 & 255) * BATCHES + (job >> 16)) { \
  case 0:                                             \
   loop(__VA_ARGS__, 32, 1);                          \
   break;                                             \
  case 1:                                             \
   loop(__VA_ARGS__, 32, BATCH);                      \
   break;                                             \
  case 2:                                             \
   loop(__VA_ARGS__, 64, 1);                          \
   break;                                             \
  default:                                            \
   loop(__VA_ARGS__, 64, BATCH);                      \
   break;                                             \
  }                                                   \
 } while (0)

static void produce_part(void *memory, uint32_t job)
{
    struct arena *arena = memory;
    uint32_t bytes = size_bytes[job >> 8 & 255];
    enum contender contender = (enum contender)(job & 255);
    switch (contender) {
    case PLAIN:
    case STAGED:
    case FLUSH: {
        struct rml_ring_place place = our_place(arena, bytes);
        RML_CHECK(rml_ring_attach_out(&out, &place) == 0);
        rml_ring_lend_staging(&out, staging, STAGING_BYTES / bytes);
        rml_ring_choose(&out, (enum rml_ring_variant)contender);
        IN_EACH_SHAPE(produce, arena, ours_push);
        break;
    }
    case CK:
#ifdef BENCH_CK
        IN_EACH_SHAPE(produce, arena, ck_push);
#endif
        break;
    case RTE:
#ifdef BENCH_DPDK
        IN_EACH_SHAPE(produce, arena, rte_push);
#endif
        break;
    case MEMCPY:
    case CONTENDERS:
    case ROWS:
        break;  // the consumer's process does it alone
    }
}

static void consume_part(void *memory, uint32_t job)
{
    struct arena *arena = memory;
    switch ((enum contender)(job & 255)) {
    case PLAIN:
    case STAGED:
        IN_EACH_SHAPE(consume, arena, ours_pop);
        break;
    case FLUSH:
        IN_EACH_SHAPE(consume, arena, flush_pop);
        break;
    case CK:
#ifdef BENCH_CK
        IN_EACH_SHAPE(consume, arena, ck_pop);
#endif
        break;
    case RTE:
#ifdef BENCH_DPDK
        IN_EACH_SHAPE(consume, arena, rte_pop);
#endif
        break;
    case MEMCPY:
        IN_EACH_SHAPE(copy_alone, arena);
        break;
    case CONTENDERS:
    case ROWS:
        break;  // not run by themselves
    }
}

// Empty rings, before either side starts.
static void prepare(struct arena *arena, enum contender contender, uint32_t bytes)
{
    memset(arena, 0, sizeof *arena);
    struct rml_ring_place place = our_place(arena, bytes);
    RML_CHECK(rml_ring_attach_in(&in, &place) == 0);
#ifdef BENCH_CK
    if (contender == CK)
        ck_ring_init(&arena->ck, cell_count);
#endif
#ifdef BENCH_DPDK
    if (contender == RTE)
        RML_CHECK(
            rte_ring_init((void *)arena->cells, "bench", cell_count, RING_F_SP_ENQ | RING_F_SC_DEQ)
            == 0);
#endif
    (void)contender;
}

static bool is_there(enum contender contender)
{
#ifndef BENCH_CK
    if (contender == CK)
        return false;
#endif
#ifndef BENCH_DPDK
    if (contender == RTE)
        return false;
#endif
    return contender != FLUSH || rml_evict_able();
}

struct cell {  // of the table of results: one size, batch and distance
    struct bench_figures rate[ROWS];
    struct bench_figures ratio[CONTENDERS];  // ringmill's rate to theirs, in the same round
    enum contender fastest;                  // of our variants, in the last round
};

static struct cell cells_of[SIZES][BATCHES][BENCH_CLASSES];
static uint32_t kept, dropped;

static int reserve(uint32_t rounds)
{
    for (uint32_t i = 0; i < SIZES * BATCHES * BENCH_CLASSES; i++) {
        struct cell *cell = &cells_of[0][0][0] + i;
        for (uint32_t row = 0; row < ROWS; row++)
            if (bench_figures_init(&cell->rate[row], rounds) < 0
                || (row < CONTENDERS && bench_figures_init(&cell->ratio[row], rounds) < 0))
                return -ENOMEM;
    }
    return 0;
}

static void give_back(void)
{
    for (uint32_t i = 0; i < SIZES * BATCHES * BENCH_CLASSES; i++) {
        struct cell *cell = &cells_of[0][0][0] + i;
        for (uint32_t row = 0; row < ROWS; row++) {
            bench_figures_fini(&cell->rate[row]);
            if (row < CONTENDERS)
                bench_figures_fini(&cell->ratio[row]);
        }
    }
}

// What the lane would have got, and how that compares, where all that takes part was kept.
static void compare(struct cell *cell, const double rate[CONTENDERS])
{
    double ours = rate[cell->fastest];
    bool tried_all = true;
    for (enum contender c = PLAIN; c <= FLUSH; c++)
        tried_all = tried_all && (rate[c] > 0 || !is_there(c));
    for (enum contender c = PLAIN; tried_all && c <= FLUSH; c++)
        if (rate[c] > rate[cell->fastest])
            cell->fastest = c;  // from the next round on
    if (ours <= 0)
        return;
    bench_figures_add(&cell->rate[CHOSEN], ours);
    for (enum contender c = PLAIN; c < CONTENDERS; c++)
        if (rate[c] > 0)
            bench_figures_add(&cell->ratio[c], ours / rate[c]);
}

static void run_shape(struct bench_pair *pair, uint32_t size, uint32_t batch, uint32_t round)
{
    double rate[BENCH_CLASSES][CONTENDERS] = {{0}};
    for (uint32_t i = 0; i < CONTENDERS; i++) {
        enum contender contender = (enum contender)((i + round) % CONTENDERS);
        if (!is_there(contender))
            continue;
        prepare(pair->memory, contender, size_bytes[size]);
        struct bench_segment segment =
            bench_pair_run(pair, job_of(contender, size, batch), consume_part);
        if (!segment.kept) {
            dropped++;
            continue;
        }
        kept++;
        rate[segment.distance][contender] = records_per_second;
        bench_figures_add(&cells_of[size][batch][segment.distance].rate[contender],
                          records_per_second);
    }
    for (uint32_t distance = 0; distance < BENCH_CLASSES; distance++)
        compare(&cells_of[size][batch][distance], rate[distance]);
}

static void print_figure(const char *what, const char *name, const char *unit,
                         struct bench_figures *figures, uint32_t size, uint32_t batch,
                         uint32_t distance)
{
    if (figures->count == 0)
        return;
    struct bench_quartiles q = bench_figures_quartiles(figures);
    printf("{\"bench\":\"ring\",\"%s\":\"%s\",\"cell_bytes\":%u,\"batch\":%u,\"cells\":%u,"
           "\"distance\":\"%s\",\"segments\":%u,\"unit\":\"%s\",\"q1\":%.4g,\"median\":%.4g,"
           "\"q3\":%.4g}\n",
           what, name, size_bytes[size], batch_records[batch], cell_count,
           bench_class_name[distance], figures->count, unit, q.q1, q.median, q.q3);
}

static void print_all(void)
{
    for (uint32_t size = 0; size < SIZES; size++)
        for (uint32_t batch = 0; batch < BATCHES; batch++)
            for (uint32_t distance = 0; distance < BENCH_CLASSES; distance++) {
                struct cell *cell = &cells_of[size][batch][distance];
                for (uint32_t row = 0; row < ROWS; row++)
                    print_figure("contender", contender_name[row], "records/s", &cell->rate[row],
                                 size, batch, distance);
                for (uint32_t row = CK; row < CONTENDERS; row++)
                    print_figure("ringmill_to", contender_name[row], "ratio", &cell->ratio[row],
                                 size, batch, distance);
            }
    printf("{\"bench\":\"ring\",\"segments_kept\":%u,\"segments_dropped\":%u}\n", kept, dropped);
}

static int usage(FILE *to, int status)
{
    fprintf(to,
            "usage: bench_ring [--mpmc] [--seconds N] [--cells N] [--segment-us N]\n"
            "  --mpmc          rings that many producers share, and what a stopped one holds up\n"
            "  --seconds N     how long to measure (20)\n"
            "  --cells N       cells of the ring, a power of two from 512 (65536)\n"
            "  --segment-us N  how long one segment sends (4000; with --mpmc 100000)\n");
    return status;
}

static size_t arena_bytes(void)
{
    size_t bytes = sizeof(struct arena) + (size_t)cell_count * RECORD_MAX;
    return (bytes + 2 * 4096) & ~(size_t)4095;  // a page more: rte_ring begins with its own lines
}

static int measure(uint32_t seconds)
{
    for (size_t i = 0; i < sizeof source / 8; i++)
        ((uint64_t *)(void *)source)[i] = (i + 1) * UINT64_C(0x9e3779b97f4a7c15);
    uint32_t segments_per_second = (uint32_t)(1000000000 / segment_ns) + 1;
    struct bench_pair pair;
    int rc = reserve(seconds * segments_per_second);
    if (rc == 0)
        rc = bench_pair_open(&pair, arena_bytes(), produce_part);
    if (rc < 0) {
        fprintf(stderr, "bench_ring: %s\n",
                rc == -ENODEV ? "two CPUs are needed, and there are fewer" : strerror(-rc));
        give_back();
        return rc == -ENODEV ? EXIT_NOT_HERE : 1;
    }
    int64_t until = bench_now_ns() + seconds * INT64_C(1000000000);
    for (uint32_t round = 0; bench_now_ns() < until; round++)
        for (uint32_t shape = 0; shape < SIZES * BATCHES; shape++)
            run_shape(&pair, shape / BATCHES, shape % BATCHES, round);
    bench_pair_close(&pair);
    print_all();
    give_back();
    return 0;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"seconds", required_argument, NULL, 's'},
                                            {"cells", required_argument, NULL, 'c'},
                                            {"segment-us", required_argument, NULL, 'u'},
                                            {"mpmc", no_argument, NULL, 'm'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    uint32_t seconds = 20, segment_us = 0;
    bool mpmc = false, is_cut = false;
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;)
        switch (option) {
        case 's':
            seconds = bench_number(optarg, 3600);
            break;
        case 'c':
            cell_count = bench_number(optarg, RML_RING_CELLS_MAX);
            break;
        case 'u':
            segment_us = bench_number(optarg, 1000000);
            is_cut = true;
            break;
        case 'm':
            mpmc = true;
            break;
        case 'h':
            return usage(stdout, 0);
        default:
            return usage(stderr, 2);
        }
    if (!is_cut)
        segment_us = mpmc ? 100000 : 4000;
    if (optind != argc || seconds == 0 || segment_us == 0 || cell_count < 2 * BATCH
        || (cell_count & (cell_count - 1)) != 0)
        return usage(stderr, 2);
    segment_ns = segment_us * INT64_C(1000);
    return mpmc ? bench_ring_mpmc(seconds, cell_count, segment_ns) : measure(seconds);
}
