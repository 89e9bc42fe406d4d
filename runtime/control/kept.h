/*
 * kept - what an engine has its keeper keep: the sorts of ids (RML_KEPT_ID).
 */
#ifndef RML_CONTROL_KEPT_H
#define RML_CONTROL_KEPT_H

enum rml_kept_sort {
    RML_KEPT_BOARD = 1,   // 0: the one there is
    RML_KEPT_UNDO,        // likewise
    RML_KEPT_SCHEDULE,    // by partition
    RML_KEPT_RING,        // by output
    RML_KEPT_LANE,        // by number
    RML_KEPT_PRODUCER,    // by connection
    RML_KEPT_SUBSCRIBER,  // likewise
    RML_KEPT_CONTROL,     // likewise
    RML_KEPT_GROUP,       // by number: what its members write
    RML_KEPT_ROSTER,      // likewise: what we tell them
};

#endif
