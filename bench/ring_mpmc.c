#include "bench/ring_mpmc.h"

#include <errno.h>
#include <signal.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#ifdef BENCH_CK
# include <ck_ring.h>
#endif
#ifdef BENCH_DPDK
# include <rte_config.h>
# include <rte_ring.h>
# include <rte_ring_elem.h>
#endif

#include "bench/support/figures.h"
#include "bench/support/pair.h"
#include "runtime/base/check.h"
#include "runtime/ring/shared_ring.h"

#define BATCH         256u
#define PRODUCERS_MAX 4u
#define SETTLE_NS     INT64_C(2000000)  // what was sent before the stop is out by then

enum contender { OURS, CK, RTE_MP, RTE_HTS, CONTENDERS };

enum { BATCHES = 2, PAUSES = 2 };

static const char *const contender_name[CONTENDERS] = {"ringmill_shared", "ck_ring_mpmc",
                                                       "rte_ring_mp", "rte_ring_hts"};

struct rec32 {
    uint64_t words[4];
};

#ifdef BENCH_CK
CK_RING_PROTOTYPE(rec32, rec32)
#endif

// What all processes see.
struct arena {
    alignas(128) _Atomic uint32_t start;

    struct {
        alignas(128) _Atomic uint64_t sent;  // once it has sent all
        _Atomic uint32_t done;
    } producers[PRODUCERS_MAX];
#ifdef BENCH_CK
    alignas(128) ck_ring_t ck;
#endif
    alignas(4096) unsigned char ring[];  // of every contender in turn
};

struct setting {
    enum contender contender;
    uint32_t producers, batch;
    bool paused;  // the first producer stops between claiming and publishing
};

static struct arena *arena;
static size_t arena_bytes;
static uint32_t cell_count;
static int64_t length_ns;
static struct rml_shared_place place;
static struct rml_shared_out out;
static struct rml_shared_in in;
static alignas(64) struct rec32 source[BATCH], sink[BATCH];

static bool is_there(enum contender contender)
{
#ifndef BENCH_CK
    if (contender == CK)
        return false;
#endif
#ifndef BENCH_DPDK
    if (contender == RTE_MP || contender == RTE_HTS)
        return false;
#endif
    return contender < CONTENDERS;
}

static void prepare(const struct setting *setting)
{
    const struct rml_shared_shape shape = {.cell_bytes = sizeof(struct rec32),
                                           .cell_count = cell_count,
                                           .run_max = setting->batch,
                                           .owner_count = PRODUCERS_MAX + 1};
    size_t returns_bytes = (rml_shared_returns_bytes(shape) + 4095) / 4096 * 4096;
    memset(arena, 0, arena_bytes);
    place = rml_shared_place_at(shape, arena->ring + returns_bytes, arena->ring);
    rml_shared_attach_in(&in, &place, PRODUCERS_MAX + 1);
#ifdef BENCH_CK
    if (setting->contender == CK)
        ck_ring_init(&arena->ck, cell_count);
#endif
#ifdef BENCH_DPDK
    if (setting->contender == RTE_MP)
        RML_CHECK(rte_ring_init((void *)arena->ring, "bench", cell_count, 0) == 0);
    if (setting->contender == RTE_HTS)
        RML_CHECK(rte_ring_init((void *)arena->ring, "bench", cell_count,
                                RING_F_MP_HTS_ENQ | RING_F_MC_HTS_DEQ)
                  == 0);
#endif
}

/* How many of up to `count` records went in. */
static uint32_t push(enum contender contender, const struct rec32 *records, uint32_t count)
{
    switch (contender) {
    case OURS: {
        void *cells;
        int32_t run = rml_shared_claim(&out, count, &cells);
        RML_CHECK(run >= 0);
        if (run == 0)
            return 0;
        memcpy(cells, records, (size_t)run * sizeof *records);
        RML_CHECK(rml_shared_publish(&out) == 0);
        return (uint32_t)run;
    }
    case CK: {
        uint32_t sent = 0;
#ifdef BENCH_CK
        while (sent < count
               && ck_ring_enqueue_mpmc_rec32(&arena->ck, (void *)arena->ring,
                                             (void *)(uintptr_t)&records[sent]))
            sent++;
#endif
        return sent;
    }
    case RTE_MP:
    case RTE_HTS:
#ifdef BENCH_DPDK
        return rte_ring_enqueue_bulk_elem((void *)arena->ring, records, sizeof *records, count,
                                          NULL);
#endif
    case CONTENDERS:
        break;
    }
    return 0;
}

