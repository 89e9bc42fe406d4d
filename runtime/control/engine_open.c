#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/err.h"
#include "runtime/base/machine.h"
#include "runtime/control/engine_state.h"
#include "runtime/control/going_back.h"
#include "runtime/control/kept.h"
#include "runtime/keeper/keeping.h"
#include "runtime/plan/units.h"
#include "runtime/worker/schedule.h"
#include "runtime/worker/undo.h"

#define BLOCKS_SPARE   64u         // of a worker, beyond what one step can fill at once
#define SCHEDULE_STEPS (1u << 17)  // of a partition, from one checkpoint to the next

/* Setting up */

// The CPU of worker `index`: as the file says, else the index-th that this process may use.
static int cpu_of(const struct rml_plan *plan, uint32_t index)
{
    if (plan->cpu_count > 0)
        return (int)plan->cpus[index % plan->cpu_count];
    cpu_set_t cpus;
    if (sched_getaffinity(0, sizeof cpus, &cpus) < 0 || CPU_COUNT(&cpus) == 0)
        return -1;
    int nth = (int)(index % (uint32_t)CPU_COUNT(&cpus));
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (CPU_ISSET((size_t)cpu, &cpus) && nth-- == 0)
            return cpu;
    }
    return -1;
}

static uint32_t schedule_steps(const struct rml_engine *engine)
{
    return engine->options.schedule_steps != 0 ? engine->options.schedule_steps : SCHEDULE_STEPS;
}

static int open_writer(struct rml_engine *engine, struct rml_err *err)
{
    const struct rml_writer_options options = {
        .plan = engine->plan,
        .folder = engine->options.folder,
        .merge = engine->options.replay,
        .again = rml_keeping_again(engine->options.keeping),
        .notes = engine->checkpointer != NULL ? rml_checkpointer_notes(engine->checkpointer) : NULL,
        .marked = engine->checkpointer != NULL ? rml_checkpointer_bell(engine->checkpointer) : NULL,
        .workers = engine->plan->workers,
        .blocks = engine->rings.output_count + BLOCKS_SPARE,
        .counts = engine->board.sink_counts,
        .row = engine->options.row,
        .row_context = engine->options.row_context,
        .complain = engine->options.complain,
        .complain_context = engine->options.complain_context,
        .unsure = engine->options.unsure,
        .unsure_context = engine->options.unsure_context,
    };
    return rml_writer_open(&engine->writer, &options, err);
}

// Somebody may be waiting for it, then, and memory can come later.
static bool goes_on(const struct rml_engine *engine)
{
    return rml_keeping_again(engine->options.keeping) || engine->begun > 0;
}

// More than there is would end in a kill by the kernel, with nothing said.
static int check_prefault(const struct rml_plan *plan, struct rml_err *err)
{
    uint64_t memory = rml_machine_memory();
    if (plan->state_prefault_bytes <= memory / plan->partitions)
        return 0;
    char wanted[32], there[32];
    rml_size_print_about(plan->state_prefault_bytes, wanted);
    rml_size_print_about(memory, there);
    return RML_FAIL(err, -ENOMEM,
                    "runtime.state_prefault: %u partitions with %s each are more than the %s of "
                    "memory there are: write less, or nothing",
                    plan->partitions, wanted, there);
}

static int open_worker(struct rml_engine *engine, uint32_t index, struct rml_err *err)
{
    struct rml_checkpointer *c = engine->checkpointer;
    const struct rml_worker_options options = {
        .plan = engine->plan,
        .operators = engine->options.operators,
        .clock = engine->options.clock,
        .writer = engine->writer,
        .index = index,
        .cpu = cpu_of(engine->plan, index),
        .lanes_max = engine->plan->lanes_max,
        .ticks = !engine->options.replay,
        .announce_progress = engine->options.replay,
        .counts = &engine->board.worker_counts[index],
        .stages = engine->board.stage_counts,
        .sources = engine->board.source_counts,
        .reports_bell = &engine->bell,
        .rings = engine->rings.ends,
        .prefaults = !goes_on(engine),
        .undo = engine->undo.memory,
        .handover = c != NULL ? rml_checkpointer_handover(c, index) : NULL,
        .schedules = c != NULL ? engine->schedule_memory : NULL,
        .schedule_steps = schedule_steps(engine),
        .past = c != NULL ? rml_checkpointer_past(c) : NULL,
        .renewed = c != NULL ? rml_checkpointer_renewed(c) : 0,
        .journal = engine->journaler != NULL ? rml_journaler_queue(engine->journaler, index) : NULL,
        .journaled = c != NULL ? rml_checkpointer_life(c).journaled : NULL,
    };
    return rml_worker_open(&engine->workers[index], &options, err);
}

