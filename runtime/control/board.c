/*
 * ROWS
 *
 * A lane's row, and those of a death, of checkpoints and of the journal, is replaced as a whole, and readers may be reading it. As in runtime/ring/broadcast.c a stamp
 * stands before the words: odd while they change. A reader copies the words and looks at the stamp
 * again; it never holds the writer up.
 *
 *     board.row     stamp, even -> first look at the stamp    the words of the row
 *     board.next    each word -> each word                    that the stamp had become odd before
 */
#include "runtime/control/board.h"

#include <errno.h>
#include <stdalign.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/check.h"
#include "runtime/base/err.h"
#include "runtime/control/kept.h"
#include "runtime/keeper/keeping.h"
#include "runtime/observe/memory.h"

#define ROW_WORDS 96

/* A row and the stamp before it, lines of its own. */
struct rml_board_slot {
    alignas(64) _Atomic uint64_t stamp;
    _Atomic uint64_t words[];
};

#define IS_ROW(type) (sizeof(type) % 8 == 0 && sizeof(type) / 8 <= ROW_WORDS)

_Static_assert(IS_ROW(struct rml_board_lane) && IS_ROW(struct rml_board_death)
                   && IS_ROW(struct rml_board_saves) && IS_ROW(struct rml_board_journal)
                   && IS_ROW(struct rml_board_group) && IS_ROW(struct rml_board_member),
               "rows are copied by words, of which there is room for so many");
_Static_assert(sizeof((struct rml_death){0}.why) <= RML_BOARD_WHY, "room for the words");

static size_t slot_bytes(size_t row_bytes)
{
    return (offsetof(struct rml_board_slot, words) + row_bytes + 63) / 64 * 64;
}

static struct rml_board_slot *slot_at(struct rml_board_slot *slots, uint32_t index,
                                      size_t row_bytes)
{
    return (void *)((unsigned char *)slots + index * slot_bytes(row_bytes));
}

/* Where the parts lie; computed alike by whoever writes and whoever reads. */
struct places {
    uint64_t sources, stages, sinks, schemas, workers, lanes, death, saves, journal, groups,
        members;
    uint64_t stage_counts, source_counts, worker_counts, sink_counts;
    uint64_t bytes;
};

static uint64_t place(uint64_t *used, uint64_t count, size_t bytes)
{
    uint64_t at = (*used + 63) / 64 * 64;
    *used = at + count * bytes;
    return at;
}

static struct places places_of(const struct rml_board_head *head)
{
    struct places p;
    uint64_t used = sizeof *head;
    uint64_t partitions = head->partitions;
    p.sources = place(&used, head->sources, sizeof(struct rml_board_source));
    p.stages = place(&used, head->stages, sizeof(struct rml_board_stage));
    p.sinks = place(&used, head->sinks, sizeof(struct rml_board_sink));
    p.schemas =
        place(&used, (uint64_t)head->sources + head->stages, sizeof(struct rml_board_schema));
    p.workers = place(&used, head->workers, sizeof(struct rml_board_worker));
    p.lanes = place(&used, head->lanes_max, slot_bytes(sizeof(struct rml_board_lane)));
    p.death = place(&used, 1, slot_bytes(sizeof(struct rml_board_death)));
    p.saves = place(&used, 1, slot_bytes(sizeof(struct rml_board_saves)));
    p.journal = place(&used, 1, slot_bytes(sizeof(struct rml_board_journal)));
    p.groups = place(&used, RML_BOARD_GROUPS_MAX, slot_bytes(sizeof(struct rml_board_group)));
    p.members = place(&used, RML_BOARD_MEMBERS_MAX, slot_bytes(sizeof(struct rml_board_member)));
    p.stage_counts = place(&used, partitions * head->stages, sizeof(struct rml_stage_counts));
    p.source_counts = place(&used, partitions * head->sources, sizeof(struct rml_source_counts));
    p.worker_counts = place(&used, head->workers, sizeof(struct rml_worker_counts));
    p.sink_counts = place(&used, head->sinks, sizeof(struct rml_sink_counts));
    p.bytes = (used + 63) / 64 * 64;
    return p;
}

