/*
 * board_state - what a board is made of, for the files that it is made of: opening it, attaching to it and the words of
 * its head (board.c), where its parts lie (board_layout.c), what it says of the plan (board_plan.c), its rows, which
 * are replaced while others read them (board_slots.c), and what is counted (board_counts.c).
 */
#ifndef RML_CONTROL_BOARD_STATE_H
#define RML_CONTROL_BOARD_STATE_H

#include "runtime/control/board.h"

/* Where the parts lie; computed alike by whoever writes and whoever reads. */
struct rml_board_places {
    uint64_t sources, stages, sinks, schemas, workers, lanes, death, saves, journal, groups,
        members;
    uint64_t stage_counts, source_counts, worker_counts, sink_counts;
    uint64_t bytes;
};

struct rml_board_places rml_board_places(const struct rml_board_head *head);

/* Have a board's pointers point there. */
void rml_board_point(struct rml_board *board, const struct rml_board_places *places);

/* What a row of so many bytes takes, with its stamp. */
size_t rml_board_slot_bytes(size_t row_bytes);

/* Say how the last engine died. */
void rml_board_death_write(struct rml_board *board, const struct rml_board_death *death);

/* What a board says of the plan, once: say it; and is what somebody else said such that its texts can be printed
 * and its numbers followed? */
void rml_board_fill_plan(struct rml_board *board, const struct rml_plan *plan);
bool rml_board_is_sound(const struct rml_board *board);

/* As much of a text as there is room for; of a path its end, by which it is known. */
void rml_board_copy_text(char *to, size_t bytes, const char *from);
void rml_board_copy_path(char to[RML_BOARD_PATH], const char *from);

#endif
