/*
 * What is built in on purpose to be wrong: functions that the linker puts before the real ones
 * (--wrap in CMakeLists.txt). With nothing wrong each only calls the real one.
 */
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>

#include "operators/keyed.h"
#include "operators/window_row.h"
#include "runtime/base/check.h"
#include "runtime/checkpoint/journal.h"
#include "runtime/checkpoint/vault.h"
#include "runtime/control/checkpointer.h"
#include "runtime/control/past.h"
#include "runtime/io/text_file.h"
#include "runtime/lane/lane_in.h"
#include "runtime/lane/lane_out.h"
#include "runtime/partition/partition.h"
#include "runtime/partition/tree.h"
#include "runtime/ring/broadcast.h"
#include "runtime/ring/shared_ring.h"
#include "runtime/state/pages.h"
#include "runtime/table/shape.h"
#include "runtime/worker/again.h"
#include "runtime/worker/saving.h"
#include "runtime/worker/schedule.h"
#include "tests/sim/sim.h"

#define INTENT_END ((UINT64_C(1) << 40) - 1)  // as shared_ring.c has it

#define EARLY_NS 100000

#define WRAP(type, name, ...)     \
 type __real_##name(__VA_ARGS__); \
 type __wrap_##name(__VA_ARGS__); \
 type __wrap_##name(__VA_ARGS__)

WRAP(void, rml_saving_took, struct rml_saving *saving, struct rml_worker_lane *lane, uint32_t own,
     uint32_t rows)
{
    __real_rml_saving_took(saving, lane, own, rows);
    struct rml_worker_lane_part *part = &lane->parts[own];
    if (sim.wrong != SIM_releases_early || part->taken == part->released)
        return;
    rml_lane_in_release(lane->in, saving->own[own].index, (uint32_t)(part->taken - part->released));
    part->noted = part->released = part->taken;
}

static struct {
    struct rml_schedule *schedule;
    struct rml_step step;
} late;

WRAP(void, rml_schedule_append, struct rml_schedule *schedule, const struct rml_step *step)
{
    if (sim.wrong == SIM_writes_steps_late && step->kind == RML_STEP_BATCH) {
        late.schedule = schedule;
        late.step = *step;
        return;
    }
    __real_rml_schedule_append(schedule, step);
}

WRAP(int, rml_partition_step, struct rml_partition *partition, const struct rml_step *step,
     const struct rml_step_input *input)
{
    int rc = __real_rml_partition_step(partition, step, input);
    if (late.schedule != NULL && memcmp(&late.step, step, sizeof *step) == 0) {
        __real_rml_schedule_append(late.schedule, step);
        late.schedule = NULL;
    }
    return rc;
}

WRAP(void, rml_pages_note, struct rml_pages *pages, uint32_t page, uint64_t granules)
{
    if (sim.wrong == SIM_copies_late)
        pages->changed[page] |= granules;
    else
        __real_rml_pages_note(pages, page, granules);
}

WRAP(int, rml_again_take, struct rml_own *own, const struct rml_plan *plan,
     const struct rml_worker_kept *lanes, uint32_t lanes_max, struct rml_mark *marks,
     struct rml_err *err)
{
    if (sim.wrong == SIM_takes_nothing_again)
        own->schedule.position = rml_partition_steps(own->partition);
    return __real_rml_again_take(own, plan, lanes, lanes_max, marks, err);
}

WRAP(void, rml_broadcast_number_out, struct rml_broadcast_out *out, uint64_t number)
{
    if (sim.wrong != SIM_numbers_from_zero)
        __real_rml_broadcast_number_out(out, number);
}

WRAP(int, rml_journal_read, struct rml_journal *journal,
     int (*each)(void *context, const struct rml_journal_entry *entry, struct rml_err *err),
     void *context, struct rml_err *err)
{
    return sim.wrong == SIM_forgets_the_journal
               ? 0
               : __real_rml_journal_read(journal, each, context, err);
}

WRAP(int, rml_past_note_journal, const struct rml_plan *plan, struct rml_vault *vault,
     const struct rml_past_journal *journal, struct rml_err *err)
{
    struct rml_past_journal noted = *journal;
    for (uint32_t p = 0; p < plan->partitions && sim.wrong == SIM_takes_entries_twice; p++)
        noted.journaled[p] -= noted.journaled[p] > 0;
    return __real_rml_past_note_journal(plan, vault, &noted, err);
}

WRAP(void, rml_lane_in_take, struct rml_lane_in *in, uint32_t partition, uint32_t rows)
{
    __real_rml_lane_in_take(in, partition, rows);
    if (sim.wrong == SIM_tells_too_early)
        rml_lane_in_durable(in, partition, rml_lane_in_position(in, partition));
}

