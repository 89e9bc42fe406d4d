/*
 * again - the steps that an engine took before it died, taken again by the one after it.
 *
 * The records are still in the lanes, for nothing is released before a checkpoint covers it; so the
 * partition comes to be where it was, and makes the same rows under the same numbers.
 */
#ifndef RML_WORKER_AGAIN_H
#define RML_WORKER_AGAIN_H

#include "runtime/worker/saving.h"
#include "runtime/worker/worker.h"

struct rml_mark;

/*
 * Bring a partition from where it was restored to the end of its schedule, then detach the lanes that it
 * knows and that are not among `lanes` (lanes_max of them). `marks` has room for RML_WORKER_STEP_ROWS. 0; -ENODATA: a step or
 * a record is not there any more; -EPROTO: what is there cannot be; with a sentence.
 */
int rml_again_take(struct rml_own *own, const struct rml_worker_kept *lanes, uint32_t lanes_max,
                   struct rml_mark *marks, struct rml_err *err);

#endif
