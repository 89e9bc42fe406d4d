#include <stdio.h>

#include "tools/ctl.h"
#include "tools/explain.h"
#include "tools/json.h"
#include "tools/stat.h"

static void json_sources(struct rml_json *json, const struct rml_stat *stat)
{
    const struct rml_board *board = stat->board;
    const struct rml_look *after = rml_stat_after(stat);
    rml_json_open(json, "sources", '[');
    for (uint32_t s = 0; s < board->head->sources; s++) {
        rml_json_open(json, NULL, '{');
        rml_json_text(json, "name", board->sources[s].name);
        rml_json_unsigned(json, "taken", after->totals.source[s][RML_SOURCE_taken]);
        rml_json_real(json, "records_per_s", rml_stat_source(stat, s));
        rml_json_close(json, '}');
    }
    rml_json_close(json, ']');
}

static void json_stages(struct rml_json *json, const struct rml_stat *stat)
{
    const struct rml_board *board = stat->board;
    const struct rml_look *after = rml_stat_after(stat);
    const struct rml_look *before = rml_stat_before(stat);
    rml_json_open(json, "stages", '[');
    for (uint32_t s = 0; s < board->head->stages; s++) {
        rml_json_open(json, NULL, '{');
        rml_json_text(json, "name", board->stages[s].name);
        rml_json_unsigned(json, "in", after->totals.stage[s][RML_STAGE_in]);
        rml_json_unsigned(json, "out", rml_look_out(after, board, s));
        rml_json_real(json, "in_per_s",
                      rml_look_rate(before, after, before->totals.stage[s][RML_STAGE_in],
                                    after->totals.stage[s][RML_STAGE_in]));
        rml_json_real(json, "out_per_s", rml_stat_stage(stat, s));
        rml_json_close(json, '}');
    }
    rml_json_close(json, ']');
}

static void json_sinks(struct rml_json *json, const struct rml_stat *stat)
{
    const struct rml_board *board = stat->board;
    const struct rml_look *after = rml_stat_after(stat);
    rml_json_open(json, "sinks", '[');
    for (uint32_t s = 0; s < board->head->sinks; s++) {
        rml_json_open(json, NULL, '{');
        rml_json_text(json, "name", board->sinks[s].name);
        rml_json_text(json, "type", rml_explain_sink_kinds[board->sinks[s].kind]);
        if (rml_stat_is_file(stat, s)) {
            rml_json_unsigned(json, "rows", after->totals.sink[s][RML_SINK_rows]);
            rml_json_unsigned(json, "lost", after->totals.sink[s][RML_SINK_lost]);
            rml_json_real(json, "rows_per_s", rml_stat_sink(stat, s));
        }
        rml_json_close(json, '}');
    }
    rml_json_close(json, ']');
}

static void json_workers(struct rml_json *json, const struct rml_stat *stat)
{
    const struct rml_board *board = stat->board;
    rml_json_open(json, "workers", '[');
    for (uint32_t w = 0; w < board->head->workers; w++) {
        rml_json_open(json, NULL, '{');
        rml_json_unsigned(json, "worker", w);
        rml_json_real(json, "busy", rml_stat_busy(stat, w));
        rml_json_real(json, "sleeps_per_s", rml_stat_sleeps(stat, w));
        rml_json_close(json, '}');
    }
    rml_json_close(json, ']');
}

static void json_journal(struct rml_json *json, const struct rml_stat *stat)
{
    const uint64_t *counts = rml_stat_after(stat)->totals.journal;
    if (!rml_stat_has_journal(stat)) {
        rml_json_text(json, "journal", NULL);
        return;
    }
    rml_json_open(json, "journal", '{');
    rml_json_unsigned(json, "records", counts[RML_JOURNAL_records]);
    rml_json_unsigned(json, "bytes", counts[RML_JOURNAL_bytes]);
    rml_json_unsigned(json, "flushes", counts[RML_JOURNAL_flushes]);
    rml_json_real(json, "records_per_s", rml_stat_journal(stat, RML_JOURNAL_records));
    rml_json_real(json, "bytes_per_s", rml_stat_journal(stat, RML_JOURNAL_bytes));
    rml_json_real(json, "flushes_per_s", rml_stat_journal(stat, RML_JOURNAL_flushes));
    rml_json_close(json, '}');
}

void rml_stat_json(const struct rml_stat *stat)
{
    struct rml_json json = {.out = stdout};
    rml_json_open(&json, NULL, '{');
    rml_json_text(&json, "schema", "ringctl.stat/1");
    rml_json_text(&json, "pipeline", stat->pipeline);
    rml_json_text(&json, "state", rml_ctl_state(stat->board));
    rml_json_unsigned(&json, "interval", stat->number);
    rml_json_integer(&json, "interval_ns",
                     rml_stat_after(stat)->at_ns - rml_stat_before(stat)->at_ns);
    json_sources(&json, stat);
    json_stages(&json, stat);
    json_sinks(&json, stat);
    json_workers(&json, stat);
    json_journal(&json, stat);
    rml_json_close(&json, '}');
    printf("\n");
}
