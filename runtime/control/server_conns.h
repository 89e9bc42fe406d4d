/*
 * server_conns - what each of a server's connections has, whatever it is for: it is watched, kept by the keeper, and
 * ends with all that came with its role.
 */
#ifndef RML_CONTROL_SERVER_CONNS_H
#define RML_CONTROL_SERVER_CONNS_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/lane/wire.h"

struct rml_err;
struct rml_server;
struct server_conn;

/* What an event of the server's epoll is about; of a connection, its number and which of its descriptors. */
enum server_about { ABOUT_LISTENER, ABOUT_SIGNALS, ABOUT_ENGINE, ABOUT_SOCKET, ABOUT_PROCESS };

/* Have epoll tell of `fd`. 0 or a negative errno. */
int rml_server_watch(const struct rml_server *server, int fd, enum server_about about,
                     uint32_t number);

/* The name that the program at the other end gives itself. */
void rml_server_name_conn(struct server_conn *conn, const char program[RML_WIRE_NAME]);

/*
 * Have a connection kept under its role, with the number that another engine goes on with, the descriptor that
 * comes with the role (-1: none), and a member's pidfd. 0; or a negative errno and a sentence.
 */
int rml_server_keep_conn(struct rml_server *server, struct server_conn *conn, uint32_t number,
                         int more, struct rml_err *err);

/* What it was offered has been sent, and another engine need not send it again. */
void rml_server_note_answered(struct rml_server *server, const struct server_conn *conn,
                              uint32_t number);

/*
 * The process at the other end: open a pidfd for it, the proof of its death, and watch that. Where the kernel gives
 * none, pidfd is -1 and a closed socket must do.
 */
void rml_server_prove_process(const struct rml_server *server, struct server_conn *conn);

/* Likewise with a pidfd that was kept. */
void rml_server_watch_process(const struct rml_server *server, const struct server_conn *conn);

/*
 * Its process has ended, for sure. An event may be older than the connection that has the number now. (A read that
 * it causes finds nothing, and does no harm.)
 */
bool rml_server_has_died(const struct server_conn *conn);

/* It hung up, and its process lives: what it says counts no more. False: that was so before. */
bool rml_server_lose_conn(const struct rml_server *server, struct server_conn *conn);

/* Hang up; what came with its role ends too. */
void rml_server_close_conn(struct rml_server *server, struct server_conn *conn);

/* Likewise, and tell it why, with a negative errno and a sentence. */
void rml_server_refuse(struct rml_server *server, struct server_conn *conn, int rc,
                       const char *sentence);

#endif