WRAP(int, rml_text_file_resume, struct rml_text_file *file, const char *path, size_t row_bytes_max,
     uint64_t bytes, struct rml_err *err)
{
    struct stat about;
    if (sim.wrong == SIM_leaves_files_whole && stat(path, &about) == 0)
        bytes = (uint64_t)about.st_size;
    return __real_rml_text_file_resume(file, path, row_bytes_max, bytes, err);
}

WRAP(bool, rml_checkpointer_hear, struct rml_checkpointer *checkpointer,
     struct rml_checkpointer_news *ret_news)
{
    bool any = __real_rml_checkpointer_hear(checkpointer, ret_news);
    if (any && sim.wrong == SIM_believes_commits)
        ret_news->rc = 0;
    return any;
}

WRAP(int, rml_vault_keep, struct rml_vault *vault, uint32_t partition,
     const struct rml_extent *extents, uint32_t count, struct rml_err *err)
{
    bool forgets = sim.wrong == SIM_forgets_old_extents && count > 1;
    return __real_rml_vault_keep(vault, partition, extents + forgets, count - forgets, err);
}

WRAP(int32_t, rml_shared_recover, const struct rml_shared_place *place, uint32_t owner)
{
    return sim.wrong == SIM_buries_nobody ? 0 : __real_rml_shared_recover(place, owner);
}

WRAP(int, rml_shared_gather_again, struct rml_shared_in *in, const struct rml_shared_log *log,
     uint64_t room)
{
    // the record is copied anew, wherever the log's end is by now
    if (sim.wrong == SIM_gathers_twice) {
        // relaxed: one thread
        uint64_t end = atomic_load_explicit(log->end, memory_order_relaxed);
        // relaxed: likewise
        uint64_t intent = atomic_load_explicit(log->intent, memory_order_relaxed);
        uint64_t same_end = (intent & ~INTENT_END) | (end & INTENT_END);
        // relaxed: likewise
        atomic_store_explicit(log->intent, same_end, memory_order_relaxed);
    }
    return __real_rml_shared_gather_again(in, log, room);
}

WRAP(int32_t, rml_lane_in_peek, struct rml_lane_in *in, uint32_t partition, uint32_t want,
     struct rml_mark *marks, struct rml_lane_run *ret_run)
{
    int32_t rows = __real_rml_lane_in_peek(in, partition, want, marks, ret_run);
    if (sim.wrong == SIM_vouches_too_much && rows >= 0 && ret_run->vouches != RML_TIME_NONE)
        ret_run->vouches += EARLY_NS;
    return rows;
}

WRAP(void, rml_tree_advance, struct rml_tree *tree, int64_t watermark)
{
    bool is_early = sim.wrong == SIM_fires_early && watermark < RML_TIME_END - EARLY_NS;
    __real_rml_tree_advance(tree, is_early ? watermark + EARLY_NS : watermark);
}

WRAP(int, rml_broadcast_read, struct rml_broadcast_in *in, void *row, uint64_t *ret_number)
{
    uint64_t missed = in->missed;
    int rc = __real_rml_broadcast_read(in, row, ret_number);
    if (sim.wrong == SIM_forgets_what_was_missed && in->missed > missed)
        in->missed--;
    return rc;
}

WRAP(void, rml_lane_out_drop, struct rml_lane_out *out, uint64_t records)
{
    if (sim.wrong != SIM_forgets_drops)
        __real_rml_lane_out_drop(out, records);
}

WRAP(int64_t, rml_shape_time, const struct rml_shape *shape, const void *record, int64_t fire)
{
    int64_t time = __real_rml_shape_time(shape, record, fire);
    return sim.wrong == SIM_keeps_oldest_rows ? -time : time;
}

WRAP(void, rml_window_row_emit, const struct rml_operator_env *env, const struct rml_keyed *keyed,
     const struct rml_aggregator *aggregator, const struct rml_window_row *row)
{
    struct rml_window_row given = *row;
    given.start -= sim.wrong == SIM_begins_early && row->records == 7;
    __real_rml_window_row_emit(env, keyed, aggregator, &given);
}

WRAP(void, rml_keyed_pass_late, const struct rml_operator_env *env, const struct rml_batch *batch,
     const struct rml_run *run, const uint16_t *rows, uint32_t count)
{
    static uint16_t passed[UINT16_MAX + 1];
    RML_CHECK(count <= UINT16_MAX);
    if (count > 0)
        memcpy(passed, rows, count * sizeof *rows);
    if (sim.wrong == SIM_passes_one_late_twice && count > 1)
        passed[0] = passed[1];
    __real_rml_keyed_pass_late(env, batch, run, passed, count);
}
