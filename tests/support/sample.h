/*
 * sample - random numbers of the shapes that data have: for sketches, that must be right on all.
 */
#ifndef RML_TESTS_SAMPLE_H
#define RML_TESTS_SAMPLE_H

#include <math.h>

#include "tests/support/random.h"

enum sample_shape {
    SAMPLE_UNIFORM,
    SAMPLE_LOGNORMAL,
    SAMPLE_PARETO,
    SAMPLE_BIMODAL,
    SAMPLE_NEGATIVE,
    SAMPLE_MIXED,
    SAMPLE_WHOLE,
    SAMPLE_SHAPES
};

static inline const char *sample_name(enum sample_shape shape)
{
    static const char *const names[SAMPLE_SHAPES] = {
        "uniform", "lognormal", "Pareto", "bimodal", "negative", "mixed signs", "whole numbers"};
    return names[shape];
}

/* In (0, 1). */
static inline double sample_unit(uint64_t *seed)
{
    return ((double)(rml_test_random(seed) >> 12) + 0.5) * 0x1p-52;
}

/* Of the normal distribution (G. E. P. Box, M. E. Muller, 1958). */
static inline double sample_normal(uint64_t *seed)
{
    double radius = sqrt(-2 * log(sample_unit(seed)));
    return radius * cos(6.283185307179586 * sample_unit(seed));
}

static inline double sample(enum sample_shape shape, uint64_t *seed)
{
    switch (shape) {
    case SAMPLE_UNIFORM:
        return 1000 * sample_unit(seed);
    case SAMPLE_LOGNORMAL:
        return exp(3 + 1.5 * sample_normal(seed));
    case SAMPLE_PARETO:
        return 1 / sample_unit(seed);
    case SAMPLE_BIMODAL:
        return rml_test_random(seed) % 2 != 0 ? 1e-3 * (1 + 0.01 * sample_normal(seed))
                                              : 1e4 * (1 + 0.01 * sample_normal(seed));
    case SAMPLE_NEGATIVE:
        return -exp(2 * sample_normal(seed));
    case SAMPLE_MIXED:
        return rml_test_random(seed) % 2 != 0 ? -exp(2 * sample_normal(seed))
                                              : exp(2 * sample_normal(seed));
    case SAMPLE_WHOLE:
        return floor(20 * sample_normal(seed));
    case SAMPLE_SHAPES:
        break;
    }
    return 0;
}

#endif
