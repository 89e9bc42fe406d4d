/*
 * What the engine's code asks of libc, where it would wait for somebody else or ask the machine: threads,
 * sleep, clocks, chance, and writes to bells and files of rows. Others get a turn then. (What it asks of
 * files is in disk.c, and of its keeper in keeper.c.)
 */
#undef _FORTIFY_SOURCE  // libc's own definitions of these, inline
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "runtime/base/check.h"
#include "tests/sim/disk.h"
#include "tests/sim/fibers.h"
#include "tests/sim/process.h"
#include "tests/sim/sim.h"
#include "tests/sim/world.h"

#define EXPORT __attribute__((visibility("default")))

static bool is_simulated(void)
{
    return fiber_now() != FIBERS_NONE;
}

/* Threads */

EXPORT int pthread_create(pthread_t *ret_thread, const pthread_attr_t *attributes,
                          void *(*run)(void *context), void *context)
{
    (void)attributes;
    sim_door(DOOR_THREAD);
    bool was = process_turn(false);
    uint32_t fiber = fiber_make(run, context);
    world_add_thread(fiber);
    process_turn(was);
    *ret_thread = (pthread_t)fiber + 1;
    return 0;
}

static bool has_ended(void *context)
{
    const uint32_t *fiber = context;
    return fiber_has_ended(*fiber);
}

EXPORT int pthread_join(pthread_t thread, void **ret_result)
{
    uint32_t fiber = (uint32_t)(thread - 1);
    sim_sleep(has_ended, &fiber, INT64_MAX);
    world_drop_thread(fiber);
    if (ret_result != NULL)
        *ret_result = NULL;
    return 0;
}

EXPORT int pthread_setname_np(pthread_t thread, const char *name)
{
    world_name_thread((uint32_t)(thread - 1), name);
    return 0;
}

// One thread waits for no other: what a killed process held, nobody holds.
EXPORT int pthread_mutex_lock(pthread_mutex_t *mutex)
{
    (void)mutex;
    return 0;
}

EXPORT int pthread_mutex_trylock(pthread_mutex_t *mutex)
{
    (void)mutex;
    return 0;
}

EXPORT int pthread_mutex_unlock(pthread_mutex_t *mutex)
{
    (void)mutex;
    return 0;
}

EXPORT int sched_yield(void)
{
    sim_door(DOOR_SPIN);
    return 0;
}

/* Sleep */

struct polled {
    struct pollfd *fds;
    nfds_t count;
    int rc;
};

static bool is_polled(void *context)
{
    struct polled *p = context;
    const struct timespec at_once = {0};
    p->rc = (int)syscall(SYS_ppoll, p->fds, p->count, &at_once, NULL, 0);
    return p->rc != 0;
}

static int64_t after_ms(int ms)
{
    return ms < 0 ? INT64_MAX : sim.now_ns + ms * INT64_C(1000000);
}

EXPORT int poll(struct pollfd *fds, nfds_t count, int timeout_ms)
{
    struct polled p = {fds, count, 0};
    if (is_polled(&p) || timeout_ms == 0 || !is_simulated())
        return p.rc;
    sim_sleep(is_polled, &p, after_ms(timeout_ms));
    return p.rc;
}

EXPORT int ppoll(struct pollfd *fds, nfds_t count, const struct timespec *timeout,
                 const sigset_t *mask)
{
    struct polled p = {fds, count, 0};
    RML_CHECK(mask == NULL);
    if (is_polled(&p) || !is_simulated())
        return p.rc;
    int64_t until = INT64_MAX;
    if (timeout != NULL)
        until = sim.now_ns + timeout->tv_sec * INT64_C(1000000000) + timeout->tv_nsec;
    sim_sleep(is_polled, &p, until);
    return p.rc;
}

struct epolled {
    int fd, room, rc;
    struct epoll_event *events;
};

static bool is_epolled(void *context)
{
    struct epolled *e = context;
    e->rc = (int)syscall(SYS_epoll_pwait, e->fd, e->events, e->room, 0, NULL, 0);
    return e->rc != 0;
}

EXPORT int epoll_wait(int fd, struct epoll_event *events, int room, int timeout_ms)
{
    struct epolled e = {fd, room, 0, events};
    if (is_epolled(&e) || timeout_ms == 0 || !is_simulated())
        return e.rc;
    sim_sleep(is_epolled, &e, after_ms(timeout_ms));
    return e.rc;
}

static bool never(void *context)
{
    (void)context;
    return false;
}

EXPORT int nanosleep(const struct timespec *wanted, struct timespec *left)
{
    (void)left;
    RML_CHECK(is_simulated());
    sim_sleep(never, NULL, sim.now_ns + wanted->tv_sec * INT64_C(1000000000) + wanted->tv_nsec);
    return 0;
}

/* Clocks and chance */

EXPORT int clock_gettime(clockid_t which, struct timespec *ret_time)
{
    if (!is_simulated())
        return (int)syscall(SYS_clock_gettime, which, ret_time);
    int64_t ns = sim.now_ns + (which == CLOCK_REALTIME ? sim.wall_ahead_ns : 0);
    *ret_time = (struct timespec){.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
    return 0;
}

EXPORT ssize_t getrandom(void *bytes, size_t count, unsigned flags)
{
    (void)flags;
    for (size_t i = 0; i < count; i++)
        ((unsigned char *)bytes)[i] = (unsigned char)sim_draw(256);
    return (ssize_t)count;
}

/* Bells and rows */

EXPORT ssize_t write(int fd, const void *bytes, size_t count)
{
    bool is_bell = count == sizeof(uint64_t);
    if (is_simulated())
        sim_door(is_bell ? DOOR_BELL : DOOR_FILE_WRITE);
    if (is_simulated() && is_bell && sim.wrong == SIM_rings_no_bell && sim_draw(8) == 0)
        return (ssize_t)count;
    if (sim.is_full && is_simulated() && !is_bell) {
        sim.is_full = false;
        errno = ENOSPC;
        return -1;
    }
    if (is_simulated() && !is_bell && sim_strikes(SIM_rows_find_no_room)) {
        sim.is_full = true;
        count = (count + 1) / 2;
    }
    ssize_t put = syscall(SYS_write, fd, bytes, count);
    if (is_simulated() && !is_bell)
        sim_door(DOOR_FILE_WRITTEN);
    return put;
}
