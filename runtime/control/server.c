#include "runtime/control/server.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "runtime/base/check.h"
#include "runtime/base/endings.h"
#include "runtime/base/err.h"
#include "runtime/control/claim.h"
#include "runtime/control/gate.h"
#include "runtime/control/groups.h"
#include "runtime/control/kept.h"
#include "runtime/control/leave.h"
#include "runtime/control/subscribers.h"
#include "runtime/keeper/keeping.h"
#include "runtime/lane/wire.h"

#define LANE_NS        (INT64_C(4) * 1000000000)  // how long a producer waits for a lane to come free
#define CONNS_SPARE    64u                        // beyond producers: people who look
#define EVENTS_AT_ONCE 64
#define REPLY_TEXT     240

// What an epoll event is about: a connection's number and which of its descriptors.
enum about { ABOUT_LISTENER, ABOUT_SIGNALS, ABOUT_ENGINE, ABOUT_SOCKET, ABOUT_PROCESS };

enum role { ROLE_UNKNOWN, ROLE_PRODUCER, ROLE_SUBSCRIBER, ROLE_CONTROL };

/* What is kept of a connection beside its socket and what comes with its role. */
struct kept_conn {
    uint32_t number;  // a producer's lane; a subscriber's output
    uint32_t owner;   // of a producer in a shared lane
    uint32_t pid, uid;
    uint32_t is_answered;    // its offer was sent
    uint32_t group, member;  // of a member: its group's number + 1
    char program[RML_WIRE_NAME];
};

struct conn {
    int socket;  // -1: the place is free
    int pidfd;   // of a producer, else -1
    enum role role;
    bool is_kept;      // by the keeper, under
    uint64_t kept_id;  // this
    uint32_t number;   // of its lane, or of its subscription
    uint32_t owner;    // of a producer in a shared lane; 0: its lane is its own
    uint32_t group;    // of a member, its number + 1; 0: it is none
    uint32_t member;
    bool is_lost;      // such a one, or a member, hung up, and its process has yet to end
    int64_t deadline;  // for its first message
    uint64_t turn;     // of the checkpoint that it waits for; 0: for none
    bool waits;        // for a lane, to attach as `hello` says
    struct rml_wire_hello_produce hello;
    uint32_t pid, uid;
    char program[RML_WIRE_NAME];
};

struct rml_server {
    struct rml_server_options options;
    struct rml_engine *engine;
    struct rml_gate *gate;
    struct rml_subscribers subscribers;
    struct rml_groups groups;
    int epoll, signals;
    int spare_fd;  // kept for the day when there is no other
    uint32_t conn_max;
    struct conn *conns;
    bool draining, over, signalled;
    _Alignas(8) unsigned char message[RML_WIRE_BYTES_MAX];
};

static int64_t now(const struct rml_server *s)
{
    return s->options.clock->monotonic_ns(s->options.clock->context);
}

__attribute__((format(printf, 2, 3))) static void say(const struct rml_server *s,
                                                      const char *format, ...)
{
    char sentence[256];
    va_list args;
    va_start(args, format);
    vsnprintf(sentence, sizeof sentence, format, args);
    va_end(args);
    if (s->options.say != NULL)
        s->options.say(s->options.say_context, sentence);
}

static int watch(const struct rml_server *s, int fd, enum about about, uint32_t number)
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

/* Connections */

static enum rml_kept_sort sort_of(enum role role)
{
    return role == ROLE_PRODUCER     ? RML_KEPT_PRODUCER
           : role == ROLE_SUBSCRIBER ? RML_KEPT_SUBSCRIBER
                                     : RML_KEPT_CONTROL;
}

static struct kept_conn what_to_keep(const struct conn *conn, uint32_t number, bool is_answered)
{
    struct kept_conn what = {.number = number,
                             .owner = conn->owner,
                             .pid = conn->pid,
                             .uid = conn->uid,
                             .is_answered = is_answered,
                             .group = conn->group,
                             .member = conn->member};
    memcpy(what.program, conn->program, sizeof what.program);
    return what;
}

