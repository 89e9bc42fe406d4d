#include <stdio.h>

#include "runtime/time/time.h"
#include "tools/ctl.h"
#include "tools/explain.h"
#include "tools/json.h"
#include "tools/status.h"

static void json_counters(struct rml_json *json, const struct rml_counter_info *info,
                          uint32_t count, const uint64_t *values)
{
    for (uint32_t c = 0; c < count; c++)
        rml_json_unsigned(json, info[c].name, values[c]);
}

static void json_gate(struct rml_json *json, const struct rml_gate_counts *counts)
{
    rml_json_open(json, "gate", '{');
    for (uint32_t c = 0; c < RML_GATE_COUNTERS; c++)
        rml_json_unsigned(json, rml_gate_counter_info[c].name, rml_count_read(&counts->value[c]));
    rml_json_close(json, '}');
}

static void json_workers(struct rml_json *json, const struct rml_status *status)
{
    const struct rml_board *board = status->board;
    rml_json_open(json, "workers", '[');
    for (uint32_t w = 0; w < board->head->workers; w++) {
        int cpu = rml_board_cpu(board, w);
        rml_json_open(json, NULL, '{');
        rml_json_unsigned(json, "worker", w);
        rml_json_bool(json, "pinned", cpu >= 0);
        if (cpu >= 0)
            rml_json_integer(json, "cpu", cpu);
        else
            rml_json_text(json, "cpu", NULL);
        rml_json_unsigned(json, "asleep_ns", status->look.asleep_ns[w]);
        json_counters(json, rml_worker_counter_info, RML_WORKER_asleep_since,
                      status->look.totals.worker[w]);
        rml_json_close(json, '}');
    }
    rml_json_close(json, ']');
}

static void json_sources(struct rml_json *json, const struct rml_status *status)
{
    const struct rml_board *board = status->board;
    rml_json_open(json, "sources", '[');
    for (uint32_t s = 0; s < board->head->sources; s++) {
        const struct rml_board_source *source = &board->sources[s];
        int64_t watermark;
        rml_json_open(json, NULL, '{');
        rml_json_text(json, "name", source->name);
        rml_json_text(json, "schema", source->schema);
        rml_json_unsigned(json, "record_bytes", source->record_bytes);
        rml_json_unsigned(json, "cells", source->cells);
        rml_json_bool(json, "journal", source->has_journal != 0);
        rml_json_unsigned(json, "lanes", rml_status_lanes(status, s));
        rml_json_unsigned(json, "lanes_gone", rml_count_read(&board->live_sources[s].lanes_gone));
        rml_json_unsigned(json, "published", status->look.totals.published[s]);
        rml_json_unsigned(json, "backlog", rml_status_backlog(status, s));
        rml_json_unsigned(json, "dropped", status->look.totals.dropped[s]);
        json_counters(json, rml_source_counter_info, RML_SOURCE_watermark,
                      status->look.totals.source[s]);
        rml_json_unsigned(json, "ahead", status->look.totals.source[s][RML_SOURCE_ahead]);
        if (rml_status_watermark(status, s, &watermark)) {
            rml_json_integer(json, "watermark", watermark);
            rml_json_integer(json, "lag_ns", rml_time_sub(status->wall_ns, watermark));
        } else {
            rml_json_text(json, "watermark", NULL);
            rml_json_text(json, "lag_ns", NULL);
        }
        rml_json_close(json, '}');
    }
    rml_json_close(json, ']');
}

