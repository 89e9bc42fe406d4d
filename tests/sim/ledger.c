#include "tests/sim/ledger.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "operators/registry.h"
#include "runtime/base/check.h"
#include "runtime/base/err.h"
#include "runtime/base/hash.h"
#include "runtime/checkpoint/checkpoints.h"
#include "runtime/control/board.h"
#include "runtime/control/kept.h"
#include "runtime/keeper/keeping.h"
#include "runtime/partition/partition.h"
#include "runtime/plan/plan.h"
#include "runtime/record/text.h"
#include "runtime/ring/broadcast.h"
#include "runtime/table/results.h"
#include "runtime/time/time.h"
#include "runtime/worker/again.h"
#include "runtime/worker/schedule.h"
#include "runtime/worker/worker.h"
#include "tests/sim/judge.h"
#include "tests/sim/keeper.h"
#include "tests/sim/log.h"
#include "tests/sim/producers.h"
#include "tests/sim/sim.h"

#define LANES_MOST 16u  // numbers are below
#define FILES      2

struct bytes {
    unsigned char *at;
    size_t used, room;
};

/* Rows of one output of one partition, by number. */
struct rows {
    struct bytes bytes;  // each row_bytes long
    uint64_t count;
    bool may_shrink;  // nothing has come since the rings were new
};

struct part {
    struct rml_step *steps;
    uint64_t count, room;
    bool is_known;          // its schedule, in this life
    uint64_t floor, begun;  // steps that a restart finds; that the open checkpoint will cover
};

static struct {
    const struct rml_plan *plan;
    uint32_t output_count;
    struct rml_output outputs[RML_OUTPUTS_MAX];
    struct part parts[PARTITIONS_MOST];
    struct rows seen[RML_OUTPUTS_MAX][PARTITIONS_MOST];
    struct rows right[RML_OUTPUTS_MAX][PARTITIONS_MOST];  // the oracle's
    struct rml_broadcast_in readers[RML_OUTPUTS_MAX][PARTITIONS_MOST];

    struct sleeper {
        struct rml_broadcast_in in;
        uint64_t until;  // this turn it sleeps
    } sleepers[RML_OUTPUTS_MAX][PARTITIONS_MOST];

    bool rings_are_up;
    bool is_settled;  // schedules are where the engine goes on
    // as the last engine left them, by partition
    struct rml_stage_counts *stage_counts;
    struct rml_source_counts *source_counts;
    uint64_t lost[RML_SINKS_MAX];  // rows, of a file that failed
} l;

static uint64_t steps_of_all, records_of_all;

static void put_bytes(struct bytes *to, const void *from, size_t count)
{
    if (to->used + count > to->room) {
        to->room = 2 * (to->used + count) + 4096;
        to->at = realloc(to->at, to->room);
        RML_CHECK(to->at != NULL);
    }
    memcpy(to->at + to->used, from, count);
    to->used += count;
}

static uint32_t row_bytes(uint32_t output)
{
    return (uint32_t)sizeof(struct rml_result_row) + l.outputs[output].row_bytes;
}

static const struct rml_result_row *row_at(const struct rows *rows, uint32_t output,
                                           uint64_t number)
{
    const void *at = rows->bytes.at + number * row_bytes(output);
    return at;
}

static const char *output_name(uint32_t output)
{
    static char name[RML_NAME_MAX + 8];
    snprintf(name, sizeof name, "%s%s", l.plan->stages[l.outputs[output].stage].name,
             l.outputs[output].late ? ".late" : "");
    return name;
}

static const struct rml_schema *schema_of(uint32_t output)
{
    const struct rml_plan_stage *stage = &l.plan->stages[l.outputs[output].stage];
    return l.outputs[output].late ? &l.plan->sources[stage->source].schema : &stage->output;
}

static void print_row(const char *whose, uint32_t output, const struct rml_result_row *row)
{
    static char text[40000];
    const struct rml_text_options options = {0};
    uint32_t length =
        rml_text_row_json(schema_of(output), row->record, &options, text, sizeof text);
    printf("%s: row %llu, fire %lld: %.*s", whose, (unsigned long long)row->seq,
           (long long)row->fire, (int)length, text);
}

void ledger_plan(const struct rml_plan *plan)
{
    l.plan = plan;
    l.output_count = rml_outputs_list(plan, l.outputs);
}

void ledger_begin(const struct rml_plan *plan)
{
    memset(&l, 0, sizeof l);
    ledger_plan(plan);
}

void ledger_end(void)
{
    free(l.stage_counts);
    free(l.source_counts);
    for (uint32_t p = 0; p < PARTITIONS_MOST; p++) {
        free(l.parts[p].steps);
        for (uint32_t o = 0; o < l.output_count; o++) {
            free(l.seen[o][p].bytes.at);
            free(l.right[o][p].bytes.at);
        }
    }
}

