#include "runtime/control/server_requests.h"

#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/err.h"
#include "runtime/control/gate.h"
#include "runtime/control/groups.h"
#include "runtime/control/server_conns.h"
#include "runtime/control/server_producers.h"
#include "runtime/control/server_state.h"
#include "runtime/keeper/keeping.h"
#include "runtime/lane/wire.h"

#define REPLY_TEXT 240

// A peer that does not read its answers does not get them.
static void reply(const struct server_conn *conn, int code, const char *text, const int *fds,
                  uint32_t fd_count)
{
    _Alignas(8) unsigned char memory[offsetof(struct rml_wire_reply, text) + REPLY_TEXT] = {0};
    struct rml_wire_reply *message = (void *)memory;
    size_t length = strnlen(text, REPLY_TEXT);
    message->head = rml_wire_head(RML_WIRE_REPLY, offsetof(struct rml_wire_reply, text) + length);
    message->is_last = 1;
    message->code = (uint32_t)code;
    memcpy(message->text, text, length);
    (void)rml_wire_send(conn->socket, &message->head, fds, fd_count);
}

// Kept once its first request is answered, and not while it waits: who asks an engine that dies over that is
// hung up on, and does not wait for an answer that never comes.
static void keep_control(struct rml_server *s, struct server_conn *conn)
{
    struct rml_err err = {0};
    if (!conn->is_kept && conn->turn == 0 && rml_server_keep_conn(s, conn, 0, -1, &err) < 0)
        rml_server_say(s, "process %u: %s", conn->pid, err.text);
}

static void begin_checkpoint(struct rml_server *s, struct server_conn *conn)
{
    conn->turn = rml_engine_save(s->engine);
    if (conn->turn == 0)
        reply(conn, ENOTSUP, "it takes no checkpoints: its file has no runtime.state", NULL, 0);
    else if (conn->is_kept)
        rml_keeping_drop(s->options.keeping, conn->kept_id);
    conn->is_kept = conn->is_kept && conn->turn == 0;
}

void rml_server_tell_saved(void *context, const struct rml_engine_saved *saved)
{
    struct rml_server *s = context;
    rml_server_attach_waiting(s);
    char text[REPLY_TEXT];
    if (saved->rc == 0)
        snprintf(text, sizeof text, "%" PRIu64 " %" PRIu64 " %" PRIu64, saved->epoch, saved->bytes,
                 saved->took_ns);
    else
        snprintf(text, sizeof text,
                 "the checkpoint failed: %s; the log of `ringmill run` says more",
                 strerrordesc_np(-saved->rc));
    for (uint32_t i = 0; i < s->conn_max; i++) {
        struct server_conn *conn = &s->conns[i];
        if (conn->turn == 0 || conn->turn > saved->turn)
            continue;
        conn->turn = 0;
        reply(conn, saved->rc == 0 ? 0 : EIO, text, NULL, 0);
        keep_control(s, conn);
    }
}

static void refresh(struct rml_server *s)
{
    if (!s->is_up)
        return;  // what was taken again so far is on its way to the board
    rml_engine_refresh(s->engine);
    rml_groups_show(&s->groups, s->board);
}

static void begin_drain(struct rml_server *s, const struct server_conn *conn)
{
    if (s->is_up) {
        rml_server_begin_drain(s, "asked to");
        reply(conn, 0, "", NULL, 0);
        return;
    }
    rml_server_say(s, "draining once it is up: asked to");
    rml_board_to_end(s->board, RML_BOARD_DRAIN);
    reply(conn, 0,
          s->engine == NULL
              ? "its engine died, and the next one comes up at once to drain; if it cannot, the "
                "pipeline ends without that"
              : "it comes up, waits for a file that cannot be written, and drains once that can; "
                "`ringctl stop` ends it before that",
          NULL, 0);
}

static void stop(struct rml_server *s, const struct server_conn *conn)
{
    rml_server_stop(s, "asked to");
    reply(conn, 0,
          s->engine == NULL
              ? "its engine died, and the next one comes up at once to save what there is; if it "
                "cannot, the pipeline ends without that"
              : "",
          NULL, 0);
}

static void answer(struct rml_server *s, struct server_conn *conn, const char *request)
{
    if (strcmp(request, "board") == 0) {
        const struct rml_segment *board = &s->board->segment;
        char bytes[24];
        snprintf(bytes, sizeof bytes, "%zu", board->bytes);
        refresh(s);
        reply(conn, 0, bytes, &board->fd, 1);
    } else if (strcmp(request, "refresh") == 0) {
        refresh(s);
        reply(conn, 0, "", NULL, 0);
    } else if (strcmp(request, "checkpoint") == 0) {
        begin_checkpoint(s, conn);
    } else if (strcmp(request, "drain") == 0) {
        begin_drain(s, conn);
    } else if (strcmp(request, "stop") == 0) {
        stop(s, conn);
    } else {
        reply(conn, EINVAL, "unknown request: board, refresh, checkpoint, drain and stop are known",
              NULL, 0);
    }
}

static int may_ask(struct rml_server *s, const struct server_conn *conn, const char *request,
                   struct rml_err *err)
{
    bool only_looks = strcmp(request, "board") == 0 || strcmp(request, "refresh") == 0;
    struct rml_gate_peer peer;
    int rc = rml_gate_ask(s->gate, conn->socket, &peer);
    if (rc < 0)
        return rc;
    return only_looks ? rml_gate_may_view(s->gate, &peer, err)
                      : rml_gate_may_control(s->gate, &peer, err);
}

void rml_server_serve_control(struct rml_server *s, struct server_conn *conn, const char *request)
{
    struct rml_err err = {0};
    int rc = rml_gate_request(s->gate, conn->uid, conn->pid, &err);
    if (rc < 0) {
        rml_server_refuse(s, conn, rc, err.text);
        return;
    }
    conn->role = ROLE_CONTROL;
    rc = may_ask(s, conn, request, &err);
    if (rc < 0)
        reply(conn, -rc, err.text, NULL, 0);
    else
        answer(s, conn, request);
    keep_control(s, conn);
}
