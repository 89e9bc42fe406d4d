#include "runtime/state/room.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "runtime/base/check.h"
#include "runtime/base/err.h"
#include "runtime/ring/bell.h"
#include "runtime/ring/queue.h"

#define HUGE_BYTES  ((size_t)2 << 20)  // that the kernel gives at a time
#define HUGE_PAGES  ((uint32_t)(HUGE_BYTES / RML_PAGE_BYTES))
#define AHEAD_LEAST (4 * HUGE_PAGES)
#define AHEAD_MOST  ((64u << 20) / RML_PAGE_BYTES)
#define WISHES      512u  // more than there are partitions

#define STRIDE_MEMORY 16u  // large pages after which most of a stride is forgotten

#ifndef MADV_POPULATE_WRITE
# define MADV_POPULATE_WRITE 23  // Linux 5.14; an older one refuses it
#endif

/* Pages that are served. What their owner writes has a line of its own. */
struct rml_room_pages {
    _Alignas(64) _Atomic uint32_t reached;  // pages below were given out
    _Alignas(64) struct rml_room *room;
    struct rml_room_pages *next;
    unsigned char *base;
    uint32_t stride;  // most pages that were given out while a large page was made ready lately
};

struct wish {
    struct rml_room_pages *of;  // NULL: other memory
    unsigned char *from;        // NULL: there are no more
    size_t bytes;
};

struct rml_room {
    struct rml_queue wishes;
    struct rml_bell bell;
    bool started;
    pthread_t thread;
    struct rml_room_pages *served;
    int rc;  // of what was made ready; that of the thread once there is one
};

static uint32_t reached(const struct rml_room_pages *of)
{
    // relaxed: it tells how far others are, and nothing of what is there
    return atomic_load_explicit(&of->reached, memory_order_relaxed);
}

/*
 * One large page, or the part of one that is wished for, unless its pages may be given out before it is
 * there: their owner was never so fast lately, nor a large page so slow, that it came half as far. False:
 * they may be.
 */
static bool make_ready(struct rml_room_pages *of, unsigned char *from, size_t bytes)
{
    uint32_t before = reached(of), first = (uint32_t)((size_t)(from - of->base) / RML_PAGE_BYTES);
    if (first < (uint64_t)before + 2 * (uint64_t)of->stride)
        return false;
    if (bytes == HUGE_BYTES)
        (void)madvise(from, bytes, MADV_HUGEPAGE);
    if (madvise(from, bytes, MADV_POPULATE_WRITE) < 0 && of->room->rc == 0)
        of->room->rc = -errno;
    uint32_t stride = reached(of) - before;
    of->stride -= (of->stride + STRIDE_MEMORY - 1) / STRIDE_MEMORY;
    if (of->stride < stride)
        of->stride = stride;
    return true;
}

// From its end: where the owner is fast it is the beginning that there is no time for.
static void fulfil_pages(const struct wish *wish)
{
    unsigned char *end = wish->from + wish->bytes;
    bool any = false;
    while (end > wish->from) {
        size_t step = (uintptr_t)end % HUGE_BYTES != 0 ? (uintptr_t)end % HUGE_BYTES : HUGE_BYTES;
        size_t left = (size_t)(end - wish->from);
        step = step < left ? step : left;
        end -= step;
        any |= make_ready(wish->of, end, step);
    }
    if (!any)
        wish->of->stride /= 2;  // else nothing would ever be tried again
}

// False: it was the last.
static bool fulfil(struct rml_room *room)
{
    struct wish wish;
    while (rml_queue_take(&room->wishes, &wish)) {
        if (wish.from == NULL)
            return false;
        if (wish.of != NULL)
            fulfil_pages(&wish);
        else
            (void)madvise(wish.from, wish.bytes, MADV_POPULATE_WRITE);
    }
    return true;
}

int rml_room_fulfil(struct rml_room *room)
{
    RML_CHECK(!room->started);
    room->rc = 0;
    (void)fulfil(room);
    return room->rc;
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
    for (struct rml_room_pages *of = room->served, *next; of != NULL; of = next) {
        next = of->next;
        free(of);
    }
    rml_queue_close(&room->wishes);
    rml_bell_close(&room->bell);
    free(room);
}

// So many pages are enough while there are few: most partitions stay small.
static uint32_t ahead_of(const struct rml_pages *pages)
{
    uint32_t quarter = pages->fresh / 4;
    uint32_t least = pages->fresh < HUGE_PAGES / 2 ? HUGE_PAGES : AHEAD_LEAST;
    return quarter < least ? least : quarter > AHEAD_MOST ? AHEAD_MOST : quarter;
}

static size_t round_up(size_t bytes)
{
    return (bytes + HUGE_BYTES - 1) / HUGE_BYTES * HUGE_BYTES;
}

void rml_room_serve(struct rml_room *room, struct rml_pages *pages)
{
    struct rml_room_pages *of = aligned_alloc(64, sizeof *of);
    if (of == NULL)
        return;
    *of = (struct rml_room_pages){.room = room, .next = room->served, .base = pages->base};
    atomic_init(&of->reached, pages->fresh);
    room->served = of;
    pages->room = of;
    pages->touched = pages->fresh;
    pages->wish_at = pages->fresh + 1;
    size_t there = round_up((size_t)pages->fresh * RML_PAGE_BYTES);
    size_t all = (size_t)pages->limit * RML_PAGE_BYTES;
    if (there < all)
        (void)madvise(pages->base + there, all - there, MADV_NOHUGEPAGE);
}

static bool wish_for(struct rml_room *room, const struct wish *wish)
{
    if (!rml_queue_give(&room->wishes, wish))
        return false;
    rml_bell_ring(&room->bell);
    return true;
}

// Pages up to `until` that nobody wished for yet.
static void wish_until(struct rml_pages *pages, uint64_t until)
{
    until = (until + HUGE_PAGES - 1) / HUGE_PAGES * HUGE_PAGES;
    if (until > pages->limit)
        until = pages->limit;
    uint32_t from = pages->touched > pages->fresh ? pages->touched : pages->fresh;
    if (from >= until)
        return;
    const struct wish wish = {.of = pages->room,
                              .from = pages->base + (size_t)from * RML_PAGE_BYTES,
                              .bytes = (until - from) * RML_PAGE_BYTES};
    if (wish_for(pages->room->room, &wish))
        pages->touched = (uint32_t)until;
}

static void wish_ahead(struct rml_pages *pages)
{
    uint32_t ahead = ahead_of(pages);
    pages->wish_at = pages->fresh + (ahead + 1) / 2;
    wish_until(pages, (uint64_t)pages->fresh + ahead);
}

void rml_room_prefault(struct rml_pages *pages, uint64_t bytes)
{
    if (pages->room != NULL && bytes > 0)
        wish_until(pages, bytes / RML_PAGE_BYTES + 1);
}

void rml_room_note(struct rml_pages *pages)
{
    // relaxed: as it is read
    atomic_store_explicit(&pages->room->reached, pages->fresh, memory_order_relaxed);
    if (pages->fresh >= pages->wish_at)
        wish_ahead(pages);
}

void rml_room_touch(struct rml_pages *pages, void *from, size_t bytes)
{
    const struct wish wish = {.from = from, .bytes = bytes};
    if (pages->room != NULL)
        (void)wish_for(pages->room->room, &wish);
}
