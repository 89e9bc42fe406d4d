/*
 * going_back - giving up the newest checkpoints of a state folder, and counting what goes with them.
 *
 * What a checkpoint covers is released: producers have written over it. So whoever goes back to the one
 * before lacks the records taken between the two, and the rows that were made of them until then. Each
 * checkpoint notes how many it covers; what cannot be read cannot be counted, and that is said.
 */
#ifndef RML_CONTROL_GOING_BACK_H
#define RML_CONTROL_GOING_BACK_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/plan/plan.h"

struct rml_err;
struct rml_vault;

/* What is missing after going back. */
struct rml_gone_back {
    uint64_t from, to;                  // epochs; from == to: there was nothing to give up
    int64_t to_wall_ns;                 // when that one was taken
    bool is_partly_known;               // some of what was given up could not be counted
    uint64_t records[RML_SOURCES_MAX];  // of the plan's sources, taken since then
    uint64_t rows[RML_SINKS_MAX];       // of its files, written since then
};

/* Note in the checkpoint under way how many records of each source it covers. 0, or as rml_vault_note. */
int rml_go_back_note(const struct rml_plan *plan, const uint64_t *taken, struct rml_vault *vault,
                     struct rml_err *err);

/*
 * Can checkpoint `epoch` be gone back to? 0; or with a sentence -ENOENT: it is not kept (those that are
 * are listed); -EBADMSG: it is damaged; -EINVAL: it is the end of a run, from which nothing goes on.
 */
int rml_go_back_check(struct rml_vault *vault, uint64_t epoch, struct rml_err *err);

/* Give up all that are newer, after a check. 0, or as rml_vault_go_back. */
int rml_go_back(struct rml_vault *vault, const struct rml_plan *plan, uint64_t epoch,
                struct rml_gone_back *ret_gone, struct rml_err *err);

/* The newest that can be gone back to, other than the newest of all; 0: none. */
uint64_t rml_go_back_where(struct rml_vault *vault);

/* Tell what is missing, a sentence for each sort of thing. */
void rml_gone_back_say(const struct rml_gone_back *gone, const struct rml_plan *plan,
                       void (*say)(void *context, const char *sentence), void *context);

#endif
