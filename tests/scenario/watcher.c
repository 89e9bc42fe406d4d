/*
 * watcher - a subscriber that a scenario drives: prints the rows of a keyed count and sum.
 *
 *     watcher PLACE SCHEMA_HASH [oldest] [spin NS] [after LINE-ON-STDIN] [rows N]
 *
 * Says "attached" on its standard error once it is. With `after` it reads nothing before its standard
 * input says something; with `rows` it leaves after so many. Each row is a line: partition, seq,
 * window_start, key, revision, n, total. At the end: "missed N", and how it ended on standard error.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/scenario/subscribing.h"

struct settings {
    struct rml_subscriber_options options;
    uint64_t rows;
    bool after;
};

static void read_settings(struct settings *s, int argc, char **argv)
{
    for (int i = 3; i < argc; i++) {
        if (strcmp(argv[i], "oldest") == 0)
            s->options.from_oldest = 1;
        else if (strcmp(argv[i], "after") == 0)
            s->after = true;
        else if (strcmp(argv[i], "spin") == 0 && i + 1 < argc)
            s->options.spin_ns = atoll(argv[++i]);
        else if (strcmp(argv[i], "rows") == 0 && i + 1 < argc)
            s->rows = strtoull(argv[++i], NULL, 10);
    }
}

static int watch(struct rml_subscriber *subscriber, uint64_t rows)
{
    int rc = 0;
    while (rows > 0 && (rc = rml_subscriber_wait(subscriber, -1)) >= 0) {
        struct row row;
        struct rml_row_info info;
        while (rows > 0 && (rc = rml_subscriber_read(subscriber, &row, &info)) > 0) {
            printf("%u,%" PRIu64 ",%" PRId64 ",%u,%u,%" PRIu64 ",%" PRId64 "\n", info.partition,
                   info.seq, row.window_start, row.key, row.revision, row.n, row.total);
            rows--;
        }
        fflush(stdout);
    }
    return rc;
}

int main(int argc, char **argv)
{
    struct settings settings = {.rows = UINT64_MAX};
    if (argc < 3)
        return 2;
    read_settings(&settings, argc, argv);
    struct rml_subscriber *subscriber = subscribe(argv[1], argv[2], &settings.options);
    if (settings.after)
        (void)getchar();
    int rc = watch(subscriber, settings.rows);
    printf("missed %" PRIu64 "\n", rml_subscriber_missed(subscriber));
    fprintf(stderr, "%s\n", rc < 0 ? strerrorname_np(-rc) : "had enough");
    rml_subscriber_close(subscriber);
    return 0;
}
