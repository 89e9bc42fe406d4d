#include "runtime/worker/worker.h"

#include <stdlib.h>

#include "runtime/base/check.h"
#include "runtime/lane/lane_in.h"
#include "runtime/partition/partition.h"
#include "runtime/time/time.h"
#include "runtime/worker/undo.h"
#include "runtime/worker/worker_state.h"

/* ---- steps ---- */

// A step that has been written down.
static int run_step(struct rml_worker *w, struct rml_own *own, const struct rml_step *step,
                    const struct rml_step_input *input)
{
    int64_t since_ns = rml_worker_now(w);
    int taken = rml_partition_step(own->partition, step, input);
    RML_CHECK(taken >= 0);  // the lanes that a partition knows are our own doing
    uint64_t took_ns = (uint64_t)(rml_worker_now(w) - since_ns);
    _Atomic uint64_t *counts = w->options.counts->value;
    rml_count(&counts[RML_WORKER_steps], 1);
    rml_count(&counts[RML_WORKER_records], (uint64_t)taken);
    if (took_ns > rml_count_read(&counts[RML_WORKER_step_ns_max]))
        rml_count_set(&counts[RML_WORKER_step_ns_max], took_ns);
    return taken;
}

// `in` is the lane of a BATCH that takes records from it, else NULL. Whoever dies in here has not done it.
static int take_step(struct rml_worker *w, struct rml_own *own, const struct rml_step *step,
                     const struct rml_step_input *input, struct rml_lane_in *in)
{
    if (in != NULL)
        rml_undo_begin(&own->undo, step->lane, rml_lane_in_position(in, own->index));
    else
        rml_undo_begin(&own->undo, RML_UNDO_NO_LANE, 0);
    rml_schedule_append(&own->schedule, step);
    int taken = run_step(w, own, step, input);
    if (in != NULL)
        rml_lane_in_take(in, own->index, (uint32_t)taken);
    rml_undo_end(&own->undo);
    return taken;
}

static bool is_journaled(const struct rml_worker *w, uint32_t source)
{
    return w->journaling.queue != NULL && w->options.plan->sources[source].journal;
}

// Take a step without records now, or have it journaled first. False: there is no room for it yet.
static bool put_step(struct rml_worker *w, struct rml_own *own, const struct rml_step *step,
                     bool journaled)
{
    if (!journaled) {
        take_step(w, own, step, NULL, NULL);
        return true;
    }
    if (rml_journaling_room(&w->journaling, 0, 1) == 0)
        return false;
    rml_journaling_put(&w->journaling, own, step, NULL, 0, 0, rml_worker_now(w));
    return true;
}

static void step_all(struct rml_worker *w, const struct rml_step *step)
{
    for (uint32_t i = 0; i < w->own_count; i++)
        take_step(w, &w->own[i], step, NULL, NULL);
}

static void give_report(struct rml_worker *w, struct rml_worker_report news)
{
    news.worker = w->options.index;
    RML_CHECK(rml_queue_give(&w->reports, &news));  // holds two for each lane
    rml_bell_ring(w->options.reports_bell);
}

static void report(struct rml_worker *w, enum rml_worker_report_kind kind, uint32_t source,
                   uint32_t index)
{
    give_report(w, (struct rml_worker_report){.kind = kind, .source = source, .index = index});
}

static void report_done(struct rml_worker *w, const struct rml_worker_lane *lane)
{
    struct rml_worker_report news = {
        .kind = RML_WORKER_LANE_DONE, .source = lane->source, .index = lane->number};
    for (uint32_t i = 0; i < w->own_count; i++)
        news.published += lane->parts[i].final;
    give_report(w, news);
}

// The DETACH step has been taken.
static void part_gone(struct rml_worker_lane *lane, uint32_t i)
{
    lane->parts[i].gone = true;
    lane->parts_left--;
}

