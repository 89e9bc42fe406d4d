/*
 * engine - workers, writer and counters of one pipeline, put together and taken apart again.
 *
 * The engine itself knows no socket: lanes are given to it, by a server that made them for producers
 * in other processes, or by a feeder in this one (`ringmill replay`). One thread, the control
 * thread, calls everything here.
 *
 *     open -> start -> attach lanes ... -> finish lanes -> end sources -> close
 *
 * With a keeper (runtime/keeper/keeper.h) an engine that follows one that died goes on with its board,
 * rings, files and lanes. What the partitions held is lost: windows that were open begin anew with the
 * first record that was not taken.
 */
#ifndef RML_CONTROL_ENGINE_H
#define RML_CONTROL_ENGINE_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/control/board.h"
#include "runtime/control/rings.h"
#include "runtime/lane/lane_in.h"
#include "runtime/partition/result.h"
#include "runtime/plan/plan.h"
#include "runtime/time/clock.h"
#include "runtime/worker/worker.h"

struct rml_engine;
struct rml_err;
struct rml_keeping;
struct rml_operators;
struct rml_vault_options;

/* How a checkpoint came out. */
struct rml_engine_saved {
    uint64_t turn;  // which one it was, of this engine; see rml_engine_save
    int rc;         // 0: it is durable
    uint64_t epoch, bytes, took_ns;
};

struct rml_engine_options {
    const struct rml_plan *plan;  // must outlive the engine
    const struct rml_operators *operators;
    const struct rml_clock *clock;
    struct rml_keeping *keeping;  // NULL: nothing outlives this engine
    bool fresh;                   // do not go on from the checkpoints that are there
    const char *const *renewed;   // stages whose state is given up, by name
    uint32_t renewed_count;
    uint64_t from;  // go back to this one of them; 0: to none
    /*
     * The bytes of files depend on the input and the number of partitions alone: watermarks are
     * exact, rows of all partitions are merged, the wall clock is not looked at, and a full lane
     * makes its feeder wait whatever the source says.
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
    /* What a file holds is not known any more, and an engine that goes on from the last checkpoint in another
     * process would write it anew: see writer.h. Called by the writer's thread; may be NULL. */
    void (*unsure)(void *context, const char *sentence);
    void *unsure_context;
    /* Called by rml_engine_open when the board is there, and nothing else of the engine: who has to wait before more
     * is done does so in it. 0, or a negative errno and a sentence, and it is not opened. May be NULL. */
    int (*shown)(void *context, struct rml_board *board, struct rml_err *err);
    void *shown_context;
    /* Called again and again by rml_engine_start while what an engine before this one took is taken again and a
     * file cannot be written. True: wait no longer; then it starts without those rows, and no checkpoint will have
     * them. NULL: it waits. */
    bool (*is_enough)(void *context);
    void *is_enough_context;
    /* Called by rml_engine_poll: no worker knows this listener any more. May be NULL where nobody
     * listens. */
    void (*listener_done)(void *context, uint32_t slot);
    void *listener_context;
    /* Called by rml_engine_poll: a checkpoint is over. May be NULL. */
    void (*saved)(void *context, const struct rml_engine_saved *saved);
    void *saved_context;
    /* For a disk and room of one's own, as tests have: of the state folder; steps that a schedule holds, a
     * power of two. NULL and 0: as usual. */
    const struct rml_vault_options *vault;
    uint32_t schedule_steps;
};

/* Files are opened and all memory is set aside; no thread runs yet. 0, or a sentence. */
int rml_engine_open(struct rml_engine **ret_engine, const struct rml_engine_options *options,
                    struct rml_err *err);
int rml_engine_start(struct rml_engine *engine, struct rml_err *err);

#define RML_ENGINE_CELLS_MAX (1u << 20)  // that a producer may ask for

/* Whose lane it is. */
struct rml_engine_producer {
    uint32_t pid, uid;    // 0: this process
    uint32_t cells;       // of each partition's ring, a power of two; 0: as the pipeline file says
    const char *program;  // a name for people; cut where it is long
};

/*
 * Make a lane for `source` and have the workers take from it; with `producer` NULL for this process,
 * as the pipeline file says. 0 and its index (below plan->lanes_max); -EMFILE when that many are
 * attached; -EINVAL for cells that cannot be; or what rml_lane_in_open says.
 */
int rml_engine_attach(struct rml_engine *engine, uint32_t source,
                      const struct rml_engine_producer *producer, uint32_t *ret_lane,
                      struct rml_err *err);

/*
 * For a source whose producers share a lane: have one more producer in that, or in a new one, knocked at by
 * way of `socket`, which stays the caller's. 0, its lane, and its number there; else as rml_engine_attach.
 */
