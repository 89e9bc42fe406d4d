#include "runtime/worker/undo.h"

#include <stdalign.h>
#include <stdatomic.h>
#include <string.h>

#include "runtime/base/check.h"

struct rml_undo_head {
    // 0: not valid, else lane + 1, NO_LANE + 1 where there is none
    alignas(64) _Atomic uint64_t lane;
    uint64_t position;
    alignas(64) unsigned char counts[];  // of the stages, then of the sources
};

size_t rml_undo_bytes(uint32_t stage_count, uint32_t source_count)
{
    return sizeof(struct rml_undo_head) + stage_count * sizeof(struct rml_stage_counts)
           + source_count * sizeof(struct rml_source_counts);
}

void rml_undo_attach(struct rml_undo *undo, void *memory, uint32_t stage_count,
                     uint32_t source_count, struct rml_stage_counts *stages,
                     struct rml_source_counts *sources)
{
    RML_CHECK((uintptr_t)memory % 64 == 0);
    *undo = (struct rml_undo){memory, stage_count, source_count, stages, sources};
}

// By whoever alone writes the counters, so they can be copied as bytes: for four stages a step then costs 44 ns
// more than without, and word by word 262.
static void copy(const struct rml_undo *undo, bool back)
{
    size_t stage_bytes = undo->stage_count * sizeof *undo->stages;
    size_t source_bytes = undo->source_count * sizeof *undo->sources;
    unsigned char *kept = undo->head->counts;
    if (back) {
        memcpy(undo->stages, kept, stage_bytes);
        memcpy(undo->sources, kept + stage_bytes, source_bytes);
    } else {
        memcpy(kept, undo->stages, stage_bytes);
        memcpy(kept + stage_bytes, undo->sources, source_bytes);
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
