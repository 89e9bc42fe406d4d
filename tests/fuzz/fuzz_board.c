/*
 * The board of an engine that somebody else runs, and that writes what it likes into it, before it is attached and
 * while it is read: it is refused with a sentence, or all that `ringctl` reads and prints of it can be.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/check.h"
#include "runtime/base/err.h"
#include "runtime/control/board.h"
#include "runtime/time/clock.h"
#include "tests/support/functions.h"
#include "tests/support/plan.h"
#include "tools/status.h"
#include "tools/view.h"

#define STEP_SIZE 12u  // what, where, and a word

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char file[] =
    "version: 1\npipeline: p\nschema: {event: {ts: time_ns, key: u32, name: str16}}\n"
    "runtime: {partitions: 2, workers: 2, lanes_max: 4}\n"
    "sources: {events: {schema: event, event_time: ts}, others: {schema: event, event_time: ts}}\n"
    "stages:\n"
    "  some: {from: events, filter: key > 3}\n"
    "  rows: {from: some, key: key, window: {type: tumbling, size: 1s, late: 1s}, aggregate: {n: count()}}\n"
    "sinks:\n"
    "  file: {from: [rows, rows.late], type: jsonl, path: rows.jsonl}\n"
    "  ring: {from: rows, type: ring}\n";

static struct rml_board honest;

static void open_honest(void)
{
    struct rml_plan *plan = plan_of(file);
    RML_CHECK(rml_board_open(&honest, plan, NULL, &rml_clock_system, 7, NULL) == 0);
    struct rml_board_lane lane = {.state = RML_BOARD_LANE_ATTACHED, .program = "feeder"};
    rml_board_lane_write(&honest, 1, &lane);
    lane.state = RML_BOARD_LANE_CLOSED;
    memcpy(lane.reason, "it lied", 8);
    rml_board_lane_write(&honest, 2, &lane);
    rml_plan_close(plan);
    RML_CHECK(freopen("/dev/null", "w", stdout) != NULL);
}

static void scribble(const struct rml_segment *board, const uint8_t *step)
{
    uint32_t at;
    uint64_t value;
    memcpy(&at, step, sizeof at);
    memcpy(&value, step + 4, sizeof value);
    // what stands first says what there is, and is worth more looks than the counters
    size_t within = (at & 1) != 0 ? board->bytes : 4096 < board->bytes ? 4096 : board->bytes;
    size_t bytes = (at & 2) != 0 ? 8 : (at & 4) != 0 ? 4 : 1;
    at = (uint32_t)((at >> 3) % (within - 8));
    memcpy((unsigned char *)board->memory + at, &value, bytes);
}

static void read_rows(const struct rml_board *board)
{
    static struct rml_schema schema;
    for (uint32_t i = 0; i < board->head->lanes_max; i++) {
        struct rml_board_lane lane;
        rml_board_lane_read(board, i, &lane);
        RML_CHECK(memchr(lane.program, '\0', sizeof lane.program) != NULL);
        (void)rml_board_lane_closed(board, i, &lane);
        RML_CHECK(memchr(lane.reason, '\0', sizeof lane.reason) != NULL);
    }
    for (uint32_t s = 0; s < board->head->stages; s++)
        for (int late = 0; late < 2; late++) {
            struct rml_err err = {0};
            int rc = rml_board_rows(board, s, late == 1, &schema, &err);
            RML_CHECK(rc == 0 || (rc == -EPROTO && err.text[0] != '\0'));
        }
}

static void look(struct rml_view *view, bool as_json)
{
    static struct rml_status status;
    rml_status_take(&status, view);
    if (as_json)
        rml_status_json(&status);
    else
        (void)rml_status_text(&status);
    read_rows(&view->board);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (honest.head == NULL)
        open_honest();
    if (size < 1)
        return 0;
    uint32_t steps = (uint32_t)((size - 1) / STEP_SIZE), before = data[0] % 16;
    struct rml_segment segment;
    RML_CHECK(rml_segment_open_ours(&segment, "fuzz", honest.segment.bytes, NULL) == 0);
    memcpy(segment.memory, honest.segment.memory, honest.segment.bytes);
    for (uint32_t i = 0; i < before && i < steps; i++)
        scribble(&segment, data + 1 + (size_t)i * STEP_SIZE);

    struct rml_err err = {0};
    struct rml_view view = RML_VIEW_CLOSED;
    int rc = rml_board_attach(&view.board, segment.fd, segment.bytes, &err);
    RML_CHECK(rc == 0 || ((rc == -EPROTO || rc == -EPROTONOSUPPORT) && err.text[0] != '\0'));
    if (rc == 0) {
        look(&view, (data[0] & 16) != 0);
        for (uint32_t i = before; i < steps; i++)
            scribble(&segment, data + 1 + (size_t)i * STEP_SIZE);
        look(&view, (data[0] & 32) != 0);
        rml_board_close(&view.board);
    }
    rml_segment_close(&segment);
    return 0;
}
