#include "runtime/control/gate.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "runtime/base/err.h"

#define GROUPS_MAX  65536u  // of one process (NGROUPS_MAX)
#define USERS_MAX   64u     // whose rates are known; of more, those that were here last
#define SECOND      INT64_C(1000000000)
#define LISTED_MOST 100  // bytes of a list of users and groups in a sentence

/* When the next of a kind would come if all came evenly; far behind: it never was here. */
struct pace {
    int64_t next_ns;
};

struct user {
    uint32_t uid;
    bool used;
    struct pace attaches, requests;
};

struct rml_gate {
    struct rml_gate_options options;
    struct rml_gate_counts *counts;
    const char *file;  // the last part of the pipeline file's path
    struct user users[USERS_MAX];
    uint32_t *groups;
};

int rml_gate_open(struct rml_gate **ret_gate, const struct rml_gate_options *options,
                  struct rml_err *err)
{
    struct rml_gate *gate = calloc(1, sizeof *gate);
    if (gate == NULL)
        return RML_FAIL(err, -ENOMEM, "no memory for a gate");
    gate->groups = malloc(GROUPS_MAX * sizeof *gate->groups);
    if (gate->groups == NULL) {
        free(gate);
        return RML_FAIL(err, -ENOMEM, "no memory for a gate");
    }
    gate->options = *options;
    const char *slash = strrchr(options->plan->path, '/');
    gate->file = slash != NULL ? slash + 1 : options->plan->path;
    *ret_gate = gate;
    return 0;
}

void rml_gate_close(struct rml_gate *gate)
{
    if (gate == NULL)
        return;
    free(gate->groups);
    free(gate);
}

void rml_gate_count_in(struct rml_gate *gate, struct rml_gate_counts *counts)
{
    gate->counts = counts;
}

void rml_gate_count(struct rml_gate *gate, enum rml_gate_counter counter)
{
    if (gate->counts != NULL)
        rml_count(&gate->counts->value[counter], 1);
}

int rml_gate_ask(struct rml_gate *gate, int socket, struct rml_gate_peer *ret_peer)
{
    struct ucred peer;
    socklen_t bytes = sizeof peer;
    if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &bytes) < 0)
        return -errno;
    *ret_peer = (struct rml_gate_peer){
        .pid = (uint32_t)peer.pid, .uid = peer.uid, .gid = peer.gid, .groups = gate->groups};
    bytes = GROUPS_MAX * sizeof *gate->groups;
    // a kernel older than 4.13 does not say: then the group that the process acts for must do
    if (getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, gate->groups, &bytes) == 0)
        ret_peer->group_count = bytes / sizeof *gate->groups;
    return 0;
}

/* Who may do what */

static bool is_listed(uint32_t number, const uint32_t *list, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (list[i] == number)
            return true;
    return false;
}

static bool is_allowed(const struct rml_allow *allow, const struct rml_gate_peer *peer)
{
    if (is_listed(peer->uid, allow->users, allow->user_count))
        return true;
    for (uint32_t i = 0; i < allow->group_count; i++)
        if (peer->gid == allow->groups[i]
            || is_listed(allow->groups[i], peer->groups, peer->group_count))
            return true;
    return false;
}

static bool is_ours(const struct rml_gate *gate, const struct rml_gate_peer *peer)
{
    return peer->uid == gate->options.own_uid || peer->uid == 0;
}

static int check(struct rml_gate *gate, const struct rml_gate_peer *peer,
                 const struct rml_allow *allow, const char *what, const char *which,
                 struct rml_err *err)
{
    if (is_ours(gate, peer) || is_allowed(allow, peer))
        return 0;
    rml_gate_count(gate, RML_GATE_not_allowed);
    const char *root = gate->options.own_uid == 0 ? "" : " and root";
    if (allow->text == NULL)
        return RML_FAIL(err, -EACCES,
                        "you are user %u, and only user %u%s may %s%s: run as that user, or have "
                        "%.40s name yours",
                        peer->uid, gate->options.own_uid, root, what, which, gate->file);
    return RML_FAIL(err, -EACCES,
                    "you are user %u, and only user %u%s may %s%s, and %.*s (line %u of %.40s)",
                    peer->uid, gate->options.own_uid, root, what, which, LISTED_MOST, allow->text,
                    allow->line, gate->file);
}

int rml_gate_may_write(struct rml_gate *gate, const struct rml_gate_peer *peer, uint32_t source,
                       struct rml_err *err)
{
    const struct rml_plan_source *of = &gate->options.plan->sources[source];
    return check(gate, peer, &of->allow, "write into source ", of->name, err);
}

static bool takes(const struct rml_plan *plan, const struct rml_plan_sink *sink, const char *stage)
{
    const char *dot = strchr(stage, '.');
    size_t length = dot != NULL ? (size_t)(dot - stage) : strlen(stage);
    for (uint32_t i = 0; sink->kind == RML_SINK_RING && i < sink->from_count; i++) {
        const char *name = plan->stages[sink->from[i].stage].name;
        if (sink->from[i].late == (dot != NULL) && strlen(name) == length
            && memcmp(name, stage, length) == 0)
            return true;
    }
    return false;
}