static uint32_t pop(enum contender contender)
{
    switch (contender) {
    case OURS: {
        int32_t count = rml_shared_take(&in, sink, NULL, BATCH);
        RML_CHECK(count >= 0);
        return (uint32_t)count;
    }
    case CK: {
        uint32_t got = 0;
#ifdef BENCH_CK
        while (got < BATCH
               && ck_ring_dequeue_mpmc_rec32(&arena->ck, (void *)arena->ring, &sink[got]))
            got++;
#endif
        return got;
    }
    case RTE_MP:
    case RTE_HTS:
#ifdef BENCH_DPDK
        return rte_ring_dequeue_burst_elem((void *)arena->ring, sink, sizeof *sink, BATCH, NULL);
#endif
    case CONTENDERS:
        break;
    }
    return 0;
}

// Claim room for one record as each contender's own enqueue begins, and stop there.
static void stop_in_the_middle(enum contender contender)
{
    switch (contender) {
    case OURS: {
        void *cells;
        while (rml_shared_claim(&out, 1, &cells) == 0)
            continue;
        break;
    }
    case CK: {
#ifdef BENCH_CK
        unsigned int size;
        while (ck_ring_enqueue_reserve_mpmc_rec32(&arena->ck, (void *)arena->ring, &size) == NULL)
            continue;
#endif
        break;
    }
    case RTE_MP:
    case RTE_HTS: {
#ifdef BENCH_DPDK
        struct rte_ring *ring = (void *)arena->ring;
        uint32_t head, next, room;
        if (contender == RTE_MP)
            while (__rte_ring_move_prod_head(ring, 0, 1, RTE_RING_QUEUE_FIXED, &head, &next, &room)
                   == 0)
                continue;
        else
            while (__rte_ring_hts_move_prod_head(ring, 1, RTE_RING_QUEUE_FIXED, &head, &room) == 0)
                continue;
#endif
        break;
    }
    case CONTENDERS:
        break;
    }
    raise(SIGSTOP);
}

static void produce(const struct setting *setting, uint32_t number)
{
    rml_shared_attach_out(&out, &place, number + 1);
    uint32_t spins = 0;
    // acquire: bench.start
    while (atomic_load_explicit(&arena->start, memory_order_acquire) == 0)
        bench_wait(&spins);
    int64_t start = bench_now_ns();
    uint64_t sent = 0;
    bool stops = setting->paused && number == 0;
    do {
        for (uint64_t until = sent + BATCH; sent < until;) {
            // Looked at for each record: rings that wait in order get few through where cores are few.
            if (stops && bench_now_ns() - start > length_ns / 8)
                stop_in_the_middle(setting->contender);
            uint32_t at = (uint32_t)sent % BATCH;
            uint32_t count = setting->batch == 1 ? 1 : BATCH - at;
            uint32_t moved;
            spins = 0;
            while ((moved = push(setting->contender, source + at, count)) == 0)
                bench_wait(&spins);
            sent += moved;
        }
    } while (setting->paused || bench_now_ns() - start < length_ns);
    // relaxed: carried by bench.sent
    atomic_store_explicit(&arena->producers[number].sent, sent, memory_order_relaxed);
    // release: bench.sent
    atomic_store_explicit(&arena->producers[number].done, 1, memory_order_release);
}

// How many records there will be, or UINT64_MAX while somebody still sends.
static uint64_t sent_by_all(uint32_t producers)
{
    uint64_t sent = 0;
    for (uint32_t i = 0; i < producers; i++) {
        // acquire: bench.sent
        if (atomic_load_explicit(&arena->producers[i].done, memory_order_acquire) == 0)
            return UINT64_MAX;
        // relaxed: carried by bench.sent
        sent += atomic_load_explicit(&arena->producers[i].sent, memory_order_relaxed);
    }
    return sent;
}

static uint64_t add_up(const struct rec32 *records, uint32_t count)
{
    const uint64_t *words = records->words;
    uint64_t sum = 0;
    for (uint32_t i = 0; i < count * 4; i++)
        sum += words[i];
    return sum;
}

// Records a second from the first to the last, all of them there.
static double consume_all(const struct setting *setting)
{
    uint64_t received = 0, sum = 0;
    int64_t start = 0;
    uint32_t spins = 0;
    while (received == 0 || sent_by_all(setting->producers) != received) {
        uint32_t got = pop(setting->contender);
        if (got == 0) {
            bench_wait(&spins);
            continue;
        }
        if (received == 0)
            start = bench_now_ns();
        sum += add_up(sink, got);
        received += got;
        spins = 0;
    }
    RML_CHECK(received % BATCH == 0 && sum == received / BATCH * add_up(source, BATCH));
    return (double)received * 1e9 / (double)(bench_now_ns() - start);
}

// Records a second while the first producer stands still, which it is seen to do.
static double consume_past_a_stop(const struct setting *setting, pid_t first)
{
    uint64_t received = 0, sum = 0;
    int64_t stopped = 0;
    uint32_t spins = 0;
    for (int64_t now = bench_now_ns(); stopped == 0 || now - stopped < SETTLE_NS + length_ns;
         now = bench_now_ns()) {
        uint32_t got = pop(setting->contender);
        sum += add_up(sink, got);
        if (stopped != 0 && now - stopped >= SETTLE_NS)
            received += got;
        if (got == 0)
            bench_wait(&spins);
        int status;
        if (stopped == 0 && waitpid(first, &status, WNOHANG | WUNTRACED) == first) {
            RML_CHECK(WIFSTOPPED(status));
            stopped = bench_now_ns();
        }
    }
    __asm__ volatile("" : : "r"(sum));
    return (double)received * 1e9 / (double)length_ns;
}

