#include "tools/view.h"

#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "runtime/base/check.h"
#include "runtime/base/err.h"
#include "runtime/client/attach.h"
#include "runtime/control/claim.h"
#include "runtime/time/time.h"

#define REQUEST_MAX 32
#define LOOK_NS \
 INT64_C(50000000)  // between two looks at whether the engine is still the one that was asked

/* A request as it goes over the connection. */
struct request {
    _Alignas(8) unsigned char memory[offsetof(struct rml_wire_hello_control, text) + REQUEST_MAX];
};

static const struct rml_wire_head *make_request(struct request *request, const char *text)
{
    *request = (struct request){.memory = {0}};
    struct rml_wire_hello_control *message = (void *)request->memory;
    size_t length = strlen(text);
    RML_CHECK(length < REQUEST_MAX);
    message->head = rml_wire_head(RML_WIRE_HELLO_CONTROL,
                                  offsetof(struct rml_wire_hello_control, text) + length + 1);
    memcpy(message->text, text, length);
    return &message->head;
}

/* The answer to a request: its text, and a descriptor in *ret_fd (-1: none came). */
static int hear(const struct rml_view *view, int64_t timeout_ns, char answer[RML_VIEW_ANSWER],
                int *ret_fd, struct rml_err *err)
{
    _Alignas(8) unsigned char memory[RML_VIEW_ANSWER];
    uint32_t fd_count;
    int rc = rml_attach_answer(view->socket, RML_WIRE_REPLY, timeout_ns, memory, sizeof memory,
                               ret_fd, 1, &fd_count, err);
    if (rc < 0 || fd_count == 0)
        *ret_fd = -1;
    if (rc < 0)
        return rc;
    const struct rml_wire_reply *reply = (const void *)memory;
    int length = (int)(reply->head.bytes - offsetof(struct rml_wire_reply, text));
    snprintf(answer, RML_VIEW_ANSWER, "%.*s", length, reply->text);
    if (reply->code == 0)
        return 0;
    if (*ret_fd >= 0)
        close(*ret_fd);
    *ret_fd = -1;
    return RML_FAIL(err, reply->code > INT16_MAX ? -EPROTO : -(int)reply->code, "%s", answer);
}

static int take_board(struct rml_view *view, int64_t timeout_ns, struct rml_err *err)
{
    char answer[RML_VIEW_ANSWER];
    int fd;
    int rc = hear(view, timeout_ns, answer, &fd, err);
    if (rc < 0)
        return rc;
    if (fd < 0)
        return RML_FAIL(err, -EPROTO, "its answer comes without a board");
    rc = rml_board_attach(&view->board, fd, strtoull(answer, NULL, 10), err);
    close(fd);
    return rc;
}

// Nobody listened or answered: the lock says why.
static int why_nobody(const char *pipeline, struct rml_err *err)
{
    enum rml_claim_state state;
    uint32_t pid;
    char says[RML_CLAIM_SAYS];
    int rc = rml_claim_look(pipeline, &state, &pid);
    if (rc < 0)
        return RML_FAIL(err, rc, "pipeline %s: %s", pipeline, strerrordesc_np(-rc));
    switch (state) {
    case RML_CLAIM_HELD:
        rml_claim_says(pipeline, says);
        return RML_FAIL(err, -EAGAIN, "pipeline %s is just starting or ending, as process %u%s%s",
                        pipeline, pid, says[0] != '\0' ? "; it said last: " : "", says);
    case RML_CLAIM_RESTARTING:
        rml_claim_says(pipeline, says);
        return RML_FAIL(
            err, -EINPROGRESS,
            "pipeline %s is restarting: its engine died, and process %u starts it again%s%s",
            pipeline, pid, says[0] != '\0' ? "; it says: " : "", says);
    case RML_CLAIM_LEFT:
        return RML_FAIL(err, -EOWNERDEAD,
                        "pipeline %s is dead: process %u ended without cleaning up; `ringmill run` "
                        "of its file starts it again",
                        pipeline, pid);
    case RML_CLAIM_FREE:
        break;
    }
    return RML_FAIL(err, -ENOENT, "pipeline %s is not running", pipeline);
}

static bool is_up(const struct rml_board *board)
{
    enum rml_board_state state = rml_board_state(board);
    return state != RML_BOARD_STARTING && state != RML_BOARD_RESTARTING;
}

static bool is_restarting(const char *pipeline)
{
    enum rml_claim_state state;
    uint32_t pid;
    return rml_claim_look(pipeline, &state, &pid) == 0 && state == RML_CLAIM_RESTARTING;
}

