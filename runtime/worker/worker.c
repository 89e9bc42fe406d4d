#include "runtime/worker/worker.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/check.h"
#include "runtime/base/err.h"
#include "runtime/lane/lane_in.h"
#include "runtime/partition/partition.h"
#include "runtime/ring/bell.h"
#include "runtime/ring/queue.h"
#include "runtime/ring/stream.h"
#include "runtime/state/restored.h"
#include "runtime/state/room.h"
#include "runtime/time/time.h"
#include "runtime/worker/again.h"
#include "runtime/worker/door.h"
#include "runtime/worker/journaling.h"
#include "runtime/worker/lanes.h"
#include "runtime/worker/saving.h"
#include "runtime/worker/undo.h"

#define SCHEDULE_STEPS 4096u  // where nobody needs more
#define TICK_LEAST_NS  10000000
#define TICK_MOST_NS   250000000
#define SPIN_LEAST_NS  2000
#define SPIN_MOST_NS   50000  // about what a sleep and a wake-up cost together
#define SPIN_PAUSES    32     // between two looks at everything

struct rml_worker {
    struct rml_worker_options options;
    uint32_t own_count;
    struct rml_own *own;
    struct rml_worker_lanes lanes;
    struct rml_saving saving;
    struct rml_journaling journaling;
    struct rml_door door;
    struct rml_queue messages, reports;
    struct rml_bell bell;
    struct rml_room *room;  // of all its partitions
    int64_t tick_ns;        // so often while there are lanes; 0: never
    bool triggers;          // and at moments that stages name, lanes or not
    int64_t next_tick_ns;
    int64_t spin_ns;  // worth spinning before sleeping, by experience
    bool stopping, started, pinned;
    bool told_want;  // of a checkpoint, since the last one began
    bool settling;   // lanes of an engine before this one are detached first
    pthread_t thread;
    struct rml_mark marks[RML_WORKER_STEP_ROWS];
};

static int64_t now_ns(const struct rml_worker *w)
{
    return w->options.clock->monotonic_ns(w->options.clock->context);
}

/* ---- setting up ---- */

// A quarter of the shortest idle_after: a lane is then called idle at most that much too late.
static int64_t tick_span(const struct rml_worker_options *options)
{
    int64_t least = 0;
    for (uint32_t s = 0; s < options->plan->source_count && options->ticks; s++) {
        int64_t idle_after = options->plan->sources[s].idle_after_ns;
        if (idle_after > 0 && (least == 0 || idle_after < least))
            least = idle_after;
    }
    if (least == 0)
        return 0;
    least /= 4;
    return least < TICK_LEAST_NS ? TICK_LEAST_NS : least > TICK_MOST_NS ? TICK_MOST_NS : least;
}

static bool any_trigger(const struct rml_worker_options *options)
{
    bool any = false;
    for (uint32_t s = 0; s < options->plan->stage_count && options->ticks; s++)
        any |= options->plan->stages[s].window.trigger.every_ns > 0;
    return any;
}

// A subscriber of a ring knows its rows by the numbers that they have there.
static void number_rows(const struct rml_worker *w, uint32_t partition,
                        uint64_t next_seq[RML_OUTPUTS_MAX])
{
    const struct rml_plan *plan = w->options.plan;
    struct rml_output outputs[RML_OUTPUTS_MAX];
    uint32_t count = w->options.rings != NULL ? rml_outputs_list(plan, outputs) : 0;
    memset(next_seq, 0, RML_OUTPUTS_MAX * sizeof *next_seq);
    for (uint32_t o = 0; o < count; o++)
        next_seq[o] = w->options.rings[(size_t)o * plan->partitions + partition].given;
}

// Where numbers of rows go on in rings that are new.
static void number_rings(const struct rml_worker *w, const struct rml_own *own)
{
    const struct rml_plan *plan = w->options.plan;
    struct rml_output outputs[RML_OUTPUTS_MAX];
    uint32_t count = w->options.rings != NULL ? rml_outputs_list(plan, outputs) : 0;
    for (uint32_t o = 0; o < count; o++) {
        struct rml_broadcast_out *ring =
            &w->options.rings[(size_t)o * plan->partitions + own->index];
        uint64_t next = rml_partition_next_row(own->partition, o);
        if (ring->lines != NULL && ring->given == 0 && next > 0)
            rml_broadcast_number_out(ring, next);
    }
}

