/*
 * patience - who waits for ever for what will not come is ended, and who gets on is given all the time that it takes.
 *
 * A lost wake-up is a hang. A limit to a whole test would call a busy machine one, too; so this is a limit to what
 * goes by without anything being done, and time in which the test itself was not let run does not count.
 */
#ifndef TESTS_SUPPORT_PATIENCE_H
#define TESTS_SUPPORT_PATIENCE_H

#include <stdbool.h>
#include <stdint.h>
#include <unistd.h>

#include "runtime/time/clock.h"

#define PATIENCE_S 120

/* Something was done: SIGALRM ends the process when nothing more is for PATIENCE_S, unless patience_ends. */
static inline void patience_renew(void)
{
    alarm(PATIENCE_S);
}

static inline void patience_ends(void)
{
    alarm(0);
}

/* For who looks again and again at how far others are. */
struct patience {
    uint64_t seen;
    int64_t looked_ns, quiet_ns;
};

/* Have others got on, or can they still? `progress` is another number whenever they have. */
static inline bool patience_lasts(struct patience *p, uint64_t progress)
{
    // between two looks: more than that, and it was us who did not run
    const int64_t away_ns = 1000000000;
    int64_t now_ns = rml_clock_system.monotonic_ns(NULL);
    int64_t since_ns = p->looked_ns == 0 ? 0 : now_ns - p->looked_ns;
    p->looked_ns = now_ns;
    p->quiet_ns = progress != p->seen ? 0 : p->quiet_ns + (since_ns < away_ns ? since_ns : away_ns);
    p->seen = progress;
    return p->quiet_ns < PATIENCE_S * INT64_C(1000000000);
}

#endif
