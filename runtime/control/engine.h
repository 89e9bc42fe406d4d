/*
 * engine - workers, writer and counters of one pipeline, put together and taken apart again.
 *
 * The engine itself knows no socket: lanes are given to it, by a server that made them for producers
 * in other processes, or by a feeder in this one (`ringmill replay`). One thread, the control
 * thread, calls everything here.
 *
 *     open -> start -> attach lanes ... -> finish lanes -> end sources -> close
 */
#ifndef RML_CONTROL_ENGINE_H
#define RML_CONTROL_ENGINE_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/lane/lane_in.h"
#include "runtime/observe/counters.h"
#include "runtime/partition/result.h"
#include "runtime/plan/plan.h"
#include "runtime/time/clock.h"

struct rml_engine;
struct rml_err;
struct rml_operators;

/* Counters as plain numbers, partitions added up. */
struct rml_engine_totals {
    uint64_t source[RML_SOURCES_MAX][RML_SOURCE_COUNTERS];
    uint64_t stage[RML_STAGES_MAX][RML_STAGE_COUNTERS];
    uint64_t sink[RML_SINKS_MAX][RML_SINK_COUNTERS];
    uint64_t worker[RML_WORKERS_MAX][RML_WORKER_COUNTERS];
};

struct rml_engine_options {
    const struct rml_plan *plan;  // must outlive the engine
    const struct rml_operators *operators;
    const struct rml_clock *clock;
    /*
     * The bytes of files depend on the input and the number of partitions alone: watermarks are
     * exact, rows of all partitions are merged, and the wall clock is not looked at.
     */
    bool replay;
    const char *folder;  // where relative paths of sinks start; NULL: the working directory
    /* Where the writer's rows go instead of files; see writer.h. NULL: to files. */
    void (*row)(void *context, uint32_t sink, uint32_t from, const struct rml_result_row *row);
    void *row_context;
    /* A sentence about something that went wrong and that the engine goes on without (a file that
     * fails, a lane that is closed). Called by this thread or the writer's; may be NULL. */
    void (*complain)(void *context, const char *sentence);
    void *complain_context;
};

/* Files are opened and all memory is set aside; no thread runs yet. 0, or a sentence. */
int rml_engine_open(struct rml_engine **ret_engine, const struct rml_engine_options *options,
                    struct rml_err *err);
int rml_engine_start(struct rml_engine *engine, struct rml_err *err);

/*
 * Make a lane for `source` and have the workers take from it. 0 and its index (below
 * plan->lanes_max); -EMFILE when that many are attached; or what rml_lane_in_open says.
 */
int rml_engine_attach(struct rml_engine *engine, uint32_t source, uint32_t *ret_lane,
                      struct rml_err *err);

/* The engine's half of an attached lane: its geometry and descriptors, to pass on. */
struct rml_lane_in *rml_engine_lane(const struct rml_engine *engine, uint32_t lane);

/* The lane's producer is gone, or to be cut off: take what it published, then free the lane. */
void rml_engine_finish(struct rml_engine *engine, uint32_t lane);

/* Take what workers have reported; frees lanes that are done. Never waits. */
void rml_engine_poll(struct rml_engine *engine);

/* Readable when rml_engine_poll has something to do. */
int rml_engine_fd(const struct rml_engine *engine);

/* How many lanes are attached, those that finish included. */
uint32_t rml_engine_lane_count(const struct rml_engine *engine);

/*
 * Finish every lane, wait until they are taken to their end, then end every source, so that all
 * windows fire; results are on their way to the writer when this returns.
 */
void rml_engine_drain(struct rml_engine *engine);

/* Stop the workers and let the writer write what it has. Returns how many rows files lost. */
uint64_t rml_engine_stop(struct rml_engine *engine);

/* At any time between open and close; a moment old while workers run. */
void rml_engine_totals(const struct rml_engine *engine, struct rml_engine_totals *ret_totals);

/* Stops what runs, frees everything. NULL is accepted. */
void rml_engine_close(struct rml_engine *engine);

#endif
