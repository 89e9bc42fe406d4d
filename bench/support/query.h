/*
 * query - the pipeline that benches run: one windowed aggregate, with the worker, lane and partition
 * that the engine would make of it, to be driven step by step.
 */
#ifndef RML_BENCH_QUERY_H
#define RML_BENCH_QUERY_H

#include "bench/support/ideal.h"
#include "runtime/lane/lane_in.h"
#include "runtime/observe/counters.h"
#include "runtime/partition/partition.h"
#include "runtime/plan/plan.h"
#include "runtime/ring/bell.h"
#include "runtime/ring/broadcast.h"
#include "runtime/worker/worker.h"

#define BENCH_WINDOW_NS INT64_C(1000000000)

/* Rows in any order: how many, and the sum of their hashes. */
struct bench_tally {
    uint64_t rows, digest;
};

void bench_tally_add(struct bench_tally *tally, const struct bench_row *row);

struct bench_query {
    struct rml_plan *plan;
    struct rml_lane_geometry geometry;
    struct rml_lane_in *lane;

    // A worker that feeds a result ring, as in an engine.
    struct rml_worker *worker;
    struct rml_writer *writer;
    struct rml_bell bell;
    struct rml_worker_counts worker_counts;
    struct rml_sink_counts sink_counts;
    struct rml_broadcast_out ring;
    struct rml_broadcast_in reader;
    void *ring_memory;

    // A partition by itself, which is given records that lie in memory.
    struct rml_partition *partition;
    struct rml_result_block *block;
    unsigned char *rows;  // as it made them, since they were last read
    uint32_t row_stride, row_count, row_limit;

    struct rml_stage_counts stages[2];  // the worker's, the partition's
    struct rml_source_counts sources[2];
};

/* Set all up for up to `keys` keys; what goes wrong is printed. The query must stay where it is. */
int bench_query_open(struct bench_query *query, uint32_t keys);
void bench_query_close(struct bench_query *query);

/* Rows that came out since the last call. */
void bench_query_worker_rows(struct bench_query *query, struct bench_tally *tally);
void bench_query_partition_rows(struct bench_query *query, struct bench_tally *tally);

#endif