// Tells one run of a pipeline from another.
static uint64_t new_epoch(const struct rml_clock *clock)
{
    return (uint64_t)clock->wall_ns(clock->context) ^ (uint64_t)getpid() << 48;
}

/* After an engine that died */

static int open_undo(struct rml_engine *engine, struct rml_err *err)
{
    const struct rml_plan *plan = engine->plan;
    char name[64];
    snprintf(name, sizeof name, "ringmill-%.40s-undo", plan->name);
    const struct rml_keeping_segment wanted = {
        .id = RML_KEPT_ID(RML_KEPT_UNDO, 0),
        .name = name,
        .bytes = plan->partitions * rml_undo_bytes(plan->stage_count, plan->source_count),
        .mark_at = RML_KEEPER_DEATHMARK_NONE};
    bool again;
    int rc = rml_keeping_segment(engine->options.keeping, &wanted, &engine->undo, &again, err);
    return rc < 0 ? RML_WRAP(err, rc, "what steps are undone by") : 0;
}

static struct rml_undo undo_of(const struct rml_engine *engine, uint32_t partition)
{
    const struct rml_plan *plan = engine->plan;
    size_t bytes = rml_undo_bytes(plan->stage_count, plan->source_count);
    struct rml_undo undo;
    rml_undo_attach(&undo, (unsigned char *)engine->undo.memory + partition * bytes,
                    plan->stage_count, plan->source_count,
                    engine->board.stage_counts + (size_t)partition * plan->stage_count,
                    engine->board.source_counts + (size_t)partition * plan->source_count);
    return undo;
}

/*
 * The position from which a partition goes on with a lane: behind what was taken, but for a step that
 * the engine died in. Whoever can bring the partition's state back to an earlier one says so here; what
 * lies before the position is released, and not seen again.
 */
static uint64_t position_to_go_on(const struct rml_engine *engine, uint32_t partition,
                                  uint32_t lane, const struct rml_lane_counts *counts)
{
    const struct rml_undo undo = undo_of(engine, partition);
    uint32_t undone_lane;
    uint64_t undone_position;
    bool is_undone = rml_undo_look(&undo, &undone_lane, &undone_position) && undone_lane == lane;
    return is_undone ? undone_position : counts->taken;
}

// A lane whose positions a dying engine has spoiled is closed; the others go on.
static void place_lane(struct rml_engine *engine, uint32_t index)
{
    struct engine_lane *lane = &engine->lanes[index];
    for (uint32_t p = 0; p < engine->plan->partitions; p++) {
        struct rml_lane_counts counts;
        rml_lane_in_partition_counts(lane->in, p, &counts);
        uint64_t position = position_to_go_on(engine, p, index, &counts);
        if (rml_lane_in_go_on(lane->in, p, position) == 0)
            rml_lane_in_release(lane->in, p, (uint32_t)(position - counts.released));
        else
            lane->is_spoiled = true;
    }
}

