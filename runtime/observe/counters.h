/*
 * counters - plain 64-bit words in shared memory, each written by one thread, read by anyone.
 *
 * A block counts for one stage or source in one partition, for one worker, for one file, for all who
 * attach, or for the journal. Only the worker that owns the partition, the writer of files, the control
 * thread or the journal's writes it, with relaxed stores; a reader adds up the blocks and may see one counter a little ahead of another.
 * What counts what: counters.def.
 */
#ifndef RML_OBSERVE_COUNTERS_H
#define RML_OBSERVE_COUNTERS_H

#include <stdatomic.h>
#include <stdint.h>

enum rml_stage_counter {

#define RML_STAGE_COUNTER(name, unit, sentence) RML_STAGE_##name,
#include "runtime/observe/counters.def"
#undef RML_STAGE_COUNTER
    RML_STAGE_COUNTERS
};

enum rml_source_counter {

#define RML_SOURCE_COUNTER(name, unit, sentence) RML_SOURCE_##name,
#include "runtime/observe/counters.def"
#undef RML_SOURCE_COUNTER
    RML_SOURCE_COUNTERS
};

enum rml_worker_counter {

#define RML_WORKER_COUNTER(name, unit, sentence) RML_WORKER_##name,
#include "runtime/observe/counters.def"
#undef RML_WORKER_COUNTER
    RML_WORKER_COUNTERS
};

enum rml_sink_counter {

#define RML_SINK_COUNTER(name, unit, sentence) RML_SINK_##name,
#include "runtime/observe/counters.def"
#undef RML_SINK_COUNTER
    RML_SINK_COUNTERS
};

enum rml_gate_counter {

#define RML_GATE_COUNTER(name, unit, sentence) RML_GATE_##name,
#include "runtime/observe/counters.def"
#undef RML_GATE_COUNTER
    RML_GATE_COUNTERS
};

enum rml_journal_counter {

#define RML_JOURNAL_COUNTER(name, unit, sentence) RML_JOURNAL_##name,
#include "runtime/observe/counters.def"
#undef RML_JOURNAL_COUNTER
    RML_JOURNAL_COUNTERS
};

struct rml_counter_info {
    const char *name;
    const char *unit;
    const char *sentence;
    int is_door;  // a record leaves its stage by exactly one door
};

extern const struct rml_counter_info rml_stage_counter_info[RML_STAGE_COUNTERS];
extern const struct rml_counter_info rml_source_counter_info[RML_SOURCE_COUNTERS];
extern const struct rml_counter_info rml_worker_counter_info[RML_WORKER_COUNTERS];

extern const struct rml_counter_info rml_sink_counter_info[RML_SINK_COUNTERS];
extern const struct rml_counter_info rml_gate_counter_info[RML_GATE_COUNTERS];
extern const struct rml_counter_info rml_journal_counter_info[RML_JOURNAL_COUNTERS];

struct rml_stage_counts {
    _Alignas(64) _Atomic uint64_t value[RML_STAGE_COUNTERS];
};

struct rml_source_counts {
    _Alignas(64) _Atomic uint64_t value[RML_SOURCE_COUNTERS];
};

struct rml_worker_counts {
    _Alignas(64) _Atomic uint64_t value[RML_WORKER_COUNTERS];
};

struct rml_sink_counts {
    _Alignas(64) _Atomic uint64_t value[RML_SINK_COUNTERS];
};

struct rml_gate_counts {
    _Alignas(64) _Atomic uint64_t value[RML_GATE_COUNTERS];
};

struct rml_journal_counts {
    _Alignas(64) _Atomic uint64_t value[RML_JOURNAL_COUNTERS];
};

/* Owner only: a load and a store, not a read-modify-write, since nobody else writes this word. */
static inline void rml_count(_Atomic uint64_t *word, uint64_t add)
{
    // relaxed: single writer, and readers accept a value that is a moment old
    uint64_t seen = atomic_load_explicit(word, memory_order_relaxed);
    // relaxed: as above
    atomic_store_explicit(word, seen + add, memory_order_relaxed);
}

static inline void rml_count_set(_Atomic uint64_t *word, uint64_t value)
{
    // relaxed: a statistic, ordered with nothing
    atomic_store_explicit(word, value, memory_order_relaxed);
}

static inline uint64_t rml_count_read(const _Atomic uint64_t *word)
{
    // relaxed: a statistic, ordered with nothing
    return atomic_load_explicit(word, memory_order_relaxed);
}

#endif
