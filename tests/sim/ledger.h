/*
 * ledger - what the engine did, as others can see it, and what it should have done.
 *
 * The steps of each partition are copied from its schedule as they are written down, and rows from the
 * result rings. In the end an oracle takes the same steps over the records that producers published: one
 * partition after the other, with no checkpoint, no death and no restart. Its rows must be those that were
 * seen, under the same numbers, and those in the files; and its counters those of the board.
 *
 * Which records there are is not the engine's to say: each step takes the next ones of its lane, so
 * one that is taken twice or not at all shows as too few or too many.
 */
#ifndef TESTS_SIM_LEDGER_H
#define TESTS_SIM_LEDGER_H

#include <stdbool.h>
#include <stdint.h>

struct rml_board;
struct rml_plan;

/* Steps of a source with a journal stay, whatever happens, once a schedule has them. */
void ledger_begin(const struct rml_plan *plan);
void ledger_end(void);

/* The same pipeline, read anew. */
void ledger_plan(const struct rml_plan *plan);

/* The keeper is another: schedules and rings are new, and go on at a checkpoint or at the beginning; with a journal
 * at what it has. */
void ledger_new_life(void);

/* An engine begins to come up: what its schedules say is not settled before its workers start. */
void ledger_engine_begins(void);

/* Copy what there is. Returns whether a step was written since the last time. */
bool ledger_look(void);

/* A checkpoint begins, or is said to be durable: whatever happens, what was done by its beginning stays. */
void ledger_checkpoint_begins(void);
void ledger_checkpoint_is_durable(void);

/* The counters that the last engine shows at its end. */
void ledger_board(const struct rml_board *board);

/* Of all runs: steps, records in them; of this one: rows that were seen. */
uint64_t ledger_steps(void);
uint64_t ledger_records(void);
uint64_t ledger_rows(void);

/* All has come to its end: is it as it should be? Files of rows lie in `folder`. */
void ledger_check(const char *folder);

/* And the tables in the state there, where a checkpoint has all. After ledger_check. */
void ledger_check_tables(const char *folder);

#endif
