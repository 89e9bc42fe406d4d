#include "runtime/worker/again.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "runtime/base/err.h"

// Where the partition is in the lanes that it knows.
static int find_places(const struct rml_own *own, const struct rml_worker_kept *lanes,
                       uint32_t lanes_max, struct rml_err *err)
{
    for (uint32_t i = 0; i < lanes_max; i++) {
        const struct rml_partition_lane seen = rml_partition_lane(own->partition, i);
        if (lanes[i].in == NULL)
            continue;
        // One that it never knew may have been copied for the journal, and none of that is on the disk.
        uint64_t taken = lanes[i].serial == seen.serial
                             ? seen.taken
                             : rml_lane_in_position(lanes[i].in, own->index);
        int rc = rml_lane_in_go_on(lanes[i].in, own->index, taken);
        if (rc < 0)
            return RML_FAIL(err, rc, "lane %u does not hold record %" PRIu64 " any more", i, taken);
    }
    return 0;
}

static int take_batch(struct rml_own *own, const struct rml_step *step, struct rml_lane_in *in,
                      struct rml_mark *marks, struct rml_err *err)
{
    struct rml_lane_run run = {0};
    if (step->count > RML_WORKER_STEP_ROWS)
        return RML_FAIL(err, -EPROTO, "a step of %u records cannot be", step->count);
    if (step->count > 0 && rml_lane_in_peek_again(in, own->index, step->count, marks, &run) < 0)
        return RML_FAIL(err, -ENODATA, "lane %u lacks records that were taken", step->lane);
    const struct rml_step_input input = {
        .records = run.records, .marks = marks, .mark_count = run.mark_count};
    int rc = rml_partition_step(own->partition, step, &input);
    if (rc < 0)
        return RML_FAIL(err, rc, "lane %u is not attached", step->lane);
    if (step->count > 0)
        rml_lane_in_take(in, own->index, step->count);
    return 0;
}

static int take_one(struct rml_own *own, const struct rml_step *step,
                    const struct rml_worker_kept *lanes, uint32_t lanes_max, struct rml_mark *marks,
                    struct rml_err *err)
{
    if (step->kind != RML_STEP_BATCH) {
        int rc = rml_partition_step(own->partition, step, NULL);
        return rc < 0
                   ? RML_FAIL(err, rc, "a step cannot be: kind %u, lane %u", step->kind, step->lane)
                   : 0;
    }
    if (step->lane >= lanes_max || lanes[step->lane].in == NULL)
        return RML_FAIL(err, -ENODATA, "lane %u, of which records were taken, is gone", step->lane);
    return take_batch(own, step, lanes[step->lane].in, marks, err);
}

static int detach_others(struct rml_own *own, const struct rml_plan *plan,
                         const struct rml_worker_kept *lanes, uint32_t lanes_max)
{
    for (uint32_t i = 0; i < lanes_max; i++) {
        const struct rml_partition_lane seen = rml_partition_lane(own->partition, i);
        if (!seen.attached || (lanes[i].in != NULL && lanes[i].serial == seen.serial))
            continue;
        const struct rml_step step = {.kind = RML_STEP_DETACH, .lane = (uint16_t)i};
        if (rml_journaling_counts(plan, own->partition, &step)) {
            if (own->leftover == NULL)
                own->leftover = calloc(lanes_max, 1);
            if (own->leftover == NULL)
                return -ENOMEM;
            own->leftover[i] = 1;
            continue;
        }
        rml_schedule_append(&own->schedule, &step);
        rml_partition_step(own->partition, &step, NULL);
    }
    return 0;
}

// What the entry says must be what the partition is about to take.
static int check(const struct rml_own *own, const struct rml_plan *plan,
                 const struct rml_journaled *journaled, struct rml_err *err)
{
    const struct rml_step *step = &journaled->step;
    if (step->kind != RML_STEP_BATCH)
        return 0;
    const struct rml_partition_lane lane = rml_partition_lane(own->partition, step->lane);
    if (!lane.attached || lane.source >= plan->source_count
        || (step->count > 0
            && (lane.taken != journaled->record
                || plan->sources[lane.source].schema.record_bytes != journaled->record_bytes)))
        return RML_FAIL(err, -EPROTO,
                        "entry %" PRIu64 " of the journal is of record %" PRIu64
                        " of lane %u, which stands at %" PRIu64,
                        journaled->position, journaled->record, step->lane, lane.taken);
    return 0;
}

int rml_again_feed(struct rml_own *own, const struct rml_plan *plan,
                   const struct rml_journaled *journaled, struct rml_err *err)
{
    if (journaled->position < own->journaled)
        return 0;
    if (!own->is_placed && rml_partition_steps(own->partition) >= own->schedule.head->first)
        return 0;
    if (journaled->position > own->journaled)
        return RML_FAIL(err, -ENODATA,
                        "the journal has entry %" PRIu64 " and lacks entry %" PRIu64
                        " before it, to which the checkpoint reaches",
                        journaled->position, own->journaled);
    int rc = check(own, plan, journaled, err);
    if (rc < 0)
        return rc;
    if (own->is_placed && !own->begins_anew)
        rml_schedule_append(&own->schedule, &journaled->step);
    if (rml_partition_step(own->partition, &journaled->step, &journaled->input) < 0)
        return RML_FAIL(err, -EPROTO, "entry %" PRIu64 " of the journal cannot be taken",
                        journaled->position);
    own->journaled++;
    return 0;
}

int rml_again_settle(struct rml_own *own, const struct rml_plan *plan,
                     const struct rml_worker_kept *lanes, uint32_t lanes_max, struct rml_err *err)
{
    uint64_t steps = rml_partition_steps(own->partition);
    if (own->begins_anew && own->schedule.position != steps) {
        rml_schedule_begin(&own->schedule, steps);
        own->noted_steps = own->durable_steps = steps;
    }
    int rc = find_places(own, lanes, lanes_max, err);
    if (rc == 0 && detach_others(own, plan, lanes, lanes_max) < 0)
        rc = RML_FAIL(err, -ENOMEM, "no memory for lanes");
    return rc;
}

int rml_again_take(struct rml_own *own, const struct rml_plan *plan,
                   const struct rml_worker_kept *lanes, uint32_t lanes_max, struct rml_mark *marks,
                   struct rml_err *err)
{
    own->is_placed = true;
    own->begins_anew = own->schedule.head->first == own->schedule.position;
    int rc = find_places(own, lanes, lanes_max, err);
    if (rc < 0)
        return rc;
    for (;;) {
        uint64_t position = rml_partition_steps(own->partition);
        if (position == own->schedule.position)
            break;
        const struct rml_step *step = rml_schedule_at(&own->schedule, position);
        if (step == NULL)
            return RML_FAIL(err, -ENODATA, "step %" PRIu64 " is not in the schedule any more",
                            position);
        const struct rml_step taken = *step;
        bool counts = rml_journaling_counts(plan, own->partition, &taken);
        rc = take_one(own, &taken, lanes, lanes_max, marks, err);
        if (rc < 0)
            return rc;
        own->journaled += counts;
    }
    return 0;
}
