#include "runtime/worker/saving.h"

#include <string.h>

#include "runtime/base/check.h"
#include "runtime/lane/lane_in.h"

#define ROUND_GRANULES RML_PAGE_GRANULES     // copied in one round: a few microseconds
#define ROUND_BYTES    (4 * RML_PAGE_BYTES)  // a round never fills more

static void give(struct rml_saving *s, bool is_last)
{
    const struct rml_handover_message message = {
        .buffer = s->buffer,
        .bytes = s->used,
        .partition = s->own[s->at].index,
        .is_first = s->is_first,
        .needs = s->needs,
        .number = s->number,
        .is_last = is_last,
        .taken = s->own[s->at].noted_taken,
        .journaled = s->own[s->at].noted_journaled,
    };
    rml_handover_give(s->handover, &message);
    s->buffer = NULL;
    s->used = 0;
    s->is_first = false;
}

static void *get_buffer(struct rml_saving *s)
{
    void *buffer = rml_handover_room(s->handover);
    if (buffer == NULL && s->reserved > 0)
        buffer = s->reserve[--s->reserved];
    return buffer != NULL ? buffer : rml_handover_wait(s->handover);
}

static void put(void *context, const void *bytes, size_t count)
{
    struct rml_saving *s = context;
    const unsigned char *from = bytes;
    while (count > 0) {
        if (s->buffer == NULL)
            s->buffer = get_buffer(s);
        size_t fits = RML_HANDOVER_BYTES - s->used;
        fits = fits < count ? fits : count;
        memcpy(s->buffer + s->used, from, fits);
        s->used += (uint32_t)fits;
        from += fits;
        count -= fits;
        if (s->used == RML_HANDOVER_BYTES)
            give(s, false);
    }
}

static void note_lanes(struct rml_saving *s)
{
    struct rml_own *own = &s->own[s->at];
    for (uint32_t i = 0; i < s->lanes->count; i++) {
        struct rml_worker_lane *lane = &s->lanes->lanes[s->lanes->used[i]];
        const struct rml_partition_lane seen = rml_partition_lane(own->partition, lane->number);
        // With a journal its ATTACH may be on its way, and the partition knows a former lane of that number.
        if (seen.serial == lane->serial)
            lane->parts[s->at].noted = seen.taken;
    }
    own->noted_steps = rml_partition_steps(own->partition);
    for (uint32_t i = 0; i < RML_SOURCES_MAX; i++)
        own->noted_taken[i] = rml_partition_taken(own->partition, i);
    own->noted_journaled = own->journaled;
}

void rml_saving_begin(struct rml_saving *s, uint64_t number)
{
    RML_CHECK(s->handover != NULL && !s->is_open);
    s->is_open = true;
    s->wanted = false;
    s->number = number;
    s->at = 0;
    s->begun = false;
}

static bool has_reserve(struct rml_saving *s)
{
    uint32_t wanted = s->handover->buffers / 2;
    wanted = wanted < RML_SAVING_RESERVE ? wanted : RML_SAVING_RESERVE;
    while (s->reserved < wanted) {
        void *buffer = rml_handover_room(s->handover);
        if (buffer == NULL)
            return false;
        s->reserve[s->reserved++] = buffer;
    }
    return true;
}

// A buffer, as long as waiting for one is not needed.
static bool has_room(struct rml_saving *s)
{
    if (!has_reserve(s))
        return false;
    if (s->buffer != NULL && RML_HANDOVER_BYTES - s->used >= ROUND_BYTES)
        return true;
    if (s->buffer != NULL)
        give(s, false);
    s->buffer = rml_handover_room(s->handover);
    return s->buffer != NULL;
}

bool rml_saving_round(struct rml_saving *s)
{
    if (!s->is_open || !has_room(s))
        return false;
    struct rml_partition *partition = s->own[s->at].partition;
    if (!s->begun) {
        note_lanes(s);
        rml_writer_mark(s->writer, s->worker, s->own[s->at].index);
        const struct rml_snapshot_sink sink = {.put = put, .context = s};
        s->is_first = true;
        rml_partition_snapshot(partition, s->number, &sink, &s->needs);
        s->begun = true;
    } else if (!rml_partition_copy(partition, ROUND_GRANULES)) {
        if (s->buffer == NULL)
            s->buffer = get_buffer(s);
        give(s, true);
        s->begun = false;
        s->is_open = ++s->at < s->own_count;
    }
    return true;
}

void rml_saving_durable(struct rml_saving *s)
{
    for (uint32_t i = 0; i < s->lanes->count; i++) {
        struct rml_worker_lane *lane = &s->lanes->lanes[s->lanes->used[i]];
        for (uint32_t p = 0; p < s->own_count; p++) {
            struct rml_worker_lane_part *part = &lane->parts[p];
            if (part->noted == part->released)
                continue;
            // First: whoever comes after a death in between has nothing to release, and would not tell.
            rml_lane_in_durable(lane->in, s->own[p].index, part->noted);
            rml_lane_in_release(lane->in, s->own[p].index,
                                (uint32_t)(part->noted - part->released));
            part->released = part->noted;
        }
    }
    for (uint32_t p = 0; p < s->own_count; p++) {
        s->own[p].durable_steps = s->own[p].noted_steps;
        s->own[p].was_held_up = false;
    }
}

void rml_saving_abandon(struct rml_saving *s)
{
    RML_CHECK(!s->is_open);
    for (uint32_t p = 0; p < s->own_count; p++)
        rml_partition_abandon(s->own[p].partition);
}

void rml_saving_stepped(struct rml_saving *s, uint32_t own)
{
    const struct rml_schedule *schedule = &s->own[own].schedule;
    bool is_half = schedule->position - s->own[own].durable_steps > schedule->capacity / 2;
    s->wanted_for_schedule = s->wanted ? s->wanted_for_schedule : is_half;
    s->wanted |= is_half;
}

void rml_saving_took(struct rml_saving *s, struct rml_worker_lane *lane, uint32_t own,
                     uint32_t rows)
{
    struct rml_worker_lane_part *part = &lane->parts[own];
    part->taken += rows;
    uint64_t cells = rml_lane_in_geometry(lane->in)->cells, held = part->taken - part->released;
    rml_saving_stepped(s, own);
    s->wanted |= held > cells / 2;
    if (held < cells || held - rows >= cells)
        return;
    s->is_full = true;
    s->full_source = lane->source;
}

void rml_saving_held_up(struct rml_saving *s, struct rml_own *own)
{
    if (own->was_held_up)
        return;
    own->was_held_up = true;
    s->is_full = true;
    s->full_source = UINT32_MAX;
}