static void open_undo(const struct rml_worker *w, struct rml_own *own)
{
    const struct rml_worker_options *options = &w->options;
    const struct rml_plan *plan = options->plan;
    size_t bytes = rml_undo_bytes(plan->stage_count, plan->source_count);
    rml_undo_attach(&own->undo, options->undo != NULL ? options->undo + own->index * bytes : NULL,
                    plan->stage_count, plan->source_count,
                    options->stages + (size_t)own->index * plan->stage_count,
                    options->sources + (size_t)own->index * plan->source_count);
}

static int open_own(struct rml_worker *w, struct rml_own *own, struct rml_err *err)
{
    const struct rml_worker_options *options = &w->options;
    const struct rml_plan *plan = options->plan;
    uint64_t next_seq[RML_OUTPUTS_MAX];
    number_rows(w, own->index, next_seq);
    open_undo(w, own);
    const struct rml_partition_options partition = {
        .index = own->index,
        .door = rml_door_face(&w->door),
        .stages = options->stages + (size_t)own->index * plan->stage_count,
        .sources = options->sources + (size_t)own->index * plan->source_count,
        .lanes_max = options->lanes_max,
        .snapshots = options->handover != NULL,
        .next_seq = options->handover == NULL ? next_seq : NULL,
    };
    int rc = rml_partition_open(&own->partition, plan, options->operators, &partition, err);
    if (rc < 0)
        return rc;
    struct rml_restored *past = options->past != NULL ? &options->past[own->index] : NULL;
    if (past != NULL && past->roots != NULL) {
        rml_partition_renew(own->partition, options->renewed);
        rc = rml_partition_restore(own->partition, past, err);
        if (rc < 0)
            return rc;
        number_rings(w, own);
    }
    rml_partition_serve(own->partition, w->room);
    rc = options->prefaults ? rml_room_fulfil(w->room) : 0;
    if (rc < 0)
        return RML_FAIL(err, rc, "its memory (runtime.state_prefault) is not to be had: %s",
                        strerrordesc_np(-rc));
    own->noted_steps = own->durable_steps = rml_partition_steps(own->partition);
    own->journaled = options->journaled != NULL ? options->journaled[own->index] : 0;
    bool is_kept = options->schedules != NULL;
    rc = rml_schedule_open(&own->schedule, is_kept ? options->schedules[own->index] : NULL,
                           is_kept ? options->schedule_steps : SCHEDULE_STEPS, own->durable_steps);
    return rc < 0 ? RML_FAIL(err, rc, "its schedule is not to be had: %s", strerrordesc_np(-rc))
                  : 0;
}

static int open_partitions(struct rml_worker *w, struct rml_err *err)
{
    const struct rml_plan *plan = w->options.plan;
    RML_CHECK(w->options.index < plan->workers && plan->workers <= plan->partitions);
    w->own_count = (plan->partitions - w->options.index + plan->workers - 1) / plan->workers;
    w->own = calloc(w->own_count, sizeof *w->own);
    if (w->own == NULL)
        return RML_FAIL(err, -ENOMEM, "no memory for a worker");
    for (uint32_t i = 0; i < w->own_count; i++) {
        w->own[i].index = w->options.index + i * plan->workers;
        int rc = open_own(w, &w->own[i], err);
        if (rc < 0)
            return RML_WRAP(err, rc, "partition %u", w->own[i].index);
    }
    return 0;
}

static int worker_set_up(struct rml_worker *w, struct rml_err *err)
{
    uint32_t count = 64;  // two for each lane and listener, and the few others
    while (count < 2 * (w->options.lanes_max + RML_LISTENERS_MAX + RML_SOURCES_MAX))
        count *= 2;
    int rc = rml_queue_open(&w->messages, sizeof(struct rml_worker_message), count, err);
    if (rc == 0)
        rc = rml_queue_open(&w->reports, sizeof(struct rml_worker_report), count, err);
    if (rc == 0)
        rc = rml_bell_open(&w->bell, err);
    if (rc == 0)
        rc = rml_room_open(&w->room, err);
    if (rc < 0)
        return rc;
    rml_door_init(&w->door, &w->options);
    rc = open_partitions(w, err);
    if (rc < 0)
        return rc;
    w->tick_ns = tick_span(&w->options);
    w->triggers = any_trigger(&w->options);
    w->spin_ns = SPIN_MOST_NS;
    w->saving = (struct rml_saving){.handover = w->options.handover,
                                    .own = w->own,
                                    .own_count = w->own_count,
                                    .lanes = &w->lanes,
                                    .writer = w->options.writer,
                                    .worker = w->options.index};
    w->journaling.queue = w->options.journal;
    if (w->options.journal != NULL)
        w->options.journal->worker = &w->bell;
    return rml_worker_lanes_open(&w->lanes, w->options.index, w->options.lanes_max, w->own_count,
                                 &w->bell, err);
}