/* Steps */

void ledger_new_life(void)
{
    l.rings_are_up = false;
    for (uint32_t p = 0; p < l.plan->partitions; p++) {
        l.parts[p].is_known = false;
        // what was taken had been in the journal
        if (l.plan->journals)
            l.parts[p].floor = l.parts[p].count;
        for (uint32_t o = 0; o < l.output_count; o++)
            l.seen[o][p].may_shrink = !l.plan->journals;
    }
}

void ledger_engine_begins(void)
{
    l.is_settled = false;
}

static void put_step(struct part *part, const struct rml_step *step)
{
    if (part->count == part->room) {
        part->room = 2 * part->room + 1024;
        part->steps = realloc(part->steps, part->room * sizeof *part->steps);
        RML_CHECK(part->steps != NULL);
    }
    part->steps[part->count++] = *step;
    sim_mix((uint64_t)step->kind << 48 | (uint64_t)step->lane << 32 | step->count);
    sim_mix((uint64_t)step->time);
    steps_of_all++;
    records_of_all += step->kind == RML_STEP_BATCH ? step->count : 0;
}

static void know_schedule(uint32_t p, const struct rml_schedule_head *head)
{
    struct part *part = &l.parts[p];
    uint64_t least = l.plan->journals ? part->count : part->floor;
    if (head->first > part->count || head->first < least)
        sim_fail("partition %u goes on at step %llu; it took %llu, and %llu were durable", p,
                 (unsigned long long)head->first, (unsigned long long)part->count,
                 (unsigned long long)least);
    if (part->count > 0)
        sim_say("partition %u: goes on at step %llu of %llu", p, (unsigned long long)head->first,
                (unsigned long long)part->count);
    part->is_known = true;
    part->count = head->first;
    part->begun = part->floor;
}

static bool look_at_schedule(uint32_t p)
{
    const struct rml_kept *kept = keeper_find(RML_KEPT_ID(RML_KEPT_SCHEDULE, p));
    const struct rml_schedule_head *head = kept != NULL ? kept->memory : NULL;
    struct part *part = &l.parts[p];
    bool is_settled = l.is_settled || part->is_known || !l.plan->journals;
    if (head == NULL || head->magic == 0 || !is_settled)
        return false;
    if (!part->is_known)
        know_schedule(p, head);
    const struct rml_step *ring = (const void *)(head + 1);
    // relaxed: one thread
    uint64_t position = atomic_load_explicit(&head->position, memory_order_relaxed);
    bool any = position > part->count;
    if (position < part->count && !l.is_settled)
        return false;  // where nothing was taken yet it begins anew behind what the journal has
    if (position < part->count || position - part->count > head->capacity)
        sim_fail("partition %u: its schedule has gone from step %llu to %llu", p,
                 (unsigned long long)part->count, (unsigned long long)position);
    while (part->count < position)
        put_step(part, &ring[part->count & (head->capacity - 1)]);
    return any;
}

static struct rml_broadcast_shape shape_of(uint32_t output)
{
    uint32_t rows = 0;
    for (uint32_t s = 0; s < l.plan->sink_count; s++) {
        const struct rml_plan_sink *sink = &l.plan->sinks[s];
        for (uint32_t i = 0; sink->kind == RML_SINK_RING && i < sink->from_count; i++) {
            if (sink->from[i].stage == l.outputs[output].stage
                && sink->from[i].late == l.outputs[output].late)
                rows = sink->rows;
        }
    }
    return (struct rml_broadcast_shape){row_bytes(output), rows};
}

// Before the first row is put into them: what is gone then was missed.
static void attach_readers(void)
{
    if (l.rings_are_up)
        return;
    l.rings_are_up = true;
    for (uint32_t o = 0; o < l.output_count; o++) {
        const struct rml_kept *kept = keeper_find(RML_KEPT_ID(RML_KEPT_RING, o));
        struct rml_broadcast_shape shape = shape_of(o);
        RML_CHECK(kept != NULL && shape.row_count > 0);
        for (uint32_t p = 0; p < l.plan->partitions; p++) {
            const unsigned char *ring =
                (unsigned char *)kept->memory + p * rml_broadcast_bytes(shape);
            rml_broadcast_attach_in(&l.readers[o][p], ring, shape, 1);
            rml_broadcast_attach_in(&l.sleepers[o][p].in, ring, shape, 1);
        }
    }
}

/* What the journal brings: steps that were taken, in their places, and then those that were not. These stand before the
 * real ones. */

int __real_rml_again_feed(struct rml_own *own, const struct rml_plan *plan,
                          const struct rml_journaled *journaled, struct rml_err *err);
