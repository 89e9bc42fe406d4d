/*
 * bench_latency - from the moment a record should be sent to the moment its result is seen.
 *
 * `ringmill run` is a process of its own, whose worker stays on one CPU. This process, on another CPU,
 * is producer and subscriber at once: it sends a record when its time has come, and looks for results
 * all the time in between. Every record is a result (a filter that lets everything through), so each
 * has a latency. The bare ring is the same game with nothing in it but two of our rings and a process
 * that carries records from the one to the other: what the way there and back costs.
 *
 * The load is open: records have times at which they are to be sent, at an even rate, whatever becomes
 * of those before, and a latency counts from that time. A pause of anyone, this process included,
 * is then in the latency of every record that should have gone during it, and not left out.
 *
 * The two take turns, a slice each, rate after rate. The engine's worker spins for some microseconds
 * when it has nothing to do and sleeps then, so that at low rates every record wakes it; the bare
 * ring's other end spins for ever. What is printed is of all records of all slices ("all"), and of
 * those of slices during which this process kept its CPU ("calm").
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <sched.h>
#include <signal.h>
#include <stdalign.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bench/support/arguments.h"
#include "bench/support/pair.h"
#include "operators/registry.h"
#include "runtime/base/check.h"
#include "runtime/base/err.h"
#include "runtime/client/client.h"
#include "runtime/client/subscribe.h"
#include "runtime/plan/plan.h"
#include "runtime/ring/ring.h"

#define EXIT_NOT_HERE 77  // as test programs say that they were skipped
#define STUCK_NS      INT64_C(10000000000)
#define CELLS         4096u
#define RATES         4
#define BURST         256u  // records that are late are sent so many at once, then results are looked for

static const uint32_t rates[RATES] = {1000, 10000, 100000, 1000000};

static const char pipeline[] =
    "version: 1\n"
    "pipeline: latency\n"
    "schema: {event: {ts: time_ns, number: u64}}\n"
    "runtime: {workers: 1, partitions: 1, cpus: [%u]}\n"
    "sources: {events: {schema: event, event_time: ts, out_of_order: 0ms}}\n"
    "stages: {all: {from: events, filter: true}}\n"
    "sinks: {live: {from: all, type: ring}}\n";

struct event {
    int64_t ts;       // when it should be sent
    uint64_t number;  // END: the echo is to end
};

#define END UINT64_MAX

/* A way there and back. */
struct way {
    const char *name;
    bool (*put)(const struct event *event);  // false: no room now
    void (*publish)(void);
    bool (*get)(struct event *ret_event);
};

static unsigned cpus[2];  // this process's, the other side's

_Noreturn static void give_up(const char *what, const char *why)
{
    fprintf(stderr, "bench_latency: %s: %s\n", what, why);
    exit(1);
}

static void stay_on(unsigned cpu)
{
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    if (sched_setaffinity(0, sizeof one, &one) < 0)
        give_up("a CPU of its own", strerror(errno));
}

static bool choose_cpus(void)
{
    cpu_set_t allowed;
    if (sched_getaffinity(0, sizeof allowed, &allowed) < 0)
        return false;
    unsigned found = 0;
    for (unsigned cpu = 0; cpu < CPU_SETSIZE && found < 2; cpu++)
        if (CPU_ISSET(cpu, &allowed))
            cpus[found++] = cpu;
    return found == 2;
}

/* The bare ring. */

static struct echo {
    pid_t process;
    struct rml_ring_out there;
    struct rml_ring_in back;
} echo;

struct echo_lines {
    alignas(128) _Atomic uint64_t published;
    alignas(128) _Atomic uint64_t released;
    alignas(128) struct event cells[CELLS];
};

// Without a pause, which a hypervisor may take for a reason to run somebody else: nothing but the rings
// is to take time.
static void look_again(uint32_t *spins)
{
    if (++*spins % 65536 == 0)
        sched_yield();
}

