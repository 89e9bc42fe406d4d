#include "runtime/control/engine.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/check.h"
#include "runtime/base/err.h"
#include "runtime/control/checkpointer.h"
#include "runtime/control/going_back.h"
#include "runtime/control/journaler.h"
#include "runtime/control/kept.h"
#include "runtime/control/rings.h"
#include "runtime/control/saves.h"
#include "runtime/io/writer.h"
#include "runtime/keeper/keeping.h"
#include "runtime/observe/memory.h"
#include "runtime/ring/bell.h"
#include "runtime/worker/schedule.h"
#include "runtime/worker/undo.h"
#include "runtime/worker/worker.h"

#define BLOCKS_SPARE   64u         // of a worker, beyond what one step can fill at once
#define END_TRIES      30u         // a second apart, to save the end
#define SCHEDULE_STEPS (1u << 17)  // of a partition, from one checkpoint to the next
#define STUCK_LOOK_MS  100         // while a stop waits for what is on its way to the journal

struct engine_lane {
    struct rml_lane_in *in;  // NULL: the number is free
    uint32_t source;
    uint32_t workers_left;
    bool finishing;
    bool is_spoiled;  // of an engine that died: no positions to go on from
    bool is_counted;  // as gone, by an engine that died
    bool is_done;     // taken to its end; kept until checkpoint `covered_by` is durable
    uint64_t covered_by;
    uint64_t serial;
    uint64_t published;  // as far as it was to be taken; of the workers that are done with it
    struct rml_board_lane row;
};

struct engine_listener {
    const struct rml_listener *listener;  // NULL: the slot is free
    uint32_t workers_left;
};

struct rml_engine {
    struct rml_engine_options options;
    const struct rml_plan *plan;
    struct rml_board board;
    struct rml_rings rings;
    struct engine_listener listeners[RML_LISTENERS_MAX];
    struct rml_writer *writer;
    struct rml_worker *workers[RML_WORKERS_MAX];
    struct rml_bell bell;
    struct engine_lane *lanes;
    struct rml_segment undo;
    struct rml_checkpointer *checkpointer;  // NULL: there are no checkpoints
    struct rml_journaler *journaler;        // NULL: there is no journal
    struct rml_segment schedules[RML_PARTITIONS_MAX];
    void *schedule_memory[RML_PARTITIONS_MAX];
    uint64_t begun;        // number of the last checkpoint that began
    uint64_t last_serial;  // of lanes
    uint64_t turns;        // checkpoints that began in this engine, those that failed included
    struct rml_saves saves;
    uint32_t end_tries;  // to save the end
    bool is_unsaved;     // the end was saved by no checkpoint
    bool is_asked;       // somebody waits for one that has not begun
    bool saving;         // one is under way
    bool is_last;        // and it is that of the end
    bool ended;          // that one is over
    uint32_t lane_count;
    uint32_t sources_left;  // reports that the end of sources still lacks
    bool writer_started, started, draining, ending, stopped;
    uint64_t lost;
};

static void tell(struct rml_engine *engine, const struct rml_worker_message *message)
{
    for (uint32_t i = 0; i < engine->plan->workers && engine->workers[i] != NULL; i++) {
        while (!rml_worker_tell(engine->workers[i], message))
            sched_yield();  // the worker reads its messages every round
    }
}

/* Lanes */

static void fill_geometry(const struct rml_engine *engine, uint32_t source_index,
                          struct rml_lane_geometry *geometry)
{
    const struct rml_plan *plan = engine->plan;
    const struct rml_plan_source *source = &plan->sources[source_index];
    *geometry = (struct rml_lane_geometry){
        .partitions = plan->partitions,
        .workers = plan->workers,
        .cells = source->cells,
        .cell_bytes = source->schema.record_bytes,
        .time_offset = source->schema.fields[source->time_field].offset,
        .on_full = source->on_full == RML_ON_FULL_BLOCK ? RML_LANE_BLOCK : RML_LANE_DROP_NEWEST,
        .grid = {source->grid_origin_ns, source->grid_granule_ns},
        .key_field_count = source->partition_field_count,
    };
    if (engine->options.replay) {
        geometry->grid = (struct rml_lane_grid){0, 1};
        geometry->on_full = RML_LANE_BLOCK;
    }
    for (uint32_t i = 0; i < source->partition_field_count; i++) {
        const struct rml_field *field = &source->schema.fields[source->partition_fields[i]];
        geometry->key[i] =
            (struct rml_lane_key_field){field->offset, rml_type_info[field->type].bytes,
                                        rml_type_info[field->type].kind == RML_KIND_STR};
    }
    for (uint32_t p = 0; p < plan->partitions; p++)
        geometry->worker_of[p] = (uint8_t)(p % plan->workers);
}

