/*
 * bare - one partition over records in memory, its rows made and thrown away.
 */
#ifndef RML_BENCH_BARE_H
#define RML_BENCH_BARE_H

#include "bench/support/events.h"
#include "runtime/observe/counters.h"
#include "runtime/partition/partition.h"
#include "runtime/partition/result.h"

struct bench_bare {
    struct rml_plan *plan;
    struct rml_partition *partition;
    struct rml_result_block *spare;
    struct rml_stage_counts stage;
    struct rml_source_counts source;
};

/*
 * Open the partition of a pipeline with one stage `w`, keyed, whose `window` and `aggregate` stand here
 * as in a file, over struct bench_event, for up to `keys` keys; `snapshots` are going to be taken, or not. What goes wrong is printed. 0 or a
 * negative errno; close it in either case. It must stay where it is.
 */
int bench_bare_open(struct bench_bare *bare, const char *window, const char *aggregate,
                    uint32_t keys, bool snapshots);
void bench_bare_close(struct bench_bare *bare);

/* Take so many records; then let time come to `time_ns` (RML_TIME_NONE: not further than they say). */
void bench_bare_take(struct bench_bare *bare, const struct bench_event *events, uint32_t count,
                     int64_t time_ns);

#endif
