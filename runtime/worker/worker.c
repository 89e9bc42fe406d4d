/*
 * THE WORKER'S ROUND
 *
 *     messages -> for each partition: for each lane: peek -> schedule -> step -> take, release
 *
 * A lane is given up to STEP_ROWS records at a time, so that lanes and partitions take turns. What a
 * lane vouches for is used when it matters to the partition (a window fires, an idle lane wakes).
 *
 * SLEEP. After some rounds without work the worker notes every lane's count of publishes, makes one
 * round more, says in every lane that it sleeps, and looks at the counts again; only then it polls
 * the lanes' eventfds and its bell. lane_in.h tells why no wake-up is lost. A sleep is bounded, both
 * for ticks and because time alone (a lane whose records go to other partitions) does not always ring.
 */
#include "runtime/worker/worker.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/check.h"
#include "runtime/base/err.h"
#include "runtime/partition/partition.h"
#include "runtime/ring/queue.h"
#include "runtime/time/time.h"
#include "runtime/worker/schedule.h"

#define STEP_ROWS      2048u
#define SCHEDULE_STEPS 4096u
#define QUEUE_MESSAGES 1024u
#define IDLE_ROUNDS    64u
#define SLEEP_MS       100
#define TICK_MIN_NS    (10 * INT64_C(1000000))
#define TICK_MAX_NS    (250 * INT64_C(1000000))

struct part {
    uint32_t index;  // in the plan
    struct rml_partition *partition;
    struct rml_schedule schedule;
};

struct lane {
    struct rml_lane_in *in;
    uint32_t index;  // its number, in steps too
    uint32_t source;
    bool finishing;
    bool faulty;
    uint32_t parts_left;  // own partitions that it is attached to
    uint64_t publishes;   // as seen before the last round
    bool *part_attached;  // by own partition
};

struct rml_worker {
    struct rml_worker_options options;
    pthread_t thread;
    bool started, pinned, stopping;
    uint32_t part_count;
    struct part *parts;
    uint32_t lane_count;
    struct lane *lanes;  // those attached come first
    bool *part_flags;    // lanes_max * part_count, what part_attached points into
    struct pollfd *polls;
    struct rml_queue messages, reports;
    struct rml_bell bell;
    struct rml_mark marks[STEP_ROWS];
    int64_t tick_ns, next_tick;
};

/* The door */

static _Atomic uint64_t *counter(struct rml_worker *w, enum rml_worker_counter which)
{
    return &w->options.counts->value[which];
}

static struct rml_result_block *take_block(void *context)
{
    struct rml_worker *w = context;
    struct rml_result_block *block = rml_writer_take(w->options.writer, w->options.index);
    if (block != NULL)
        return block;
    const struct rml_clock *clock = w->options.clock;
    int64_t since = clock->monotonic_ns(clock->context);
    while (block == NULL) {
        rml_writer_wait(w->options.writer, w->options.index);
        block = rml_writer_take(w->options.writer, w->options.index);
    }
    rml_count(counter(w, RML_WORKER_backpressure_waits), 1);
    rml_count(counter(w, RML_WORKER_backpressure_ns),
              (uint64_t)(clock->monotonic_ns(clock->context) - since));
    return block;
}

static void give_block(void *context, struct rml_result_block *block)
{
    struct rml_worker *w = context;
    bool progress_only = block->output == RML_OUTPUTS_MAX;
    if (!progress_only && w->options.publish != NULL)
        w->options.publish(w->options.publish_context, block);
    if (w->options.announce_progress
        || (!progress_only && rml_writer_wants(w->options.writer, block->output)))
        rml_writer_give(w->options.writer, w->options.index, block);
    else
        rml_writer_put_back(w->options.writer, w->options.index, block);
}

/* Steps */

static int step(struct rml_worker *w, struct part *part, const struct rml_step *next,
                const struct rml_step_input *input)
{
    const struct rml_clock *clock = w->options.clock;
    int64_t since = clock->monotonic_ns(clock->context);
    rml_schedule_append(&part->schedule, next);
    int rc = rml_partition_step(part->partition, next, input);
    RML_CHECK(rc >= 0);  // a step that cannot be is this worker's own mistake
    uint64_t took = (uint64_t)(clock->monotonic_ns(clock->context) - since);
    rml_count(counter(w, RML_WORKER_steps), 1);
    rml_count(counter(w, RML_WORKER_records), (uint64_t)rc);
    if (took > rml_count_read(counter(w, RML_WORKER_step_ns_max)))
        rml_count_set(counter(w, RML_WORKER_step_ns_max), took);
    return rc;
}

