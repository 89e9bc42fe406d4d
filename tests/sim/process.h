/*
 * process - what belongs to the simulated engine's process: memory, mappings, descriptors.
 *
 * While the engine has the turn, what it allocates, maps and opens is the process's; killing that gives
 * all of it back at once, and nothing of the engine's own code runs for it. The rest of the program is
 * outside, and so are doors of the simulation that the engine calls through.
 */
#ifndef TESTS_SIM_PROCESS_H
#define TESTS_SIM_PROCESS_H

#include <stdbool.h>
#include <stddef.h>

/* Once. */
void process_init(void);

/* The turn goes to the process, or to the outside; returns what it was, for going back. */
bool process_turn(bool is_inside);
bool process_is_inside(void);

/* A descriptor that is the outside's, whoever opened it. Closing it ends that. */
void process_fd_is_outside(int fd);

/* A copy of a descriptor for the outside. */
int process_dup_outside(int fd);

/* A mapping of the same memory, for the process alone: what a fork hands on. */
void *process_map_again(void *memory, size_t bytes);

/* Give back everything that is the process's. From outside. */
void process_kill(void);

#endif