static void point(struct rml_board *board, const struct places *p)
{
    unsigned char *memory = board->segment.memory;
    board->live = board->segment.memory;
    board->live_sources = (void *)(memory + p->sources);
    if (board->frozen != NULL)
        memory = board->frozen;
    board->head = (void *)memory;
    board->sources = (void *)(memory + p->sources);
    board->stages = (void *)(memory + p->stages);
    board->sinks = (void *)(memory + p->sinks);
    board->schemas = (void *)(memory + p->schemas);
    memory = board->segment.memory;
    board->workers = (void *)(memory + p->workers);
    board->lanes = (void *)(memory + p->lanes);
    board->death = (void *)(memory + p->death);
    board->saves = (void *)(memory + p->saves);
    board->journal = (void *)(memory + p->journal);
    board->groups = (void *)(memory + p->groups);
    board->members = (void *)(memory + p->members);
    board->stage_counts = (void *)(memory + p->stage_counts);
    board->source_counts = (void *)(memory + p->source_counts);
    board->worker_counts = (void *)(memory + p->worker_counts);
    board->sink_counts = (void *)(memory + p->sink_counts);
}

static void copy_text(char *to, size_t bytes, const char *from)
{
    size_t length = strnlen(from, bytes - 1);
    memcpy(to, from, length);
    to[length] = '\0';
}

// A path is known by its end.
static void copy_path(char *to, const char *from)
{
    size_t length = strlen(from);
    copy_text(to, RML_BOARD_PATH,
              length < RML_BOARD_PATH ? from : from + length - RML_BOARD_PATH + 1);
}

static void fill_sources(struct rml_board *board, const struct rml_plan *plan)
{
    for (uint32_t i = 0; i < plan->source_count; i++) {
        const struct rml_plan_source *from = &plan->sources[i];
        struct rml_board_source *to = &board->sources[i];
        copy_text(to->name, sizeof to->name, from->name);
        copy_text(to->schema, sizeof to->schema, from->schema.name);
        to->schema_hash = from->schema.hash;
        to->record_bytes = from->schema.record_bytes;
        to->cells = from->cells;
        to->on_full = from->on_full;
        to->has_journal = from->journal;
        to->out_of_order_ns = from->out_of_order_ns;
        to->idle_after_ns = from->idle_after_ns;
    }
}

static void fill_stages(struct rml_board *board, const struct rml_plan *plan)
{
    for (uint32_t i = 0; i < plan->stage_count; i++) {
        const struct rml_plan_stage *from = &plan->stages[i];
        struct rml_board_stage *to = &board->stages[i];
        copy_text(to->name, sizeof to->name, from->name);
        to->kind = from->kind;
        to->source = from->source;
        to->from = from->from;
        to->from_late = from->from_late;
        to->window = from->window.kind;
        to->size_ns = from->window.size_ns;
        to->every_ns = from->window.every_ns;
        to->gap_ns = from->window.gap_ns;
        to->size_records = from->window.size_records;
        to->every_records = from->window.every_records;
        to->late_ns = from->window.late_ns;
    }
}

static void fill_sinks(struct rml_board *board, const struct rml_plan *plan)
{
    for (uint32_t i = 0; i < plan->sink_count; i++) {
        const struct rml_plan_sink *from = &plan->sinks[i];
        struct rml_board_sink *to = &board->sinks[i];
        copy_text(to->name, sizeof to->name, from->name);
        copy_path(to->path, from->path != NULL ? from->path : "");
        to->kind = from->kind;
        to->from_count = from->from_count;
        for (uint32_t j = 0; j < from->from_count; j++)
            to->from[j] = from->from[j].stage * 2 + from->from[j].late;
    }
}

static void fill_schema(struct rml_board_schema *to, const struct rml_schema *from)
{
    copy_text(to->name, sizeof to->name, from->name);
    to->hash = from->hash;
    to->has_nulls = from->has_nulls;
    to->field_count = from->field_count;
    for (uint32_t i = 0; i < from->field_count; i++) {
        copy_text(to->fields[i].name, sizeof to->fields[i].name, from->fields[i].name);
        to->fields[i].type = from->fields[i].type;
        to->fields[i].nullable = from->fields[i].nullable;
    }
}