static void show_sharing(struct engine_lane *lane, const struct rml_lane_counts *counts)
{
    const struct rml_lane_owners *owners = rml_lane_in_owners(lane->in);
    if (owners == NULL)
        return;
    lane->row.variant = RML_RING_VARIANTS;
    lane->row.producers = rml_lane_owners_here(owners);
    lane->row.tombstones = counts->tombstones;
    lane->row.passed = counts->passed;
}

static void show_lane(struct rml_engine *engine, uint32_t index)
{
    struct engine_lane *lane = &engine->lanes[index];
    if (lane->is_counted || lane->is_done)
        return;  // its row says that it is counted, until it is no longer kept
    struct rml_lane_counts counts;
    rml_lane_in_counts(lane->in, &counts);
    lane->row.state = lane->finishing ? RML_BOARD_LANE_ENDING : RML_BOARD_LANE_ATTACHED;
    lane->row.published = counts.published;
    lane->row.taken = counts.taken;
    lane->row.released = counts.released;
    lane->row.dropped = counts.dropped;
    lane->row.variant = (uint32_t)counts.variant;
    show_sharing(lane, &counts);
    rml_board_lane_write(&engine->board, index, &lane->row);
}

// Rather one whose row does not tell why its last lane was closed.
static uint32_t free_lane(const struct rml_engine *engine)
{
    struct rml_board_lane closed;
    uint32_t found = engine->plan->lanes_max;
    for (uint32_t index = engine->plan->lanes_max; index-- > 0;) {
        if (engine->lanes[index].in == NULL
            && (found == engine->plan->lanes_max
                || !rml_board_lane_closed(&engine->board, index, &closed)))
            found = index;
    }
    return found;
}

// All lanes together have a limit: their memory is reserved, whether anything is ever written there.
static int check_room(const struct rml_engine *engine, const struct rml_lane_geometry *geometry,
                      struct rml_err *err)
{
    uint64_t most = engine->plan->limits.lane_bytes, taken = 0;
    if (most == 0)
        most = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE) / 2;
    uint64_t wanted = rml_lane_records_bytes(geometry) + rml_lane_returns_bytes(geometry);
    for (uint32_t i = 0; i < engine->plan->lanes_max; i++) {
        if (engine->lanes[i].in == NULL)
            continue;
        const struct rml_lane_geometry *of = rml_lane_in_geometry(engine->lanes[i].in);
        taken += rml_lane_records_bytes(of) + rml_lane_returns_bytes(of);
    }
    if (wanted <= most && taken <= most - wanted)
        return 0;
    return RML_FAIL(err, -ENOMEM,
                    "a lane of %u cells takes %" PRIu64 " KiB, and of %" PRIu64
                    " KiB for all (runtime.limits.lane_bytes) %" PRIu64
                    " are taken: ask for fewer cells, or wait",
                    geometry->cells, wanted >> 10, most >> 10, taken >> 10);
}

/* What is kept of a lane beside what it is made of. */
struct kept_lane {
    uint32_t source, cells;
    uint32_t owners, log_cells;  // 0: the lane is exclusive
    uint32_t pid, uid;
    int64_t since_ns;
    uint64_t serial;  // no other lane of this pipeline had it
    char program[RML_BOARD_NAME];
};

static uint64_t lane_id(uint32_t index)
{
    return RML_KEPT_ID(RML_KEPT_LANE, index);
}

static int keep_lane(struct rml_engine *engine, uint32_t index, const struct rml_lane_in *in,
                     const struct kept_lane *what, struct rml_err *err)
{
    const struct rml_lane_geometry *geometry = rml_lane_in_geometry(in);
    int fds[RML_LANE_KEPT_FDS(RML_LANE_WORKERS_MAX)];
    rml_lane_in_kept(in, fds);
    const struct rml_keep keep = {.id = lane_id(index),
                                  .fds = fds,
                                  .fd_count = RML_LANE_KEPT_FDS(geometry->workers),
                                  .map_bytes = rml_lane_returns_bytes(geometry),
                                  .blob = what,
                                  .blob_bytes = sizeof *what};
    return rml_keeping_put(engine->options.keeping, &keep, err);
}

