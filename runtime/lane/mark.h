/*
 * mark - the lane's time has passed `time` just before this row.
 *
 * The greatest event time that a lane had carried, over all its partitions, when the record in
 * `row` was committed; written only where it says more than the partition's own records do.
 */
#ifndef RML_LANE_MARK_H
#define RML_LANE_MARK_H

#include <stdint.h>

struct rml_mark {
    uint32_t row;  // index within a run of records; the mark's time applies before that row
    int64_t time;  // nanoseconds since the epoch, exact (not rounded to the lane's grid)
};

#endif
