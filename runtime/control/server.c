#include "runtime/control/server.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "runtime/base/err.h"
#include "runtime/control/claim.h"
#include "runtime/control/report.h"
#include "runtime/lane/wire.h"

#define HELLO_NS       (INT64_C(2) * 1000000000)  // how long a peer may say nothing
#define CONNS_SPARE    64u                        // beyond producers: people who look
#define EVENTS_AT_ONCE 64
#define REPLY_BYTES    16384u

// What an epoll event is about: a connection's number and which of its descriptors.
enum about { ABOUT_LISTENER, ABOUT_SIGNALS, ABOUT_ENGINE, ABOUT_SOCKET, ABOUT_PROCESS };

struct conn {
    int socket;  // -1: the place is free
    int pidfd;   // of a producer, else -1
    bool produces;
    uint32_t lane;
    int64_t deadline;  // for its first message
    struct rml_report_peer peer;
    char program[RML_WIRE_NAME];
};

struct server {
    struct rml_server_options options;
    struct rml_claim claim;
    int epoll, signals;
    uint32_t conn_max;
    struct conn *conns;
    int64_t started;
    bool draining, over;
    _Alignas(8) unsigned char message[RML_WIRE_BYTES_MAX];
};

static int64_t now(const struct server *s)
{
    return s->options.clock->monotonic_ns(s->options.clock->context);
}

__attribute__((format(printf, 2, 3))) static void say(const struct server *s, const char *format,
                                                      ...)
{
    char sentence[256];
    va_list args;
    va_start(args, format);
    vsnprintf(sentence, sizeof sentence, format, args);
    va_end(args);
    if (s->options.say != NULL)
        s->options.say(s->options.say_context, sentence);
}

static int watch(const struct server *s, int fd, enum about about, uint32_t number)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = (uint64_t)about << 32 | number};
    return epoll_ctl(s->epoll, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

/* Connections */

static void close_conn(struct server *s, struct conn *conn)
{
    if (conn->produces) {
        rml_engine_finish(s->options.engine, conn->lane);
        say(s, "detached: %s (process %lld) from lane %u", conn->program, (long long)conn->peer.pid,
            conn->lane);
    }
    if (conn->pidfd >= 0)
        close(conn->pidfd);
    close(conn->socket);
    *conn = (struct conn){.socket = -1, .pidfd = -1};
}

static bool may_come(const struct ucred *peer)
{
    return peer->uid == geteuid() || peer->uid == 0;
}

static void accept_one(struct server *s, int socket)
{
    struct ucred peer = {0};
    socklen_t bytes = sizeof peer;
    struct conn *conn = s->conns;
    while (conn < s->conns + s->conn_max && conn->socket >= 0)
        conn++;
    if (conn == s->conns + s->conn_max) {
        rml_wire_send_refused(socket, EMFILE, "%u connections are open, as many as there can be",
                              s->conn_max);
        close(socket);
        return;
    }
    if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &bytes) < 0 || !may_come(&peer)) {
        rml_wire_send_refused(socket, EACCES,
                              "pipeline %s runs as user %u: attach as that user or as root",
                              s->options.plan->name, (unsigned)geteuid());
        close(socket);
        return;
    }
    *conn = (struct conn){.socket = socket,
                          .pidfd = -1,
                          .deadline = now(s) + HELLO_NS,
                          .peer = {.pid = peer.pid, .uid = peer.uid}};
    if (watch(s, socket, ABOUT_SOCKET, (uint32_t)(conn - s->conns)) < 0)
        close_conn(s, conn);
}

