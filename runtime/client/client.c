#include "runtime/client/client.h"

#include <errno.h>
#include <stdalign.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/err.h"
#include "runtime/client/attach.h"
#include "runtime/lane/lane_out.h"
#include "runtime/lane/share_out.h"
#include "runtime/lane/wire.h"

struct rml_producer {
    struct rml_owner owner;
    struct rml_lane_out *lane;    // of its own, or NULL
    struct rml_share_out *share;  // in a lane of several, or NULL
    struct rml_lane_fds fds;
    int socket;
    uint32_t partitions;
    uint32_t claimed[RML_LANE_PARTITIONS_MAX];
};

static bool is_ours(const struct rml_producer *producer)
{
    return rml_owner_is_here(&producer->owner);
}

static int say_hello(struct rml_producer *producer, const char *place, uint64_t schema_hash,
                     uint32_t record_bytes, const struct rml_producer_options *options,
                     int64_t wait_ns, struct rml_err *err)
{
    char pipeline[RML_WIRE_NAME];
    struct rml_wire_hello_produce hello = {.head =
                                               rml_wire_head(RML_WIRE_HELLO_PRODUCE, sizeof hello),
                                           .schema_hash = schema_hash,
                                           .record_bytes = record_bytes,
                                           .cells = options->cells};
    int rc = rml_attach_split(place, "SOURCE", pipeline, hello.source, err);
    if (rc < 0)
        return rc;
    rml_attach_program(hello.program);
    producer->socket = rml_attach_connect(pipeline, &hello.head, wait_ns, err);
    return producer->socket < 0 ? producer->socket : 0;
}

static int take_lane(struct rml_producer *producer, uint32_t record_bytes, int64_t wait_ns,
                     struct rml_lane_geometry *ret_geometry, uint32_t *ret_owner,
                     struct rml_err *err)
{
    union {
        alignas(8) unsigned char bytes[512];
        struct rml_wire_lane lane;
        struct rml_wire_refused refused;
    } message;

    int fds[RML_WIRE_FDS_MAX];
    uint32_t fd_count;
    int rc = rml_attach_answer(producer->socket, RML_WIRE_LANE, wait_ns, &message, sizeof message,
                               fds, RML_WIRE_FDS_MAX, &fd_count, err);
    if (rc < 0)
        return rc;
    if (rml_wire_lane_fds(&message.lane, fds, fd_count, &producer->fds) < 0) {
        for (uint32_t i = 0; i < fd_count; i++)
            close(fds[i]);
        return RML_FAIL(err, -EPROTO, "a lane with %u descriptors", fd_count);
    }
    if (message.lane.geometry.cell_bytes != record_bytes)
        return RML_FAIL(err, -EPROTO, "a lane for records of %u bytes, not %u",
                        message.lane.geometry.cell_bytes, record_bytes);
    memcpy(ret_geometry, &message.lane.geometry, sizeof *ret_geometry);
    *ret_owner = message.lane.owner;
    return 0;
}

// One engine after the other, until one answers.
static int ask_for_lane(struct rml_producer *producer, const char *place, uint64_t schema_hash,
                        uint32_t record_bytes, const struct rml_producer_options *options,
                        struct rml_lane_geometry *ret_geometry, uint32_t *ret_owner,
                        struct rml_err *err)
{
    int64_t end_ns = rml_attach_end_ns(options->open_ns);
    int rc;
    do {
        if (producer->socket >= 0)
            close(producer->socket);
        producer->socket = -1;
        int64_t left_ns = end_ns - rml_attach_now_ns();
        left_ns = left_ns > 0 ? left_ns : 1;
        rc = say_hello(producer, place, schema_hash, record_bytes, options, left_ns, err);
        if (rc == 0)
            rc = take_lane(producer, record_bytes, left_ns, ret_geometry, ret_owner, err);
    } while (rml_attach_again(rc, end_ns));
    return rc;
}