int __wrap_rml_again_feed(struct rml_own *own, const struct rml_plan *plan,
                          const struct rml_journaled *journaled, struct rml_err *err);
int __real_rml_worker_start(struct rml_worker *worker, struct rml_err *err);
int __wrap_rml_worker_start(struct rml_worker *worker, struct rml_err *err);

static void take_entry(uint32_t p, uint64_t number, const struct rml_step *step)
{
    struct part *part = &l.parts[p];
    if (number > part->count)
        sim_fail("partition %u: the journal goes on at step %llu; it took %llu", p,
                 (unsigned long long)number, (unsigned long long)part->count);
    if (number == part->count) {
        sim_count(SIM_journal_brings_more);
        put_step(part, step);
    } else if (memcmp(&part->steps[number], step, sizeof *step) != 0) {
        sim_fail("partition %u: the journal has another step %llu than it took", p,
                 (unsigned long long)number);
    }
}

int __wrap_rml_again_feed(struct rml_own *own, const struct rml_plan *plan,
                          const struct rml_journaled *journaled, struct rml_err *err)
{
    bool was = sim_go_outside();
    attach_readers();
    sim_go_back(was);
    uint64_t before = rml_partition_steps(own->partition);
    int rc = __real_rml_again_feed(own, plan, journaled, err);
    if (rc == 0 && rml_partition_steps(own->partition) > before) {
        was = sim_go_outside();
        take_entry(own->index, before, &journaled->step);
        sim_go_back(was);
    }
    return rc;
}

static void settle(void)
{
    attach_readers();
    l.is_settled = true;
    for (uint32_t p = 0; p < l.plan->partitions; p++)
        (void)look_at_schedule(p);
}

int __wrap_rml_worker_start(struct rml_worker *worker, struct rml_err *err)
{
    bool was = sim_go_outside();
    if (!l.is_settled)
        settle();
    sim_go_back(was);
    return __real_rml_worker_start(worker, err);
}

void ledger_checkpoint_begins(void)
{
    for (uint32_t p = 0; p < l.plan->partitions; p++)
        l.parts[p].begun = l.parts[p].is_known ? l.parts[p].count : l.parts[p].floor;
}

void ledger_checkpoint_is_durable(void)
{
    for (uint32_t p = 0; p < l.plan->partitions; p++)
        l.parts[p].floor = l.parts[p].begun;
}

void ledger_board(const struct rml_board *board)
{
    size_t stages = (size_t)l.plan->partitions * l.plan->stage_count * sizeof *l.stage_counts;
    size_t sources = (size_t)l.plan->partitions * l.plan->source_count * sizeof *l.source_counts;
    free(l.stage_counts);
    free(l.source_counts);
    l.stage_counts = aligned_alloc(64, stages);
    l.source_counts = aligned_alloc(64, sources);
    RML_CHECK(l.stage_counts != NULL && l.source_counts != NULL);
    memcpy(l.stage_counts, board->stage_counts, stages);
    memcpy(l.source_counts, board->source_counts, sources);
    for (uint32_t s = 0; s < l.plan->sink_count; s++)
        l.lost[s] = rml_count_read(&board->sink_counts[s].value[RML_SINK_lost]);
}

uint64_t ledger_steps(void)
{
    return steps_of_all;
}

uint64_t ledger_records(void)
{
    return records_of_all;
}

/* Rows, as a subscriber sees them */

// Make room for a row of that number: those before it that nobody saw are left out.
static void go_to_number(struct rows *rows, uint32_t output, uint32_t p, uint64_t number,
                         uint64_t missed)
{
    if (rows->may_shrink) {
        rows->may_shrink = false;
        uint64_t first = number - missed;  // that was new, be it that it was missed
        if (first < rows->count) {
            rows->count = first;
            rows->bytes.used = first * row_bytes(output);
        }
    }
    if (number < rows->count || number - rows->count > missed)
        sim_fail("%s, partition %u: row %llu comes behind row %llu, and %llu were missed",
                 output_name(output), p, (unsigned long long)number,
                 (unsigned long long)rows->count, (unsigned long long)missed);
    static const unsigned char nothing[RML_BROADCAST_ROW_MAX];
    for (; rows->count < number; rows->count++)
        put_bytes(&rows->bytes, nothing, row_bytes(output));
}

// A row that was seen comes again, the same.
static void check_same(const struct rows *rows, uint32_t o, uint32_t p, uint64_t number,
                       const void *bytes)
{
    static const unsigned char nothing[RML_BROADCAST_ROW_MAX];
    const void *seen = row_at(rows, o, number);
    if (memcmp(seen, bytes, row_bytes(o)) == 0 || memcmp(seen, nothing, row_bytes(o)) == 0)
        return;
    print_row("seen", o, seen);
    print_row("again", o, bytes);
    sim_fail("%s, partition %u: row %llu comes again and is another", output_name(o), p,
             (unsigned long long)number);
}

