/*
 * query - the pipeline that benches run: one windowed aggregate, with the worker, lane and partition
 * that the engine would make of it, to be driven step by step.
 */
#ifndef RML_BENCH_QUERY_H
#define RML_BENCH_QUERY_H

#include "bench/support/ideal.h"
#include "runtime/control/checkpointer.h"
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

    // And its checkpoints, if there are any.
    struct rml_checkpointer *checkpointer;
    void *schedule;
    uint64_t lane_serial;

    // A partition by itself, which is given records that lie in memory.
    struct rml_partition *partition;
    struct rml_result_block *block;
    unsigned char *rows;  // as it made them, since they were last read
    uint32_t row_stride, row_count, row_limit;

    struct rml_stage_counts stages[2];  // the worker's, the partition's
    struct rml_source_counts sources[2];
};

/* A query over `struct bench_event`, whose rows have the fields of `struct bench_row`. */
struct bench_query_options {
    const char *pipeline;
    uint32_t keys;
    bool alone;         // a partition by itself is wanted, too
    const char *state;  // folder of checkpoints; NULL: there are none
};

/* Set all up; what goes wrong is printed. The query must stay where it is. */
int bench_query_open(struct bench_query *query, uint32_t keys);
int bench_query_open_other(struct bench_query *query, const struct bench_query_options *options);
void bench_query_close(struct bench_query *query);

/*
 * As after a death of engine and keeper: the worker goes on from the last checkpoint, with a new lane. Tells
 * how long it took to read the checkpoint and to have the worker at its moment.
 */
int bench_query_restart(struct bench_query *query, const char *state, double *ret_ms);

/* Rows that came out since the last call. */
void bench_query_worker_rows(struct bench_query *query, struct bench_tally *tally);
void bench_query_partition_rows(struct bench_query *query, struct bench_tally *tally);

#endif
