#include "runtime/control/server_conns.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "runtime/base/err.h"
#include "runtime/control/groups.h"
#include "runtime/control/kept.h"
#include "runtime/control/server_state.h"
#include "runtime/keeper/keeping.h"
#include "runtime/lane/wire.h"

int rml_server_watch(const struct rml_server *s, int fd, enum server_about about, uint32_t number)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = (uint64_t)about << 32 | number};
    return epoll_ctl(s->epoll, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

// The keeper may hold it a little longer, and then closing ours would not take it out.
static void forget(const struct rml_server *s, int fd)
{
    epoll_ctl(s->epoll, EPOLL_CTL_DEL, fd, NULL);
    close(fd);
}

static enum rml_kept_sort sort_of(enum server_role role)
{
    return role == ROLE_PRODUCER     ? RML_KEPT_PRODUCER
           : role == ROLE_SUBSCRIBER ? RML_KEPT_SUBSCRIBER
                                     : RML_KEPT_CONTROL;
}

static struct server_kept_conn what_to_keep(const struct server_conn *conn, uint32_t number,
                                            bool is_answered)
{
    struct server_kept_conn what = {.number = number,
                                    .owner = conn->owner,
                                    .pid = conn->pid,
                                    .uid = conn->uid,
                                    .is_answered = is_answered,
                                    .group = conn->group,
                                    .member = conn->member};
    memcpy(what.program, conn->program, sizeof what.program);
    return what;
}

int rml_server_keep_conn(struct rml_server *s, struct server_conn *conn, uint32_t number, int more,
                         struct rml_err *err)
{
    const int fds[] = {conn->socket, more, conn->pidfd};
    bool has_two = conn->group != 0 && conn->pidfd >= 0;
    const struct server_kept_conn what = what_to_keep(conn, number, conn->role == ROLE_CONTROL);
    conn->kept_id = RML_KEPT_ID(sort_of(conn->role), conn - s->conns);
    const struct rml_keep keep = {.id = conn->kept_id,
                                  .fds = fds,
                                  .fd_count = has_two     ? 3
                                              : more >= 0 ? 2
                                                          : 1,
                                  .blob = &what,
                                  .blob_bytes = sizeof what};
    int rc = rml_keeping_put(s->options.keeping, &keep, err);
    conn->is_kept = rc == 0;
    return rc;
}

void rml_server_note_answered(struct rml_server *s, const struct server_conn *conn, uint32_t number)
{
    const struct server_kept_conn what = what_to_keep(conn, number, true);
    rml_keeping_update(s->options.keeping, conn->kept_id, &what, sizeof what);
}

void rml_server_name_conn(struct server_conn *conn, const char program[RML_WIRE_NAME])
{
    memcpy(conn->program, program, sizeof conn->program);
    conn->program[sizeof conn->program - 1] = '\0';
}

void rml_server_prove_process(const struct rml_server *s, struct server_conn *conn)
{
    conn->pidfd = (int)syscall(SYS_pidfd_open, (pid_t)conn->pid, 0);
    rml_server_watch_process(s, conn);
}

void rml_server_watch_process(const struct rml_server *s, const struct server_conn *conn)
{
    if (conn->pidfd >= 0)
        (void)rml_server_watch(s, conn->pidfd, ABOUT_PROCESS, (uint32_t)(conn - s->conns));
}

bool rml_server_lose_conn(const struct rml_server *s, struct server_conn *conn)
{
    if (conn->is_lost)
        return false;
    conn->is_lost = true;
    epoll_ctl(s->epoll, EPOLL_CTL_DEL, conn->socket, NULL);
    return true;
}

bool rml_server_has_died(const struct server_conn *conn)
{
    struct pollfd end = {.fd = conn->pidfd, .events = POLLIN};
    return conn->pidfd >= 0 && poll(&end, 1, 0) == 1;
}

/*
 * A producer is gone. With a lane of its own that is the lane's end. In a shared one it is dead, unless it has
 * left already.
 */
static void end_producer(struct rml_server *s, const struct server_conn *conn)
{
    if (conn->owner == 0)
        rml_engine_finish(s->engine, conn->number);
    else
        rml_engine_leave(s->engine, conn->number, conn->owner, RML_ENGINE_DEAD);
    rml_server_say(s, "detached: %s (process %u) from lane %u", conn->program, conn->pid,
                   conn->number);
}

void rml_server_close_conn(struct rml_server *s, struct server_conn *conn)
{
    if (conn->role == ROLE_PRODUCER) {
        end_producer(s, conn);
    } else if (conn->role == ROLE_SUBSCRIBER) {
        if (conn->group != 0)
            rml_groups_leave(&s->groups, conn->group - 1, conn->member);
        if (!conn->is_lost)
            rml_subscribers_remove(&s->subscribers, conn->number);
        rml_server_say(s, "unsubscribed: %s (process %u)", conn->program, conn->pid);
    }
    if (conn->pidfd >= 0)
        forget(s, conn->pidfd);
    if (conn->is_kept)
        rml_keeping_drop(s->options.keeping, conn->kept_id);
    forget(s, conn->socket);
    *conn = (struct server_conn){.socket = -1, .pidfd = -1};
}

void rml_server_refuse(struct rml_server *s, struct server_conn *conn, int rc, const char *sentence)
{
    rml_wire_send_refused(conn->socket, -rc, "%s", sentence);
    rml_server_say(s, "refused: process %u: %s", conn->pid, sentence);
    rml_server_close_conn(s, conn);
}