static void fill_schemas(struct rml_board *board, const struct rml_plan *plan)
{
    for (uint32_t i = 0; i < plan->source_count; i++)
        fill_schema(&board->schemas[i], &plan->sources[i].schema);
    for (uint32_t i = 0; i < plan->stage_count; i++)
        fill_schema(&board->schemas[plan->source_count + i], &plan->stages[i].output);
}

// Whoever looks may be in another folder.
static void fill_path(struct rml_board_head *head, const char *path)
{
    char *whole = path != NULL ? realpath(path, NULL) : NULL;
    copy_path(head->path, whole != NULL ? whole : path != NULL ? path : "");
    free(whole);
}

static void fill(struct rml_board *board, const struct rml_board_head *head,
                 const struct rml_plan *plan)
{
    *board->head = *head;
    fill_sources(board, plan);
    fill_stages(board, plan);
    fill_sinks(board, plan);
    fill_schemas(board, plan);
    // release: board.head
    atomic_store_explicit(&board->live->magic, RML_BOARD_MAGIC, memory_order_release);
}

// An engine that died in `fill` leaves a board that is kept and says nothing yet.
static bool is_filled(const struct rml_board_head *head)
{
    // acquire: board.head
    return atomic_load_explicit(&head->magic, memory_order_acquire) == RML_BOARD_MAGIC;
}

/* Rows */

static void write_row(struct rml_board_slot *slots, uint32_t index, const void *from, size_t bytes)
{
    struct rml_board_slot *slot = slot_at(slots, index, bytes);
    uint64_t copy[ROW_WORDS];
    memcpy(copy, from, bytes);
    // relaxed: single writer
    uint64_t turn = atomic_load_explicit(&slot->stamp, memory_order_relaxed);
    turn += turn & 1;  // an engine died in the middle of a row
    // relaxed: each word's store, which is a release, carries it
    atomic_store_explicit(&slot->stamp, turn + 1, memory_order_relaxed);
    for (size_t i = 0; i < bytes / sizeof *copy; i++) {
        // release: board.next
        atomic_store_explicit(&slot->words[i], copy[i], memory_order_release);
    }
    // release: board.row
    atomic_store_explicit(&slot->stamp, turn + 2, memory_order_release);
}

// An engine that died in the middle of a row leaves its stamp odd until another goes on with it: then
// there is no such row.
#define READ_TRIES 1000

static bool read_row(struct rml_board_slot *slots, uint32_t index, void *to, size_t bytes)
{
    const struct rml_board_slot *slot = slot_at(slots, index, bytes);
    uint64_t copy[ROW_WORDS];
    for (int tries = 0; tries < READ_TRIES; tries++) {
        // acquire: board.row
        uint64_t turn = atomic_load_explicit(&slot->stamp, memory_order_acquire);
        for (size_t i = 0; i < bytes / sizeof *copy; i++) {
            // acquire: board.next
            copy[i] = atomic_load_explicit(&slot->words[i], memory_order_acquire);
        }
        // relaxed: ordered by the acquires of the words
        if (turn % 2 == 0 && atomic_load_explicit(&slot->stamp, memory_order_relaxed) == turn) {
            memcpy(to, copy, bytes);
            return true;
        }
    }
    return false;
}

void rml_board_lane_write(struct rml_board *board, uint32_t index,
                          const struct rml_board_lane *lane)
{
    RML_CHECK(index < board->head->lanes_max);
    write_row(board->lanes, index, lane, sizeof *lane);
}

static bool read_lane(const struct rml_board *board, uint32_t index,
                      struct rml_board_lane *ret_lane)
{
    RML_CHECK(index < board->head->lanes_max);
    return read_row(board->lanes, index, ret_lane, sizeof *ret_lane);
}

