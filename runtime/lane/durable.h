/*
 * durable - how many of a producer's records are durable, in the order in which they were committed.
 *
 * The engine tells it ring by ring. So the producer notes, when it publishes, how many records it has committed
 * in all, and where each ring stands; once what the engine tells has passed a note in every ring, all that were
 * committed until then are durable.
 *
 * Notes are few. When there is no room for one, every second is given up, and from then on only every second publish,
 * or fourth, and so on, is noted, until they are few again: what is told stays true, and comes in larger steps, of a
 * thirty-second part of what is on its way.
 */
#ifndef RML_LANE_DURABLE_H
#define RML_LANE_DURABLE_H

#include <stdint.h>

#define RML_DURABLE_NOTES 64u

struct rml_durable {
    uint32_t partitions;
    uint32_t first, count;                // notes, the oldest first; in a ring
    uint32_t stride, passed;              // one note for so many publishes; those since the last
    uint64_t known;                       // records
    uint64_t records[RML_DURABLE_NOTES];  // committed, as of each note
    uint64_t *positions;                  // of each note: by partition
};

/* 0 or -ENOMEM. */
int rml_durable_open(struct rml_durable *durable, uint32_t partitions);
void rml_durable_close(struct rml_durable *durable);  // accepts one of zeros

/* There was a publish, after so many records had been committed. Returns where the caller puts each ring's position;
 * NULL: this one is not noted. */
uint64_t *rml_durable_publish(struct rml_durable *durable, uint64_t records);

/* How many of the first records are durable, now that each ring is so far. */
uint64_t rml_durable_look(struct rml_durable *durable, const uint64_t *positions);

/* After a look: the last publish was not noted, and nothing else is. Then the caller puts each ring's position there,
 * and looks again. Else NULL. */
uint64_t *rml_durable_note_last(struct rml_durable *durable, uint64_t records);

/* All that had been committed by the last publish are, whatever was noted: so many. */
void rml_durable_are_all(struct rml_durable *durable, uint64_t records);

#endif
