/*
 * partition - the unit of ordering, state and placement: a deterministic state machine.
 *
 * A partition advances only by steps. What comes out is a function of its plan and of the steps and
 * records it was given: no clock, no randomness, no address and no thread id enters. Cutting
 * the same records into other batches changes nothing but the moments at which rows come out.
 * A partition is used by one thread at a time.
 */
#ifndef RML_PARTITION_PARTITION_H
#define RML_PARTITION_PARTITION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/lane/mark.h"
#include "runtime/observe/counters.h"
#include "runtime/partition/result.h"

struct rml_err;
struct rml_operators;
struct rml_partition;
struct rml_plan;
struct rml_restored;
struct rml_room;
struct rml_snapshot_sink;

enum rml_step_kind {
    RML_STEP_BATCH,   // take `count` records of `lane`, which then vouches for `time`
    RML_STEP_TICK,    // the wall clock is `time`, and by a clock that nobody sets it is `steady_ns`
    RML_STEP_ATTACH,  // `lane` feeds `source` from now on
    RML_STEP_DETACH,  // `lane` has been taken to its end and holds nothing back any more
    RML_STEP_END,     // `source` is at its end: its watermark goes to +infinity
};

/* What the schedule records of a step: 24 bytes, no pointer. */
struct rml_step {
    uint16_t kind;
    uint16_t lane;   // BATCH, ATTACH, DETACH: a small number, reused after DETACH
    uint32_t count;  // BATCH: records, any number; ATTACH, END: the source's index
    /*
     * BATCH: greatest event time that the lane vouches for, RML_TIME_NONE: nothing new; TICK: nanoseconds
     * since the epoch; ATTACH: 1 where marks and vouching alone move the lane's clock, and its records do not.
     */
    int64_t time;

    union {
        uint64_t
            serial;  // ATTACH: which of the lanes that ever had this number; 0 where nobody asks
        int64_t
            latest;  // BATCH: no record is taken whose time lies behind it; 0: whatever its time
        int64_t steady_ns;  // TICK: what has been silent for how long is told by this one
    };
};

/* The records that a BATCH step names: lying one behind the other, as the source's schema says. */
struct rml_step_input {
    const void *records;
    const struct rml_mark *marks;  // ascending rows; the mark's time applies before its row
    uint32_t mark_count;
};

struct rml_partition_options {
    uint32_t index;  // which of plan->partitions this is
    struct rml_result_door door;
    struct rml_stage_counts *stages;    // plan->stage_count blocks, zeroed by the caller
    struct rml_source_counts *sources;  // plan->source_count blocks
    uint32_t lanes_max;                 // lane numbers are below this
    bool snapshots;                     // are going to be taken: note what changes
    const uint64_t *next_seq;  // number of the next row, by output (rml_outputs_list); NULL: all 0
};

/*
 * Set a partition up; everything it will ever need is reserved here (address space for state is
 * reserved, not touched). The plan must outlive it. 0, or -ENOMEM and so on with a sentence.
 */
int rml_partition_open(struct rml_partition **ret_partition, const struct rml_plan *plan,
                       const struct rml_operators *operators,
                       const struct rml_partition_options *options, struct rml_err *err);
void rml_partition_close(struct rml_partition *partition);

/* From now on somebody makes room ahead of its state (runtime/state/room.h), who outlives it. After it was
 * restored, if it is. */
void rml_partition_serve(struct rml_partition *partition, struct rml_room *room);

/*
 * Take one step. Returns how many records it took (step->count, or 0), or -EPROTO when the step cannot be (an
 * unknown lane, a lane attached twice): the caller's own state is wrong then. Never fails on the
 * content of records. Does not allocate.
 */
int rml_partition_step(struct rml_partition *partition, const struct rml_step *step,
                       const struct rml_step_input *input);

/*
 * Would a BATCH step without records, vouching for `time` on `lane`, make anything happen (fire a
 * window, wake an idle lane)? Cheap; a worker asks it before it writes such a step.
 */
bool rml_partition_vouch_due(const struct rml_partition *partition, uint16_t lane, int64_t time);

/* How many steps it has taken in its life, which goes on where it is restored. */
uint64_t rml_partition_steps(const struct rml_partition *partition);

/* The number of the next row of an output. */
uint64_t rml_partition_next_row(const struct rml_partition *partition, uint32_t output);

/* The lane that was attached last under a number: whether it is still, and how many records were taken
 * from it. All zeros when there was none. */
struct rml_partition_lane {
    bool attached;
    uint32_t source;
    uint64_t serial, taken;
};

struct rml_partition_lane rml_partition_lane(const struct rml_partition *partition, uint32_t index);

/* How many records of a source it has taken in its life; 0 where there is none of this number. */
uint64_t rml_partition_taken(const struct rml_partition *partition, uint32_t source);

/* The watermark of a source in this partition; RML_TIME_NONE before the first record. */
int64_t rml_partition_watermark(const struct rml_partition *partition, uint32_t source);

/*
 * SNAPSHOTS. A snapshot is the whole state of a moment between two steps, as what changed since the one
 * before it: words outside of pages at once, pages little by little while the partition goes on
 * (runtime/state/snapshot.h; numbers and the sink are as there). Tells, before it puts anything, how many
 * of those before it are needed with it: a partition that is restored from them and takes the same steps
 * gives the same rows under the same numbers.
 */
void rml_partition_snapshot(struct rml_partition *partition, uint64_t number,
                            const struct rml_snapshot_sink *sink, uint32_t *ret_needs);

/* Copy some more granules of it. Returns whether something is left. */
bool rml_partition_copy(struct rml_partition *partition, uint32_t granules);

/* It did not become durable: the next one has what was in it. */
void rml_partition_abandon(struct rml_partition *partition);

/*
 * The stages in `renewed` (by bit) begin empty when the partition is restored; call it before. Also without
 * it a snapshot may have other stages and sources than the plan: they are known by name, those that it does
 * not have begin empty, and the pages of those that the plan does not have are free. What is said of a
 * stage's state when its file is changed is the caller's to judge (runtime/control/fitting.h).
 */
void rml_partition_renew(struct rml_partition *partition, uint64_t renewed);

/*
 * Bring a partition that has just been opened to the state of a snapshot (runtime/state/restored.h), whose
 * pages it takes over; they were opened for as many bytes as the plan gives a partition. 0, or -EBADMSG
 * and a sentence: it is not of such a partition; that is to be closed then.
 */
int rml_partition_restore(struct rml_partition *partition, struct rml_restored *restored,
                          struct rml_err *err);

#endif
