/*
 * clock - the door through which time comes in, so that a test can hold it.
 */
#ifndef RML_TIME_CLOCK_H
#define RML_TIME_CLOCK_H

#include <stdint.h>

struct rml_clock {
    int64_t (*wall_ns)(void *context);       // nanoseconds since the Unix epoch
    int64_t (*monotonic_ns)(void *context);  // never goes back; the origin says nothing
    void *context;
};

/* The machine's clocks. */
extern const struct rml_clock rml_clock_system;

#endif
