#include "runtime/control/server_coming_up.h"

#include <poll.h>
#include <stdint.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include "runtime/base/err.h"
#include "runtime/control/claim.h"
#include "runtime/control/gate.h"
#include "runtime/control/kept.h"
#include "runtime/control/server_accept.h"
#include "runtime/control/server_conns.h"
#include "runtime/control/server_state.h"
#include "runtime/keeper/keeping.h"

#define EVENTS_AT_ONCE 64
#define REQUEST_MAX    16  // longer than those that are heard
#define LOOK_MS        20  // between two looks

// Its next message, which stays there: is it one that is answered before the engine is up?
static bool asks_now(const struct server_conn *conn)
{
    static const char *const heard[] = {"board", "stop", "drain"};
    _Alignas(8) unsigned char memory[sizeof(struct rml_wire_hello_control) + REQUEST_MAX] = {0};
    const struct rml_wire_hello_control *message = (const void *)memory;
    // one byte is left, so that the text ends
    ssize_t got = recv(conn->socket, memory, sizeof memory - 1, MSG_PEEK | MSG_DONTWAIT);
    if (got < (ssize_t)sizeof *message || message->head.type != RML_WIRE_HELLO_CONTROL)
        return false;
    bool any = false;
    for (size_t i = 0; i < sizeof heard / sizeof heard[0]; i++)
        any |= strcmp(message->text, heard[i]) == 0;
    return any;
}

static void hear(struct rml_server *s, struct server_conn *conn, uint32_t events)
{
    if (conn->socket < 0)
        return;
    if (asks_now(conn))
        rml_server_read(s, conn);
    else if ((events & EPOLLHUP) != 0)
        rml_server_close_conn(s, conn);  // whatever it wanted: it has gone
}

static void look(struct rml_server *s)
{
    struct epoll_event events[EVENTS_AT_ONCE];
    int count = epoll_wait(s->epoll, events, EVENTS_AT_ONCE, 0);
    for (int i = 0; i < count; i++) {
        enum server_about about = (enum server_about)(events[i].data.u64 >> 32);
        if (about == ABOUT_LISTENER)
            rml_server_accept_all(s);
        else if (about == ABOUT_SOCKET)
            hear(s, &s->conns[(uint32_t)events[i].data.u64], events[i].events);
        else if (about == ABOUT_SIGNALS)
            rml_server_read_signals(s);
    }
    if (!s->is_ending && rml_board_wanted_end(s->board) != 0) {
        s->is_ending = true;
        rml_keeping_ending(s->options.keeping);
    }
}

static int begin(struct rml_server *s, struct rml_board *board, struct rml_err *err)
{
    s->board = board;
    rml_gate_count_in(s->gate, &board->live->gate);
    int rc = rml_server_watch(s, s->options.claim->listen_fd, ABOUT_LISTENER, 0);
    if (rc == 0)
        rc = rml_server_watch(s, s->signals, ABOUT_SIGNALS, 0);
    if (rc < 0)
        return RML_FAIL(err, rc, "cannot watch descriptors: %s", strerrordesc_np(-rc));
    rml_server_go_on_with(s, RML_KEPT_CONTROL);  // one of them may have asked for the end
    return 0;
}

// A process that waits for its turn is none that works, for whoever looks at the list of processes.
static void wait_until(struct rml_server *s, int64_t until_ns)
{
    uint32_t signals = s->options.keeping->asked, wanted = rml_board_wanted_end(s->board);
    prctl(PR_SET_NAME, "ringmill-waits");
    for (look(s); rml_server_now(s) < until_ns && s->options.keeping->asked == signals
                  && rml_board_wanted_end(s->board) == wanted;
         look(s))
        poll(NULL, 0, LOOK_MS);
    prctl(PR_SET_NAME, "ringmill-engine");
}

int rml_server_wait_its_turn(void *context, struct rml_board *board, struct rml_err *err)
{
    struct rml_server *s = context;
    int64_t began_ns = rml_server_now(s);
    int rc = begin(s, board, err);
    if (rc < 0 || !rml_keeping_again(s->options.keeping))
        return rc;
    if (s->options.keeping->pause_ns > 0)
        wait_until(s, began_ns + s->options.keeping->pause_ns);
    else
        look(s);
    return 0;
}

bool rml_server_hear_coming_up(void *context)
{
    struct rml_server *s = context;
    look(s);
    if (s->options.keeping != NULL && s->options.keeping->asked > 0)
        rml_server_obey_signal(s);  // of before this engine was there
    if ((rml_board_wanted_end(s->board) & RML_BOARD_STOP) != 0)
        rml_server_stop(s, "as it was to before");
    return s->over;
}

uint32_t rml_server_free_place(const struct rml_server *s)
{
    static const uint32_t sorts[] = {RML_KEPT_PRODUCER, RML_KEPT_SUBSCRIBER, RML_KEPT_CONTROL};
    for (uint32_t i = 0; i < s->conn_max; i++) {
        bool is_free = s->conns[i].socket < 0;
        for (size_t j = 0; is_free && !s->is_up && j < sizeof sorts / sizeof sorts[0]; j++)
            is_free = !rml_keeping_has(s->options.keeping, RML_KEPT_ID(sorts[j], i));
        if (is_free)
            return i;
    }
    return s->conn_max;
}

void rml_server_came_up(struct rml_server *s)
{
    s->is_up = true;
    for (uint32_t i = 0; i < s->conn_max; i++) {
        struct server_conn *conn = &s->conns[i];
        if (conn->socket >= 0 && conn->role == ROLE_UNKNOWN)
            conn->deadline = rml_server_now(s) + s->options.plan->limits.hello_ns;
    }
}
