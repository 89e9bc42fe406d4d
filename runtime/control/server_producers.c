#include "runtime/control/server_producers.h"

#include <errno.h>
#include <stddef.h>

#include "runtime/base/err.h"
#include "runtime/control/gate.h"
#include "runtime/control/server_accept.h"
#include "runtime/control/server_conns.h"
#include "runtime/control/server_state.h"
#include "runtime/lane/wire.h"

#define LANE_NS (INT64_C(4) * 1000000000)  // how long a producer waits for a lane to come free

static int check_producer(const struct rml_server *s, const struct server_conn *conn,
                          const struct rml_wire_hello_produce *hello, uint32_t *ret_source,
                          struct rml_err *err)
{
    struct rml_gate_peer peer;
    const struct rml_plan *plan = s->options.plan;
    uint32_t source = rml_plan_source_find(plan, hello->source);
    if (source == UINT32_MAX)
        return RML_FAIL(err, -ENOENT, "pipeline %s has no source %s", plan->name, hello->source);
    int rc = rml_gate_ask(s->gate, conn->socket, &peer);
    if (rc == 0)
        rc = rml_gate_may_write(s->gate, &peer, source, err);
    if (rc < 0)
        return rc;
    const struct rml_schema *schema = &plan->sources[source].schema;
    if (hello->record_bytes != schema->record_bytes || hello->schema_hash != schema->hash)
        return RML_FAIL(err, -EINVAL,
                        "the records of source %s have another layout: make the header again with "
                        "`ringmill gen header` and compile",
                        hello->source);
    *ret_source = source;
    return s->draining || s->over ? RML_FAIL(err, -ESHUTDOWN, "pipeline %s is draining", plan->name)
                                  : rml_server_check_places(s, err);
}

static void offer_lane(struct rml_server *s, struct server_conn *conn)
{
    const struct rml_lane_in *in = rml_engine_lane(s->engine, conn->number);
    int rc = rml_wire_send_lane(conn->socket, rml_lane_in_geometry(in), rml_lane_in_fds(in),
                                s->board->head->epoch, conn->number, conn->owner);
    if (rc < 0)
        rml_server_close_conn(s, conn);
    else
        rml_server_note_answered(s, conn, conn->number);
}

/*
 * All lanes have been given out, and some of them only stay until a checkpoint covers what they gave: have one
 * taken at once, and let the producer wait for it, for less long than it waits for us.
 */
static bool wait_for_lane(struct rml_server *s, struct server_conn *conn,
                          const struct rml_wire_hello_produce *hello)
{
    if (!rml_engine_keeps_lanes(s->engine) || (conn->waits && rml_server_now(s) >= conn->deadline))
        return false;
    if (!conn->waits) {
        conn->waits = true;
        conn->hello = *hello;
        conn->deadline = rml_server_now(s) + LANE_NS;
    }
    return rml_engine_save(s->engine) != 0;
}

void rml_server_attach_producer(struct rml_server *s, struct server_conn *conn,
                                const struct rml_wire_hello_produce *hello)
{
    struct rml_err err = {0};
    uint32_t source = 0, lane = 0;
    rml_server_name_conn(conn, hello->program);
    const struct rml_engine_producer producer = {
        .pid = conn->pid, .uid = conn->uid, .cells = hello->cells, .program = conn->program};
    int rc = check_producer(s, conn, hello, &source, &err);
    if (rc == 0 && s->options.plan->sources[source].is_shared)
        rc = rml_engine_join(s->engine, source, &producer, conn->socket, &lane, &conn->owner, &err);
    else if (rc == 0)
        rc = rml_engine_attach(s->engine, source, &producer, &lane, &err);
    if (rc == -EMFILE && wait_for_lane(s, conn, hello))
        return;
    conn->waits = false;
    if (rc < 0) {
        if (rc != -EACCES)
            rml_gate_count(s->gate, RML_GATE_no_lane);
        rml_server_refuse(s, conn, rc, err.text);
        return;
    }
    conn->role = ROLE_PRODUCER;
    conn->number = lane;
    rml_server_prove_process(s, conn);
    rc = rml_server_keep_conn(s, conn, lane, conn->pidfd, &err);
    rml_server_say(s, "attached: %s (process %u) to source %s, lane %u", conn->program, conn->pid,
                   hello->source, lane);
    if (rc < 0)
        rml_server_refuse(s, conn, rc, err.text);
    else
        offer_lane(s, conn);
}

void rml_server_attach_waiting(struct rml_server *s)
{
    for (uint32_t i = 0; i < s->conn_max; i++) {
        if (s->conns[i].waits) {
            const struct rml_wire_hello_produce hello = s->conns[i].hello;
            rml_server_attach_producer(s, &s->conns[i], &hello);
        }
    }
}

// What it says counts no more; that its process has ended does.
static void lose_producer(struct rml_server *s, struct server_conn *conn)
{
    if (rml_server_lose_conn(s, conn))
        rml_engine_leave(s->engine, conn->number, conn->owner, RML_ENGINE_LOST);
}

void rml_server_producer_hangs_up(struct rml_server *s, struct server_conn *conn, bool said_bye)
{
    if (said_bye)
        rml_engine_leave(s->engine, conn->number, conn->owner, RML_ENGINE_LEFT);
    if (said_bye || conn->pidfd < 0 || rml_server_has_died(conn))
        rml_server_close_conn(s, conn);
    else
        lose_producer(s, conn);
}

void rml_server_go_on_with_producer(struct rml_server *s, struct server_conn *conn,
                                    const struct server_kept_conn *what, int pidfd)
{
    conn->role = ROLE_PRODUCER;
    conn->number = what->number;
    conn->owner = what->owner;
    conn->pidfd = pidfd;
    rml_server_watch_process(s, conn);
    bool goes_on = conn->owner == 0
                       ? rml_engine_lane(s->engine, what->number) != NULL
                       : rml_engine_join_again(s->engine, what->number, what->owner, conn->socket);
    if (!goes_on)
        rml_server_close_conn(s, conn);
    else if (!what->is_answered)
        offer_lane(s, conn);
}

void rml_server_finish_left_lanes(struct rml_server *s)
{
    for (uint32_t lane = 0; lane < s->options.plan->lanes_max; lane++) {
        bool is_fed = false;
        for (uint32_t i = 0; i < s->conn_max && !is_fed; i++)
            is_fed = s->conns[i].role == ROLE_PRODUCER && s->conns[i].number == lane;
        const struct rml_lane_in *in = rml_engine_lane(s->engine, lane);
        if (in != NULL && rml_lane_in_geometry(in)->owners > 0)
            rml_engine_leave_rest(s->engine, lane);
        else if (!is_fed)
            rml_engine_finish(s->engine, lane);
    }
}
