/*
 * undo - what a step had counted, so that a step that an engine died in counts for nothing.
 *
 * Counters lie in shared memory and outlive an engine, and so does how far each lane has been taken. A step
 * changes many of these words. Before one begins, the partition's counters and the position that it
 * takes from are copied here; the step is valid from when the copy is no longer. An engine that goes
 * on for a dead one puts the copy back where it is still valid, and takes the same records again:
 * every record is counted once.
 *
 *     copy of the counters, position ── valid ──► step, positions ── not valid any more ──► release
 *
 * Order here is that of one thread: a process that is killed has done what comes before a certain
 * instruction, and nothing that comes after it. So the two stores of `lane` must not be moved by the
 * compiler, and each is an exchange, which nothing passes.
 */
#ifndef RML_WORKER_UNDO_H
#define RML_WORKER_UNDO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/observe/counters.h"

struct rml_undo_head;  // of one partition, in the segment

/* The place of one partition. `head` NULL: nothing is ever undone, and nothing is noted. */
struct rml_undo {
    struct rml_undo_head *head;
    uint32_t stage_count, source_count;
    struct rml_stage_counts *stages;  // of this partition, as the worker counts
    struct rml_source_counts *sources;
};

/* Bytes that a partition takes, a multiple of 64. */
size_t rml_undo_bytes(uint32_t stage_count, uint32_t source_count);

/* `memory`: zeroed when new, 64-byte aligned; NULL: none. */
void rml_undo_attach(struct rml_undo *undo, void *memory, uint32_t stage_count,
                     uint32_t source_count, struct rml_stage_counts *stages,
                     struct rml_source_counts *sources);

#define RML_UNDO_NO_LANE UINT32_MAX

/* A step begins, which takes from `lane` at `position` (or RML_UNDO_NO_LANE); it has been taken. */
void rml_undo_begin(const struct rml_undo *undo, uint32_t lane, uint64_t position);
void rml_undo_end(const struct rml_undo *undo);

/*
 * The worker is dead. Did it die in a step, and from which lane and position did that take? Then put the
 * counters back. The step stays known until rml_undo_end, so that all of this can be done again.
 */
bool rml_undo_look(const struct rml_undo *undo, uint32_t *ret_lane, uint64_t *ret_position);
void rml_undo_back(const struct rml_undo *undo);

#endif
