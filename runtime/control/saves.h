/*
 * saves - what the board tells of checkpoints: how many, how the last one was, why the last that failed did.
 *
 * The control thread's. Counts go on over the deaths of an engine, as the board does.
 */
#ifndef RML_CONTROL_SAVES_H
#define RML_CONTROL_SAVES_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/control/board.h"
#include "runtime/control/checkpointer.h"
#include "runtime/control/held_back.h"

struct rml_saves {
    struct rml_board *board;  // NULL: there are no checkpoints
    const struct rml_plan *plan;
    const struct rml_clock *clock;
    struct rml_board_saves row;
    int64_t said_ns;  // that lanes fill
    struct rml_held_back held;
    /* May be NULL. */
    void (*complain)(void *context, const char *sentence);
    void *complain_context;
};

/* Go on with the row that an engine before this one left. `way` and `why_not` are of the vault. */
void rml_saves_open(struct rml_saves *saves, uint64_t restored_epoch, const char *way,
                    const char *why_not, const struct rml_gone_back *gone);

/* One begins for this reason; one is over. */
void rml_saves_begun(struct rml_saves *saves, enum rml_board_wanted why);
void rml_saves_done(struct rml_saves *saves, const struct rml_checkpointer_news *news);

/*
 * A lane of `source` is full of records that no checkpoint covers (source UINT32_MAX: a schedule is full of
 * such steps): producers wait, or drop, until one does. Counted, and said once a minute at most.
 */
void rml_saves_full(struct rml_saves *saves, uint32_t source);

/* The end came, and what was taken since the last checkpoint is in none. */
void rml_saves_end_unsaved(struct rml_saves *saves);

/* The end came while the journal failed, and so many records that were published have not been taken; and maybe more,
 * which nobody counts. */
void rml_saves_end_left(struct rml_saves *saves, uint64_t records, bool may_be_more);

#endif
