/*
 * member - a subscriber of a group that a scenario drives, stops and kills: it tells what it reads and what it has
 * acknowledged, each as it happens, in a file that outlives it.
 *
 *     member PLACE SCHEMA_HASH GROUP FILE [oldest] [hold N] [after LINE-ON-STDIN] [never] [nap US] [leave]
 *
 * Says "attached" on its standard error once it is. A row is a line: r partition seq again window_start key
 * revision n total. After `hold` rows (1), or when there are no more, it acknowledges, and says so: a, and how many were too
 * late; with `never` it does not, and waits for its standard input to end when its hands are full. With `nap` it takes its time over each row, with `leave`
 * it reads none. At the end: how it ended on standard
 * error, behind what the group has missed.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/scenario/subscribing.h"

struct settings {
    struct rml_subscriber_options options;
    uint64_t hold;
    useconds_t nap_us;
    bool after, never, leave;
    int file;
};

static void read_settings(struct settings *s, int argc, char **argv)
{
    for (int i = 5; i < argc; i++) {
        if (strcmp(argv[i], "oldest") == 0)
            s->options.from_oldest = 1;
        else if (strcmp(argv[i], "after") == 0)
            s->after = true;
        else if (strcmp(argv[i], "never") == 0)
            s->never = true;
        else if (strcmp(argv[i], "leave") == 0)
            s->leave = true;
        else if (strcmp(argv[i], "hold") == 0 && i + 1 < argc)
            s->hold = strtoull(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "nap") == 0 && i + 1 < argc)
            s->nap_us = (useconds_t)strtoul(argv[++i], NULL, 10);
    }
}

static void tell(const struct settings *s, const char *line, int length)
{
    if (write(s->file, line, (size_t)length) != length)
        exit(3);
}

static int acknowledge(const struct settings *s, struct rml_subscriber *subscriber)
{
    if (s->never)
        return 0;
    char line[32];
    int late = rml_subscriber_ack(subscriber);
    if (late < 0)
        return late;
    tell(s, line, snprintf(line, sizeof line, "a %d\n", late));
    return 0;
}

static int read_all(const struct settings *s, struct rml_subscriber *subscriber)
{
    struct row row;
    struct rml_row_info info;
    uint64_t held = 0;
    int rc;
    while ((rc = rml_subscriber_read(subscriber, &row, &info)) > 0) {
        char line[160];
        if (s->nap_us > 0)
            usleep(s->nap_us);  // work
        tell(s, line,
             snprintf(line, sizeof line,
                      "r %u %" PRIu64 " %u %" PRId64 " %u %u %" PRIu64 " %" PRId64 "\n",
                      info.partition, info.seq, info.again, row.window_start, row.key, row.revision,
                      row.n, row.total));
        if (++held < s->hold)
            continue;
        held = 0;
        rc = acknowledge(s, subscriber);
        if (rc < 0)
            return rc;
    }
    int acknowledged = held > 0 ? acknowledge(s, subscriber) : 0;
    return acknowledged < 0 ? acknowledged : rc;
}

int main(int argc, char **argv)
{
    struct settings settings = {.hold = 1};
    if (argc < 5)
        return 2;
    read_settings(&settings, argc, argv);
    settings.options.group = argv[3];
    settings.file = open(argv[4], O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    struct rml_subscriber *subscriber = subscribe(argv[1], argv[2], &settings.options);
    int rc = 0;
    if (settings.after)
        (void)getchar();
    while (!settings.leave && (rc = rml_subscriber_wait(subscriber, -1)) >= 0) {
        rc = read_all(&settings, subscriber);
        if (rc < 0)
            break;
    }
    if (rc == -ENOBUFS)
        (void)getchar();
    fprintf(stderr, "missed %" PRIu64 "\n%s\n", rml_subscriber_missed(subscriber),
            strerrorname_np(-rc));
    rml_subscriber_close(subscriber);
    return 0;
}
