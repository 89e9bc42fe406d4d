#include "runtime/state/room.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "runtime/base/err.h"
#include "runtime/ring/bell.h"
#include "runtime/ring/queue.h"

#define HUGE_PAGES ((2u << 20) / RML_PAGE_BYTES)  // that the kernel gives at a time
#define AHEAD_MOST ((64u << 20) / RML_PAGE_BYTES)
#define WISHES     64u

#ifndef MADV_POPULATE_WRITE
# define MADV_POPULATE_WRITE 23  // Linux 5.14; an older one refuses it
#endif

struct wish {
    unsigned char *from;  // NULL: there are no more
    uint64_t bytes;
};

struct rml_room {
    struct rml_queue wishes;
    struct rml_bell bell;
    bool started;
    pthread_t thread;
};

// False: it was the last.
static bool fulfil(struct rml_room *room)
{
    struct wish wish;
    while (rml_queue_take(&room->wishes, &wish)) {
        if (wish.from == NULL)
            return false;
        (void)madvise(wish.from, wish.bytes, MADV_POPULATE_WRITE);
    }
    return true;
}

static void *work(void *context)
{
    struct rml_room *room = context;
    while (fulfil(room)) {
        rml_bell_expect(&room->bell);
        if (!fulfil(room))
            break;
        rml_bell_wait(&room->bell, -1);
    }
    return NULL;
}

int rml_room_open(struct rml_room **ret_room, struct rml_err *err)
{
    size_t bytes = (sizeof(struct rml_room) + 127) / 128 * 128;
    struct rml_room *room = aligned_alloc(128, bytes);
    if (room == NULL)
        return RML_FAIL(err, -ENOMEM, "no memory for a thread that makes room");
    memset(room, 0, bytes);
    room->bell = RML_BELL_CLOSED;
    int rc = rml_queue_open(&room->wishes, sizeof(struct wish), WISHES, err);
    if (rc == 0)
        rc = rml_bell_open(&room->bell, err);
    if (rc < 0) {
        rml_room_close(room);
        return rc;
    }
    *ret_room = room;
    return 0;
}

int rml_room_start(struct rml_room *room, struct rml_err *err)
{
    sigset_t all, before;
    sigfillset(&all);  // signals are others'
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&room->thread, NULL, work, room);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc != 0)
        return RML_FAIL(err, -rc, "no thread that makes room: %s", strerrordesc_np(rc));
    pthread_setname_np(room->thread, "rml-room");
    room->started = true;
    return 0;
}

void rml_room_close(struct rml_room *room)
{
    if (room == NULL)
        return;
    if (room->started) {
        const struct wish last = {0};
        while (!rml_queue_give(&room->wishes, &last))
            sched_yield();  // it is at work, and takes them all
        rml_bell_ring(&room->bell);
        pthread_join(room->thread, NULL);
    }
    rml_queue_close(&room->wishes);
    rml_bell_close(&room->bell);
    free(room);
}

static uint32_t ahead_of(const struct rml_pages *pages)
{
    uint32_t quarter = pages->fresh / 4;
    return quarter < HUGE_PAGES ? HUGE_PAGES : quarter > AHEAD_MOST ? AHEAD_MOST : quarter;
}

void rml_room_serve(struct rml_room *room, struct rml_pages *pages)
{
    pages->room = room;
    pages->touched = pages->fresh;
    pages->wish_at = pages->fresh + 1;
}

void rml_room_wish(struct rml_pages *pages)
{
    uint32_t ahead = ahead_of(pages);
    uint64_t until = (uint64_t)pages->fresh + ahead;
    until = (until + HUGE_PAGES - 1) / HUGE_PAGES * HUGE_PAGES;
    if (until > pages->limit)
        until = pages->limit;
    uint32_t from = pages->touched > pages->fresh ? pages->touched : pages->fresh;
    pages->wish_at = pages->fresh + (ahead + 1) / 2;
    if (from >= until)
        return;
    const struct wish wish = {.from = pages->base + (size_t)from * RML_PAGE_BYTES,
                              .bytes = (until - from) * RML_PAGE_BYTES};
    if (!rml_queue_give(&pages->room->wishes, &wish))
        return;
    rml_bell_ring(&pages->room->bell);
    pages->touched = (uint32_t)until;
}
