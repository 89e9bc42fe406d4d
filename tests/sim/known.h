/*
 * known - a fault of which it is known what it takes, for a claim about how small shrinking makes runs.
 */
#ifndef TESTS_SIM_KNOWN_H
#define TESTS_SIM_KNOWN_H

#include <stdbool.h>

/* Make a run small that fails of it: is what is left no more than it takes, as near as a quarter? Prints what is. */
bool known_is_made_small(void);

#endif
