/*
 * refusal - calls that ask the system for something, of which one is refused: memory, a mapping, a thread, a
 * descriptor, room in a file. For programs whose own calls are linked to ask here first
 * (rml_refusals in tests/CMakeLists.txt); those of libraries are their affair.
 */
#ifndef RML_TESTS_REFUSAL_H
#define RML_TESTS_REFUSAL_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

/* Where calls are refused: in a thread that says so of itself, while it is on. */
static _Thread_local bool refusal_is_here;

static struct {
    _Atomic bool is_on;
    _Atomic uint32_t left;        // calls until one is refused
    const char *_Atomic refused;  // which one was; NULL: none yet
} refusal;

/* From now on, after so many calls, one is refused. */
static inline void refusal_begin(uint32_t calls)
{
    atomic_store(&refusal.left, calls);
    atomic_store(&refusal.refused, NULL);
    atomic_store(&refusal.is_on, true);
}

/* None is any more. Which one was, or NULL. */
static inline const char *refusal_end(void)
{
    atomic_store(&refusal.is_on, false);
    return atomic_load(&refusal.refused);
}

static bool refuses(const char *call, int error)
{
    if (!refusal_is_here || !atomic_load(&refusal.is_on) || atomic_load(&refusal.refused) != NULL
        || atomic_fetch_sub(&refusal.left, 1) > 0)
        return false;
    atomic_store(&refusal.refused, call);
    errno = error;
    return true;
}

// clang-format off
// As the linker wants them.
#define AT_THE_DOOR(type, name, parameters, arguments, none, error)          \
    type __real_##name parameters;                                           \
    type __wrap_##name parameters;                                           \
    type __wrap_##name parameters                                            \
    {                                                                        \
        return refuses(#name, error) ? (none) : __real_##name arguments;     \
    }
// clang-format on

AT_THE_DOOR(void *, malloc, (size_t bytes), (bytes), NULL, ENOMEM)
AT_THE_DOOR(void *, calloc, (size_t count, size_t bytes), (count, bytes), NULL, ENOMEM)
AT_THE_DOOR(void *, realloc, (void *at, size_t bytes), (at, bytes), NULL, ENOMEM)
AT_THE_DOOR(void *, aligned_alloc, (size_t to, size_t bytes), (to, bytes), NULL, ENOMEM)
AT_THE_DOOR(char *, strdup, (const char *text), (text), NULL, ENOMEM)
AT_THE_DOOR(void *, mmap, (void *at, size_t bytes, int protection, int flags, int fd, off_t from),
            (at, bytes, protection, flags, fd, from), MAP_FAILED, ENOMEM)
AT_THE_DOOR(int, pthread_create,
            (pthread_t * thread, const pthread_attr_t *how, void *(*run)(void *), void *context),
            (thread, how, run, context), EAGAIN, EAGAIN)
AT_THE_DOOR(int, memfd_create, (const char *name, unsigned flags), (name, flags), -1, EMFILE)
AT_THE_DOOR(int, eventfd, (unsigned count, int flags), (count, flags), -1, EMFILE)
AT_THE_DOOR(int, epoll_create1, (int flags), (flags), -1, EMFILE)
AT_THE_DOOR(int, epoll_ctl, (int epoll, int what, int fd, struct epoll_event *event),
            (epoll, what, fd, event), -1, ENOSPC)
AT_THE_DOOR(int, socket, (int domain, int type, int protocol), (domain, type, protocol), -1, EMFILE)
AT_THE_DOOR(int, socketpair, (int domain, int type, int protocol, int fds[2]),
            (domain, type, protocol, fds), -1, EMFILE)
AT_THE_DOOR(int, ftruncate, (int fd, off_t bytes), (fd, bytes), -1, ENOSPC)
AT_THE_DOOR(int, fallocate, (int fd, int mode, off_t from, off_t bytes), (fd, mode, from, bytes),
            -1, ENOSPC)
AT_THE_DOOR(int, posix_fallocate, (int fd, off_t from, off_t bytes), (fd, from, bytes), ENOSPC,
            ENOSPC)
AT_THE_DOOR(DIR *, opendir, (const char *path), (path), NULL, EMFILE)

int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);

int __wrap_open(const char *path, int flags, ...)
{
    va_list more;
    va_start(more, flags);
    mode_t mode = (flags & O_CREAT) != 0 ? va_arg(more, mode_t) : 0;
    va_end(more);
    return refuses("open", EMFILE) ? -1 : __real_open(path, flags, mode);
}

int __real_openat(int folder, const char *path, int flags, ...);
int __wrap_openat(int folder, const char *path, int flags, ...);

int __wrap_openat(int folder, const char *path, int flags, ...)
{
    va_list more;
    va_start(more, flags);
    mode_t mode = (flags & O_CREAT) != 0 ? va_arg(more, mode_t) : 0;
    va_end(more);
    return refuses("openat", EMFILE) ? -1 : __real_openat(folder, path, flags, mode);
}

#endif
