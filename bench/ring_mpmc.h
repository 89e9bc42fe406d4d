/*
 * ring_mpmc - records from one to four processes to another: our shared ring, Concurrency Kit's ring,
 * DPDK's in two of its modes; with everybody running, and with one stopped in the middle of a record.
 *
 * Every contender does the same work: producers copy records of 32 bytes in from their own memory, the
 * consumer copies them out, up to 256 at once, and adds up all words; where nobody is stopped, the sum
 * must be right. A round runs every contender once in each setting, so that all meet the same weather.
 */
#ifndef RML_BENCH_RING_MPMC_H
#define RML_BENCH_RING_MPMC_H

#include <stdint.h>

/* Measure and print: an exit status. `cells` is a power of two. */
int bench_ring_mpmc(uint32_t seconds, uint32_t cells, int64_t segment_ns);

#endif
