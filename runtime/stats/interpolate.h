/*
 * interpolate - a point on the way from one double to another, infinities included.
 */
#ifndef RML_STATS_INTERPOLATE_H
#define RML_STATS_INTERPOLATE_H

#include <math.h>
#include <stdbool.h>

/* The value `part` (from 0 to below 1) of the way from a to b >= a; NaN between the two infinities. */
static inline double rml_interpolate(double a, double b, double part)
{
    if (part <= 0 || a >= b)
        return a;
    double apart = b - a;
    // A distance that is no double, or has no end: weigh the two.
    return isinf(apart) ? a * (1 - part) + b * part : a + apart * part;
}

#endif