// The partition is done with the lane. Once all are, an ending lane is forgotten and reported.
static bool part_done(struct rml_worker *w, struct rml_worker_lane *lane, uint32_t i)
{
    const struct rml_step step = {.kind = RML_STEP_DETACH, .lane = (uint16_t)lane->number};
    bool journaled = is_journaled(w, lane->source);
    if (!put_step(w, &w->own[i], &step, journaled))
        return false;
    lane->parts[i].done = true;
    if (!journaled)
        part_gone(lane, i);
    return true;
}

static void lane_is_faulty(struct rml_worker *w, struct rml_worker_lane *lane)
{
    lane->faulty = true;
    for (uint32_t i = 0; i < w->own_count; i++) {
        if (lane->parts[i].done)
            continue;
        // what it says to have published beyond cannot be believed
        struct rml_lane_counts counts;
        rml_lane_in_partition_counts(lane->in, w->own[i].index, &counts);
        lane->parts[i].final = counts.taken;
        part_done(w, lane, i);
    }
    report(w, RML_WORKER_LANE_FAULTY, lane->source, lane->number);
}

// The greatest event time that is believed now, as a step says it.
static int64_t latest_of(const struct rml_worker *w, uint32_t source)
{
    int64_t ahead = w->options.plan->sources[source].max_ahead_ns;
    if (ahead == 0 || !w->options.ticks)
        return 0;
    int64_t latest = rml_time_add(w->options.clock->wall_ns(w->options.clock->context), ahead);
    return latest != 0 ? latest : -1;  // 0 would be no bound
}

// Is there news in what a lane without records vouches for?
static bool is_news(const struct rml_worker *w, const struct rml_worker_lane *lane, uint32_t i,
                    int64_t vouches)
{
    if (vouches == RML_TIME_NONE || vouches <= lane->parts[i].vouched
        || !rml_partition_vouch_due(w->own[i].partition, (uint16_t)lane->number, vouches))
        return false;
    int64_t latest = latest_of(w, lane->source);
    return latest == 0 || vouches <= latest;
}

// Copy a run of records into the journal's buffers; it is taken from there.
static void put_run(struct rml_worker *w, struct rml_worker_lane *lane, uint32_t i,
                    const struct rml_step *step, const struct rml_step_input *input)
{
    struct rml_own *own = &w->own[i];
    uint32_t record_bytes = w->options.plan->sources[lane->source].schema.record_bytes;
    rml_journaling_put(&w->journaling, own, step, input, record_bytes,
                       rml_lane_in_position(lane->in, own->index), rml_worker_now(w));
    if (step->count > 0)
        rml_lane_in_take(lane->in, own->index, step->count);
    if (step->time > lane->parts[i].vouched && (step->latest == 0 || step->time <= step->latest))
        lane->parts[i].vouched = step->time;
}

// Take a run of records, which may be empty, of a lane into partition i.
static void take_run(struct rml_worker *w, struct rml_worker_lane *lane, uint32_t i, uint32_t rows,
                     const struct rml_lane_run *run)
{
    struct rml_own *own = &w->own[i];
    uint32_t mark_count = run->mark_count;
    while (mark_count > 0 && w->marks[mark_count - 1].row >= rows)
        mark_count--;
    const struct rml_step step = {.kind = RML_STEP_BATCH,
                                  .lane = (uint16_t)lane->number,
                                  .count = rows,
                                  .time = run->vouches,
                                  .latest = latest_of(w, lane->source)};
    const struct rml_step_input input = {
        .records = run->records, .marks = w->marks, .mark_count = mark_count};
    if (is_journaled(w, lane->source)) {
        put_run(w, lane, i, &step, &input);
        return;
    }
    take_step(w, own, &step, &input, rows > 0 ? lane->in : NULL);
    if (w->saving.handover != NULL)
        rml_saving_took(&w->saving, lane, i, rows);
    else if (rows > 0)
        rml_lane_in_release(lane->in, own->index, rows);
}

static uint32_t rows_wanted(struct rml_worker *w, const struct rml_worker_lane *lane)
{
    if (!is_journaled(w, lane->source))
        return RML_WORKER_STEP_ROWS;
    return rml_journaling_room(&w->journaling,
                               w->options.plan->sources[lane->source].schema.record_bytes,
                               RML_WORKER_STEP_ROWS);
}

