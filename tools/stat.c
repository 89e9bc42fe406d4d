#include "tools/stat.h"

void rml_stat_begin(struct rml_stat *stat, const struct rml_view *view, int64_t now_ns)
{
    stat->pipeline = view->pipeline;
    stat->board = &view->board;
    stat->newer = 0;
    rml_look_take(&stat->looks[0], stat->board, now_ns);
    stat->number = UINT64_MAX;  // the next is 0
}

void rml_stat_next(struct rml_stat *stat, int64_t now_ns)
{
    stat->number++;
    stat->newer = 1 - stat->newer;
    rml_look_take(&stat->looks[stat->newer], stat->board, now_ns);
}

const struct rml_look *rml_stat_before(const struct rml_stat *stat)
{
    return &stat->looks[1 - stat->newer];
}

const struct rml_look *rml_stat_after(const struct rml_stat *stat)
{
    return &stat->looks[stat->newer];
}

static double rate(const struct rml_stat *stat, uint64_t was, uint64_t is)
{
    return rml_look_rate(rml_stat_before(stat), rml_stat_after(stat), was, is);
}

double rml_stat_source(const struct rml_stat *stat, uint32_t source)
{
    return rate(stat, rml_stat_before(stat)->totals.source[source][RML_SOURCE_taken],
                rml_stat_after(stat)->totals.source[source][RML_SOURCE_taken]);
}

double rml_stat_stage(const struct rml_stat *stat, uint32_t stage)
{
    return rate(stat, rml_look_out(rml_stat_before(stat), stat->board, stage),
                rml_look_out(rml_stat_after(stat), stat->board, stage));
}

double rml_stat_sink(const struct rml_stat *stat, uint32_t sink)
{
    return rate(stat, rml_stat_before(stat)->totals.sink[sink][RML_SINK_rows],
                rml_stat_after(stat)->totals.sink[sink][RML_SINK_rows]);
}

double rml_stat_sleeps(const struct rml_stat *stat, uint32_t worker)
{
    return rate(stat, rml_stat_before(stat)->totals.worker[worker][RML_WORKER_sleeps],
                rml_stat_after(stat)->totals.worker[worker][RML_WORKER_sleeps]);
}

double rml_stat_journal(const struct rml_stat *stat, enum rml_journal_counter counter)
{
    return rate(stat, rml_stat_before(stat)->totals.journal[counter],
                rml_stat_after(stat)->totals.journal[counter]);
}

bool rml_stat_has_journal(const struct rml_stat *stat)
{
    return rml_stat_after(stat)->totals.journal[RML_JOURNAL_max_bytes] > 0;
}

double rml_stat_busy(const struct rml_stat *stat, uint32_t worker)
{
    return rml_look_busy(rml_stat_before(stat), rml_stat_after(stat), worker);
}

bool rml_stat_is_file(const struct rml_stat *stat, uint32_t sink)
{
    return stat->board->sinks[sink].kind != RML_SINK_RING;
}
