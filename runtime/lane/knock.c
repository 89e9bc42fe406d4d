#include "runtime/lane/knock.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "runtime/base/check.h"

#define LOOK_EVERY_NS 100000000

static int64_t now_ns(void)
{
    struct timespec now;
    RML_CHECK(clock_gettime(CLOCK_MONOTONIC, &now) == 0);
    return now.tv_sec * 1000000000 + now.tv_nsec;
}

int64_t rml_knock_until(const struct rml_knock *knock)
{
    return knock->wait_max_ns > 0 ? now_ns() + knock->wait_max_ns : 0;
}

static bool is_hung_up(const struct pollfd *peer)
{
    return (peer->revents & (POLLRDHUP | POLLHUP | POLLERR | POLLNVAL)) != 0;
}

bool rml_knock_is_gone(struct rml_knock *knock)
{
    struct timespec now;
    if (knock->is_gone || knock->peer < 0)
        return knock->is_gone;
    RML_CHECK(clock_gettime(CLOCK_MONOTONIC_COARSE, &now) == 0);
    int64_t present_ns = now.tv_sec * 1000000000 + now.tv_nsec;
    if (present_ns < knock->look_ns)
        return false;
    knock->look_ns = present_ns + LOOK_EVERY_NS;
    struct pollfd peer = {.fd = knock->peer, .events = POLLRDHUP};
    knock->is_gone = poll(&peer, 1, 0) > 0 && is_hung_up(&peer);
    return knock->is_gone;
}

int rml_knock_wait(struct rml_knock *knock, int64_t until_ns)
{
    struct pollfd fds[2] = {{.fd = knock->room, .events = POLLIN},
                            {.fd = knock->peer, .events = POLLRDHUP}};
    struct timespec timeout = {0};
    if (knock->wait_max_ns >= 0) {
        int64_t left_ns = until_ns - now_ns();
        if (left_ns <= 0)
            return -ETIMEDOUT;
        timeout =
            (struct timespec){.tv_sec = left_ns / 1000000000, .tv_nsec = left_ns % 1000000000};
    }
    knock->waits++;
    if (ppoll(fds, 2, knock->wait_max_ns >= 0 ? &timeout : NULL, NULL) <= 0)
        return 0;  // the time is up or a signal came: the caller looks again
    // the other end of the door is gone, and so is who held it
    knock->is_gone = is_hung_up(&fds[1]) || (fds[0].revents & ~POLLIN) != 0;
    if (knock->is_gone)
        return -EPIPE;
    char knocks[16];
    while (recv(knock->room, knocks, sizeof knocks, MSG_DONTWAIT) > 0)
        continue;
    return 0;
}

static void ring_worker(struct rml_ringing *r, uint32_t worker)
{
    // total order: after `publishes` was stored
    uint64_t sleeps = atomic_load_explicit(&r->sleepers[worker].sleeps, memory_order_seq_cst);
    if ((sleeps & 1) == 0 || sleeps == r->rung_for[worker])
        return;
    r->rung_for[worker] = sleeps;
    r->rings++;
    uint64_t one = 1;
    // Only a counter at its very end refuses, and then the bell is ringing.
    (void)!write(r->wake[worker], &one, sizeof one);
}

void rml_ringing_ring(struct rml_ringing *r, uint64_t workers, struct rml_lane_grid grid,
                      int64_t before, int64_t time)
{
    bool new_step = r->workers > 1 && grid.granule_ns > 1 && time > before
                    && time >= rml_lane_next_step(grid, before);
    for (uint32_t w = 0; w < r->workers; w++)
        if (new_step || (workers >> w & 1) != 0)
            ring_worker(r, w);
}