static void report(struct rml_worker *w, enum rml_worker_report_kind kind, uint32_t source,
                   uint32_t index)
{
    const struct rml_worker_report news = {kind, w->options.index, source, index};
    // Reports are fewer than messages, and the control thread always comes to take them.
    while (!rml_queue_give(&w->reports, &news))
        sched_yield();
    rml_bell_ring(w->options.reports_bell);
}

static void detach(struct rml_worker *w, struct lane *lane, uint32_t own)
{
    const struct rml_step next = {.kind = RML_STEP_DETACH, .lane = (uint16_t)lane->index};
    step(w, &w->parts[own], &next, NULL);
    lane->part_attached[own] = false;
    lane->parts_left--;
}

static void fault(struct rml_worker *w, struct lane *lane)
{
    if (lane->faulty)
        return;
    lane->faulty = true;
    report(w, RML_WORKER_LANE_FAULTY, lane->source, lane->index);
}

// Returns whether there was anything to do.
static bool serve(struct rml_worker *w, struct lane *lane, uint32_t own)
{
    struct part *part = &w->parts[own];
    struct rml_lane_run run;
    int32_t rows =
        lane->faulty ? 0 : rml_lane_in_peek(lane->in, part->index, STEP_ROWS, w->marks, &run);
    if (rows < 0) {
        fault(w, lane);
        return true;
    }
    bool vouches = rows == 0 && !lane->faulty && run.vouches != RML_TIME_NONE
                   && rml_partition_vouch_due(part->partition, (uint16_t)lane->index, run.vouches);
    if (rows > 0 || vouches) {
        const struct rml_step next = {.kind = RML_STEP_BATCH,
                                      .lane = (uint16_t)lane->index,
                                      .count = (uint32_t)rows,
                                      .time = run.vouches};
        const struct rml_step_input input = {run.records, w->marks, run.mark_count};
        step(w, part, &next, &input);
        if (rows > 0) {
            rml_lane_in_take(lane->in, part->index, (uint32_t)rows);
            rml_lane_in_release(lane->in, part->index, (uint32_t)rows);
        }
        return true;
    }
    if (!lane->finishing)
        return false;
    int drained = lane->faulty ? 1 : rml_lane_in_is_drained(lane->in, part->index);
    if (drained < 0) {
        fault(w, lane);
        return true;
    }
    if (drained > 0)
        detach(w, lane, own);
    return true;
}

/* Messages */

static void attach(struct rml_worker *w, const struct rml_worker_message *message)
{
    RML_CHECK(w->lane_count < w->options.lanes_max);
    struct lane *lane = &w->lanes[w->lane_count++];
    bool *flags = lane->part_attached;
    *lane = (struct lane){.in = message->lane,
                          .index = message->index,
                          .source = message->source,
                          .parts_left = w->part_count,
                          .part_attached = flags};
    for (uint32_t own = 0; own < w->part_count; own++) {
        const struct rml_step next = {
            .kind = RML_STEP_ATTACH, .lane = (uint16_t)lane->index, .count = lane->source};
        flags[own] = true;
        step(w, &w->parts[own], &next, NULL);
    }
}

static void end_source(struct rml_worker *w, uint32_t source)
{
    for (uint32_t own = 0; own < w->part_count; own++) {
        const struct rml_step next = {.kind = RML_STEP_END, .count = source};
        step(w, &w->parts[own], &next, NULL);
    }
    report(w, RML_WORKER_SOURCE_DONE, source, 0);
}

static void finish(struct rml_worker *w, uint32_t index)
{
    for (uint32_t i = 0; i < w->lane_count; i++) {
        if (w->lanes[i].index == index)
            w->lanes[i].finishing = true;
    }
}

static bool read_messages(struct rml_worker *w)
{
    struct rml_worker_message message;
    bool any = false;
    while (!w->stopping && rml_queue_take(&w->messages, &message)) {
        any = true;
        switch ((enum rml_worker_message_kind)message.kind) {
        case RML_WORKER_ATTACH:
            attach(w, &message);
            break;
        case RML_WORKER_FINISH:
            finish(w, message.index);
            break;
        case RML_WORKER_END:
            end_source(w, message.source);
            break;
        case RML_WORKER_STOP:
            w->stopping = true;
            break;
        }
    }
    return any;
}

/* Rounds */

static void drop_finished_lanes(struct rml_worker *w)
{
    for (uint32_t i = 0; i < w->lane_count;) {
        if (!w->lanes[i].finishing || w->lanes[i].parts_left > 0) {
            i++;
            continue;
        }
        struct lane done = w->lanes[i];
        w->lanes[i] = w->lanes[--w->lane_count];
        w->lanes[w->lane_count] = done;  // its flags stay in the array for the next one
        report(w, RML_WORKER_LANE_DONE, done.source, done.index);
    }
}

