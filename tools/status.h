/*
 * status - a pipeline whole, at one moment, for people and for programs.
 */
#ifndef RML_TOOLS_STATUS_H
#define RML_TOOLS_STATUS_H

#include <stdbool.h>
#include <stdint.h>

#include "tools/look.h"
#include "tools/view.h"

struct rml_json;

struct rml_status {
    const char *pipeline;
    const struct rml_board *board;
    int64_t wall_ns;  // when it was looked at
    struct rml_look look;
};

/* Why checkpoints begin, in a word. */
extern const char *const rml_status_wanted[RML_BOARD_WANTED_COUNT];

void rml_status_take(struct rml_status *status, const struct rml_view *view);

/* 0 or -ENOMEM. */
int rml_status_text(const struct rml_status *status);
void rml_status_json(const struct rml_status *status);

/* Since the first engine began, however the wall clock was set meanwhile. */
int64_t rml_status_uptime(const struct rml_status *status);

/* Of the journal, where there is one: lines of the text; a member of the JSON, or null. */
void rml_status_journal_text(const struct rml_status *status);
void rml_status_journal_json(struct rml_json *json, const struct rml_status *status);

/* What the board does not say outright. Lanes of a source that are attached or ending; what waits in
 * them; its watermark, if that is a time: before the first record and after the end it is none. */
uint32_t rml_status_lanes(const struct rml_status *status, uint32_t source);
uint64_t rml_status_backlog(const struct rml_status *status, uint32_t source);
bool rml_status_watermark(const struct rml_status *status, uint32_t source, int64_t *ret_ns);

#define RML_STATUS_NAME (RML_BOARD_NAME + 5)

/* Where a stage takes its records from, and what an output of a sink's list is called: "calls",
 * "marked", "per_second.late". */
void rml_status_from(const struct rml_board *board, uint32_t stage, char text[RML_STATUS_NAME]);
void rml_status_output(const struct rml_board *board, uint32_t output, char text[RML_STATUS_NAME]);

#endif
