#include "runtime/observe/counters.h"

#define RML_STAGE_DOOR(name, sentence)          {#name, "RECORDS", sentence, 1},
#define RML_STAGE_COUNTER(name, unit, sentence) {#name, #unit, sentence, 0},
const struct rml_counter_info rml_stage_counter_info[RML_STAGE_COUNTERS] = {
#include "runtime/observe/counters.def"
};
#undef RML_STAGE_COUNTER

#define RML_SOURCE_COUNTER(name, unit, sentence) {#name, #unit, sentence, 0},
const struct rml_counter_info rml_source_counter_info[RML_SOURCE_COUNTERS] = {
#include "runtime/observe/counters.def"
};
#undef RML_SOURCE_COUNTER

#define RML_WORKER_COUNTER(name, unit, sentence) {#name, #unit, sentence, 0},
const struct rml_counter_info rml_worker_counter_info[RML_WORKER_COUNTERS] = {
#include "runtime/observe/counters.def"
};
#undef RML_WORKER_COUNTER

#define RML_SINK_COUNTER(name, unit, sentence) {#name, #unit, sentence, 0},
const struct rml_counter_info rml_sink_counter_info[RML_SINK_COUNTERS] = {
#include "runtime/observe/counters.def"
};
#undef RML_SINK_COUNTER

#define RML_GATE_COUNTER(name, unit, sentence) {#name, #unit, sentence, 0},
const struct rml_counter_info rml_gate_counter_info[RML_GATE_COUNTERS] = {
#include "runtime/observe/counters.def"
};
#undef RML_GATE_COUNTER

#define RML_JOURNAL_COUNTER(name, unit, sentence) {#name, #unit, sentence, 0},
const struct rml_counter_info rml_journal_counter_info[RML_JOURNAL_COUNTERS] = {
#include "runtime/observe/counters.def"
};
#undef RML_JOURNAL_COUNTER
