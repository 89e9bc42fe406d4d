#include "runtime/control/server.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "runtime/base/check.h"
#include "runtime/base/endings.h"
#include "runtime/base/err.h"
#include "runtime/control/claim.h"
#include "runtime/control/gate.h"
#include "runtime/control/groups.h"
#include "runtime/control/kept.h"
#include "runtime/control/leave.h"
#include "runtime/control/server_accept.h"
#include "runtime/control/server_coming_up.h"
#include "runtime/control/server_conns.h"
#include "runtime/control/server_producers.h"
#include "runtime/control/server_readers.h"
#include "runtime/control/server_requests.h"
#include "runtime/control/server_state.h"
#include "runtime/control/subscribers.h"
#include "runtime/keeper/keeping.h"
#include "runtime/lane/wire.h"

#define CONNS_SPARE    64u  // beyond producers: people who look
#define EVENTS_AT_ONCE 64

int64_t rml_server_now(const struct rml_server *s)
{
    return s->options.clock->monotonic_ns(s->options.clock->context);
}

void rml_server_say(const struct rml_server *s, const char *format, ...)
{
    char sentence[256];
    va_list args;
    va_start(args, format);
    vsnprintf(sentence, sizeof sentence, format, args);
    va_end(args);
    if (s->options.say != NULL)
        s->options.say(s->options.say_context, sentence);
}

void rml_server_begin_drain(struct rml_server *s, const char *why)
{
    if (s->draining)
        return;
    s->draining = true;
    rml_server_say(s, "draining: %s", why);
    rml_engine_drain_begin(s->engine);
}

void rml_server_stop(struct rml_server *s, const char *why)
{
    if (s->over)
        return;
    rml_server_say(s, "stopping: %s", why);
    rml_board_to_end(s->board, RML_BOARD_STOP);
    s->over = true;
}

/* Messages */

// What a connection is for is said by its first message; BYE, or the end, ends it.
void rml_server_read(struct rml_server *s, struct server_conn *conn)
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
        rml_server_close_conn(s, conn);  // it has gone, or says more than it may
    } else if (type < 0 && conn->role == ROLE_UNKNOWN) {
        rml_gate_count(s->gate, RML_GATE_nonsense);
        rml_server_refuse(s, conn, type, err.text);
    } else if (type == RML_WIRE_HELLO_PRODUCE && conn->role == ROLE_UNKNOWN)
        rml_server_attach_producer(s, conn, (const void *)s->message);
    else if (type == RML_WIRE_HELLO_SUBSCRIBE && conn->role == ROLE_UNKNOWN)
        rml_server_attach_subscriber(s, conn, (const void *)s->message);
    else if (type == RML_WIRE_HELLO_JOIN && conn->role == ROLE_UNKNOWN)
        rml_server_attach_member(s, conn, (const void *)s->message);
    else if (type == RML_WIRE_HELLO_CONTROL
             && (conn->role == ROLE_UNKNOWN || conn->role == ROLE_CONTROL) && conn->turn == 0)
        rml_server_serve_control(s, conn, control->text);
    else {
        if (!ends)
            rml_gate_count(s->gate, RML_GATE_nonsense);
        if (conn->role == ROLE_PRODUCER && conn->owner != 0)
            rml_server_producer_hangs_up(s, conn, type == RML_WIRE_BYE);
        else if (conn->group != 0)
            rml_server_member_hangs_up(s, conn, type == RML_WIRE_BYE);
        else
            rml_server_close_conn(s, conn);
    }
}

/* The loop */

void rml_server_obey_signal(struct rml_server *s)
{
    if (s->engine == NULL) {
        RML_CHECK(s->options.keeping != NULL);  // nobody else has it wait
        s->options.keeping->asked++;            // obeyed with those of before this process
        rml_server_say(
            s,
            "signalled: the next engine comes up at once, to drain; if it cannot, that is the end");
        return;
    }
    if (!s->is_up) {
        s->signalled = true;
        rml_server_stop(s,
                        "signalled as it comes up, and there is no room for what it takes again");
        return;
    }
    s->over = s->over || s->signalled;
    s->signalled = true;
    rml_server_begin_drain(s, "signalled; once more stops at once");
}