static int adopt_lane(struct rml_engine *engine, const struct rml_kept *kept, struct rml_err *err)
{
    uint32_t index = (uint32_t)kept->id;
    struct engine_kept_lane what;
    if (kept->blob_bytes != sizeof what || index >= engine->plan->lanes_max)
        return RML_FAIL(err, -EPROTO, "lane %u was kept by another engine than this", index);
    memcpy(&what, kept->blob, sizeof what);
    struct rml_lane_geometry geometry;
    rml_engine_fill_geometry(engine, what.source, &geometry);
    geometry.cells = what.cells;
    geometry.owners = what.owners;
    geometry.log_cells = what.log_cells;
    struct rml_lane_in *in;
    int rc = rml_lane_in_adopt(&in, &geometry, kept->fds, kept->memory, err);
    if (rc < 0)
        return RML_WRAP(err, rc, "lane %u", index);
    rml_engine_set_lane(engine, index, in, &what);
    rml_engine_ready_lane(engine, &engine->lanes[index]);
    if (engine->checkpointer == NULL)
        place_lane(engine, index);
    return 0;
}

static int adopt_lanes(struct rml_engine *engine, struct rml_err *err)
{
    static const struct rml_board_lane nothing = {.state = RML_BOARD_LANE_FREE};
    struct rml_keeping *keeping = engine->options.keeping;
    for (uint32_t i = 0; i < engine->plan->lanes_max; i++) {
        // counted already, and then the engine died
        bool is_gone = rml_board_is_gone(&engine->board, i);
        // and what a checkpoint does not cover is taken again
        bool is_wanted = !is_gone || engine->checkpointer != NULL;
        const struct rml_kept *kept =
            is_wanted ? rml_keeping_take(keeping, rml_engine_lane_id(i)) : NULL;
        if (kept == NULL) {
            struct rml_board_lane closed;
            rml_keeping_let_go(keeping, rml_engine_lane_id(i));
            if (!rml_board_lane_closed(&engine->board, i, &closed))
                rml_board_lane_write(&engine->board, i, &nothing);
            continue;
        }
        char reason[RML_BOARD_NAME];
        rml_board_lane_reason(&engine->board, i, reason);
        int rc = adopt_lane(engine, kept, err);
        if (rc < 0)
            return rc;
        memcpy(engine->lanes[i].row.reason, reason, sizeof reason);
        engine->lanes[i].is_counted = is_gone;
        rml_engine_show_lane(engine, i);
    }
    return 0;
}

// The order matters: counters first, since positions go with them, and no step before all lanes have theirs.
static int go_on(struct rml_engine *engine, struct rml_err *err)
{
    if (engine->checkpointer != NULL)
        return adopt_lanes(engine, err);
    uint32_t partitions = engine->plan->partitions;
    for (uint32_t p = 0; p < partitions; p++) {
        const struct rml_undo undo = undo_of(engine, p);
        uint32_t lane;
        uint64_t position;
        if (rml_undo_look(&undo, &lane, &position))
            rml_undo_back(&undo);
    }
    rml_board_lose_state(&engine->board);
    int rc = adopt_lanes(engine, err);
    for (uint32_t p = 0; rc == 0 && p < partitions; p++) {
        const struct rml_undo undo = undo_of(engine, p);
        rml_undo_end(&undo);
    }
    return rc;
}

/* Checkpoints */

static int open_schedule(struct rml_engine *engine, uint32_t partition, struct rml_err *err)
{
    char name[64];
    snprintf(name, sizeof name, "ringmill-%.32s-schedule-%u", engine->plan->name, partition);
    const struct rml_keeping_segment wanted = {.id = RML_KEPT_ID(RML_KEPT_SCHEDULE, partition),
                                               .name = name,
                                               .bytes = rml_schedule_bytes(schedule_steps(engine)),
                                               .mark_at = RML_KEEPER_DEATHMARK_NONE};
    bool again;
    struct rml_segment *segment = &engine->schedules[partition];
    int rc = rml_keeping_segment(engine->options.keeping, &wanted, segment, &again, err);
    engine->schedule_memory[partition] = segment->memory;
    return rc < 0 ? RML_WRAP(err, rc, "the schedule of partition %u", partition) : 0;
}

static int state_folder(const struct rml_engine *engine, char *path, size_t bytes)
{
    const char *folder = engine->options.folder, *name = engine->plan->state;
    bool is_whole = folder == NULL || name[0] == '/';
    int used =
        is_whole ? snprintf(path, bytes, "%s", name) : snprintf(path, bytes, "%s/%s", folder, name);
    return used < 0 || (size_t)used >= bytes ? -ENAMETOOLONG : 0;
}

