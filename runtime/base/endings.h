/*
 * endings - the signals that ask a program to end.
 */
#ifndef RML_BASE_ENDINGS_H
#define RML_BASE_ENDINGS_H

#include <signal.h>

/* SIGINT, SIGTERM, and SIGHUP where it is not ignored (as nohup has it). */
void rml_endings(sigset_t *set);

#endif
