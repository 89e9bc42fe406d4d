/*
 * stat - what went through a pipeline in an interval, for people and for programs.
 */
#ifndef RML_TOOLS_STAT_H
#define RML_TOOLS_STAT_H

#include <stdbool.h>
#include <stdint.h>

#include "tools/look.h"
#include "tools/view.h"

struct rml_stat {
    const char *pipeline;
    const struct rml_board *board;
    uint64_t number;           // of the interval, from 0
    struct rml_look looks[2];  // at the interval's two ends; which is which changes
    uint32_t newer;
};

/* Take the look that the first interval begins with; then, any number of times, one that ends an
 * interval and begins the next. */
void rml_stat_begin(struct rml_stat *stat, const struct rml_view *view, int64_t now_ns);
void rml_stat_next(struct rml_stat *stat, int64_t now_ns);

/* The interval as a line: under names every so often; as JSON. */
void rml_stat_text(const struct rml_stat *stat);
void rml_stat_json(const struct rml_stat *stat);

const struct rml_look *rml_stat_before(const struct rml_stat *stat);
const struct rml_look *rml_stat_after(const struct rml_stat *stat);

/* Per second: records taken; records or rows let out; rows written; times gone to sleep; what a counter of the
 * journal gained. */
double rml_stat_source(const struct rml_stat *stat, uint32_t source);
double rml_stat_stage(const struct rml_stat *stat, uint32_t stage);
double rml_stat_sink(const struct rml_stat *stat, uint32_t sink);
double rml_stat_sleeps(const struct rml_stat *stat, uint32_t worker);
double rml_stat_journal(const struct rml_stat *stat, enum rml_journal_counter counter);
double rml_stat_busy(const struct rml_stat *stat, uint32_t worker);  // 0 to 1

/* Is there a journal? */
bool rml_stat_has_journal(const struct rml_stat *stat);

/* Does it count rows? Those of a ring are written by its stage, and counted there. */
bool rml_stat_is_file(const struct rml_stat *stat, uint32_t sink);

#endif
