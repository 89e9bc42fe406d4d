/*
 * result - rows on their way out of a partition, in blocks.
 *
 * A partition fills a block with rows of one output and gives it away through a door that its
 * surroundings brought: a worker copies rows to result rings and hands the block to the writer of
 * files, a simulation appends it to a list. The door may wait (backpressure); the partition does
 * not know of that.
 */
#ifndef RML_PARTITION_RESULT_H
#define RML_PARTITION_RESULT_H

#include <stdbool.h>
#include <stdint.h>

struct rml_plan;

#define RML_RESULT_BLOCK_BYTES 32768  // of row data
#define RML_OUTPUTS_MAX        128

/* An output is what somebody reads: a stage's main or late rows. Outputs are numbered over the plan's
 * stages in order, main before late, those without a reader left out. */
struct rml_output {
    uint32_t stage;
    uint32_t source;
    bool late;
    uint32_t row_bytes;  // of the record alone
};

/* Fill `outputs` (RML_OUTPUTS_MAX entries); returns their number. */
uint32_t rml_outputs_list(const struct rml_plan *plan, struct rml_output *outputs);

/* One row in a block; rows lie one behind the other, sizeof this + row_bytes (a multiple of 8) apart. */
struct rml_result_row {
    int64_t
        fire;  // event time at which the row came to be: never goes back within a source of a partition.
               // A window on time: its end; a correction: the last end of a window that the
               // watermark had passed, which no cut into batches changes; a record: the greatest
               // event time of the lane up to and with it
    uint64_t seq;  // of the partition's rows of this output, from 0
    unsigned char record[];
};

struct rml_result_block {
    struct rml_result_block *next;  // for lists of whoever holds the block
    uint32_t partition;
    uint32_t output;  // index; RML_OUTPUTS_MAX: no rows, only progress
    uint32_t source;
    uint32_t rows;
    uint32_t row_stride;  // bytes from row to row
    bool is_mark;         // no rows: the partition's moment of a checkpoint (runtime/io/writer.h)
    bool step_end;        // the last block of its output in its step: later rows are a later step's
    int64_t progress;  // every later row of this partition and source has fire >= progress; only in
                       // the last block that a step gives, RML_TIME_NONE in the others
    _Alignas(16) unsigned char data[RML_RESULT_BLOCK_BYTES];
};

struct rml_result_door {
    /* An empty block to fill. Never NULL: the door waits until it has one. */
    struct rml_result_block *(*take)(void *context);
    /* Give a block with rows (or only progress) away; ownership moves. */
    void (*give)(void *context, struct rml_result_block *block);
    void *context;
    bool announce_progress;  // give a rowless block when a step moved `progress` and made no row
};

static inline struct rml_result_row *rml_result_row_at(struct rml_result_block *block,
                                                       uint32_t index)
{
    void *at = block->data + (uint64_t)index * block->row_stride;
    return at;
}

#endif
