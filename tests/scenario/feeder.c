/*
 * feeder - a producer that a scenario drives: a stream that can be made again from its seed
 * (stream.py), and a word in a file that says how far it got, for when it is killed.
 *
 *     feeder PLACE SCHEMA_HASH SEED COUNT [keys N] [from NS] [step NS] [disorder NS] [batch N]
 *            [pause US] [every N] [wait NS] [progress FILE] [die NS] [in-place] [gate] [until-told] [hold]
 *            [threads N] [asks] [settles] [one-by-one]
 *
 * It publishes after each `batch` records, and has the library publish after each `every` by itself.
 * `wait` is how long a full lane may hold it up, -1 for ever, as it is where nothing is said: how long an engine takes
 * is the machine's affair. For an answer it waits as long as any test may take. With `die` it kills itself with SIGKILL
 * so long after its first publish, or `early`, before it attaches. `in-place` fills claimed cells
 * instead of having records copied. With `gate` it feeds once its standard input says something, with
 * `until-told` as long as that does not end; with `hold` it stays attached, with nothing more to say, until its standard input ends.
 * With `asks` it says in FILE-durable, after each publish, how many of its records it has been told are durable; with
 * `settles` it waits before that until all are, for as long as `wait` says.
 * With `one-by-one`, and as the only producer of its source, it waits after each publish until the engine has taken that:
 * no step of a partition is of more than a batch then, however slow the engine is.
 * With `threads` it is so many producers, each in a thread of its own, with the seeds that follow SEED; their
 * progress files have the seed behind the name.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "runtime/base/err.h"
#include "runtime/client/client.h"
#include "tools/view.h"

#define PATIENT_NS INT64_C(3600000000000)

struct event {
    int64_t ts;
    uint64_t id;
    uint32_t key;
    int32_t value;
};

struct settings {
    uint64_t seed, count, keys, from, step, disorder, batch, pause_us, every, wait_ns, die_ns;
    uint64_t threads, hash;
    const char *place, *progress_path;
    bool in_place, gate, early, hold, until_told, asks, settles, one_by_one;
    _Atomic uint64_t *durable;
    struct rml_view view;
};

/* What outlives this process, however it ends. Records below `published` are visible to the engine for
 * certain; those from `begun` on are not, for certain. */
struct progress {
    _Atomic uint64_t begun, published;
};

/* splitmix64: G. L. Steele, D. Lea, C. H. Flood, "Fast splittable pseudorandom number generators",
 * OOPSLA 2014. */
static uint64_t mix(uint64_t x)
{
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static struct event make_event(const struct settings *s, uint64_t i)
{
    uint64_t h = mix((s->seed << 32) + i);
    uint64_t back = s->disorder == 0 ? 0 : (h >> 40) % s->disorder;
    return (struct event){
        .ts = (int64_t)(s->from + i * s->step) - (int64_t)back,
        .id = (s->seed << 32) + i,
        .key = (uint32_t)(s->seed * s->keys + h % s->keys),
        .value = (int32_t)((h >> 20) % 1000) - 300,
    };
}

static void read_settings(struct settings *s, int argc, char **argv)
{
    const struct {
        const char *name;
        uint64_t *value;
    } numbers[] = {{"keys", &s->keys},      {"step", &s->step},   {"disorder", &s->disorder},
                   {"batch", &s->batch},    {"every", &s->every}, {"wait", &s->wait_ns},
                   {"pause", &s->pause_us}, {"die", &s->die_ns},  {"from", &s->from},
                   {"threads", &s->threads}};

    const struct {
        const char *name;
        bool *flag;
    } flags[] = {{"in-place", &s->in_place},
                 {"gate", &s->gate},
                 {"early", &s->early},
                 {"hold", &s->hold},
                 {"asks", &s->asks},
                 {"settles", &s->settles},
                 {"one-by-one", &s->one_by_one},
                 {"until-told", &s->until_told}};

    for (int i = 5; i < argc; i++) {
        for (size_t n = 0; n < sizeof flags / sizeof flags[0]; n++)
            *flags[n].flag = *flags[n].flag || strcmp(argv[i], flags[n].name) == 0;
        if (i + 1 >= argc)
            continue;
        if (strcmp(argv[i], "progress") == 0)
            s->progress_path = argv[i + 1];
        for (size_t n = 0; n < sizeof numbers / sizeof numbers[0]; n++) {
            if (strcmp(argv[i], numbers[n].name) == 0)
                *numbers[n].value = strtoull(argv[i + 1], NULL, 10);
        }
    }
}

static void *open_words(const char *path, size_t bytes)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, (off_t)bytes) < 0)
        return NULL;
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    return memory == MAP_FAILED ? NULL : memory;
}

