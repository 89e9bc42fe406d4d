#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/check.h"
#include "runtime/base/err.h"
#include "runtime/base/machine.h"
#include "runtime/control/engine_state.h"
#include "runtime/control/kept.h"
#include "runtime/keeper/keeping.h"

/* Lanes */

void rml_engine_fill_geometry(const struct rml_engine *engine, uint32_t source_index,
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
        .durable = engine->checkpointer == NULL ? RML_LANE_DURABLE_NEVER
                   : source->journal            ? RML_LANE_DURABLE_JOURNAL
                                                : RML_LANE_DURABLE_CHECKPOINT,
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

void rml_engine_show_lane(struct rml_engine *engine, uint32_t index)
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
        most = rml_machine_memory() / 2;
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

uint64_t rml_engine_lane_id(uint32_t index)
{
    return RML_KEPT_ID(RML_KEPT_LANE, index);
}

static int keep_lane(struct rml_engine *engine, uint32_t index, const struct rml_lane_in *in,
                     const struct engine_kept_lane *what, struct rml_err *err)
{
    const struct rml_lane_geometry *geometry = rml_lane_in_geometry(in);
    int fds[RML_LANE_KEPT_FDS(RML_LANE_WORKERS_MAX)];
    rml_lane_in_kept(in, fds);
    const struct rml_keep keep = {.id = rml_engine_lane_id(index),
                                  .fds = fds,
                                  .fd_count = RML_LANE_KEPT_FDS(geometry->workers),
                                  .map_bytes = rml_lane_returns_bytes(geometry),
                                  .blob = what,
                                  .blob_bytes = sizeof *what};
    return rml_keeping_put(engine->options.keeping, &keep, err);
}

// In this order: kept, then sealed, and only then shown to anybody.
static int open_lane(struct rml_engine *engine, uint32_t index,
                     const struct rml_lane_geometry *geometry, const struct engine_kept_lane *what,
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
            rml_keeping_drop(engine->options.keeping, rml_engine_lane_id(index));
    }
    if (rc < 0)
        rml_lane_in_close(in);
    else
        *ret_in = in;
    return rc;
}

void rml_engine_set_lane(struct rml_engine *engine, uint32_t index, struct rml_lane_in *in,
                         const struct engine_kept_lane *what)
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

void rml_engine_ready_lane(struct rml_engine *engine, const struct engine_lane *lane)
{
    const struct rml_plan_source *source = &engine->plan->sources[lane->source];
    if (rml_lane_in_owners(lane->in) != NULL)
        rml_lane_in_watch(lane->in, source->idle_after_ns, source->max_ahead_ns,
                          engine->options.clock);
}

void rml_engine_tell_of_lane(struct rml_engine *engine, uint32_t index)
{
    const struct rml_worker_message message = {.kind = RML_WORKER_ATTACH,
                                               .source = engine->lanes[index].source,
                                               .index = index,
                                               .number = engine->lanes[index].serial,
                                               .lane = engine->lanes[index].in};
    rml_engine_tell(engine, &message);
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
    rml_engine_fill_geometry(engine, source, &geometry);
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
    struct engine_kept_lane what = {
        .source = source,
        .cells = geometry.cells,
        .owners = geometry.owners,
        .log_cells = geometry.log_cells,
        .pid = producer->pid,
        .uid = producer->uid,
        .since_ns = engine->options.clock->wall_ns(engine->options.clock->context)};
    engine->last_serial = (uint64_t)what.since_ns > engine->last_serial ? (uint64_t)what.since_ns
                                                                        : engine->last_serial + 1;
    what.serial = engine->checkpointer != NULL ? engine->last_serial : 0;
    snprintf(what.program, sizeof what.program, "%s", producer->program);
    rc = open_lane(engine, index, &geometry, &what, &in, err);
    if (rc < 0)
        return RML_WRAP(err, rc, "lane %u", index);
    rml_engine_set_lane(engine, index, in, &what);
    rml_engine_ready_lane(engine, &engine->lanes[index]);
    rml_engine_show_lane(engine, index);
    rml_engine_tell_of_lane(engine, index);
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
        rml_engine_tell(engine, &message);
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

void rml_engine_owners_seen(struct rml_engine *engine, uint32_t index)
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
    rml_engine_tell(engine, &message);
}

void rml_engine_cut_off(struct rml_engine *engine, uint32_t index, int code, const char *reason)
{
    struct engine_lane *lane = &engine->lanes[index];
    if (lane->in == NULL || lane->finishing)
        return;
    rml_lane_in_detach(lane->in, (uint32_t)code, reason);
    snprintf(lane->row.reason, sizeof lane->row.reason, "%s", reason);
    rml_engine_finish(engine, index);
    rml_engine_show_lane(engine, index);
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

void rml_engine_free_lane(struct rml_engine *engine, uint32_t index)
{
    static const struct rml_board_lane nothing = {.state = RML_BOARD_LANE_FREE};
    struct engine_lane *lane = &engine->lanes[index];
    rml_keeping_drop(engine->options.keeping, rml_engine_lane_id(index));
    lane->row.state = RML_BOARD_LANE_CLOSED;
    rml_board_lane_write(&engine->board, index,
                         lane->row.reason[0] != '\0' ? &lane->row : &nothing);
    rml_lane_in_close(lane->in);
    lane->in = NULL;
}

void rml_engine_lane_done(struct rml_engine *engine, uint32_t index, uint64_t published)
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
        rml_engine_free_lane(engine, index);
}
