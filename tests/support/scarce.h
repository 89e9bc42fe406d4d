/*
 * scarce - threads, mappings and memory that are not to be had, for programs that are linked to ask here first
 * (--wrap, tests/CMakeLists.txt).
 */
#ifndef RML_TESTS_SCARCE_H
#define RML_TESTS_SCARCE_H

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/mman.h>

#define SCARCE_NOT UINT32_MAX

/* So many can be had still. For the thread that runs the test. */
static uint32_t scarce_threads_left = SCARCE_NOT, scarce_maps_left = SCARCE_NOT,
                scarce_blocks_left = SCARCE_NOT;

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
                          void *context);
int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
                          void *context);
void *__wrap_mmap(void *at, size_t bytes, int protection, int flags, int fd, off_t offset);
void *__real_mmap(void *at, size_t bytes, int protection, int flags, int fd, off_t offset);

void *__wrap_aligned_alloc(size_t alignment, size_t bytes);
void *__real_aligned_alloc(size_t alignment, size_t bytes);

static inline int scarce_take(uint32_t *left)
{
    if (*left == 0)
        return 0;
    *left -= *left != SCARCE_NOT;
    return 1;
}

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
                          void *context)
{
    return scarce_take(&scarce_threads_left)
               ? __real_pthread_create(thread, attributes, run, context)
               : EAGAIN;
}

void *__wrap_mmap(void *at, size_t bytes, int protection, int flags, int fd, off_t offset)
{
    if (scarce_take(&scarce_maps_left))
        return __real_mmap(at, bytes, protection, flags, fd, offset);
    errno = ENOMEM;
    return MAP_FAILED;
}

void *__wrap_aligned_alloc(size_t alignment, size_t bytes)
{
    return scarce_take(&scarce_blocks_left) ? __real_aligned_alloc(alignment, bytes) : NULL;
}

#endif