static bool tick(struct rml_worker *w)
{
    const struct rml_clock *clock = w->options.clock;
    if (w->tick_ns == 0)
        return false;
    int64_t now = clock->monotonic_ns(clock->context);
    if (now < w->next_tick)
        return false;
    w->next_tick = now + w->tick_ns;
    const struct rml_step next = {.kind = RML_STEP_TICK, .time = clock->wall_ns(clock->context)};
    for (uint32_t own = 0; own < w->part_count; own++)
        step(w, &w->parts[own], &next, NULL);
    return true;
}

static bool go_round(struct rml_worker *w)
{
    bool any = read_messages(w);
    for (uint32_t own = 0; own < w->part_count; own++) {
        for (uint32_t i = 0; i < w->lane_count; i++) {
            if (w->lanes[i].part_attached[own])
                any |= serve(w, &w->lanes[i], own);
        }
    }
    drop_finished_lanes(w);
    tick(w);
    return any;
}

static void note_publishes(struct rml_worker *w)
{
    for (uint32_t i = 0; i < w->lane_count; i++)
        w->lanes[i].publishes = rml_lane_in_publishes(w->lanes[i].in);
}

static bool has_published(const struct rml_worker *w)
{
    for (uint32_t i = 0; i < w->lane_count; i++) {
        if (rml_lane_in_publishes(w->lanes[i].in) != w->lanes[i].publishes)
            return true;
    }
    return false;
}

// Called after a round without work that began after note_publishes.
static void sleep_until_rung(struct rml_worker *w)
{
    const struct rml_clock *clock = w->options.clock;
    int64_t since = clock->monotonic_ns(clock->context);
    int timeout_ms = w->tick_ns > 0 && w->tick_ns < SLEEP_MS * INT64_C(1000000)
                         ? (int)(w->tick_ns / 1000000)
                         : SLEEP_MS;
    rml_bell_expect(&w->bell);
    for (uint32_t i = 0; i < w->lane_count; i++) {
        rml_lane_in_sleep_begin(w->lanes[i].in, w->options.index);
        w->polls[i] = (struct pollfd){.fd = rml_lane_in_fds(w->lanes[i].in)->wake[w->options.index],
                                      .events = POLLIN};
    }
    w->polls[w->lane_count] = (struct pollfd){.fd = w->bell.fd, .events = POLLIN};
    // A message sent before `expect` could be heard lies in the queue already.
    bool slept = !has_published(w) && !read_messages(w);
    if (slept)
        (void)poll(w->polls, w->lane_count + 1, timeout_ms);
    for (uint32_t i = 0; i < w->lane_count; i++)
        rml_lane_in_sleep_end(w->lanes[i].in, w->options.index);
    rml_bell_awake(&w->bell);
    if (slept) {
        rml_count(counter(w, RML_WORKER_sleeps), 1);
        rml_count(counter(w, RML_WORKER_parked_ns),
                  (uint64_t)(clock->monotonic_ns(clock->context) - since));
    }
}

static void *work(void *context)
{
    struct rml_worker *w = context;
    uint32_t idle_rounds = 0;
    while (!w->stopping) {
        if (idle_rounds >= IDLE_ROUNDS)
            note_publishes(w);
        if (go_round(w)) {
            idle_rounds = 0;
            continue;
        }
        if (idle_rounds < IDLE_ROUNDS) {
            idle_rounds++;
            // A producer may share this core: let it run.
            sched_yield();
            continue;
        }
        sleep_until_rung(w);
        idle_rounds = 0;
    }
    return NULL;
}

/* Setting up */

static void choose_ticks(struct rml_worker *w)
{
    for (uint32_t s = 0; w->options.ticks && s < w->options.plan->source_count; s++) {
        int64_t idle = w->options.plan->sources[s].idle_after_ns;
        if (idle == 0)
            continue;
        int64_t every = idle / 4 < TICK_MIN_NS ? TICK_MIN_NS : idle / 4;
        every = every > TICK_MAX_NS ? TICK_MAX_NS : every;
        if (w->tick_ns == 0 || every < w->tick_ns)
            w->tick_ns = every;
    }
}