/*
 * Take what lane has for partition i, once. An ending lane is taken up to what it had published when
 * its end was told: a producer that goes on writing then cannot hold the end back.
 */
static bool take_from(struct rml_worker *w, struct rml_worker_lane *lane, uint32_t i)
{
    struct rml_own *own = &w->own[i];
    if (!rml_saving_has_room(&w->saving, own)) {
        rml_saving_held_up(&w->saving, own);
        return false;
    }
    if (lane->faulty)
        return part_done(w, lane, i);
    uint32_t want = rows_wanted(w, lane);
    if (want == 0)
        return false;
    struct rml_lane_run run;
    int32_t rows = rml_lane_in_peek(lane->in, own->index, want, w->marks, &run);
    if (rows < 0) {
        lane_is_faulty(w, lane);
        return true;
    }
    bool ends_here = false;
    if (lane->ending) {
        lane->parts[i].final = rml_lane_in_final(lane->in, own->index);
        uint64_t left = lane->parts[i].final - rml_lane_in_position(lane->in, own->index);
        if ((uint64_t)rows > left) {
            rows = (int32_t)left;
            run.vouches = RML_TIME_NONE;
        }
        ends_here = left == (uint64_t)rows;
    }
    if (rows > 0 || is_news(w, lane, i, run.vouches)) {
        take_run(w, lane, i, (uint32_t)rows, &run);
        if (!ends_here)
            return true;
    }
    return ends_here && part_done(w, lane, i);
}

// Of a lane that an engine before this one had, a partition may have taken a part, or all of it. False: the
// journal has no room yet.
static bool attach_part(struct rml_worker *w, struct rml_worker_lane *lane, uint32_t i)
{
    struct rml_own *own = &w->own[i];
    struct rml_worker_lane_part *part = &lane->parts[i];
    const struct rml_partition_lane seen = rml_partition_lane(own->partition, lane->number);
    if (lane->serial == 0 || seen.serial != lane->serial) {
        const struct rml_step step = {.kind = RML_STEP_ATTACH,
                                      .lane = (uint16_t)lane->number,
                                      .count = lane->source,
                                      .time = rml_lane_in_geometry(lane->in)->owners > 0,
                                      .serial = lane->serial};
        part->is_due = !put_step(w, own, &step, is_journaled(w, lane->source));
        return !part->is_due;
    }
    struct rml_lane_counts counts;
    rml_lane_in_partition_counts(lane->in, own->index, &counts);
    part->is_due = false;
    part->taken = seen.taken;
    part->final = seen.taken;
    part->noted = part->released = counts.released;
    part->done = part->gone = !seen.attached;
    if (is_journaled(w, lane->source))
        rml_lane_in_durable(lane->in, own->index, seen.taken);
    lane->parts_left -= part->gone;
    // full of what was taken before, it gives nothing more that would have it noticed
    rml_saving_took(&w->saving, lane, i, 0);
    return true;
}

// Those who left a shared lane can be forgotten once all partitions have taken what they published.
static void see_owners(struct rml_worker *w, struct rml_worker_lane *lane)
{
    for (uint32_t i = 0; i < w->own_count; i++) {
        if (!lane->parts[i].done && rml_lane_in_seen(lane->in, w->own[i].index) < lane->told)
            return;
    }
    lane->told = 0;
    report(w, RML_WORKER_OWNERS_SEEN, lane->source, lane->number);
}

static bool round_of_lane(struct rml_worker *w, struct rml_worker_lane *lane)
{
    bool any = false;
    for (uint32_t i = 0; i < w->own_count; i++) {
        if (lane->parts[i].is_due && !attach_part(w, lane, i))
            continue;
        if (!lane->parts[i].done)
            any |= take_from(w, lane, i);
    }
    if (lane->told != 0)
        see_owners(w, lane);
    if (lane->ending && lane->parts_left == 0) {
        rml_worker_lanes_remove(&w->lanes, lane);
        report_done(w, lane);
        any = true;
    }
    return any;
}