// In this order: kept, then sealed, and only then shown to anybody.
static int open_lane(struct rml_engine *engine, uint32_t index,
                     const struct rml_lane_geometry *geometry, const struct kept_lane *what,
                     struct rml_lane_in **ret_in, struct rml_err *err)
{
    char name[64];
    snprintf(name, sizeof name, "ringmill-%.20s-%u", engine->plan->name, index);
    struct rml_lane_in *in;
    int rc = rml_lane_in_make(&in, geometry, name, engine->board.head->epoch, err);
    if (rc < 0)
        return rc;
    rc = keep_lane(engine, index, in, what, err);
    if (rc == 0) {
        rc = rml_lane_in_seal(in, err);
        if (rc < 0)
            rml_keeping_drop(engine->options.keeping, lane_id(index));
    }
    if (rc < 0)
        rml_lane_in_close(in);
    else
        *ret_in = in;
    return rc;
}

static void set_lane(struct rml_engine *engine, uint32_t index, struct rml_lane_in *in,
                     const struct kept_lane *what)
{
    struct engine_lane *lane = &engine->lanes[index];
    *lane = (struct engine_lane){
        .in = in,
        .source = what->source,
        .serial = what->serial,
        .workers_left = engine->plan->workers,
        .row = {.source = what->source,
                .pid = what->pid,
                .uid = what->uid,
                .since_ns = what->since_ns},
    };
    memcpy(lane->row.program, what->program, sizeof lane->row.program);
    engine->lane_count++;
}

static void ready_lane(struct rml_engine *engine, const struct engine_lane *lane)
{
    const struct rml_plan_source *source = &engine->plan->sources[lane->source];
    if (rml_lane_in_owners(lane->in) != NULL)
        rml_lane_in_watch(lane->in, source->idle_after_ns, source->max_ahead_ns,
                          engine->options.clock);
}

static void tell_of_lane(struct rml_engine *engine, uint32_t index)
{
    const struct rml_worker_message message = {.kind = RML_WORKER_ATTACH,
                                               .source = engine->lanes[index].source,
                                               .index = index,
                                               .number = engine->lanes[index].serial,
                                               .lane = engine->lanes[index].in};
    tell(engine, &message);
}

static int new_engine_lane(struct rml_engine *engine, uint32_t source,
                           const struct rml_engine_producer *producer, bool is_shared,
                           uint32_t *ret_lane, struct rml_err *err)
{
    uint32_t index = free_lane(engine);
    if (index == engine->plan->lanes_max)
        return RML_FAIL(err, -EMFILE,
                        "%u producers are attached, as many as runtime.lanes_max allows: raise it",
                        index);
    if (producer->cells > RML_ENGINE_CELLS_MAX)
        return RML_FAIL(err, -EINVAL, "a lane has at most %u cells, got %u", RML_ENGINE_CELLS_MAX,
                        producer->cells);
    struct rml_lane_geometry geometry;
    fill_geometry(engine, source, &geometry);
    if (producer->cells != 0)
        geometry.cells = producer->cells;
    if (is_shared) {
        geometry.owners = engine->plan->lanes_max < RML_LANE_OWNERS_MAX ? engine->plan->lanes_max
                                                                        : RML_LANE_OWNERS_MAX;
        geometry.log_cells = rml_plan_log_cells(engine->plan, &engine->plan->sources[source]);
    }
    int rc = producer->pid != 0 || is_shared ? check_room(engine, &geometry, err) : 0;
    if (rc < 0)
        return rc;
    struct rml_lane_in *in;
    struct kept_lane what = {.source = source,
                             .cells = geometry.cells,
                             .owners = geometry.owners,
                             .log_cells = geometry.log_cells,
                             .pid = producer->pid,
                             .uid = producer->uid,
                             .since_ns =
                                 engine->options.clock->wall_ns(engine->options.clock->context)};
    engine->last_serial = (uint64_t)what.since_ns > engine->last_serial ? (uint64_t)what.since_ns
                                                                        : engine->last_serial + 1;
    what.serial = engine->checkpointer != NULL ? engine->last_serial : 0;
    snprintf(what.program, sizeof what.program, "%s", producer->program);
    rc = open_lane(engine, index, &geometry, &what, &in, err);
    if (rc < 0)
        return RML_WRAP(err, rc, "lane %u", index);
    set_lane(engine, index, in, &what);
    ready_lane(engine, &engine->lanes[index]);
    show_lane(engine, index);
    tell_of_lane(engine, index);
    *ret_lane = index;
    return 0;
}

