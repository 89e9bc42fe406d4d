/*
 * MEMORY ORDER
 *
 *     bell.work    ring -> expect, awake    what the ringer brought before it rang
 *     bell.sleep   expect -> ring           (the way back: it makes both sides' exchanges one chain)
 *
 * `expected` is only ever exchanged, so its values form one chain in which each exchange sees the one
 * before it. Either the ringer's comes after the sleeper's: it sees 1 and writes to the descriptor;
 * or the sleeper's comes after the ringer's: then the sleeper sees what was brought, because it looks
 * for work after its exchange.
 *
 * A ringer writes to the descriptor after its exchange, and may be held up between the two for as long as
 * it takes the sleeper to wake for another reason and to go to sleep again. Such a ring ends the next sleep,
 * for which nobody rang; so whoever wakes reads the descriptor in any case, or it would stay readable and
 * no sleep be one until the next ring.
 */
#include "runtime/ring/bell.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "runtime/base/err.h"

int rml_bell_open(struct rml_bell *bell, struct rml_err *err)
{
    *bell = RML_BELL_CLOSED;
    bell->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (bell->fd >= 0)
        return 0;
    int rc = -errno;
    return RML_FAIL(err, rc, "eventfd: %s", strerror(-rc));
}

void rml_bell_close(struct rml_bell *bell)
{
    if (bell->fd >= 0)
        close(bell->fd);
    bell->fd = -1;
}

void rml_bell_expect(struct rml_bell *bell)
{
    // acquire: bell.work release: bell.sleep
    atomic_exchange_explicit(&bell->expected, 1, memory_order_acq_rel);
}

void rml_bell_awake(struct rml_bell *bell)
{
    // acquire: bell.work release: bell.sleep
    atomic_exchange_explicit(&bell->expected, 0, memory_order_acq_rel);
    // Whether anybody rang for this sleep or not: a ring may be one of the sleep before (see above).
    uint64_t rings;
    ssize_t got;
    do
        got = read(bell->fd, &rings, sizeof rings);
    while (got < 0 && errno == EINTR);
}

void rml_bell_wait(struct rml_bell *bell, int timeout_ms)
{
    struct pollfd poll_fd = {.fd = bell->fd, .events = POLLIN};
    poll(&poll_fd, 1, timeout_ms);
    rml_bell_awake(bell);
}

void rml_bell_ring(struct rml_bell *bell)
{
    // acquire: bell.sleep release: bell.work
    if (atomic_exchange_explicit(&bell->expected, 0, memory_order_acq_rel) == 0)
        return;
    const uint64_t one = 1;
    ssize_t put;
    do
        put = write(bell->fd, &one, sizeof one);
    while (put < 0 && errno == EINTR);
}