int rml_worker_open(struct rml_worker **ret_worker, const struct rml_worker_options *options,
                    struct rml_err *err)
{
    size_t bytes = (sizeof(struct rml_worker) + 127) / 128 * 128;
    struct rml_worker *w = aligned_alloc(128, bytes);
    if (w == NULL)
        return RML_FAIL(err, -ENOMEM, "no memory for a worker");
    memset(w, 0, bytes);
    w->options = *options;
    w->bell = RML_BELL_CLOSED;
    w->lanes.epoll_fd = -1;
    int rc = worker_set_up(w, err);
    if (rc < 0) {
        rml_worker_close(w);
        return RML_WRAP(err, rc, "worker %u", options->index);
    }
    *ret_worker = w;
    return 0;
}

/* ---- steps ---- */

// A step that has been written down.
static int run_step(struct rml_worker *w, struct rml_own *own, const struct rml_step *step,
                    const struct rml_step_input *input)
{
    int64_t since_ns = now_ns(w);
    int taken = rml_partition_step(own->partition, step, input);
    RML_CHECK(taken >= 0);  // the lanes that a partition knows are our own doing
    uint64_t took_ns = (uint64_t)(now_ns(w) - since_ns);
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
    rml_journaling_put(&w->journaling, own, step, NULL, 0, 0, now_ns(w));
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
                       rml_lane_in_position(lane->in, own->index), now_ns(w));
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

static bool read_messages(struct rml_worker *w)
{
    bool any = false;
    struct rml_worker_message message;
    while (!w->stopping && rml_queue_take(&w->messages, &message)) {
        obey(w, &message);
        any = true;
    }
    return any;
}

/* ---- the thread ---- */

static bool ticks(const struct rml_worker *w)
{
    return w->triggers || (w->tick_ns > 0 && w->lanes.count > 0);
}

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
    if (!ticks(w))
        return;
    int64_t now = now_ns(w);
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

bool rml_worker_round(struct rml_worker *w)
{
    bool any = read_messages(w);
    if (w->stopping)
        return any;
    rml_worker_lanes_note(&w->lanes);
    any |= round_of_journal(w);
    // Backwards: a lane that is done leaves the list, and the last one takes its place.
    for (uint32_t i = w->settling ? 0 : w->lanes.count; i-- > 0;)
        any |= round_of_lane(w, &w->lanes.lanes[w->lanes.used[i]]);
    if (!w->settling)
        tick_if_due(w);
    any |= rml_journaling_give(&w->journaling, w->journaling.used > 0 ? now_ns(w) : 0,
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

// Spin as long as has been worth it lately. True: there was something to do.
static bool spin(struct rml_worker *w)
{
    int64_t since_ns = now_ns(w);
    do {
        for (int i = 0; i < SPIN_PAUSES; i++)
            rml_pause();
        if (rml_worker_round(w)) {
            w->spin_ns = w->spin_ns * 2 > SPIN_MOST_NS ? SPIN_MOST_NS : w->spin_ns * 2;
            return true;
        }
        sched_yield();  // the producer that we wait for may want this very CPU
    } while (now_ns(w) - since_ns < w->spin_ns);
    w->spin_ns = w->spin_ns / 2 < SPIN_LEAST_NS ? SPIN_LEAST_NS : w->spin_ns / 2;
    return false;
}

static int sleep_ms(struct rml_worker *w)
{
    if (w->saving.is_open || w->journaling.used > 0)
        return 1;  // buffers come back without a bell of ours, or records are being gathered
    if (!ticks(w))
        return -1;
    int64_t left_ns = w->next_tick_ns - now_ns(w);
    return left_ns <= 0 ? 0 : (int)(left_ns / 1000000 + 1);
}

static void park(struct rml_worker *w)
{
    rml_bell_expect(&w->bell);
    // What was said before the bell was expected rings no bell: look again. Lanes were noted before the
    // round that found nothing.
    if (read_messages(w) || rml_journaling_has_news(&w->journaling)
        || !rml_worker_lanes_may_sleep(&w->lanes)) {
        rml_bell_awake(&w->bell);
        return;
    }
    _Atomic uint64_t *counts = w->options.counts->value;
    int64_t since_ns = now_ns(w);
    rml_count_set(&counts[RML_WORKER_asleep_since], (uint64_t)since_ns);
    rml_worker_lanes_wait(&w->lanes, sleep_ms(w));
    rml_bell_awake(&w->bell);
    int64_t slept_ns = now_ns(w) - since_ns;
    // Such a sleep cost more than spinning would have, which had shrunk for want of success.
    if (slept_ns < SPIN_MOST_NS)
        w->spin_ns = SPIN_MOST_NS;
    rml_count(&counts[RML_WORKER_sleeps], 1);
    rml_count(&counts[RML_WORKER_parked_ns], (uint64_t)slept_ns);
    rml_count_set(&counts[RML_WORKER_asleep_since], 0);
}

static void *work(void *context)
{
    struct rml_worker *w = context;
    w->next_tick_ns = now_ns(w);
    while (!w->stopping) {
        if (!rml_worker_round(w) && !spin(w))
            park(w);
    }
    return NULL;
}

static bool pin(pthread_attr_t *attributes, int cpu)
{
    if (cpu < 0 || cpu >= CPU_SETSIZE)
        return false;
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)cpu, &set);
    return pthread_attr_setaffinity_np(attributes, sizeof set, &set) == 0;
}

