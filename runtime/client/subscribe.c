#include "runtime/client/subscribe.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdalign.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "runtime/base/err.h"
#include "runtime/client/attach.h"
#include "runtime/ring/broadcast.h"
#include "runtime/ring/group.h"
#include "runtime/ring/listener.h"
#include "runtime/ring/roster.h"
#include "runtime/ring/stream.h"
#include "runtime/segment/segment.h"

#define LOOKS_PER_YIELD 64
#define HELD_STANDARD   64u
#define HELD_MOST       65536u

// What stands before the record in a ring's row: struct rml_result_row of the engine.
struct row_head {
    int64_t fire;
    uint64_t seq;
};

/* What a member of a group has beside. */
struct membership {
    struct rml_segment memory, roster;
    struct rml_group_in in;
    struct rml_group_lane *lanes;
    struct rml_group_row *held;  // read, not acknowledged
    uint32_t held_count, held_max;
};

struct rml_subscriber {
    struct rml_owner owner;
    struct rml_segment rings, listener;
    struct rml_listener_line *line;
    uint64_t turn;  // of sleeping
    int socket;
    bool ended;  // the engine has gone: nothing more will be given
    int64_t spin_ns;
    uint32_t record_bytes, partitions, next;
    unsigned char *row;           // room for one, as it lies in a ring
    struct rml_broadcast_in *in;  // of each partition
    bool joins;
    struct membership *group;  // NULL: all rows are its own
};

/* Opening */

static int say_hello(struct rml_subscriber *subscriber, const char *place,
                     const struct rml_subscriber_options *options, int64_t wait_ns,
                     struct rml_err *err)
{
    char pipeline[RML_WIRE_NAME];
    struct rml_wire_hello_subscribe hello = {
        .head = rml_wire_head(RML_WIRE_HELLO_SUBSCRIBE, sizeof hello)};
    int rc = rml_attach_split(place, "STAGE", pipeline, hello.stage, err);
    if (rc < 0)
        return rc;
    rml_attach_program(hello.program);
    struct rml_wire_hello_join join = {.head = rml_wire_head(RML_WIRE_HELLO_JOIN, sizeof join),
                                       .from_oldest = options->from_oldest != 0};
    if (options->group != NULL) {
        if (!rml_wire_is_name(options->group, RML_WIRE_NAME))
            return RML_FAIL(err, -EINVAL,
                            "\"%.60s\" is not the name of a group: letters, digits, _ and -",
                            options->group);
        memcpy(join.stage, hello.stage, sizeof join.stage);
        memcpy(join.program, hello.program, sizeof join.program);
        snprintf(join.group, sizeof join.group, "%s", options->group);
    }
    const struct rml_wire_head *head = options->group != NULL ? &join.head : &hello.head;
    subscriber->socket = rml_attach_connect(pipeline, head, wait_ns, err);
    return subscriber->socket < 0 ? subscriber->socket : 0;
}

static int check_rows(const struct rml_wire_results *results, const char *place,
                      uint64_t schema_hash, uint32_t record_bytes, struct rml_err *err)
{
    if (results->row_bytes != sizeof(struct row_head) + results->record_bytes)
        return RML_FAIL(err, -EPROTO, "rows of %u bytes with records of %u", results->row_bytes,
                        results->record_bytes);
    if ((schema_hash != 0 && schema_hash != results->schema_hash)
        || (record_bytes != 0 && record_bytes != results->record_bytes))
        return RML_FAIL(err, -EPROTO,
                        "the rows of %s have another layout: make the header again with `ringmill "
                        "gen header` and compile",
                        place);
    return 0;
}

static int map_rings(struct rml_subscriber *subscriber, const struct rml_wire_results *results,
                     const int *fds, bool from_oldest, struct rml_err *err)
{
    const struct rml_broadcast_shape shape = {results->row_bytes, results->row_count};
    size_t bytes = results->ring_bytes * results->partitions;
    int rc = rml_segment_attach(&subscriber->rings, fds[0], bytes, false, err);
    if (rc == 0)
        rc = rml_segment_attach(&subscriber->listener, fds[1], sizeof(struct rml_listener_line),
                                true, err);
    if (rc < 0)
        return rc;
    subscriber->line = subscriber->listener.memory;
    subscriber->record_bytes = results->record_bytes;
    subscriber->partitions = results->partitions;
    subscriber->row = calloc(1, results->row_bytes);
    subscriber->in = calloc(results->partitions, sizeof *subscriber->in);
    if (subscriber->row == NULL || subscriber->in == NULL)
        return RML_FAIL(err, -ENOMEM, "no memory");
    const unsigned char *memory = subscriber->rings.memory;
    for (uint32_t p = 0; p < results->partitions; p++)
        rml_broadcast_attach_in(&subscriber->in[p], memory + p * results->ring_bytes, shape,
                                from_oldest);
    return 0;
}