// *ret_later: somebody was there, and may answer at another time.
static int open_once(struct rml_view *view, const char *pipeline, int64_t timeout_ns, bool to_end,
                     bool *ret_later, struct rml_err *err)
{
    *view = RML_VIEW_CLOSED;
    *ret_later = false;
    if (!rml_wire_is_name(pipeline, RML_WIRE_NAME))
        return RML_FAIL(err, -EINVAL, "\"%.60s\" is not the name of a pipeline", pipeline);
    struct request request;
    int fd = rml_attach_connect(pipeline, make_request(&request, "board"), timeout_ns, err);
    if (fd == -ENOENT || fd == -ECONNREFUSED)
        return why_nobody(pipeline, err);
    if (fd == -ETIMEDOUT && is_restarting(pipeline))
        return why_nobody(pipeline, err);
    if (fd < 0)
        return fd;
    view->socket = fd;
    snprintf(view->pipeline, sizeof view->pipeline, "%s", pipeline);
    int rc = take_board(view, timeout_ns, err);
    bool is_there = rc == 0 && (to_end || is_up(&view->board));
    if (is_there)
        return 0;
    *ret_later = rc == 0 || rc == -EPIPE;  // who hangs up has died, or is about to be gone
    rml_view_close(view);
    if (rc == 0)
        return why_nobody(pipeline, err);
    bool explained = rc == -EPIPE || (rc == -ETIMEDOUT && is_restarting(pipeline));
    return explained ? why_nobody(pipeline, err) : RML_WRAP(err, rc, "pipeline %s", pipeline);
}

static int open_in_time(struct rml_view *view, const char *pipeline, int64_t timeout_ns,
                        bool to_end, struct rml_err *err)
{
    // an engine that dies as it is asked leaves the question to the next one, while there is time
    int64_t end_ns = rml_attach_end_ns(timeout_ns);
    bool later, was_there = false;
    int rc = open_once(view, pipeline, timeout_ns, to_end, &later, err);
    while (rc < 0 && (later || rc == -EINPROGRESS) && rml_attach_again(-EPIPE, end_ns)) {
        was_there |= later;
        rc = open_once(view, pipeline, end_ns - rml_attach_now_ns(), to_end, &later, err);
    }
    // what was left of the time was too short for an answer, which would have been the same
    return rc == -ETIMEDOUT && was_there ? why_nobody(pipeline, err) : rc;
}

int rml_view_open(struct rml_view *view, const char *pipeline, int64_t timeout_ns,
                  struct rml_err *err)
{
    return open_in_time(view, pipeline, timeout_ns, false, err);
}

int rml_view_open_to_end(struct rml_view *view, const char *pipeline, int64_t timeout_ns,
                         struct rml_err *err)
{
    return open_in_time(view, pipeline, timeout_ns, true, err);
}

bool rml_view_comes_up(const struct rml_view *view, char ret_says[RML_CLAIM_SAYS])
{
    bool comes_up = !is_up(&view->board);
    ret_says[0] = '\0';
    if (comes_up)
        rml_claim_says(view->pipeline, ret_says);
    return comes_up;
}

static int send_request(const struct rml_view *view, const char *request, struct rml_err *err)
{
    struct request message;
    int rc = rml_wire_send(view->socket, make_request(&message, request), NULL, 0);
    return rc < 0 ? RML_FAIL(err, rc == -ECONNRESET ? -EPIPE : rc, "pipeline %s: cannot ask: %s",
                             view->pipeline, strerrordesc_np(-rc))
                  : 0;
}

static int hear_words(const struct rml_view *view, int64_t timeout_ns,
                      char ret_answer[RML_VIEW_ANSWER], struct rml_err *err)
{
    char answer[RML_VIEW_ANSWER];
    int fd;
    int rc = hear(view, timeout_ns, ret_answer != NULL ? ret_answer : answer, &fd, err);
    if (fd >= 0)
        close(fd);
    return rc < 0 ? RML_WRAP(err, rc, "pipeline %s", view->pipeline) : 0;
}

int rml_view_ask(struct rml_view *view, const char *request, int64_t timeout_ns,
                 char ret_answer[RML_VIEW_ANSWER], struct rml_err *err)
{
    int rc = send_request(view, request, err);
    return rc == 0 ? hear_words(view, timeout_ns, ret_answer, err) : rc;
}

static bool has_news(const struct rml_view *view, int64_t timeout_ns)
{
    struct timespec limit = {timeout_ns / 1000000000, timeout_ns % 1000000000};
    struct pollfd news = {.fd = view->socket, .events = POLLIN};
    return ppoll(&news, 1, timeout_ns < 0 ? NULL : &limit, NULL) > 0;
}

