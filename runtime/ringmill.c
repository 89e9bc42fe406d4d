#include "runtime/ringmill.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "operators/registry.h"
#include "runtime/base/err.h"
#include "runtime/control/engine.h"
#include "runtime/lane/lane_out.h"
#include "runtime/plan/plan.h"
#include "runtime/plan/print.h"

#define LATE ".late"

/* Where the rows of one output go; the index is that of the output in the one sink that there is. */
struct receiver {
    rml_row_function function;
    void *context;
};

enum phase { PHASE_OPEN, PHASE_RUNNING, PHASE_DRAINED };

struct rml_pipeline {
    struct rml_pipeline_options options;
    struct rml_plan *plan;
    struct rml_plan
        running;  // the plan with other sinks: `rows` in their place, if anyone wants rows
    struct rml_plan_sink rows;
    struct receiver receivers[RML_STAGES_MAX];
    pthread_mutex_t lock;  // the engine has one control thread: whoever holds this
    struct rml_engine *engine;
    enum phase phase;
};

struct rml_feeder {
    struct rml_pipeline *pipeline;
    struct rml_lane_out *lane;
    struct rml_lane_fds fds;
    uint32_t index;  // of the lane
};

static int told(int rc, const struct rml_err *err, char *error, size_t error_bytes)
{
    if (rc < 0 && error != NULL && error_bytes > 0)
        snprintf(error, error_bytes, "%s", err->text);
    return rc;
}

/* What a failed load says, all errors of the file, as `ringmill check` prints them. */
static void tell_load_errors(const struct rml_plan_errors *errors, const char *path,
                             const struct rml_err *err, char *error, size_t error_bytes)
{
    if (error == NULL || error_bytes == 0)
        return;
    char *text = NULL;
    size_t length = 0;
    FILE *out = open_memstream(&text, &length);
    if (out != NULL) {
        if (errors->count > 0)
            rml_plan_errors_print(errors, path, false, out);
        else
            fputs(err->text, out);
        if (fclose(out) != 0)
            length = 0;
    }
    while (length > 0 && text[length - 1] == '\n')
        text[--length] = '\0';
    snprintf(error, error_bytes, "%s", length > 0 ? text : "no memory to say what is wrong");
    free(text);
}

int rml_pipeline_open(struct rml_pipeline **ret_pipeline, const char *path,
                      const struct rml_pipeline_options *options, char *error, size_t error_bytes)
{
    struct rml_err err = {0};
    struct rml_pipeline *pipeline = calloc(1, sizeof *pipeline);
    if (pipeline == NULL)
        return told(RML_FAIL(&err, -ENOMEM, "no memory for a pipeline"), &err, error, error_bytes);
    struct rml_plan_errors errors;
    int rc = rml_plan_load(path, rml_operators_functions(), &pipeline->plan, &errors, &err);
    if (rc < 0)
        tell_load_errors(&errors, path, &err, error, error_bytes);
    rml_plan_errors_fini(&errors);
    if (rc < 0) {
        free(pipeline);
        return rc;
    }
    if (options != NULL)
        pipeline->options = *options;
    pthread_mutex_init(&pipeline->lock, NULL);
    *ret_pipeline = pipeline;
    return 0;
}

/* Rows */

static int find_output(const struct rml_plan *plan, const char *place,
                       struct rml_plan_output *ret_output, const struct rml_schema **ret_schema,
                       struct rml_err *err)
{
    char name[RML_NAME_MAX + 1];
    size_t length = strlen(place);
    bool late = length > strlen(LATE) && strcmp(place + length - strlen(LATE), LATE) == 0;
    if (late)
        length -= strlen(LATE);
    uint32_t stage = UINT32_MAX;
    if (length < sizeof name) {
        snprintf(name, sizeof name, "%.*s", (int)length, place);
        stage = rml_plan_stage_find(plan, name);
    }
    if (stage == UINT32_MAX)
        return RML_FAIL(err, -ENOENT, "pipeline %s has no stage %s", plan->name, place);
    if (late && plan->stages[stage].kind != RML_STAGE_WINDOW)
        return RML_FAIL(err, -ENOENT, "stage %s has no window, and so no late records", name);
    *ret_output = (struct rml_plan_output){.stage = stage, .late = late};
    *ret_schema =
        late ? &plan->sources[plan->stages[stage].source].schema : &plan->stages[stage].output;
    return 0;
}

