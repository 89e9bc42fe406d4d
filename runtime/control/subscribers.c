#include "runtime/control/subscribers.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "runtime/base/check.h"
#include "runtime/base/err.h"

// The stages that have rings, for a sentence.
static void name_rings(const struct rml_subscribers *subscribers, char *text, size_t bytes)
{
    const struct rml_rings *rings = rml_engine_rings(subscribers->engine);
    size_t used = 0;
    text[0] = '\0';
    for (uint32_t o = 0; o < rings->output_count && used < bytes; o++) {
        if (rings->ring[o].shape.row_bytes == 0)
            continue;
        const struct rml_output *output = &rings->outputs[o];
        int more =
            snprintf(text + used, bytes - used, "%s%s%s", used > 0 ? ", " : "",
                     subscribers->plan->stages[output->stage].name, output->late ? ".late" : "");
        used += (size_t)more;
    }
}

static int find_output(const struct rml_subscribers *subscribers, const char *place,
                       uint32_t *ret_output, struct rml_err *err)
{
    char stage[RML_WIRE_NAME];
    snprintf(stage, sizeof stage, "%s", place);
    char *dot = strchr(stage, '.');
    if (dot != NULL)
        *dot = '\0';
    uint32_t index = rml_plan_stage_find(subscribers->plan, stage);
    if (index == UINT32_MAX)
        return RML_FAIL(err, -ENOENT, "pipeline %s has no stage %s", subscribers->plan->name,
                        stage);
    *ret_output = rml_rings_find(rml_engine_rings(subscribers->engine), index, dot != NULL);
    if (*ret_output != UINT32_MAX)
        return 0;
    char names[160];
    name_rings(subscribers, names, sizeof names);
    return RML_FAIL(err, -ENOENT, "no sink of type ring takes the rows of %s; %s%s", place,
                    names[0] != '\0' ? "there are rings of: " : "there is no ring at all", names);
}

struct rml_wire_results rml_subscribers_results(const struct rml_subscribers *subscribers,
                                                uint32_t number, int ret_fds[2])
{
    const struct rml_subscription *subscription = &subscribers->list[number];
    const struct rml_rings *rings = rml_engine_rings(subscribers->engine);
    uint32_t index = subscription->listener.output;
    const struct rml_output *output = &rings->outputs[index];
    const struct rml_ring *ring = &rings->ring[index];
    const struct rml_plan_stage *stage = &subscribers->plan->stages[output->stage];
    ret_fds[0] = ring->segment.fd;
    ret_fds[1] = subscription->line.fd;
    return (struct rml_wire_results){
        .epoch = rml_engine_board(subscribers->engine)->head->epoch,
        .schema_hash = output->late ? subscribers->plan->sources[output->source].schema.hash
                                    : stage->output.hash,
        .ring_bytes = rml_broadcast_bytes(ring->shape),
        .record_bytes = output->row_bytes,
        .row_bytes = ring->shape.row_bytes,
        .row_count = ring->shape.row_count,
        .partitions = rings->partitions,
    };
}

int rml_subscribers_offer(const struct rml_subscribers *subscribers, uint32_t number, int socket)
{
    int fds[2];
    const struct rml_wire_results results = rml_subscribers_results(subscribers, number, fds);
    return rml_wire_send_results(socket, results, fds[0], fds[1]);
}

void rml_subscribers_knock(const struct rml_subscribers *subscribers, uint32_t number)
{
    (void)send(subscribers->list[number].listener.socket, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void clear(struct rml_subscription *subscription)
{
    if (subscription->listener.socket >= 0)
        close(subscription->listener.socket);
    rml_segment_close(&subscription->line);
    *subscription = (struct rml_subscription){0};
}

static int free_number(const struct rml_subscribers *subscribers, uint32_t *ret_number,
                       struct rml_err *err)
{
    uint32_t number = 0;
    while (number < RML_LISTENERS_MAX && subscribers->list[number].used)
        number++;
    if (number == RML_LISTENERS_MAX)
        return RML_FAIL(err, -EMFILE, "%u subscribers are attached, as many as there can be",
                        RML_LISTENERS_MAX);
    *ret_number = number;
    return 0;
}

// Have the workers listen for one whose line is mapped.
static int listen_for(struct rml_subscribers *subscribers, uint32_t number, int socket,
                      uint32_t output, struct rml_err *err)
{
    struct rml_subscription *made = &subscribers->list[number];
    made->listener = (struct rml_listener){
        .output = output,
        // one of the workers' own: the connection's may be closed while they still use this one
        .socket = fcntl(socket, F_DUPFD_CLOEXEC, 0),
        .line = made->line.memory,
    };
    if (made->listener.socket < 0) {
        int rc = -errno;
        clear(made);
        return RML_FAIL(err, rc, "rings cannot be passed on: %s", strerrordesc_np(-rc));
    }
    made->used = true;
    uint32_t slot;
    int rc = rml_engine_listen(subscribers->engine, &made->listener, &slot);
    RML_CHECK(rc == 0 && slot == number);  // the same places are taken there and here
    return 0;
}

int rml_subscribers_add(struct rml_subscribers *subscribers, int socket, const char *stage,
                        uint32_t *ret_number, struct rml_err *err)
{
    uint32_t output, number;
    int rc = find_output(subscribers, stage, &output, err);
    if (rc == 0)
        rc = free_number(subscribers, &number, err);
    if (rc == 0)
        rc = rml_segment_open_theirs(&subscribers->list[number].line, "ringmill-listener",
                                     sizeof(struct rml_listener_line), err);
    if (rc == 0)
        rc = listen_for(subscribers, number, socket, output, err);
    if (rc == 0)
        *ret_number = number;
    return rc;
}

uint32_t rml_subscribers_output(const struct rml_subscribers *subscribers, uint32_t number)
{
    return subscribers->list[number].listener.output;
}

int rml_subscribers_line(const struct rml_subscribers *subscribers, uint32_t number)
{
    return subscribers->list[number].line.fd;
}

int rml_subscribers_go_on(struct rml_subscribers *subscribers, int socket, uint32_t output,
                          int line, uint32_t *ret_number, struct rml_err *err)
{
    uint32_t number;
    RML_CHECK(output < rml_engine_rings(subscribers->engine)->output_count);
    int rc = free_number(subscribers, &number, err);
    if (rc == 0)
        rc = rml_segment_again_theirs(&subscribers->list[number].line, line,
                                      sizeof(struct rml_listener_line), err);
    if (rc < 0) {
        close(line);
        return rc;
    }
    rc = listen_for(subscribers, number, socket, output, err);
    if (rc == 0)
        *ret_number = number;
    return rc;
}

void rml_subscribers_remove(struct rml_subscribers *subscribers, uint32_t number)
{
    shutdown(subscribers->list[number].listener.socket, SHUT_RDWR);
    rml_engine_unlisten(subscribers->engine, number);
}

void rml_subscribers_done(void *context, uint32_t slot)
{
    struct rml_subscribers *subscribers = context;
    clear(&subscribers->list[slot]);
}

void rml_subscribers_close(struct rml_subscribers *subscribers)
{
    for (uint32_t i = 0; i < RML_LISTENERS_MAX; i++) {
        if (subscribers->list[i].used)
            clear(&subscribers->list[i]);
    }
}
