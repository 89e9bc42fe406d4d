/*
 * keeper - a keeper without a process: the table of what is kept is the real one, the socket between is
 * not, and a fork hands copies of descriptors and mappings to the engine.
 */
#ifndef TESTS_SIM_KEEPER_H
#define TESTS_SIM_KEEPER_H

#include <stdint.h>

struct rml_keeping;
struct rml_kept;

void keeper_open(void);

/* All that it holds is gone, as when it is killed. */
void keeper_close(void);

/* What an engine has that is forked now; its own. */
struct rml_keeping *keeper_fork(void);

/* The engine has died. */
void keeper_engine_dies(void);

/* What is kept under that id, or NULL. */
const struct rml_kept *keeper_find(uint64_t id);

#endif