void rml_board_lane_read(const struct rml_board *board, uint32_t index,
                         struct rml_board_lane *ret_lane)
{
    if (!read_lane(board, index, ret_lane) || ret_lane->state == RML_BOARD_LANE_GONE
        || ret_lane->state == RML_BOARD_LANE_CLOSED)
        *ret_lane = (struct rml_board_lane){.state = RML_BOARD_LANE_FREE};
    ret_lane->program[RML_BOARD_NAME - 1] = ret_lane->reason[RML_BOARD_NAME - 1] = '\0';
}

bool rml_board_lane_closed(const struct rml_board *board, uint32_t index,
                           struct rml_board_lane *ret_lane)
{
    bool closed = read_lane(board, index, ret_lane) && ret_lane->state == RML_BOARD_LANE_CLOSED;
    ret_lane->program[RML_BOARD_NAME - 1] = ret_lane->reason[RML_BOARD_NAME - 1] = '\0';
    return closed;
}

void rml_board_lane_reason(const struct rml_board *board, uint32_t index,
                           char ret_reason[RML_BOARD_NAME])
{
    struct rml_board_lane lane;
    bool is_there = read_lane(board, index, &lane) && lane.state != RML_BOARD_LANE_FREE
                    && lane.state != RML_BOARD_LANE_CLOSED;
    copy_text(ret_reason, RML_BOARD_NAME, is_there ? lane.reason : "");
}

// Set, not added: doing it again changes nothing.
static void count_gone(struct rml_board *board, const struct rml_board_lane *lane)
{
    struct rml_board_source *source = &board->sources[lane->source];
    rml_count_set(&source->lanes_gone, lane->gone_before[0] + 1);
    rml_count_set(&source->published_gone, lane->gone_before[1] + lane->published);
    rml_count_set(&source->dropped_gone, lane->gone_before[2] + lane->dropped);
}

void rml_board_lane_gone(struct rml_board *board, uint32_t index, const struct rml_board_lane *lane)
{
    const struct rml_board_source *source = &board->sources[lane->source];
    struct rml_board_lane gone = *lane;
    gone.state = RML_BOARD_LANE_GONE;
    gone.gone_before[0] = rml_count_read(&source->lanes_gone);
    gone.gone_before[1] = rml_count_read(&source->published_gone);
    gone.gone_before[2] = rml_count_read(&source->dropped_gone);
    rml_board_lane_write(board, index, &gone);
    count_gone(board, &gone);
}

bool rml_board_is_gone(struct rml_board *board, uint32_t index)
{
    struct rml_board_lane lane;
    if (!read_lane(board, index, &lane) || lane.state != RML_BOARD_LANE_GONE
        || lane.source >= board->head->sources)
        return false;
    // one that others went after is counted
    if (rml_count_read(&board->live_sources[lane.source].lanes_gone) <= lane.gone_before[0] + 1)
        count_gone(board, &lane);
    return true;
}

void rml_board_death_read(const struct rml_board *board, struct rml_board_death *ret_death)
{
    if (!read_row(board->death, 0, ret_death, sizeof *ret_death))
        *ret_death = (struct rml_board_death){.wall_ns = 0};
    ret_death->why[RML_BOARD_WHY - 1] = '\0';
}

void rml_board_saves_write(struct rml_board *board, const struct rml_board_saves *saves)
{
    write_row(board->saves, 0, saves, sizeof *saves);
}

void rml_board_saves_read(const struct rml_board *board, struct rml_board_saves *ret_saves)
{
    if (!read_row(board->saves, 0, ret_saves, sizeof *ret_saves))
        *ret_saves = (struct rml_board_saves){.durable = 0};
    ret_saves->way[sizeof ret_saves->way - 1] = '\0';
    ret_saves->why_not[sizeof ret_saves->why_not - 1] = '\0';
    ret_saves->failed_why[sizeof ret_saves->failed_why - 1] = '\0';
    ret_saves->reader_program[sizeof ret_saves->reader_program - 1] = '\0';
    if (ret_saves->wanted_by >= RML_BOARD_WANTED_COUNT)
        ret_saves->wanted_by = RML_BOARD_WANTED_PERIOD;
}

