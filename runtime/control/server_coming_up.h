/*
 * server_coming_up - what a server hears while its engine comes up and waits for a file that cannot be written.
 *
 * That may last for as long as a disk is full, and who wants the pipeline to end is not to wait for it. So the thread
 * that starts the engine looks here again and again meanwhile (rml_engine_start, by way of the option is_enough):
 *
 *     board    answered; its state says that the engine is not up
 *     stop     obeyed, also where an engine died over it before: nothing is waited for any more, the engine comes
 *              up without the rows that find no room, and stops as one that cannot save (docs/checkpoints.md)
 *     signals  likewise, the first one too: there is nothing to drain yet
 *     drain    noted on the board, and obeyed once the engine is up
 *
 * Everyone else is left unread until then; nobody is dropped for having waited.
 */
#ifndef RML_CONTROL_SERVER_COMING_UP_H
#define RML_CONTROL_SERVER_COMING_UP_H

#include <stdbool.h>
#include <stdint.h>

struct rml_server;

/* Look once, without waiting: is it to end? `context` is the server. */
bool rml_server_hear_coming_up(void *context);

/* A place in the table that nobody has, nor will have once the engine is up: those that were kept go where they
 * were. Its index, or conn_max: there is none. */
uint32_t rml_server_free_place(const struct rml_server *server);

/* The engine is up: who came meanwhile has as long to say what he wants as anyone. */
void rml_server_came_up(struct rml_server *server);

#endif