static int map_group(struct rml_subscriber *subscriber,
                     const struct rml_wire_membership *membership, const int *fds,
                     uint32_t held_max, struct rml_err *err)
{
    const struct rml_wire_results *results = &membership->results;
    const struct rml_group_shape shape = {{results->row_bytes, results->row_count},
                                          results->partitions};
    struct membership *group = calloc(1, sizeof *group);
    if (group == NULL)
        return RML_FAIL(err, -ENOMEM, "no memory");
    subscriber->group = group;
    group->memory = RML_SEGMENT_CLOSED;
    group->roster = RML_SEGMENT_CLOSED;
    group->held_max = held_max > 0 ? held_max : HELD_STANDARD;
    group->lanes = calloc(results->partitions, sizeof *group->lanes);
    group->held = calloc(group->held_max, sizeof *group->held);
    if (group->lanes == NULL || group->held == NULL)
        return RML_FAIL(err, -ENOMEM, "no memory");
    int rc = rml_segment_attach(&group->memory, fds[0], rml_group_bytes(shape), true, err);
    if (rc == 0)
        rc = rml_segment_attach(&group->roster, fds[1], rml_roster_bytes(results->partitions),
                                false, err);
    if (rc == 0)
        rml_group_attach(&group->in, shape, group->memory.memory, group->roster.memory,
                         subscriber->rings.memory, group->lanes, membership->member,
                         membership->turn);
    return rc;
}

static int attach(struct rml_subscriber *subscriber, const char *place, uint64_t schema_hash,
                  uint32_t record_bytes, const struct rml_subscriber_options *options,
                  struct rml_err *err)
{
    union {
        struct rml_wire_results results;
        struct rml_wire_membership membership;
        struct rml_wire_refused refused;
    } message;

    bool joins = options->group != NULL;
    int fds[4];
    uint32_t fd_count = 0;
    if (options->group_rows > HELD_MOST)
        return RML_FAIL(err, -EINVAL, "group_rows %u: %u at most", options->group_rows, HELD_MOST);
    int rc = rml_owner_open(&subscriber->owner, err);
    subscriber->joins = rc == 0 && joins;
    int64_t end_ns = rml_attach_end_ns(options->open_ns);
    do {
        if (rc == -EPIPE)
            close(subscriber->socket);
        int64_t left_ns = end_ns - rml_attach_now_ns();
        left_ns = left_ns > 0 ? left_ns : 1;
        if (rc == 0 || rc == -EPIPE)
            rc = say_hello(subscriber, place, options, left_ns, err);
        if (rc == 0)
            rc = rml_attach_answer(subscriber->socket,
                                   joins ? RML_WIRE_MEMBERSHIP : RML_WIRE_RESULTS, left_ns,
                                   &message, sizeof message, fds, 4, &fd_count, err);
    } while (rml_attach_again(rc, end_ns));
    if (rc < 0)
        return rc;
    rc = fd_count == (joins ? 4 : 2)
             ? 0
             : RML_FAIL(err, -EPROTO, "rings with %u descriptors", fd_count);
    if (rc == 0)
        rc = check_rows(&message.results, place, schema_hash, record_bytes, err);
    if (rc == 0)
        rc = map_rings(subscriber, &message.results, fds, options->from_oldest != 0, err);
    if (rc == 0 && joins)
        rc = map_group(subscriber, &message.membership, fds + 2, options->group_rows, err);
    for (uint32_t i = 0; i < fd_count; i++)
        close(fds[i]);  // the mappings stay
    subscriber->spin_ns = options->spin_ns;
    return rc;
}

