#include <inttypes.h>
#include <stdio.h>

#include "runtime/plan/units.h"
#include "runtime/time/clock.h"
#include "runtime/time/time.h"
#include "tools/about.h"
#include "tools/commands.h"
#include "tools/ctl.h"
#include "tools/exit.h"
#include "tools/explain.h"
#include "tools/json.h"
#include "tools/look.h"
#include "tools/table.h"

static struct rml_look look;  // by the time of the command; too large for a stack

static int64_t wall_now(void)
{
    return rml_clock_system.wall_ns(rml_clock_system.context);
}

/* What the board does not say outright */

// Lanes of a source that are attached or ending.
static uint32_t lanes_of(const struct rml_board *board, uint32_t source)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < board->head->lanes_max; i++) {
        struct rml_board_lane lane;
        rml_board_lane_read(board, i, &lane);
        count += lane.state != RML_BOARD_LANE_FREE && lane.source == source;
    }
    return count;
}

static uint64_t backlog_of(uint32_t source)
{
    uint64_t published = look.totals.published[source];
    uint64_t taken = look.totals.source[source][RML_SOURCE_taken];
    return published > taken ? published - taken : 0;
}

// The watermark, if it is a time: before the first record and after the end it is none.
static bool watermark_of(uint32_t source, int64_t *ret_ns)
{
    *ret_ns = (int64_t)look.totals.source[source][RML_SOURCE_watermark];
    return *ret_ns != RML_TIME_NONE && *ret_ns != RML_TIME_END;
}

// "calls", "marked", "per_second.late"
static void from_of(const struct rml_board *board, const struct rml_board_stage *stage,
                    char text[2 * RML_BOARD_NAME])
{
    const char *parent = stage->from == RML_NO_STAGE ? board->sources[stage->source].name
                                                     : board->stages[stage->from].name;
    snprintf(text, 2 * (size_t)RML_BOARD_NAME, "%s%s", parent, stage->from_late ? ".late" : "");
}

static void output_of(const struct rml_board *board, uint32_t output, char text[2 * RML_BOARD_NAME])
{
    snprintf(text, 2 * (size_t)RML_BOARD_NAME, "%s%s", board->stages[output / 2].name,
             output % 2 != 0 ? ".late" : "");
}

/* For people */

static void print_head(const struct rml_view *view)
{
    const struct rml_board_head *head = view->board.head;
    char since[40], up[32];
    rml_ctl_second(head->start_ns, since);
    rml_about_duration(rml_time_sub(wall_now(), head->start_ns), up);
    printf("pipeline    %s\n", view->pipeline);
    printf("state       %s\n", rml_ctl_state(&view->board));
    printf("file        %s\n", head->path);
    printf("process     %" PRIu32 ", user %" PRIu32 "\n", head->pid, head->uid);
    printf("up          %s, since %s\n", up, since);
    printf("partitions  %" PRIu32 "\n", head->partitions);
    printf("lanes       %" PRIu32 " of %" PRIu32 "\n", rml_ctl_lanes(&view->board),
           head->lanes_max);
}

static int print_workers(const struct rml_board *board)
{
    static const char *const columns[] = {">WORKER", ">CPU",    ">STEPS",  ">RECORDS",
                                          ">ASLEEP", ">SLEEPS", ">WAITED", ">LONGEST STEP"};
    struct rml_table table;
    rml_table_begin(&table, columns, sizeof columns / sizeof columns[0]);
    for (uint32_t w = 0; w < board->head->workers; w++) {
        const uint64_t *counts = look.totals.worker[w];
        char asleep[32], waited[32], longest[32];
        rml_about_duration((int64_t)look.asleep_ns[w], asleep);
        rml_about_duration((int64_t)counts[RML_WORKER_backpressure_ns], waited);
        int cpu = rml_board_cpu(board, w);
        rml_table_row(&table);
        rml_table_number(&table, w);
        rml_table_cell(&table, cpu >= 0 ? "%d" : "any", cpu);
        rml_table_number(&table, counts[RML_WORKER_steps]);
        rml_table_number(&table, counts[RML_WORKER_records]);
        rml_table_cell(&table, "%s", asleep);
        rml_table_number(&table, counts[RML_WORKER_sleeps]);
        rml_table_cell(&table, "%s", waited);
        snprintf(longest, sizeof longest, "%.3fms", (double)counts[RML_WORKER_step_ns_max] / 1e6);
        rml_table_cell(&table, "%s", longest);
    }
    return rml_table_end(&table, stdout);
}

