/*
 * mark - event time of records that went to other partitions of the lane.
 *
 * The watermark of a lane just before a record is judged comes from all records that its producer
 * committed earlier, whatever their partition. Where that is more than a partition can see from its
 * own records, the producer writes a mark beside them.
 */
#ifndef RML_LANE_MARK_H
#define RML_LANE_MARK_H

#include <stdint.h>

struct rml_mark {
    uint32_t row;  // index within a run of records: the mark applies before that record
    int64_t time;  // the lane's greatest event time up to there
};

#endif
