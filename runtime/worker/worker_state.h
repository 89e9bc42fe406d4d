/*
 * worker_state - what a worker is made of, for the files that it is made of: setting one up and taking it down
 * (worker_open.c), its rounds, in which it takes steps (worker.c), and the thread that makes them (worker_thread.c).
 */
#ifndef RML_WORKER_WORKER_STATE_H
#define RML_WORKER_WORKER_STATE_H

#include <pthread.h>

#include "runtime/lane/mark.h"
#include "runtime/ring/bell.h"
#include "runtime/ring/queue.h"
#include "runtime/worker/door.h"
#include "runtime/worker/journaling.h"
#include "runtime/worker/lanes.h"
#include "runtime/worker/saving.h"
#include "runtime/worker/worker.h"

struct rml_room;

struct rml_worker {
    struct rml_worker_options options;
    uint32_t own_count;
    struct rml_own *own;
    struct rml_worker_lanes lanes;
    struct rml_saving saving;
    struct rml_journaling journaling;
    struct rml_door door;
    struct rml_queue messages, reports;
    struct rml_bell bell;
    struct rml_room *room;  // of all its partitions
    int64_t tick_ns;        // so often while there are lanes; 0: never
    bool triggers;          // and at moments that stages name, lanes or not
    int64_t next_tick_ns;
    int64_t spin_ns;  // worth spinning before sleeping, by experience
    bool stopping, started, pinned;
    bool told_want;  // of a checkpoint, since the last one began
    bool settling;   // lanes of an engine before this one are detached first
    pthread_t thread;
    struct rml_mark marks[RML_WORKER_STEP_ROWS];
};

static inline int64_t rml_worker_now(const struct rml_worker *w)
{
    return w->options.clock->monotonic_ns(w->options.clock->context);
}

/* Are there moments at which it has something to do though no record comes? */
static inline bool rml_worker_ticks(const struct rml_worker *w)
{
    return w->triggers || (w->tick_ns > 0 && w->lanes.count > 0);
}

/* Do what the control thread says. True: it said something. */
bool rml_worker_read_messages(struct rml_worker *w);

#endif
