/*
 * producers - programs that write into lanes, and what each of them has written.
 *
 * A producer is a fiber: it dies between any two of its doings. What it wrote outlives it here: the
 * records of each partition in their order, and the marks of time beside them, both as in its lane.
 */
#ifndef TESTS_SIM_PRODUCERS_H
#define TESTS_SIM_PRODUCERS_H

#include <stdbool.h>
#include <stdint.h>

#define PRODUCERS       4u
#define PARTITIONS_MOST 4u

struct rml_lane_in;

struct record {
    int64_t ts;
    uint64_t key;
    int64_t n;
    double x;
    char tag[16];
};

struct stream_mark {
    uint64_t position;
    int64_t time;
};

/* What one lane was given for one partition. */
struct stream_part {
    struct record *records;
    uint64_t count, room;  // committed; those beyond `published` are nobody's
    uint64_t published;
    uint64_t due;  // so many have to be in the results, whatever happens now
    struct stream_mark *marks;
    uint64_t mark_count, mark_room;
};

struct stream {
    uint64_t serial;  // of the lane
    bool is_over;     // its keeper is gone
    struct stream_part parts[PARTITIONS_MOST];
};

/* How records are drawn. */
struct producers_options {
    uint32_t partitions;
    uint64_t keys;
    int64_t spread_ns;  // of event times
    uint32_t burst;     // records at once
    uint32_t cells;
};

void producers_begin(const struct producers_options *wanted);
void producers_end(void);

enum producer_state {
    PRODUCER_AWAY,
    PRODUCER_ASKS,      // for a lane
    PRODUCER_ATTACHED,  // and writes
};

enum producer_state producer_state(uint32_t producer);
uint32_t producer_lane(uint32_t producer);

/* It asks for a lane. */
void producer_asks(uint32_t producer);

/* It gets one, which is number `lane`. */
void producer_attach(uint32_t producer, uint32_t lane, uint64_t serial, struct rml_lane_in *in);

/* One turn. Returns whether it has left its lane, in whatever way. */
bool producer_turn(uint32_t producer);

/* It publishes what it has and leaves; or it is gone from one moment to the next. */
void producer_leave(uint32_t producer);
void producer_vanish(uint32_t producer);

/* Does it wait for room? */
bool producer_is_full(uint32_t producer);

/* Look at what is published by now. */
void producers_note(void);

/* What was published by now is due; or with the keeper it is gone, what is not due already. */
void producers_are_due(void);
void producers_lose_keeper(bool keeps_due);

/* The stream of a lane of that serial, or NULL. */
const struct stream *producers_find(uint64_t serial);

#endif
