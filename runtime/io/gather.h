/*
 * gather - rows of several partitions and outputs on their way into one file, put in order.
 *
 * Rows leave in the order in which they fire; ties are settled by the output, then for windows by the
 * key's fields (numbers numerically, strings bytewise), start, and revision, else by partition; last by
 * sequence number. Rows of one partition and output come in with `fire` never going back.
 */
#ifndef RML_IO_GATHER_H
#define RML_IO_GATHER_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/partition/result.h"
#include "runtime/plan/plan.h"

struct rml_err;
struct rml_gather;

/* One of the outputs that go into the file. */
struct rml_gather_from {
    const struct rml_schema *schema;
    uint32_t key_count;  // the fields from the third on; only where is_window
    bool is_window;
};

/* Called for each row in order. */
typedef void rml_gather_fn(void *context, uint32_t from, const struct rml_result_row *row);

/* `froms` is copied. Grows as rows come in: it belongs to a thread that may allocate. */
int rml_gather_open(struct rml_gather **ret_gather, const struct rml_gather_from *froms,
                    uint32_t from_count, uint32_t partitions, struct rml_err *err);
void rml_gather_close(struct rml_gather *gather);

/* Copy the block's rows in. 0, or -ENOMEM when there is no room for them: none is kept then. */
int rml_gather_add(struct rml_gather *gather, uint32_t from, struct rml_result_block *block);

/*
 * Put out, in order, the rows with fire < `before` (RML_TIME_END: all) of one partition and output, or of
 * all of them. Returns how many.
 */
uint64_t rml_gather_put_one(struct rml_gather *gather, uint32_t from, uint32_t partition,
                            rml_gather_fn *put, void *context);
uint64_t rml_gather_put_before(struct rml_gather *gather, int64_t before, rml_gather_fn *put,
                               void *context);

#endif
