#include "runtime/control/gate.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "runtime/base/err.h"

#define GROUPS_MAX    65536u  // of one process (NGROUPS_MAX)
#define USERS_MAX     64u     // whose rates are known; of more, those that were here last
#define PROCESSES_MAX 64u     // likewise, of our own users
#define SECOND        INT64_C(1000000000)
#define LISTED_MOST   100  // bytes of a list of users and groups in a sentence

/* When the next of a kind would come if all came evenly; far behind: it never was here. */
struct pace {
    int64_t next_ns;
};

enum kind { ATTACHES, REQUESTS, KINDS };

/* A user, or a process. */
struct party {
    uint32_t id;
    bool used;
    struct pace paces[KINDS];
};

struct rml_gate {
    struct rml_gate_options options;
    struct rml_gate_counts *counts;
    const char *file;  // the last part of the pipeline file's path
    struct party users[USERS_MAX], processes[PROCESSES_MAX];
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

static bool is_own_user(const struct rml_gate *gate, uint32_t uid)
{
    return uid == gate->options.own_uid || uid == 0;
}

static bool is_ours(const struct rml_gate *gate, const struct rml_gate_peer *peer)
{
    return is_own_user(gate, peer->uid);
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
static struct party *party_of(struct party *parties, uint32_t count, uint32_t id)
{
    struct party *place = parties;
    for (struct party *party = parties; party < parties + count; party++) {
        if (party->used && party->id == id)
            return party;
        if (place->used
            && (!party->used || party->paces[ATTACHES].next_ns < place->paces[ATTACHES].next_ns))
            place = party;
    }
    *place = (struct party){.id = id, .used = true, .paces = {{INT64_MIN}, {INT64_MIN}}};
    return place;
}

// One more of `per_s` in a second; a second's worth may come at once.
static bool is_in_time(struct pace *pace, uint32_t per_s, int64_t now)
{
    if (pace->next_ns < now)
        pace->next_ns = now;
    return pace->next_ns - now <= SECOND - SECOND / per_s;
}

/* One more, of a user and a process. 0, or -EAGAIN and a sentence. */
static int keep_pace(struct rml_gate *gate, uint32_t uid, uint32_t pid, enum kind kind,
                     struct rml_err *err)
{
    static const char *const does[] = {[ATTACHES] = "connects", [REQUESTS] = "asks"};
    static const char *const limit[] = {[ATTACHES] = "attaches", [REQUESTS] = "requests"};
    const struct rml_plan_limits *limits = &gate->options.plan->limits;
    uint32_t per_s = kind == ATTACHES ? limits->attaches_per_s : limits->requests_per_s;
    uint32_t half = per_s / 2 + per_s % 2;
    int64_t now = gate->options.clock->monotonic_ns(gate->options.clock->context);
    struct pace *users = &party_of(gate->users, USERS_MAX, uid)->paces[kind];
    struct pace *its = NULL;
    if (is_own_user(gate, uid)) {
        its = &party_of(gate->processes, PROCESSES_MAX, pid)->paces[kind];
        if (!is_in_time(its, half, now))
            return RML_FAIL(err, -EAGAIN,
                            "process %u %s more often than %u times a second, half of what its "
                            "user %u may (runtime.limits.%s): wait a moment",
                            pid, does[kind], half, uid, limit[kind]);
    }
    if (!is_in_time(users, per_s, now))
        return RML_FAIL(err, -EAGAIN,
                        "user %u %s more often than %u times a second (runtime.limits.%s): wait a "
                        "moment",
                        uid, does[kind], per_s, limit[kind]);
    users->next_ns += SECOND / per_s;
    if (its != NULL)
        its->next_ns += SECOND / half;
    return 0;
}

int rml_gate_enter(struct rml_gate *gate, const struct rml_gate_peer *peer,
                   struct rml_gate_open open, struct rml_err *err)
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
    if (!is_ours(gate, peer) && open.by_user >= plan->limits.connections) {
        rml_gate_count(gate, RML_GATE_too_many);
        return RML_FAIL(err, -EMFILE,
                        "user %u has %u connections, as many as runtime.limits.connections allows",
                        peer->uid, open.by_user);
    }
    if (open.by_process + RML_GATE_PLACES_LEFT >= open.places) {
        rml_gate_count(gate, RML_GATE_too_many);
        return RML_FAIL(err, -EMFILE,
                        "process %u has %u of the %u connections that can be open, and the others "
                        "are for other processes",
                        peer->pid, open.by_process, open.places);
    }
    int rc = keep_pace(gate, peer->uid, peer->pid, ATTACHES, err);
    rml_gate_count(gate, rc < 0 ? RML_GATE_too_often : RML_GATE_let_in);
    return rc;
}

int rml_gate_request(struct rml_gate *gate, uint32_t uid, uint32_t pid, struct rml_err *err)
{
    int rc = keep_pace(gate, uid, pid, REQUESTS, err);
    if (rc < 0)
        rml_gate_count(gate, RML_GATE_too_many_requests);
    return rc;
}