static int open_part(struct rml_worker *w, uint32_t own, struct rml_err *err)
{
    const struct rml_plan *plan = w->options.plan;
    struct part *part = &w->parts[own];
    part->index = own * plan->workers + w->options.index;
    const struct rml_partition_options options = {
        .index = part->index,
        .door = {take_block, give_block, w, w->options.announce_progress},
        .stages = w->options.stages + (size_t)part->index * plan->stage_count,
        .sources = w->options.sources + (size_t)part->index * plan->source_count,
        .lanes_max = w->options.lanes_max,
    };
    int rc = rml_schedule_open(&part->schedule, SCHEDULE_STEPS);
    if (rc < 0)
        return RML_FAIL(err, rc, "no memory for a schedule");
    rc = rml_partition_open(&part->partition, plan, w->options.operators, &options, err);
    return rc < 0 ? RML_WRAP(err, rc, "partition %u", part->index) : 0;
}

static int reserve(struct rml_worker *w, struct rml_err *err)
{
    uint32_t lanes_max = w->options.lanes_max;
    w->parts = calloc(w->part_count, sizeof *w->parts);
    w->lanes = calloc(lanes_max, sizeof *w->lanes);
    w->part_flags = calloc((size_t)lanes_max * w->part_count, sizeof *w->part_flags);
    w->polls = calloc((size_t)lanes_max + 1, sizeof *w->polls);
    if (w->parts == NULL || w->lanes == NULL || w->part_flags == NULL || w->polls == NULL)
        return RML_FAIL(err, -ENOMEM, "no memory for a worker");
    for (uint32_t i = 0; i < lanes_max; i++)
        w->lanes[i].part_attached = w->part_flags + (size_t)i * w->part_count;
    int rc = rml_queue_open(&w->messages, sizeof(struct rml_worker_message), QUEUE_MESSAGES, err);
    if (rc == 0)
        rc = rml_queue_open(&w->reports, sizeof(struct rml_worker_report), QUEUE_MESSAGES, err);
    if (rc == 0)
        rc = rml_bell_open(&w->bell, err);
    return rc;
}

int rml_worker_open(struct rml_worker **ret_worker, const struct rml_worker_options *options,
                    struct rml_err *err)
{
    const struct rml_plan *plan = options->plan;
    RML_CHECK(options->index < plan->workers && plan->workers <= plan->partitions);
    struct rml_worker *w = aligned_alloc(_Alignof(struct rml_worker), sizeof *w);
    if (w == NULL)
        return RML_FAIL(err, -ENOMEM, "no memory for a worker");
    memset(w, 0, sizeof *w);
    w->options = *options;
    w->bell = RML_BELL_CLOSED;
    w->part_count = (plan->partitions - options->index + plan->workers - 1) / plan->workers;
    choose_ticks(w);
    int rc = reserve(w, err);
    for (uint32_t own = 0; rc == 0 && own < w->part_count; own++)
        rc = open_part(w, own, err);
    if (rc < 0) {
        rml_worker_close(w);
        return RML_WRAP(err, rc, "worker %u", options->index);
    }
    *ret_worker = w;
    return 0;
}

int rml_worker_start(struct rml_worker *w, struct rml_err *err)
{
    RML_CHECK(!w->started);
    int rc = pthread_create(&w->thread, NULL, work, w);
    if (rc != 0)
        return RML_FAIL(err, -rc, "worker %u: no thread: %s", w->options.index, strerror(rc));
    w->started = true;
    char name[16] = "rml-worker-";
    uint32_t tens = w->options.index / 10 % 10, ones = w->options.index % 10;
    name[11] = (char)('0' + tens);
    name[12] = (char)('0' + ones);
    (void)pthread_setname_np(w->thread, name);
    if (w->options.cpu >= 0 && w->options.cpu < CPU_SETSIZE) {
        cpu_set_t cpus;
        CPU_ZERO(&cpus);
        CPU_SET((size_t)w->options.cpu, &cpus);
        w->pinned = pthread_setaffinity_np(w->thread, sizeof cpus, &cpus) == 0;
    }
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

bool rml_worker_hear(struct rml_worker *w, struct rml_worker_report *news)
{
    return rml_queue_take(&w->reports, news);
}

void rml_worker_close(struct rml_worker *w)
{
    if (w == NULL)
        return;
    if (w->started)
        pthread_join(w->thread, NULL);
    for (uint32_t own = 0; w->parts != NULL && own < w->part_count; own++) {
        rml_partition_close(w->parts[own].partition);
        rml_schedule_close(&w->parts[own].schedule);
    }
    rml_queue_close(&w->messages);
    rml_queue_close(&w->reports);
    rml_bell_close(&w->bell);
    free(w->parts);
    free(w->lanes);
    free(w->part_flags);
    free(w->polls);
    free(w);
}