static int check_layout(const struct rml_schema *schema, const char *what, uint64_t schema_hash,
                        uint32_t record_bytes, struct rml_err *err)
{
    if (schema->hash == schema_hash && schema->record_bytes == record_bytes)
        return 0;
    return RML_FAIL(
        err, -EPROTO,
        "%s is laid out otherwise: make the header again with `ringmill gen header` and "
        "compile",
        what);
}

static int add_receiver(struct rml_pipeline *pipeline, const struct rml_plan_output *output,
                        const struct receiver *receiver, struct rml_err *err)
{
    struct rml_plan_sink *sink = &pipeline->rows;
    if (pipeline->phase != PHASE_OPEN)
        return RML_FAIL(err, -EBUSY, "pipeline %s has been started", pipeline->plan->name);
    for (uint32_t i = 0; i < sink->from_count; i++) {
        if (sink->from[i].stage == output->stage && sink->from[i].late == output->late)
            return RML_FAIL(err, -EEXIST, "the rows of stage %s go to a function already",
                            pipeline->plan->stages[output->stage].name);
    }
    if (sink->from_count == RML_STAGES_MAX)
        return RML_FAIL(err, -ENOSPC, "the rows of at most %d outputs can be had", RML_STAGES_MAX);
    pipeline->receivers[sink->from_count] = *receiver;
    sink->from[sink->from_count++] = *output;
    return 0;
}

int rml_pipeline_rows(struct rml_pipeline *pipeline, const char *stage, uint64_t schema_hash,
                      uint32_t record_bytes, rml_row_function function, void *context, char *error,
                      size_t error_bytes)
{
    struct rml_err err = {0};
    struct rml_plan_output output;
    const struct rml_schema *schema;
    pthread_mutex_lock(&pipeline->lock);
    int rc = find_output(pipeline->plan, stage, &output, &schema, &err);
    if (rc == 0)
        rc = check_layout(schema, stage, schema_hash, record_bytes, &err);
    if (rc == 0)
        rc = add_receiver(pipeline, &output, &(struct receiver){function, context}, &err);
    pthread_mutex_unlock(&pipeline->lock);
    return told(rc, &err, error, error_bytes);
}

static void deliver(void *context, uint32_t sink, uint32_t from, const struct rml_result_row *row)
{
    (void)sink;  // the only one
    const struct rml_pipeline *pipeline = context;
    const struct receiver *receiver = &pipeline->receivers[from];
    receiver->function(receiver->context, row->record, row->seq);
}

/* Life */

static void complain(void *context, const char *sentence)
{
    const struct rml_pipeline *pipeline = context;
    if (pipeline->options.complain != NULL)
        pipeline->options.complain(pipeline->options.context, sentence);
}

/* The sinks of the file give way to whoever asked for rows. */
static void replace_sinks(struct rml_pipeline *pipeline)
{
    pipeline->rows.kind = RML_SINK_JSONL;  // what goes through the writer, and so to `deliver`
    snprintf(pipeline->rows.name, sizeof pipeline->rows.name, "rows");
    pipeline->running = *pipeline->plan;
    pipeline->running.sinks = &pipeline->rows;
    pipeline->running.sink_count = 1;
}

static int start(struct rml_pipeline *pipeline, struct rml_err *err)
{
    if (pipeline->engine != NULL)
        return RML_FAIL(err, -EBUSY, "pipeline %s has been started", pipeline->plan->name);
    char folder[4096];
    snprintf(folder, sizeof folder, "%s", pipeline->plan->path);
    char *slash = strrchr(folder, '/');
    if (slash != NULL)
        slash[slash == folder] = '\0';  // of "/llm.yaml" the slash is the folder
    struct rml_engine_options options = {
        .plan = pipeline->plan,
        .operators = rml_operators_table(),
        .clock = &rml_clock_system,
        .replay = pipeline->options.replay != 0,
        .folder = slash != NULL ? folder : NULL,
        .complain = complain,
        .complain_context = pipeline,
    };
    if (pipeline->rows.from_count > 0) {
        replace_sinks(pipeline);
        options.plan = &pipeline->running;
        options.row = deliver;
        options.row_context = pipeline;
    }
    int rc = rml_engine_open(&pipeline->engine, &options, err);
    if (rc == 0)
        rc = rml_engine_start(pipeline->engine, err);
    if (rc == 0)
        pipeline->phase = PHASE_RUNNING;
    return rc < 0 ? RML_WRAP(err, rc, "pipeline %s", pipeline->plan->name) : 0;
}

