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
#include "runtime/ring/listener.h"
#include "runtime/ring/stream.h"
#include "runtime/segment/segment.h"

#define LOOKS_PER_YIELD 64

// What stands before the record in a ring's row: struct rml_result_row of the engine.
struct row_head {
    int64_t fire;
    uint64_t seq;
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
};

/* Opening */

static int say_hello(struct rml_subscriber *subscriber, const char *place, int64_t wait_ns,
                     struct rml_err *err)
{
    char pipeline[RML_WIRE_NAME];
    struct rml_wire_hello_subscribe hello = {
        .head = rml_wire_head(RML_WIRE_HELLO_SUBSCRIBE, sizeof hello)};
    int rc = rml_attach_split(place, "STAGE", pipeline, hello.stage, err);
    if (rc < 0)
        return rc;
    rml_attach_program(hello.program);
    subscriber->socket = rml_attach_connect(pipeline, &hello.head, wait_ns, err);
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
                     const int fds[2], bool from_oldest, struct rml_err *err)
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

static int attach(struct rml_subscriber *subscriber, const char *place, uint64_t schema_hash,
                  uint32_t record_bytes, const struct rml_subscriber_options *options,
                  struct rml_err *err)
{
    union {
        struct rml_wire_results results;
        struct rml_wire_refused refused;
    } message;

    int fds[2];
    uint32_t fd_count = 0;
    int rc = rml_owner_open(&subscriber->owner, err);
    int64_t end_ns = rml_attach_end_ns(options->open_ns);
    do {
        if (rc == -EPIPE)
            close(subscriber->socket);
        int64_t left_ns = end_ns - rml_attach_now_ns();
        left_ns = left_ns > 0 ? left_ns : 1;
        if (rc == 0 || rc == -EPIPE)
            rc = say_hello(subscriber, place, left_ns, err);
        if (rc == 0)
            rc = rml_attach_answer(subscriber->socket, RML_WIRE_RESULTS, left_ns, &message,
                                   sizeof message, fds, 2, &fd_count, err);
    } while (rml_attach_again(rc, end_ns));
    if (rc < 0)
        return rc;
    rc = fd_count == 2 ? 0 : RML_FAIL(err, -EPROTO, "rings with %u descriptors", fd_count);
    if (rc == 0)
        rc = check_rows(&message.results, place, schema_hash, record_bytes, err);
    if (rc == 0)
        rc = map_rings(subscriber, &message.results, fds, options->from_oldest != 0, err);
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

int rml_subscriber_read(struct rml_subscriber *subscriber, void *record,
                        struct rml_row_info *ret_info)
{
    if (!rml_owner_is_here(&subscriber->owner))
        return -ECHILD;
    for (uint32_t tried = 0; tried < subscriber->partitions; tried++) {
        uint32_t partition = subscriber->next;
        uint64_t number;
        if (rml_broadcast_read(&subscriber->in[partition], subscriber->row, &number)) {
            struct row_head head;
            memcpy(&head, subscriber->row, sizeof head);
            memcpy(record, subscriber->row + sizeof head, subscriber->record_bytes);
            if (ret_info != NULL)
                *ret_info = (struct rml_row_info){partition, head.seq, head.fire};
            return 1;
        }
        subscriber->next = partition + 1 < subscriber->partitions ? partition + 1 : 0;
    }
    return subscriber->ended ? -EPIPE : 0;
}

uint64_t rml_subscriber_missed(const struct rml_subscriber *subscriber)
{
    uint64_t missed = 0;
    for (uint32_t p = 0; p < subscriber->partitions; p++)
        missed += subscriber->in[p].missed;
    return missed;
}

/* Waiting */

static bool has_rows(const struct rml_subscriber *subscriber)
{
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

void rml_subscriber_close(struct rml_subscriber *subscriber)
{
    if (subscriber == NULL)
        return;
    rml_segment_close(&subscriber->rings);
    rml_segment_close(&subscriber->listener);
    if (subscriber->socket >= 0)
        close(subscriber->socket);
    rml_owner_close(&subscriber->owner);
    free(subscriber->in);
    free(subscriber->row);
    free(subscriber);
}