/* Asking until somebody has answered */

// The run goes on, whatever became of the connection.
static bool goes_on(const struct rml_view *view)
{
    enum rml_claim_state state;
    uint32_t pid;
    return rml_board_state(&view->board) != RML_BOARD_ENDED
           && rml_claim_look(view->pipeline, &state, &pid) == 0 && rml_claim_is_held(state)
           && pid == view->board.head->pid;
}

// Hung up on by an engine that died: on to the one after it. -EPIPE: the run has ended; or there is no time.
static int follow(struct rml_view *view, int64_t end_ns, struct rml_err *err)
{
    struct rml_view next;
    int64_t left_ns = end_ns - rml_attach_now_ns();
    int rc = rml_view_open_to_end(&next, view->pipeline, left_ns > 0 ? left_ns : 1, err);
    if (rc < 0)
        return rc == -EINPROGRESS || rc == -ETIMEDOUT ? rc : -EPIPE;
    RML_CHECK(next.board.head != NULL);
    // somebody has started it again since, and meant another end than this
    if (next.board.head->epoch != view->board.head->epoch) {
        rml_view_close(&next);
        return -EPIPE;
    }
    rml_view_close(view);
    *view = next;
    return 0;
}

// -EINPROGRESS: not answered, and the engine is another than it was.
static int hear_of_one(const struct rml_view *view, uint32_t restarts, int64_t end_ns,
                       char ret_answer[RML_VIEW_ANSWER], struct rml_err *err)
{
    for (;;) {
        int64_t left_ns = end_ns - rml_attach_now_ns();
        if (left_ns <= 0)
            return -ETIMEDOUT;
        if (has_news(view, left_ns < LOOK_NS ? left_ns : LOOK_NS))
            return hear_words(view, left_ns, ret_answer, err);
        if (rml_board_restarts(&view->board) != restarts)
            return -EINPROGRESS;
    }
}

static int say_unanswered(const struct rml_view *view, const char *request, struct rml_err *err)
{
    if (is_up(&view->board))
        return RML_FAIL(err, -ETIMEDOUT,
                        "pipeline %s has been told to %s and has not answered yet: is its process "
                        "stopped, or the machine too busy? It obeys when it goes on",
                        view->pipeline, request);
    return RML_FAIL(err, -ETIMEDOUT,
                    "pipeline %s has been told to %s, but its engine died and the next one is not "
                    "up yet: that obeys once it is",
                    view->pipeline, request);
}

int rml_view_insist(struct rml_view *view, const char *request, int64_t timeout_ns,
                    char ret_answer[RML_VIEW_ANSWER], struct rml_err *err)
{
    int64_t end_ns = rml_attach_end_ns(timeout_ns);
    for (;;) {
        // of before we ask: an engine that comes after that may have heard nothing
        uint32_t restarts = rml_board_restarts(&view->board);
        int rc = send_request(view, request, err);
        if (rc == 0)
            rc = hear_of_one(view, restarts, end_ns, ret_answer, err);
        if (rc == -EPIPE && goes_on(view)) {
            rc = follow(view, end_ns, err);
            if (rc < 0)
                return rc;
        } else if (rc == -ETIMEDOUT) {
            return say_unanswered(view, request, err);
        } else if (rc != -EINPROGRESS) {
            return rc;
        }
    }
}

// An answer that nobody waits for any more: the question was asked twice.
static bool take_answer(const struct rml_view *view)
{
    char byte;
    return recv(view->socket, &byte, sizeof byte, MSG_DONTWAIT) > 0;
}

int rml_view_wait(const struct rml_view *view, int64_t timeout_ns)
{
    int64_t end_ns = timeout_ns < 0 ? INT64_MAX : rml_time_add(rml_attach_now_ns(), timeout_ns);
    while (has_news(view, timeout_ns)) {
        if (!take_answer(view))
            return 1;
        int64_t left_ns = end_ns - rml_attach_now_ns();
        if (timeout_ns >= 0)
            timeout_ns = left_ns > 0 ? left_ns : 0;
    }
    return 0;
}

bool rml_view_died(const struct rml_view *view)
{
    return rml_board_state(&view->board) != RML_BOARD_ENDED;
}

void rml_view_close(struct rml_view *view)
{
    if (view->socket >= 0)
        close(view->socket);
    rml_board_close(&view->board);
    *view = RML_VIEW_CLOSED;
}