static void look_at_ring(uint32_t o, uint32_t p)
{
    static _Alignas(16) unsigned char bytes[RML_BROADCAST_ROW_MAX];
    struct rml_broadcast_in *reader = &l.readers[o][p];
    struct rows *rows = &l.seen[o][p];
    uint64_t number, missed = reader->missed;
    while (rml_broadcast_read(reader, bytes, &number) == 1) {
        const struct rml_result_row *row = (const void *)bytes;
        if (row->seq != number)
            sim_fail("%s, partition %u: row %llu says that it is %llu", output_name(o), p,
                     (unsigned long long)number, (unsigned long long)row->seq);
        uint64_t missed_now = reader->missed - missed;
        missed = reader->missed;
        if (l.plan->journals && number < rows->count) {
            check_same(rows, o, p, number, bytes);
            continue;
        }
        go_to_number(rows, o, p, number, missed_now);
        put_bytes(&rows->bytes, bytes, row_bytes(o));
        rows->count++;
        sim_mix(rml_key_hash_bytes(bytes, row_bytes(o)));
    }
}

// One that looks seldom gets what the other got, under the same numbers, and is told how many it missed.
static void look_seldom(uint32_t o, uint32_t p)
{
    static _Alignas(16) unsigned char bytes[RML_BROADCAST_ROW_MAX];
    static const unsigned char nothing[RML_BROADCAST_ROW_MAX];
    struct rml_broadcast_in *in = &l.sleepers[o][p].in;
    const struct rows *rows = &l.seen[o][p];
    uint64_t next = in->next, missed = in->missed, number;
    while (rml_broadcast_read(in, bytes, &number) == 1) {
        if (in->missed > missed)
            sim_count(SIM_subscriber_misses_rows);
        if (number != next + (in->missed - missed))
            sim_fail(
                "%s, partition %u: a subscriber that sleeps gets row %llu behind row %llu, and is told "
                "that it missed %llu",
                output_name(o), p, (unsigned long long)number, (unsigned long long)next - 1,
                (unsigned long long)(in->missed - missed));
        if (number >= rows->count)
            sim_fail("%s, partition %u: a subscriber that sleeps gets row %llu of %llu",
                     output_name(o), p, (unsigned long long)number,
                     (unsigned long long)rows->count);
        const void *seen = row_at(rows, o, number);
        if (memcmp(seen, bytes, row_bytes(o)) != 0 && memcmp(seen, nothing, row_bytes(o)) != 0)
            sim_fail("%s, partition %u: row %llu is another to a subscriber that sleeps",
                     output_name(o), p, (unsigned long long)number);
        next = number + 1;
        missed = in->missed;
    }
}

static void wake_sleepers(bool all)
{
    for (uint32_t o = 0; l.rings_are_up && o < l.output_count; o++) {
        for (uint32_t p = 0; p < l.plan->partitions; p++) {
            struct sleeper *sleeper = &l.sleepers[o][p];
            if (sim.turns < sleeper->until && !all)
                continue;
            look_seldom(o, p);
            sleeper->until = sim.turns + sim_draw(10000);
        }
    }
}

bool ledger_look(void)
{
    bool any = false;
    log_look();
    for (uint32_t p = 0; p < l.plan->partitions; p++)
        any |= look_at_schedule(p);
    for (uint32_t o = 0; l.rings_are_up && o < l.output_count; o++) {
        for (uint32_t p = 0; p < l.plan->partitions; p++)
            look_at_ring(o, p);
    }
    wake_sleepers(false);
    return any;
}

uint64_t ledger_rows(void)
{
    uint64_t count = 0;
    for (uint32_t o = 0; o < l.output_count; o++) {
        for (uint32_t p = 0; p < l.plan->partitions; p++)
            count += l.seen[o][p].count;
    }
    return count;
}

/* The oracle */

static struct rml_result_block *take_block(void *context)
{
    (void)context;
    struct rml_result_block *block = aligned_alloc(64, (sizeof *block + 63) / 64 * 64);
    RML_CHECK(block != NULL);
    return block;
}

static void give_block(void *context, struct rml_result_block *block)
{
    (void)context;
    for (uint32_t i = 0; i < block->rows; i++) {
        const struct rml_result_row *row = rml_result_row_at(block, i);
        struct rows *rows = &l.right[block->output][block->partition];
        RML_CHECK(row->seq == rows->count);
        put_bytes(&rows->bytes, row, row_bytes(block->output));
        rows->count++;
    }
    free(block);
}

/* What of a lane the oracle has taken in the present partition. */
struct lane {
    const struct stream *stream;
    uint64_t at, mark;
};

