#include "runtime/worker/schedule.h"

#include <errno.h>
#include <stdlib.h>

#include "runtime/base/check.h"

int rml_schedule_open(struct rml_schedule *schedule, uint32_t capacity)
{
    RML_CHECK(capacity > 0 && (capacity & (capacity - 1)) == 0);
    *schedule = (struct rml_schedule){.capacity = capacity};
    schedule->steps = calloc(capacity, sizeof *schedule->steps);
    return schedule->steps != NULL ? 0 : -ENOMEM;
}

void rml_schedule_close(struct rml_schedule *schedule)
{
    free(schedule->steps);
    *schedule = (struct rml_schedule){0};
}

void rml_schedule_append(struct rml_schedule *schedule, const struct rml_step *step)
{
    schedule->steps[schedule->position++ & (schedule->capacity - 1)] = *step;
}

const struct rml_step *rml_schedule_at(const struct rml_schedule *schedule, uint64_t position)
{
    if (position >= schedule->position || schedule->position - position > schedule->capacity)
        return NULL;
    return &schedule->steps[position & (schedule->capacity - 1)];
}
