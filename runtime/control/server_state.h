/*
 * server_state - what a server is made of, for the files that it is made of: who may open a connection
 * (server_accept.c), what any connection has and how it ends (server_conns.c), what is done for a producer
 * (server_producers.c), for who reads results (server_readers.c) and for who looks and steers (server_requests.c),
 * whom it hears before the engine is up (server_coming_up.c), and the loop that hands each of them what it has to do
 * (server.c).
 *
 * The control thread alone calls any of it. A connection is a place in `conns`, and has its number in epoll; what
 * it is for is its role, which its first message says once.
 */
#ifndef RML_CONTROL_SERVER_STATE_H
#define RML_CONTROL_SERVER_STATE_H

#include "runtime/control/groups.h"
#include "runtime/control/server.h"
#include "runtime/control/subscribers.h"
#include "runtime/lane/wire.h"

struct rml_gate;

enum server_role { ROLE_UNKNOWN, ROLE_PRODUCER, ROLE_SUBSCRIBER, ROLE_CONTROL };

/* What is kept of a connection beside its socket and what comes with its role. */
struct server_kept_conn {
    uint32_t number;  // a producer's lane; a subscriber's output
    uint32_t owner;   // of a producer in a shared lane
    uint32_t pid, uid;
    uint32_t is_answered;    // its offer was sent
    uint32_t group, member;  // of a member: its group's number + 1
    char program[RML_WIRE_NAME];
};

struct server_conn {
    int socket;  // -1: the place is free
    int pidfd;   // of a producer, else -1
    enum server_role role;
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
    struct rml_board *board;    // the engine's; NULL: nobody is heard yet
    struct rml_engine *engine;  // NULL: it waits for its turn, and has not begun to come up
    struct rml_gate *gate;
    struct rml_subscribers subscribers;
    struct rml_groups groups;
    int epoll, signals;
    int spare_fd;  // kept for the day when there is no other
    uint32_t conn_max;
    struct server_conn *conns;
    bool is_up;      // the engine has started
    bool is_ending;  // its keeper has been told that somebody asked for the end
    bool draining, over, signalled;
    _Alignas(8) unsigned char message[RML_WIRE_BYTES_MAX];
};

/* Nanoseconds of the server's own clock. */
int64_t rml_server_now(const struct rml_server *server);

/* Tell who listens what happens, a sentence at a time. */
__attribute__((format(printf, 2, 3))) void rml_server_say(const struct rml_server *server,
                                                          const char *format, ...);

/* Nobody attaches any more, and it ends once all is taken. What has begun is not begun again. */
void rml_server_begin_drain(struct rml_server *server, const char *why);

/* Read a message of `conn`, and do what it says. */
void rml_server_read(struct rml_server *server, struct server_conn *conn);

/* Signals that have come; and what to do about one that counts. */
void rml_server_read_signals(struct rml_server *server);
void rml_server_obey_signal(struct rml_server *server);

/* Connections of this sort that a dead engine had. */
void rml_server_go_on_with(struct rml_server *server, uint32_t sort);

/* It ends now, and so does the engine after this one, should this one die before it has ended. */
void rml_server_stop(struct rml_server *server, const char *why);

#endif