/* Have the kernel kill us at a moment that nothing in the program can know of. */
static void die_in(uint64_t ns)
{
    timer_t timer;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGKILL};
    struct itimerspec when = {.it_value = {(time_t)(ns / 1000000000), (long)(ns % 1000000000)}};
    if (timer_create(CLOCK_MONOTONIC, &event, &timer) < 0
        || timer_settime(timer, 0, &when, NULL) < 0) {
        perror("feeder: timer");
        exit(1);
    }
}

/* One record: 1, 0 when it was dropped, or an error. */
static int give(struct rml_producer *producer, const struct settings *s, const struct event *event)
{
    if (!s->in_place)
        return rml_producer_put(producer, event);
    uint32_t partition = rml_producer_route(producer, event);
    void *cell;
    int32_t got = rml_producer_claim(producer, partition, 1, &cell);
    if (got < 0)
        return got;
    if (got == 0)
        return rml_producer_drop(producer, 1);
    memcpy(cell, event, sizeof *event);
    int rc = rml_producer_commit(producer, partition, 1);
    return rc < 0 ? rc : 1;
}

static bool is_told(const struct settings *s)
{
    struct pollfd end = {.fd = STDIN_FILENO, .events = POLLIN};
    return s->until_told && poll(&end, 1, 0) > 0;
}

/* What is durable, for whoever looks at the file; likewise after an error. */
static int tell_durable(struct rml_producer *producer, const struct settings *s, bool settles)
{
    uint64_t records;
    if (s->durable == NULL)
        return 0;
    int settled = settles ? rml_producer_wait_durable(producer, (int64_t)s->wait_ns) : 0;
    int rc = rml_producer_durable(producer, &records);
    if (rc == 0)
        atomic_store(s->durable, records);
    return settled < 0 ? settled : rc;
}

/* Have a look at how much the engine has taken. */
static void open_view(struct settings *s)
{
    struct rml_err err;
    char pipeline[RML_WIRE_NAME];
    snprintf(pipeline, sizeof pipeline, "%.*s", (int)strcspn(s->place, "/"), s->place);
    if (rml_view_open(&s->view, pipeline, PATIENT_NS, &err) == 0)
        return;
    fprintf(stderr, "feeder: %s\n", err.text);
    exit(1);
}

static bool is_taken(const struct settings *s, uint64_t published)
{
    struct rml_board_totals totals;
    if (!s->one_by_one)
        return true;
    const struct rml_board *board = &s->view.board;
    const char *source = s->place + strcspn(s->place, "/") + 1;
    rml_board_total(board, &totals);
    uint64_t taken = 0;
    for (uint32_t i = 0; i < board->head->sources; i++) {
        if (strcmp(board->sources[i].name, source) == 0)
            taken = totals.source[i][RML_SOURCE_taken];
    }
    return taken >= published;
}

static int feed(struct rml_producer *producer, const struct settings *s, struct progress *progress)
{
    uint64_t pending = 0;
    for (uint64_t i = 0; i < s->count; i++) {
        struct event event = make_event(s, i);
        // before: a full lane has the library publish what it has
        atomic_store(&progress->begun, i + 1);
        int rc = give(producer, s, &event);
        if (rc < 0)
            return rc;
        if (++pending < s->batch && i + 1 < s->count)
            continue;
        pending = 0;
        rc = rml_producer_publish(producer);
        if (rc < 0)
            return rc;
        if (atomic_exchange(&progress->published, i + 1) == 0 && s->die_ns > 0 && !s->early)
            die_in(s->die_ns);
        rc = tell_durable(producer, s, s->settles);
        if (rc < 0)
            return rc;
        while (!is_taken(s, i + 1) && !is_told(s))
            sched_yield();
        if (is_told(s))
            break;
        if (s->pause_us > 0)
            nanosleep(&(struct timespec){.tv_nsec = (long)s->pause_us * 1000}, NULL);
    }
    return 0;
}

static struct rml_producer *attach(const struct settings *s)
{
    struct rml_producer *producer;
    char error[RML_PRODUCER_ERROR_BYTES];
    const struct rml_producer_options options = {
        .publish_every = (uint32_t)s->every, .wait_ns = (int64_t)s->wait_ns, .open_ns = PATIENT_NS};
    int rc = rml_producer_open(&producer, s->place, s->hash, sizeof(struct event), &options, error,
                               sizeof error);
    if (rc == 0)
        return producer;
    fprintf(stderr, "feeder: %s\n", error);
    exit(1);
}

