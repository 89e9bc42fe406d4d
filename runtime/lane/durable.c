#include "runtime/lane/durable.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

int rml_durable_open(struct rml_durable *d, uint32_t partitions)
{
    uint64_t *positions = calloc((size_t)RML_DURABLE_NOTES * partitions, sizeof *positions);
    if (positions == NULL)
        return -ENOMEM;
    *d = (struct rml_durable){.partitions = partitions, .stride = 1, .positions = positions};
    return 0;
}

void rml_durable_close(struct rml_durable *d)
{
    free(d->positions);
    d->positions = NULL;
}

static uint32_t place_of(const struct rml_durable *d, uint32_t note)
{
    return (d->first + note) % RML_DURABLE_NOTES;
}

static uint64_t *positions_of(const struct rml_durable *d, uint32_t note)
{
    return d->positions + (size_t)place_of(d, note) * d->partitions;
}

// The newest stays.
static void thin_out(struct rml_durable *d)
{
    for (uint32_t i = 0; i < d->count / 2; i++) {
        d->records[place_of(d, i)] = d->records[place_of(d, 2 * i + 1)];
        memcpy(positions_of(d, i), positions_of(d, 2 * i + 1),
               d->partitions * sizeof *d->positions);
    }
    d->count /= 2;
}

static uint64_t *note(struct rml_durable *d, uint64_t records)
{
    d->passed = 0;
    d->records[place_of(d, d->count)] = records;
    return positions_of(d, d->count++);
}

uint64_t *rml_durable_publish(struct rml_durable *d, uint64_t records)
{
    if (++d->passed < d->stride)
        return NULL;
    if (d->count == RML_DURABLE_NOTES) {
        thin_out(d);
        d->stride *= 2;
    }
    return note(d, records);
}

uint64_t *rml_durable_note_last(struct rml_durable *d, uint64_t records)
{
    return d->count == 0 && records > d->known ? note(d, records) : NULL;
}

static bool has_passed(const struct rml_durable *d, uint32_t note, const uint64_t *positions)
{
    const uint64_t *noted = positions_of(d, note);
    for (uint32_t p = 0; p < d->partitions; p++) {
        if ((int64_t)(positions[p] - noted[p]) < 0)
            return false;
    }
    return true;
}

uint64_t rml_durable_look(struct rml_durable *d, const uint64_t *positions)
{
    while (d->count > 0 && has_passed(d, 0, positions)) {
        d->known = d->records[d->first];
        d->first = place_of(d, 1);
        d->count--;
        if (d->count == RML_DURABLE_NOTES / 4 && d->stride > 1)
            d->stride /= 2;
    }
    return d->known;
}

void rml_durable_are_all(struct rml_durable *d, uint64_t records)
{
    d->known = records;
    d->count = d->passed = 0;
    d->stride = 1;
}
