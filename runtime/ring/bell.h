/*
 * bell - one thread of this process sleeps until another has something for it.
 *
 * The sleeper says so (rml_bell_expect), looks once more for work, and only then waits on the
 * descriptor; whoever brings work puts it where it is looked for first and then rings. Ringing costs
 * one atomic exchange while nobody sleeps. One thread sleeps on a bell, any number ring it.
 */
#ifndef RML_RING_BELL_H
#define RML_RING_BELL_H

#include <stdatomic.h>
#include <stdint.h>

struct rml_err;

struct rml_bell {
    int fd;  // an eventfd: readable when the bell was rung; -1: not open
    _Atomic uint32_t expected;
};

#define RML_BELL_CLOSED ((struct rml_bell){.fd = -1})

int rml_bell_open(struct rml_bell *bell, struct rml_err *err);
void rml_bell_close(struct rml_bell *bell);

/* Say that the caller will sleep. Whatever was brought before a ring that came too early to be heard
 * can be seen after this returns. */
void rml_bell_expect(struct rml_bell *bell);

/* The caller is awake again: nobody needs to ring. Resets the descriptor. */
void rml_bell_awake(struct rml_bell *bell);

/* Wait for a ring, at most `timeout_ms` (-1: for ever), after rml_bell_expect; then awake. */
void rml_bell_wait(struct rml_bell *bell, int timeout_ms);

/* Wake the sleeper if there is one. Never waits, never fails. */
void rml_bell_ring(struct rml_bell *bell);

#endif