static void take_batch(struct rml_partition *partition, uint32_t p, const struct rml_step *step,
                       struct lane *lane)
{
    static const struct stream_part nothing;
    static struct rml_mark marks[4096];
    const struct stream_part *part = lane->stream != NULL ? &lane->stream->parts[p] : &nothing;
    if (step->count > part->published - lane->at)
        sim_fail("partition %u takes %u records of lane %u, which published %llu: %llu were taken",
                 p, step->count, step->lane, (unsigned long long)part->published,
                 (unsigned long long)lane->at);
    struct rml_step_input input = {
        .records = part->records != NULL ? part->records + lane->at : NULL, .marks = marks};
    for (;
         lane->mark < part->mark_count && part->marks[lane->mark].position < lane->at + step->count;
         lane->mark++) {
        const struct stream_mark *mark = &part->marks[lane->mark];
        RML_CHECK(input.mark_count < sizeof marks / sizeof marks[0]);
        marks[input.mark_count++] =
            (struct rml_mark){.row = (uint32_t)(mark->position - lane->at), .time = mark->time};
    }
    RML_CHECK(rml_partition_step(partition, step, &input) == (int)step->count);
    lane->at += step->count;
}

static void check_due(const struct lane *lane, uint32_t p)
{
    if (lane->stream != NULL && lane->at < lane->stream->parts[p].due)
        sim_fail("partition %u took %llu records of a lane, and %llu were due", p,
                 (unsigned long long)lane->at, (unsigned long long)lane->stream->parts[p].due);
}

static void take_steps(struct rml_partition *partition, uint32_t p)
{
    struct lane lanes[LANES_MOST] = {{0}};
    for (uint64_t i = 0; i < l.parts[p].count; i++) {
        const struct rml_step *step = &l.parts[p].steps[i];
        RML_CHECK(step->kind == RML_STEP_TICK || step->kind == RML_STEP_END
                  || step->lane < LANES_MOST);
        if (step->kind == RML_STEP_BATCH) {
            take_batch(partition, p, step, &lanes[step->lane]);
            continue;
        }
        if (step->kind == RML_STEP_ATTACH) {
            check_due(&lanes[step->lane], p);
            lanes[step->lane] = (struct lane){.stream = producers_find(step->serial)};
        }
        if (rml_partition_step(partition, step, NULL) < 0)
            sim_fail("partition %u: step %llu cannot be", p, (unsigned long long)i);
    }
    for (uint32_t i = 0; i < LANES_MOST; i++)
        check_due(&lanes[i], p);
}

static void compare_count(uint32_t p, const struct rml_counter_info *info, const char *of,
                          const _Atomic uint64_t *shown, const _Atomic uint64_t *right)
{
    if (rml_count_read(shown) != rml_count_read(right))
        sim_fail("partition %u: %s of %s is %llu on the board and should be %llu", p, info->name,
                 of, (unsigned long long)rml_count_read(shown),
                 (unsigned long long)rml_count_read(right));
}

static void compare_counts(uint32_t p, const struct rml_stage_counts *stages,
                           const struct rml_source_counts *sources)
{
    for (uint32_t s = 0; s < l.plan->stage_count; s++) {
        for (uint32_t c = 0; c < RML_STAGE_COUNTERS; c++)
            compare_count(p, &rml_stage_counter_info[c], l.plan->stages[s].name,
                          &l.stage_counts[p * l.plan->stage_count + s].value[c],
                          &stages[s].value[c]);
    }
    for (uint32_t s = 0; s < l.plan->source_count; s++) {
        for (uint32_t c = 0; c < RML_SOURCE_COUNTERS; c++)
            compare_count(p, &rml_source_counter_info[c], l.plan->sources[s].name,
                          &l.source_counts[p * l.plan->source_count + s].value[c],
                          &sources[s].value[c]);
    }
}

static void be_right(uint32_t p)
{
    struct rml_err err = {0};
    struct rml_stage_counts *stages = aligned_alloc(64, l.plan->stage_count * sizeof *stages);
    struct rml_source_counts *sources = aligned_alloc(64, l.plan->source_count * sizeof *sources);
    RML_CHECK(stages != NULL && sources != NULL);
    memset(stages, 0, l.plan->stage_count * sizeof *stages);
    memset(sources, 0, l.plan->source_count * sizeof *sources);
    const struct rml_partition_options options = {
        .index = p,
        .door = {.take = take_block, .give = give_block},
        .stages = stages,
        .sources = sources,
        .lanes_max = LANES_MOST,
    };
    struct rml_partition *partition;
    if (rml_partition_open(&partition, l.plan, rml_operators_table(), &options, &err) < 0)
        sim_fail("the oracle: %s", err.text);
    take_steps(partition, p);
    rml_partition_close(partition);
    compare_counts(p, stages, sources);
    free(stages);
    free(sources);
}