int rml_pipeline_start(struct rml_pipeline *pipeline, char *error, size_t error_bytes)
{
    struct rml_err err = {0};
    pthread_mutex_lock(&pipeline->lock);
    int rc = start(pipeline, &err);
    pthread_mutex_unlock(&pipeline->lock);
    return told(rc, &err, error, error_bytes);
}

int64_t rml_pipeline_drain(struct rml_pipeline *pipeline)
{
    int64_t lost = -ESHUTDOWN;
    pthread_mutex_lock(&pipeline->lock);
    if (pipeline->phase == PHASE_RUNNING) {
        pipeline->phase = PHASE_DRAINED;
        rml_engine_drain(pipeline->engine);
        lost = (int64_t)rml_engine_stop(pipeline->engine);
    }
    pthread_mutex_unlock(&pipeline->lock);
    return lost;
}

void rml_pipeline_close(struct rml_pipeline *pipeline)
{
    if (pipeline == NULL)
        return;
    rml_engine_close(pipeline->engine);
    rml_plan_close(pipeline->plan);
    pthread_mutex_destroy(&pipeline->lock);
    free(pipeline);
}

/* Counters */

static uint32_t find_counter(const struct rml_counter_info *infos, uint32_t count, const char *name)
{
    uint32_t index = 0;
    while (index < count && strcmp(infos[index].name, name) != 0)
        index++;
    return index;
}

static int count_of(const struct rml_plan *plan, const struct rml_board_totals *totals,
                    const char *name, const char *counter, uint64_t *ret_count)
{
    uint32_t source = rml_plan_source_find(plan, name);
    uint32_t stage = rml_plan_stage_find(plan, name);
    if (source != UINT32_MAX) {
        uint32_t index = find_counter(rml_source_counter_info, RML_SOURCE_COUNTERS, counter);
        if (index < RML_SOURCE_COUNTERS)
            *ret_count = totals->source[source][index];
        else if (strcmp(counter, "published") == 0)
            *ret_count = totals->published[source];
        else if (strcmp(counter, "dropped") == 0)
            *ret_count = totals->dropped[source];
        else
            return -ENOENT;
        return 0;
    }
    uint32_t index = find_counter(rml_stage_counter_info, RML_STAGE_COUNTERS, counter);
    if (stage == UINT32_MAX || index == RML_STAGE_COUNTERS)
        return -ENOENT;
    *ret_count = totals->stage[stage][index];
    return 0;
}

int rml_pipeline_count(struct rml_pipeline *pipeline, const char *source_or_stage,
                       const char *counter, uint64_t *ret_count)
{
    struct rml_board_totals *totals = malloc(sizeof *totals);  // too large for every stack
    if (totals == NULL)
        return -ENOMEM;
    int rc = -ESHUTDOWN;
    pthread_mutex_lock(&pipeline->lock);
    if (pipeline->phase != PHASE_OPEN) {
        if (pipeline->phase == PHASE_RUNNING)
            rml_engine_poll(pipeline->engine);
        rml_engine_totals(pipeline->engine, totals);
        rc = count_of(pipeline->plan, totals, source_or_stage, counter, ret_count);
    }
    pthread_mutex_unlock(&pipeline->lock);
    free(totals);
    return rc;
}

/* Feeders */

/* Descriptors of our own: the engine closes its when the lane ends, which may be before the feeder. */
static int copy_fds(struct rml_lane_fds *to, const struct rml_lane_fds *from, uint32_t workers)
{
    to->records = fcntl(from->records, F_DUPFD_CLOEXEC, 3);
    to->returns = fcntl(from->returns, F_DUPFD_CLOEXEC, 3);
    to->room = fcntl(from->room, F_DUPFD_CLOEXEC, 3);
    bool copied = to->records >= 0 && to->returns >= 0 && to->room >= 0;
    for (uint32_t w = 0; copied && w < workers; w++) {
        to->wake[w] = fcntl(from->wake[w], F_DUPFD_CLOEXEC, 3);
        copied = to->wake[w] >= 0;
    }
    return copied ? 0 : -errno;
}