/* ---- what the control thread says ---- */

static void attach(struct rml_worker *w, const struct rml_worker_message *message)
{
    struct rml_worker_lane *lane =
        rml_worker_lanes_add(&w->lanes, message->index, message->source, message->lane);
    RML_CHECK(lane != NULL);  // the kernel's limit of watches is far above lanes_max of all workers
    lane->serial = message->number;
    for (uint32_t i = 0; i < w->own_count; i++) {
        lane->parts[i].vouched = RML_TIME_NONE;
        lane->parts[i].is_due = true;
        // With a journal an earlier lane of this number may be on its way out: in the round, in turn.
        if (w->journaling.queue == NULL)
            attach_part(w, lane, i);
    }
}

static void lane_ends(struct rml_worker *w, uint32_t number)
{
    struct rml_worker_lane *lane = &w->lanes.lanes[number];
    RML_CHECK(lane->in != NULL && !lane->ending);
    lane->ending = true;
    for (uint32_t i = 0; i < w->own_count; i++) {
        if (!lane->parts[i].done && !lane->faulty)
            rml_lane_in_end(lane->in, w->own[i].index);
    }
}

static void owners_change(struct rml_worker *w, uint32_t number, uint64_t version)
{
    struct rml_worker_lane *lane = &w->lanes.lanes[number];
    if (lane->in != NULL && version > lane->told)  // else it has come to its end meanwhile
        lane->told = version;
}

static void obey(struct rml_worker *w, const struct rml_worker_message *message)
{
    switch ((enum rml_worker_message_kind)message->kind) {
    case RML_WORKER_ATTACH:
        attach(w, message);
        return;
    case RML_WORKER_FINISH:
        lane_ends(w, message->index);
        return;
    case RML_WORKER_OWNERS:
        owners_change(w, message->index, message->number);
        return;
    case RML_WORKER_END: {
        const struct rml_step step = {.kind = RML_STEP_END, .count = message->source};
        step_all(w, &step);
        report(w, RML_WORKER_SOURCE_DONE, message->source, 0);
        return;
    }
    case RML_WORKER_LISTEN:
        rml_door_listen(&w->door, message->index, message->listener);
        return;
    case RML_WORKER_UNLISTEN:
        rml_door_unlisten(&w->door, message->index);
        report(w, RML_WORKER_UNLISTENED, 0, message->index);
        return;
    case RML_WORKER_SAVE:
        rml_saving_begin(&w->saving, message->number);
        w->told_want = false;
        return;
    case RML_WORKER_SAVED:
        rml_saving_durable(&w->saving);
        return;
    case RML_WORKER_UNSAVED:
        rml_saving_abandon(&w->saving);
        return;
    case RML_WORKER_STOP:
        w->stopping = true;
        return;
    }
    RML_UNREACHABLE("the control thread says only what is for a worker");
}

bool rml_worker_read_messages(struct rml_worker *w)
{
    bool any = false;
    struct rml_worker_message message;
    while (!w->stopping && rml_queue_take(&w->messages, &message)) {
        obey(w, &message);
        any = true;
    }
    return any;
}

/* ---- moments ---- */

// How long from `wall` until a tick is due again.
static int64_t until_tick(const struct rml_worker *w, int64_t wall)
{
    const struct rml_plan *plan = w->options.plan;
    int64_t least = w->tick_ns > 0 ? w->tick_ns : RML_TIME_END;
    for (uint32_t s = 0; s < plan->stage_count && w->triggers; s++) {
        int64_t every = plan->stages[s].window.trigger.every_ns;
        if (every == 0)
            continue;
        int64_t left = every - (wall - rml_time_floor_div(wall, every) * every);
        least = left < least ? left : least;
    }
    return least;
}