static void json_stages(struct rml_json *json, const struct rml_status *status)
{
    const struct rml_board *board = status->board;
    rml_json_open(json, "stages", '[');
    for (uint32_t s = 0; s < board->head->stages; s++) {
        const struct rml_board_stage *stage = &board->stages[s];
        char from[RML_STATUS_NAME];
        rml_status_from(board, s, from);
        rml_json_open(json, NULL, '{');
        rml_json_text(json, "name", stage->name);
        rml_json_text(json, "kind", rml_explain_stage_kinds[stage->kind]);
        rml_json_text(json, "from", from);
        if (stage->kind == RML_STAGE_WINDOW) {
            rml_json_text(json, "window", rml_explain_window_kinds[stage->window]);
            if (stage->window == RML_WINDOW_SESSION) {
                rml_json_integer(json, "gap_ns", stage->gap_ns);
            } else if (stage->window == RML_WINDOW_COUNT) {
                rml_json_unsigned(json, "size_records", stage->size_records);
                rml_json_unsigned(json, "every_records", stage->every_records);
            } else if (stage->window != RML_WINDOW_GLOBAL) {
                rml_json_integer(json, "size_ns", stage->size_ns);
                rml_json_integer(json, "every_ns", stage->every_ns);
            }
            rml_json_integer(json, "late_ns", stage->late_ns);
        }
        rml_json_unsigned(json, "out", rml_look_out(&status->look, board, s));
        json_counters(json, rml_stage_counter_info, RML_STAGE_COUNTERS,
                      status->look.totals.stage[s]);
        rml_json_close(json, '}');
    }
    rml_json_close(json, ']');
}

static void json_sinks(struct rml_json *json, const struct rml_status *status)
{
    const struct rml_board *board = status->board;
    rml_json_open(json, "sinks", '[');
    for (uint32_t s = 0; s < board->head->sinks; s++) {
        const struct rml_board_sink *sink = &board->sinks[s];
        rml_json_open(json, NULL, '{');
        rml_json_text(json, "name", sink->name);
        rml_json_text(json, "type", rml_explain_sink_kinds[sink->kind]);
        rml_json_text(json, "path", sink->path[0] != '\0' ? sink->path : NULL);
        rml_json_open(json, "from", '[');
        for (uint32_t i = 0; i < sink->from_count; i++) {
            char from[RML_STATUS_NAME];
            rml_status_output(board, sink->from[i], from);
            rml_json_text(json, NULL, from);
        }
        rml_json_close(json, ']');
        if (sink->kind != RML_SINK_RING)
            json_counters(json, rml_sink_counter_info, RML_SINK_COUNTERS,
                          status->look.totals.sink[s]);
        rml_json_close(json, '}');
    }
    rml_json_close(json, ']');
}

static void json_restarts(struct rml_json *json, const struct rml_board *board)
{
    struct rml_board_death death;
    rml_board_death_read(board, &death);
    rml_json_unsigned(json, "restarts", rml_board_restarts(board));
    if (death.wall_ns == 0) {
        rml_json_text(json, "last_death", NULL);
        return;
    }
    rml_json_open(json, "last_death", '{');
    rml_json_integer(json, "at_ns", death.wall_ns);
    rml_json_unsigned(json, "pid", death.pid);
    rml_json_text(json, "why", death.why);
    rml_json_close(json, '}');
}

static void json_catalog(struct rml_json *json, const struct rml_board_saves *saves)
{
    rml_json_open(json, "catalog", '{');
    rml_json_unsigned(json, "bytes", saves->catalog_bytes);
    rml_json_unsigned(json, "bytes_max", saves->catalog_bytes_max);
    rml_json_unsigned(json, "readers", saves->reader_count);
    rml_json_unsigned(json, "times_held_back", saves->times_held_back);
    if (saves->reader_pid == 0) {
        rml_json_text(json, "held_back_by", NULL);
    } else {
        rml_json_open(json, "held_back_by", '{');
        rml_json_unsigned(json, "pid", saves->reader_pid);
        rml_json_text(json, "program", saves->reader_program);
        rml_json_integer(json, "since_ns", saves->reader_since_ns);
        rml_json_unsigned(json, "commits", saves->reader_behind);
        rml_json_close(json, '}');
    }
    rml_json_close(json, '}');
}