static int check_source(const struct rml_pipeline *pipeline, const char *source,
                        uint64_t schema_hash, uint32_t record_bytes, uint32_t *ret_source,
                        struct rml_err *err)
{
    const struct rml_plan *plan = pipeline->plan;
    if (pipeline->phase != PHASE_RUNNING)
        return RML_FAIL(err, -ESHUTDOWN, "pipeline %s does not run", plan->name);
    *ret_source = rml_plan_source_find(plan, source);
    if (*ret_source == UINT32_MAX)
        return RML_FAIL(err, -ENOENT, "pipeline %s has no source %s", plan->name, source);
    return check_layout(&plan->sources[*ret_source].schema, source, schema_hash, record_bytes, err);
}

/* With the lock held. */
static int open_lane(struct rml_feeder *feeder, uint32_t source, struct rml_err *err)
{
    struct rml_engine *engine = feeder->pipeline->engine;
    rml_engine_poll(engine);  // lanes that ended make room
    int rc = rml_engine_attach(engine, source, NULL, &feeder->index, err);
    if (rc < 0)
        return rc;
    const struct rml_lane_in *in = rml_engine_lane(engine, feeder->index);
    const struct rml_lane_geometry *geometry = rml_lane_in_geometry(in);
    rc = copy_fds(&feeder->fds, rml_lane_in_fds(in), geometry->workers);
    if (rc < 0)
        rml_err_set(err, rc, "no descriptor left for a feeder: raise `ulimit -n`");
    else
        rc = rml_lane_out_open(&feeder->lane, geometry, &feeder->fds, -1, err);
    if (rc < 0)
        rml_engine_finish(engine, feeder->index);
    return rc;
}

int rml_feeder_open(struct rml_feeder **ret_feeder, struct rml_pipeline *pipeline,
                    const char *source, uint64_t schema_hash, uint32_t record_bytes, char *error,
                    size_t error_bytes)
{
    struct rml_err err = {0};
    struct rml_feeder *feeder = calloc(1, sizeof *feeder);
    if (feeder == NULL)
        return told(RML_FAIL(&err, -ENOMEM, "no memory for a feeder"), &err, error, error_bytes);
    feeder->pipeline = pipeline;
    rml_lane_fds_init(&feeder->fds);
    pthread_mutex_lock(&pipeline->lock);
    uint32_t index = 0;
    int rc = check_source(pipeline, source, schema_hash, record_bytes, &index, &err);
    if (rc == 0)
        rc = open_lane(feeder, index, &err);
    pthread_mutex_unlock(&pipeline->lock);
    if (rc == 0) {
        *ret_feeder = feeder;
        return 0;
    }
    rml_lane_fds_close(&feeder->fds);
    free(feeder);
    return told(rc, &err, error, error_bytes);
}

int rml_feeder_put(struct rml_feeder *feeder, const void *record)
{
    return rml_lane_out_put(feeder->lane, record);
}

int rml_feeder_publish(struct rml_feeder *feeder)
{
    rml_lane_out_publish(feeder->lane);
    return rml_lane_out_state(feeder->lane, NULL, NULL);
}

void rml_feeder_close(struct rml_feeder *feeder)
{
    if (feeder == NULL)
        return;
    struct rml_pipeline *pipeline = feeder->pipeline;
    rml_lane_out_publish(feeder->lane);
    pthread_mutex_lock(&pipeline->lock);
    // A lane that the engine has detached is ending already, and its number may be another's.
    if (rml_lane_out_state(feeder->lane, NULL, NULL) == 0) {
        rml_engine_finish(pipeline->engine, feeder->index);
        rml_engine_poll(pipeline->engine);
    }
    pthread_mutex_unlock(&pipeline->lock);
    rml_lane_out_close(feeder->lane);
    rml_lane_fds_close(&feeder->fds);
    free(feeder);
}
