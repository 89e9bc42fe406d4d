#include "runtime/state/touch.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

#define STEP_BYTES ((size_t)2 << 20)

#ifndef MADV_POPULATE_WRITE
# define MADV_POPULATE_WRITE 23  // Linux 5.14; an older one refuses it
#endif

struct rml_touch {
    unsigned char *from;
    size_t bytes;
    _Atomic bool ends;
    pthread_t thread;
};

// Steps end where large pages do.
static void *work(void *context)
{
    struct rml_touch *touch = context;
    unsigned char *end = touch->from + touch->bytes;
    // relaxed: it says nothing of other memory
    while (end > touch->from && !atomic_load_explicit(&touch->ends, memory_order_relaxed)) {
        size_t step = (uintptr_t)end % STEP_BYTES != 0 ? (uintptr_t)end % STEP_BYTES : STEP_BYTES;
        size_t left = (size_t)(end - touch->from);
        step = step < left ? step : left;
        end -= step;
        if (madvise(end, step, MADV_POPULATE_WRITE) < 0)
            break;
    }
    return NULL;
}

struct rml_touch *rml_touch_begin(void *from, size_t bytes)
{
    struct rml_touch *touch = malloc(sizeof *touch);
    if (touch == NULL)
        return NULL;
    touch->from = from;
    touch->bytes = bytes;
    atomic_init(&touch->ends, false);
    sigset_t all, before;
    sigfillset(&all);  // signals are others'
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&touch->thread, NULL, work, touch);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc != 0) {
        free(touch);
        return NULL;
    }
    pthread_setname_np(touch->thread, "rml-touch");
    return touch;
}

void rml_touch_end(struct rml_touch *touch)
{
    if (touch == NULL)
        return;
    // relaxed: what follows waits for the thread
    atomic_store_explicit(&touch->ends, true, memory_order_relaxed);
    pthread_join(touch->thread, NULL);
    free(touch);
}
