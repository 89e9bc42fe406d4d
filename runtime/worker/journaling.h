/*
 * journaling - steps that are written to the journal, with their records, before they are taken.
 *
 * Of sources with `journal: true`, and ticks beside them. A worker copies what a lane has into entries,
 * in the order in which it would have taken it, and takes it from there once the entries are on the disk.
 * So whatever happens after, a partition comes to be where it was: the last checkpoint, and from its
 * position on the entries.
 *
 *     lane ── copy ──► entries ── on the disk ──► schedule, step
 *
 * The END of a source is not among them: as long as no checkpoint says that a run came to its end, whoever runs
 * the pipeline next goes on with it.
 *
 * A partition counts its entries through its life; the count that its state has come to is noted with each
 * checkpoint.
 */
#ifndef RML_WORKER_JOURNALING_H
#define RML_WORKER_JOURNALING_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/checkpoint/journal_queue.h"
#include "runtime/partition/partition.h"
#include "runtime/plan/plan.h"
#include "runtime/worker/saving.h"

struct rml_journaling {
    struct rml_journal_queue *queue;  // NULL: nothing is journaled
    uint64_t given, taken;            // buffers
    uint32_t used;                    // of buffer number `given`
    uint32_t steps, records;          // in it
    uint32_t entry_at;                // of buffer number `taken`: how far it was taken
    int64_t since_ns;                 // when the first entry of that buffer was put
};

/* An entry, as it was put; what it points at lies in the entry. */
struct rml_journaled {
    uint32_t partition;
    uint64_t position;
    struct rml_step step;
    uint64_t record;  // BATCH: number of its first in the lane
    uint32_t record_bytes;
    struct rml_step_input input;
};

/* Is this step one that goes through the journal of the plan's sources? */
bool rml_journaling_counts(const struct rml_plan *plan, const struct rml_partition *partition,
                           const struct rml_step *step);

/* How many records of a lane fit now, with marks before each, up to `want`; with 0 for `record_bytes`: is
 * there room for a step without records? What was put so far may be given for that. */
uint32_t rml_journaling_room(struct rml_journaling *journaling, uint32_t record_bytes,
                             uint32_t want);

/* Put a step that there is room for. `record` is the number of its first record in the lane. */
void rml_journaling_put(struct rml_journaling *journaling, struct rml_own *own,
                        const struct rml_step *step, const struct rml_step_input *input,
                        uint32_t record_bytes, uint64_t record, int64_t now_ns);

/* Give what was put, unless the disk is busy with what was given before. */
bool rml_journaling_give(struct rml_journaling *journaling, int64_t now_ns, int64_t delay_ns);

/* Is nothing on its way? Is something on the disk that was not taken? */
bool rml_journaling_is_empty(const struct rml_journaling *journaling);
bool rml_journaling_has_news(const struct rml_journaling *journaling);

/* The next step that is on the disk, of the buffer that has it; the buffer can be filled again once it has
 * been read to its end. False: there is none, or *ret_is_end of a buffer was reached. */
bool rml_journaling_next(struct rml_journaling *journaling, struct rml_journaled *ret_journaled);

/* Read an entry. 0 or -EPROTO: nobody could have put it. */
int rml_journaling_read(const struct rml_journal_entry *entry, struct rml_journaled *ret_journaled);

#endif