void rml_board_group_write(struct rml_board *board, uint32_t index,
                           const struct rml_board_group *group)
{
    RML_CHECK(index < RML_BOARD_GROUPS_MAX);
    write_row(board->groups, index, group, sizeof *group);
}

void rml_board_group_read(const struct rml_board *board, uint32_t index,
                          struct rml_board_group *ret_group)
{
    RML_CHECK(index < RML_BOARD_GROUPS_MAX);
    if (!read_row(board->groups, index, ret_group, sizeof *ret_group))
        *ret_group = (struct rml_board_group){.is_there = 0};
    ret_group->name[RML_BOARD_NAME - 1] = '\0';
}

void rml_board_member_write(struct rml_board *board, uint32_t index,
                            const struct rml_board_member *member)
{
    RML_CHECK(index < RML_BOARD_MEMBERS_MAX);
    write_row(board->members, index, member, sizeof *member);
}

void rml_board_member_read(const struct rml_board *board, uint32_t index,
                           struct rml_board_member *ret_member)
{
    RML_CHECK(index < RML_BOARD_MEMBERS_MAX);
    if (!read_row(board->members, index, ret_member, sizeof *ret_member))
        *ret_member = (struct rml_board_member){.is_there = 0};
    ret_member->program[RML_BOARD_NAME - 1] = '\0';
}

void rml_board_journal_write(struct rml_board *board, const struct rml_board_journal *journal)
{
    write_row(board->journal, 0, journal, sizeof *journal);
}

void rml_board_journal_read(const struct rml_board *board, struct rml_board_journal *ret_journal)
{
    if (!read_row(board->journal, 0, ret_journal, sizeof *ret_journal))
        *ret_journal = (struct rml_board_journal){.failed_ns = 0};
    ret_journal->way[sizeof ret_journal->way - 1] = '\0';
    ret_journal->why_not[sizeof ret_journal->why_not - 1] = '\0';
    ret_journal->failed_why[sizeof ret_journal->failed_why - 1] = '\0';
}

/* After a death */

// What counts what there is now counts nothing: the state is lost.
static void lose_state(struct rml_stage_counts *counts)
{
    _Atomic uint64_t *value = counts->value;
    uint64_t lost = rml_count_read(&value[RML_STAGE_keys]);
    if (lost == 0)  // no key, but one group of all records
        lost = rml_count_read(&value[RML_STAGE_panes]) > 0;
    rml_count(&value[RML_STAGE_keys_lost], lost);
    rml_count_set(&value[RML_STAGE_keys], 0);
    rml_count_set(&value[RML_STAGE_panes], 0);
    rml_count_set(&value[RML_STAGE_sessions], 0);
    rml_count_set(&value[RML_STAGE_state_bytes], 0);
}

void rml_board_lose_state(struct rml_board *board)
{
    for (uint32_t i = 0; i < board->head->partitions * board->head->stages; i++)
        lose_state(&board->stage_counts[i]);
    for (uint32_t w = 0; w < board->head->workers; w++)
        rml_count_set(&board->worker_counts[w].value[RML_WORKER_asleep_since], 0);
}

static void note_death(struct rml_board *board, const struct rml_keeping *keeping)
{
    struct rml_board_death row = {.wall_ns = keeping->last.wall_ns, .pid = keeping->last.pid};
    memcpy(row.why, keeping->last.why, sizeof keeping->last.why);
    write_row(board->death, 0, &row, sizeof row);
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
    copy_text(head.allocator, sizeof head.allocator, memory.allocator);
    copy_text(head.pipeline, sizeof head.pipeline, plan->name);
    fill_path(&head, plan->path);
    const struct places p = places_of(&head);
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
    point(board, &p);
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
        copy_text(board->head->state_folder, RML_BOARD_STATE, whole != NULL ? whole : folder);
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
        || head->lanes_max > UINT16_MAX || head->bytes != bytes || places_of(head).bytes != bytes)
        return RML_FAIL(err, -EPROTO, "the pipeline's board contradicts itself");
    return 0;
}

static bool is_text(const char *text, size_t room)
{
    return memchr(text, '\0', room) != NULL;
}