// What partitions counted is in their state, or is counted again with the steps.
static void forget_counts(struct rml_engine *engine)
{
    const struct rml_plan *plan = engine->plan;
    for (uint32_t i = 0; i < plan->partitions * plan->stage_count; i++) {
        for (uint32_t c = 0; c < RML_STAGE_COUNTERS; c++)
            rml_count_set(&engine->board.stage_counts[i].value[c], 0);
    }
    for (uint32_t i = 0; i < plan->partitions * plan->source_count; i++) {
        for (uint32_t c = 0; c < RML_SOURCE_COUNTERS; c++)
            rml_count_set(&engine->board.source_counts[i].value[c], 0);
    }
}

static void journal_is_covered(void *context, const uint64_t *journaled)
{
    const struct rml_engine *engine = context;
    if (engine->journaler != NULL)
        rml_journaler_covered(engine->journaler, journaled);
}

// Also where no source has a journal any more: what one had is not to be lost for that.
static int open_journal(struct rml_engine *engine, const char *folder, struct rml_err *err)
{
    if (!engine->plan->journals && !rml_journal_is_there(folder))
        return 0;
    const struct rml_checkpointer_life life = rml_checkpointer_life(engine->checkpointer);
    const struct rml_journaler_options options = {
        .plan = engine->plan,
        .folder = folder,
        .vault = life.vault,
        .life = life.life,
        .covered = life.journaled,
        .clock = engine->options.clock,
        .bell = &engine->bell,
        .board = &engine->board,
        .complain = engine->options.complain,
        .complain_context = engine->options.complain_context,
    };
    return rml_journaler_open(&engine->journaler, &options, err);
}

static int open_checkpoints(struct rml_engine *engine, struct rml_err *err)
{
    char folder[4096];
    if (state_folder(engine, folder, sizeof folder) < 0)
        return RML_FAIL(err, -ENAMETOOLONG, "the path of the state is too long");
    // schedules come second: an engine that died before has done nothing yet to what an earlier life left
    bool again = rml_keeping_has(engine->options.keeping, RML_KEPT_ID(RML_KEPT_SCHEDULE, 0));
    const struct rml_checkpointer_options options = {
        .plan = engine->plan,
        .folder = folder,
        .sinks = engine->board.sink_counts,
        .clock = engine->options.clock,
        .fresh = engine->options.fresh && !again,
        .again = again,
        .fitting = {.names = engine->options.renewed,
                    .name_count = engine->options.renewed_count,
                    .life = engine->board.head->epoch,
                    .say = engine->options.complain,
                    .say_context = engine->options.complain_context},
        .from = engine->options.from,
        .vault = engine->options.vault,
        .bell = &engine->bell,
        .durable = journal_is_covered,
        .durable_context = engine,
        .complain = engine->options.complain,
        .complain_context = engine->options.complain_context,
    };
    int rc = rml_checkpointer_open(&engine->checkpointer, &options, err);
    // it has been done, whatever comes of this engine, and the next one does not go back again
    if (rc == 0 && engine->options.complain != NULL)
        rml_gone_back_say(rml_checkpointer_gone_back(engine->checkpointer), engine->plan,
                          engine->options.complain, engine->options.complain_context);
    if (rc == 0)
        rc = open_journal(engine, folder, err);
    for (uint32_t p = 0; rc == 0 && p < engine->plan->partitions; p++)
        rc = open_schedule(engine, p, err);
    engine->begun = rc == 0 ? rml_checkpointer_restored(engine->checkpointer) : 0;
    if (rc == 0) {
        forget_counts(engine);
        engine->saves = (struct rml_saves){.board = &engine->board,
                                           .plan = engine->plan,
                                           .clock = engine->options.clock,
                                           .complain = engine->options.complain,
                                           .complain_context = engine->options.complain_context};
        rml_saves_open(&engine->saves, rml_checkpointer_restored_epoch(engine->checkpointer),
                       rml_checkpointer_way(engine->checkpointer),
                       rml_checkpointer_why_not(engine->checkpointer),
                       rml_checkpointer_gone_back(engine->checkpointer));
        rml_board_state_folder(&engine->board, folder);
    }
    return rc;
}

