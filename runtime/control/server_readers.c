#include "runtime/control/server_readers.h"

#include <unistd.h>

#include "runtime/base/err.h"
#include "runtime/control/gate.h"
#include "runtime/control/groups.h"
#include "runtime/control/server_accept.h"
#include "runtime/control/server_conns.h"
#include "runtime/control/server_state.h"
#include "runtime/control/subscribers.h"
#include "runtime/lane/wire.h"

static int check_reader(const struct rml_server *s, const struct server_conn *conn,
                        const char *stage, struct rml_err *err)
{
    struct rml_gate_peer peer;
    int rc = rml_gate_ask(s->gate, conn->socket, &peer);
    if (rc == 0)
        rc = rml_gate_may_read(s->gate, &peer, stage, err);
    return rc < 0 ? rc : rml_server_check_places(s, err);
}

/* Subscribers */

static void offer_rings(struct rml_server *s, struct server_conn *conn)
{
    int rc = rml_subscribers_offer(&s->subscribers, conn->number, conn->socket);
    if (rc < 0)
        rml_server_close_conn(s, conn);
    else
        rml_server_note_answered(s, conn, rml_subscribers_output(&s->subscribers, conn->number));
}

void rml_server_attach_subscriber(struct rml_server *s, struct server_conn *conn,
                                  const struct rml_wire_hello_subscribe *hello)
{
    struct rml_err err = {0};
    rml_server_name_conn(conn, hello->program);
    int rc = check_reader(s, conn, hello->stage, &err);
    if (rc == 0)
        rc = rml_subscribers_add(&s->subscribers, conn->socket, hello->stage, &conn->number, &err);
    if (rc < 0) {
        rml_server_refuse(s, conn, rc, err.text);
        return;
    }
    conn->role = ROLE_SUBSCRIBER;
    rc = rml_server_keep_conn(s, conn, rml_subscribers_output(&s->subscribers, conn->number),
                              rml_subscribers_line(&s->subscribers, conn->number), &err);
    rml_server_say(s, "subscribed: %s (process %u) to %s", conn->program, conn->pid, hello->stage);
    if (rc < 0)
        rml_server_refuse(s, conn, rc, err.text);
    else
        offer_rings(s, conn);
}

/* Members */

static void offer_membership(struct rml_server *s, struct server_conn *conn)
{
    int rc = rml_groups_offer(&s->groups, conn->group - 1, conn->member, conn->socket);
    if (rc < 0)
        rml_server_close_conn(s, conn);
    else
        rml_server_note_answered(s, conn, rml_subscribers_output(&s->subscribers, conn->number));
}

static struct rml_groups_peer as_member(const struct server_conn *conn)
{
    return (struct rml_groups_peer){
        .subscription = conn->number, .pid = conn->pid, .uid = conn->uid, .program = conn->program};
}

// A subscriber, and then a member.
static int join(struct rml_server *s, struct server_conn *conn,
                const struct rml_wire_hello_join *hello, struct rml_err *err)
{
    int rc = rml_subscribers_add(&s->subscribers, conn->socket, hello->stage, &conn->number, err);
    if (rc < 0)
        return rc;
    conn->role = ROLE_SUBSCRIBER;  // which is undone with the connection
    struct rml_groups_peer peer = as_member(conn);
    peer.is_ours = conn->uid == geteuid() || conn->uid == 0;
    uint32_t group;
    rc = rml_groups_join(&s->groups, &peer, hello->group, hello->from_oldest != 0, &group,
                         &conn->member, err);
    if (rc < 0)
        return rc;
    conn->group = group + 1;
    rml_server_prove_process(s, conn);
    return rml_server_keep_conn(s, conn, rml_subscribers_output(&s->subscribers, conn->number),
                                rml_subscribers_line(&s->subscribers, conn->number), err);
}

void rml_server_attach_member(struct rml_server *s, struct server_conn *conn,
                              const struct rml_wire_hello_join *hello)
{
    struct rml_err err = {0};
    rml_server_name_conn(conn, hello->program);
    int rc = check_reader(s, conn, hello->stage, &err);
    if (rc == 0)
        rc = join(s, conn, hello, &err);
    if (rc < 0) {
        rml_server_refuse(s, conn, rc, err.text);
        return;
    }
    rml_server_say(s, "joined: %s (process %u) group %s of %s", conn->program, conn->pid,
                   hello->group, hello->stage);
    offer_membership(s, conn);
}

// What it says counts no more, that its process has ended does; and nobody wakes it any more.
static void lose_member(struct rml_server *s, struct server_conn *conn)
{
    if (!rml_server_lose_conn(s, conn))
        return;
    rml_groups_lose(&s->groups, conn->group - 1, conn->member);
    rml_subscribers_remove(&s->subscribers, conn->number);
}

void rml_server_member_hangs_up(struct rml_server *s, struct server_conn *conn, bool said_bye)
{
    if (said_bye || conn->pidfd < 0 || rml_server_has_died(conn))
        rml_server_close_conn(s, conn);
    else
        lose_member(s, conn);
}

/* After an engine that died */

static void go_on_with_member(struct rml_server *s, struct server_conn *conn,
                              const struct server_kept_conn *what, int pidfd)
{
    conn->pidfd = pidfd;
    rml_server_watch_process(s, conn);
    const struct rml_groups_peer peer = as_member(conn);
    if (!rml_groups_join_again(&s->groups, &peer, what->group - 1, what->member)) {
        rml_server_close_conn(s, conn);
        return;
    }
    conn->group = what->group;
    conn->member = what->member;
    if (!what->is_answered)
        offer_membership(s, conn);
}

void rml_server_go_on_with_subscriber(struct rml_server *s, struct server_conn *conn,
                                      const struct server_kept_conn *what, int line, int pidfd)
{
    struct rml_err err = {0};
    int rc = rml_subscribers_go_on(&s->subscribers, conn->socket, what->number, line, &conn->number,
                                   &err);
    if (rc < 0) {
        rml_server_refuse(s, conn, rc, err.text);
        return;
    }
    conn->role = ROLE_SUBSCRIBER;
    if (what->group != 0) {
        go_on_with_member(s, conn, what, pidfd);
        return;
    }
    if (!what->is_answered)
        offer_rings(s, conn);
}