// Have a connection kept, with the descriptor that comes with its role (-1: none), and a member's pidfd.
static int keep_conn(struct rml_server *s, struct conn *conn, uint32_t number, int more,
                     struct rml_err *err)
{
    const int fds[] = {conn->socket, more, conn->pidfd};
    bool has_two = conn->group != 0 && conn->pidfd >= 0;
    const struct kept_conn what = what_to_keep(conn, number, conn->role == ROLE_CONTROL);
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

static void note_answered(struct rml_server *s, const struct conn *conn, uint32_t number)
{
    const struct kept_conn what = what_to_keep(conn, number, true);
    rml_keeping_update(s->options.keeping, conn->kept_id, &what, sizeof what);
}

/*
 * A producer is gone. With a lane of its own that is the lane's end. In a shared one it is dead, unless it has
 * left already.
 */
static void end_producer(struct rml_server *s, const struct conn *conn)
{
    if (conn->owner == 0)
        rml_engine_finish(s->engine, conn->number);
    else
        rml_engine_leave(s->engine, conn->number, conn->owner, RML_ENGINE_DEAD);
    say(s, "detached: %s (process %u) from lane %u", conn->program, conn->pid, conn->number);
}

static void close_conn(struct rml_server *s, struct conn *conn)
{
    if (conn->role == ROLE_PRODUCER) {
        end_producer(s, conn);
    } else if (conn->role == ROLE_SUBSCRIBER) {
        if (conn->group != 0)
            rml_groups_leave(&s->groups, conn->group - 1, conn->member);
        if (!conn->is_lost)
            rml_subscribers_remove(&s->subscribers, conn->number);
        say(s, "unsubscribed: %s (process %u)", conn->program, conn->pid);
    }
    if (conn->pidfd >= 0)
        forget(s, conn->pidfd);
    if (conn->is_kept)
        rml_keeping_drop(s->options.keeping, conn->kept_id);
    forget(s, conn->socket);
    *conn = (struct conn){.socket = -1, .pidfd = -1};
}

// What it says counts no more; that its process has ended does.
static void lose_producer(struct rml_server *s, struct conn *conn)
{
    if (conn->is_lost)
        return;
    conn->is_lost = true;
    epoll_ctl(s->epoll, EPOLL_CTL_DEL, conn->socket, NULL);
    rml_engine_leave(s->engine, conn->number, conn->owner, RML_ENGINE_LOST);
}

// Of a member: likewise; and nobody wakes it any more.
static void lose_member(struct rml_server *s, struct conn *conn)
{
    if (conn->is_lost)
        return;
    conn->is_lost = true;
    epoll_ctl(s->epoll, EPOLL_CTL_DEL, conn->socket, NULL);
    rml_groups_lose(&s->groups, conn->group - 1, conn->member);
    rml_subscribers_remove(&s->subscribers, conn->number);
}

static void refuse(struct rml_server *s, struct conn *conn, int rc, const char *sentence)
{
    rml_wire_send_refused(conn->socket, -rc, "%s", sentence);
    say(s, "refused: process %u: %s", conn->pid, sentence);
    close_conn(s, conn);
}

static struct rml_gate_open open_of(const struct rml_server *s, const struct rml_gate_peer *peer)
{
    struct rml_gate_open open = {.places = s->conn_max};
    for (uint32_t i = 0; i < s->conn_max; i++) {
        const struct conn *conn = &s->conns[i];
        open.by_user += conn->socket >= 0 && conn->uid == peer->uid;
        open.by_process += conn->socket >= 0 && conn->uid == peer->uid && conn->pid == peer->pid;
    }
    return open;
}

// Those who feed and those who read leave some places to those who look and steer.
static int check_places(const struct rml_server *s, struct rml_err *err)
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
    struct conn *conn = s->conns;
    while (conn < s->conns + s->conn_max && conn->socket >= 0)
        conn++;
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
    *conn = (struct conn){.socket = socket,
                          .pidfd = -1,
                          .deadline = now(s) + s->options.plan->limits.hello_ns,
                          .pid = peer.pid,
                          .uid = peer.uid};
    if (watch(s, socket, ABOUT_SOCKET, (uint32_t)(conn - s->conns)) < 0)
        close_conn(s, conn);
}

