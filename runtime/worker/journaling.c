#include "runtime/worker/journaling.h"

#include <errno.h>
#include <string.h>

#include "runtime/base/check.h"
#include "runtime/worker/worker.h"

/* An entry; then come the marks, then the records, and zeros up to a multiple of 8. */
struct form {
    struct rml_journal_entry entry;
    struct rml_step step;
    uint64_t record;
    uint32_t mark_count, record_bytes;
};

_Static_assert(sizeof(struct form) == 56, "no byte of it is padding");
_Static_assert(sizeof(struct rml_mark) == 16, "marks lie in entries as they are");

bool rml_journaling_counts(const struct rml_plan *plan, const struct rml_partition *partition,
                           const struct rml_step *step)
{
    if (!plan->journals)
        return false;
    switch ((enum rml_step_kind)step->kind) {
    case RML_STEP_TICK:
        return true;
    case RML_STEP_END:
        return false;
    case RML_STEP_ATTACH:
        return step->count < plan->source_count && plan->sources[step->count].journal;
    case RML_STEP_BATCH:
    case RML_STEP_DETACH:
        return plan->sources[rml_partition_lane(partition, step->lane).source].journal;
    }
    return false;
}

static void give(struct rml_journaling *j)
{
    const struct rml_journal_load load = {
        .bytes = j->used, .steps = j->steps, .records = j->records};
    rml_journal_queue_give(j->queue, j->given++, load);
    j->used = j->steps = j->records = 0;
}

static uint32_t rows_that_fit(const struct rml_journaling *j, uint32_t record_bytes)
{
    if (j->given - j->taken >= RML_JOURNAL_QUEUE_BUFFERS)
        return 0;
    uint32_t left = RML_JOURNAL_BLOCK_BYTES - j->used;
    if (left < sizeof(struct form) + 8)
        return 0;
    left -= (uint32_t)sizeof(struct form) + 8;
    return record_bytes > 0 ? left / (record_bytes + (uint32_t)sizeof(struct rml_mark)) : 1;
}

uint32_t rml_journaling_room(struct rml_journaling *j, uint32_t record_bytes, uint32_t want)
{
    uint32_t rows = rows_that_fit(j, record_bytes);
    // Small rests of a buffer make small steps: then rather the next one.
    uint32_t enough = want < 32 ? want : 32;
    if (rows < enough && j->used > 0) {
        give(j);
        rows = rows_that_fit(j, record_bytes);
    }
    return rows < want ? rows : want;
}

// Field by field: what pads a mark is no stranger's memory.
static unsigned char *put_marks(unsigned char *at, const struct rml_step_input *input)
{
    for (uint32_t i = 0; i < input->mark_count; i++) {
        struct rml_mark mark;
        memset(&mark, 0, sizeof mark);
        mark.row = input->marks[i].row;
        mark.time = input->marks[i].time;
        memcpy(at, &mark, sizeof mark);
        at += sizeof mark;
    }
    return at;
}

void rml_journaling_put(struct rml_journaling *j, struct rml_own *own, const struct rml_step *step,
                        const struct rml_step_input *input, uint32_t record_bytes, uint64_t record,
                        int64_t now_ns)
{
    bool is_batch = step->kind == RML_STEP_BATCH;
    uint32_t rows = is_batch ? step->count : 0;
    uint32_t marks = rows > 0 ? input->mark_count : 0;
    uint32_t bytes = (uint32_t)sizeof(struct form) + marks * (uint32_t)sizeof(struct rml_mark)
                     + rows * record_bytes;
    bytes = (bytes + 7) / 8 * 8;
    RML_CHECK(j->given - j->taken < RML_JOURNAL_QUEUE_BUFFERS
              && bytes <= RML_JOURNAL_BLOCK_BYTES - j->used);
    unsigned char *at = rml_journal_queue_buffer(j->queue, j->given) + j->used;
    const struct form form = {
        .entry = {.bytes = bytes,
                  .partition = own->index,
                  .position = own->journaled + own->queued},
        .step = *step,
        .record = record,
        .mark_count = marks,
        .record_bytes = record_bytes,
    };
    memset(at + bytes - 8, 0, 8);
    memcpy(at, &form, sizeof form);
    at += sizeof form;
    if (rows > 0) {
        at = put_marks(at, input);
        memcpy(at, input->records, (size_t)rows * record_bytes);
    }
    if (j->used == 0)
        j->since_ns = now_ns;
    j->used += bytes;
    j->steps++;
    j->records += rows;
    own->queued++;
}

bool rml_journaling_give(struct rml_journaling *j, int64_t now_ns, int64_t delay_ns)
{
    if (j->queue == NULL || j->used == 0 || now_ns - j->since_ns < delay_ns
        || rml_journal_queue_durable(j->queue) < j->given)
        return false;
    give(j);
    return true;
}

bool rml_journaling_is_empty(const struct rml_journaling *j)
{
    return j->queue == NULL || (j->used == 0 && j->taken == j->given);
}

bool rml_journaling_has_news(const struct rml_journaling *j)
{
    return j->queue != NULL && rml_journal_queue_durable(j->queue) > j->taken;
}

bool rml_journaling_next(struct rml_journaling *j, struct rml_journaled *ret_journaled)
{
    if (j->entry_at == 0 && !rml_journaling_has_news(j))
        return false;
    if (j->entry_at == rml_journal_queue_load(j->queue, j->taken).bytes) {
        j->entry_at = 0;
        j->taken++;
        return false;
    }
    const struct rml_journal_entry *entry =
        (const void *)(rml_journal_queue_buffer(j->queue, j->taken) + j->entry_at);
    RML_CHECK(rml_journaling_read(entry, ret_journaled) == 0);
    j->entry_at += entry->bytes;
    return true;
}

static bool marks_can_be(const struct rml_mark *marks, uint32_t count, uint32_t rows)
{
    for (uint32_t i = 0; i < count; i++) {
        if (marks[i].row >= rows || (i > 0 && marks[i].row <= marks[i - 1].row))
            return false;
    }
    return true;
}

int rml_journaling_read(const struct rml_journal_entry *entry, struct rml_journaled *ret_journaled)
{
    const struct form *form = (const void *)entry;
    if (entry->bytes < sizeof *form)
        return -EPROTO;
    uint32_t rows = form->step.kind == RML_STEP_BATCH ? form->step.count : 0;
    if (rows > RML_WORKER_STEP_ROWS || form->mark_count > rows
        || form->record_bytes > RML_RING_CELL_MAX)
        return -EPROTO;
    size_t bytes = sizeof *form + form->mark_count * sizeof(struct rml_mark)
                   + (size_t)rows * form->record_bytes;
    const struct rml_mark *marks = (const void *)(form + 1);
    if ((bytes + 7) / 8 * 8 != entry->bytes || !marks_can_be(marks, form->mark_count, rows))
        return -EPROTO;
    *ret_journaled = (struct rml_journaled){
        .partition = entry->partition,
        .position = entry->position,
        .step = form->step,
        .record = form->record,
        .record_bytes = form->record_bytes,
        .input = {.records = marks + form->mark_count,
                  .marks = marks,
                  .mark_count = form->mark_count},
    };
    return 0;
}
