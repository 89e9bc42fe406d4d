/*
 * endings - the signals that ask a program to end.
 */
#ifndef RML_BASE_ENDINGS_H
#define RML_BASE_ENDINGS_H

#include <signal.h>

/* SIGINT, SIGTERM, SIGHUP where it is not ignored (as nohup has it), and what a keeper passes them on by. */
void rml_endings(sigset_t *set);

/*
 * By which a keeper passes an ending on to its engine: a signal of its own, of those that queue. A service
 * manager sends SIGTERM to both of them, and of two SIGTERM of which none has been read only the first is there:
 * the keeper's would be lost whenever the engine is slow.
 */
int rml_ending_passed_on(void);

#endif
