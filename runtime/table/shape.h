/*
 * shape - what a result table is like: its columns, and what tells one row from another.
 *
 * A table has the rows of one stage, or its late records, under the stage's name. In the catalog a row
 * lies under its identity, in bytes that are in the order of the values (runtime/record/order.h):
 *
 *     windows        key's fields, window_start            a correction takes the place of what it corrects,
 *                                                          a retraction removes it
 *     where something may be evicted, then: which          a part has its number, what is not a part a
 *                                                          number behind all of them
 *     counted windows and records, then: which             each row is one of its own
 *
 * "Which" is the life of the pipeline, the partition, and the row's number in it, so a row that is made
 * again after a crash takes its own place. Beside each table lies a list of its rows by time, which names
 * identities and has no values: what is to be dropped stands at its beginning, what is new at its end.
 *
 *     rows   "per_minute"        identity            head, record
 *            "per_minute@time"   time, identity      nothing
 *            "@tables"           "per_minute"        the shape, how many rows, until when
 *
 * A row's time is its window's end, the event time of a record, and of the global window, which has no
 * end, the moment at which the row was made.
 */
#ifndef RML_TABLE_SHAPE_H
#define RML_TABLE_SHAPE_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/checkpoint/catalog.h"
#include "runtime/plan/plan.h"
#include "runtime/record/schema.h"

struct rml_err;

#define RML_SHAPE_FORMAT   1u
#define RML_SHAPE_TABLES   "@tables"  // the table of notes
#define RML_SHAPE_BY_TIME  "@time"    // behind a table's name: its list
#define RML_SHAPE_ID_MAX   320u       // bytes of an identity
#define RML_SHAPE_NOTE_MAX 8192u

struct rml_shape {
    char name[RML_TABLE_NAME_BYTES];     // "per_minute", "per_minute.late"
    char by_time[RML_TABLE_NAME_BYTES];  // "per_minute@time"
    struct rml_schema schema;
    uint32_t key_count;
    uint32_t keys[RML_KEY_FIELDS_MAX];  // fields of the key
    /* Fields; RML_FIELD_ABSENT: it has none. Of records start and time are the event time. */
    uint32_t start, time, retracted, evicted;
    bool is_each;        // each row is one of its own
    bool is_timed_made;  // a row's time is when it was made
};

/* What stands before the record in a row's value. */
struct rml_shape_head {
    int64_t time, fire;
    uint64_t seq;
    uint32_t life, partition;
};

/* What is known of a table beside its shape. */
struct rml_shape_state {
    uint32_t life;  // how many times the pipeline has begun anew
    uint32_t zero;
    uint64_t rows;  // there are
    uint64_t put;   // in this life; what was put in the place of another counts, too
    uint64_t put_bytes;
    int64_t clock;    // the greatest time at which a row was made; RML_TIME_NONE: none was
    int64_t keep_ns;  // as the pipeline file says
    uint64_t rows_max;
};

/* The shape of the table that an output of the plan makes. */
void rml_shape_of(const struct rml_plan *plan, struct rml_plan_output output,
                  struct rml_shape *ret_shape);

/* The row's time. */
int64_t rml_shape_time(const struct rml_shape *shape, const void *record, int64_t fire);

/*
 * The identity of a row into `to`, which has RML_SHAPE_ID_MAX bytes; returns how many. `is_part`: as an
 * evicted part, where the shape has such. rml_shape_prefix: of the first `key_count` of the key's fields
 * alone, where those rows begin.
 */
uint32_t rml_shape_id(const struct rml_shape *shape, const void *record,
                      const struct rml_shape_head *head, bool is_part, unsigned char *to);
uint32_t rml_shape_prefix(const struct rml_shape *shape, const void *record, uint32_t key_count,
                          unsigned char *to);

/* Is that field of the record, a bool, true? Of RML_FIELD_ABSENT none is. */
bool rml_shape_is(const struct rml_shape *shape, const void *record, uint32_t field);

/* "the row of model ab, status 0, window_start 1970-01-01T00:00:01Z": to name one that is damaged. */
#define RML_SHAPE_ROW_TEXT 500u
void rml_shape_name_row(const struct rml_shape *shape, const unsigned char *id, uint32_t bytes,
                        char text[RML_SHAPE_ROW_TEXT]);

/* A note of both; returns its bytes. */
uint32_t rml_shape_write(const struct rml_shape *shape, const struct rml_shape_state *state,
                         unsigned char note[RML_SHAPE_NOTE_MAX]);

/* Read such a note of the table of that name. 0; -EPROTONOSUPPORT: of another format; -EBADMSG. */
int rml_shape_read(const char *name, uint32_t name_bytes, const void *note, uint32_t bytes,
                   struct rml_shape *ret_shape, struct rml_shape_state *ret_state,
                   struct rml_err *err);

/* What is different in `now` from what the table has, as a sentence; false: nothing is. */
bool rml_shape_differs(const struct rml_shape *table, const struct rml_shape *now,
                       char sentence[300]);

#endif
