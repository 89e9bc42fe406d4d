#include "runtime/control/board.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/err.h"
#include "runtime/control/board_state.h"
#include "runtime/control/kept.h"
#include "runtime/keeper/keeping.h"
#include "runtime/observe/memory.h"

_Static_assert(sizeof((struct rml_death){0}.why) <= RML_BOARD_WHY, "room for the words");

// Whoever looks may be in another folder.
static void fill_path(struct rml_board_head *head, const char *path)
{
    char *whole = path != NULL ? realpath(path, NULL) : NULL;
    rml_board_copy_path(head->path, whole != NULL ? whole : path != NULL ? path : "");
    free(whole);
}

static void fill(struct rml_board *board, const struct rml_board_head *head,
                 const struct rml_plan *plan)
{
    *board->head = *head;
    rml_board_fill_plan(board, plan);
    // release: board.head
    atomic_store_explicit(&board->live->magic, RML_BOARD_MAGIC, memory_order_release);
}

// An engine that died in `fill` leaves a board that is kept and says nothing yet.
static bool is_filled(const struct rml_board_head *head)
{
    // acquire: board.head
    return atomic_load_explicit(&head->magic, memory_order_acquire) == RML_BOARD_MAGIC;
}

static void note_death(struct rml_board *board, const struct rml_keeping *keeping)
{
    struct rml_board_death row = {.wall_ns = keeping->last.wall_ns, .pid = keeping->last.pid};
    memcpy(row.why, keeping->last.why, sizeof keeping->last.why);
    rml_board_death_write(board, &row);
    // relaxed: a number for people
    atomic_store_explicit(&board->live->restarts, keeping->deaths, memory_order_relaxed);
}

int rml_board_open(struct rml_board *board, const struct rml_plan *plan,
                   struct rml_keeping *keeping, const struct rml_clock *clock, uint64_t epoch,
                   struct rml_err *err)
{
    *board = (struct rml_board){.segment = RML_SEGMENT_CLOSED};
    struct rml_board_head head = {
        .version = RML_BOARD_VERSION,
        .sources = plan->source_count,
        .stages = plan->stage_count,
        .sinks = plan->sink_count,
        .workers = plan->workers,
        .partitions = plan->partitions,
        .lanes_max = plan->lanes_max,
        .stage_counters = RML_STAGE_COUNTERS,
        .source_counters = RML_SOURCE_COUNTERS,
        .worker_counters = RML_WORKER_COUNTERS,
        .sink_counters = RML_SINK_COUNTERS,
        .gate_counters = RML_GATE_COUNTERS,
        .journal_counters = RML_JOURNAL_COUNTERS,
        .pid = (uint32_t)rml_keeping_process(keeping),
        .uid = (uint32_t)geteuid(),
        .start_ns = clock->wall_ns(clock->context),
        .start_monotonic_ns = clock->monotonic_ns(clock->context),
        .epoch = epoch,
    };
    struct rml_memory memory;
    rml_memory_look(&memory);
    rml_board_copy_text(head.allocator, sizeof head.allocator, memory.allocator);
    rml_board_copy_text(head.pipeline, sizeof head.pipeline, plan->name);
    fill_path(&head, plan->path);
    const struct rml_board_places p = rml_board_places(&head);
    head.bytes = p.bytes;
    char name[64];
    snprintf(name, sizeof name, "ringmill-%.40s-board", plan->name);
    const struct rml_keeping_segment wanted = {
        .id = RML_KEPT_ID(RML_KEPT_BOARD, 0),
        .name = name,
        .bytes = p.bytes,
        .mark_at = offsetof(struct rml_board_head, state),
        .mark = RML_BOARD_RESTARTING,
    };
    bool again;
    int rc = rml_keeping_segment(keeping, &wanted, &board->segment, &again, err);
    if (rc < 0)
        return RML_WRAP(err, rc, "the board");
    rml_board_point(board, &p);
    if (!again || !is_filled(board->head))
        fill(board, &head, plan);
    if (again)
        note_death(board, keeping);
    // relaxed: numbers for people
    atomic_store_explicit(&board->live->engine_pid, (uint32_t)getpid(), memory_order_relaxed);
    for (uint32_t w = 0; w < plan->workers; w++)
        rml_board_pinned(board, w, -1);
    return 0;
}

void rml_board_state_folder(struct rml_board *board, const char *folder)
{
    char *whole = realpath(folder, NULL);
    if (board->head->state_folder[0] == '\0')  // or an engine before this one has said it
        rml_board_copy_text(board->head->state_folder, RML_BOARD_STATE,
                            whole != NULL ? whole : folder);
    free(whole);
}

