/*
 * schedule - the steps of a partition, written down before they are taken.
 *
 * Together with the records that it names, the schedule from a checkpoint on is all that is needed
 * to bring a partition to where it was. Without checkpoints it keeps the last steps for whoever
 * wants to know what led to a result.
 */
#ifndef RML_WORKER_SCHEDULE_H
#define RML_WORKER_SCHEDULE_H

#include <stdint.h>

#include "runtime/partition/partition.h"

struct rml_schedule {
    struct rml_step *steps;  // a ring of `capacity`, a power of two
    uint32_t capacity;
    uint64_t position;  // steps ever written
};

/* An empty schedule that keeps the last `capacity` (a power of two) steps; -ENOMEM. */
int rml_schedule_open(struct rml_schedule *schedule, uint32_t capacity);
void rml_schedule_close(struct rml_schedule *schedule);

/* Write the next step down. Over the oldest one when full. */
void rml_schedule_append(struct rml_schedule *schedule, const struct rml_step *step);

/* The step written at `position`; NULL when it is not there yet or any more. */
const struct rml_step *rml_schedule_at(const struct rml_schedule *schedule, uint64_t position);

#endif