// Carry what comes on the one ring to the other, until the end is told.
static void carry(const struct rml_ring_place *there, const struct rml_ring_place *back)
{
    struct rml_ring_in in;
    struct rml_ring_out out;
    RML_CHECK(rml_ring_attach_in(&in, there) == 0 && rml_ring_attach_out(&out, back) == 0);
    for (uint32_t spins = 0;;) {
        const void *from;
        void *to;
        int32_t run = rml_ring_peek(&in, CELLS, &from);
        if (run <= 0) {
            look_again(&spins);
            continue;
        }
        // the rings are alike, and the reader reads all the time
        while (rml_ring_claim(&out, (uint32_t)run, &to) < run)
            look_again(&spins);
        memcpy(to, from, (size_t)run * sizeof(struct event));
        const struct event *last = from;
        if (last[run - 1].number == END)
            _exit(0);
        rml_ring_commit(&out, (uint32_t)run);
        rml_ring_publish(&out);
        rml_ring_take(&in, (uint32_t)run);
        rml_ring_release(&in, (uint32_t)run);
    }
}

static void echo_start(void)
{
    static struct echo_lines *lines;
    if (lines == NULL)
        lines = mmap(NULL, 2 * sizeof *lines, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
                     -1, 0);
    if (lines == MAP_FAILED)
        give_up("memory for rings", strerror(errno));
    memset(lines, 0, 2 * sizeof *lines);
    struct rml_ring_place places[2];
    for (int i = 0; i < 2; i++)
        places[i] = (struct rml_ring_place){.shape = {sizeof(struct event), CELLS},
                                            .cells = (void *)lines[i].cells,
                                            .published = &lines[i].published,
                                            .released = &lines[i].released};
    RML_CHECK(rml_ring_attach_out(&echo.there, &places[0]) == 0);
    RML_CHECK(rml_ring_attach_in(&echo.back, &places[1]) == 0);
    int ready[2];
    if (pipe2(ready, O_CLOEXEC) < 0)
        give_up("a pipe for the echo", strerror(errno));
    pid_t parent = getpid();
    echo.process = fork();
    if (echo.process < 0)
        give_up("a process for the echo", strerror(errno));
    if (echo.process == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(1);  // it died before it could be followed
        stay_on(cpus[1]);
        (void)!write(ready[1], "", 1);
        carry(&places[0], &places[1]);
    }
    close(ready[1]);
    char byte;
    if (read(ready[0], &byte, 1) != 1)
        give_up("the echo", "it did not start");
    close(ready[0]);
}

static bool echo_put(const struct event *event)
{
    void *cell;
    if (rml_ring_claim(&echo.there, 1, &cell) < 1)
        return false;
    memcpy(cell, event, sizeof *event);
    rml_ring_commit(&echo.there, 1);
    return true;
}

static void echo_publish(void)
{
    rml_ring_publish(&echo.there);
}

static bool echo_get(struct event *ret_event)
{
    const void *cell;
    if (rml_ring_peek(&echo.back, 1, &cell) < 1)
        return false;
    memcpy(ret_event, cell, sizeof *ret_event);
    rml_ring_take(&echo.back, 1);
    rml_ring_release(&echo.back, 1);
    return true;
}

static void echo_end(void)
{
    const struct event end = {.number = END};
    RML_CHECK(echo_put(&end));  // everything came back, so the ring is empty
    echo_publish();
    int status;
    if (waitpid(echo.process, &status, 0) < 0 || status != 0)
        give_up("the echo", "it did not end as it was told");
}

/* The engine. */

static struct engine {
    pid_t process;
    char folder[64];
    char file[96];
    struct rml_producer *producer;
    struct rml_subscriber *subscriber;
} engine;

static uint64_t schema_hash(const char *text)
{
    struct rml_plan *plan;
    struct rml_plan_errors errors = {0};
    struct rml_err err = {0};
    if (rml_plan_parse(text, strlen(text), "bench", rml_operators_functions(), &plan, &errors, &err)
        < 0)
        give_up("the pipeline", errors.count > 0 ? errors.list[0].text : err.text);
    uint64_t hash = plan->sources[0].schema.hash;
    RML_CHECK(plan->sources[0].schema.record_bytes == sizeof(struct event));
    rml_plan_errors_fini(&errors);
    rml_plan_close(plan);
    return hash;
}

static void run_engine(pid_t parent)
{
    cpu_set_t both;
    CPU_ZERO(&both);
    CPU_SET(cpus[0], &both);
    CPU_SET(cpus[1], &both);
    sched_setaffinity(0, sizeof both, &both);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent)
        _exit(1);
    execl(RINGMILL_PROGRAM, "ringmill", "run", engine.file, "--quiet", (char *)NULL);
    _exit(127);
}

