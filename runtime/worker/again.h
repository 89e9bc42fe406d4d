/*
 * again - the steps that an engine took before it died, taken again by the one after it.
 *
 * Records are still in the lanes where a keeper holds those, for nothing is released before a checkpoint
 * covers it, and their steps are in schedules; or they are in the journal with their steps. So the
 * partition comes to be where it was, and makes the same rows under the same numbers.
 *
 *     restored ──► entries of the journal ──► schedule ──► entries of the journal
 *
 * An engine that goes on after the keeper's death has only the journal, and begins a schedule where that
 * ends. One that follows it has both: first what came before that schedule. Behind a schedule lies
 * what was on the disk, and not taken yet.
 */
#ifndef RML_WORKER_AGAIN_H
#define RML_WORKER_AGAIN_H

#include "runtime/worker/journaling.h"
#include "runtime/worker/saving.h"
#include "runtime/worker/worker.h"

struct rml_mark;

/* Take an entry of the partition, if it is the next and its turn has come. 0, or -ENODATA: entries are missing
 * before it; -EPROTO: what is there cannot be; with a sentence. */
int rml_again_feed(struct rml_own *own, const struct rml_plan *plan,
                   const struct rml_journaled *journaled, struct rml_err *err);

/*
 * Bring a partition to the end of its schedule. `marks` has room for RML_WORKER_STEP_ROWS. 0; -ENODATA:
 * a step or a record is not there any more; -EPROTO: what is there cannot be; with a sentence.
 */
int rml_again_take(struct rml_own *own, const struct rml_plan *plan,
                   const struct rml_worker_kept *lanes, uint32_t lanes_max, struct rml_mark *marks,
                   struct rml_err *err);

/* Then detach the lanes that it knows and that are not among `lanes`; those of sources with a journal are
 * noted in own->leftover, for that step has to be on the disk first. 0, or as above, or -ENOMEM. */
int rml_again_settle(struct rml_own *own, const struct rml_plan *plan,
                     const struct rml_worker_kept *lanes, uint32_t lanes_max, struct rml_err *err);

#endif
