/*
 * room - memory of pages, made ready before they are taken, by a thread of its own.
 *
 * The kernel gives memory when it is first written to, zeroes it then, and does so 2 MiB at a time where
 * look-ups are to be fast. That takes a hundred microseconds, or some milliseconds where a hypervisor has to
 * find the memory first, and whoever splits a page of keys would wait for it. So pages wish for some room
 * ahead of what they have given out, a quarter of that but no more than 64 MiB, and wish again when half of it
 * is used. A wish that comes late or not at all costs time and nothing else. Who knows how much it will be
 * wishes for that at the beginning, and then no speed is too high.
 *
 * Memory that nobody made ready is given 4 KiB at a time: it is the thread that asks for large pages, one
 * after the other, and only where the pages will not have come to before it has one. Else they would wait for
 * all of it. So who grows faster than a machine finds memory goes on in steps of some microseconds, in small
 * pages, and what lies a little further on is large again.
 *
 *     one thread, that of the partitions          the room's thread
 *     take ... take ── wish ────────────────────► make ready, the farthest first
 */
#ifndef RML_STATE_ROOM_H
#define RML_STATE_ROOM_H

#include <stddef.h>

#include "runtime/state/pages.h"

struct rml_err;
struct rml_room;

/* 0, or a negative errno with a sentence. */
int rml_room_open(struct rml_room **ret_room, struct rml_err *err);

/* Start the thread; before that, and without it, wishes are kept as far as there is place. */
int rml_room_start(struct rml_room *room, struct rml_err *err);

/* Fulfil in the calling thread what was wished for until now; where no thread was started. 0, or the negative
 * errno of memory that is not to be had: -ENOMEM, or -EINVAL where the kernel is older than Linux 5.14. */
int rml_room_fulfil(struct rml_room *room);

/* Wishes that were made before are still fulfilled, where the thread was started. Accepts NULL. */
void rml_room_close(struct rml_room *room);

/* These pages wish from now on, until either is closed, if something is to be gained. The pages stay
 * where they are. Without memory for that they are as they were. */
void rml_room_serve(struct rml_room *room, struct rml_pages *pages);

/* Wish for the first `bytes` of these pages at once, up to their limit; nothing where nobody makes room. */
void rml_room_prefault(struct rml_pages *pages, uint64_t bytes);

/* Wish that other memory of the same owner is touched, which stays mapped until the room is closed; nothing
 * where nobody makes room. */
void rml_room_touch(struct rml_pages *pages, void *from, size_t bytes);

/* For rml_pages_take: a page was taken, which may be where they wish for more. */
void rml_room_note(struct rml_pages *pages);

#endif