int rml_engine_attach(struct rml_engine *engine, uint32_t source,
                      const struct rml_engine_producer *producer, uint32_t *ret_lane,
                      struct rml_err *err)
{
    static const struct rml_engine_producer ourselves = {.program = ""};
    RML_CHECK(engine->started && !engine->draining && !engine->stopped);
    RML_CHECK(source < engine->plan->source_count);
    return new_engine_lane(engine, source, producer != NULL ? producer : &ourselves, false,
                           ret_lane, err);
}

/* Lanes that are shared */

static uint32_t shared_lane(const struct rml_engine *engine, uint32_t source)
{
    uint32_t index = 0;
    while (index < engine->plan->lanes_max
           && (engine->lanes[index].in == NULL || engine->lanes[index].source != source
               || engine->lanes[index].finishing
               || rml_lane_in_owners(engine->lanes[index].in) == NULL))
        index++;
    return index;
}

int rml_engine_join(struct rml_engine *engine, uint32_t source,
                    const struct rml_engine_producer *producer, int socket, uint32_t *ret_lane,
                    uint32_t *ret_owner, struct rml_err *err)
{
    RML_CHECK(engine->started && !engine->draining && !engine->stopped);
    RML_CHECK(source < engine->plan->source_count && engine->plan->sources[source].is_shared);
    static const struct rml_engine_producer several = {.program = "(shared)"};
    if (producer->cells > engine->plan->sources[source].cells)
        return RML_FAIL(err, -EINVAL, "the lane is shared, and has %u cells: ask for no more",
                        engine->plan->sources[source].cells);
    uint32_t index = shared_lane(engine, source);
    int rc = 0;
    if (index == engine->plan->lanes_max)
        rc = new_engine_lane(engine, source, &several, true, &index, err);
    if (rc < 0)
        return rc;
    rc = rml_lane_owners_add(rml_lane_in_owners(engine->lanes[index].in), socket, ret_owner);
    if (rc == -EMFILE)
        return RML_FAIL(err, rc, "%u producers share the lane, as many as runtime.lanes_max allows",
                        rml_lane_in_geometry(engine->lanes[index].in)->owners);
    if (rc < 0)
        return RML_FAIL(err, rc, "lane %u: %s", index, strerrordesc_np(-rc));
    *ret_lane = index;
    return 0;
}

bool rml_engine_join_again(struct rml_engine *engine, uint32_t lane, uint32_t owner, int socket)
{
    struct rml_lane_in *in = rml_engine_lane(engine, lane);
    struct rml_lane_owners *owners = in != NULL ? rml_lane_in_owners(in) : NULL;
    return owners != NULL && rml_lane_owners_again(owners, owner, socket);
}

// What they published is taken first; the workers say when that is done.
static void tell_of_owners(struct rml_engine *engine, uint32_t index)
{
    const struct rml_lane_owners *owners = rml_lane_in_owners(engine->lanes[index].in);
    const struct rml_worker_message message = {.kind = RML_WORKER_OWNERS,
                                               .source = engine->lanes[index].source,
                                               .index = index,
                                               .number = rml_lane_owners_version(owners)};
    if (!engine->lanes[index].is_done)
        tell(engine, &message);
}

void rml_engine_leave(struct rml_engine *engine, uint32_t lane, uint32_t owner,
                      enum rml_engine_leaving how)
{
    static const enum rml_lane_owner_state states[] = {[RML_ENGINE_LEFT] = RML_LANE_OWNER_LEFT,
                                                       [RML_ENGINE_LOST] = RML_LANE_OWNER_LOST,
                                                       [RML_ENGINE_DEAD] = RML_LANE_OWNER_DEAD};
    struct rml_lane_in *in = rml_engine_lane(engine, lane);
    struct rml_lane_owners *owners = in != NULL ? rml_lane_in_owners(in) : NULL;
    if (owners == NULL || owner == 0 || owner > owners->count)
        return;  // the lane has come to its end meanwhile
    rml_lane_owners_left(owners, owner, states[how]);
    tell_of_owners(engine, lane);
}

void rml_engine_leave_rest(struct rml_engine *engine, uint32_t lane)
{
    struct rml_lane_in *in = rml_engine_lane(engine, lane);
    struct rml_lane_owners *owners = in != NULL ? rml_lane_in_owners(in) : NULL;
    if (owners == NULL)
        return;
    rml_lane_owners_left_rest(owners);
    tell_of_owners(engine, lane);
}

