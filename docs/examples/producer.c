/*
 * producer - writes calls to language models into the running pipeline `llm`.
 *
 *     ringmill gen header llm.yaml > llm.h
 *     cc producer.c $(pkg-config --cflags --libs ringmill-client) -o producer
 *     ./producer 100000
 */
#include <ringmill/client.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "llm.h"

int main(int argc, char **argv)
{
    long count = argc > 1 ? atol(argv[1]) : 1000;
    struct rml_producer *producer;
    char error[RML_PRODUCER_ERROR_BYTES];
    if (rml_producer_open(&producer, "llm/calls", LLM_CALL_SCHEMA_HASH, sizeof(struct llm_call),
                          NULL, error, sizeof error)
        < 0) {
        fprintf(stderr, "producer: %s\n", error);
        return 1;
    }
    for (long i = 0; i < count; i++) {
        struct timespec now;
        timespec_get(&now, TIME_UTC);
        struct llm_call call = {.ts = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec,
                                .request_id = (uint64_t)i,
                                .model = "small",
                                .status = i % 50 == 0 ? 429 : 200,
                                .latency_ms = (float)(20 + i % 7),
                                .tokens = (uint32_t)(i % 900)};
        if (rml_producer_put(producer, &call) < 0)
            break;
    }
    rml_producer_close(producer);
    return 0;
}
