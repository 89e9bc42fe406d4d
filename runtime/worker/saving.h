/*
 * saving - a worker's part in a checkpoint: snapshots of its partitions, one after the other.
 *
 * Each begins between two steps and is copied in the rounds that follow, a little in each, while the
 * partition goes on (runtime/state/snapshot.h). A partition's moment is its own: nothing passes between
 * partitions. What lanes had given by that moment is noted, and released once the checkpoint is durable:
 * until then an engine that is started again takes it again.
 */
#ifndef RML_WORKER_SAVING_H
#define RML_WORKER_SAVING_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/checkpoint/handover.h"
#include "runtime/io/writer.h"
#include "runtime/partition/partition.h"
#include "runtime/plan/plan.h"
#include "runtime/state/snapshot.h"
#include "runtime/worker/lanes.h"
#include "runtime/worker/schedule.h"
#include "runtime/worker/undo.h"

#define RML_SAVING_RESERVE 32u  // buffers at most, half of those there are

/* A partition, as its worker has it. */
struct rml_own {
    uint32_t index;  // in the plan
    struct rml_partition *partition;
    struct rml_schedule schedule;
    struct rml_undo undo;
    bool was_held_up;                       // since the last durable checkpoint
    uint64_t noted_steps;                   // at the moment of the last snapshot
    uint64_t durable_steps;                 // at that of the last durable one
    uint64_t noted_taken[RML_SOURCES_MAX];  // records of each source, at that of the last
    uint64_t journaled;                     // entries of the journal that it has taken
    uint64_t noted_journaled;               // by the moment of the last snapshot
    uint64_t queued;                        // that are on their way to the disk
    bool is_placed;                         // its schedule has been taken again
    bool begins_anew;                       // nothing was in that
    unsigned char *leftover;  // by number of lane: to be detached as the first thing; NULL: none
};

struct rml_saving {
    struct rml_handover *handover;  // NULL: there are no checkpoints
    struct rml_own *own;
    uint32_t own_count;
    struct rml_worker_lanes *lanes;
    struct rml_writer *writer;  // told of each partition's moment
    uint32_t worker;
    bool is_open, begun;       // the checkpoint; the snapshot of partition `at`
    bool wanted;               // soon, because room is getting short; until it begins
    bool wanted_for_schedule;  // it is a schedule that is half full
    bool is_full;              // a lane, or a schedule, since the last durable one; to be told
    uint32_t full_source;      // of that lane; UINT32_MAX: it is a schedule
    uint64_t number;
    uint32_t at;
    uint32_t needs;         // the snapshot, of those before it
    bool is_first;          // nothing of it was given away yet
    unsigned char *buffer;  // being filled
    uint32_t used;
    // Empty ones that are not for what can wait: what is about to change and was not copied shall find one.
    void *reserve[RML_SAVING_RESERVE];
    uint32_t reserved;
};

/* Begin checkpoint `number`; the one before is over. */
void rml_saving_begin(struct rml_saving *saving, uint64_t number);

/* Copy some of what is to be copied. Returns whether anything was done. */
bool rml_saving_round(struct rml_saving *saving);

/* The last checkpoint, all of which has been handed over, is durable, or has come to nothing. */
void rml_saving_durable(struct rml_saving *saving);
void rml_saving_abandon(struct rml_saving *saving);

/*
 * A step was written, or `rows` more of a lane were taken by one (0: a lane is as an engine before this one left
 * it). A checkpoint is wanted when the schedule or the lane is half full of what the last one does not cover.
 */
void rml_saving_stepped(struct rml_saving *saving, uint32_t own);
void rml_saving_took(struct rml_saving *saving, struct rml_worker_lane *lane, uint32_t own,
                     uint32_t rows);

/* There is no room for a step: to be told, once for each durable checkpoint. */
void rml_saving_held_up(struct rml_saving *saving, struct rml_own *own);

/* Is there room in the schedule, and for rows of tables, for a step that can wait? Some is left for those
 * that cannot. */
static inline bool rml_saving_has_room(const struct rml_saving *saving, const struct rml_own *own)
{
    const struct rml_schedule *schedule = &own->schedule;
    return saving->handover == NULL
           || (schedule->position + own->queued - own->durable_steps
                   < schedule->capacity - schedule->capacity / 8
               && !rml_writer_is_full(saving->writer));
}

#endif