/* Comparing */

static void compare_rows(uint32_t o, uint32_t p)
{
    static const unsigned char nothing[RML_BROADCAST_ROW_MAX];
    struct rows *seen = &l.seen[o][p], *right = &l.right[o][p];
    uint32_t bytes = row_bytes(o);
    if (seen->may_shrink && seen->count > right->count)
        seen->count = right->count;  // of a life that lost them, and none came since
    for (uint64_t i = 0; i < seen->count && i < right->count; i++) {
        const struct rml_result_row *a = row_at(seen, o, i), *b = row_at(right, o, i);
        bool is_unseen = memcmp(a, nothing, bytes) == 0;
        if (is_unseen || memcmp(a, b, bytes) == 0)
            continue;
        print_row("seen", o, a);
        print_row("right", o, b);
        sim_fail("%s, partition %u: row %llu of %llu is not what it should be", output_name(o), p,
                 (unsigned long long)i, (unsigned long long)right->count);
    }
    uint64_t lost = right->count - seen->count;
    if (seen->count > right->count || lost > l.readers[o][p].missed)
        sim_fail("%s, partition %u: %llu rows were seen, %llu there should be", output_name(o), p,
                 (unsigned long long)seen->count, (unsigned long long)right->count);
}

/* Files: each line once, in whatever order partitions came to it. */

static int compare_hashes(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;
    return *x < *y ? -1 : *x > *y;
}

static uint64_t hash_line(const char *line, size_t length)
{
    return rml_key_hash_bytes(line, (uint32_t)length);
}

static uint32_t print_line(const struct rml_plan_sink *sink, uint32_t output, const void *record,
                           char *text, uint32_t room)
{
    const struct rml_text_options options = {0};
    const struct rml_schema *schema = schema_of(output);
    if (sink->kind == RML_SINK_CSV)
        return rml_text_row_csv(schema, record, &options, text, room);
    if (sink->from_count == 1)
        return rml_text_row_json(schema, record, &options, text, room);
    uint32_t prefix = (uint32_t)snprintf(text, room, "{\"stage\":\"%s\",", output_name(output));
    uint32_t length = rml_text_row_json(schema, record, &options, text + prefix - 1, room - prefix);
    text[prefix - 1] = ',';  // where the row's brace was
    return prefix - 1 + length;
}

static bool is_of_sink(const struct rml_plan_sink *sink, uint32_t o)
{
    bool any = false;
    for (uint32_t i = 0; i < sink->from_count; i++)
        any |= sink->from[i].stage == l.outputs[o].stage && sink->from[i].late == l.outputs[o].late;
    return any;
}

static uint64_t *right_lines(const struct rml_plan_sink *sink, uint64_t *ret_count)
{
    static char text[40000];
    struct bytes hashes = {0};
    for (uint32_t o = 0; o < l.output_count; o++) {
        for (uint32_t p = 0; is_of_sink(sink, o) && p < l.plan->partitions; p++) {
            for (uint64_t i = 0; i < l.right[o][p].count; i++) {
                const void *record = row_at(&l.right[o][p], o, i)->record;
                uint64_t hash = hash_line(text, print_line(sink, o, record, text, sizeof text) - 1);
                put_bytes(&hashes, &hash, sizeof hash);
            }
        }
    }
    *ret_count = hashes.used / sizeof(uint64_t);
    return (void *)hashes.at;
}

static uint64_t *file_lines(const char *path, bool has_header, uint64_t *ret_count, char **ret_text)
{
    struct stat about;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &about) < 0)
        sim_fail("%s is not there", path);
    size_t length = (size_t)about.st_size;
    char *text = malloc(length + 1);
    RML_CHECK(text != NULL && read(fd, text, length) == (ssize_t)length);
    close(fd);
    struct bytes hashes = {0};
    for (size_t at = 0; at < length;) {
        const char *end = memchr(text + at, '\n', length - at);
        if (end == NULL)
            sim_fail("%s: its last line is torn", path);
        uint64_t hash = hash_line(text + at, (size_t)(end - text) - at);
        if (!has_header || at > 0)
            put_bytes(&hashes, &hash, sizeof hash);
        at = (size_t)(end - text) + 1;
    }
    *ret_text = text;
    *ret_count = hashes.used / sizeof(uint64_t);
    return (void *)hashes.at;
}