static void owners_seen(struct rml_engine *engine, uint32_t index)
{
    struct rml_lane_in *in = engine->lanes[index].in;
    if (in != NULL && rml_lane_in_owners(in) != NULL)
        (void)rml_lane_owners_settle(rml_lane_in_owners(in));
}

struct rml_lane_in *rml_engine_lane(const struct rml_engine *engine, uint32_t lane)
{
    return lane < engine->plan->lanes_max ? engine->lanes[lane].in : NULL;
}

void rml_engine_finish(struct rml_engine *engine, uint32_t index)
{
    struct engine_lane *lane = &engine->lanes[index];
    if (lane->in == NULL || lane->finishing)
        return;
    lane->finishing = true;
    const struct rml_worker_message message = {
        .kind = RML_WORKER_FINISH, .source = lane->source, .index = index};
    tell(engine, &message);
}

void rml_engine_cut_off(struct rml_engine *engine, uint32_t index, int code, const char *reason)
{
    struct engine_lane *lane = &engine->lanes[index];
    if (lane->in == NULL || lane->finishing)
        return;
    rml_lane_in_detach(lane->in, (uint32_t)code, reason);
    snprintf(lane->row.reason, sizeof lane->row.reason, "%s", reason);
    rml_engine_finish(engine, index);
    show_lane(engine, index);
}

// In this order: an engine that dies in here leaves a lane that is kept and not counted, or one that is
// counted, which its row says until it is no longer kept.
static void count_gone(struct rml_engine *engine, uint32_t index)
{
    struct engine_lane *lane = &engine->lanes[index];
    if (lane->is_counted)
        return;
    struct rml_lane_counts counts;
    rml_lane_in_counts(lane->in, &counts);
    lane->row.published = lane->published;
    lane->row.dropped = counts.dropped;
    rml_board_lane_gone(&engine->board, index, &lane->row);
}

static void free_lane_of(struct rml_engine *engine, uint32_t index)
{
    static const struct rml_board_lane nothing = {.state = RML_BOARD_LANE_FREE};
    struct engine_lane *lane = &engine->lanes[index];
    rml_keeping_drop(engine->options.keeping, lane_id(index));
    lane->row.state = RML_BOARD_LANE_CLOSED;
    rml_board_lane_write(&engine->board, index,
                         lane->row.reason[0] != '\0' ? &lane->row : &nothing);
    rml_lane_in_close(lane->in);
    lane->in = NULL;
}

static void lane_done(struct rml_engine *engine, uint32_t index, uint64_t published)
{
    struct engine_lane *lane = &engine->lanes[index];
    lane->published += published;
    if (--lane->workers_left > 0)
        return;
    count_gone(engine, index);
    engine->lane_count--;
    lane->is_done = true;
    lane->covered_by = engine->begun + 1;
    if (engine->checkpointer == NULL)
        free_lane_of(engine, index);
}

/* Checkpoints */

static void begin_checkpoint(struct rml_engine *engine, bool is_last, enum rml_board_wanted why)
{
    rml_saves_begun(&engine->saves, why);
    engine->end_tries += is_last;
    engine->begun = rml_checkpointer_begin(engine->checkpointer, is_last);
    engine->turns++;
    engine->is_asked = false;
    engine->saving = true;
    engine->is_last = is_last;
    const struct rml_worker_message message = {.kind = RML_WORKER_SAVE, .number = engine->begun};
    tell(engine, &message);
}

static void checkpoint_done(struct rml_engine *engine, const struct rml_checkpointer_news *news)
{
    engine->saving = false;
    rml_saves_done(&engine->saves, news);
    bool is_given_up = news->rc < 0 && engine->end_tries >= END_TRIES;
    engine->ended |= engine->is_last && (news->rc == 0 || is_given_up);
    engine->is_unsaved = news->rc < 0;
    const struct rml_worker_message message = {.kind = news->rc == 0 ? RML_WORKER_SAVED
                                                                     : RML_WORKER_UNSAVED};
    tell(engine, &message);
    for (uint32_t i = 0; news->rc == 0 && i < engine->plan->lanes_max; i++) {
        const struct engine_lane *lane = &engine->lanes[i];
        if (lane->in != NULL && lane->is_done && lane->covered_by <= news->number)
            free_lane_of(engine, i);
    }
    const struct rml_engine_saved saved = {.turn = engine->turns,
                                           .rc = news->rc,
                                           .epoch = news->epoch,
                                           .bytes = news->bytes,
                                           .took_ns = news->took_ns};
    if (engine->options.saved != NULL)
        engine->options.saved(engine->options.saved_context, &saved);
}

