/*
 * tables - the result tables of a pipeline, put into the checkpoint that covers their rows.
 *
 * Rows come as they were made (runtime/io/pile.h). Of those with one identity the last one counts. What
 * has to be changed is found by looking at the table as the last checkpoint left it, which nobody else
 * changes, and handed to the vault row by row: so all of it is there with the checkpoint, or none.
 *
 * Rows leave a table when they are older than `keep`, by the table's own time, or when there are more than
 * `max_rows`, the oldest first. The table's time is the greatest at which one of its rows was made; it
 * stands still while none is.
 *
 * One thread at a time: that of the checkpointer.
 */
#ifndef RML_TABLE_TABLES_H
#define RML_TABLE_TABLES_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/observe/counters.h"
#include "runtime/plan/plan.h"

struct rml_err;
struct rml_pile;
struct rml_tables;
struct rml_vault;

/*
 * The tables that the plan's sinks want, compared with those that are there. `emptied`: stages of the plan, by
 * bit, whose tables lose all rows with the next checkpoint, and are not compared. 0; -EINVAL with a sentence:
 * a stage was changed so that its rows do not fit; -EPROTONOSUPPORT, -EBADMSG: a note cannot be read.
 */
int rml_tables_open(struct rml_tables **ret_tables, const struct rml_plan *plan,
                    struct rml_vault *vault, uint64_t emptied, struct rml_err *err);
void rml_tables_close(struct rml_tables *tables);  // accepts NULL

/* The pipeline begins anew: numbers of rows begin with 0, and are not those of rows that are there. */
void rml_tables_begin_anew(struct rml_tables *tables);

/*
 * Into the vault's checkpoint under way: the pile's ready rows. 0, or a negative errno with a sentence.
 * When the checkpoint has come to nothing, the same rows, and more, may be put into another.
 */
int rml_tables_put(struct rml_tables *tables, struct rml_vault *vault, const struct rml_pile *pile,
                   struct rml_err *err);

/* That checkpoint is durable. */
void rml_tables_committed(struct rml_tables *tables);

/* It was, and was gone back from: its rows are there, and will be put again. */
void rml_tables_undone(struct rml_tables *tables);

/* Rows and bytes put in this life, as durable, into the counts of the plan's sinks. */
void rml_tables_count(const struct rml_tables *tables, struct rml_sink_counts *counts);

/* Into the vault's checkpoint under way: remove all tables that there are. */
int rml_tables_remove_all(struct rml_vault *vault, struct rml_err *err);

#endif
