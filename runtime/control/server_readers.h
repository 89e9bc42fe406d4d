/*
 * server_readers - those who read a server's results: subscribers, and members of the groups that share rows.
 */
#ifndef RML_CONTROL_SERVER_READERS_H
#define RML_CONTROL_SERVER_READERS_H

#include <stdbool.h>

struct rml_server;
struct rml_wire_hello_join;
struct rml_wire_hello_subscribe;
struct server_conn;
struct server_kept_conn;

/* Give it the rings of a stage, or refuse it. */
void rml_server_attach_subscriber(struct rml_server *server, struct server_conn *conn,
                                  const struct rml_wire_hello_subscribe *hello);

/* Likewise, as a member of a group. */
void rml_server_attach_member(struct rml_server *server, struct server_conn *conn,
                              const struct rml_wire_hello_join *hello);

/* A member said goodbye, or its connection ended. Who lives may be at work on what it has taken. */
void rml_server_member_hangs_up(struct rml_server *server, struct server_conn *conn, bool said_bye);

/*
 * After an engine that died: a subscriber or a member, as it was kept. Its line and a member's pidfd (-1: none) are
 * the connection's from here on.
 */
void rml_server_go_on_with_subscriber(struct rml_server *server, struct server_conn *conn,
                                      const struct server_kept_conn *what, int line, int pidfd);

#endif
