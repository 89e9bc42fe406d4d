/*
 * replay_options - what the command line of a replay asks for, checked against its pipeline.
 *
 * The pipeline's sinks give way to the outputs asked for, so that a replay touches no file that the
 * running pipeline writes.
 */
#ifndef RML_TOOLS_REPLAY_OPTIONS_H
#define RML_TOOLS_REPLAY_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/plan/plan.h"
#include "tools/input.h"

struct rml_err;

#define RML_REPLAY_PAIRS_MAX 64
#define RML_REPLAY_BATCH_MAX 65536

/* The values of the options, as they were given. */
struct rml_replay_words {
    const char *inputs[RML_SOURCES_MAX], *outputs[RML_SINKS_MAX];
    const char *maps[RML_REPLAY_PAIRS_MAX], *sets[RML_REPLAY_PAIRS_MAX];
    const char *format, *speed, *workers, *batch, *times;
    uint32_t input_count, output_count, map_count, set_count;
    uint32_t format_count, speed_count, workers_count, batch_count, times_count;
};

struct rml_replay_source {
    uint32_t source;  // of the plan
    struct rml_input_options input;
};

struct rml_replay_options {
    struct rml_plan plan;  // the file's, with the outputs asked for as its sinks
    struct rml_plan_source sources[RML_SOURCES_MAX];
    struct rml_plan_sink sinks[RML_SINKS_MAX];
    uint32_t input_count;
    struct rml_replay_source inputs[RML_SOURCES_MAX];
    struct rml_input_pair maps[RML_REPLAY_PAIRS_MAX], sets[RML_REPLAY_PAIRS_MAX];
    double speed;    // event time a second of time; 0: as fast as it goes
    uint32_t batch;  // records to a publish
    char *text;      // what the pairs' names point into
};

/*
 * Make sense of `words` for `plan`, which must outlive the options, as must the words. 0, or -EINVAL
 * with a sentence that says what to write instead, -ENOMEM.
 */
int rml_replay_options_make(const struct rml_plan *plan, const struct rml_replay_words *words,
                            struct rml_replay_options *options, struct rml_err *err);
void rml_replay_options_fini(struct rml_replay_options *options);

#endif