int rml_worker_take_again(struct rml_worker *w, const struct rml_worker_kept *lanes,
                          struct rml_err *err)
{
    RML_CHECK(!w->started);
    for (uint32_t i = 0; i < w->own_count; i++) {
        int rc =
            rml_again_take(&w->own[i], w->options.plan, lanes, w->options.lanes_max, w->marks, err);
        if (rc < 0)
            return RML_WRAP(err, rc, "partition %u", w->own[i].index);
    }
    return 0;
}

int rml_worker_feed(struct rml_worker *w, const struct rml_journal_entry *entry,
                    struct rml_err *err)
{
    RML_CHECK(!w->started);
    uint32_t workers = w->options.plan->workers;
    if (entry->partition % workers != w->options.index)
        return 0;
    struct rml_journaled journaled;
    int rc = rml_journaling_read(entry, &journaled);
    if (rc < 0)
        return RML_FAIL(err, rc, "entry %" PRIu64 " of the journal cannot be", entry->position);
    rc = rml_again_feed(&w->own[entry->partition / workers], w->options.plan, &journaled, err);
    return rc < 0 ? RML_WRAP(err, rc, "partition %u", entry->partition) : 0;
}

int rml_worker_settle(struct rml_worker *w, const struct rml_worker_kept *lanes,
                      struct rml_err *err)
{
    RML_CHECK(!w->started);
    for (uint32_t i = 0; i < w->own_count; i++) {
        int rc = rml_again_settle(&w->own[i], w->options.plan, lanes, w->options.lanes_max, err);
        if (rc < 0)
            return RML_WRAP(err, rc, "partition %u", w->own[i].index);
        w->settling |= w->own[i].leftover != NULL;
    }
    return 0;
}

int rml_worker_start(struct rml_worker *w, struct rml_err *err)
{
    RML_CHECK(!w->started);
    int rc = rml_room_start(w->room, err);
    if (rc < 0)
        return rc;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    w->pinned = pin(&attributes, w->options.cpu);
    sigset_t all, before;
    sigfillset(&all);  // signals are the control thread's
    pthread_sigmask(SIG_SETMASK, &all, &before);
    rc = pthread_create(&w->thread, &attributes, work, w);
    if (rc == EINVAL && w->pinned) {
        // The CPU is not ours to run on: anywhere is better than not at all.
        w->pinned = false;
        rc = pthread_create(&w->thread, NULL, work, w);
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    if (rc != 0)
        return RML_FAIL(err, -rc, "worker %u: no thread: %s", w->options.index,
                        strerrordesc_np(rc));
    w->started = true;
    char name[16];
    snprintf(name, sizeof name, "rml-worker-%u", w->options.index % 1000);
    pthread_setname_np(w->thread, name);
    return 0;
}

bool rml_worker_is_pinned(const struct rml_worker *w)
{
    return w->pinned;
}

bool rml_worker_tell(struct rml_worker *w, const struct rml_worker_message *message)
{
    if (!rml_queue_give(&w->messages, message))
        return false;
    rml_bell_ring(&w->bell);
    return true;
}

bool rml_worker_hear(struct rml_worker *w, struct rml_worker_report *ret_report)
{
    return rml_queue_take(&w->reports, ret_report);
}

void rml_worker_close(struct rml_worker *w)
{
    if (w == NULL)
        return;
    if (w->started)
        pthread_join(w->thread, NULL);
    rml_room_close(w->room);
    for (uint32_t i = 0; w->own != NULL && i < w->own_count; i++) {
        rml_partition_close(w->own[i].partition);
        rml_schedule_close(&w->own[i].schedule);
        free(w->own[i].leftover);
    }
    free(w->own);
    rml_worker_lanes_close(&w->lanes);
    rml_bell_close(&w->bell);
    rml_queue_close(&w->messages);
    rml_queue_close(&w->reports);
    free(w);
}
