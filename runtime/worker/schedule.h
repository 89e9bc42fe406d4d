/*
 * schedule - the steps of a partition, written down before they are taken.
 *
 * Together with the records that it names, the schedule from a checkpoint on is all that is needed
 * to bring a partition to where it was. It lies in memory that outlives the engine where somebody
 * holds that, and keeps the last steps alone: those before the last checkpoint are never needed.
 * Positions are those of the partition's life (rml_partition_steps).
 *
 * One thread uses a schedule.
 */
#ifndef RML_WORKER_SCHEDULE_H
#define RML_WORKER_SCHEDULE_H

#include <stdalign.h>
#include <stdatomic.h>
#include <stdint.h>

#include "runtime/partition/partition.h"

/* How the memory begins; then come `capacity` steps, a ring. */
struct rml_schedule_head {
    _Atomic uint64_t magic;  // 0: nobody has begun yet
    uint32_t capacity, step_bytes;
    uint64_t first;                         // position of the first step ever written here
    alignas(64) _Atomic uint64_t position;  // of the step that is written next
};

struct rml_schedule {
    struct rml_schedule_head *head;
    struct rml_step *steps;
    uint32_t capacity;  // a power of two
    uint64_t position;
    void *own;  // memory that is nobody else's, or NULL
};

/* Bytes of the memory for `capacity` steps, to be aligned to 64. */
size_t rml_schedule_bytes(uint32_t capacity);

/*
 * Go on with the schedule in `memory` (of an engine before this one), or begin it at `position` where the
 * memory is all zeros. NULL: in memory of its own. `capacity` is a power of two. 0, -ENOMEM, or -EPROTO:
 * the memory is that of a schedule of another form.
 */
int rml_schedule_open(struct rml_schedule *schedule, void *memory, uint32_t capacity,
                      uint64_t position);
/* Nothing before `position` is in it any more, which the next step has. */
void rml_schedule_begin(struct rml_schedule *schedule, uint64_t position);
void rml_schedule_close(struct rml_schedule *schedule);

/* Write the next step down. Over the oldest one when full. */
void rml_schedule_append(struct rml_schedule *schedule, const struct rml_step *step);

/* The step written at `position`; NULL when it is not there yet or any more. */
const struct rml_step *rml_schedule_at(const struct rml_schedule *schedule, uint64_t position);

#endif