// A terminal, or a service manager, signals the keeper and us: what counts is what the keeper passes on.
void rml_server_read_signals(struct rml_server *s)
{
    struct signalfd_siginfo info;
    while (read(s->signals, &info, sizeof info) == (ssize_t)sizeof info) {
        if (s->options.keeping == NULL || info.ssi_signo == (uint32_t)rml_ending_passed_on())
            rml_server_obey_signal(s);
    }
}

static void drop_silent(struct rml_server *s)
{
    int64_t present = rml_server_now(s);
    for (uint32_t i = 0; i < s->conn_max; i++) {
        struct server_conn *conn = &s->conns[i];
        if (conn->waits && present >= conn->deadline) {
            const struct rml_wire_hello_produce hello = conn->hello;
            rml_server_attach_producer(s, conn, &hello);  // for the last time
        } else if (conn->socket >= 0 && conn->role == ROLE_UNKNOWN && present >= conn->deadline) {
            rml_server_read(s, conn);  // it may be us who were slow
            if (conn->socket < 0 || conn->role != ROLE_UNKNOWN || conn->waits)
                continue;
            rml_gate_count(s->gate, RML_GATE_silent);
            rml_server_close_conn(s, conn);
        }
    }
}

// Milliseconds until the next silent peer is dropped; -1: none is there.
static int next_deadline_ms(const struct rml_server *s)
{
    int64_t least = INT64_MAX;
    for (uint32_t i = 0; i < s->conn_max; i++) {
        const struct server_conn *conn = &s->conns[i];
        if (conn->socket >= 0 && conn->role == ROLE_UNKNOWN && conn->deadline < least)
            least = conn->deadline;
    }
    if (least == INT64_MAX)
        return -1;
    int64_t left = least - rml_server_now(s);
    return left <= 0 ? 0 : (int)(left / 1000000) + 1;
}