uint64_t rml_engine_save(struct rml_engine *engine)
{
    if (engine->checkpointer == NULL)
        return 0;
    engine->is_asked = true;
    return engine->turns + 1;
}

// Once all sources have ended there is one more, which says so. Where it fails it is tried again: whoever
// runs the pipeline next goes on from the last, and has rows that are out already cut off.
static void see_to_checkpoints(struct rml_engine *engine)
{
    struct rml_checkpointer_news news;
    bool is_due = false;
    enum rml_board_wanted why = RML_BOARD_WANTED_ASKED;
    if (engine->journaler != NULL && rml_journaler_wants_checkpoint(engine->journaler))
        rml_checkpointer_want(engine->checkpointer, RML_BOARD_WANTED_JOURNAL);
    while (rml_checkpointer_hear(engine->checkpointer, &news)) {
        if (news.kind == RML_CHECKPOINTER_DONE)
            checkpoint_done(engine, &news);
        else if (!is_due) {
            is_due = true;
            why = news.wanted_by;
        }
    }
    bool is_end = engine->ending && engine->sources_left == 0;
    if (engine->is_asked) {  // perhaps by somebody who was just told of the last
        is_due = true;
        why = RML_BOARD_WANTED_ASKED;
    }
    bool is_first = is_end && engine->end_tries == 0;
    if (!engine->saving && !engine->ended && (is_first || is_due))
        begin_checkpoint(engine, is_end, is_end ? RML_BOARD_WANTED_END : why);
}

static void lane_faulty(struct rml_engine *engine, uint32_t index)
{
    struct engine_lane *lane = &engine->lanes[index];
    if (lane->finishing)
        return;
    const char *fault = rml_lane_in_fault(lane->in);
    char sentence[192];
    snprintf(sentence, sizeof sentence, "lane %u of source %s: %s; the lane is closed", index,
             engine->plan->sources[lane->source].name,
             fault != NULL ? fault : "its positions cannot be true");
    if (engine->options.complain != NULL)
        engine->options.complain(engine->options.complain_context, sentence);
    rml_count(&engine->board.head->gate.value[RML_GATE_faulty_lanes], 1);
    rml_engine_cut_off(engine, index, EPROTO,
                       fault != NULL ? fault : "positions that cannot be true");
}

static void unlistened(struct rml_engine *engine, uint32_t slot)
{
    struct engine_listener *listener = &engine->listeners[slot];
    if (--listener->workers_left > 0)
        return;
    listener->listener = NULL;
    if (engine->options.listener_done != NULL)
        engine->options.listener_done(engine->options.listener_context, slot);
}

// Once a draining engine has no lane left.
static void end_sources(struct rml_engine *engine)
{
    if (!engine->draining || engine->ending || engine->lane_count > 0)
        return;
    engine->ending = true;
    engine->sources_left = engine->plan->source_count * engine->plan->workers;
    for (uint32_t s = 0; s < engine->plan->source_count; s++) {
        const struct rml_worker_message message = {.kind = RML_WORKER_END, .source = s};
        tell(engine, &message);
    }
}

void rml_engine_poll(struct rml_engine *engine)
{
    struct rml_worker_report news;
    for (uint32_t i = 0; i < engine->plan->workers; i++) {
        while (rml_worker_hear(engine->workers[i], &news)) {
            switch ((enum rml_worker_report_kind)news.kind) {
            case RML_WORKER_LANE_DONE:
                lane_done(engine, news.index, news.published);
                break;
            case RML_WORKER_LANE_FAULTY:
                lane_faulty(engine, news.index);
                break;
            case RML_WORKER_SOURCE_DONE:
                engine->sources_left--;
                break;
            case RML_WORKER_WANTS_SAVING:
                rml_checkpointer_want(engine->checkpointer, news.index != 0
                                                                ? RML_BOARD_WANTED_SCHEDULE
                                                                : RML_BOARD_WANTED_LANE);
                break;
            case RML_WORKER_FULL:
                rml_saves_full(&engine->saves, news.source);
                break;
            case RML_WORKER_OWNERS_SEEN:
                owners_seen(engine, news.index);
                break;
            case RML_WORKER_UNLISTENED:
                unlistened(engine, news.index);
                break;
            }
        }
    }
    end_sources(engine);
    if (engine->checkpointer != NULL)
        see_to_checkpoints(engine);
}

