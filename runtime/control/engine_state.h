/*
 * engine_state - what an engine is made of, for the files that it is made of: lanes (engine_lanes.c), setting up
 * and going on after a death (engine_open.c), and what it does from then on (engine.c).
 */
#ifndef RML_CONTROL_ENGINE_STATE_H
#define RML_CONTROL_ENGINE_STATE_H

#include "runtime/control/checkpointer.h"
#include "runtime/control/engine.h"
#include "runtime/control/journaler.h"
#include "runtime/control/rings.h"
#include "runtime/control/saves.h"
#include "runtime/io/writer.h"
#include "runtime/ring/bell.h"
#include "runtime/worker/worker.h"

struct engine_lane {
    struct rml_lane_in *in;  // NULL: the number is free
    uint32_t source;
    uint32_t workers_left;
    bool finishing;
    bool is_spoiled;  // of an engine that died: no positions to go on from
    bool is_counted;  // as gone, by an engine that died
    bool is_done;     // taken to its end; kept until checkpoint `covered_by` is durable
    uint64_t covered_by;
    uint64_t serial;
    uint64_t published;  // as far as it was to be taken; of the workers that are done with it
    struct rml_board_lane row;
};

struct engine_listener {
    const struct rml_listener *listener;  // NULL: the slot is free
    uint32_t workers_left;
};

struct rml_engine {
    struct rml_engine_options options;
    const struct rml_plan *plan;
    struct rml_board board;
    struct rml_rings rings;
    struct engine_listener listeners[RML_LISTENERS_MAX];
    struct rml_writer *writer;
    struct rml_worker *workers[RML_WORKERS_MAX];
    struct rml_bell bell;
    struct engine_lane *lanes;
    struct rml_segment undo;
    struct rml_checkpointer *checkpointer;  // NULL: there are no checkpoints
    struct rml_journaler *journaler;        // NULL: there is no journal
    struct rml_segment schedules[RML_PARTITIONS_MAX];
    void *schedule_memory[RML_PARTITIONS_MAX];
    uint64_t begun;        // number of the last checkpoint that began
    uint64_t last_serial;  // of lanes
    uint64_t turns;        // checkpoints that began in this engine, those that failed included
    struct rml_saves saves;
    uint32_t end_tries;  // to save the end
    bool is_unsaved;     // the end was saved by no checkpoint
    bool is_left;        // what was published last was not taken, for the journal's sake
    bool is_asked;       // somebody waits for one that has not begun
    bool saving;         // one is under way
    bool is_last;        // and it is that of the end
    bool ended;          // that one is over
    uint32_t lane_count;
    uint32_t sources_left;  // reports that the end of sources still lacks
    bool writer_started, started, draining, ending, stopped;
    uint64_t lost;
};

/* What is kept of a lane beside what it is made of. */
struct engine_kept_lane {
    uint32_t source, cells;
    uint32_t owners, log_cells;  // 0: the lane is exclusive
    uint32_t pid, uid;
    int64_t since_ns;
    uint64_t serial;  // no other lane of this pipeline had it
    char program[RML_BOARD_NAME];
};

/* Every worker, waiting for room in its queue. */
void rml_engine_tell(struct rml_engine *engine, const struct rml_worker_message *message);

/* What a lane of that source is like. */
void rml_engine_fill_geometry(const struct rml_engine *engine, uint32_t source_index,
                              struct rml_lane_geometry *geometry);

/* On the board. */
void rml_engine_show_lane(struct rml_engine *engine, uint32_t index);

/* Under which the keeper has a lane. */
uint64_t rml_engine_lane_id(uint32_t index);

/* A lane under its number, not told of yet. */
void rml_engine_set_lane(struct rml_engine *engine, uint32_t index, struct rml_lane_in *in,
                         const struct engine_kept_lane *what);

/* Its producer may write from now on. */
void rml_engine_ready_lane(struct rml_engine *engine, const struct engine_lane *lane);

/* Workers take from it from now on. */
void rml_engine_tell_of_lane(struct rml_engine *engine, uint32_t index);

/* A worker has seen that owners of a shared lane are gone. */
void rml_engine_owners_seen(struct rml_engine *engine, uint32_t index);

/* Nothing of it is needed any more: its number is free. */
void rml_engine_free_lane(struct rml_engine *engine, uint32_t index);

/* A worker has taken it to its end. */
void rml_engine_lane_done(struct rml_engine *engine, uint32_t index, uint64_t published);

#endif
