#include "runtime/worker/again.h"

#include <errno.h>
#include <inttypes.h>

#include "runtime/base/err.h"

// Where the partition is in the lanes that it knows.
static int find_places(const struct rml_own *own, const struct rml_worker_kept *lanes,
                       uint32_t lanes_max, struct rml_err *err)
{
    for (uint32_t i = 0; i < lanes_max; i++) {
        const struct rml_partition_lane seen = rml_partition_lane(own->partition, i);
        if (lanes[i].in == NULL || lanes[i].serial != seen.serial)
            continue;
        int rc = rml_lane_in_go_on(lanes[i].in, own->index, seen.taken);
        if (rc < 0)
            return RML_FAIL(err, rc, "lane %u does not hold record %" PRIu64 " any more", i,
                            seen.taken);
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

static void detach_others(struct rml_own *own, const struct rml_worker_kept *lanes,
                          uint32_t lanes_max)
{
    for (uint32_t i = 0; i < lanes_max; i++) {
        const struct rml_partition_lane seen = rml_partition_lane(own->partition, i);
        if (!seen.attached || (lanes[i].in != NULL && lanes[i].serial == seen.serial))
            continue;
        const struct rml_step step = {.kind = RML_STEP_DETACH, .lane = (uint16_t)i};
        rml_schedule_append(&own->schedule, &step);
        rml_partition_step(own->partition, &step, NULL);
    }
}

int rml_again_take(struct rml_own *own, const struct rml_worker_kept *lanes, uint32_t lanes_max,
                   struct rml_mark *marks, struct rml_err *err)
{
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
        rc = take_one(own, &taken, lanes, lanes_max, marks, err);
        if (rc < 0)
            return rc;
    }
    detach_others(own, lanes, lanes_max);
    return 0;
}