static void accept_all(struct server *s)
{
    int socket;
    while (s->claim.listen_fd >= 0
           && (socket = accept4(s->claim.listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0)
        accept_one(s, socket);
}

/* Producers */

static int check_producer(const struct server *s, const struct rml_wire_hello_produce *hello,
                          uint32_t *ret_source, struct rml_err *err)
{
    const struct rml_plan *plan = s->options.plan;
    uint32_t source = rml_plan_source_find(plan, hello->source);
    if (source == UINT32_MAX)
        return RML_FAIL(err, -ENOENT, "pipeline %s has no source %s", plan->name, hello->source);
    const struct rml_schema *schema = &plan->sources[source].schema;
    if (hello->record_bytes != schema->record_bytes || hello->schema_hash != schema->hash)
        return RML_FAIL(err, -EINVAL,
                        "the records of source %s have another layout: make the header again with "
                        "`ringmill gen header` and compile",
                        hello->source);
    *ret_source = source;
    return s->draining ? RML_FAIL(err, -ESHUTDOWN, "pipeline %s is draining", plan->name) : 0;
}

static void attach_producer(struct server *s, struct conn *conn,
                            const struct rml_wire_hello_produce *hello)
{
    struct rml_err err = {0};
    uint32_t source, lane;
    int rc = check_producer(s, hello, &source, &err);
    if (rc == 0)
        rc = rml_engine_attach(s->options.engine, source, hello->cells, &lane, &err);
    if (rc < 0) {
        rml_wire_send_refused(conn->socket, -rc, "%s", err.text);
        say(s, "refused: process %lld: %s", (long long)conn->peer.pid, err.text);
        close_conn(s, conn);
        return;
    }
    conn->produces = true;
    conn->lane = lane;
    memcpy(conn->program, hello->program, sizeof conn->program);
    conn->program[sizeof conn->program - 1] = '\0';
    conn->peer.program = conn->program;
    uint32_t number = (uint32_t)(conn - s->conns);
    const struct rml_lane_in *in = rml_engine_lane(s->options.engine, lane);
    // The proof of a producer's death; where the kernel gives none, the closed socket must do.
    conn->pidfd = (int)syscall(SYS_pidfd_open, (pid_t)conn->peer.pid, 0);
    if (conn->pidfd >= 0)
        (void)watch(s, conn->pidfd, ABOUT_PROCESS, number);
    rc = rml_wire_send_lane(conn->socket, rml_lane_in_geometry(in), rml_lane_in_fds(in), 1, lane);
    say(s, "attached: %s (process %lld) to source %s, lane %u", conn->program,
        (long long)conn->peer.pid, hello->source, lane);
    if (rc < 0)
        close_conn(s, conn);
}

/* Requests */

static void begin_drain(struct server *s, const char *why)
{
    if (s->draining)
        return;
    s->draining = true;
    say(s, "draining: %s", why);
    rml_claim_unlisten(&s->claim);
    rml_engine_drain_begin(s->options.engine);
}

static const struct rml_report_peer *peer_of(void *context, uint32_t lane)
{
    const struct server *s = context;
    for (uint32_t i = 0; i < s->conn_max; i++) {
        if (s->conns[i].socket >= 0 && s->conns[i].produces && s->conns[i].lane == lane)
            return &s->conns[i].peer;
    }
    return NULL;
}

static void send_reply(struct conn *conn, const char *text, size_t bytes, int code)
{
    _Alignas(8) unsigned char memory[sizeof(struct rml_wire_reply) + REPLY_BYTES];
    struct rml_wire_reply *reply = (void *)memory;
    size_t sent = 0;
    do {
        size_t part = bytes - sent < REPLY_BYTES ? bytes - sent : REPLY_BYTES;
        memset(reply, 0, sizeof *reply);
        reply->head = rml_wire_head(RML_WIRE_REPLY, sizeof *reply + part);
        reply->is_last = sent + part == bytes;
        reply->code = reply->is_last ? (uint32_t)code : 0;
        memcpy(reply->text, text + sent, part);
        if (rml_wire_send(conn->socket, &reply->head, NULL, 0) < 0)
            return;  // a peer that does not read its answer does not get it
        sent += part;
    } while (sent < bytes);
}

static void answer(struct server *s, struct conn *conn, const char *request)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    if (out == NULL)
        return;
    int code = 0;
    if (strcmp(request, "drain") == 0) {
        begin_drain(s, "asked to");
        fputs("{\"schema\":\"ringmill.reply/1\",\"state\":\"draining\"}\n", out);
    } else if (strcmp(request, "stop") == 0) {
        say(s, "stopping: asked to");
        s->over = true;
        fputs("{\"schema\":\"ringmill.reply/1\",\"state\":\"stopping\"}\n", out);
    } else if (strcmp(request, "report") == 0) {
        const struct rml_report report = {.plan = s->options.plan,
                                          .engine = s->options.engine,
                                          .state = s->draining ? "draining" : "running",
                                          .uptime_ns = now(s) - s->started,
                                          .peer = peer_of,
                                          .context = s};
        rml_report_print(&report, out);
    } else {
        code = EINVAL;
        fputs("unknown request: drain, stop and report are known\n", out);
    }
    if (fclose(out) == 0)
        send_reply(conn, text, bytes, code);
    free(text);
}

static void read_conn(struct server *s, struct conn *conn)
{
    struct rml_err err = {0};
    uint32_t fd_count;
    int type =
        rml_wire_receive(conn->socket, s->message, sizeof s->message, NULL, 0, &fd_count, &err);
    if (type == -EAGAIN)
        return;
    if (type < 0) {
        rml_wire_send_refused(conn->socket, -type, "%s", err.text);
        close_conn(s, conn);
        return;
    }
    if (conn->produces || type == 0) {  // BYE, the end of the connection, or what has no place here
        close_conn(s, conn);
        return;
    }
    const struct rml_wire_hello_control *control = (const void *)s->message;
    switch (type) {
    case RML_WIRE_HELLO_PRODUCE:
        attach_producer(s, conn, (const void *)s->message);
        return;
    case RML_WIRE_HELLO_CONTROL:
        answer(s, conn, control->text);
        break;
    default:
        rml_wire_send_refused(conn->socket, EPROTO, "this connection cannot begin so");
        break;
    }
    close_conn(s, conn);
}

/* The loop */

static void read_signals(struct server *s)
{
    struct signalfd_siginfo info;
    while (read(s->signals, &info, sizeof info) == (ssize_t)sizeof info) {
        if (s->draining)
            s->over = true;
        begin_drain(s, "signalled; once more stops at once");
    }
}

static void drop_silent(struct server *s)
{
    int64_t present = now(s);
    for (uint32_t i = 0; i < s->conn_max; i++) {
        struct conn *conn = &s->conns[i];
        if (conn->socket >= 0 && !conn->produces && present >= conn->deadline)
            close_conn(s, conn);
    }
}

// Milliseconds until the next silent peer is dropped; -1: none is there.
static int next_deadline_ms(const struct server *s)
{
    int64_t least = INT64_MAX;
    for (uint32_t i = 0; i < s->conn_max; i++) {
        const struct conn *conn = &s->conns[i];
        if (conn->socket >= 0 && !conn->produces && conn->deadline < least)
            least = conn->deadline;
    }
    if (least == INT64_MAX)
        return -1;
    int64_t left = least - now(s);
    return left <= 0 ? 0 : (int)(left / 1000000) + 1;
}

static void handle(struct server *s, uint64_t data)
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
        if (s->conns[number].socket >= 0)
            close_conn(s, &s->conns[number]);
        break;
    }
}