static void handle(struct rml_server *s, uint64_t data)
{
    uint32_t number = (uint32_t)data;
    switch ((enum server_about)(data >> 32)) {
    case ABOUT_LISTENER:
        rml_server_accept_all(s);
        break;
    case ABOUT_SIGNALS:
        rml_server_read_signals(s);
        break;
    case ABOUT_ENGINE:
        break;  // every round polls it
    case ABOUT_SOCKET:
        if (s->conns[number].socket >= 0)
            rml_server_read(s, &s->conns[number]);
        break;
    case ABOUT_PROCESS:
        if (rml_server_has_died(&s->conns[number]))
            rml_server_close_conn(s, &s->conns[number]);
        break;
    }
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

/* After an engine that died */

static void go_on_with_one(struct rml_server *s, uint32_t sort, const struct rml_kept *kept)
{
    uint32_t index = (uint32_t)kept->id;
    struct server_kept_conn what;
    RML_CHECK(kept->blob_bytes == sizeof what && index < s->conn_max && kept->fd_count > 0);
    memcpy(&what, kept->blob, sizeof what);
    struct server_conn *conn = &s->conns[index];
    *conn = (struct server_conn){.socket = kept->fds[0],
                                 .pidfd = -1,
                                 .is_kept = true,
                                 .kept_id = kept->id,
                                 .pid = what.pid,
                                 .uid = what.uid};
    rml_server_name_conn(conn, what.program);
    if (rml_server_watch(s, conn->socket, ABOUT_SOCKET, index) < 0)
        rml_server_say(s, "process %u is not heard any more: %s", conn->pid,
                       strerrordesc_np(errno));
    int more = kept->fd_count > 1 ? kept->fds[1] : -1;
    if (sort == RML_KEPT_PRODUCER)
        rml_server_go_on_with_producer(s, conn, &what, more);
    else if (sort == RML_KEPT_SUBSCRIBER)
        rml_server_go_on_with_subscriber(s, conn, &what, more,
                                         kept->fd_count > 2 ? kept->fds[2] : -1);
    else
        conn->role = ROLE_CONTROL;
}

void rml_server_go_on_with(struct rml_server *s, uint32_t sort)
{
    const struct rml_kept *kept;
    while ((kept = rml_keeping_next(s->options.keeping, sort)) != NULL)
        go_on_with_one(s, sort, kept);
}

static void go_on(struct rml_server *s)
{
    const struct rml_keeping *keeping = s->options.keeping;
    rml_groups_again(&s->groups);
    rml_server_go_on_with(s, RML_KEPT_PRODUCER);
    rml_server_go_on_with(s, RML_KEPT_SUBSCRIBER);
    rml_groups_rest(&s->groups);
    rml_keeping_rest(s->options.keeping);
    rml_server_finish_left_lanes(s);
    rml_server_say(s, "running again, after process %u died: %s", keeping->last.pid,
                   keeping->last.why);
}

// Of the engine before this one, or as this one came up.
static void end_as_wanted(struct rml_server *s)
{
    uint32_t wanted = rml_board_wanted_end(s->board);
    if ((wanted & RML_BOARD_DRAIN) != 0 && !s->over)
        rml_server_begin_drain(s, "as it was to before");
    if ((wanted & RML_BOARD_STOP) != 0)
        rml_server_stop(s, "as it was to before");
}

/* Life */

// What a run that begins goes on from, where there could be something.
static void say_past(struct rml_server *s)
{
    const struct rml_board *board = s->board;
    struct rml_board_saves saves;
    rml_board_saves_read(board, &saves);
    if (board->head->state_folder[0] == '\0')
        return;
    if (saves.restored_epoch != 0)
        rml_server_say(s, "goes on from checkpoint %" PRIu64 " in %s", saves.restored_epoch,
                       board->head->state_folder);
    else
        rml_server_say(s, "begins anew in %s", board->head->state_folder);
}

// The signals that came before this engine did, which nobody who lives has obeyed.
static void catch_up_with_signals(struct rml_server *s)
{
    for (uint32_t i = 0; s->options.keeping != NULL && i < s->options.keeping->asked && !s->over;
         i++)
        rml_server_obey_signal(s);
}

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
        s->conns[i] = (struct server_conn){.socket = -1, .pidfd = -1};
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
    options->saved = rml_server_tell_saved;
    options->saved_context = s;
    options->shown = rml_server_wait_its_turn;
    options->shown_context = s;
    options->is_enough = rml_server_hear_coming_up;
    options->is_enough_context = s;
}

int rml_server_run(struct rml_server *s, struct rml_engine *engine, bool *ret_drained,
                   struct rml_err *err)
{
    s->engine = engine;
    s->subscribers.engine = engine;
    s->subscribers.plan = s->options.plan;
    rml_groups_open(&s->groups, &s->subscribers, s->options.keeping);
    struct rml_keeping *keeping = s->options.keeping;
    int rc = rml_server_watch(s, rml_engine_fd(engine), ABOUT_ENGINE, 0);
    if (rc < 0)
        return RML_FAIL(err, rc, "cannot watch the engine: %s", strerrordesc_np(-rc));
    rc = rml_engine_start(engine, err);
    if (rc < 0)
        return rc;
    rml_server_came_up(s);
    if (rml_keeping_again(keeping)) {
        go_on(s);
    } else {
        say_past(s);
        rml_server_say(s, "running: %s, process %ld, socket %s", s->options.plan->name,
                       (long)rml_keeping_process(keeping), s->options.claim->socket);
    }
    end_as_wanted(s);
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
        rml_server_close_conn(s, &s->conns[i]);
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