// Once somebody could have attached, an engine of this life has come up.
static bool has_had_lanes(const struct rml_engine *engine)
{
    bool any = engine->lane_count > 0;
    for (uint32_t s = 0; s < engine->plan->source_count; s++)
        any |= rml_count_read(&engine->board.live_sources[s].lanes_gone) > 0;
    return any;
}

// What an earlier life of the pipeline took is in its results: here it was published by lanes that went.
static void count_earlier_life(struct rml_engine *engine)
{
    const struct rml_plan *plan = engine->plan;
    for (uint32_t s = 0; s < plan->source_count; s++) {
        uint64_t taken = 0;
        for (uint32_t p = 0; p < plan->partitions; p++)
            taken += rml_count_read(
                &engine->board.source_counts[p * plan->source_count + s].value[RML_SOURCE_taken]);
        rml_count_set(&engine->board.live_sources[s].published_gone, taken);
    }
}

static int feed_entry(void *context, const struct rml_journal_entry *entry, struct rml_err *err)
{
    const struct rml_engine *engine = context;
    int rc = 0;
    for (uint32_t w = 0; rc == 0 && w < engine->plan->workers; w++)
        rc = rml_worker_feed(engine->workers[w], entry, err);
    return rc;
}

static int feed_journal(struct rml_engine *engine, struct rml_err *err)
{
    if (engine->journaler == NULL)
        return 0;
    return rml_journal_read(rml_journaler_journal(engine->journaler), feed_entry, engine, err);
}

// Before workers run: what an engine before this one took since the last checkpoint.
static int take_again(struct rml_engine *engine, struct rml_err *err)
{
    uint32_t lanes_max = engine->plan->lanes_max;
    struct rml_worker_kept *lanes = calloc(lanes_max, sizeof *lanes);
    if (lanes == NULL)
        return RML_FAIL(err, -ENOMEM, "no memory for lanes");
    for (uint32_t i = 0; i < lanes_max; i++)
        lanes[i] = (struct rml_worker_kept){engine->lanes[i].in, engine->lanes[i].serial};
    int rc = feed_journal(engine, err);
    for (uint32_t w = 0; rc == 0 && w < engine->plan->workers; w++)
        rc = rml_worker_take_again(engine->workers[w], lanes, err);
    if (rc == 0)
        rc = feed_journal(engine, err);
    for (uint32_t w = 0; rc == 0 && w < engine->plan->workers; w++)
        rc = rml_worker_settle(engine->workers[w], lanes, err);
    free(lanes);
    rml_checkpointer_forget_past(engine->checkpointer);
    return rc;
}

static int reserve(struct rml_engine *engine, struct rml_err *err)
{
    const struct rml_clock *clock = engine->options.clock;
    engine->lanes = calloc(engine->plan->lanes_max, sizeof *engine->lanes);
    if (engine->lanes == NULL)
        return RML_FAIL(err, -ENOMEM, "no memory for lanes");
    struct rml_keeping *keeping = engine->options.keeping;
    int rc = rml_board_open(&engine->board, engine->plan, keeping, clock, new_epoch(clock), err);
    if (rc == 0 && engine->options.shown != NULL)
        rc = engine->options.shown(engine->options.shown_context, &engine->board, err);
    if (rc == 0)
        rc = rml_rings_open(&engine->rings, engine->plan, keeping, err);
    if (rc == 0 && engine->options.plan->state != NULL && !engine->options.replay)
        rc = open_checkpoints(engine, err);
    else if (rc == 0 && keeping != NULL)
        rc = open_undo(engine, err);
    if (rc == 0 && rml_keeping_again(keeping))
        rc = go_on(engine, err);
    return rc < 0 ? rc : rml_bell_open(&engine->bell, err);
}

