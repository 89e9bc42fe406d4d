/*
 * worker - a pinned thread that runs the partitions it owns: lanes in, steps taken, blocks out.
 *
 * Worker w of n owns the partitions p with p % n == w; no other thread ever touches their state. It
 * hears of lanes from the control thread by messages and answers by reports, so that it never waits
 * for a lock. After start it does not allocate.
 */
#ifndef RML_WORKER_WORKER_H
#define RML_WORKER_WORKER_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/io/writer.h"
#include "runtime/lane/lane_in.h"
#include "runtime/observe/counters.h"
#include "runtime/plan/plan.h"
#include "runtime/ring/bell.h"
#include "runtime/time/clock.h"

struct rml_err;
struct rml_operators;
struct rml_worker;

enum rml_worker_message_kind {
    RML_WORKER_ATTACH,  // take from `lane`, called `index`, which feeds `source`
    RML_WORKER_FINISH,  // nothing more comes on lane `index`: take what is there, then report
    RML_WORKER_END,     // `source` is at its end; all its lanes have been reported done
    RML_WORKER_STOP,    // take no further step and end the thread
};

struct rml_worker_message {
    uint32_t kind;
    uint32_t source;
    uint32_t index;
    uint32_t reserved;
    struct rml_lane_in *lane;
};

enum rml_worker_report_kind {
    RML_WORKER_LANE_DONE,    // this worker will not touch lane `index` again
    RML_WORKER_LANE_FAULTY,  // lane `index` shows what cannot be: finish it (LANE_DONE follows then)
    RML_WORKER_SOURCE_DONE,  // every partition of this worker has ended `source`
};

struct rml_worker_report {
    uint32_t kind;
    uint32_t worker;
    uint32_t source;
    uint32_t index;
};

struct rml_worker_options {
    const struct rml_plan *plan;
    const struct rml_operators *operators;
    const struct rml_clock *clock;
    struct rml_writer *writer;  // of all workers
    uint32_t index;
    int cpu;                 // -1: not pinned
    uint32_t lanes_max;      // lanes' indices are below
    bool ticks;              // tell partitions the wall clock, where some source has idle_after
    bool announce_progress;  // for a writer that merges
    struct rml_worker_counts *counts;
    struct rml_stage_counts *stages;    // [partition][stage] of the whole plan
    struct rml_source_counts *sources;  // [partition][source]
    struct rml_bell *reports_bell;      // rung after every report
    /* Rows for readers in other processes, called by the worker's thread with each block that has
     * rows, before the writer gets it; NULL: nobody reads so. */
    void (*publish)(void *context, struct rml_result_block *block);
    void *publish_context;
};

/* Set a worker and its partitions up; everything it needs later is set aside here. */
int rml_worker_open(struct rml_worker **ret_worker, const struct rml_worker_options *options,
                    struct rml_err *err);

/* Start the thread. Not being able to pin it is no failure: see rml_worker_is_pinned. */
int rml_worker_start(struct rml_worker *worker, struct rml_err *err);
bool rml_worker_is_pinned(const struct rml_worker *worker);

/* The control thread: tell the worker, and hear from it. False: the queue is full / empty. */
bool rml_worker_tell(struct rml_worker *worker, const struct rml_worker_message *message);
bool rml_worker_hear(struct rml_worker *worker, struct rml_worker_report *report);

/* Wait for the thread's end after STOP (a worker that was never started: at once), then free it all.
 * NULL is accepted. */
void rml_worker_close(struct rml_worker *worker);

#endif