int rml_engine_fd(const struct rml_engine *engine)
{
    return engine->bell.fd;
}

void rml_engine_sleep_begin(struct rml_engine *engine)
{
    rml_bell_expect(&engine->bell);
}

void rml_engine_sleep_end(struct rml_engine *engine)
{
    rml_bell_awake(&engine->bell);
}

bool rml_engine_keeps_lanes(const struct rml_engine *engine)
{
    if (engine->checkpointer == NULL)
        return false;
    for (uint32_t i = 0; i < engine->plan->lanes_max; i++) {
        const struct engine_lane *lane = &engine->lanes[i];
        if (lane->in != NULL && (lane->is_done || lane->finishing))
            return true;
    }
    return false;
}

uint32_t rml_engine_lane_count(const struct rml_engine *engine)
{
    return engine->lane_count;
}

void rml_engine_drain_begin(struct rml_engine *engine)
{
    RML_CHECK(engine->started && !engine->stopped);
    if (engine->draining)
        return;
    engine->draining = true;
    rml_board_to_end(&engine->board);
    rml_board_say(&engine->board, RML_BOARD_DRAINING);
    for (uint32_t i = 0; i < engine->plan->lanes_max; i++)
        rml_engine_cut_off(engine, i, ESHUTDOWN, "the pipeline drains");
    end_sources(engine);
}

bool rml_engine_is_drained(const struct rml_engine *engine)
{
    return engine->ending && engine->sources_left == 0
           && (engine->checkpointer == NULL || engine->ended);
}

void rml_engine_drain(struct rml_engine *engine)
{
    rml_engine_drain_begin(engine);
    for (;;) {
        // What a worker reports from here on rings; what it reported before is seen by this poll.
        rml_bell_expect(&engine->bell);
        rml_engine_poll(engine);
        if (rml_engine_is_drained(engine))
            break;
        rml_bell_wait(&engine->bell, -1);
    }
    rml_bell_awake(&engine->bell);
}

// What is on its way to a journal that fails may never be taken, and a stop does not wait for that.
static bool is_hopeless(const struct rml_engine *engine)
{
    return engine->journaler != NULL
           && (rml_journaler_is_stuck(engine->journaler) || engine->is_unsaved);
}

// Whoever runs the pipeline again goes on from here: take what was published, and save it.
static void save_all(struct rml_engine *engine)
{
    for (bool begun = false;;) {
        rml_bell_expect(&engine->bell);
        rml_engine_poll(engine);
        if (begun && !engine->saving)
            break;  // durable or not: it was tried, and what went wrong was said
        bool is_taken = engine->lane_count == 0 || is_hopeless(engine);
        if (!begun && is_taken && !engine->saving) {
            begin_checkpoint(engine, false, RML_BOARD_WANTED_END);
            begun = true;
        }
        rml_bell_wait(&engine->bell, engine->journaler != NULL ? STUCK_LOOK_MS : -1);
    }
    rml_bell_awake(&engine->bell);
}

uint64_t rml_engine_stop(struct rml_engine *engine)
{
    if (engine->stopped)
        return engine->lost;
    for (uint32_t i = 0; i < engine->plan->lanes_max; i++)
        rml_engine_cut_off(engine, i, ESHUTDOWN, "the pipeline stops");
    if (engine->writer_started)
        rml_writer_hurry(engine->writer);  // a worker may wait for it, and it for room on a disk
    if (engine->checkpointer != NULL && engine->started && !engine->draining)
        save_all(engine);
    bool is_cut_short = engine->draining && !rml_engine_is_drained(engine);
    if (engine->checkpointer != NULL && engine->started && (engine->is_unsaved || is_cut_short)) {
        engine->is_unsaved = true;
        rml_saves_end_unsaved(&engine->saves);
    }
    engine->stopped = true;
    const struct rml_worker_message message = {.kind = RML_WORKER_STOP};
    // a start that failed half-way leaves some workers running
    tell(engine, &message);
    rml_journaler_stop(engine->journaler);
    for (uint32_t i = 0; i < engine->plan->workers; i++) {
        rml_worker_close(engine->workers[i]);
        engine->workers[i] = NULL;
    }
    if (engine->writer_started)
        engine->lost = rml_writer_finish(engine->writer);
    rml_engine_refresh(engine);
    rml_board_say(&engine->board, RML_BOARD_ENDED);
    return engine->lost;
}