int rml_subscriber_open(struct rml_subscriber **ret_subscriber, const char *place,
                        uint64_t schema_hash, uint32_t record_bytes,
                        const struct rml_subscriber_options *options, char *error,
                        size_t error_bytes)
{
    static const struct rml_subscriber_options defaults;
    struct rml_err err = {0};
    int rc;
    struct rml_subscriber *subscriber = calloc(1, sizeof *subscriber);
    if (subscriber == NULL) {
        rc = RML_FAIL(&err, -ENOMEM, "no memory");
    } else {
        subscriber->socket = -1;
        subscriber->rings = subscriber->listener = RML_SEGMENT_CLOSED;
        rc = attach(subscriber, place, schema_hash, record_bytes,
                    options != NULL ? options : &defaults, &err);
    }
    if (rc == 0) {
        *ret_subscriber = subscriber;
        return 0;
    }
    rml_subscriber_close(subscriber);
    if (error != NULL && error_bytes > 0)
        snprintf(error, error_bytes, "%s", err.text);
    return rc;
}

/* Reading */

uint32_t rml_subscriber_record_bytes(const struct rml_subscriber *subscriber)
{
    return subscriber->record_bytes;
}

static void hand_over(const struct rml_subscriber *subscriber, uint32_t partition, uint32_t again,
                      void *record, struct rml_row_info *ret_info)
{
    struct row_head head;
    memcpy(&head, subscriber->row, sizeof head);
    memcpy(record, subscriber->row + sizeof head, subscriber->record_bytes);
    if (ret_info != NULL)
        *ret_info = (struct rml_row_info){partition, again, head.seq, head.fire};
}

static bool is_full(const struct membership *group)
{
    return group != NULL && group->held_count == group->held_max;
}

static int read_shared(struct rml_subscriber *subscriber, void *record,
                       struct rml_row_info *ret_info)
{
    struct membership *group = subscriber->group;
    if (is_full(group))
        return -ENOBUFS;
    struct rml_group_row *row = &group->held[group->held_count];
    int rc = rml_group_take(&group->in, subscriber->row, row);
    if (rc == 1) {
        group->held_count++;
        hand_over(subscriber, row->partition, row->again, record, ret_info);
    }
    return rc == 0 && subscriber->ended ? -EPIPE : rc;
}

int rml_subscriber_ack(struct rml_subscriber *subscriber)
{
    struct membership *group = subscriber->group;
    if (!rml_owner_is_here(&subscriber->owner))
        return -ECHILD;
    if (group == NULL)
        return -EINVAL;
    int late = 0;
    for (uint32_t i = 0; i < group->held_count; i++)
        late += !rml_group_done(&group->in, &group->held[i]);
    group->held_count = 0;
    return late;
}

int rml_subscriber_read(struct rml_subscriber *subscriber, void *record,
                        struct rml_row_info *ret_info)
{
    if (!rml_owner_is_here(&subscriber->owner))
        return -ECHILD;
    if (subscriber->group != NULL)
        return read_shared(subscriber, record, ret_info);
    for (uint32_t tried = 0; tried < subscriber->partitions; tried++) {
        uint32_t partition = subscriber->next;
        uint64_t number;
        if (rml_broadcast_read(&subscriber->in[partition], subscriber->row, &number)) {
            hand_over(subscriber, partition, 0, record, ret_info);
            return 1;
        }
        subscriber->next = partition + 1 < subscriber->partitions ? partition + 1 : 0;
    }
    return subscriber->ended ? -EPIPE : 0;
}

uint64_t rml_subscriber_missed(const struct rml_subscriber *subscriber)
{
    uint64_t missed = 0;
    if (subscriber->group != NULL) {
        struct rml_group_counts counts;
        rml_group_count(subscriber->group->in.shape, subscriber->group->memory.memory, &counts);
        return counts.missed;
    }
    for (uint32_t p = 0; p < subscriber->partitions; p++)
        missed += subscriber->in[p].missed;
    return missed;
}

/* Waiting */

static bool has_rows(const struct rml_subscriber *subscriber)
{
    if (subscriber->group != NULL)
        return rml_group_look(&subscriber->group->in);
    for (uint32_t p = 0; p < subscriber->partitions; p++)
        if (rml_broadcast_look(&subscriber->in[p]))
            return true;
    return false;
}

