/*
 * judge - what must have come out, by what producers published alone.
 *
 * The ledger's oracle is the engine's own code, and takes its steps at their word. This one shares nothing
 * with it. Of steps it believes in which order lanes were taken, and how many records; how far time had come
 * it knows from the producers, who note with each record what they had written before it. What a step or a mark
 * says of time must be true by that: no record may come later whose producer had not come so far when it
 * wrote it. Windows are lists of keys and starts, filled one record after the other.
 *
 * Judged are counted windows in all runs; and where no wall clock has a part in it time windows, tumbling and
 * sliding, what came too late for the tumbling ones, and sessions that forget at once. Not judged is a stage whose
 * limit refused a record.
 */
#ifndef TESTS_SIM_JUDGE_H
#define TESTS_SIM_JUDGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct rml_schema;
struct rml_step;

enum judge_stage {
    JUDGE_TUMBLING,
    JUDGE_SLIDING,
    JUDGE_SESSIONS,
    JUDGE_COUNTED,
    JUDGE_LATE,  // what came too late for tumbling windows
    JUDGE_STAGES
};

/* The pipeline, as the world draws it. */
struct judge_shape {
    int64_t size_ns, late_ns, out_of_order_ns;
    uint32_t stages;  // bits, as the first four of enum judge_stage
    bool has_wall_clock;
};

/* Rows of one output, each `stride` bytes behind the one before. */
struct judge_rows {
    const struct rml_schema *schema;
    const unsigned char *records;
    size_t stride;
    uint64_t count;
};

void judge_begin(const struct judge_shape *shape);

/* A partition of a shared lane's log came to know of a time, by a look at producers that began at that turn. */
void judge_note_look(uint32_t partition, int64_t time, uint64_t turn);

/* Are these the rows of a partition that took lanes in the order of these steps? A stage whose rows are NULL is not
 * asked for. Fails where not. */
void judge_partition(uint32_t partition, const struct rml_step *steps, uint64_t step_count,
                     const struct judge_rows *const rows[JUDGE_STAGES]);

/* Of all runs: rows that were judged; and those of sessions that do not forget at once, and of windows over which a wall
 * clock had a part, which were not. */
struct judge_sums {
    uint64_t judged, sessions, wall_clock;
};

struct judge_sums judge_sums(void);

#endif