bool rml_engine_is_saved(const struct rml_engine *engine)
{
    return !engine->is_unsaved;
}

/* What others see */

struct rml_board *rml_engine_board(struct rml_engine *engine)
{
    return &engine->board;
}

void rml_engine_refresh(struct rml_engine *engine)
{
    struct rml_memory memory;
    rml_memory_look(&memory);
    rml_board_memory(&engine->board, &memory);
    for (uint32_t i = 0; i < engine->plan->lanes_max; i++) {
        if (engine->lanes[i].in != NULL)
            show_lane(engine, i);
    }
}

void rml_engine_totals(struct rml_engine *engine, struct rml_board_totals *ret_totals)
{
    rml_engine_refresh(engine);
    rml_board_total(&engine->board, ret_totals);
}

const struct rml_rings *rml_engine_rings(const struct rml_engine *engine)
{
    return &engine->rings;
}

int rml_engine_listen(struct rml_engine *engine, const struct rml_listener *listener,
                      uint32_t *ret_slot)
{
    uint32_t slot = 0;
    while (slot < RML_LISTENERS_MAX && engine->listeners[slot].listener != NULL)
        slot++;
    if (slot == RML_LISTENERS_MAX)
        return -EMFILE;
    engine->listeners[slot] = (struct engine_listener){listener, engine->plan->workers};
    const struct rml_worker_message message = {
        .kind = RML_WORKER_LISTEN, .index = slot, .listener = listener};
    tell(engine, &message);
    *ret_slot = slot;
    return 0;
}

void rml_engine_unlisten(struct rml_engine *engine, uint32_t slot)
{
    const struct rml_worker_message message = {.kind = RML_WORKER_UNLISTEN, .index = slot};
    tell(engine, &message);
}

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
    struct kept_lane what;
    if (kept->blob_bytes != sizeof what || index >= engine->plan->lanes_max)
        return RML_FAIL(err, -EPROTO, "lane %u was kept by another engine than this", index);
    memcpy(&what, kept->blob, sizeof what);
    struct rml_lane_geometry geometry;
    fill_geometry(engine, what.source, &geometry);
    geometry.cells = what.cells;
    geometry.owners = what.owners;
    geometry.log_cells = what.log_cells;
    struct rml_lane_in *in;
    int rc = rml_lane_in_adopt(&in, &geometry, kept->fds, kept->memory, err);
    if (rc < 0)
        return RML_WRAP(err, rc, "lane %u", index);
    set_lane(engine, index, in, &what);
    ready_lane(engine, &engine->lanes[index]);
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
        const struct rml_kept *kept = is_wanted ? rml_keeping_take(keeping, lane_id(i)) : NULL;
        if (kept == NULL) {
            struct rml_board_lane closed;
            rml_keeping_let_go(keeping, lane_id(i));
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
        show_lane(engine, i);
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
        if (engine->options.complain != NULL)
            rml_gone_back_say(rml_checkpointer_gone_back(engine->checkpointer), engine->plan,
                              engine->options.complain, engine->options.complain_context);
        rml_board_state_folder(&engine->board, folder);
    }
    return rc;
}

// Once somebody could have attached, an engine of this life has come up.
static bool has_had_lanes(const struct rml_engine *engine)
{
    bool any = engine->lane_count > 0;
    for (uint32_t s = 0; s < engine->plan->source_count; s++)
        any |= rml_count_read(&engine->board.sources[s].lanes_gone) > 0;
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
        rml_count_set(&engine->board.sources[s].published_gone, taken);
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
    int rc = rml_board_open(&engine->board, engine->plan, keeping, clock->wall_ns(clock->context),
                            new_epoch(clock), err);
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
    struct rml_engine *engine = aligned_alloc(_Alignof(struct rml_engine), sizeof *engine);
    if (engine == NULL)
        return RML_FAIL(err, -ENOMEM, "no memory for an engine");
    memset(engine, 0, sizeof *engine);
    engine->options = *options;
    engine->plan = options->plan;
    engine->bell = RML_BELL_CLOSED;
    for (uint32_t p = 0; p < RML_PARTITIONS_MAX; p++)
        engine->schedules[p] = RML_SEGMENT_CLOSED;
    int rc = reserve(engine, err);
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
    tell_of_lane(engine, index);
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
        rc = take_again(engine, err);
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
