/*
 * leave - the way out of an end that does not come: signals, once only files are waited for.
 *
 * A sink may take nothing for ever (a pipe that nobody reads, a file system that hangs), and its
 * writer cannot be called back from there. Who has asked for the end once and asks again leaves
 * without it.
 */
#ifndef RML_CONTROL_LEAVE_H
#define RML_CONTROL_LEAVE_H

#include <stdbool.h>

struct rml_claim;

/*
 * From here on a signal of runtime/base/endings.h ends the process with exit code 1, after the claim's name was
 * given back (NULL: it is another process's to give back); only the first one is forgiven, and not even
 * that where there was one before (`signalled`). With a keeper only what that passes on counts.
 * Called by the one thread of the process that does not block these signals from here on. One claim at a
 * time.
 */
void rml_leave_on_signal(struct rml_claim *claim, bool has_keeper, bool signalled);

/* These signals are blocked again in the calling thread. May be called without the other before. */
void rml_leave_off(void);

#endif
