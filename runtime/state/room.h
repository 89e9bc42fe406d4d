/*
 * room - memory of pages, touched before they are taken, by a thread of its own.
 *
 * The kernel gives memory when it is first written to, zeroes it then, and does so 2 MiB at a time where
 * look-ups are to be fast. That takes a hundred microseconds, or some milliseconds where a hypervisor has to
 * find the memory first, and whoever splits a page of keys would wait for it. So pages wish for some room
 * ahead of what they have given out, a quarter of that but no more than 64 MiB, and wish again when half of it
 * is used. A wish that comes late or not at all costs time and nothing else.
 *
 *     one thread, that of the partitions          the room's thread
 *     take ... take ── wish ────────────────────► touch
 */
#ifndef RML_STATE_ROOM_H
#define RML_STATE_ROOM_H

#include <stdbool.h>

#include "runtime/state/pages.h"

struct rml_err;
struct rml_room;

/* 0, or a negative errno with a sentence. */
int rml_room_open(struct rml_room **ret_room, struct rml_err *err);

/* Start the thread; before that, and without it, wishes are kept as far as there is place. */
int rml_room_start(struct rml_room *room, struct rml_err *err);

/* Wishes that were made before are still fulfilled. Accepts NULL. */
void rml_room_close(struct rml_room *room);

/* These pages wish from now on, until either is closed, if something is to be gained. The pages stay
 * where they are. */
void rml_room_serve(struct rml_room *room, struct rml_pages *pages);

/* For rml_pages_take: it has come to where they wish for more. */
void rml_room_wish(struct rml_pages *pages);

#endif