static void compare_file(const char *folder, const struct rml_plan_sink *sink)
{
    char path[300], *text;
    uint64_t there_count, right_count;
    snprintf(path, sizeof path, "%s/%s", folder, sink->path);
    uint64_t *right = right_lines(sink, &right_count);
    uint64_t *there = file_lines(path, sink->kind == RML_SINK_CSV, &there_count, &text);
    if (right_count > 0)
        qsort(right, right_count, sizeof *right, compare_hashes);
    if (there_count > 0)
        qsort(there, there_count, sizeof *there, compare_hashes);
    uint64_t lost = l.lost[sink - l.plan->sinks], found = 0;
    for (uint64_t i = 0; i < right_count && found < there_count; i++)
        found += right[i] == there[found];
    if (found != there_count || there_count + lost != right_count)
        sim_fail("%s has %llu rows, %llu of them right; %llu are said to be lost, of %llu",
                 sink->path, (unsigned long long)there_count, (unsigned long long)found,
                 (unsigned long long)lost, (unsigned long long)right_count);
    for (uint64_t i = 0; i < there_count; i++)
        sim_mix(there[i]);
    free(text);
    free(right);
    free(there);
}

/* Tables: of the rows of one window of one key the last, but for those that were taken back. */

struct identity {
    uint64_t key;
    int64_t start, end;
    uint64_t seq, hash;
    bool is_retracted;
};

static int compare_identities(const void *a, const void *b)
{
    const struct identity *x = a, *y = b;
    if (x->key != y->key)
        return x->key < y->key ? -1 : 1;
    if (x->start != y->start)
        return x->start < y->start ? -1 : 1;
    return x->seq < y->seq ? -1 : x->seq > y->seq;
}

// False: it has no such field.
static bool read_field(const struct rml_schema *schema, const unsigned char *record,
                       const char *name, void *value, size_t bytes)
{
    uint32_t field = rml_schema_find(schema, name, strlen(name));
    if (field == RML_FIELD_ABSENT)
        return false;
    memcpy(value, record + schema->fields[field].offset, bytes);
    return true;
}

static struct bytes identities_of(uint32_t o)
{
    const struct rml_schema *schema = schema_of(o);
    struct bytes all = {0};
    for (uint32_t p = 0; p < l.plan->partitions; p++) {
        for (uint64_t i = 0; i < l.right[o][p].count; i++) {
            const struct rml_result_row *row = row_at(&l.right[o][p], o, i);
            struct identity identity = {
                .seq = row->seq, .hash = rml_key_hash_bytes(row->record, schema->record_bytes)};
            (void)read_field(schema, row->record, "retracted", &identity.is_retracted, 1);
            RML_CHECK(read_field(schema, row->record, "key", &identity.key, sizeof identity.key));
            RML_CHECK(read_field(schema, row->record, "window_start", &identity.start,
                                 sizeof identity.start));
            RML_CHECK(
                read_field(schema, row->record, "window_end", &identity.end, sizeof identity.end));
            put_bytes(&all, &identity, sizeof identity);
        }
    }
    return all;
}

/* A row that a table without a limit has. */
struct table_row {
    int64_t end;
    uint64_t hash;
};

static int compare_table_rows(const void *a, const void *b)
{
    const struct table_row *x = a, *y = b;
    return x->end != y->end ? (x->end > y->end ? -1 : 1)
                            : (x->hash > y->hash) - (x->hash < y->hash);
}

// The latest first.
static struct table_row *right_table(uint32_t o, uint64_t *ret_count)
{
    struct bytes all = identities_of(o), rows = {0};
    size_t count = all.used / sizeof(struct identity);
    struct identity *list = (void *)all.at;
    if (count > 0)
        qsort(list, count, sizeof *list, compare_identities);
    for (size_t i = 0; i < count; i++) {
        bool is_last =
            i + 1 == count || list[i + 1].key != list[i].key || list[i + 1].start != list[i].start;
        const struct table_row row = {list[i].end, list[i].hash};
        if (is_last && !list[i].is_retracted)
            put_bytes(&rows, &row, sizeof row);
    }
    free(all.at);
    *ret_count = rows.used / sizeof(struct table_row);
    if (*ret_count > 0)
        qsort(rows.at, *ret_count, sizeof(struct table_row), compare_table_rows);
    return (void *)rows.at;
}

/*
 * Of `right`, which are more than `limit`, the latest are there; of those that end when the last of them does, as many
 * as have room.
 */
static bool is_limited_table(const struct table_row *right, uint64_t right_count,
                             const uint64_t *there, uint64_t there_count, uint64_t limit)
{
    if (right_count <= limit)
        limit = right_count;
    if (there_count != limit || limit == 0)
        return there_count == limit;
    int64_t last = right[limit - 1].end;
    uint64_t found = 0;
    for (uint64_t i = 0; i < right_count && right[i].end >= last; i++) {
        bool is_there =
            bsearch(&right[i].hash, there, there_count, sizeof *there, compare_hashes) != NULL;
        if (!is_there && right[i].end > last)
            return false;
        found += is_there;
    }
    return found == limit;
}

struct table_rows {
    const struct rml_schema *schema;
    struct bytes hashes;
};

