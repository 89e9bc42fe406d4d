#include "tools/status.h"

#include <stdio.h>

#include "runtime/time/clock.h"
#include "runtime/time/time.h"

const char *const rml_status_wanted[RML_BOARD_WANTED_COUNT] = {
    [RML_BOARD_WANTED_PERIOD] = "period",     [RML_BOARD_WANTED_LANE] = "lane",
    [RML_BOARD_WANTED_SCHEDULE] = "schedule", [RML_BOARD_WANTED_TABLES] = "tables",
    [RML_BOARD_WANTED_JOURNAL] = "journal",   [RML_BOARD_WANTED_ASKED] = "asked",
    [RML_BOARD_WANTED_END] = "end",
};

void rml_status_take(struct rml_status *status, const struct rml_view *view)
{
    const struct rml_clock *clock = &rml_clock_system;
    status->pipeline = view->pipeline;
    status->board = &view->board;
    status->wall_ns = clock->wall_ns(clock->context);
    rml_look_take(&status->look, &view->board, clock->monotonic_ns(clock->context));
}

int64_t rml_status_uptime(const struct rml_status *status)
{
    return rml_time_sub(status->look.at_ns, status->board->head->start_monotonic_ns);
}

uint32_t rml_status_lanes(const struct rml_status *status, uint32_t source)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < status->board->head->lanes_max; i++) {
        struct rml_board_lane lane;
        rml_board_lane_read(status->board, i, &lane);
        count += lane.state != RML_BOARD_LANE_FREE && lane.source == source;
    }
    return count;
}

uint64_t rml_status_backlog(const struct rml_status *status, uint32_t source)
{
    // lanes' rows are a little older than counters
    uint64_t published = status->look.totals.published[source];
    uint64_t taken = status->look.totals.source[source][RML_SOURCE_taken];
    return published > taken ? published - taken : 0;
}

bool rml_status_watermark(const struct rml_status *status, uint32_t source, int64_t *ret_ns)
{
    *ret_ns = (int64_t)status->look.totals.source[source][RML_SOURCE_watermark];
    return *ret_ns != RML_TIME_NONE && *ret_ns != RML_TIME_END;
}

static void put_name(const char *name, bool late, char text[RML_STATUS_NAME])
{
    snprintf(text, RML_STATUS_NAME, "%s%s", name, late ? ".late" : "");
}

void rml_status_from(const struct rml_board *board, uint32_t stage, char text[RML_STATUS_NAME])
{
    const struct rml_board_stage *taker = &board->stages[stage];
    put_name(taker->from == RML_NO_STAGE ? board->sources[taker->source].name
                                         : board->stages[taker->from].name,
             taker->from_late != 0, text);
}

void rml_status_output(const struct rml_board *board, uint32_t output, char text[RML_STATUS_NAME])
{
    put_name(board->stages[output / 2].name, output % 2 != 0, text);
}
