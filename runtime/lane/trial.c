#include "runtime/lane/trial.h"

#define SLICES (2 * RML_RING_VARIANTS)

void rml_trial_init(struct rml_trial *trial, bool can_stage, bool can_flush)
{
    *trial = (struct rml_trial){.current = RML_RING_PLAIN};
    trial->usable[RML_RING_PLAIN] = true;
    trial->usable[RML_RING_STAGED] = can_stage;
    trial->usable[RML_RING_FLUSH] = can_flush;
}

static void begin_span(struct rml_trial *trial, int64_t now_ns)
{
    trial->since_ns = now_ns;
    trial->bytes = 0;
}

// Go to the next slice of a way that can be used; false when all were had.
static bool next_slice(struct rml_trial *trial)
{
    while (++trial->slice < SLICES) {
        enum rml_ring_variant variant = (enum rml_ring_variant)(trial->slice % RML_RING_VARIANTS);
        if (trial->usable[variant]) {
            trial->current = variant;
            return true;
        }
    }
    return false;
}

static void end_trial(struct rml_trial *trial, int64_t now_ns)
{
    // In place and in plain is what costs neither side anything, so another way has to be better by
    // more than the noise.
    enum rml_ring_variant kept = RML_RING_PLAIN;
    uint64_t bar = trial->best[RML_RING_PLAIN] + trial->best[RML_RING_PLAIN] / 20;
    for (int v = RML_RING_PLAIN + 1; v < RML_RING_VARIANTS; v++) {
        if (trial->best[v] > bar) {
            kept = (enum rml_ring_variant)v;
            bar = trial->best[v];
        }
    }
    trial->current = kept;
    trial->kept_rate = trial->best[kept];
    trial->slow_spans = 0;
    trial->trying = false;
    trial->quiet_until_ns = now_ns + RML_TRIAL_QUIET_NS;
}

static void watch(struct rml_trial *trial, uint64_t rate, int64_t now_ns)
{
    if (rate < (uint64_t)RML_TRIAL_BUSY_PER_US * 1000) {
        trial->slow_spans = 0;
        return;
    }
    bool slow = rate < trial->kept_rate - trial->kept_rate / 3;
    trial->slow_spans = slow ? trial->slow_spans + 1 : 0;
    bool due = trial->trials == 0 || (trial->slow_spans >= 3 && now_ns >= trial->quiet_until_ns);
    if (!due)
        return;
    trial->trials++;
    trial->trying = true;
    trial->slice = 0;
    trial->current = RML_RING_PLAIN;
    for (int v = 0; v < RML_RING_VARIANTS; v++)
        trial->best[v] = 0;
}

enum rml_ring_variant rml_trial_note(struct rml_trial *trial, uint64_t bytes, int64_t now_ns)
{
    if (!trial->started) {
        trial->started = true;
        begin_span(trial, now_ns);
        return trial->current;
    }
    trial->bytes += bytes;
    int64_t span_ns = now_ns - trial->since_ns;
    if (span_ns < (trial->trying ? RML_TRIAL_SLICE_NS : RML_TRIAL_SPAN_NS))
        return trial->current;

    uint64_t rate = trial->bytes * 1000 / ((uint64_t)span_ns / 1000);
    if (!trial->trying) {
        watch(trial, rate, now_ns);
    } else {
        if (rate > trial->best[trial->current])
            trial->best[trial->current] = rate;
        if (!next_slice(trial))
            end_trial(trial, now_ns);
    }
    begin_span(trial, now_ns);
    return trial->current;
}
