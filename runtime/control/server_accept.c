#include "runtime/control/server_accept.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <unistd.h>

#include "runtime/base/err.h"
#include "runtime/control/claim.h"
#include "runtime/control/gate.h"
#include "runtime/control/server_coming_up.h"
#include "runtime/control/server_conns.h"
#include "runtime/control/server_state.h"
#include "runtime/lane/wire.h"

static struct rml_gate_open open_of(const struct rml_server *s, const struct rml_gate_peer *peer)
{
    struct rml_gate_open open = {.places = s->conn_max};
    for (uint32_t i = 0; i < s->conn_max; i++) {
        const struct server_conn *conn = &s->conns[i];
        open.by_user += conn->socket >= 0 && conn->uid == peer->uid;
        open.by_process += conn->socket >= 0 && conn->uid == peer->uid && conn->pid == peer->pid;
    }
    return open;
}

int rml_server_check_places(const struct rml_server *s, struct rml_err *err)
{
    uint32_t taken = 0;
    for (uint32_t i = 0; i < s->conn_max; i++)
        taken += s->conns[i].role == ROLE_PRODUCER || s->conns[i].role == ROLE_SUBSCRIBER;
    if (taken + RML_GATE_PLACES_LEFT < s->conn_max)
        return 0;
    return RML_FAIL(err, -EUSERS,
                    "%u producers and subscribers are attached, and the other %u connections that "
                    "can be open are for ringctl: raise runtime.lanes_max",
                    taken, s->conn_max - taken);
}

static void accept_one(struct rml_server *s, int socket)
{
    struct rml_gate_peer peer;
    struct rml_err err = {0};
    struct server_conn *conn = s->conns + rml_server_free_place(s);
    if (conn == s->conns + s->conn_max) {
        rml_wire_send_refused(socket, EMFILE, "%u connections are open, as many as there can be",
                              s->conn_max);
        rml_gate_count(s->gate, RML_GATE_too_many);
        close(socket);
        return;
    }
    int rc = rml_gate_ask(s->gate, socket, &peer);
    if (rc == 0)
        rc = rml_gate_enter(s->gate, &peer, open_of(s, &peer), &err);
    if (rc < 0) {
        rml_wire_send_refused(socket, -rc, "%s", err.text);
        close(socket);
        return;
    }
    *conn = (struct server_conn){.socket = socket,
                                 .pidfd = -1,
                                 .deadline = rml_server_now(s) + s->options.plan->limits.hello_ns,
                                 .pid = peer.pid,
                                 .uid = peer.uid};
    if (rml_server_watch(s, socket, ABOUT_SOCKET, (uint32_t)(conn - s->conns)) < 0)
        rml_server_close_conn(s, conn);
}

static int accept_next(const struct rml_server *s)
{
    return accept4(s->options.claim->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
}

static void have_spare(struct rml_server *s)
{
    if (s->spare_fd < 0)
        s->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

// Out of descriptors: who waits would wake us for ever, so give up the spare one to tell them. False: another thread has
// taken that, and nobody can be told until one comes free, which may be ours to see to.
static bool turn_away(struct rml_server *s)
{
    if (s->spare_fd >= 0)
        close(s->spare_fd);
    s->spare_fd = -1;
    int socket = accept_next(s);
    if (socket >= 0) {
        rml_wire_send_refused(socket, EMFILE,
                              "pipeline %s has no descriptor left: raise `ulimit -n`",
                              s->options.plan->name);
        close(socket);
    }
    have_spare(s);
    return socket >= 0;
}

void rml_server_accept_all(struct rml_server *s)
{
    have_spare(s);
    for (;;) {
        int socket = accept_next(s);
        if (socket >= 0)
            accept_one(s, socket);
        else if (errno == EMFILE || errno == ENFILE) {
            if (!turn_away(s))
                return;
        } else if (errno != ECONNABORTED && errno != EINTR)
            return;
    }
}