static void json_saves(struct rml_json *json, const struct rml_board *board)
{
    struct rml_board_saves saves;
    if (board->head->state_folder[0] == '\0') {
        rml_json_text(json, "checkpoints", NULL);
        return;
    }
    rml_board_saves_read(board, &saves);
    rml_json_open(json, "checkpoints", '{');
    rml_json_text(json, "folder", board->head->state_folder);
    rml_json_text(json, "way", saves.way);
    rml_json_text(json, "why_not", saves.why_not[0] != '\0' ? saves.why_not : NULL);
    rml_json_unsigned(json, "durable", saves.durable);
    rml_json_unsigned(json, "failed", saves.failed);
    rml_json_unsigned(json, "bytes_written", saves.bytes_all);
    rml_json_unsigned(json, "took_ns_sum", saves.took_ns_all);
    rml_json_unsigned(json, "took_ns_max", saves.took_ns_most);
    rml_json_text(json, "wanted_by",
                  saves.durable + saves.failed > 0 ? rml_status_wanted[saves.wanted_by] : NULL);
    rml_json_open(json, "wanted", '{');
    for (uint32_t i = 0; i < RML_BOARD_WANTED_COUNT; i++)
        rml_json_unsigned(json, rml_status_wanted[i], saves.wanted[i]);
    rml_json_close(json, '}');
    rml_json_unsigned(json, "lanes_full", saves.lanes_full);
    rml_json_unsigned(json, "schedules_full", saves.schedules_full);
    rml_json_unsigned(json, "restored_epoch", saves.restored_epoch);
    rml_json_unsigned(json, "gone_back_from", saves.gone_back_from);
    rml_json_unsigned(json, "records_missing", saves.records_missing);
    rml_json_unsigned(json, "rows_missing", saves.rows_missing);
    json_catalog(json, &saves);
    if (saves.durable == 0) {
        rml_json_text(json, "last", NULL);
    } else {
        rml_json_open(json, "last", '{');
        rml_json_unsigned(json, "epoch", saves.epoch);
        rml_json_integer(json, "at_ns", saves.durable_ns);
        rml_json_unsigned(json, "own_bytes", saves.bytes);
        rml_json_unsigned(json, "took_ns", saves.took_ns);
        rml_json_close(json, '}');
    }
    if (saves.failed == 0) {
        rml_json_text(json, "last_failure", NULL);
    } else {
        rml_json_open(json, "last_failure", '{');
        rml_json_integer(json, "at_ns", saves.failed_ns);
        rml_json_text(json, "why", saves.failed_why);
        rml_json_close(json, '}');
    }
    rml_json_close(json, '}');
}

void rml_status_json(const struct rml_status *status)
{
    const struct rml_board_head *head = status->board->head;
    struct rml_json json = {.out = stdout};
    rml_json_open(&json, NULL, '{');
    rml_json_text(&json, "schema", "ringctl.status/1");
    rml_json_text(&json, "pipeline", status->pipeline);
    rml_json_text(&json, "state", rml_ctl_state(status->board));
    rml_json_text(&json, "file", head->path);
    rml_json_unsigned(&json, "pid", head->pid);
    rml_json_unsigned(&json, "engine_pid", rml_board_engine_pid(status->board));
    rml_json_unsigned(&json, "uid", head->uid);
    rml_json_integer(&json, "start_ns", head->start_ns);
    rml_json_integer(&json, "uptime_ns", rml_status_uptime(status));
    json_restarts(&json, status->board);
    json_saves(&json, status->board);
    rml_status_journal_json(&json, status);
    rml_json_open(&json, "memory", '{');
    rml_json_text(&json, "allocator", head->allocator);
    rml_json_unsigned(&json, "allocated", rml_count_read(&status->board->live->memory_allocated));
    rml_json_unsigned(&json, "resident", rml_count_read(&status->board->live->memory_resident));
    rml_json_close(&json, '}');
    rml_json_unsigned(&json, "partitions", head->partitions);
    rml_json_unsigned(&json, "lanes", rml_ctl_lanes(status->board));
    rml_json_unsigned(&json, "lanes_max", head->lanes_max);
    json_gate(&json, &status->board->live->gate);
    json_workers(&json, status);
    json_sources(&json, status);
    json_stages(&json, status);
    json_sinks(&json, status);
    rml_json_close(&json, '}');
    printf("\n");
}