/* Feed as the settings say: what it wrote is added to `written` and `dropped`. */
static int feed_all(struct rml_producer *producer, const struct settings *s,
                    struct progress *progress, uint64_t *written, uint64_t *dropped)
{
    int rc = tell_durable(producer, s, false);
    rc = rc < 0 ? rc : feed(producer, s, progress);
    if (rc < 0) {
        (void)tell_durable(producer, s, false);
        char reason[200];
        rml_producer_reason(producer, reason, sizeof reason);
        fprintf(stderr, "feeder: %s %s\n", strerror(-rc), reason);
    }
    struct rml_producer_stats stats = {0};
    rml_producer_stats(producer, &stats);
    *written += stats.written;
    *dropped += stats.dropped;
    return rc;
}

static struct progress *progress_of(const struct settings *s, const char *path)
{
    static struct progress unseen;
    struct progress *progress = path != NULL ? open_words(path, sizeof *progress) : &unseen;
    if (progress != NULL)
        return progress;
    fprintf(stderr, "feeder: %s: %s\n", s->progress_path, strerror(errno));
    exit(1);
}

struct member {
    pthread_t thread;
    struct settings settings;
    struct rml_producer *producer;
    struct progress *progress;
    uint64_t written, dropped;
    int rc;
};

static void *run_member(void *context)
{
    struct member *m = context;
    m->rc = feed_all(m->producer, &m->settings, m->progress, &m->written, &m->dropped);
    return NULL;
}

static void open_member(struct member *m, const struct settings *s, uint64_t index)
{
    char path[512];
    m->settings = *s;
    m->settings.seed = s->seed + index;
    snprintf(path, sizeof path, "%s%" PRIu64, s->progress_path, m->settings.seed);
    m->progress = progress_of(s, s->progress_path != NULL ? path : NULL);
    m->producer = attach(s);
}

static void say_attached(const struct settings *s)
{
    printf("attached\n");
    fflush(stdout);
    if (s->gate)
        getchar();
}

static void say_written(const struct settings *s, uint64_t written, uint64_t dropped)
{
    printf("written %" PRIu64 " dropped %" PRIu64 "\n", written, dropped);
    fflush(stdout);
    while (s->hold && getchar() != EOF)
        ;
}

static int run_members(const struct settings *s)
{
    struct member members[64] = {0};
    uint64_t count = s->threads < 64 ? s->threads : 64, written = 0, dropped = 0;
    int rc = 0;
    for (uint64_t i = 0; i < count; i++)
        open_member(&members[i], s, i);
    say_attached(s);
    for (uint64_t i = 0; i < count; i++)
        pthread_create(&members[i].thread, NULL, run_member, &members[i]);
    for (uint64_t i = 0; i < count; i++) {
        pthread_join(members[i].thread, NULL);
        written += members[i].written;
        dropped += members[i].dropped;
        rc = members[i].rc < 0 ? members[i].rc : rc;
    }
    say_written(s, written, dropped);
    for (uint64_t i = 0; i < count; i++)
        rml_producer_close(members[i].producer);
    return rc < 0;
}

static int run_one(struct settings *s)
{
    struct progress *progress = progress_of(s, s->progress_path);
    if (s->asks && s->progress_path != NULL) {
        char path[512];
        snprintf(path, sizeof path, "%s-durable", s->progress_path);
        s->durable = open_words(path, sizeof *s->durable);
    }
    if (s->early)
        die_in(s->die_ns);
    struct rml_producer *producer = attach(s);
    if (s->one_by_one)
        open_view(s);
    say_attached(s);
    uint64_t written = 0, dropped = 0;
    int rc = feed_all(producer, s, progress, &written, &dropped);
    say_written(s, written, dropped);
    rml_producer_close(producer);
    rml_view_close(&s->view);
    return rc < 0;
}

int main(int argc, char **argv)
{
    if (argc < 5) {
        fprintf(stderr, "usage: feeder PLACE SCHEMA_HASH SEED COUNT ...\n");
        return 2;
    }
    // put never publishes by itself unless told to, so that a batch becomes visible as the scenario says
    struct settings s = {.place = argv[1],
                         .hash = strtoull(argv[2], NULL, 0),
                         .seed = strtoull(argv[3], NULL, 10),
                         .count = strtoull(argv[4], NULL, 10),
                         .keys = 4,
                         .step = 1000000,
                         .batch = 64,
                         .wait_ns = (uint64_t)-1,
                         .every = UINT32_MAX,
                         .view = RML_VIEW_CLOSED};
    read_settings(&s, argc, argv);
    return s.threads > 0 ? run_members(&s) : run_one(&s);
}
