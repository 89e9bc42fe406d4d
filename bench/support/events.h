/*
 * events - the records that benches send: 32 bytes, one key out of many, times that rise evenly.
 */
#ifndef RML_BENCH_EVENTS_H
#define RML_BENCH_EVENTS_H

#include <stdbool.h>
#include <stdint.h>

struct bench_event {
    int64_t ts;
    uint64_t key;
    double value;
    uint64_t id;  // nobody asks for it, as is usual for some fields of a record
};

/*
 * Make `count` events whose times fill [0, span_ns) evenly and in order, with keys out of `keys` many
 * chosen uniformly, or as ranks of which r comes up with probability log(1 + 1/r) / log(keys + 1),
 * which is near Zipf's 1/r. The same arguments make the same events.
 */
void bench_events_fill(struct bench_event *events, uint32_t count, uint32_t keys, bool zipf,
                       int64_t span_ns);

/* Move all times on. */
void bench_events_shift(struct bench_event *events, uint32_t count, int64_t by_ns);

#endif
