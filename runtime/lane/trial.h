/*
 * trial - which way of carrying cells is the fastest here and now.
 *
 * Nobody can say beforehand: it depends on where the two cores lie, and that can change from second
 * to second. So a busy lane uses each way for short slices in turn, keeps the one that carried most,
 * and compares again when its rate falls. A lane that is not busy is never tried: what a trial could
 * win there is nothing. Only arithmetic; the clock is the caller's.
 */
#ifndef RML_LANE_TRIAL_H
#define RML_LANE_TRIAL_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/ring/ring.h"

#define RML_TRIAL_LOOK_BYTES  (256u << 10)  // carried between two looks at the clock
#define RML_TRIAL_SLICE_NS    500000        // of one way in a trial, twice each
#define RML_TRIAL_SPAN_NS     4000000       // watched as one rate otherwise
#define RML_TRIAL_QUIET_NS    250000000     // between two trials
#define RML_TRIAL_BUSY_PER_US 100u          // bytes; below this a lane is not busy

struct rml_trial {
    enum rml_ring_variant current;
    uint32_t trials;
    bool usable[RML_RING_VARIANTS];
    bool trying;
    uint32_t slice;                    // of the trial
    uint64_t best[RML_RING_VARIANTS];  // bytes in a millisecond, the better of the slices
    uint64_t kept_rate;                // of the way that was kept
    uint32_t slow_spans;               // in a row, much slower than kept_rate
    bool started;
    int64_t since_ns;  // start of the span or slice
    uint64_t bytes;    // carried in it
    int64_t quiet_until_ns;
};

/* Start with RML_RING_PLAIN, which every machine can; `usable` says for each other way if it can. */
void rml_trial_init(struct rml_trial *trial, bool can_stage, bool can_flush);

/* `bytes` were carried up to `now_ns` (a monotonic clock). Returns the way to use from now on. */
enum rml_ring_variant rml_trial_note(struct rml_trial *trial, uint64_t bytes, int64_t now_ns);

#endif