static void set_options(struct rml_producer *producer, const struct rml_producer_options *options)
{
    uint32_t every = options->publish_every > 0 ? options->publish_every : RML_LANE_PUBLISH_EVERY;
    if (producer->share != NULL) {
        rml_share_out_publish_every(producer->share, every);
        if (options->wait_ns != 0)
            rml_share_out_wait_max(producer->share, options->wait_ns);
    } else {
        rml_lane_out_publish_every(producer->lane, every);
        if (options->wait_ns != 0)
            rml_lane_out_wait_max(producer->lane, options->wait_ns);
    }
}

static void say_bye(const struct rml_producer *producer)
{
    struct rml_wire_bye bye = {.head = rml_wire_head(RML_WIRE_BYE, sizeof bye)};
    (void)rml_wire_send(producer->socket, &bye.head, NULL, 0);  // gone already: as good as bye
}

static int attach(struct rml_producer *producer, const char *place, uint64_t schema_hash,
                  uint32_t record_bytes, const struct rml_producer_options *options,
                  struct rml_err *err)
{
    int rc = rml_owner_open(&producer->owner, err);
    struct rml_lane_geometry geometry = {0};
    uint32_t owner = 0;
    if (rc == 0)
        rc = ask_for_lane(producer, place, schema_hash, record_bytes, options, &geometry, &owner,
                          err);
    bool is_given = rc == 0;
    if (rc == 0 && owner > 0)
        rc = rml_share_out_open(&producer->share, &geometry, &producer->fds, producer->socket,
                                owner, err);
    else if (rc == 0)
        rc = rml_lane_out_open(&producer->lane, &geometry, &producer->fds, producer->socket, err);
    if (is_given && rc < 0)
        say_bye(producer);  // else its place in a shared lane were taken for as long as we live
    if (rc < 0)
        return rc;
    close(producer->fds.records);  // the mappings stay
    close(producer->fds.returns);
    producer->fds.records = producer->fds.returns = -1;
    producer->partitions = geometry.partitions;
    set_options(producer, options);
    return 0;
}

int rml_producer_open(struct rml_producer **ret_producer, const char *place, uint64_t schema_hash,
                      uint32_t record_bytes, const struct rml_producer_options *options,
                      char *error, size_t error_bytes)
{
    static const struct rml_producer_options defaults;
    struct rml_err err = {0};
    int rc;
    struct rml_producer *producer = calloc(1, sizeof *producer);
    if (producer == NULL) {
        rc = RML_FAIL(&err, -ENOMEM, "no memory");
    } else {
        rml_lane_fds_init(&producer->fds);
        producer->socket = -1;
        rc = attach(producer, place, schema_hash, record_bytes,
                    options != NULL ? options : &defaults, &err);
    }
    if (rc == 0) {
        *ret_producer = producer;
        return 0;
    }
    rml_producer_close(producer);
    if (error != NULL && error_bytes > 0)
        snprintf(error, error_bytes, "%s", err.text);
    return rc;
}

int rml_producer_put(struct rml_producer *producer, const void *record)
{
    if (!is_ours(producer))
        return -ECHILD;
    return producer->share != NULL ? rml_share_out_put(producer->share, record)
                                   : rml_lane_out_put(producer->lane, record);
}

int rml_producer_publish(struct rml_producer *producer)
{
    if (!is_ours(producer))
        return -ECHILD;
    if (producer->share != NULL) {
        int rc = rml_share_out_publish(producer->share);
        return rc < 0 ? rc : rml_share_out_state(producer->share, NULL, NULL);
    }
    rml_lane_out_publish(producer->lane);
    return rml_lane_out_state(producer->lane, NULL, NULL);
}

uint32_t rml_producer_partitions(const struct rml_producer *producer)
{
    return producer->partitions;
}

uint32_t rml_producer_route(const struct rml_producer *producer, const void *record)
{
    return producer->share != NULL ? rml_share_out_route(producer->share, record)
                                   : rml_lane_out_route(producer->lane, record);
}

