/*
 * view - a running pipeline from outside: its board, and the connection that it came over.
 *
 * The board is memory that the engine writes and we read; looking costs the engine nothing. Only what
 * is asked for (rml_view_ask) is answered by it, and what waits for an answer has a time limit. The
 * connection stays open to the engine's end: its closing is how we hear of that.
 */
#ifndef RML_TOOLS_VIEW_H
#define RML_TOOLS_VIEW_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/control/board.h"
#include "runtime/control/claim.h"
#include "runtime/lane/wire.h"

struct rml_err;

struct rml_view {
    int socket;  // -1: closed
    char pipeline[RML_WIRE_NAME];
    struct rml_board board;
};

#define RML_VIEW_CLOSED ((struct rml_view){.socket = -1, .board = {.segment = RML_SEGMENT_CLOSED}})

/*
 * Look at `pipeline`, waiting at most `timeout_ns` for its answer. 0; or with a sentence that says what
 * to do: -ENOENT: it does not run; -EOWNERDEAD: it died and left its files behind; -EAGAIN: it is just
 * starting or ending; -EINPROGRESS: its engine died, and the next is not up; -ETIMEDOUT: no answer;
 * -EPROTONOSUPPORT: another version; -EACCES, -EPERM: not allowed; -EINVAL: no name of a pipeline; others. A
 * view is closed after a failure.
 */
int rml_view_open(struct rml_view *view, const char *pipeline, int64_t timeout_ns,
                  struct rml_err *err);

/* Likewise for who wants it to end: also of an engine that comes up and waits for a file that cannot be written. */
int rml_view_open_to_end(struct rml_view *view, const char *pipeline, int64_t timeout_ns,
                         struct rml_err *err);

/* An engine that is not up: what it says it waits for, or "". Else false. */
bool rml_view_comes_up(const struct rml_view *view, char ret_says[RML_CLAIM_SAYS]);

#define RML_VIEW_ANSWER 1024

/* Ask for something. 0, and where it is answered with words (not "refresh", "drain" and "stop") those,
 * unless `ret_answer` is NULL; -ETIMEDOUT; -EPIPE: it ended before it answered; what it answered; with a
 * sentence. */
int rml_view_ask(struct rml_view *view, const char *request, int64_t timeout_ns,
                 char ret_answer[RML_VIEW_ANSWER], struct rml_err *err);

/*
 * Ask for something that is the same asked once or twice, until an engine has answered: one that dies over the question
 * leaves it to the next, which is asked again. As rml_view_ask; -EPIPE: the run has ended; -ETIMEDOUT: it has been
 * told, and has yet to answer; -EINPROGRESS: the next engine is not up, and has not been told.
 */
int rml_view_insist(struct rml_view *view, const char *request, int64_t timeout_ns,
                    char ret_answer[RML_VIEW_ANSWER], struct rml_err *err);

/* Wait for the engine's end, at most `timeout_ns` (< 0: for ever). 1: it has ended, and nothing
 * changes any more; 0: not yet, or a signal came. */
int rml_view_wait(const struct rml_view *view, int64_t timeout_ns);

/* Of an engine that has ended: did it die, without having come to an end? */
bool rml_view_died(const struct rml_view *view);

/* Accepts RML_VIEW_CLOSED. */
void rml_view_close(struct rml_view *view);

#endif
