/*
 * signals - SIGINT and SIGTERM as something to wait for among other things.
 */
#ifndef RML_TOOLS_SIGNALS_H
#define RML_TOOLS_SIGNALS_H

struct rml_err;

/* Block both in this thread; a descriptor, readable when one came, or a negative errno. */
int rml_signals_open(struct rml_err *err);

#endif
