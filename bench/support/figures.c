#include "bench/support/figures.h"

#include <errno.h>
#include <stdlib.h>

#include "runtime/base/check.h"

int bench_figures_init(struct bench_figures *figures, uint32_t limit)
{
    *figures = (struct bench_figures){.values = calloc(limit, sizeof(double)), .limit = limit};
    return figures->values == NULL ? -ENOMEM : 0;
}

void bench_figures_fini(struct bench_figures *figures)
{
    free(figures->values);
    *figures = (struct bench_figures){0};
}

void bench_figures_add(struct bench_figures *figures, double value)
{
    if (figures->count < figures->limit)
        figures->values[figures->count++] = value;
    figures->is_sorted = false;
}

static int by_value(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static void sort(struct bench_figures *figures)
{
    RML_CHECK(figures->count > 0);
    if (!figures->is_sorted)
        qsort(figures->values, figures->count, sizeof(double), by_value);
    figures->is_sorted = true;
}

static double quantile(const struct bench_figures *sorted, double q)
{
    double at = q * (double)(sorted->count - 1);
    uint32_t below = (uint32_t)at;
    if (below + 1 == sorted->count)
        return sorted->values[below];
    double part = at - (double)below;
    return sorted->values[below] * (1 - part) + sorted->values[below + 1] * part;
}

double bench_figures_quantile(struct bench_figures *figures, double q)
{
    sort(figures);
    return quantile(figures, q);
}

struct bench_quartiles bench_figures_quartiles(struct bench_figures *figures)
{
    sort(figures);
    return (struct bench_quartiles){.q1 = quantile(figures, 0.25),
                                    .median = quantile(figures, 0.5),
                                    .q3 = quantile(figures, 0.75)};
}
