/*
 * touch - memory made ready from its end by a thread, while whoever opened this fills it from the front.
 *
 * The kernel zeroes memory when it is first written to, 2 MiB at a time where pages are large: as much
 * work as copying state into it is, and many times as much where a hypervisor has to find it first. Done
 * from the other end by another processor it takes half the time, and where the disk is what is waited for,
 * none. Without such a thread nothing is missing but the time.
 */
#ifndef RML_STATE_TOUCH_H
#define RML_STATE_TOUCH_H

#include <stddef.h>

struct rml_touch;

/* Touch `bytes` at `from`, aligned to 4096, which stay mapped until the end. What is in them stays as it is, whoever
 * writes there meanwhile. NULL: no memory, or no thread. */
struct rml_touch *rml_touch_begin(void *from, size_t bytes);

/* It touches no more. Accepts NULL. */
void rml_touch_end(struct rml_touch *touch);

#endif