// Another version may have another head: what comes before `sources` is all that is looked at first.
static int check_head(const struct rml_board_head *head, uint64_t bytes, struct rml_err *err)
{
    const struct {
        const char *what;
        uint32_t theirs, ours;
    } numbers[] = {
        {"version of the board", head->version, RML_BOARD_VERSION},
        {"number of a stage's counters", head->stage_counters, RML_STAGE_COUNTERS},
        {"number of a source's counters", head->source_counters, RML_SOURCE_COUNTERS},
        {"number of a worker's counters", head->worker_counters, RML_WORKER_COUNTERS},
        {"number of a sink's counters", head->sink_counters, RML_SINK_COUNTERS},
        {"number of the gate's counters", head->gate_counters, RML_GATE_COUNTERS},
        {"number of the journal's counters", head->journal_counters, RML_JOURNAL_COUNTERS},
    };

    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        if (numbers[i].theirs != numbers[i].ours)
            return RML_FAIL(
                err, -EPROTONOSUPPORT,
                "the pipeline runs with another build of ringmill (%s: %u, here %u): use "
                "the ringctl that was built with its ringmill, or start it again with "
                "the one that is installed here",
                numbers[i].what, numbers[i].theirs, numbers[i].ours);
    }
    if (head->sources > RML_SOURCES_MAX || head->stages > RML_STAGES_MAX
        || head->sinks > RML_SINKS_MAX || head->workers > RML_WORKERS_MAX
        || head->partitions > RML_PARTITIONS_MAX || head->partitions == 0
        || head->lanes_max > UINT16_MAX || head->bytes != bytes
        || rml_board_places(head).bytes != bytes)
        return RML_FAIL(err, -EPROTO, "the pipeline's board contradicts itself");
    return 0;
}

/*
 * What a board says once, of the plan, copied before it is looked at: an engine that somebody else runs could change
 * it between our look and our use. What changes is behind that, and is read as numbers and rows alone.
 */
static int freeze(struct rml_board *board, uint64_t bytes, struct rml_board_places *ret_places,
                  struct rml_err *err)
{
    struct rml_board_head head;
    if (bytes < sizeof head || !is_filled(board->segment.memory))
        return RML_FAIL(err, -EPROTO, "what the pipeline shows is no board");
    memcpy(&head, board->segment.memory, sizeof head);
    int rc = check_head(&head, bytes, err);
    if (rc < 0)
        return rc;
    *ret_places = rml_board_places(&head);
    board->frozen = aligned_alloc(64, (ret_places->workers + 63) / 64 * 64);
    if (board->frozen == NULL)
        return RML_FAIL(err, -ENOMEM, "no memory for a board");
    memcpy(board->frozen, board->segment.memory, ret_places->workers);
    memcpy(board->frozen, &head, sizeof head);
    return 0;
}

int rml_board_attach(struct rml_board *board, int fd, uint64_t bytes, struct rml_err *err)
{
    *board = (struct rml_board){.segment = RML_SEGMENT_CLOSED};
    int rc = rml_segment_attach(&board->segment, fd, bytes, false, err);
    if (rc < 0)
        return rc;
    struct rml_board_places p;
    rc = freeze(board, bytes, &p, err);
    if (rc < 0) {
        rml_board_close(board);
        return rc;
    }
    rml_board_point(board, &p);
    // Names are printed and indices followed by whoever attached it.
    if (rml_board_is_sound(board))
        return 0;
    rml_board_close(board);
    return RML_FAIL(err, -EPROTO, "the pipeline's board contradicts itself");
}

void rml_board_close(struct rml_board *board)
{
    if (board->segment.memory != NULL || board->segment.bytes > 0)
        rml_segment_close(&board->segment);
    free(board->frozen);
    *board = (struct rml_board){.segment = RML_SEGMENT_CLOSED};
}

void rml_board_pinned(struct rml_board *board, uint32_t worker, int cpu)
{
    // relaxed: a number for people
    atomic_store_explicit(&board->workers[worker].cpu, cpu, memory_order_relaxed);
}

int rml_board_cpu(const struct rml_board *board, uint32_t worker)
{
    // relaxed: as above
    return atomic_load_explicit(&board->workers[worker].cpu, memory_order_relaxed);
}

void rml_board_say(struct rml_board *board, enum rml_board_state state)
{
    // relaxed: a word for people
    atomic_store_explicit(&board->live->state, (uint32_t)state, memory_order_relaxed);
}

void rml_board_to_end(struct rml_board *board, enum rml_board_wanted_end wanted)
{
    uint32_t all = rml_board_wanted_end(board) | (uint32_t)wanted;
    // relaxed: our own word, for the engine after this one
    atomic_store_explicit(&board->live->wanted_end, all, memory_order_relaxed);
}

uint32_t rml_board_restarts(const struct rml_board *board)
{
    // relaxed: a number for people
    return atomic_load_explicit(&board->live->restarts, memory_order_relaxed);
}

uint32_t rml_board_engine_pid(const struct rml_board *board)
{
    // relaxed: likewise
    return atomic_load_explicit(&board->live->engine_pid, memory_order_relaxed);
}

uint32_t rml_board_wanted_end(const struct rml_board *board)
{
    // relaxed: as above
    return atomic_load_explicit(&board->live->wanted_end, memory_order_relaxed);
}

void rml_board_memory(struct rml_board *board, const struct rml_memory *memory)
{
    rml_count_set(&board->live->memory_allocated, memory->allocated);
    rml_count_set(&board->live->memory_resident, memory->resident);
}

enum rml_board_state rml_board_state(const struct rml_board *board)
{
    // relaxed: as above
    return (enum rml_board_state)atomic_load_explicit(&board->live->state, memory_order_relaxed);
}
