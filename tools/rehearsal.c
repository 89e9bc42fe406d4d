#include "tools/rehearsal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "operators/registry.h"
#include "runtime/base/check.h"
#include "runtime/base/err.h"
#include "runtime/partition/partition.h"
#include "runtime/plan/plan.h"
#include "runtime/time/time.h"

struct rml_rehearsal {
    struct rml_plan plan;  // the caller's, but with one partition and sinks that read everything
    struct rml_plan_sink sinks[2];
    struct rml_output outputs[RML_OUTPUTS_MAX];
    uint32_t output_count;
    struct rml_partition *partition;
    struct rml_stage_counts *stage_counts;
    struct rml_source_counts *source_counts;
    int64_t times[RML_SOURCES_MAX];          // greatest event time that each source has vouched for
    struct rml_result_block *first, **last;  // what came out, in order
};

static struct rml_result_block *take_block(void *context)
{
    (void)context;
    struct rml_result_block *block = malloc(sizeof *block);
    RML_CHECK(block != NULL);  // the door may not come back without one
    return block;
}

static void give_block(void *context, struct rml_result_block *block)
{
    struct rml_rehearsal *rehearsal = context;
    block->next = NULL;
    *rehearsal->last = block;
    rehearsal->last = &block->next;
}

static void step(struct rml_rehearsal *rehearsal, const struct rml_step *next,
                 const struct rml_step_input *input)
{
    int rc = rml_partition_step(rehearsal->partition, next, input);
    RML_CHECK(rc >= 0);  // the steps are ours
}

/* An output is what a sink reads: one takes the main rows of all stages, one all late rows. */
static void take_plan(struct rml_rehearsal *rehearsal, const struct rml_plan *plan)
{
    rehearsal->plan = *plan;
    rehearsal->plan.partitions = 1;
    rehearsal->plan.sinks = rehearsal->sinks;
    rehearsal->plan.sink_count = 2;
    for (uint32_t i = 0; i < plan->stage_count; i++) {
        struct rml_plan_sink *rows = &rehearsal->sinks[0], *late = &rehearsal->sinks[1];
        rows->from[rows->from_count++] = (struct rml_plan_output){.stage = i};
        if (plan->stages[i].kind == RML_STAGE_WINDOW)
            late->from[late->from_count++] = (struct rml_plan_output){.stage = i, .late = true};
    }
}

int rml_rehearsal_open(struct rml_rehearsal **ret_rehearsal, const struct rml_plan *plan,
                       struct rml_err *err)
{
    struct rml_rehearsal *rehearsal = calloc(1, sizeof *rehearsal);
    if (rehearsal == NULL)
        return RML_FAIL(err, -ENOMEM, "no memory to rehearse");
    rehearsal->last = &rehearsal->first;
    take_plan(rehearsal, plan);
    int rc = -ENOMEM;
    rehearsal->stage_counts =
        aligned_alloc(64, (plan->stage_count + 1) * sizeof *rehearsal->stage_counts);
    rehearsal->source_counts =
        aligned_alloc(64, (plan->source_count + 1) * sizeof *rehearsal->source_counts);
    if (rehearsal->stage_counts == NULL || rehearsal->source_counts == NULL) {
        rml_err_set(err, rc, "no memory to rehearse");
        goto fail;
    }
    memset(rehearsal->stage_counts, 0, plan->stage_count * sizeof *rehearsal->stage_counts);
    memset(rehearsal->source_counts, 0, plan->source_count * sizeof *rehearsal->source_counts);
    rehearsal->output_count = rml_outputs_list(&rehearsal->plan, rehearsal->outputs);
    const struct rml_partition_options options = {
        .door = {.take = take_block, .give = give_block, .context = rehearsal},
        .stages = rehearsal->stage_counts,
        .sources = rehearsal->source_counts,
        .lanes_max = plan->source_count,
    };
    rc = rml_partition_open(&rehearsal->partition, &rehearsal->plan, rml_operators_table(),
                            &options, err);
    if (rc < 0)
        goto fail;
    for (uint32_t i = 0; i < plan->source_count; i++) {
        const struct rml_step attach = {
            .kind = RML_STEP_ATTACH, .lane = (uint16_t)i, .count = i, .time = RML_TIME_NONE};
        rehearsal->times[i] = RML_TIME_NONE;
        step(rehearsal, &attach, NULL);
    }
    *ret_rehearsal = rehearsal;
    return 0;

fail:
    rml_rehearsal_close(rehearsal);
    return rc;
}

void rml_rehearsal_close(struct rml_rehearsal *rehearsal)
{
    if (rehearsal == NULL)
        return;
    rml_partition_close(rehearsal->partition);
    for (struct rml_result_block *block = rehearsal->first; block != NULL;) {
        struct rml_result_block *next = block->next;
        free(block);
        block = next;
    }
    free(rehearsal->stage_counts);
    free(rehearsal->source_counts);
    free(rehearsal);
}

void rml_rehearsal_feed(struct rml_rehearsal *rehearsal, uint32_t source, const void *record)
{
    const struct rml_plan_source *plan = &rehearsal->plan.sources[source];
    int64_t time;
    memcpy(&time, (const unsigned char *)record + plan->schema.fields[plan->time_field].offset,
           sizeof time);
    if (time > rehearsal->times[source])
        rehearsal->times[source] = time;
    const struct rml_step batch = {.kind = RML_STEP_BATCH,
                                   .lane = (uint16_t)source,
                                   .count = 1,
                                   .time = rehearsal->times[source]};
    step(rehearsal, &batch, &(struct rml_step_input){.records = record});
}

void rml_rehearsal_advance(struct rml_rehearsal *rehearsal, int64_t time)
{
    for (uint32_t i = 0; i < rehearsal->plan.source_count; i++) {
        if (time > rehearsal->times[i])
            rehearsal->times[i] = time;
        const struct rml_step vouch = {
            .kind = RML_STEP_BATCH, .lane = (uint16_t)i, .time = rehearsal->times[i]};
        step(rehearsal, &vouch, NULL);
    }
    const struct rml_step tick = {.kind = RML_STEP_TICK, .time = time, .steady_ns = time};
    step(rehearsal, &tick, NULL);
}

void rml_rehearsal_end(struct rml_rehearsal *rehearsal)
{
    for (uint32_t i = 0; i < rehearsal->plan.source_count; i++)
        step(rehearsal, &(struct rml_step){.kind = RML_STEP_END, .count = i}, NULL);
}

uint32_t rml_rehearsal_rows(const struct rml_rehearsal *rehearsal, uint32_t stage, bool late,
                            const void **rows, uint32_t most)
{
    uint32_t output = 0;
    while (
        output < rehearsal->output_count
        && (rehearsal->outputs[output].stage != stage || rehearsal->outputs[output].late != late))
        output++;
    uint32_t count = 0;
    for (struct rml_result_block *block = rehearsal->first; block != NULL; block = block->next) {
        if (block->output != output)
            continue;
        for (uint32_t i = 0; i < block->rows; i++, count++) {
            if (count < most)
                rows[count] = rml_result_row_at(block, i)->record;
        }
    }
    return count;
}
