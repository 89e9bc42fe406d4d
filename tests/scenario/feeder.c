/*
 * feeder - a producer that a scenario drives: a stream that can be made again from its seed
 * (stream.py), and a word in a file that says how far it got, for when it is killed.
 *
 *     feeder PLACE SCHEMA_HASH SEED COUNT [keys N] [step NS] [disorder NS] [batch N] [pause US]
 *            [progress FILE] [hold]
 *
 * With `hold` it stays attached, with nothing more to say, until its standard input ends.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "runtime/client/client.h"

struct event {
    int64_t ts;
    uint64_t id;
    uint32_t key;
    int32_t value;
};

struct settings {
    uint64_t seed, count, keys, step, disorder, batch, pause_us;
    const char *progress_path;
    int hold;
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
        .ts = (int64_t)(i * s->step) - (int64_t)back,
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
    } numbers[] = {{"keys", &s->keys},
                   {"step", &s->step},
                   {"disorder", &s->disorder},
                   {"batch", &s->batch},
                   {"pause", &s->pause_us}};

    for (int i = 5; i < argc; i++) {
        if (strcmp(argv[i], "hold") == 0)
            s->hold = 1;
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

/* A word that outlives this process, however it ends. */
static volatile uint64_t *open_progress(const char *path)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, sizeof(uint64_t)) < 0)
        return NULL;
    void *word = mmap(NULL, sizeof(uint64_t), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    return word == MAP_FAILED ? NULL : word;
}

static int feed(struct rml_producer *producer, const struct settings *s,
                volatile uint64_t *progress)
{
    uint64_t pending = 0;
    for (uint64_t i = 0; i < s->count; i++) {
        struct event event = make_event(s, i);
        int rc = rml_producer_put(producer, &event);
        if (rc < 0)
            return rc;
        if (++pending < s->batch && i + 1 < s->count)
            continue;
        pending = 0;
        rc = rml_producer_publish(producer);
        if (rc < 0)
            return rc;
        if (progress != NULL)
            *progress = i + 1;
        if (s->pause_us > 0)
            nanosleep(&(struct timespec){.tv_nsec = (long)s->pause_us * 1000}, NULL);
    }
    return 0;
}

int main(int argc, char **argv)
{
    if (argc < 5) {
        fprintf(stderr, "usage: feeder PLACE SCHEMA_HASH SEED COUNT ...\n");
        return 2;
    }
    struct settings s = {.seed = strtoull(argv[3], NULL, 10),
                         .count = strtoull(argv[4], NULL, 10),
                         .keys = 4,
                         .step = 1000000,
                         .batch = 64};
    read_settings(&s, argc, argv);
    volatile uint64_t *progress = NULL;
    if (s.progress_path != NULL) {
        progress = open_progress(s.progress_path);
        if (progress == NULL) {
            fprintf(stderr, "feeder: %s: %s\n", s.progress_path, strerror(errno));
            return 1;
        }
    }

    struct rml_producer *producer;
    char error[RML_PRODUCER_ERROR_BYTES];
    /* put never publishes by itself here, so that a batch becomes visible as the scenario says. */
    const struct rml_producer_options options = {.publish_every = UINT32_MAX};
    int rc = rml_producer_open(&producer, argv[1], strtoull(argv[2], NULL, 0), sizeof(struct event),
                               &options, error, sizeof error);
    if (rc < 0) {
        fprintf(stderr, "feeder: %s\n", error);
        return 1;
    }
    printf("attached\n");
    fflush(stdout);
    rc = feed(producer, &s, progress);
    if (rc < 0) {
        char reason[200];
        rml_producer_reason(producer, reason, sizeof reason);
        fprintf(stderr, "feeder: %s %s\n", strerror(-rc), reason);
    }
    struct rml_producer_stats stats = {0};
    rml_producer_stats(producer, &stats);
    printf("written %" PRIu64 " dropped %" PRIu64 "\n", stats.written, stats.dropped);
    fflush(stdout);
    while (s.hold && getchar() != EOF)
        ;
    rml_producer_close(producer);
    return rc < 0;
}