// An engine that is starting refuses: ask until it answers, or has ended.
static void attach(uint64_t hash)
{
    char error[RML_PRODUCER_ERROR_BYTES];
    int64_t until_ns = bench_now_ns() + STUCK_NS;
    const struct timespec pause = {.tv_nsec = 2000000};
    while (rml_producer_open(&engine.producer, "latency/events", hash, sizeof(struct event), NULL,
                             error, sizeof error)
           < 0) {
        if (waitpid(engine.process, NULL, WNOHANG) != 0 || bench_now_ns() > until_ns)
            give_up("the engine", error);
        nanosleep(&pause, NULL);
    }
    if (rml_subscriber_open(&engine.subscriber, "latency/all", hash, sizeof(struct event), NULL,
                            error, sizeof error)
        < 0)
        give_up("the engine", error);
}

static void engine_start(void)
{
    char text[1024];
    snprintf(text, sizeof text, pipeline, cpus[1]);
    snprintf(engine.folder, sizeof engine.folder, "/tmp/bench_latency-XXXXXX");
    if (mkdtemp(engine.folder) == NULL)
        give_up(engine.folder, strerror(errno));
    snprintf(engine.file, sizeof engine.file, "%s/latency.yaml", engine.folder);
    FILE *file = fopen(engine.file, "w");
    if (file == NULL || fputs(text, file) < 0 || fclose(file) != 0)
        give_up(engine.file, strerror(errno));
    setenv("RINGMILL_RUNDIR", engine.folder, 1);
    pid_t parent = getpid();
    engine.process = fork();
    if (engine.process < 0)
        give_up("a process for the engine", strerror(errno));
    if (engine.process == 0)
        run_engine(parent);
    attach(schema_hash(text));
}

static bool engine_put(const struct event *event)
{
    if (rml_producer_put(engine.producer, event) != 1)
        give_up("the engine", "it took no record");
    return true;
}

static void engine_publish(void)
{
    if (rml_producer_publish(engine.producer) < 0)
        give_up("the engine", "it has gone");
}

static bool engine_get(struct event *ret_event)
{
    return rml_subscriber_read(engine.subscriber, ret_event, NULL) == 1;
}

static void engine_end(void)
{
    if (rml_subscriber_missed(engine.subscriber) != 0)
        give_up("the engine", "results were missed");
    rml_subscriber_close(engine.subscriber);
    rml_producer_close(engine.producer);
    kill(engine.process, SIGTERM);
    int status;
    if (waitpid(engine.process, &status, 0) < 0 || status != 0)
        give_up("the engine", "it did not end well");
    unlink(engine.file);
    rmdir(engine.folder);
}

/* Measuring. */

enum { RING, ENGINE, WAYS };

static const struct way ways[WAYS] = {
    [RING] = {"ring", echo_put, echo_publish, echo_get},
    [ENGINE] = {"engine", engine_put, engine_publish, engine_get},
};

// Latencies in nanoseconds; those of calm slices come first, in the order they were measured.
static struct samples {
    uint32_t *ns;
    uint32_t count, limit;
    uint32_t *calm_ns;
    uint32_t calm_count;
} samples[WAYS][RATES];

static long preemptions(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_nivcsw;
}

static void note(struct samples *s, int64_t latency_ns)
{
    RML_CHECK(s->count < s->limit && latency_ns >= 0);
    s->ns[s->count++] = latency_ns < UINT32_MAX ? (uint32_t)latency_ns : UINT32_MAX;
}

// Send `count` records at an even rate, and see each come back once and in order.
static void run_slice(const struct way *way, uint32_t rate, uint32_t count, struct samples *s)
{
    uint32_t before = s->count, sent = 0, seen = 0;
    long preempted = preemptions();
    double gap_ns = 1e9 / rate;
    int64_t start_ns = bench_now_ns() + 1000000, news_ns = start_ns;
    while (seen < count) {
        int64_t now_ns = bench_now_ns();
        uint32_t put = 0;
        for (; sent < count; sent++, put++) {
            const struct event event = {.ts = start_ns + (int64_t)(sent * gap_ns), .number = sent};
            if (event.ts > now_ns || put == BURST || !way->put(&event))
                break;
        }
        if (put > 0)
            way->publish();
        for (struct event event; way->get(&event); seen++) {
            news_ns = bench_now_ns();
            RML_CHECK(event.number == seen);
            note(s, news_ns - event.ts);
        }
        if (now_ns - news_ns > STUCK_NS)
            give_up(way->name, "records went and did not come back");
    }
    if (preemptions() != preempted)
        return;
    memcpy(s->calm_ns + s->calm_count, s->ns + before, (s->count - before) * sizeof s->ns[0]);
    s->calm_count += s->count - before;
}