// Take the bytes that woke us; what else there is to hear is the end.
static void hear(struct rml_subscriber *subscriber)
{
    char byte[64];
    ssize_t got;
    do
        got = recv(subscriber->socket, byte, sizeof byte, MSG_DONTWAIT);
    while (got > 0 || (got < 0 && errno == EINTR));
    if (got == 0 || (got < 0 && errno != EAGAIN))
        subscriber->ended = true;
}

static bool spin(const struct rml_subscriber *subscriber, int64_t end_ns)
{
    while (rml_attach_now_ns() < end_ns) {
        for (int i = 0; i < LOOKS_PER_YIELD; i++) {
            if (has_rows(subscriber))
                return true;
            rml_pause();
        }
        sched_yield();  // whoever makes the rows may be waiting for this CPU
    }
    return false;
}

int rml_subscriber_fd(const struct rml_subscriber *subscriber)
{
    return subscriber->socket;
}

int rml_subscriber_sleep(struct rml_subscriber *subscriber)
{
    if (!rml_owner_is_here(&subscriber->owner))
        return -ECHILD;
    if (is_full(subscriber->group))
        return -ENOBUFS;
    rml_listener_sleeps(subscriber->line, ++subscriber->turn);
    if (has_rows(subscriber))
        return 1;
    return subscriber->ended ? -EPIPE : 0;
}

// One sleep: 1 there is something to hear, 0 the time is over or a signal came.
static int poll_until(const struct rml_subscriber *subscriber, int64_t end_ns)
{
    struct timespec left = {0};
    if (end_ns != INT64_MAX) {
        int64_t left_ns = end_ns - rml_attach_now_ns();
        if (left_ns > 0)
            left = (struct timespec){left_ns / 1000000000, left_ns % 1000000000};
    }
    struct pollfd news = {.fd = subscriber->socket, .events = POLLIN};
    return ppoll(&news, 1, end_ns != INT64_MAX ? &left : NULL, NULL) > 0;
}

int rml_subscriber_wait(struct rml_subscriber *subscriber, int64_t timeout_ns)
{
    if (!rml_owner_is_here(&subscriber->owner))
        return -ECHILD;
    if (is_full(subscriber->group))
        return -ENOBUFS;
    int64_t now_ns = rml_attach_now_ns();
    int64_t end_ns =
        timeout_ns < 0 || timeout_ns > INT64_MAX - now_ns ? INT64_MAX : now_ns + timeout_ns;
    int64_t spin_end_ns = now_ns + subscriber->spin_ns;
    if (has_rows(subscriber) || spin(subscriber, spin_end_ns < end_ns ? spin_end_ns : end_ns))
        return 1;
    // A wake-up may have been for rows that were read before this sleep: then there is another.
    for (;;) {
        int rc = rml_subscriber_sleep(subscriber);
        int heard = rc == 0 ? poll_until(subscriber, end_ns) : 0;
        rml_listener_wakes(subscriber->line);
        if (rc != 0)
            return rc;
        hear(subscriber);
        if (has_rows(subscriber))  // also those given before the end that was just heard of
            return 1;
        if (subscriber->ended)
            return -EPIPE;
        if (!heard)
            return 0;
    }
}

static void close_group(struct rml_subscriber *subscriber)
{
    struct membership *group = subscriber->group;
    if (group == NULL)
        return;
    rml_segment_close(&group->memory);
    rml_segment_close(&group->roster);
    free(group->lanes);
    free(group->held);
    free(group);
}

// Of a member that writes nothing any more: what it had is the others'.
static void say_bye(const struct rml_subscriber *subscriber)
{
    const struct rml_wire_bye bye = {.head = rml_wire_head(RML_WIRE_BYE, sizeof bye)};
    if (subscriber->joins && subscriber->socket >= 0 && rml_owner_is_here(&subscriber->owner))
        (void)rml_wire_send(subscriber->socket, &bye.head, NULL, 0);
}

void rml_subscriber_close(struct rml_subscriber *subscriber)
{
    if (subscriber == NULL)
        return;
    close_group(subscriber);
    say_bye(subscriber);
    rml_segment_close(&subscriber->rings);
    rml_segment_close(&subscriber->listener);
    if (subscriber->socket >= 0)
        close(subscriber->socket);
    rml_owner_close(&subscriber->owner);
    free(subscriber->in);
    free(subscriber->row);
    free(subscriber);
}
