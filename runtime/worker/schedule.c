#include "runtime/worker/schedule.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/check.h"

#define MAGIC UINT64_C(0x31656c7564686373)  // says also which version it is

_Static_assert(sizeof(struct rml_schedule_head) == 128, "steps begin on a line of their own");

size_t rml_schedule_bytes(uint32_t capacity)
{
    size_t bytes = sizeof(struct rml_schedule_head) + (size_t)capacity * sizeof(struct rml_step);
    return (bytes + 63) / 64 * 64;
}

static void begin(struct rml_schedule_head *head, uint32_t capacity, uint64_t position)
{
    head->capacity = capacity;
    head->step_bytes = (uint32_t)sizeof(struct rml_step);
    head->first = position;
    // relaxed: nobody looks here before the engine has died
    atomic_store_explicit(&head->position, position, memory_order_relaxed);
    // release: schedule.steps
    atomic_store_explicit(&head->magic, MAGIC, memory_order_release);
}

int rml_schedule_open(struct rml_schedule *schedule, void *memory, uint32_t capacity,
                      uint64_t position)
{
    RML_CHECK(capacity > 0 && (capacity & (capacity - 1)) == 0);
    *schedule = (struct rml_schedule){.capacity = capacity};
    if (memory == NULL) {
        memory = schedule->own = aligned_alloc(64, rml_schedule_bytes(capacity));
        if (memory == NULL)
            return -ENOMEM;
        memset(memory, 0, rml_schedule_bytes(capacity));
    }
    schedule->head = memory;
    schedule->steps = (void *)(schedule->head + 1);
    // acquire: schedule.steps
    if (atomic_load_explicit(&schedule->head->magic, memory_order_acquire) == 0)
        begin(schedule->head, capacity, position);
    // acquire: schedule.steps
    uint64_t magic = atomic_load_explicit(&schedule->head->magic, memory_order_acquire);
    if (magic != MAGIC || schedule->head->capacity != capacity
        || schedule->head->step_bytes != sizeof(struct rml_step))
        return -EPROTO;
    // acquire: schedule.steps
    schedule->position = atomic_load_explicit(&schedule->head->position, memory_order_acquire);
    return 0;
}

// An engine that dies in here leaves memory that nobody has begun.
void rml_schedule_begin(struct rml_schedule *schedule, uint64_t position)
{
    // acquire: schedule.steps release: schedule.steps
    atomic_exchange_explicit(&schedule->head->magic, 0, memory_order_acq_rel);
    begin(schedule->head, schedule->capacity, position);
    schedule->position = position;
}

void rml_schedule_close(struct rml_schedule *schedule)
{
    free(schedule->own);
    *schedule = (struct rml_schedule){0};
}

void rml_schedule_append(struct rml_schedule *schedule, const struct rml_step *step)
{
    schedule->steps[schedule->position++ & (schedule->capacity - 1)] = *step;
    // release: schedule.steps
    atomic_store_explicit(&schedule->head->position, schedule->position, memory_order_release);
}

const struct rml_step *rml_schedule_at(const struct rml_schedule *schedule, uint64_t position)
{
    if (position < schedule->head->first || position >= schedule->position
        || schedule->position - position > schedule->capacity)
        return NULL;
    return &schedule->steps[position & (schedule->capacity - 1)];
}