static int print_sources(const struct rml_board *board)
{
    static const char *const columns[] = {"SOURCE",     ">LANES",    ">PUBLISHED",
                                          ">TAKEN",     ">BACKLOG",  ">DROPPED",
                                          ">MALFORMED", "WATERMARK", ">BEHIND NOW"};
    struct rml_table table;
    rml_table_begin(&table, columns, sizeof columns / sizeof columns[0]);
    for (uint32_t s = 0; s < board->head->sources; s++) {
        const uint64_t *counts = look.totals.source[s];
        char time[40] = "-", lag[32] = "-";
        int64_t watermark;
        if (watermark_of(s, &watermark)) {
            rml_time_print_rfc3339(watermark, time);
            rml_about_duration(rml_time_sub(wall_now(), watermark), lag);
        }
        rml_table_row(&table);
        rml_table_cell(&table, "%s", board->sources[s].name);
        rml_table_number(&table, lanes_of(board, s));
        rml_table_number(&table, look.totals.published[s]);
        rml_table_number(&table, counts[RML_SOURCE_taken]);
        rml_table_number(&table, backlog_of(s));
        rml_table_number(&table, look.totals.dropped[s]);
        rml_table_number(&table, counts[RML_SOURCE_malformed]);
        rml_table_cell(&table, "%s", time);
        rml_table_cell(&table, "%s", lag);
    }
    return rml_table_end(&table, stdout);
}

static int print_stages(const struct rml_board *board)
{
    static const char *const columns[] = {"STAGE", "KIND",  "FROM",  ">IN",
                                          ">OUT",  ">LATE", ">KEYS", ">STATE"};
    struct rml_table table;
    rml_table_begin(&table, columns, sizeof columns / sizeof columns[0]);
    for (uint32_t s = 0; s < board->head->stages; s++) {
        const struct rml_board_stage *stage = &board->stages[s];
        const uint64_t *counts = look.totals.stage[s];
        char from[2 * RML_BOARD_NAME], state[32];
        from_of(board, stage, from);
        rml_size_print_about(counts[RML_STAGE_state_bytes], state);
        rml_table_row(&table);
        rml_table_cell(&table, "%s", stage->name);
        rml_table_cell(&table, "%s",
                       stage->kind == RML_STAGE_WINDOW ? rml_explain_window_kinds[stage->window]
                                                       : rml_explain_stage_kinds[stage->kind]);
        rml_table_cell(&table, "%s", from);
        rml_table_number(&table, counts[RML_STAGE_in]);
        rml_table_number(&table, rml_look_out(&look, board, s));
        rml_table_number(&table, counts[RML_STAGE_late]);
        rml_table_number(&table, counts[RML_STAGE_keys]);
        rml_table_cell(&table, "%s", state);
    }
    return rml_table_end(&table, stdout);
}