static int run(const struct setting *setting, double *ret_rate)
{
    prepare(setting);
    pid_t parent = getpid(), producers[PRODUCERS_MAX];
    for (uint32_t i = 0; i < setting->producers; i++) {
        producers[i] = fork();
        if (producers[i] < 0)
            return -errno;
        if (producers[i] == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            if (getppid() == parent)
                produce(setting, i);
            _exit(0);
        }
    }
    // release: bench.start
    atomic_store_explicit(&arena->start, 1, memory_order_release);
    *ret_rate = setting->paused ? consume_past_a_stop(setting, producers[0]) : consume_all(setting);
    for (uint32_t i = 0; i < setting->producers; i++) {
        if (setting->paused)
            kill(producers[i], SIGKILL);  // some of them wait for ever
        waitpid(producers[i], NULL, 0);
    }
    return 0;
}

static struct bench_figures rates[PAUSES][PRODUCERS_MAX][BATCHES][CONTENDERS];

static struct bench_figures *figures_of(const struct setting *setting)
{
    return &rates[setting->paused][setting->producers - 1][setting->batch == BATCH]
                 [setting->contender];
}

// One stopped producer is to hold up others, so there must be others.
static bool next_setting(struct setting *setting)
{
    do {
        if (++setting->contender < CONTENDERS)
            continue;
        setting->contender = 0;
        setting->batch = setting->batch == 1 ? BATCH : 1;
        if (setting->batch == 1 && ++setting->producers > PRODUCERS_MAX) {
            setting->producers = 2;
            if (setting->paused)
                return false;
            setting->paused = true;
        }
    } while (!is_there(setting->contender));
    return true;
}

static const struct setting first_setting = {.contender = OURS, .producers = 1, .batch = 1};

static int run_round(void)
{
    struct setting setting = first_setting;
    do {
        double rate = 0;
        int rc = run(&setting, &rate);
        if (rc < 0)
            return rc;
        bench_figures_add(figures_of(&setting), rate);
    } while (next_setting(&setting));
    return 0;
}

static void print_all(void)
{
    struct setting setting = first_setting;
    do {
        struct bench_figures *figures = figures_of(&setting);
        struct bench_quartiles q = bench_figures_quartiles(figures);
        printf("{\"bench\":\"ring_mpmc\",\"contender\":\"%s\",\"producers\":%u,\"stopped\":%u,"
               "\"cell_bytes\":32,\"batch\":%u,\"cells\":%u,\"segments\":%u,"
               "\"unit\":\"records/s\",\"q1\":%.4g,\"median\":%.4g,\"q3\":%.4g}\n",
               contender_name[setting.contender], setting.producers, (unsigned)setting.paused,
               setting.batch, cell_count, figures->count, q.q1, q.median, q.q3);
    } while (next_setting(&setting));
}

static int reserve(uint32_t rounds)
{
    struct bench_figures *all = &rates[0][0][0][0];
    for (size_t i = 0; i < sizeof rates / sizeof *all; i++)
        if (bench_figures_init(&all[i], rounds) < 0)
            return -ENOMEM;
    return 0;
}

static void give_back(void)
{
    struct bench_figures *all = &rates[0][0][0][0];
    for (size_t i = 0; i < sizeof rates / sizeof *all; i++)
        bench_figures_fini(&all[i]);
    munmap(arena, arena_bytes);
}

int bench_ring_mpmc(uint32_t seconds, uint32_t cells, int64_t segment_ns)
{
    cell_count = cells;
    length_ns = segment_ns;
    for (size_t i = 0; i < sizeof source / 8; i++)
        ((uint64_t *)(void *)source)[i] = (i + 1) * UINT64_C(0x9e3779b97f4a7c15);
    arena_bytes = sizeof *arena + (size_t)cells * (sizeof(struct rec32) + 8) + 4 * (size_t)4096;
    arena = mmap(NULL, arena_bytes, PROT_READ | PROT_WRITE,
                 MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (arena == MAP_FAILED) {
        fprintf(stderr, "bench_ring: %s\n", strerror(errno));
        return 1;
    }
    int rc = reserve(seconds * 1000);
    int64_t until = bench_now_ns() + seconds * INT64_C(1000000000);
    do
        rc = rc < 0 ? rc : run_round();
    while (rc == 0 && bench_now_ns() < until);
    if (rc < 0)
        fprintf(stderr, "bench_ring: %s\n", strerror(-rc));
    else
        print_all();
    give_back();
    return rc < 0 ? 1 : 0;
}
