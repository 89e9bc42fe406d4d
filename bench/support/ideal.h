/*
 * ideal - the loop that a good programmer would write by hand for one query over records in memory.
 *
 * Count, sum, average, least and greatest of a float by key and window, tumbling. One hash table, at
 * most half full, in large pages, with a cache line for each key that holds the key and all its
 * aggregates; its lines are fetched ahead. A window's end is one sweep that writes a row for each key
 * and empties the table. Sums are compensated like the engine's, so the rows are the same to the bit.
 *
 * What it leaves out is what it is held against: records come from its own memory and in order of
 * time, so that one window is open at a time and nothing is late; the number of keys is known
 * beforehand; the query, the record and the key's width are fixed when compiling; nothing is counted,
 * checked, or kept in a form that could be written to disk; its rows go nowhere.
 */
#ifndef RML_BENCH_IDEAL_H
#define RML_BENCH_IDEAL_H

#include <stdint.h>

#include "bench/support/events.h"

struct bench_row {
    int64_t start, end;
    uint64_t key;
    uint64_t count;
    double sum, mean, least, greatest;
};

struct bench_ideal {
    struct bench_ideal_slot *slots;
    uint32_t log_slots;
    int64_t window_ns;
    int64_t start;           // of the open window
    struct bench_row *rows;  // of the window that ended last
    uint32_t row_count;
};

/* For up to `keys` keys. 0 or -ENOMEM. */
int bench_ideal_open(struct bench_ideal *ideal, uint32_t keys, int64_t window_ns);
void bench_ideal_close(struct bench_ideal *ideal);

/* Take events whose times never go back. */
void bench_ideal_take(struct bench_ideal *ideal, const struct bench_event *events, uint32_t count);

#endif