static int print_sinks(const struct rml_board *board)
{
    static const char *const columns[] = {"SINK",   "TYPE",  "FROM", ">ROWS",
                                          ">BYTES", ">LOST", "FILE"};
    struct rml_table table;
    rml_table_begin(&table, columns, sizeof columns / sizeof columns[0]);
    for (uint32_t s = 0; s < board->head->sinks; s++) {
        const struct rml_board_sink *sink = &board->sinks[s];
        const uint64_t *counts = look.totals.sink[s];
        char from[256] = "", one[2 * RML_BOARD_NAME];
        size_t used = 0;
        for (uint32_t i = 0; i < sink->from_count && used < sizeof from; i++) {
            output_of(board, sink->from[i], one);
            used +=
                (size_t)snprintf(from + used, sizeof from - used, "%s%s", i > 0 ? ", " : "", one);
        }
        bool is_ring = sink->kind == RML_SINK_RING;
        rml_table_row(&table);
        rml_table_cell(&table, "%s", sink->name);
        rml_table_cell(&table, "%s", rml_explain_sink_kinds[sink->kind]);
        rml_table_cell(&table, "%s", from);
        // rows of a ring are written by the stage itself and counted there
        rml_table_cell(&table, is_ring ? "-" : "%" PRIu64, counts[RML_SINK_rows]);
        rml_table_cell(&table, is_ring ? "-" : "%" PRIu64, counts[RML_SINK_bytes]);
        rml_table_cell(&table, is_ring ? "-" : "%" PRIu64, counts[RML_SINK_lost]);
        rml_table_cell(&table, "%s", sink->path);
    }
    return rml_table_end(&table, stdout);
}

static int print_text(const struct rml_view *view)
{
    int (*const parts[])(const struct rml_board *) = {print_workers, print_sources, print_stages,
                                                      print_sinks};
    print_head(view);
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        printf("\n");
        if (parts[i](&view->board) < 0)
            return RML_EXIT_FAILED;
    }
    return RML_EXIT_OK;
}

/* For programs */

static void json_counters(struct rml_json *json, const struct rml_counter_info *info,
                          uint32_t count, const uint64_t *values)
{
    for (uint32_t c = 0; c < count; c++)
        rml_json_unsigned(json, info[c].name, values[c]);
}

static void json_workers(struct rml_json *json, const struct rml_board *board)
{
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
        rml_json_unsigned(json, "asleep_ns", look.asleep_ns[w]);
        json_counters(json, rml_worker_counter_info, RML_WORKER_asleep_since,
                      look.totals.worker[w]);
        rml_json_close(json, '}');
    }
    rml_json_close(json, ']');
}

static void json_sources(struct rml_json *json, const struct rml_board *board)
{
    rml_json_open(json, "sources", '[');
    for (uint32_t s = 0; s < board->head->sources; s++) {
        const struct rml_board_source *source = &board->sources[s];
        int64_t watermark;
        rml_json_open(json, NULL, '{');
        rml_json_text(json, "name", source->name);
        rml_json_text(json, "schema", source->schema);
        rml_json_unsigned(json, "record_bytes", source->record_bytes);
        rml_json_unsigned(json, "cells", source->cells);
        rml_json_unsigned(json, "lanes", lanes_of(board, s));
        rml_json_unsigned(json, "lanes_gone", rml_count_read(&source->lanes_gone));
        rml_json_unsigned(json, "published", look.totals.published[s]);
        rml_json_unsigned(json, "backlog", backlog_of(s));
        rml_json_unsigned(json, "dropped", look.totals.dropped[s]);
        json_counters(json, rml_source_counter_info, RML_SOURCE_watermark, look.totals.source[s]);
        if (watermark_of(s, &watermark)) {
            rml_json_integer(json, "watermark", watermark);
            rml_json_integer(json, "lag_ns", rml_time_sub(wall_now(), watermark));
        } else {
            rml_json_text(json, "watermark", NULL);
            rml_json_text(json, "lag_ns", NULL);
        }
        rml_json_close(json, '}');
    }
    rml_json_close(json, ']');
}

