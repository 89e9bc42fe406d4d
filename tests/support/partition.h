/*
 * partition - one partition held by hand: steps go in, rows are thrown away, counters are looked at.
 */
#ifndef RML_TESTS_PARTITION_H
#define RML_TESTS_PARTITION_H

#include <string.h>

#include "operators/registry.h"
#include "runtime/base/err.h"
#include "runtime/partition/partition.h"
#include "runtime/plan/plan.h"
#include "runtime/time/time.h"
#include "tests/support/test.h"

#define HELD_LANES 3

struct held {
    struct rml_plan *plan;
    struct rml_partition *partition;
    struct rml_stage_counts stages[4];
    struct rml_source_counts source;
    struct rml_result_block block;  // the only one: whoever gives it away gets it again
};

static inline struct rml_result_block *held_take(void *context)
{
    return &((struct held *)context)->block;
}

static inline void held_give(void *context, struct rml_result_block *block)
{
    (void)context;
    (void)block;
}

static inline void held_step(struct held *h, struct rml_step step,
                             const struct rml_step_input *input)
{
    int taken = step.kind == RML_STEP_BATCH ? (int)step.count : 0;
    assert_int_equal(rml_partition_step(h->partition, &step, input), taken);
}

static inline void held_attach(struct held *h, uint16_t lane)
{
    held_step(h, (struct rml_step){.kind = RML_STEP_ATTACH, .lane = lane}, NULL);
}

/* Partition `index` of a file with one source; lane 0 is attached. */
static inline void held_open(struct held *h, const char *text, uint32_t index)
{
    struct rml_plan_errors errors;
    struct rml_err err = {0};
    memset(h, 0, sizeof *h);
    int rc = rml_plan_parse(text, strlen(text), "test.yaml", rml_operators_functions(), &h->plan,
                            &errors, &err);
    assert_int_equal(rc, 0);
    assert_true(h->plan->stage_count <= sizeof h->stages / sizeof h->stages[0]);
    const struct rml_partition_options options = {
        .index = index,
        .door = {.take = held_take, .give = held_give, .context = h},
        .stages = h->stages,
        .sources = &h->source,
        .lanes_max = HELD_LANES,
    };
    rc = rml_partition_open(&h->partition, h->plan, rml_operators_table(), &options, &err);
    assert_int_equal(rc, 0);
    held_attach(h, 0);
}

static inline void held_close(struct held *h)
{
    rml_partition_close(h->partition);
    rml_plan_close(h->plan);
}

/* One record, or several that lie one behind the other. */
static inline void held_write(struct held *h, uint16_t lane, const void *records, uint32_t count)
{
    const struct rml_step_input input = {.records = records};
    const struct rml_step step = {
        .kind = RML_STEP_BATCH, .lane = lane, .count = count, .time = RML_TIME_NONE};
    held_step(h, step, &input);
}

static inline uint64_t held_count(const struct held *h, enum rml_stage_counter counter)
{
    return rml_count_read(&h->stages[0].value[counter]);
}

#endif