int rml_engine_open(struct rml_engine **ret_engine, const struct rml_engine_options *options,
                    struct rml_err *err)
{
    int rc = check_prefault(options->plan, err);
    if (rc < 0)
        return rc;
    struct rml_engine *engine = aligned_alloc(_Alignof(struct rml_engine), sizeof *engine);
    if (engine == NULL)
        return RML_FAIL(err, -ENOMEM, "no memory for an engine");
    memset(engine, 0, sizeof *engine);
    engine->options = *options;
    engine->plan = options->plan;
    engine->bell = RML_BELL_CLOSED;
    for (uint32_t p = 0; p < RML_PARTITIONS_MAX; p++)
        engine->schedules[p] = RML_SEGMENT_CLOSED;
    rc = reserve(engine, err);
    if (rc == 0)
        rc = open_writer(engine, err);
    for (uint32_t i = 0; rc == 0 && i < engine->plan->workers; i++)
        rc = open_worker(engine, i, err);
    // an engine of this life may have died before it did that
    if (rc == 0 && engine->checkpointer != NULL && !has_had_lanes(engine))
        count_earlier_life(engine);
    if (rc < 0) {
        rml_engine_close(engine);
        return rc;
    }
    *ret_engine = engine;
    return 0;
}

// A lane of an engine that died.
static void resume_lane(struct rml_engine *engine, uint32_t index)
{
    const struct engine_lane *lane = &engine->lanes[index];
    rml_engine_tell_of_lane(engine, index);
    if (rml_lane_in_is_detached(lane->in))
        rml_engine_finish(engine, index);
    else if (lane->is_spoiled)
        rml_engine_cut_off(engine, index, EPROTO, "the engine died and spoiled it");
}

int rml_engine_start(struct rml_engine *engine, struct rml_err *err)
{
    int rc = rml_writer_start(engine->writer, err);
    if (rc < 0)
        return rc;
    engine->writer_started = true;
    if (engine->checkpointer != NULL) {
        rml_writer_watch(engine->writer, engine->options.is_enough,
                         engine->options.is_enough_context);
        rc = take_again(engine, err);
        rml_writer_watch(engine->writer, NULL, NULL);
        if (rc == 0)
            rc = rml_checkpointer_start(engine->checkpointer, engine->writer, err);
        if (rc == 0 && engine->journaler != NULL)
            rc = rml_journaler_start(engine->journaler, err);
        if (rc < 0)
            return rc;
        // and what the journal had of it
        if (engine->journaler != NULL && !has_had_lanes(engine))
            count_earlier_life(engine);
    }
    for (uint32_t i = 0; i < engine->plan->workers; i++) {
        rc = rml_worker_start(engine->workers[i], err);
        if (rc < 0)
            return rc;
        rml_board_pinned(&engine->board, i,
                         rml_worker_is_pinned(engine->workers[i]) ? cpu_of(engine->plan, i) : -1);
    }
    rml_board_say(&engine->board, RML_BOARD_RUNNING);
    engine->started = true;
    for (uint32_t i = 0; i < engine->plan->lanes_max; i++) {
        if (engine->lanes[i].in != NULL)
            resume_lane(engine, i);
    }
    return 0;
}

void rml_engine_close(struct rml_engine *engine)
{
    if (engine == NULL)
        return;
    if (engine->lanes != NULL && engine->board.head != NULL)  // without them nothing has begun
        rml_engine_stop(engine);
    for (uint32_t i = 0; engine->lanes != NULL && i < engine->plan->lanes_max; i++)
        rml_lane_in_close(engine->lanes[i].in);
    rml_checkpointer_close(engine->checkpointer);
    rml_journaler_close(engine->journaler);
    for (uint32_t p = 0; p < RML_PARTITIONS_MAX; p++)
        rml_segment_close(&engine->schedules[p]);
    rml_writer_close(engine->writer);
    rml_bell_close(&engine->bell);
    rml_rings_close(&engine->rings);
    if (engine->undo.memory != NULL)
        rml_segment_close(&engine->undo);
    rml_board_close(&engine->board);
    free(engine->lanes);
    free(engine);
}
