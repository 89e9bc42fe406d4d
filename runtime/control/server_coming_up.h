/*
 * server_coming_up - what a server hears before its engine is up.
 *
 * The engine waits for its turn where engines before it have died one after the other (rml_engine_open, by way of the
 * option shown); and as it comes up it may wait for a file that cannot be written, for as long as a disk is full
 * (rml_engine_start, is_enough). Who wants the pipeline to end is not to wait for either, so the thread that starts the
 * engine looks here again and again meanwhile:
 *
 *                as it waits for its turn           as it waits for a file
 *     board      answered; its state says that the engine is not up
 *     stop       it waits no longer, and stops      likewise: it comes up without the rows that find no room, and
 *                once it is up                      stops as one that cannot save (docs/checkpoints.md)
 *     signals    it waits no longer, and drains     as stop, the first one too: there is nothing to drain yet
 *                once it is up
 *     drain      as signals                         noted on the board, and obeyed once the engine is up
 *
 * The keeper is told of each end that is asked for, and does not start another engine after one that exits all the same.
 * Everyone else is left unread until the engine is up; nobody is dropped for having waited.
 */
#ifndef RML_CONTROL_SERVER_COMING_UP_H
#define RML_CONTROL_SERVER_COMING_UP_H

#include <stdbool.h>
#include <stdint.h>

struct rml_board;
struct rml_err;
struct rml_server;

/* Of an engine that follows one that died: wait for its turn, as long as its keeper said or until somebody asks for the
 * end. `context` is the server, whose board this is from here on. 0, or a negative errno and a sentence. */
int rml_server_wait_its_turn(void *context, struct rml_board *board, struct rml_err *err);

/* Look once, without waiting: is it to end? `context` is the server. */
bool rml_server_hear_coming_up(void *context);

/* A place in the table that nobody has, nor will have once the engine is up: those that were kept go where they
 * were. Its index, or conn_max: there is none. */
uint32_t rml_server_free_place(const struct rml_server *server);

/* The engine is up: who came meanwhile has as long to say what he wants as anyone. */
void rml_server_came_up(struct rml_server *server);

#endif
