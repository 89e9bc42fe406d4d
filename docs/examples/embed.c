/*
 * embed - runs the pipeline file llm.yaml inside this program, over ten seconds of made-up calls.
 *
 *     ringmill gen header llm.yaml > llm.h
 *     cc embed.c $(pkg-config --cflags --libs ringmill) -o embed
 *     ./embed llm.yaml
 */
#include <inttypes.h>
#include <ringmill/ringmill.h>
#include <stdio.h>

#include "llm.h"

static void print_row(void *context, const void *record, uint64_t seq)
{
    const struct per_second_row *row = record;
    (void)context;
    (void)seq;
    printf("%" PRId64 " s  %-8.16s %4" PRIu64 " calls, %2" PRIu64 " failed, %5.1f ms\n",
           row->window_start / 1000000000, row->model, row->calls, row->errors, row->avg_ms);
}

static int feed(struct rml_feeder *feeder)
{
    for (int64_t i = 0; i < 10000; i++) {
        struct llm_call call = {.ts = i * 1000000,  // one each millisecond, from 1970 on
                                .request_id = (uint64_t)i,
                                .model = "small",
                                .status = i % 50 == 0 ? 429 : 200,
                                .latency_ms = (float)(20 + i % 7),
                                .tokens = 100};
        if (i % 4 == 0)
            snprintf(call.model, sizeof call.model, "large");
        int rc = rml_feeder_put(feeder, &call);
        if (rc < 0)
            return rc;
    }
    return 0;
}

int main(int argc, char **argv)
{
    const struct rml_pipeline_options options = {.replay = 1};  // the same rows every time
    struct rml_pipeline *pipeline = NULL;
    struct rml_feeder *feeder = NULL;
    char error[RML_PIPELINE_ERROR_BYTES];
    int rc = rml_pipeline_open(&pipeline, argc > 1 ? argv[1] : "llm.yaml", &options, error,
                               sizeof error);
    if (rc == 0)
        rc = rml_pipeline_rows(pipeline, "per_second", PER_SECOND_ROW_SCHEMA_HASH,
                               sizeof(struct per_second_row), print_row, NULL, error, sizeof error);
    if (rc == 0)
        rc = rml_pipeline_start(pipeline, error, sizeof error);
    if (rc == 0)
        rc = rml_feeder_open(&feeder, pipeline, "calls", LLM_CALL_SCHEMA_HASH,
                             sizeof(struct llm_call), error, sizeof error);
    if (rc < 0) {
        fprintf(stderr, "embed: %s\n", error);
        rml_pipeline_close(pipeline);
        return 1;
    }
    rc = feed(feeder);
    rml_feeder_close(feeder);
    uint64_t counted = 0;
    if (rc == 0 && rml_pipeline_drain(pipeline) == 0
        && rml_pipeline_count(pipeline, "per_second", "aggregated", &counted) == 0)
        printf("%" PRIu64 " calls counted\n", counted);
    rml_pipeline_close(pipeline);
    return counted == 10000 ? 0 : 1;
}