// Switches, so that the compiler asks for a kind that is new.
static bool is_stage_kind(uint32_t kind)
{
    switch ((enum rml_stage_kind)kind) {
    case RML_STAGE_FILTER:
    case RML_STAGE_MAP:
    case RML_STAGE_WINDOW:
        return true;
    }
    return false;
}

static bool is_window_kind(uint32_t kind)
{
    switch ((enum rml_window_kind)kind) {
    case RML_WINDOW_TUMBLING:
    case RML_WINDOW_SLIDING:
    case RML_WINDOW_SESSION:
    case RML_WINDOW_GLOBAL:
    case RML_WINDOW_COUNT:
        return true;
    }
    return false;
}

static bool is_sink_kind(uint32_t kind)
{
    switch ((enum rml_sink_kind)kind) {
    case RML_SINK_JSONL:
    case RML_SINK_CSV:
    case RML_SINK_RING:
    case RML_SINK_TABLE:
        return true;
    }
    return false;
}

static bool are_sources_sound(const struct rml_board *board)
{
    for (uint32_t i = 0; i < board->head->sources; i++) {
        const struct rml_board_source *source = &board->sources[i];
        if (!is_text(source->name, sizeof source->name)
            || !is_text(source->schema, sizeof source->schema)
            || source->on_full > RML_ON_FULL_DROP_NEWEST)
            return false;
    }
    return true;
}

static bool are_stages_sound(const struct rml_board *board)
{
    for (uint32_t i = 0; i < board->head->stages; i++) {
        const struct rml_board_stage *stage = &board->stages[i];
        if (!is_text(stage->name, sizeof stage->name) || !is_stage_kind(stage->kind)
            || !is_window_kind(stage->window) || stage->source >= board->head->sources
            || (stage->from >= i && stage->from != RML_NO_STAGE))
            return false;
    }
    return true;
}

static bool are_sinks_sound(const struct rml_board *board)
{
    for (uint32_t i = 0; i < board->head->sinks; i++) {
        const struct rml_board_sink *sink = &board->sinks[i];
        if (!is_text(sink->name, sizeof sink->name) || !is_text(sink->path, sizeof sink->path)
            || !is_sink_kind(sink->kind) || sink->from_count > RML_STAGES_MAX)
            return false;
        for (uint32_t j = 0; j < sink->from_count; j++) {
            if (sink->from[j] / 2 >= board->head->stages)
                return false;
        }
    }
    return true;
}

/*
 * What a board says once, of the plan, copied before it is looked at: an engine that somebody else runs could change
 * it between our look and our use. What changes is behind that, and is read as numbers and rows alone.
 */
