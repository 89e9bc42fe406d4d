#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/check.h"
#include "runtime/base/err.h"
#include "runtime/partition/partition.h"
#include "runtime/state/restored.h"
#include "runtime/state/room.h"
#include "runtime/worker/again.h"
#include "runtime/worker/undo.h"
#include "runtime/worker/worker_state.h"

#define SCHEDULE_STEPS 4096u  // where nobody needs more
#define TICK_LEAST_NS  10000000
#define TICK_MOST_NS   250000000

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