int32_t rml_producer_claim(struct rml_producer *producer, uint32_t partition, uint32_t want,
                           void **ret_cells)
{
    if (!is_ours(producer))
        return -ECHILD;
    if (partition >= producer->partitions || want == 0)
        return -EINVAL;
    int32_t count = producer->share != NULL
                        ? rml_share_out_claim(producer->share, partition, want, ret_cells)
                        : rml_lane_out_claim(producer->lane, partition, want, ret_cells);
    if (count > 0)
        producer->claimed[partition] = (uint32_t)count;
    return count;
}

int rml_producer_commit(struct rml_producer *producer, uint32_t partition, uint32_t count)
{
    if (!is_ours(producer))
        return -ECHILD;
    if (partition >= producer->partitions || count > producer->claimed[partition])
        return -EINVAL;
    producer->claimed[partition] = 0;
    if (producer->share != NULL)
        rml_share_out_commit(producer->share, partition, count);
    else
        rml_lane_out_commit(producer->lane, partition, count);
    return 0;
}

int rml_producer_drop(struct rml_producer *producer, uint64_t records)
{
    if (!is_ours(producer))
        return -ECHILD;
    if (producer->share != NULL)
        rml_share_out_drop(producer->share, records);
    else
        rml_lane_out_drop(producer->lane, records);
    return 0;
}

int rml_producer_stats(const struct rml_producer *producer, struct rml_producer_stats *ret_stats)
{
    if (!is_ours(producer))
        return -ECHILD;
    struct rml_lane_out_counts counts = {0};
    if (producer->share != NULL)
        rml_share_out_counts(producer->share, &counts);
    else
        rml_lane_out_counts(producer->lane, &counts);
    *ret_stats = (struct rml_producer_stats){.written = counts.committed,
                                             .published = counts.published,
                                             .released = counts.released,
                                             .dropped = counts.dropped,
                                             .waits = counts.waits,
                                             .rings = counts.rings};
    return 0;
}

int rml_producer_durable(struct rml_producer *producer, uint64_t *ret_records)
{
    if (!is_ours(producer))
        return -ECHILD;
    return producer->share != NULL ? -ENOTSUP : rml_lane_out_durable(producer->lane, ret_records);
}

int rml_producer_wait_durable(struct rml_producer *producer, int64_t wait_ns)
{
    if (!is_ours(producer))
        return -ECHILD;
    return producer->share != NULL ? -ENOTSUP : rml_lane_out_wait_durable(producer->lane, wait_ns);
}

int rml_producer_reason(const struct rml_producer *producer, char *text, size_t text_bytes)
{
    if (!is_ours(producer))
        return -ECHILD;
    uint32_t code = 0;
    char reason[48] = "";
    if (producer->share != NULL)
        (void)rml_share_out_state(producer->share, &code, reason);
    else
        (void)rml_lane_out_state(producer->lane, &code, reason);
    if (text_bytes > 0)
        snprintf(text, text_bytes, "%s", reason);
    return (int)code;
}

void rml_producer_close(struct rml_producer *producer)
{
    if (producer == NULL)
        return;
    bool attached = producer->lane != NULL || producer->share != NULL;
    bool ours = attached && is_ours(producer);  // before, it may not know whose it is
    if (producer->lane != NULL && ours)
        rml_lane_out_close(producer->lane);
    else if (producer->lane != NULL)
        rml_lane_out_abandon(producer->lane);
    if (producer->share != NULL && ours)
        rml_share_out_close(producer->share);
    else if (producer->share != NULL)
        rml_share_out_abandon(producer->share);
    if (ours)
        say_bye(producer);
    rml_lane_fds_close(&producer->fds);
    if (producer->socket >= 0)
        close(producer->socket);
    rml_owner_close(&producer->owner);
    free(producer);
}
