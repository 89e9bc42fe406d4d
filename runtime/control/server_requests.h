/*
 * server_requests - what people who look and steer ask of a server, and what they are answered (server.h has the list).
 */
#ifndef RML_CONTROL_SERVER_REQUESTS_H
#define RML_CONTROL_SERVER_REQUESTS_H

struct rml_engine_saved;
struct rml_server;
struct server_conn;

/* Answer a request, or have it wait for its checkpoint; who asks too often is refused. */
void rml_server_serve_control(struct rml_server *server, struct server_conn *conn,
                              const char *request);

/* For rml_engine_options.saved, with the server as context: answer those who wait for that checkpoint. */
void rml_server_tell_saved(void *context, const struct rml_engine_saved *saved);

#endif