static int accept_next(const struct rml_server *s)
{
    return accept4(s->options.claim->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
}

// Out of descriptors: who waits would wake us for ever, so give up the spare one to tell them.
static void turn_away(struct rml_server *s)
{
    close(s->spare_fd);
    int socket = accept_next(s);
    if (socket >= 0) {
        rml_wire_send_refused(socket, EMFILE,
                              "pipeline %s has no descriptor left: raise `ulimit -n`",
                              s->options.plan->name);
        close(socket);
    }
    s->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static void accept_all(struct rml_server *s)
{
    for (;;) {
        int socket = accept_next(s);
        if (socket >= 0)
            accept_one(s, socket);
        else if (errno == EMFILE || errno == ENFILE)
            turn_away(s);
        else if (errno != ECONNABORTED && errno != EINTR)
            return;
    }
}

/* Producers and subscribers */

static int check_producer(const struct rml_server *s, const struct conn *conn,
                          const struct rml_wire_hello_produce *hello, uint32_t *ret_source,
                          struct rml_err *err)
{
    struct rml_gate_peer peer;
    const struct rml_plan *plan = s->options.plan;
    uint32_t source = rml_plan_source_find(plan, hello->source);
    if (source == UINT32_MAX)
        return RML_FAIL(err, -ENOENT, "pipeline %s has no source %s", plan->name, hello->source);
    int rc = rml_gate_ask(s->gate, conn->socket, &peer);
    if (rc == 0)
        rc = rml_gate_may_write(s->gate, &peer, source, err);
    if (rc < 0)
        return rc;
    const struct rml_schema *schema = &plan->sources[source].schema;
    if (hello->record_bytes != schema->record_bytes || hello->schema_hash != schema->hash)
        return RML_FAIL(err, -EINVAL,
                        "the records of source %s have another layout: make the header again with "
                        "`ringmill gen header` and compile",
                        hello->source);
    *ret_source = source;
    return s->draining || s->over ? RML_FAIL(err, -ESHUTDOWN, "pipeline %s is draining", plan->name)
                                  : check_places(s, err);
}

static void name_conn(struct conn *conn, const char program[RML_WIRE_NAME])
{
    memcpy(conn->program, program, sizeof conn->program);
    conn->program[sizeof conn->program - 1] = '\0';
}

static void watch_process(const struct rml_server *s, const struct conn *conn)
{
    if (conn->pidfd >= 0)
        (void)watch(s, conn->pidfd, ABOUT_PROCESS, (uint32_t)(conn - s->conns));
}

static void offer_lane(struct rml_server *s, struct conn *conn)
{
    const struct rml_lane_in *in = rml_engine_lane(s->engine, conn->number);
    int rc =
        rml_wire_send_lane(conn->socket, rml_lane_in_geometry(in), rml_lane_in_fds(in),
                           rml_engine_board(s->engine)->head->epoch, conn->number, conn->owner);
    if (rc < 0)
        close_conn(s, conn);
    else
        note_answered(s, conn, conn->number);
}

/*
 * All lanes have been given out, and some of them only stay until a checkpoint covers what they gave: have one
 * taken at once, and let the producer wait for it, for less long than it waits for us.
 */
static bool wait_for_lane(struct rml_server *s, struct conn *conn,
                          const struct rml_wire_hello_produce *hello)
{
    if (!rml_engine_keeps_lanes(s->engine) || (conn->waits && now(s) >= conn->deadline))
        return false;
    if (!conn->waits) {
        conn->waits = true;
        conn->hello = *hello;
        conn->deadline = now(s) + LANE_NS;
    }
    return rml_engine_save(s->engine) != 0;
}

static void attach_producer(struct rml_server *s, struct conn *conn,
                            const struct rml_wire_hello_produce *hello)
{
    struct rml_err err = {0};
    uint32_t source = 0, lane = 0;
    name_conn(conn, hello->program);
    const struct rml_engine_producer producer = {
        .pid = conn->pid, .uid = conn->uid, .cells = hello->cells, .program = conn->program};
    int rc = check_producer(s, conn, hello, &source, &err);
    if (rc == 0 && s->options.plan->sources[source].is_shared)
        rc = rml_engine_join(s->engine, source, &producer, conn->socket, &lane, &conn->owner, &err);
    else if (rc == 0)
        rc = rml_engine_attach(s->engine, source, &producer, &lane, &err);
    if (rc == -EMFILE && wait_for_lane(s, conn, hello))
        return;
    conn->waits = false;
    if (rc < 0) {
        if (rc != -EACCES)
            rml_gate_count(s->gate, RML_GATE_no_lane);
        refuse(s, conn, rc, err.text);
        return;
    }
    conn->role = ROLE_PRODUCER;
    conn->number = lane;
    // The proof of a producer's death; where the kernel gives none, the closed socket must do.
    conn->pidfd = (int)syscall(SYS_pidfd_open, (pid_t)conn->pid, 0);
    watch_process(s, conn);
    rc = keep_conn(s, conn, lane, conn->pidfd, &err);
    say(s, "attached: %s (process %u) to source %s, lane %u", conn->program, conn->pid,
        hello->source, lane);
    if (rc < 0)
        refuse(s, conn, rc, err.text);
    else
        offer_lane(s, conn);
}

static void offer_rings(struct rml_server *s, struct conn *conn)
{
    int rc = rml_subscribers_offer(&s->subscribers, conn->number, conn->socket);
    if (rc < 0)
        close_conn(s, conn);
    else
        note_answered(s, conn, rml_subscribers_output(&s->subscribers, conn->number));
}

static void attach_subscriber(struct rml_server *s, struct conn *conn,
                              const struct rml_wire_hello_subscribe *hello)
{
    struct rml_err err = {0};
    name_conn(conn, hello->program);
    struct rml_gate_peer peer;
    int rc = rml_gate_ask(s->gate, conn->socket, &peer);
    if (rc == 0)
        rc = rml_gate_may_read(s->gate, &peer, hello->stage, &err);
    if (rc == 0)
        rc = check_places(s, &err);
    if (rc == 0)
        rc = rml_subscribers_add(&s->subscribers, conn->socket, hello->stage, &conn->number, &err);
    if (rc < 0) {
        refuse(s, conn, rc, err.text);
        return;
    }
    conn->role = ROLE_SUBSCRIBER;
    rc = keep_conn(s, conn, rml_subscribers_output(&s->subscribers, conn->number),
                   rml_subscribers_line(&s->subscribers, conn->number), &err);
    say(s, "subscribed: %s (process %u) to %s", conn->program, conn->pid, hello->stage);
    if (rc < 0)
        refuse(s, conn, rc, err.text);
    else
        offer_rings(s, conn);
}

static void offer_membership(struct rml_server *s, struct conn *conn)
{
    int rc = rml_groups_offer(&s->groups, conn->group - 1, conn->member, conn->socket);
    if (rc < 0)
        close_conn(s, conn);
    else
        note_answered(s, conn, rml_subscribers_output(&s->subscribers, conn->number));
}

static struct rml_groups_peer as_member(const struct conn *conn)
{
    return (struct rml_groups_peer){
        .subscription = conn->number, .pid = conn->pid, .uid = conn->uid, .program = conn->program};
}

// A subscriber, and then a member.
static int join(struct rml_server *s, struct conn *conn, const struct rml_wire_hello_join *hello,
                struct rml_err *err)
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
    conn->pidfd = (int)syscall(SYS_pidfd_open, (pid_t)conn->pid, 0);
    watch_process(s, conn);
    return keep_conn(s, conn, rml_subscribers_output(&s->subscribers, conn->number),
                     rml_subscribers_line(&s->subscribers, conn->number), err);
}

static void attach_member(struct rml_server *s, struct conn *conn,
                          const struct rml_wire_hello_join *hello)
{
    struct rml_err err = {0};
    struct rml_gate_peer peer;
    name_conn(conn, hello->program);
    int rc = rml_gate_ask(s->gate, conn->socket, &peer);
    if (rc == 0)
        rc = rml_gate_may_read(s->gate, &peer, hello->stage, &err);
    if (rc == 0)
        rc = check_places(s, &err);
    if (rc == 0)
        rc = join(s, conn, hello, &err);
    if (rc < 0) {
        refuse(s, conn, rc, err.text);
        return;
    }
    say(s, "joined: %s (process %u) group %s of %s", conn->program, conn->pid, hello->group,
        hello->stage);
    offer_membership(s, conn);
}

/* Requests */

static void begin_drain(struct rml_server *s, const char *why)
{
    if (s->draining)
        return;
    s->draining = true;
    say(s, "draining: %s", why);
    rml_engine_drain_begin(s->engine);
}

// A peer that does not read its answers does not get them.
static void reply(const struct conn *conn, int code, const char *text, const int *fds,
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
static void keep_control(struct rml_server *s, struct conn *conn)
{
    struct rml_err err = {0};
    if (!conn->is_kept && conn->turn == 0 && keep_conn(s, conn, 0, -1, &err) < 0)
        say(s, "process %u: %s", conn->pid, err.text);
}

static void begin_checkpoint(struct rml_server *s, struct conn *conn)
{
    conn->turn = rml_engine_save(s->engine);
    if (conn->turn == 0)
        reply(conn, ENOTSUP, "it takes no checkpoints: its file has no runtime.state", NULL, 0);
    else if (conn->is_kept)
        rml_keeping_drop(s->options.keeping, conn->kept_id);
    conn->is_kept = conn->is_kept && conn->turn == 0;
}

// Lanes have come free, perhaps.
static void attach_waiting(struct rml_server *s)
{
    for (uint32_t i = 0; i < s->conn_max; i++) {
        if (s->conns[i].waits) {
            const struct rml_wire_hello_produce hello = s->conns[i].hello;
            attach_producer(s, &s->conns[i], &hello);
        }
    }
}

static void tell_saved(void *context, const struct rml_engine_saved *saved)
{
    struct rml_server *s = context;
    attach_waiting(s);
    char text[REPLY_TEXT];
    if (saved->rc == 0)
        snprintf(text, sizeof text, "%" PRIu64 " %" PRIu64 " %" PRIu64, saved->epoch, saved->bytes,
                 saved->took_ns);
    else
        snprintf(text, sizeof text,
                 "the checkpoint failed: %s; the log of `ringmill run` says more",
                 strerrordesc_np(-saved->rc));
    for (uint32_t i = 0; i < s->conn_max; i++) {
        struct conn *conn = &s->conns[i];
        if (conn->turn == 0 || conn->turn > saved->turn)
            continue;
        conn->turn = 0;
        reply(conn, saved->rc == 0 ? 0 : EIO, text, NULL, 0);
        keep_control(s, conn);
    }
}

static void refresh(struct rml_server *s)
{
    rml_engine_refresh(s->engine);
    rml_groups_show(&s->groups, rml_engine_board(s->engine));
}

static void answer(struct rml_server *s, struct conn *conn, const char *request)
{
    if (strcmp(request, "board") == 0) {
        const struct rml_segment *board = &rml_engine_board(s->engine)->segment;
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
        begin_drain(s, "asked to");
        reply(conn, 0, "", NULL, 0);
    } else if (strcmp(request, "stop") == 0) {
        say(s, "stopping: asked to");
        s->over = true;
        reply(conn, 0, "", NULL, 0);
    } else {
        reply(conn, EINVAL, "unknown request: board, refresh, checkpoint, drain and stop are known",
              NULL, 0);
    }
}

static int may_ask(struct rml_server *s, const struct conn *conn, const char *request,
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

static void serve_control(struct rml_server *s, struct conn *conn, const char *request)
{
    struct rml_err err = {0};
    int rc = rml_gate_request(s->gate, conn->uid, conn->pid, &err);
    if (rc < 0) {
        refuse(s, conn, rc, err.text);
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

// An event may be older than the connection that has the number now. (A read that it causes finds
// nothing, and does no harm.)
static bool has_died(const struct conn *conn)
{
    struct pollfd end = {.fd = conn->pidfd, .events = POLLIN};
    return conn->pidfd >= 0 && poll(&end, 1, 0) == 1;
}

// Of a producer in a shared lane. Where the kernel gives no proof of a death, the closed socket must do.
static void producer_hangs_up(struct rml_server *s, struct conn *conn, bool said_bye)
{
    if (said_bye)
        rml_engine_leave(s->engine, conn->number, conn->owner, RML_ENGINE_LEFT);
    if (said_bye || conn->pidfd < 0 || has_died(conn))
        close_conn(s, conn);
    else
        lose_producer(s, conn);
}

// Of a member. Who lives may be at work on what it has taken.
static void member_hangs_up(struct rml_server *s, struct conn *conn, bool said_bye)
{
    if (said_bye || conn->pidfd < 0 || has_died(conn))
        close_conn(s, conn);
    else
        lose_member(s, conn);
}

// What a connection is for is said by its first message; BYE, or the end, ends it.
static void read_conn(struct rml_server *s, struct conn *conn)
{
    struct rml_err err = {0};
    uint32_t fd_count;
    int type =
        rml_wire_receive(conn->socket, s->message, sizeof s->message, NULL, 0, &fd_count, &err);
    if (type == -EAGAIN)
        return;
    const struct rml_wire_hello_control *control = (const void *)s->message;
    bool ends = type == 0 || type == RML_WIRE_BYE || type == -ECONNRESET;
    if (conn->waits) {
        close_conn(s, conn);  // it has gone, or says more than it may
    } else if (type < 0 && conn->role == ROLE_UNKNOWN) {
        rml_gate_count(s->gate, RML_GATE_nonsense);
        refuse(s, conn, type, err.text);
    } else if (type == RML_WIRE_HELLO_PRODUCE && conn->role == ROLE_UNKNOWN)
        attach_producer(s, conn, (const void *)s->message);
    else if (type == RML_WIRE_HELLO_SUBSCRIBE && conn->role == ROLE_UNKNOWN)
        attach_subscriber(s, conn, (const void *)s->message);
    else if (type == RML_WIRE_HELLO_JOIN && conn->role == ROLE_UNKNOWN)
        attach_member(s, conn, (const void *)s->message);
    else if (type == RML_WIRE_HELLO_CONTROL
             && (conn->role == ROLE_UNKNOWN || conn->role == ROLE_CONTROL) && conn->turn == 0)
        serve_control(s, conn, control->text);
    else {
        if (!ends)
            rml_gate_count(s->gate, RML_GATE_nonsense);
        if (conn->role == ROLE_PRODUCER && conn->owner != 0)
            producer_hangs_up(s, conn, type == RML_WIRE_BYE);
        else if (conn->group != 0)
            member_hangs_up(s, conn, type == RML_WIRE_BYE);
        else
            close_conn(s, conn);
    }
}

/* The loop */

static void obey_signal(struct rml_server *s)
{
    s->over = s->over || s->signalled;
    s->signalled = true;
    begin_drain(s, "signalled; once more stops at once");
}

// A terminal, or a service manager, signals the keeper and us: what counts is what the keeper passes on.
static void read_signals(struct rml_server *s)
{
    struct signalfd_siginfo info;
    while (read(s->signals, &info, sizeof info) == (ssize_t)sizeof info) {
        if (s->options.keeping == NULL || info.ssi_signo == (uint32_t)rml_ending_passed_on())
            obey_signal(s);
    }
}

static void drop_silent(struct rml_server *s)
{
    int64_t present = now(s);
    for (uint32_t i = 0; i < s->conn_max; i++) {
        struct conn *conn = &s->conns[i];
        if (conn->waits && present >= conn->deadline) {
            const struct rml_wire_hello_produce hello = conn->hello;
            attach_producer(s, conn, &hello);  // for the last time
        } else if (conn->socket >= 0 && conn->role == ROLE_UNKNOWN && present >= conn->deadline) {
            rml_gate_count(s->gate, RML_GATE_silent);
            close_conn(s, conn);
        }
    }
}

// Milliseconds until the next silent peer is dropped; -1: none is there.
static int next_deadline_ms(const struct rml_server *s)
{
    int64_t least = INT64_MAX;
    for (uint32_t i = 0; i < s->conn_max; i++) {
        const struct conn *conn = &s->conns[i];
        if (conn->socket >= 0 && conn->role == ROLE_UNKNOWN && conn->deadline < least)
            least = conn->deadline;
    }
    if (least == INT64_MAX)
        return -1;
    int64_t left = least - now(s);
    return left <= 0 ? 0 : (int)(left / 1000000) + 1;
}

static void handle(struct rml_server *s, uint64_t data)
{
    uint32_t number = (uint32_t)data;
    switch ((enum about)(data >> 32)) {
    case ABOUT_LISTENER:
        accept_all(s);
        break;
    case ABOUT_SIGNALS:
        read_signals(s);
        break;
    case ABOUT_ENGINE:
        break;  // every round polls it
    case ABOUT_SOCKET:
        if (s->conns[number].socket >= 0)
            read_conn(s, &s->conns[number]);
        break;
    case ABOUT_PROCESS:
        if (has_died(&s->conns[number]))
            close_conn(s, &s->conns[number]);
        break;
    }
}

/* After an engine that died */

static void go_on_with_producer(struct rml_server *s, struct conn *conn,
                                const struct kept_conn *what, int pidfd)
{
    conn->role = ROLE_PRODUCER;
    conn->number = what->number;
    conn->owner = what->owner;
    conn->pidfd = pidfd;
    watch_process(s, conn);
    bool goes_on = conn->owner == 0
                       ? rml_engine_lane(s->engine, what->number) != NULL
                       : rml_engine_join_again(s->engine, what->number, what->owner, conn->socket);
    if (!goes_on)
        close_conn(s, conn);
    else if (!what->is_answered)
        offer_lane(s, conn);
}

static void go_on_with_member(struct rml_server *s, struct conn *conn, const struct kept_conn *what,
                              int pidfd)
{
    conn->pidfd = pidfd;
    watch_process(s, conn);
    const struct rml_groups_peer peer = as_member(conn);
    if (!rml_groups_join_again(&s->groups, &peer, what->group - 1, what->member)) {
        close_conn(s, conn);
        return;
    }
    conn->group = what->group;
    conn->member = what->member;
    if (!what->is_answered)
        offer_membership(s, conn);
}

static void go_on_with_subscriber(struct rml_server *s, struct conn *conn,
                                  const struct kept_conn *what, int line, int pidfd)
{
    struct rml_err err = {0};
    int rc = rml_subscribers_go_on(&s->subscribers, conn->socket, what->number, line, &conn->number,
                                   &err);
    if (rc < 0) {
        refuse(s, conn, rc, err.text);
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

static void go_on_with(struct rml_server *s, uint32_t sort, const struct rml_kept *kept)
{
    uint32_t index = (uint32_t)kept->id;
    struct kept_conn what;
    RML_CHECK(kept->blob_bytes == sizeof what && index < s->conn_max && kept->fd_count > 0);
    memcpy(&what, kept->blob, sizeof what);
    struct conn *conn = &s->conns[index];
    *conn = (struct conn){.socket = kept->fds[0],
                          .pidfd = -1,
                          .is_kept = true,
                          .kept_id = kept->id,
                          .pid = what.pid,
                          .uid = what.uid};
    name_conn(conn, what.program);
    if (watch(s, conn->socket, ABOUT_SOCKET, index) < 0)
        say(s, "process %u is not heard any more: %s", conn->pid, strerrordesc_np(errno));
    int more = kept->fd_count > 1 ? kept->fds[1] : -1;
    if (sort == RML_KEPT_PRODUCER)
        go_on_with_producer(s, conn, &what, more);
    else if (sort == RML_KEPT_SUBSCRIBER)
        go_on_with_subscriber(s, conn, &what, more, kept->fd_count > 2 ? kept->fds[2] : -1);
    else
        conn->role = ROLE_CONTROL;
}

// Who fed a lane may have left before the engine died, or with it.
static void finish_left_lanes(struct rml_server *s)
{
    for (uint32_t lane = 0; lane < s->options.plan->lanes_max; lane++) {
        bool is_fed = false;
        for (uint32_t i = 0; i < s->conn_max && !is_fed; i++)
            is_fed = s->conns[i].role == ROLE_PRODUCER && s->conns[i].number == lane;
        const struct rml_lane_in *in = rml_engine_lane(s->engine, lane);
        if (in != NULL && rml_lane_in_geometry(in)->owners > 0)
            rml_engine_leave_rest(s->engine, lane);
        else if (!is_fed)
            rml_engine_finish(s->engine, lane);
    }
}

static void go_on(struct rml_server *s)
{
    static const uint32_t sorts[] = {RML_KEPT_PRODUCER, RML_KEPT_SUBSCRIBER, RML_KEPT_CONTROL};
    struct rml_keeping *keeping = s->options.keeping;
    rml_groups_again(&s->groups);
    for (size_t i = 0; i < sizeof sorts / sizeof sorts[0]; i++) {
        const struct rml_kept *kept;
        while ((kept = rml_keeping_next(keeping, sorts[i])) != NULL)
            go_on_with(s, sorts[i], kept);
    }
    rml_groups_rest(&s->groups);
    rml_keeping_rest(keeping);
    finish_left_lanes(s);
    say(s, "running again, after process %u died: %s", keeping->last.pid, keeping->last.why);
    if (rml_board_is_to_end(rml_engine_board(s->engine)))
        begin_drain(s, "as it was to before");
}

// What a run that begins goes on from, where there could be something.
static void say_past(struct rml_server *s)
{
    const struct rml_board *board = rml_engine_board(s->engine);
    struct rml_board_saves saves;
    rml_board_saves_read(board, &saves);
    if (board->head->state_folder[0] == '\0')
        return;
    if (saves.restored_epoch != 0)
        say(s, "goes on from checkpoint %" PRIu64 " in %s", saves.restored_epoch,
            board->head->state_folder);
    else
        say(s, "begins anew in %s", board->head->state_folder);
}

// The signals that came before this engine did, which nobody who lives has obeyed.
static void catch_up_with_signals(struct rml_server *s)
{
    for (uint32_t i = 0; s->options.keeping != NULL && i < s->options.keeping->asked; i++)
        obey_signal(s);
}

static void serve(struct rml_server *s)
{
    struct epoll_event events[EVENTS_AT_ONCE];
    while (!s->over && !rml_engine_is_drained(s->engine)) {
        rml_engine_sleep_begin(s->engine);
        rml_engine_poll(s->engine);
        int count = 0;
        if (!rml_engine_is_drained(s->engine))
            count = epoll_wait(s->epoll, events, EVENTS_AT_ONCE, next_deadline_ms(s));
        rml_engine_sleep_end(s->engine);
        for (int i = 0; i < count; i++)
            handle(s, events[i].data.u64);
        drop_silent(s);
    }
}

/* Life */

static int watch_signals(struct rml_server *s, struct rml_err *err)
{
    sigset_t set;
    rml_endings(&set);
    // A pipe that nobody reads any more and a file that may not grow are errors of one write, not ends
    // of a pipeline.
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
    // before any thread starts, so that all of them inherit it
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    s->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    s->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (s->signals < 0 || s->epoll < 0)
        return RML_FAIL(err, -errno, "cannot watch signals: %s", strerror(errno));
    return 0;
}

int rml_server_open(struct rml_server **ret_server, const struct rml_server_options *options,
                    struct rml_err *err)
{
    struct rml_server *s = calloc(1, sizeof *s);
    if (s == NULL)
        return RML_FAIL(err, -ENOMEM, "no memory for a server");
    s->options = *options;
    s->epoll = -1;
    s->signals = -1;
    s->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    s->conn_max = options->plan->lanes_max + RML_LISTENERS_MAX + CONNS_SPARE;
    s->conns = calloc(s->conn_max, sizeof *s->conns);
    int rc = s->conns == NULL ? RML_FAIL(err, -ENOMEM, "no memory for connections") : 0;
    for (uint32_t i = 0; rc == 0 && i < s->conn_max; i++)
        s->conns[i] = (struct conn){.socket = -1, .pidfd = -1};
    const struct rml_gate_options gate = {
        .plan = options->plan, .clock = options->clock, .own_uid = geteuid()};
    if (rc == 0)
        rc = rml_gate_open(&s->gate, &gate, err);
    if (rc == 0)
        rc = watch_signals(s, err);
    if (rc < 0) {
        s->options.claim = NULL;
        rml_server_close(s);
        return rc;
    }
    *ret_server = s;
    return 0;
}

void rml_server_hook(struct rml_server *s, struct rml_engine_options *options)
{
    options->listener_done = rml_subscribers_done;
    options->listener_context = &s->subscribers;
    options->saved = tell_saved;
    options->saved_context = s;
}

int rml_server_run(struct rml_server *s, struct rml_engine *engine, bool *ret_drained,
                   struct rml_err *err)
{
    s->engine = engine;
    s->subscribers.engine = engine;
    s->subscribers.plan = s->options.plan;
    rml_groups_open(&s->groups, &s->subscribers, s->options.keeping);
    rml_gate_count_in(s->gate, &rml_engine_board(engine)->live->gate);
    int rc = rml_engine_start(engine, err);
    if (rc < 0)
        return rc;
    if (watch(s, s->options.claim->listen_fd, ABOUT_LISTENER, 0) < 0
        || watch(s, s->signals, ABOUT_SIGNALS, 0) < 0
        || watch(s, rml_engine_fd(engine), ABOUT_ENGINE, 0) < 0)
        return RML_FAIL(err, -errno, "cannot watch descriptors: %s", strerror(errno));
    struct rml_keeping *keeping = s->options.keeping;
    if (rml_keeping_again(keeping)) {
        go_on(s);
    } else {
        say_past(s);
        say(s, "running: %s, process %ld, socket %s", s->options.plan->name,
            (long)rml_keeping_process(keeping), s->options.claim->socket);
    }
    rml_keeping_ready(keeping);
    catch_up_with_signals(s);
    serve(s);
    rml_leave_on_signal(keeping == NULL ? s->options.claim : NULL, keeping != NULL, s->signalled);
    *ret_drained = rml_engine_is_drained(engine);
    return 0;
}

void rml_server_close(struct rml_server *s)
{
    if (s == NULL)
        return;
    rml_leave_off();
    if (s->options.claim != NULL && s->options.keeping == NULL)
        rml_claim_close(
            s->options.claim);  // first: who waits for our hanging up finds nothing left
    for (uint32_t i = 0; s->conns != NULL && i < s->conn_max; i++) {
        if (s->conns[i].socket < 0)
            continue;
        s->conns[i].role = ROLE_UNKNOWN;  // lanes and listeners end with the engine
        s->conns[i].is_kept = false;      // the keeper hangs up when the name is free
        close_conn(s, &s->conns[i]);
    }
    rml_groups_close(&s->groups);
    rml_subscribers_close(&s->subscribers);
    if (s->signals >= 0)
        close(s->signals);
    if (s->epoll >= 0)
        close(s->epoll);
    if (s->spare_fd >= 0)
        close(s->spare_fd);
    rml_gate_close(s->gate);
    free(s->conns);
    free(s);
}
