#include "tools/view.h"

#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/check.h"
#include "runtime/base/err.h"
#include "runtime/control/claim.h"
#include "runtime/time/clock.h"
#include "runtime/time/time.h"

#define REQUEST_MAX 32
#define ANSWER_MAX  1024

static int64_t now(void)
{
    return rml_clock_system.monotonic_ns(rml_clock_system.context);
}

// 1: something has come over the connection, or its end; 0: not in time; a negative errno.
static int wait_for_word(const struct rml_view *view, int64_t timeout_ns)
{
    int64_t left_ms = timeout_ns < 0 ? -1 : (timeout_ns + 999999) / 1000000;
    struct pollfd word = {.fd = view->socket, .events = POLLIN};
    int rc = poll(&word, 1, left_ms > INT32_MAX ? INT32_MAX : (int)left_ms);
    return rc < 0 ? -errno : rc;
}

static int wait_for_answer(const struct rml_view *view, int64_t timeout_ns, struct rml_err *err)
{
    int64_t deadline = rml_time_add(now(), timeout_ns);
    int rc;
    do {
        int64_t left_ns = rml_time_sub(deadline, now());
        rc = wait_for_word(view, left_ns < 0 ? 0 : left_ns);
    } while (rc == -EINTR);
    if (rc < 0)
        return RML_FAIL(err, rc, "poll: %s", strerrordesc_np(-rc));
    if (rc > 0)
        return 0;
    char limit[32];
    rml_duration_print(timeout_ns, limit);
    return RML_FAIL(
        err, -ETIMEDOUT,
        "it has not answered within %s: is its process stopped, or the machine too busy?", limit);
}

// The peer may have refused us, and be gone, before it got this: then its answer still lies there.
static int send_request(const struct rml_view *view, const char *request, struct rml_err *err)
{
    _Alignas(
        8) unsigned char memory[offsetof(struct rml_wire_hello_control, text) + REQUEST_MAX] = {0};
    struct rml_wire_hello_control *message = (void *)memory;
    size_t length = strlen(request);
    RML_CHECK(length < REQUEST_MAX);
    message->head = rml_wire_head(RML_WIRE_HELLO_CONTROL,
                                  offsetof(struct rml_wire_hello_control, text) + length + 1);
    memcpy(message->text, request, length);
    int rc = rml_wire_send(view->socket, &message->head, NULL, 0);
    return rc == 0 || rc == -EPIPE || rc == -ECONNRESET
               ? 0
               : RML_FAIL(err, rc, "cannot ask: %s", strerrordesc_np(-rc));
}

// Of an answer that says that it will not be done; its text has no terminator.
static int refused(uint32_t code, const char *text, size_t length, struct rml_err *err)
{
    int rc = code > INT16_MAX ? -EPROTO : -(int)code;
    return RML_FAIL(err, rc, "%.*s", (int)strnlen(text, length), text);
}

/*
 * Ask, and wait for the answer: its text in `answer`, and a descriptor in *ret_fd (-1: none came).
 */
static int ask(const struct rml_view *view, const char *request, int64_t timeout_ns,
               char answer[ANSWER_MAX], int *ret_fd, struct rml_err *err)
{
    _Alignas(8) unsigned char memory[ANSWER_MAX];
    uint32_t fd_count = 0;
    *ret_fd = -1;
    int rc = send_request(view, request, err);
    if (rc == 0)
        rc = wait_for_answer(view, timeout_ns, err);
    if (rc < 0)
        return rc;
    int type = rml_wire_receive(view->socket, memory, sizeof memory, ret_fd, 1, &fd_count, err);
    if (fd_count == 0)
        *ret_fd = -1;
    if (type == 0 || type == -ECONNRESET)
        return RML_FAIL(err, -EPIPE, "it ended before it answered");
    if (type < 0 && type != -EPROTO && type != -EPROTONOSUPPORT)
        return RML_FAIL(err, type, "cannot hear its answer: %s", strerrordesc_np(-type));
    if (type < 0)
        return type;
    const struct rml_wire_refused *refusal = (const void *)memory;
    const struct rml_wire_reply *reply = (const void *)memory;
    size_t length = reply->head.bytes - offsetof(struct rml_wire_reply, text);
    if (type == RML_WIRE_REFUSED)
        rc = refused(refusal->code, refusal->text, sizeof refusal->text, err);
    else if (type != RML_WIRE_REPLY)
        rc = RML_FAIL(err, -EPROTO, "its answer, of type %d, is none", type);
    else if (reply->code != 0)
        rc = refused(reply->code, reply->text, length, err);
    else
        snprintf(answer, ANSWER_MAX, "%.*s", (int)length, reply->text);
    if (rc < 0 && *ret_fd >= 0) {
        close(*ret_fd);
        *ret_fd = -1;
    }
    return rc;
}

static int ask_for_board(struct rml_view *view, int64_t timeout_ns, struct rml_err *err)
{
    char answer[ANSWER_MAX];
    int fd;
    int rc = ask(view, "board", timeout_ns, answer, &fd, err);
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
    int rc = rml_claim_look(pipeline, &state, &pid);
    if (rc < 0)
        return RML_FAIL(err, rc, "pipeline %s: %s", pipeline, strerrordesc_np(-rc));
    switch (state) {
    case RML_CLAIM_HELD:
        return RML_FAIL(err, -EAGAIN, "pipeline %s is just starting or ending, as process %u",
                        pipeline, pid);
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

int rml_view_open(struct rml_view *view, const char *pipeline, int64_t timeout_ns,
                  struct rml_err *err)
{
    *view = RML_VIEW_CLOSED;
    int fd = rml_wire_connect(pipeline, err);
    if (fd == -ENOENT || fd == -ECONNREFUSED)
        return why_nobody(pipeline, err);
    if (fd < 0)
        return fd;
    view->socket = fd;
    snprintf(view->pipeline, sizeof view->pipeline, "%s", pipeline);
    int rc = ask_for_board(view, timeout_ns, err);
    if (rc == 0)
        return 0;
    rml_view_close(view);
    return rc == -EPIPE ? why_nobody(pipeline, err) : RML_WRAP(err, rc, "pipeline %s", pipeline);
}

int rml_view_ask(struct rml_view *view, const char *request, int64_t timeout_ns,
                 struct rml_err *err)
{
    char answer[ANSWER_MAX];
    int fd;
    int rc = ask(view, request, timeout_ns, answer, &fd, err);
    if (fd >= 0)
        close(fd);
    return rc < 0 ? RML_WRAP(err, rc, "pipeline %s", view->pipeline) : 0;
}

int rml_view_wait(const struct rml_view *view, int64_t timeout_ns)
{
    return wait_for_word(view, timeout_ns) > 0;
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
