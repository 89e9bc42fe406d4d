#include <inttypes.h>
#include <stdio.h>

#include "tools/commands.h"
#include "tools/ctl.h"
#include "tools/exit.h"
#include "tools/json.h"
#include "tools/table.h"

static bool is_shared(const struct rml_board_lane *lane)
{
    return lane->variant == RML_RING_VARIANTS;
}

static const char *variant_of(const struct rml_board_lane *lane)
{
    static const char *const names[RML_RING_VARIANTS] = {
        [RML_RING_PLAIN] = "plain", [RML_RING_STAGED] = "staged", [RML_RING_FLUSH] = "flush"};
    if (is_shared(lane))
        return "shared";
    return lane->variant < RML_RING_VARIANTS ? names[lane->variant] : "?";
}

static const char *state_of(const struct rml_board_lane *lane)
{
    return lane->state == RML_BOARD_LANE_ATTACHED ? "attached"
           : lane->state == RML_BOARD_LANE_CLOSED ? "closed"
                                                  : "ending";
}

static uint64_t backlog_of(const struct rml_board_lane *lane)
{
    return lane->published > lane->taken ? lane->published - lane->taken : 0;
}

static const char *source_of(const struct rml_board *board, const struct rml_board_lane *lane)
{
    return lane->source < board->head->sources ? board->sources[lane->source].name : "?";
}

static void row(struct rml_table *table, const struct rml_board *board, uint32_t index,
                const struct rml_board_lane *lane)
{
    rml_table_row(table);
    rml_table_number(table, index);
    rml_table_cell(table, "%s", source_of(board, lane));
    rml_table_number(table, lane->pid);
    rml_table_number(table, lane->uid);
    if (is_shared(lane))
        rml_table_cell(table, "%u %s", lane->producers,
                       lane->producers == 1 ? "producer" : "producers");
    else
        rml_table_cell(table, "%s", lane->program);
    rml_table_number(table, lane->published);
    rml_table_number(table, lane->taken);
    rml_table_number(table, backlog_of(lane));
    rml_table_number(table, lane->dropped);
    rml_table_cell(table, "%s", variant_of(lane));
    rml_table_cell(table, "%s", state_of(lane));
    rml_table_cell(table, "%s", lane->reason);
}

static void json_one(struct rml_json *json, const struct rml_board *board, uint32_t index,
                     const struct rml_board_lane *lane)
{
    rml_json_open(json, NULL, '{');
    rml_json_unsigned(json, "lane", index);
    rml_json_text(json, "source", source_of(board, lane));
    rml_json_unsigned(json, "pid", lane->pid);
    rml_json_unsigned(json, "uid", lane->uid);
    rml_json_text(json, "program", lane->program);
    rml_json_integer(json, "since_ns", lane->since_ns);
    rml_json_unsigned(json, "published", lane->published);
    rml_json_unsigned(json, "taken", lane->taken);
    rml_json_unsigned(json, "backlog", backlog_of(lane));
    rml_json_unsigned(json, "released", lane->released);
    rml_json_unsigned(json, "dropped", lane->dropped);
    rml_json_text(json, "variant", variant_of(lane));
    if (is_shared(lane)) {
        rml_json_unsigned(json, "producers", lane->producers);
        rml_json_unsigned(json, "tombstones", lane->tombstones);
        rml_json_unsigned(json, "passed_over", lane->passed);
    }
    rml_json_text(json, "state", state_of(lane));
    rml_json_text(json, "reason", lane->reason[0] != '\0' ? lane->reason : NULL);
    rml_json_close(json, '}');
}

// One that is attached, or ends, or was the last of its number and was closed.
static bool read_lane(const struct rml_board *board, uint32_t index, struct rml_board_lane *lane)
{
    if (rml_board_lane_closed(board, index, lane))
        return true;
    rml_board_lane_read(board, index, lane);
    return lane->state != RML_BOARD_LANE_FREE;
}

static void print_json(const struct rml_view *view)
{
    struct rml_json json = {.out = stdout};
    rml_json_open(&json, NULL, '{');
    rml_json_text(&json, "schema", "ringctl.lanes/1");
    rml_json_text(&json, "pipeline", view->pipeline);
    rml_json_open(&json, "lanes", '[');
    for (uint32_t i = 0; i < view->board.head->lanes_max; i++) {
        struct rml_board_lane lane;
        if (read_lane(&view->board, i, &lane))
            json_one(&json, &view->board, i, &lane);
    }
    rml_json_close(&json, ']');
    rml_json_close(&json, '}');
    printf("\n");
}

static void print_losses(const struct rml_view *view)
{
    for (uint32_t i = 0; i < view->board.head->lanes_max; i++) {
        struct rml_board_lane lane;
        if (!read_lane(&view->board, i, &lane) || !is_shared(&lane) || lane.tombstones == 0)
            continue;
        printf("lane %u: producers died holding %" PRIu64
               " cells that they had not published; these are free again\n",
               i, lane.tombstones);
    }
}

static int print_text(const struct rml_view *view)
{
    static const char *const columns[] = {">LANE",    "SOURCE",     ">PID",   ">UID",
                                          "PROGRAM",  ">PUBLISHED", ">TAKEN", ">BACKLOG",
                                          ">DROPPED", "RING",       "STATE",  "REASON"};
    struct rml_table table;
    rml_table_begin(&table, columns, sizeof columns / sizeof columns[0]);
    uint32_t count = 0;
    for (uint32_t i = 0; i < view->board.head->lanes_max; i++) {
        struct rml_board_lane lane;
        if (!read_lane(&view->board, i, &lane))
            continue;
        row(&table, &view->board, i, &lane);
        count += lane.state != RML_BOARD_LANE_CLOSED;
    }
    int rc = rml_table_end(&table, stdout);
    print_losses(view);
    if (count == 0)
        printf("no producer is attached to %s\n", view->pipeline);
    return rc < 0 ? RML_EXIT_FAILED : RML_EXIT_OK;
}

static int show(const struct rml_ctl *ctl, struct rml_view *view)
{
    if (!ctl->as_json)
        return print_text(view);
    print_json(view);
    return RML_EXIT_OK;
}

int rml_ctl_cmd_lanes(int argc, char **argv)
{
    const struct rml_args args = {
        .usage = "ringctl lanes [PIPELINE] [--json] [--timeout DURATION]",
        .sentence =
            "Show each attached producer: what it published, how much of that is taken, what "
            "waits in its lane (backlog), what it dropped because the lane was full, how its "
            "ring carries cells, and for a lane that ends, or was closed, why. A closed one is "
            "shown until its number is used again. A lane that producers share is one line, and "
            "says how many they are; of it counts as published what is in its log.",
    };
    struct rml_ctl ctl = {0};
    return rml_ctl_run(&ctl, &args, argc, argv, show);
}
