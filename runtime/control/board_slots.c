/*
 * ROWS
 *
 * Each row is replaced as a whole, and readers may be reading it: that of a lane, of a group and of a member, and
 * those of the last death, of checkpoints and of the journal. As in runtime/ring/broadcast.c a stamp stands
 * before the words: odd while they change. A reader copies the words and looks at the stamp again; it never holds the
 * writer up.
 *
 *     board.row     stamp, even -> first look at the stamp    the words of the row
 *     board.next    each word -> each word                    that the stamp had become odd before
 */
#include <stdalign.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>

#include "runtime/base/check.h"
#include "runtime/control/board_state.h"

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

size_t rml_board_slot_bytes(size_t row_bytes)
{
    return (offsetof(struct rml_board_slot, words) + row_bytes + 63) / 64 * 64;
}

static struct rml_board_slot *slot_at(struct rml_board_slot *slots, uint32_t index,
                                      size_t row_bytes)
{
    return (void *)((unsigned char *)slots + index * rml_board_slot_bytes(row_bytes));
}

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
// there is no such row, and all of it reads as 0.
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
    memset(to, 0, bytes);
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
    rml_board_copy_text(ret_reason, RML_BOARD_NAME, is_there ? lane.reason : "");
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

void rml_board_death_write(struct rml_board *board, const struct rml_board_death *death)
{
    write_row(board->death, 0, death, sizeof *death);
}

void rml_board_death_read(const struct rml_board *board, struct rml_board_death *ret_death)
{
    (void)read_row(board->death, 0, ret_death, sizeof *ret_death);
    ret_death->why[RML_BOARD_WHY - 1] = '\0';
}

void rml_board_saves_write(struct rml_board *board, const struct rml_board_saves *saves)
{
    write_row(board->saves, 0, saves, sizeof *saves);
}

void rml_board_saves_read(const struct rml_board *board, struct rml_board_saves *ret_saves)
{
    (void)read_row(board->saves, 0, ret_saves, sizeof *ret_saves);
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
    (void)read_row(board->groups, index, ret_group, sizeof *ret_group);
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
    (void)read_row(board->members, index, ret_member, sizeof *ret_member);
    ret_member->program[RML_BOARD_NAME - 1] = '\0';
}

void rml_board_journal_write(struct rml_board *board, const struct rml_board_journal *journal)
{
    write_row(board->journal, 0, journal, sizeof *journal);
}

void rml_board_journal_read(const struct rml_board *board, struct rml_board_journal *ret_journal)
{
    (void)read_row(board->journal, 0, ret_journal, sizeof *ret_journal);
    ret_journal->way[sizeof ret_journal->way - 1] = '\0';
    ret_journal->why_not[sizeof ret_journal->why_not - 1] = '\0';
    ret_journal->failed_why[sizeof ret_journal->failed_why - 1] = '\0';
}
