#include "runtime/worker/undo.h"

#include <stdalign.h>
#include <stdatomic.h>

#include "runtime/base/check.h"

struct rml_undo_head {
    alignas(
        64) _Atomic uint64_t lane;  // 0: not valid, else lane + 1, NO_LANE + 1 where there is none
    uint64_t position;
    alignas(64) _Atomic uint64_t counts[];  // of the stages, then of the sources
};

static uint32_t count_words(uint32_t stage_count, uint32_t source_count)
{
    return stage_count * RML_STAGE_COUNTERS + source_count * RML_SOURCE_COUNTERS;
}

size_t rml_undo_bytes(uint32_t stage_count, uint32_t source_count)
{
    size_t bytes =
        sizeof(struct rml_undo_head) + count_words(stage_count, source_count) * sizeof(uint64_t);
    return (bytes + 63) / 64 * 64;
}

void rml_undo_attach(struct rml_undo *undo, void *memory, uint32_t stage_count,
                     uint32_t source_count, struct rml_stage_counts *stages,
                     struct rml_source_counts *sources)
{
    RML_CHECK((uintptr_t)memory % 64 == 0);
    *undo = (struct rml_undo){memory, stage_count, source_count, stages, sources};
}

// Copy every counter one way or the other.
static void copy(const struct rml_undo *undo, bool back)
{
    _Atomic uint64_t *kept = undo->head->counts;
    for (uint32_t s = 0; s < undo->stage_count; s++) {
        for (uint32_t c = 0; c < RML_STAGE_COUNTERS; c++, kept++) {
            _Atomic uint64_t *count = &undo->stages[s].value[c];
            rml_count_set(back ? count : kept, rml_count_read(back ? kept : count));
        }
    }
    for (uint32_t s = 0; s < undo->source_count; s++) {
        for (uint32_t c = 0; c < RML_SOURCE_COUNTERS; c++, kept++) {
            _Atomic uint64_t *count = &undo->sources[s].value[c];
            rml_count_set(back ? count : kept, rml_count_read(back ? kept : count));
        }
    }
}

void rml_undo_begin(const struct rml_undo *undo, uint32_t lane, uint64_t position)
{
    if (undo->head == NULL)
        return;
    copy(undo, false);
    undo->head->position = position;
    // acquire: undo.step release: undo.step
    atomic_exchange_explicit(&undo->head->lane, (uint64_t)lane + 1, memory_order_acq_rel);
}

void rml_undo_end(const struct rml_undo *undo)
{
    if (undo->head != NULL) {
        // acquire: undo.step release: undo.step
        atomic_exchange_explicit(&undo->head->lane, 0, memory_order_acq_rel);
    }
}

bool rml_undo_look(const struct rml_undo *undo, uint32_t *ret_lane, uint64_t *ret_position)
{
    if (undo->head == NULL)
        return false;
    // acquire: undo.step
    uint64_t lane = atomic_load_explicit(&undo->head->lane, memory_order_acquire);
    if (lane == 0)
        return false;
    *ret_lane = (uint32_t)(lane - 1);
    *ret_position = undo->head->position;
    return true;
}

void rml_undo_back(const struct rml_undo *undo)
{
    copy(undo, true);
}