int rml_engine_join(struct rml_engine *engine, uint32_t source,
                    const struct rml_engine_producer *producer, int socket, uint32_t *ret_lane,
                    uint32_t *ret_owner, struct rml_err *err);

/* Of an engine that died: is producer `owner` still one of `lane`'s? Then it goes on. */
bool rml_engine_join_again(struct rml_engine *engine, uint32_t lane, uint32_t owner, int socket);

/*
 * A producer left a lane that it shared. LEFT: it said so; LOST: it was hung up on, and may still write; DEAD:
 * its process has ended, which also follows on LOST.
 */
enum rml_engine_leaving { RML_ENGINE_LEFT, RML_ENGINE_LOST, RML_ENGINE_DEAD };

void rml_engine_leave(struct rml_engine *engine, uint32_t lane, uint32_t owner,
                      enum rml_engine_leaving how);

/* Once every producer that goes on has joined again: those left over are taken for gone. */
void rml_engine_leave_rest(struct rml_engine *engine, uint32_t lane);

/* The engine's half of an attached lane: its geometry and descriptors, to pass on. NULL: there is none of
 * this number. */
struct rml_lane_in *rml_engine_lane(const struct rml_engine *engine, uint32_t lane);

/* The lane's producer is gone: take what it published, then free the lane. */
void rml_engine_finish(struct rml_engine *engine, uint32_t index);

/* The same for a producer that is still there: it is told, with a positive errno and a sentence. A
 * lane that is free or finishes already is left alone. */
void rml_engine_cut_off(struct rml_engine *engine, uint32_t index, int code, const char *reason);

/* Take what workers have reported; frees lanes that are done. Never waits. */
void rml_engine_poll(struct rml_engine *engine);

/*
 * For a control thread that sleeps on more than the engine: between sleep_begin (after which it calls
 * rml_engine_poll once more) and sleep_end, rml_engine_fd becomes readable when there is something to
 * poll for.
 */
int rml_engine_fd(const struct rml_engine *engine);
void rml_engine_sleep_begin(struct rml_engine *engine);
void rml_engine_sleep_end(struct rml_engine *engine);

/*
 * Have a checkpoint begin at once, or where one is under way right behind it. Returns its turn: what
 * options.saved tells of that turn, or a later one, has all that was taken before this call. 0: the
 * pipeline takes no checkpoints.
 */
uint64_t rml_engine_save(struct rml_engine *engine);

/* Are there lanes whose producers are gone, and that stay until a checkpoint covers what they gave? */
bool rml_engine_keeps_lanes(const struct rml_engine *engine);

/* How many lanes are attached, those that finish included. */
uint32_t rml_engine_lane_count(const struct rml_engine *engine);

/*
 * Begin to drain: every lane is closed to its producer and taken to its end, then every source ends,
 * so that all windows fire. rml_engine_poll moves it on; no lane is to be attached any more.
 */
void rml_engine_drain_begin(struct rml_engine *engine);

/* Has everything been taken and ended? Results are on their way to the writer then. */
bool rml_engine_is_drained(const struct rml_engine *engine);

/* Begin to drain, and wait for the end of it. */
void rml_engine_drain(struct rml_engine *engine);

/* Stop the workers and let the writer write what it has. Returns how many rows files lost. */
uint64_t rml_engine_stop(struct rml_engine *engine);

/* Of one that was stopped: is all that it took in a checkpoint, where there are any? If not, that was said. */
bool rml_engine_is_saved(const struct rml_engine *engine);

/* What the engine shows of itself; lanes' rows are as of the last refresh. */
struct rml_board *rml_engine_board(struct rml_engine *engine);

/* Bring the rows of lanes, and what the allocator says, on the board up to date. */
void rml_engine_refresh(struct rml_engine *engine);

/* Refresh, then add the board up: at any time between open and close; a moment old while workers run. */
void rml_engine_totals(struct rml_engine *engine, struct rml_board_totals *ret_totals);

/* The result rings, as long as the engine is open. */
const struct rml_rings *rml_engine_rings(const struct rml_engine *engine);

/* Have the workers wake this listener, which stays where it is until options.listener_done tells that
 * it is forgotten. 0 and its slot (below RML_LISTENERS_MAX), or -EMFILE. */
int rml_engine_listen(struct rml_engine *engine, const struct rml_listener *listener,
                      uint32_t *ret_slot);
void rml_engine_unlisten(struct rml_engine *engine, uint32_t slot);

/* Stops what runs, frees everything. NULL is accepted. */
void rml_engine_close(struct rml_engine *engine);

#endif
