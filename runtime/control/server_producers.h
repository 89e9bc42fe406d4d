/*
 * server_producers - a server's producers: each is given a lane or a share of one, and leaves it, in whatever way it goes.
 */
#ifndef RML_CONTROL_SERVER_PRODUCERS_H
#define RML_CONTROL_SERVER_PRODUCERS_H

#include <stdbool.h>

struct rml_server;
struct rml_wire_hello_produce;
struct server_conn;
struct server_kept_conn;

/* Give it a lane, or let it wait for one, or refuse it. */
void rml_server_attach_producer(struct rml_server *server, struct server_conn *conn,
                                const struct rml_wire_hello_produce *hello);

/* Likewise all that wait: lanes have come free, perhaps. */
void rml_server_attach_waiting(struct rml_server *server);

/* One in a shared lane said goodbye, or its connection ended. Who lives can still write, and stays an owner. */
void rml_server_producer_hangs_up(struct rml_server *server, struct server_conn *conn,
                                  bool said_bye);

/* After an engine that died: one that had a lane, as it was kept. `pidfd` is the connection's from here on. */
void rml_server_go_on_with_producer(struct rml_server *server, struct server_conn *conn,
                                    const struct server_kept_conn *what, int pidfd);

/* After that, once all are known: who fed a lane may have left before the engine died, or with it. */
void rml_server_finish_left_lanes(struct rml_server *server);

#endif
