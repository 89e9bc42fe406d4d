/*
 * figures - many short measurements become a median with its quartiles.
 */
#ifndef RML_BENCH_FIGURES_H
#define RML_BENCH_FIGURES_H

#include <stdbool.h>
#include <stdint.h>

/* Values gathered in memory reserved at the start; what comes after `limit` values is left out. */
struct bench_figures {
    double *values;
    uint32_t count, limit;
    bool is_sorted;
};

struct bench_quartiles {
    double q1, median, q3;
};

/* 0 or -ENOMEM. Pair with fini. */
int bench_figures_init(struct bench_figures *figures, uint32_t limit);
void bench_figures_fini(struct bench_figures *figures);
void bench_figures_add(struct bench_figures *figures, double value);

/* The value below which the part `q` of at least one value lies. Sorts them. */
double bench_figures_quantile(struct bench_figures *figures, double q);

/* Of at least one value; sorts them. Type 7: linear between the two nearest. */
struct bench_quartiles bench_figures_quartiles(struct bench_figures *figures);

#endif
