/*
 * log - of a lane that producers share: the order in which the engine brought together what they published.
 *
 * It is copied as it grows, and is the stream of its lane then. Each record in it must be one that some
 * producer published, the next one of that producer, and be there once: which order there is between
 * producers is the engine's to say, and nothing else.
 */
#ifndef TESTS_SIM_LOG_H
#define TESTS_SIM_LOG_H

#include <stdint.h>

struct rml_lane_in;
struct stream;

void log_begin(void);

/* The lane of that serial is shared. Its stream; asked for again, the same. */
struct stream *log_open(uint64_t serial, struct rml_lane_in *in);

/* Its keeper is gone, or the run is over. */
void log_close(void);

/* Copy what there is. */
void log_look(void);

/* What of it is due, as producers' streams say. */
void log_settle_due(void);

#endif
