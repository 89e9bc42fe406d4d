/*
 * geometry - what a lane looks like, as plain data that can be sent to a producer.
 *
 * Each side keeps its own copy and never reads it back from shared memory. Both compute the layout
 * of the two segments from it, by the same arithmetic.
 */
#ifndef RML_LANE_GEOMETRY_H
#define RML_LANE_GEOMETRY_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/lane/grid.h"

struct rml_err;

#define RML_LANE_PARTITIONS_MAX 256
#define RML_LANE_WORKERS_MAX    64
#define RML_LANE_KEY_FIELDS_MAX 8
#define RML_LANE_KEY_BYTES_MAX  256   // of all of them
#define RML_LANE_OWNERS_MAX     4094  // producers of a shared lane
#define RML_LANE_RUN_MAX        256

enum rml_lane_on_full {
    RML_LANE_BLOCK,        // the producer waits for room
    RML_LANE_DROP_NEWEST,  // the record is dropped and counted
};

/* When the engine says of records that they outlast it, its keeper and the machine's power. */
enum rml_lane_durable {
    RML_LANE_DURABLE_NEVER,       // nothing does
    RML_LANE_DURABLE_CHECKPOINT,  // once a checkpoint covers them
    RML_LANE_DURABLE_JOURNAL,     // once the journal has them
};

/* One field of the partition key. */
struct rml_lane_key_field {
    uint32_t offset;  // bytes from the record's start
    uint32_t bytes;
    uint32_t is_str;  // 1: bytes after the first NUL count as NUL
};

struct rml_lane_geometry {
    uint32_t partitions;   // 1 ..= RML_LANE_PARTITIONS_MAX
    uint32_t workers;      // 1 ..= RML_LANE_WORKERS_MAX
    uint32_t cells;        // of each partition's ring, a power of two
    uint32_t cell_bytes;   // of a record, a multiple of 8
    uint32_t time_offset;  // of the record's event time, an int64_t, a multiple of 8
    uint32_t on_full;      // enum rml_lane_on_full
    struct rml_lane_grid grid;
    uint32_t key_field_count;  // 0: every record goes to the same partition
    struct rml_lane_key_field key[RML_LANE_KEY_FIELDS_MAX];  // in the order hashed
    uint8_t worker_of[RML_LANE_PARTITIONS_MAX];  // partition -> worker, each below `workers`
    uint32_t owners;  // 0: an exclusive lane; else the lane is shared, by at most so many producers
    uint32_t log_cells;  // of a shared lane: of each partition's log, a power of two; else 0
    uint32_t durable;    // enum rml_lane_durable
    uint32_t zero;
};

/* Cells that a producer of a shared lane claims at once, at most. */
static inline uint32_t rml_lane_run_max(const struct rml_lane_geometry *geometry)
{
    uint32_t quarter = geometry->cells / 4 > 0 ? geometry->cells / 4 : 1;
    return quarter < RML_LANE_RUN_MAX ? quarter : RML_LANE_RUN_MAX;
}

/* 0, or -EINVAL and a sentence that names the first member that cannot be. */
int rml_lane_geometry_check(const struct rml_lane_geometry *geometry, struct rml_err *err);

/* Bytes of the two segments of a lane of this (checked) geometry. */
size_t rml_lane_records_bytes(const struct rml_lane_geometry *geometry);
size_t rml_lane_returns_bytes(const struct rml_lane_geometry *geometry);

/*
 * The descriptors of a lane, as the engine makes them and a producer needs them; -1 where there is
 * none. All are non-blocking.
 */
struct rml_lane_fds {
    int records;                     // segment that the producer writes
    int returns;                     // segment that the engine writes
    int room;                        // socket: wakes the producer that waits for room
    int wake[RML_LANE_WORKERS_MAX];  // eventfds: wake the workers
};

/* Nothing open: what to start from before filling one in. */
void rml_lane_fds_init(struct rml_lane_fds *fds);

/* Close what is open. */
void rml_lane_fds_close(struct rml_lane_fds *fds);

#endif
