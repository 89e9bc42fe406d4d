/*
 * server_accept - who comes to a server's socket gets a connection, as long as there is a place and the gate lets it.
 */
#ifndef RML_CONTROL_SERVER_ACCEPT_H
#define RML_CONTROL_SERVER_ACCEPT_H

struct rml_err;
struct rml_server;

/* Accept everyone who waits; who gets no place is told why. */
void rml_server_accept_all(struct rml_server *server);

/*
 * Those who feed and those who read leave some places to those who look and steer. 0; -EUSERS and a sentence when
 * no further one of them may attach.
 */
int rml_server_check_places(const struct rml_server *server, struct rml_err *err);

#endif