static int take_table_row(void *context, const struct rml_shape_head *head, const void *record)
{
    struct table_rows *rows = context;
    (void)head;
    uint64_t hash = rml_key_hash_bytes(record, rows->schema->record_bytes);
    put_bytes(&rows->hashes, &hash, sizeof hash);
    return 0;
}

static void compare_table(struct rml_checkpoints *state, uint32_t o, uint64_t rows_max)
{
    struct rml_err err = {0};
    struct rml_shape shape;
    struct rml_shape_state about;
    struct table_rows there = {.schema = schema_of(o)};
    const struct rml_results_query query = {.shape = &shape,
                                            .from = RML_TIME_NONE,
                                            .to = RML_TIME_END,
                                            .row = take_table_row,
                                            .context = &there};
    int rc = rml_results_find(state, output_name(o), &shape, &about, &err);
    if (rc == 0)
        rc = rml_results_read(state, &query, &err);
    if (rc < 0)
        sim_fail("table %s: %s", output_name(o), rc == -ENOENT ? "is not there" : err.text);
    uint64_t right_count, there_count = there.hashes.used / sizeof(uint64_t);
    struct table_row *right = right_table(o, &right_count);
    uint64_t *list = (void *)there.hashes.at;
    if (there_count > 0)
        qsort(list, there_count, sizeof *list, compare_hashes);
    if (about.rows != there_count
        || !is_limited_table(right, right_count, list, there_count,
                             rows_max > 0 ? rows_max : UINT64_MAX))
        sim_fail(
            "table %s has %llu rows that are not those that there should be, %llu without a limit",
            output_name(o), (unsigned long long)there_count, (unsigned long long)right_count);
    free(right);
    free(list);
}

void ledger_check_tables(const char *folder)
{
    char path[300];
    struct rml_err err = {0};
    struct rml_checkpoints *state = NULL;
    snprintf(path, sizeof path, "%s/state", folder);
    for (uint32_t s = 0; s < l.plan->sink_count; s++) {
        if (l.plan->sinks[s].kind != RML_SINK_TABLE)
            continue;
        if (state == NULL && rml_checkpoints_open(&state, path, &err) < 0)
            sim_fail("the state cannot be read: %s", err.text);
        for (uint32_t o = 0; o < l.output_count; o++) {
            if (is_of_sink(&l.plan->sinks[s], o))
                compare_table(state, o, l.plan->sinks[s].rows_max);
        }
    }
    rml_checkpoints_close(state);
}

/* The other oracle */

static const char *const judged_stages[JUDGE_STAGES] = {[JUDGE_TUMBLING] = "w",
                                                        [JUDGE_SLIDING] = "slide",
                                                        [JUDGE_SESSIONS] = "bursts",
                                                        [JUDGE_COUNTED] = "runs",
                                                        [JUDGE_LATE] = "w.late"};

// A limit had no room for a record, and the judge knows of none.
static bool has_refused(uint32_t p, uint32_t o)
{
    uint32_t stage = l.outputs[o].stage;
    const struct rml_stage_counts *counts = &l.stage_counts[p * l.plan->stage_count + stage];
    return rml_count_read(&counts->value[RML_STAGE_refused]) > 0;
}

static void have_judged(uint32_t p)
{
    struct judge_rows rows[JUDGE_STAGES];
    const struct judge_rows *there[JUDGE_STAGES] = {NULL};
    for (uint32_t o = 0; o < l.output_count; o++) {
        for (int stage = 0; stage < JUDGE_STAGES; stage++) {
            if (strcmp(output_name(o), judged_stages[stage]) != 0 || has_refused(p, o))
                continue;
            rows[stage] = (struct judge_rows){.schema = schema_of(o),
                                              .records = l.right[o][p].bytes.at
                                                         + offsetof(struct rml_result_row, record),
                                              .stride = row_bytes(o),
                                              .count = l.right[o][p].count};
            there[stage] = &rows[stage];
        }
    }
    judge_partition(p, l.parts[p].steps, l.parts[p].count, there);
}

void ledger_check(const char *folder)
{
    (void)ledger_look();
    wake_sleepers(true);
    log_settle_due();
    for (uint32_t p = 0; p < l.plan->partitions; p++)
        be_right(p);
    for (uint32_t o = 0; o < l.output_count; o++) {
        for (uint32_t p = 0; p < l.plan->partitions; p++)
            compare_rows(o, p);
    }
    for (uint32_t p = 0; p < l.plan->partitions; p++)
        have_judged(p);
    for (uint32_t s = 0; s < l.plan->sink_count; s++) {
        if (l.plan->sinks[s].kind == RML_SINK_CSV || l.plan->sinks[s].kind == RML_SINK_JSONL)
            compare_file(folder, &l.plan->sinks[s]);
    }
}
