/*
 * worker - a pinned thread that runs the partitions it owns: lanes in, steps taken, blocks out.
 *
 * It takes records from every attached lane, a few thousand at a time, writes each step into the
 * partition's schedule, and has the partition take it. When there is nothing to take it spins a
 * little, then sleeps until a producer or the control thread wakes it.
 *
 * Worker w of n owns the partitions p with p % n == w; no other thread ever touches their state. It
 * hears of lanes from the control thread by messages and answers by reports, so that it never waits
 * for a lock. After start it does not allocate.
 *
 * worker_state.h says which of the files beside this one does what.
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
#include "runtime/ring/broadcast.h"
#include "runtime/ring/listener.h"
#include "runtime/time/clock.h"

#define RML_WORKER_STEP_ROWS 2048u  // records of one step at most: lanes and partitions take turns
#define RML_LISTENERS_MAX    256u

struct rml_err;
struct rml_handover;
struct rml_journal_entry;
struct rml_journal_queue;
struct rml_operators;
struct rml_restored;
struct rml_worker;

enum rml_worker_message_kind {
    RML_WORKER_ATTACH,  // take from `lane`, called `index`, which feeds `source`
    RML_WORKER_FINISH,  // take what lane `index` has published by now, then report
    RML_WORKER_OWNERS,  // who shares lane `index` has changed to version `number`: report when seen
    RML_WORKER_END,     // `source` is at its end; all its lanes have been reported done
    RML_WORKER_LISTEN,  // `listener`, called `index`, wants to be woken
    RML_WORKER_UNLISTEN,  // it does not any more: report
    RML_WORKER_SAVE,   // begin checkpoint `number`: snapshots of all partitions go to the handover
    RML_WORKER_SAVED,  // the last one is durable: what it covers is released
    RML_WORKER_UNSAVED,  // the last one, all of which was handed over, has come to nothing
    RML_WORKER_STOP,     // take no further step and end the thread
};

/* A subscriber of one output in another process, as workers need it. */
struct rml_listener {
    uint32_t output;
    int socket;  // a byte sent here wakes it
    const struct rml_listener_line *line;
};

struct rml_worker_message {
    uint32_t kind;
    uint32_t source;
    uint32_t index;
    uint32_t reserved;
    uint64_t number;  // SAVE: of the checkpoint; ATTACH: the lane's serial; OWNERS
    struct rml_lane_in *lane;
    const struct rml_listener *listener;  // stays where it is until UNLISTENED
};

enum rml_worker_report_kind {
    RML_WORKER_LANE_DONE,    // this worker will not touch lane `index` again
    RML_WORKER_LANE_FAULTY,  // lane `index` shows what cannot be: finish it (LANE_DONE follows then)
    RML_WORKER_OWNERS_SEEN,  // so far as this worker goes: what those published who left is in logs
    RML_WORKER_UNLISTENED,   // this worker will not touch listener `index` again
    RML_WORKER_SOURCE_DONE,  // every partition of this worker has ended `source`
    RML_WORKER_WANTS_SAVING,  // a lane or a schedule (index 1) is half full: once for each checkpoint
    RML_WORKER_FULL,  // one of `source` is full of what no checkpoint covers; UINT32_MAX: a schedule
};

struct rml_worker_report {
    uint32_t kind;
    uint32_t worker;
    uint32_t source;
    uint32_t index;
    uint64_t published;  // LANE_DONE: in this worker's partitions, of what was to be taken
};

struct rml_worker_options {
    const struct rml_plan *plan;
    const struct rml_operators *operators;
    const struct rml_clock *clock;
    struct rml_writer *writer;  // of all workers
    uint32_t index;
    int cpu;             // -1: not pinned
    uint32_t lanes_max;  // lanes' indices are below
    bool ticks;  // tell partitions the wall clock, where idle_after, max_ahead or a trigger asks
    bool announce_progress;  // for a writer that merges
    struct rml_worker_counts *counts;
    struct rml_stage_counts *stages;    // [partition][stage] of the whole plan
    struct rml_source_counts *sources;  // [partition][source]
    struct rml_bell *reports_bell;      // rung after every report
    /* Result rings, [output][partition] of the whole plan, `lines` NULL where an output has none; NULL:
     * there are none at all. The worker gives to those of its own partitions. */
    struct rml_broadcast_out *rings;
    /* Checkpoints; `handover` NULL: there are none, what is taken is released at once. Then: memory of
     * each partition's schedule (rml_schedule_bytes of schedule_steps), and what each partition is
     * restored from; both by the plan's partitions. A number of a row in a ring is then the row's own. */
    struct rml_handover *handover;
    void *const *schedules;
    uint32_t schedule_steps;
    struct rml_restored *past;  // whose pages it takes; NULL, or with no roots: they are new
    uint64_t renewed;           // stages that begin empty all the same, by bit
    /* Where steps of sources with a journal go before they are taken; NULL: there are none. And how many
     * of the journal's entries each partition had taken where it is restored; NULL: none. */
    struct rml_journal_queue *journal;
    const uint64_t *journaled;
    bool prefaults;  // state_prefault is there when the worker is open; else soon after its start
    unsigned char *undo;  // [partition] of the whole plan (runtime/worker/undo.h); NULL: none
};

/* A lane of an engine before this one, under its number; `in` NULL: there is none. */
struct rml_worker_kept {
    struct rml_lane_in *in;
    uint64_t serial;
};

/* Set a worker and its partitions up; everything it needs later is set aside here. */
int rml_worker_open(struct rml_worker **ret_worker, const struct rml_worker_options *options,
                    struct rml_err *err);

/*
 * What was taken beyond what the partitions were restored to is taken again, before the start, when the writer
 * runs:
 *
 *     feed ...      all entries of the journal, where there is one: what came before the schedules
 *     take_again    the steps that schedules have, from the lanes that were kept, lanes_max of them
 *     feed ...      all entries once more: what came behind
 *     settle        lanes that the partitions knew and nobody has any more are detached
 *
 * The lanes are then attached as new ones are, under their numbers and serials. 0; or -ENODATA or -EPROTO
 * and a sentence: steps or records are missing. Entries of other workers' partitions are left alone.
 */
int rml_worker_feed(struct rml_worker *worker, const struct rml_journal_entry *entry,
                    struct rml_err *err);
int rml_worker_take_again(struct rml_worker *worker, const struct rml_worker_kept *lanes,
                          struct rml_err *err);
int rml_worker_settle(struct rml_worker *worker, const struct rml_worker_kept *lanes,
                      struct rml_err *err);

/* Start the thread. Not being able to pin it is no failure: see rml_worker_is_pinned. */
int rml_worker_start(struct rml_worker *worker, struct rml_err *err);
bool rml_worker_is_pinned(const struct rml_worker *worker);

/* The control thread: tell the worker, and hear from it. False: the queue is full / empty. */
bool rml_worker_tell(struct rml_worker *worker, const struct rml_worker_message *message);
bool rml_worker_hear(struct rml_worker *worker, struct rml_worker_report *report);

/*
 * What the thread does again and again, without one: look at the messages, then once at every lane
 * and partition. Returns whether there was anything to do. For simulations and tests that hold the
 * worker still; never once it has been started.
 */
bool rml_worker_round(struct rml_worker *worker);

/* Wait for the thread's end after STOP (a worker that was never started: at once), then free it all.
 * NULL is accepted. */
void rml_worker_close(struct rml_worker *worker);

#endif
