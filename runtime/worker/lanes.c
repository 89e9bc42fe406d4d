#include "runtime/worker/lanes.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "runtime/base/check.h"
#include "runtime/base/err.h"
#include "runtime/lane/lane_in.h"
#include "runtime/ring/bell.h"

int rml_worker_lanes_open(struct rml_worker_lanes *lanes, uint32_t worker, uint32_t lanes_max,
                          uint32_t part_count, const struct rml_bell *bell, struct rml_err *err)
{
    *lanes = (struct rml_worker_lanes){
        .worker = worker, .lanes_max = lanes_max, .part_count = part_count, .epoll_fd = -1};
    size_t parts = (size_t)lanes_max * (part_count > 0 ? part_count : 1);
    lanes->used = calloc(lanes_max, sizeof *lanes->used);
    lanes->lanes = calloc(lanes_max, sizeof *lanes->lanes);
    lanes->parts = calloc(parts, sizeof *lanes->parts);
    if (lanes->used == NULL || lanes->lanes == NULL || lanes->parts == NULL)
        return RML_FAIL(err, -ENOMEM, "no memory for %u lanes", lanes_max);
    for (uint32_t i = 0; i < lanes_max; i++)
        lanes->lanes[i].parts = lanes->parts + (size_t)i * part_count;
    lanes->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN};
    if (lanes->epoll_fd < 0 || epoll_ctl(lanes->epoll_fd, EPOLL_CTL_ADD, bell->fd, &event) < 0) {
        int rc = -errno;
        return RML_FAIL(err, rc, "epoll: %s", strerrordesc_np(-rc));
    }
    return 0;
}

void rml_worker_lanes_close(struct rml_worker_lanes *lanes)
{
    if (lanes->epoll_fd >= 0)
        close(lanes->epoll_fd);
    lanes->epoll_fd = -1;
    free(lanes->used);
    free(lanes->lanes);
    free(lanes->parts);
    lanes->used = NULL;
    lanes->lanes = NULL;
    lanes->parts = NULL;
}

struct rml_worker_lane *rml_worker_lanes_add(struct rml_worker_lanes *lanes, uint32_t number,
                                             uint32_t source, struct rml_lane_in *in)
{
    RML_CHECK(number < lanes->lanes_max);
    struct rml_worker_lane *lane = &lanes->lanes[number];
    RML_CHECK(lane->in == NULL);
    struct epoll_event event = {.events = EPOLLIN};
    if (epoll_ctl(lanes->epoll_fd, EPOLL_CTL_ADD, rml_lane_in_fds(in)->wake[lanes->worker], &event)
        < 0)
        return NULL;
    struct rml_worker_lane_part *parts = lane->parts;
    *lane = (struct rml_worker_lane){.in = in,
                                     .number = number,
                                     .source = source,
                                     .parts_left = lanes->part_count,
                                     .parts = parts};
    if (lanes->part_count > 0)
        memset(parts, 0, lanes->part_count * sizeof *parts);
    lanes->used[lanes->count++] = number;
    return lane;
}

void rml_worker_lanes_remove(struct rml_worker_lanes *lanes, struct rml_worker_lane *lane)
{
    // The producer may still hold the descriptor, and then closing ours would not take it out.
    epoll_ctl(lanes->epoll_fd, EPOLL_CTL_DEL, rml_lane_in_fds(lane->in)->wake[lanes->worker], NULL);
    lane->in = NULL;
    for (uint32_t i = 0; i < lanes->count; i++) {
        if (lanes->used[i] == lane->number) {
            lanes->used[i] = lanes->used[--lanes->count];
            return;
        }
    }
    RML_UNREACHABLE("a lane that is there is listed");
}

void rml_worker_lanes_note(struct rml_worker_lanes *lanes)
{
    for (uint32_t i = 0; i < lanes->count; i++) {
        struct rml_worker_lane *lane = &lanes->lanes[lanes->used[i]];
        lane->publishes = rml_lane_in_publishes(lane->in);
    }
}

static void all_awake(struct rml_worker_lanes *lanes)
{
    for (uint32_t i = 0; i < lanes->count; i++)
        rml_lane_in_sleep_end(lanes->lanes[lanes->used[i]].in, lanes->worker);
}

bool rml_worker_lanes_may_sleep(struct rml_worker_lanes *lanes)
{
    for (uint32_t i = 0; i < lanes->count; i++)
        rml_lane_in_sleep_begin(lanes->lanes[lanes->used[i]].in, lanes->worker);
    for (uint32_t i = 0; i < lanes->count; i++) {
        struct rml_worker_lane *lane = &lanes->lanes[lanes->used[i]];
        if (rml_lane_in_publishes(lane->in) != lane->publishes) {
            all_awake(lanes);
            return false;
        }
    }
    return true;
}

void rml_worker_lanes_wait(struct rml_worker_lanes *lanes, int timeout_ms)
{
    struct epoll_event event;
    epoll_wait(lanes->epoll_fd, &event, 1, timeout_ms);
    all_awake(lanes);
}
