/*
 * fibers - threads that take turns in one thread, each until it pauses.
 *
 * Whoever gives a turn gets it back when the fiber pauses or ends. A fiber that is dropped stays where it
 * is and never goes on, as a thread of a process that was killed.
 */
#ifndef TESTS_SIM_FIBERS_H
#define TESTS_SIM_FIBERS_H

#include <stdbool.h>
#include <stdint.h>

#define FIBERS_MAX  80u
#define FIBERS_NONE UINT32_MAX

/* A fiber that has not begun yet. */
uint32_t fiber_make(void *(*run)(void *context), void *context);

/* From outside of fibers: have it go on until it pauses. */
void fiber_turn(uint32_t number);

/* From within one: give the turn back. */
void fiber_pause(void);

/* Which one has the turn, or FIBERS_NONE. */
uint32_t fiber_now(void);

bool fiber_is_there(uint32_t fiber);
bool fiber_has_ended(uint32_t fiber);

/* Forget it, wherever it is; not from within. */
void fiber_drop(uint32_t fiber);

#endif
