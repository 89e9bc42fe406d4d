/*
 * results - the result tables of a state folder, read by another process, whether an engine runs or not.
 *
 * Rows are read some at a time, each time from the newest state, which is let go before they are handed
 * on: who reads slowly keeps no page of the catalog from being used again. So each part is of one
 * checkpoint, and the next may be of a later one; a row is met once, unless it moves on the way.
 */
#ifndef RML_TABLE_RESULTS_H
#define RML_TABLE_RESULTS_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/table/shape.h"

struct rml_checkpoints;
struct rml_err;

#define RML_RESULTS_ROWS 500u  // that are read at a time

/* All tables, by name, each as it is when its turn comes. `each` is told of a note that cannot be read by `damage`, and goes on. */
int rml_results_list(struct rml_checkpoints *checkpoints,
                     void (*each)(void *context, const struct rml_shape *shape,
                                  const struct rml_shape_state *state),
                     void (*damage)(void *context, const char *sentence), void *context,
                     struct rml_err *err);

/* The table of that name; -ENOENT: there is none, and nothing is said. */
int rml_results_find(struct rml_checkpoints *checkpoints, const char *name,
                     struct rml_shape *ret_shape, struct rml_shape_state *ret_state,
                     struct rml_err *err);

struct rml_results_query {
    const struct rml_shape *shape;
    /* The first so many of the key's fields are those of this record. */
    const void *key;
    uint32_t key_count;
    /* Windows that begin at `from` or later and end at `to` or before; of rows that are of no window,
     * those at `from` or later and before `to`. RML_TIME_NONE, RML_TIME_END: whenever. */
    int64_t from, to;
    uint64_t first, last;  // at most so many of them, from the beginning or the end; 0: all
    /* A row, with its record. Not 0: that is enough. */
    int (*row)(void *context, const struct rml_shape_head *head, const void *record);
    /* A row that cannot be read is named, and reading goes on. */
    void (*damage)(void *context, const char *sentence);
    void *context;
};

/*
 * With a key rows come in the order of the rest of it, then of window_start; without one, and where the last
 * of several keys are wanted, by time and then by key. 0, what `row` returned,
 * or a negative errno with a sentence.
 */
int rml_results_read(struct rml_checkpoints *checkpoints, const struct rml_results_query *query,
                     struct rml_err *err);

/*
 * Read every row of a table, to see that it is as it was written, and that there are as many as its note says;
 * where checkpoints come meanwhile their number is not compared. Returns how many damages there were, each of
 * which was told of; -ENOENT: there is no such table; or another negative errno with a sentence.
 */
int rml_results_verify(struct rml_checkpoints *checkpoints, const char *name,
                       void (*complain)(void *context, const char *sentence), void *context,
                       uint64_t *ret_rows, struct rml_err *err);

#endif
