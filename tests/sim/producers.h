/*
 * producers - programs that write into lanes, and what each of them has written.
 *
 * A producer is a fiber: it dies between any two of its doings. What it wrote outlives it here: the
 * records of each partition in their order, and the marks of time beside them, both as in its lane. In a
 * lane that is shared these are the log's (log.h), and each producer has a stream beside that.
 */
#ifndef TESTS_SIM_PRODUCERS_H
#define TESTS_SIM_PRODUCERS_H

#include <stdbool.h>
#include <stdint.h>

#define PRODUCERS       6u
#define PRODUCERS_ALONE 4u  // with a lane each
#define PARTITIONS_MOST 4u

struct rml_lane_in;

struct record {
    int64_t ts;
    uint64_t key;
    int64_t n;
    double x;
    char tag[16];
    uint64_t id;  // stream, partition, number there
};

struct stream_mark {
    uint64_t position;
    int64_t time;
};

/* What one lane was given for one partition. */
struct stream_part {
    struct record *records;
    int64_t *before;       // of each: how far time had come for who wrote it; not of a log
    uint64_t count, room;  // committed; those beyond `published` are nobody's
    uint64_t published;
    uint64_t gathered;  // of a producer in a shared lane: so many are in the log
    uint64_t told;      // so many are durable, its producer was told
    uint64_t due;       // so many have to be in the results, whatever happens now
    struct stream_mark *marks;
    uint64_t mark_count, mark_room;
};

struct stream {
    uint64_t serial;  // of the lane
    uint64_t index;
    bool is_over;     // its keeper is gone
    bool is_shared;   // of one producer in a lane of several
    bool is_log;      // of that lane
    bool is_lost;     // and was hung up on
    uint64_t joined;  // at this turn
    int64_t clock;    // the greatest time in it, INT64_MIN: there is none
    uint64_t dropped;
    unsigned char *order;  // the partition of each record, as they were written
    uint64_t order_count, order_room;
    uint64_t told;  // of these
    struct stream_part parts[PARTITIONS_MOST];
};

/* How records are drawn. */
struct producers_options {
    uint32_t partitions;
    uint64_t keys;
    int64_t spread_ns;  // of event times
    uint32_t burst;     // records at once
    uint32_t cells;
    bool is_shared, drops;
    bool asks;            // what is durable; of lanes of their own
    int64_t wait_max_ns;  // for room
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

/* It gets one, which is number `lane`; in a shared one it is `owner`. */
void producer_attach(uint32_t producer, uint32_t lane, uint32_t owner, uint64_t serial,
                     struct rml_lane_in *in);

/* In a shared lane: who it is, and the engine's end of its connection, from the moment it asks. */
uint32_t producer_owner(uint32_t producer);
int producer_door(uint32_t producer);

/* What a turn led to. */
enum producer_end {
    PRODUCER_STAYS,
    PRODUCER_HUNG_UP,  // the connection is gone, and it goes on
    PRODUCER_LEFT,
    PRODUCER_DIED,
};

enum producer_end producer_turn(uint32_t producer);

/* It is to publish what it has and leave; or it is gone from one moment to the next. */
void producer_should_leave(uint32_t producer);
void producer_vanish(uint32_t producer);

/* When it wants to be woken, asleep: INT64_MAX: never. */
int64_t producer_wakes_at(uint32_t producer);

/* Look at what is published by now. */
void producers_note(void);

/* What was published by now is due; or with the keeper it is gone, what is not due already, but for what producers
 * were told to be durable. */
void producers_are_due(void);
void producers_lose_keeper(bool keeps_due);

/* What producers of the present keeper's lanes have dropped. */
uint64_t producers_dropped(void);

/* The stream of a lane of that serial, which is a log where it is shared; or NULL. */
const struct stream *producers_find(uint64_t serial);

/* Streams by number, or NULL; that of a record, its partition, and its number there. */
struct stream *stream_at(uint64_t index);
struct stream *stream_of(uint64_t id);
uint32_t stream_partition(uint64_t id);
uint64_t stream_number(uint64_t id);

struct stream *stream_add(uint64_t serial);
void stream_put(struct stream_part *part, const struct record *record);
void stream_put_mark(struct stream_part *part, struct stream_mark mark);

/* Forget who is in the midst of what: the engine was killed. */
bool producers_gathers(uint32_t fiber);
void producers_engine_dies(void);

#endif
