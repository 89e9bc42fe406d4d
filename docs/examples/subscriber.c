/*
 * subscriber - prints the result rows of the running pipeline `llm` as they come.
 *
 *     ringmill gen header llm.yaml > llm.h
 *     cc subscriber.c $(pkg-config --cflags --libs ringmill-client) -o subscriber
 *     ./subscriber
 */
#include <inttypes.h>
#include <ringmill/subscribe.h>
#include <stdio.h>

#include "llm.h"

int main(void)
{
    struct rml_subscriber *subscriber;
    char error[RML_SUBSCRIBER_ERROR_BYTES];
    if (rml_subscriber_open(&subscriber, "llm/per_second", PER_SECOND_ROW_SCHEMA_HASH,
                            sizeof(struct per_second_row), NULL, error, sizeof error)
        < 0) {
        fprintf(stderr, "subscriber: %s\n", error);
        return 1;
    }
    while (rml_subscriber_wait(subscriber, -1) >= 0) {  // until the pipeline has ended
        struct per_second_row row;
        while (rml_subscriber_read(subscriber, &row, NULL) > 0)
            printf("%" PRId64 " %.16s calls %" PRIu64 " errors %" PRIu64 " avg_ms %.1f\n",
                   row.window_start, row.model, row.calls, row.errors, row.avg_ms);
        fflush(stdout);
    }
    printf("missed %" PRIu64 " rows\n", rml_subscriber_missed(subscriber));
    rml_subscriber_close(subscriber);
    return 0;
}