static void json_stages(struct rml_json *json, const struct rml_board *board)
{
    rml_json_open(json, "stages", '[');
    for (uint32_t s = 0; s < board->head->stages; s++) {
        const struct rml_board_stage *stage = &board->stages[s];
        char from[2 * RML_BOARD_NAME];
        from_of(board, stage, from);
        rml_json_open(json, NULL, '{');
        rml_json_text(json, "name", stage->name);
        rml_json_text(json, "kind", rml_explain_stage_kinds[stage->kind]);
        rml_json_text(json, "from", from);
        if (stage->kind == RML_STAGE_WINDOW) {
            rml_json_text(json, "window", rml_explain_window_kinds[stage->window]);
            if (stage->window == RML_WINDOW_SESSION) {
                rml_json_integer(json, "gap_ns", stage->gap_ns);
            } else {
                rml_json_integer(json, "size_ns", stage->size_ns);
                rml_json_integer(json, "every_ns", stage->every_ns);
            }
            rml_json_integer(json, "late_ns", stage->late_ns);
        }
        rml_json_unsigned(json, "out", rml_look_out(&look, board, s));
        json_counters(json, rml_stage_counter_info, RML_STAGE_COUNTERS, look.totals.stage[s]);
        rml_json_close(json, '}');
    }
    rml_json_close(json, ']');
}

static void json_sinks(struct rml_json *json, const struct rml_board *board)
{
    rml_json_open(json, "sinks", '[');
    for (uint32_t s = 0; s < board->head->sinks; s++) {
        const struct rml_board_sink *sink = &board->sinks[s];
        rml_json_open(json, NULL, '{');
        rml_json_text(json, "name", sink->name);
        rml_json_text(json, "type", rml_explain_sink_kinds[sink->kind]);
        rml_json_text(json, "path", sink->path[0] != '\0' ? sink->path : NULL);
        rml_json_open(json, "from", '[');
        for (uint32_t i = 0; i < sink->from_count; i++) {
            char from[2 * RML_BOARD_NAME];
            output_of(board, sink->from[i], from);
            rml_json_text(json, NULL, from);
        }
        rml_json_close(json, ']');
        if (sink->kind != RML_SINK_RING)
            json_counters(json, rml_sink_counter_info, RML_SINK_COUNTERS, look.totals.sink[s]);
        rml_json_close(json, '}');
    }
    rml_json_close(json, ']');
}

static void print_json(const struct rml_view *view)
{
    const struct rml_board_head *head = view->board.head;
    struct rml_json json = {.out = stdout};
    rml_json_open(&json, NULL, '{');
    rml_json_text(&json, "schema", "ringctl.status/1");
    rml_json_text(&json, "pipeline", view->pipeline);
    rml_json_text(&json, "state", rml_ctl_state(&view->board));
    rml_json_text(&json, "file", head->path);
    rml_json_unsigned(&json, "pid", head->pid);
    rml_json_unsigned(&json, "uid", head->uid);
    rml_json_integer(&json, "start_ns", head->start_ns);
    rml_json_integer(&json, "uptime_ns", rml_time_sub(wall_now(), head->start_ns));
    rml_json_unsigned(&json, "partitions", head->partitions);
    rml_json_unsigned(&json, "lanes", rml_ctl_lanes(&view->board));
    rml_json_unsigned(&json, "lanes_max", head->lanes_max);
    json_workers(&json, &view->board);
    json_sources(&json, &view->board);
    json_stages(&json, &view->board);
    json_sinks(&json, &view->board);
    rml_json_close(&json, '}');
    printf("\n");
}

static int show(const struct rml_ctl *ctl, struct rml_view *view)
{
    rml_look_take(&look, &view->board, rml_clock_system.monotonic_ns(rml_clock_system.context));
    if (!ctl->as_json)
        return print_text(view);
    print_json(view);
    return RML_EXIT_OK;
}

int rml_ctl_cmd_status(int argc, char **argv)
{
    const struct rml_args args = {
        .usage = "ringctl status [PIPELINE] [--json] [--timeout DURATION]",
        .sentence =
            "Show a running pipeline: its process, workers and the CPUs that they are pinned\n"
            "to, how far sources are (watermark) and what waits in lanes (backlog), what went\n"
            "into stages and came out, what sinks wrote and lost.",
    };
    struct rml_ctl ctl = {0};
    return rml_ctl_run(&ctl, &args, argc, argv, show);
}
