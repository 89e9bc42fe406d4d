/*
 * rehearsal - a pipeline taken through its steps in one thread, on a clock that stands still.
 *
 * One partition stands for all of them, since results do not depend on how many there are. Each
 * source has one lane; records are taken one at a time, in the order fed.
 */
#ifndef RML_TOOLS_REHEARSAL_H
#define RML_TOOLS_REHEARSAL_H

#include <stdbool.h>
#include <stdint.h>

struct rml_err;
struct rml_plan;
struct rml_rehearsal;

/* Set the stages of `plan` up; rows of all outputs are kept. The plan must outlive the rehearsal. 0, or
 * a negative errno and a sentence. */
int rml_rehearsal_open(struct rml_rehearsal **ret_rehearsal, const struct rml_plan *plan,
                       struct rml_err *err);
void rml_rehearsal_close(struct rml_rehearsal *rehearsal);

/* The source takes one record of its schema, 8-byte aligned. */
void rml_rehearsal_feed(struct rml_rehearsal *rehearsal, uint32_t source, const void *record);

/* The clock moves on to `time`, and every source vouches for it as a producer that goes on would. */
void rml_rehearsal_advance(struct rml_rehearsal *rehearsal, int64_t time);

/* Every source is at its end. */
void rml_rehearsal_end(struct rml_rehearsal *rehearsal);

/*
 * The rows that the stage has put out so far, in their order: fills `rows` with up to `most` pointers to
 * records (as plan->stages[].output says, or for late rows the source's schema), which are good until
 * the rehearsal closes, and returns how many there are in all.
 */
uint32_t rml_rehearsal_rows(const struct rml_rehearsal *rehearsal, uint32_t stage, bool late,
                            const void **rows, uint32_t most);

#endif
