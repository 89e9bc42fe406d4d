#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/check.h"
#include "runtime/base/err.h"
#include "runtime/ring/stream.h"
#include "runtime/state/room.h"
#include "runtime/worker/worker_state.h"

#define SPIN_LEAST_NS 2000
#define SPIN_MOST_NS  50000  // about what a sleep and a wake-up cost together
#define SPIN_PAUSES   32     // between two looks at everything

// Spin as long as has been worth it lately. True: there was something to do.
static bool spin(struct rml_worker *w)
{
    int64_t since_ns = rml_worker_now(w);
    do {
        for (int i = 0; i < SPIN_PAUSES; i++)
            rml_pause();
        if (rml_worker_round(w)) {
            w->spin_ns = w->spin_ns * 2 > SPIN_MOST_NS ? SPIN_MOST_NS : w->spin_ns * 2;
            return true;
        }
        sched_yield();  // the producer that we wait for may want this very CPU
    } while (rml_worker_now(w) - since_ns < w->spin_ns);
    w->spin_ns = w->spin_ns / 2 < SPIN_LEAST_NS ? SPIN_LEAST_NS : w->spin_ns / 2;
    return false;
}

static int sleep_ms(struct rml_worker *w)
{
    if (w->saving.is_open || w->journaling.used > 0)
        return 1;  // buffers come back without a bell of ours, or records are being gathered
    if (!rml_worker_ticks(w))
        return -1;
    int64_t left_ns = w->next_tick_ns - rml_worker_now(w);
    return left_ns <= 0 ? 0 : (int)(left_ns / 1000000 + 1);
}

static void park(struct rml_worker *w)
{
    rml_bell_expect(&w->bell);
    // What was said before the bell was expected rings no bell: look again. Lanes were noted before the
    // round that found nothing.
    if (rml_worker_read_messages(w) || rml_journaling_has_news(&w->journaling)
        || !rml_worker_lanes_may_sleep(&w->lanes)) {
        rml_bell_awake(&w->bell);
        return;
    }
    _Atomic uint64_t *counts = w->options.counts->value;
    int64_t since_ns = rml_worker_now(w);
    rml_count_set(&counts[RML_WORKER_asleep_since], (uint64_t)since_ns);
    rml_worker_lanes_wait(&w->lanes, sleep_ms(w));
    rml_bell_awake(&w->bell);
    int64_t slept_ns = rml_worker_now(w) - since_ns;
    // Such a sleep cost more than spinning would have, which had shrunk for want of success.
    if (slept_ns < SPIN_MOST_NS)
        w->spin_ns = SPIN_MOST_NS;
    rml_count(&counts[RML_WORKER_sleeps], 1);
    rml_count(&counts[RML_WORKER_parked_ns], (uint64_t)slept_ns);
    rml_count_set(&counts[RML_WORKER_asleep_since], 0);
}

static void *work(void *context)
{
    struct rml_worker *w = context;
    w->next_tick_ns = rml_worker_now(w);
    w->spin_ns = SPIN_MOST_NS;
    while (!w->stopping) {
        if (!rml_worker_round(w) && !spin(w))
            park(w);
    }
    return NULL;
}

static bool pin(pthread_attr_t *attributes, int cpu)
{
    if (cpu < 0 || cpu >= CPU_SETSIZE)
        return false;
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)cpu, &set);
    return pthread_attr_setaffinity_np(attributes, sizeof set, &set) == 0;
}

int rml_worker_start(struct rml_worker *w, struct rml_err *err)
{
    RML_CHECK(!w->started);
    int rc = rml_room_start(w->room, err);
    if (rc < 0)
        return rc;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    w->pinned = pin(&attributes, w->options.cpu);
    sigset_t all, before;
    sigfillset(&all);  // signals are the control thread's
    pthread_sigmask(SIG_SETMASK, &all, &before);
    rc = pthread_create(&w->thread, &attributes, work, w);
    if (rc == EINVAL && w->pinned) {
        // The CPU is not ours to run on: anywhere is better than not at all.
        w->pinned = false;
        rc = pthread_create(&w->thread, NULL, work, w);
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    if (rc != 0)
        return RML_FAIL(err, -rc, "worker %u: no thread: %s", w->options.index,
                        strerrordesc_np(rc));
    w->started = true;
    char name[16];
    snprintf(name, sizeof name, "rml-worker-%u", w->options.index % 1000);
    pthread_setname_np(w->thread, name);
    return 0;
}

bool rml_worker_is_pinned(const struct rml_worker *w)
{
    return w->pinned;
}

bool rml_worker_tell(struct rml_worker *w, const struct rml_worker_message *message)
{
    if (!rml_queue_give(&w->messages, message))
        return false;
    rml_bell_ring(&w->bell);
    return true;
}

bool rml_worker_hear(struct rml_worker *w, struct rml_worker_report *ret_report)
{
    return rml_queue_take(&w->reports, ret_report);
}