static int freeze(struct rml_board *board, uint64_t bytes, struct places *ret_places,
                  struct rml_err *err)
{
    struct rml_board_head head;
    if (bytes < sizeof head || !is_filled(board->segment.memory))
        return RML_FAIL(err, -EPROTO, "what the pipeline shows is no board");
    memcpy(&head, board->segment.memory, sizeof head);
    int rc = check_head(&head, bytes, err);
    if (rc < 0)
        return rc;
    *ret_places = places_of(&head);
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
    struct places p;
    rc = freeze(board, bytes, &p, err);
    if (rc < 0) {
        rml_board_close(board);
        return rc;
    }
    point(board, &p);
    // Names are printed and indices followed by whoever attached it.
    if (is_text(board->head->pipeline, RML_BOARD_NAME) && is_text(board->head->path, RML_BOARD_PATH)
        && is_text(board->head->state_folder, RML_BOARD_STATE)
        && is_text(board->head->allocator, sizeof board->head->allocator)
        && are_sources_sound(board) && are_stages_sound(board) && are_sinks_sound(board))
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

static int make_schema(const struct rml_board_schema *from, struct rml_schema *schema,
                       struct rml_err *err)
{
    if (!is_text(from->name, sizeof from->name) || from->field_count > RML_FIELDS_MAX)
        return RML_FAIL(err, -EPROTO, "a name or a number of fields that cannot be");
    rml_schema_init(schema, from->name, from->has_nulls != 0);
    for (uint32_t i = 0; i < from->field_count; i++) {
        const struct rml_board_field *field = &from->fields[i];
        if (!is_text(field->name, sizeof field->name) || field->type >= RML_TYPES
            || (field->nullable != 0 && from->has_nulls == 0))
            return RML_FAIL(err, -EPROTO, "field %u cannot be", i);
        if (rml_schema_add(schema, field->name, (enum rml_type)field->type, field->nullable != 0,
                           err)
            < 0)
            return -EPROTO;
    }
    if (rml_schema_seal(schema, err) < 0)
        return -EPROTO;
    if (schema->hash != from->hash)
        return RML_FAIL(err, -EPROTO, "its fields do not lie as the engine says");
    return 0;
}

int rml_board_rows(const struct rml_board *board, uint32_t stage, bool late,
                   struct rml_schema *ret_schema, struct rml_err *err)
{
    RML_CHECK(stage < board->head->stages);
    uint32_t index = late ? board->stages[stage].source : board->head->sources + stage;
    int rc = make_schema(&board->schemas[index], ret_schema, err);
    return rc < 0 ? RML_WRAP(err, rc, "the rows of %s%s", board->stages[stage].name,
                             late ? ".late" : "")
                  : 0;
}

static void add_source(const struct rml_board *board, uint32_t partition, uint32_t source,
                       struct rml_board_totals *totals)
{
    const struct rml_source_counts *counts =
        &board->source_counts[(size_t)partition * board->head->sources + source];
    for (uint32_t c = 0; c < RML_SOURCE_COUNTERS; c++) {
        uint64_t value = rml_count_read(&counts->value[c]);
        uint64_t *total = &totals->source[source][c];
        // A source is as far as its slowest partition; the others are sums.
        if (c != RML_SOURCE_watermark)
            *total += value;
        else if (partition == 0 || (int64_t)value < (int64_t)*total)
            *total = value;
    }
}

static void add_lanes(const struct rml_board *board, struct rml_board_totals *totals)
{
    for (uint32_t s = 0; s < board->head->sources; s++) {
        totals->published[s] = rml_count_read(&board->live_sources[s].published_gone);
        totals->dropped[s] = rml_count_read(&board->live_sources[s].dropped_gone);
    }
    for (uint32_t i = 0; i < board->head->lanes_max; i++) {
        struct rml_board_lane lane;
        rml_board_lane_read(board, i, &lane);
        if (lane.state == RML_BOARD_LANE_FREE || lane.source >= board->head->sources)
            continue;
        totals->published[lane.source] += lane.published;
        totals->dropped[lane.source] += lane.dropped;
    }
}

void rml_board_total(const struct rml_board *board, struct rml_board_totals *totals)
{
    const struct rml_board_head *head = board->head;
    memset(totals, 0, sizeof *totals);
    add_lanes(board, totals);
    for (uint32_t p = 0; p < head->partitions; p++) {
        for (uint32_t s = 0; s < head->sources; s++)
            add_source(board, p, s, totals);
        for (uint32_t s = 0; s < head->stages; s++) {
            const struct rml_stage_counts *counts =
                &board->stage_counts[(size_t)p * head->stages + s];
            for (uint32_t c = 0; c < RML_STAGE_COUNTERS; c++)
                totals->stage[s][c] += rml_count_read(&counts->value[c]);
        }
    }
    for (uint32_t s = 0; s < head->sinks; s++) {
        for (uint32_t c = 0; c < RML_SINK_COUNTERS; c++)
            totals->sink[s][c] = rml_count_read(&board->sink_counts[s].value[c]);
    }
    for (uint32_t w = 0; w < head->workers; w++) {
        for (uint32_t c = 0; c < RML_WORKER_COUNTERS; c++)
            totals->worker[w][c] = rml_count_read(&board->worker_counts[w].value[c]);
    }
    for (uint32_t c = 0; c < RML_JOURNAL_COUNTERS; c++)
        totals->journal[c] = rml_count_read(&board->live->journal.value[c]);
}