static int by_value(const void *left, const void *right)
{
    uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;
    return (a > b) - (a < b);
}

static void print_figures(const char *name, const char *which, uint32_t rate, uint32_t *ns,
                          uint32_t count)
{
    if (count == 0)
        return;
    qsort(ns, count, sizeof ns[0], by_value);
    printf("{\"bench\":\"latency\",\"path\":\"%s\",\"rate\":%u,\"slices\":\"%s\",\"records\":%u,"
           "\"unit\":\"ns\",\"p50\":%u,\"p99\":%u,\"p99.9\":%u,\"max\":%u}\n",
           name, rate, which, count, ns[count / 2], ns[(uint64_t)count * 99 / 100],
           ns[(uint64_t)count * 999 / 1000], ns[count - 1]);
}

static void print_all(void)
{
    for (uint32_t r = 0; r < RATES; r++)
        for (uint32_t w = 0; w < WAYS; w++) {
            struct samples *s = &samples[w][r];
            print_figures(ways[w].name, "calm", rates[r], s->calm_ns, s->calm_count);
            print_figures(ways[w].name, "all", rates[r], s->ns, s->count);
        }
}

static uint32_t slice_records(uint32_t rate, uint32_t slice_ms)
{
    uint32_t records = (uint32_t)((uint64_t)rate * slice_ms / 1000);
    return records > 0 ? records : 1;
}

static void reserve(uint32_t rounds, uint32_t slice_ms)
{
    for (uint32_t w = 0; w < WAYS; w++)
        for (uint32_t r = 0; r < RATES; r++) {
            struct samples *s = &samples[w][r];
            s->limit = rounds * slice_records(rates[r], slice_ms);
            s->ns = calloc(s->limit, sizeof s->ns[0]);
            s->calm_ns = calloc(s->limit, sizeof s->calm_ns[0]);
            if (s->ns == NULL || s->calm_ns == NULL)
                give_up("memory for figures", strerror(ENOMEM));
        }
}

static void give_back(void)
{
    for (uint32_t w = 0; w < WAYS; w++)
        for (uint32_t r = 0; r < RATES; r++) {
            free(samples[w][r].ns);
            free(samples[w][r].calm_ns);
        }
}

static int measure(uint32_t rounds, uint32_t slice_ms)
{
    if (!choose_cpus()) {
        fprintf(stderr, "bench_latency: two CPUs are needed, and there are fewer\n");
        return EXIT_NOT_HERE;
    }
    stay_on(cpus[0]);
    reserve(rounds, slice_ms);
    engine_start();
    for (uint32_t round = 0; round < rounds; round++)
        for (uint32_t r = 0; r < RATES; r++) {
            uint32_t count = slice_records(rates[r], slice_ms);
            echo_start();
            run_slice(&ways[RING], rates[r], count, &samples[RING][r]);
            echo_end();
            run_slice(&ways[ENGINE], rates[r], count, &samples[ENGINE][r]);
        }
    engine_end();
    print_all();
    give_back();
    return 0;
}

static int usage(FILE *to, int status)
{
    fprintf(to, "usage: bench_latency [--rounds N] [--slice-ms N]\n"
                "  --rounds N    how often every rate has its turn (20)\n"
                "  --slice-ms N  how long each turn of a rate sends (200)\n");
    return status;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"rounds", required_argument, NULL, 'r'},
                                            {"slice-ms", required_argument, NULL, 's'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    uint32_t rounds = 20, slice_ms = 200;
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;)
        switch (option) {
        case 'r':
            rounds = bench_number(optarg, 1000);
            break;
        case 's':
            slice_ms = bench_number(optarg, 1000);
            break;
        case 'h':
            return usage(stdout, 0);
        default:
            return usage(stderr, 2);
        }
    if (optind != argc || rounds == 0 || slice_ms == 0)
        return usage(stderr, 2);
    return measure(rounds, slice_ms);
}
