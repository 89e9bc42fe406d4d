/*
 * The schedule that a dead engine left, with anything in it: the engine after it takes the steps again or
 * refuses with a sentence, whatever they say and whether or not the records they name are there.
 *
 * Input: 24 bytes for the schedule's head, then steps of 24 bytes.
 */
#include <errno.h>
#include <stdalign.h>
#include <stdlib.h>
#include <string.h>

#include "operators/registry.h"
#include "runtime/base/check.h"
#include "runtime/base/err.h"
#include "runtime/lane/lane_in.h"
#include "runtime/lane/lane_out.h"
#include "runtime/plan/plan.h"
#include "runtime/worker/again.h"

#define STEPS   64u
#define LANES   3u  // of which one is there
#define RECORDS 100u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct event {
    int64_t ts;
    uint32_t key;
    uint32_t value;
};

static const char pipeline[] =
    "version: 1\n"
    "pipeline: fuzz\n"
    "schema: {event: {ts: time_ns, key: u32, value: u32}}\n"
    "sources: {events: {schema: event, event_time: ts, out_of_order: 10ns, idle_after: 1ms,\n"
    "                   cells: 128}}\n"
    "stages:\n"
    "  sums: {from: events, key: key, aggregate: {total: sum(value)},\n"
    "         window: {type: sliding, size: 40ns, every: 10ns, late: 20ns}}\n"
    "  bursts: {from: events, key: key, aggregate: {n: count()},\n"
    "           window: {type: session, gap: 7ns}}\n";

static struct rml_plan *plan;
static struct rml_lane_geometry geometry;

static void read_plan(void)
{
    struct rml_plan_errors errors;
    RML_CHECK(rml_plan_parse(pipeline, strlen(pipeline), "fuzz.yaml", rml_operators_functions(),
                             &plan, &errors, NULL)
              == 0);
    const struct rml_plan_source *source = &plan->sources[0];
    geometry = (struct rml_lane_geometry){
        .partitions = 1,
        .workers = 1,
        .cells = source->cells,
        .cell_bytes = sizeof(struct event),
        .on_full = RML_LANE_DROP_NEWEST,
        .grid = {source->grid_origin_ns, source->grid_granule_ns},
        .key_field_count = 1,
        .key = {{.offset = 8, .bytes = 4}},
    };
}

struct door {
    struct rml_result_block block;  // the only one: whoever gives it away gets it again
};

static struct rml_result_block *take_block(void *context)
{
    return &((struct door *)context)->block;
}

static void give_block(void *context, struct rml_result_block *block)
{
    (void)context;
    (void)block;
}

static struct rml_lane_in *open_lane(struct rml_lane_out **ret_out)
{
    struct rml_lane_in *in;
    RML_CHECK(rml_lane_in_open(&in, &geometry, "fuzz", 1, NULL) == 0);
    RML_CHECK(rml_lane_out_open(ret_out, &geometry, rml_lane_in_fds(in), -1, NULL) == 0);
    for (uint32_t i = 0; i < RECORDS; i++) {
        const struct event event = {.ts = i, .key = i % 5, .value = i};
        RML_CHECK(rml_lane_out_put(*ret_out, &event) == 1);
    }
    rml_lane_out_publish(*ret_out);
    return in;
}

/* Steps, near to what can be: fields are what the bytes say, some of them cut to what there is. */
static void read_steps(struct rml_step *steps, const uint8_t *data, size_t size)
{
    for (uint32_t i = 0; i < STEPS && (i + 1) * sizeof *steps <= size; i++) {
        struct rml_step *step = &steps[i];
        memcpy(step, data + i * sizeof *step, sizeof *step);
        uint64_t how = step->serial >> 56;
        if ((how & 1) == 0)
            step->kind %= RML_STEP_END + 1;
        if ((how & 2) == 0)
            step->lane %= LANES;
        if ((how & 4) == 0)
            step->count %= step->kind == RML_STEP_BATCH ? 9 : 2;
        if ((how & 8) == 0)
            step->time &= 255;
        if ((how & 16) == 0)
            step->serial = step->serial & 3;
    }
}

static void take_again(struct rml_partition *partition, struct rml_lane_in *in, const uint8_t *data,
                       size_t size)
{
    alignas(64) static unsigned char memory[128 + STEPS * sizeof(struct rml_step)];
    RML_CHECK(rml_schedule_bytes(STEPS) <= sizeof memory);
    memset(memory, 0, sizeof memory);
    struct rml_own own = {.partition = partition};
    RML_CHECK(rml_schedule_open(&own.schedule, memory, STEPS, 0) == 0);
    struct rml_schedule_head *head = own.schedule.head;
    uint64_t positions[2];
    memcpy(positions, data + 8, sizeof positions);
    if ((data[0] & 1) != 0)  // of another version, another size
        memcpy(head, data, 16);
    if ((data[1] & 1) != 0)
        head->first = positions[0];
    uint64_t end = (data[1] & 2) != 0 ? positions[1] : data[2] % (STEPS + 1);
    atomic_store_explicit(&head->position, end, memory_order_relaxed);
    read_steps(own.schedule.steps, data + 24, size - 24);

    struct rml_err err = {0};
    if (rml_schedule_open(&own.schedule, memory, STEPS, 0) < 0)
        return;
    const struct rml_worker_kept lanes[LANES] = {{in, 1}};
    static struct rml_mark marks[RML_WORKER_STEP_ROWS];
    int rc = rml_again_take(&own, plan, lanes, LANES, marks, &err);
    RML_CHECK(rc == 0 || err.text[0] != '\0');
    if (rc == 0)
        RML_CHECK(rml_partition_steps(partition) == own.schedule.position);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 24)
        return 0;
    if (plan == NULL)
        read_plan();
    struct rml_stage_counts stages[2] = {0};
    struct rml_source_counts source = {0};
    static struct door door;
    const struct rml_partition_options options = {
        .door = {.take = take_block, .give = give_block, .context = &door},
        .stages = stages,
        .sources = &source,
        .lanes_max = LANES,
    };
    struct rml_partition *partition;
    struct rml_lane_out *out;
    RML_CHECK(rml_partition_open(&partition, plan, rml_operators_table(), &options, NULL) == 0);
    struct rml_lane_in *in = open_lane(&out);
    take_again(partition, in, data, size);
    rml_lane_out_close(out);
    rml_lane_in_close(in);
    rml_partition_close(partition);
    return 0;
}