// Sinks of one stage share its ring: who may read one of them may read it.
int rml_gate_may_read(struct rml_gate *gate, const struct rml_gate_peer *peer, const char *stage,
                      struct rml_err *err)
{
    const struct rml_plan *plan = gate->options.plan;
    const struct rml_plan_sink *refuses = NULL;
    for (uint32_t i = 0; i < plan->sink_count; i++) {
        const struct rml_plan_sink *sink = &plan->sinks[i];
        if (!takes(plan, sink, stage))
            continue;
        if (is_ours(gate, peer) || is_allowed(&sink->allow, peer))
            return 0;
        if (refuses == NULL || refuses->allow.text == NULL)
            refuses = sink;
    }
    return refuses == NULL ? 0
                           : check(gate, peer, &refuses->allow, "read the rows of ", stage, err);
}

// Who may steer sees what he does.
int rml_gate_may_view(struct rml_gate *gate, const struct rml_gate_peer *peer, struct rml_err *err)
{
    const struct rml_plan *plan = gate->options.plan;
    return is_allowed(&plan->control, peer)
               ? 0
               : check(gate, peer, &plan->view, "look at pipeline ", plan->name, err);
}

int rml_gate_may_control(struct rml_gate *gate, const struct rml_gate_peer *peer,
                         struct rml_err *err)
{
    const struct rml_plan *plan = gate->options.plan;
    return check(gate, peer, &plan->control, "drain, stop or checkpoint pipeline ", plan->name,
                 err);
}

static bool is_known(const struct rml_gate *gate, const struct rml_gate_peer *peer)
{
    const struct rml_plan *plan = gate->options.plan;
    bool known =
        is_ours(gate, peer) || is_allowed(&plan->view, peer) || is_allowed(&plan->control, peer);
    for (uint32_t i = 0; i < plan->source_count && !known; i++)
        known = is_allowed(&plan->sources[i].allow, peer);
    for (uint32_t i = 0; i < plan->sink_count && !known; i++)
        known = is_allowed(&plan->sinks[i].allow, peer);
    return known;
}

/* How often */

// Its own place, or that of whoever has been away for longest.
static struct user *user_of(struct rml_gate *gate, uint32_t uid)
{
    struct user *place = &gate->users[0];
    for (struct user *user = gate->users; user < gate->users + USERS_MAX; user++) {
        if (user->used && user->uid == uid)
            return user;
        if (place->used && (!user->used || user->attaches.next_ns < place->attaches.next_ns))
            place = user;
    }
    *place =
        (struct user){.uid = uid, .used = true, .attaches = {INT64_MIN}, .requests = {INT64_MIN}};
    return place;
}

// One more of `per_s` in a second; a second's worth may come at once.
static bool is_in_time(const struct rml_gate *gate, struct pace *pace, uint32_t per_s)
{
    int64_t now = gate->options.clock->monotonic_ns(gate->options.clock->context);
    int64_t apart = SECOND / per_s;
    if (pace->next_ns < now)
        pace->next_ns = now;
    if (pace->next_ns - now > SECOND - apart)
        return false;
    pace->next_ns += apart;
    return true;
}

int rml_gate_enter(struct rml_gate *gate, const struct rml_gate_peer *peer, uint32_t open,
                   struct rml_err *err)
{
    const struct rml_plan *plan = gate->options.plan;
    if (!is_known(gate, peer)) {
        rml_gate_count(gate, RML_GATE_strangers);
        return RML_FAIL(
            err, -EACCES,
            "pipeline %s runs as user %u and does not know you, user %u: attach as that "
            "user or as root, or have an `allow`, `view` or `control` of %.40s name you",
            plan->name, gate->options.own_uid, peer->uid, gate->file);
    }
    if (!is_ours(gate, peer) && open >= plan->limits.connections) {
        rml_gate_count(gate, RML_GATE_too_many);
        return RML_FAIL(err, -EMFILE,
                        "user %u has %u connections, as many as runtime.limits.connections allows",
                        peer->uid, open);
    }
    if (!is_in_time(gate, &user_of(gate, peer->uid)->attaches, plan->limits.attaches_per_s)) {
        rml_gate_count(gate, RML_GATE_too_often);
        return RML_FAIL(err, -EAGAIN,
                        "user %u connects more often than %u times a second "
                        "(runtime.limits.attaches): wait a moment",
                        peer->uid, plan->limits.attaches_per_s);
    }
    rml_gate_count(gate, RML_GATE_let_in);
    return 0;
}

int rml_gate_request(struct rml_gate *gate, uint32_t uid, struct rml_err *err)
{
    uint32_t most = gate->options.plan->limits.requests_per_s;
    if (is_in_time(gate, &user_of(gate, uid)->requests, most))
        return 0;
    rml_gate_count(gate, RML_GATE_too_many_requests);
    return RML_FAIL(err, -EAGAIN,
                    "user %u asks more often than %u times a second (runtime.limits.requests): "
                    "wait a moment",
                    uid, most);
}
