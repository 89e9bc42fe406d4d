/*
 * histogram - counts between bounds that the user chose, mergeable by adding.
 *
 * Of n bounds that rise, bucket 0 counts x < bounds[0], bucket i counts bounds[i - 1] <= x < bounds[i],
 * bucket n counts x >= bounds[n - 1]; intervals are closed at their start and open at their end, as
 * windows are. Infinities fall into the outer ones.
 */
#ifndef RML_STATS_HISTOGRAM_H
#define RML_STATS_HISTOGRAM_H

#include <stdint.h>

#define RML_HISTOGRAM_BOUNDS_MAX 31u

/* The bucket of x, which is a number. Few bounds are sooner counted than searched. */
static inline uint32_t rml_histogram_bucket(const double *bounds, uint32_t bound_count, double x)
{
    uint32_t bucket = 0;
    for (uint32_t i = 0; i < bound_count; i++)
        bucket += x >= bounds[i];
    return bucket;
}

#endif
