/*
 * writer - a thread that writes result rows to files, so that workers need not.
 *
 * Each worker has a fixed number of blocks. It fills one and gives it to the writer, which copies the
 * rows out and returns the block; a worker that has none left waits, and that is how a slow disk
 * slows the engine. Blocks travel both ways through queues of one giver and one taker.
 *
 *     merge = false   each partition's rows are written when its step ends, in order within the step
 *     merge = true    rows wait until no partition can make an earlier one: the bytes do not depend
 *                     on workers, batches or speed
 *
 * MARKS. Where checkpoints are taken, each partition's worker gives a mark behind the last row of its
 * moment. When those of all partitions have come, files are flushed and it is noted how long each is, and
 * which rows are in it. From such a note a later writer goes on: the file is cut to that length, and of the
 * rows that are made again those that are in it are left out. So every row is in the file once.
 *
 * Rows for tables are piled up (runtime/io/pile.h), for the checkpoint whose marks come behind them.
 *
 * A file that fails is said once; its rows are counted as lost, and everything else goes on. Not so where
 * there are marks, and with them records that can be taken again: there a write that failed is tried again
 * until there is room, and all else waits with it, as for a disk that is slow. When a file cannot be flushed,
 * nobody knows what of it the disk has; only who goes on from the mark before can write it anew.
 */
#ifndef RML_IO_WRITER_H
#define RML_IO_WRITER_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/observe/counters.h"
#include "runtime/partition/result.h"
#include "runtime/plan/plan.h"

struct rml_bell;
struct rml_err;
struct rml_pile;
struct rml_writer;

/* What is known of one sink's file at a mark, to be kept and given to a later writer. */
struct rml_writer_note {
    const void *data;
    uint32_t bytes;
};

struct rml_writer_options {
    const struct rml_plan *plan;  // its sinks but rings, which are the workers' business
    const char *folder;           // relative paths start here; NULL: the present working directory
    bool merge;
    bool
        again;  // go on with the files of a writer that died, as far as the counts say they are written
    /* Marks are given; then `again` is not looked at, and files begin anew but for those with a note. By
     * sink of the plan, data NULL: there is none. NULL: no marks. */
    const struct rml_writer_note *notes;
    struct rml_bell
        *marked;  // rung when a round of marks is complete, and when the pile is half full
    uint32_t workers;
    uint32_t blocks;                 // of each worker; more than the outputs that one step can fill
    struct rml_sink_counts *counts;  // plan->sink_count blocks; zero, but for `again`
    /* Rows go here instead of to files, called by the writer's thread; NULL: to files. `from` indexes
     * the sink's list. */
    void (*row)(void *context, uint32_t sink, uint32_t from, const struct rml_result_row *row);
    void *row_context;
    /* Says what went wrong with a sink, called by the writer's thread, once for each; may be NULL. */
    void (*complain)(void *context, const char *sentence);
    void *complain_context;
    /* Marks: a file was written to and could not be flushed. Whoever runs this goes on from the mark before in
     * another process; where it returns, or is NULL, rows are lost. Called by the writer's thread. */
    void (*unsure)(void *context, const char *sentence);
    void *unsure_context;
};

/* Open the files and set everything aside; the plan must outlive the writer. 0, or a negative errno
 * with a sentence. */
int rml_writer_open(struct rml_writer **ret_writer, const struct rml_writer_options *options,
                    struct rml_err *err);

/* Start the thread. */
int rml_writer_start(struct rml_writer *writer, struct rml_err *err);

/* Does any file take rows of this output? (Then, or with merge, its blocks must be given.) */
bool rml_writer_wants(const struct rml_writer *writer, uint32_t output);

/*
 * The worker's own: take a block, or NULL when all are under way; wait until one is back; give one
 * away, or put one back unused. Neither allocates.
 */
struct rml_result_block *rml_writer_take(struct rml_writer *writer, uint32_t worker);
void rml_writer_wait(struct rml_writer *writer, uint32_t worker);
void rml_writer_give(struct rml_writer *writer, uint32_t worker, struct rml_result_block *block);
void rml_writer_put_back(struct rml_writer *writer, uint32_t worker,
                         struct rml_result_block *block);

/*
 * Before workers run: from here on whoever waits for a block while a file cannot be written calls this again and
 * again, in his own thread, and hurries the writer once it says so. NULL: no longer.
 */
void rml_writer_watch(struct rml_writer *writer, bool (*is_enough)(void *context), void *context);

/* From here on nobody waits for files: rows of those that fail are lost, and so is the next round. For any
 * thread. */
void rml_writer_hurry(struct rml_writer *writer);

/* No worker gives any more: write what there is and end the thread. Returns how many rows were lost. */
uint64_t rml_writer_finish(struct rml_writer *writer);

/* Close the files. Accepts NULL, and one that was never started; finishes one that was. */
void rml_writer_close(struct rml_writer *writer);

/* The worker's own: the moment of `partition`. May wait for a block. */
void rml_writer_mark(struct rml_writer *writer, uint32_t worker, uint32_t partition);

/* How many rounds of marks are complete. Their notes hold still until a mark of the next is given. */
uint64_t rml_writer_rounds(const struct rml_writer *writer);

/* Has every file all rows of the last complete round? 0, or a negative errno with a sentence: then its notes
 * are of no worth. Holds still as long as they do. */
int rml_writer_round(const struct rml_writer *writer, struct rml_err *err);

/* The note of a sink as of the last complete round; data NULL: it is no file. */
struct rml_writer_note rml_writer_note(const struct rml_writer *writer, uint32_t sink);

/* Rows for tables; the ready ones are the checkpointer's from a complete round on, until it settles them. */
struct rml_pile *rml_writer_pile(struct rml_writer *writer);

/* Anyone: are so many piled up that no records should be taken until a checkpoint has come? */
bool rml_writer_is_full(const struct rml_writer *writer);

#endif