// The wall clock triggers results, and the steady one says how long a lane has been silent; the steps record
// both, so that they can be taken again.
static void tick_if_due(struct rml_worker *w)
{
    if (!rml_worker_ticks(w))
        return;
    int64_t now = rml_worker_now(w);
    if (now < w->next_tick_ns)
        return;
    int64_t wall = w->options.clock->wall_ns(w->options.clock->context);
    w->next_tick_ns = now + until_tick(w, wall);
    const struct rml_step step = {.kind = RML_STEP_TICK, .time = wall, .steady_ns = now};
    for (uint32_t i = 0; i < w->own_count; i++) {
        if (!rml_saving_has_room(&w->saving, &w->own[i]))
            continue;
        bool is_journaled_first = w->journaling.queue != NULL;
        (void)put_step(w, &w->own[i], &step, is_journaled_first);
        if (w->saving.handover != NULL && !is_journaled_first)
            rml_saving_stepped(&w->saving, i);
    }
}

/* ---- what the journal has ---- */

// A step that is on the disk is like one that was just written down.
static void take_journaled(struct rml_worker *w, const struct rml_journaled *journaled)
{
    uint32_t i = (journaled->partition - w->options.index) / w->options.plan->workers;
    struct rml_own *own = &w->own[i];
    const struct rml_step *step = &journaled->step;
    rml_schedule_append(&own->schedule, step);
    run_step(w, own, step, &journaled->input);
    own->queued--;
    own->journaled++;
    struct rml_worker_lane *lane = &w->lanes.lanes[step->lane];
    if (step->kind == RML_STEP_BATCH) {
        rml_saving_took(&w->saving, lane, i, step->count);
        if (step->count > 0)
            rml_lane_in_durable(lane->in, own->index, journaled->record + step->count);
    } else if (step->kind == RML_STEP_DETACH && lane->in != NULL && lane->parts[i].done)
        part_gone(lane, i);
    else if (step->kind == RML_STEP_TICK)
        rml_saving_stepped(&w->saving, i);
}

// One buffer of steps that are on the disk.
static bool take_durable(struct rml_worker *w)
{
    struct rml_journaled journaled;
    bool any = false;
    for (; rml_journaling_next(&w->journaling, &journaled); any = true)
        take_journaled(w, &journaled);
    return any;
}

// Lanes that nobody has any more, as rml_again_settle has listed them.
static void put_leftovers(struct rml_worker *w)
{
    for (uint32_t i = 0; i < w->own_count; i++) {
        struct rml_own *own = &w->own[i];
        for (uint32_t l = 0; own->leftover != NULL && l < w->options.lanes_max; l++) {
            const struct rml_step step = {.kind = RML_STEP_DETACH, .lane = (uint16_t)l};
            if (own->leftover[l] && !put_step(w, own, &step, true))
                return;
            own->leftover[l] = 0;
        }
        free(own->leftover);
        own->leftover = NULL;
    }
    w->settling = !rml_journaling_is_empty(&w->journaling);
}

static bool round_of_journal(struct rml_worker *w)
{
    if (w->journaling.queue == NULL)
        return false;
    bool any = take_durable(w);
    if (w->settling)
        put_leftovers(w);
    return any;
}

/* ---- all of it ---- */

bool rml_worker_round(struct rml_worker *w)
{
    bool any = rml_worker_read_messages(w);
    if (w->stopping)
        return any;
    rml_worker_lanes_note(&w->lanes);
    any |= round_of_journal(w);
    // Backwards: a lane that is done leaves the list, and the last one takes its place.
    for (uint32_t i = w->settling ? 0 : w->lanes.count; i-- > 0;)
        any |= round_of_lane(w, &w->lanes.lanes[w->lanes.used[i]]);
    if (!w->settling)
        tick_if_due(w);
    any |= rml_journaling_give(&w->journaling, w->journaling.used > 0 ? rml_worker_now(w) : 0,
                               w->options.plan->journal_delay_ns);
    any |= rml_saving_round(&w->saving);
    if (w->saving.wanted && !w->told_want) {
        w->told_want = true;
        report(w, RML_WORKER_WANTS_SAVING, 0, w->saving.wanted_for_schedule);
    }
    if (w->saving.is_full) {
        w->saving.is_full = false;
        report(w, RML_WORKER_FULL, w->saving.full_source, 0);
    }
    return any;
}