static void serve(struct server *s)
{
    struct epoll_event events[EVENTS_AT_ONCE];
    while (!s->over && !rml_engine_is_drained(s->options.engine)) {
        rml_engine_sleep_begin(s->options.engine);
        rml_engine_poll(s->options.engine);
        int count = 0;
        if (!rml_engine_is_drained(s->options.engine))
            count = epoll_wait(s->epoll, events, EVENTS_AT_ONCE, next_deadline_ms(s));
        rml_engine_sleep_end(s->options.engine);
        for (int i = 0; i < count; i++)
            handle(s, events[i].data.u64);
        drop_silent(s);
    }
}

static int open_server(struct server *s, struct rml_err *err)
{
    s->conn_max = s->options.plan->lanes_max + CONNS_SPARE;
    s->conns = calloc(s->conn_max, sizeof *s->conns);
    if (s->conns == NULL)
        return RML_FAIL(err, -ENOMEM, "no memory for connections");
    for (uint32_t i = 0; i < s->conn_max; i++)
        s->conns[i] = (struct conn){.socket = -1, .pidfd = -1};

    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    // before any thread starts, so that all of them inherit it
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    s->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    s->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (s->signals < 0 || s->epoll < 0)
        return RML_FAIL(err, -errno, "cannot watch signals: %s", strerror(errno));

    int rc = rml_claim_open(&s->claim, s->options.plan->name, err);
    if (rc < 0)
        return rc;
    rc = rml_engine_start(s->options.engine, err);
    if (rc < 0)
        return rc;
    if (watch(s, s->claim.listen_fd, ABOUT_LISTENER, 0) < 0
        || watch(s, s->signals, ABOUT_SIGNALS, 0) < 0
        || watch(s, rml_engine_fd(s->options.engine), ABOUT_ENGINE, 0) < 0)
        return RML_FAIL(err, -errno, "cannot watch descriptors: %s", strerror(errno));
    return 0;
}

int rml_server_run(const struct rml_server_options *options, struct rml_err *err)
{
    struct server *s = aligned_alloc(_Alignof(struct server), sizeof *s);
    if (s == NULL)
        return RML_FAIL(err, -ENOMEM, "no memory for a server");
    memset(s, 0, sizeof *s);
    s->options = *options;
    s->claim = RML_CLAIM_NONE;
    s->epoll = -1;
    s->signals = -1;
    s->started = now(s);
    int rc = open_server(s, err);
    if (rc == 0) {
        say(s, "running: %s, process %ld, socket %s", options->plan->name, (long)getpid(),
            s->claim.socket);
        serve(s);
    }
    for (uint32_t i = 0; s->conns != NULL && i < s->conn_max; i++) {
        if (s->conns[i].socket >= 0) {
            s->conns[i].produces = false;  // the lanes end with the engine
            close_conn(s, &s->conns[i]);
        }
    }
    rml_claim_close(&s->claim);
    if (s->signals >= 0)
        close(s->signals);
    if (s->epoll >= 0)
        close(s->epoll);
    free(s->conns);
    free(s);
    return rc;
}
