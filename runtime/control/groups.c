#include "runtime/control/groups.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/check.h"
#include "runtime/base/err.h"
#include "runtime/control/kept.h"
#include "runtime/keeper/keeping.h"
#include "runtime/ring/group.h"

/* What is kept of a group beside its two segments. */
struct kept_group {
    uint32_t output, uid;
    char name[RML_WIRE_NAME];
};

static const struct rml_rings *rings_of(const struct rml_groups *groups)
{
    return rml_engine_rings(groups->subscribers->engine);
}

static struct rml_group_shape shape_of(const struct rml_groups *groups, uint32_t output)
{
    const struct rml_rings *rings = rings_of(groups);
    return (struct rml_group_shape){rings->ring[output].shape, rings->partitions};
}

static const char *stage_of(const struct rml_groups *groups, uint32_t output)
{
    const struct rml_output *of = &rings_of(groups)->outputs[output];
    return groups->subscribers->plan->stages[of->stage].name;
}

// As many as the sink says that has most.
static uint32_t groups_wanted(const struct rml_groups *groups, uint32_t output)
{
    const struct rml_plan *plan = groups->subscribers->plan;
    const struct rml_output *of = &rings_of(groups)->outputs[output];
    uint32_t most = 0;
    for (uint32_t i = 0; i < plan->sink_count; i++) {
        const struct rml_plan_sink *sink = &plan->sinks[i];
        for (uint32_t j = 0; sink->kind == RML_SINK_RING && j < sink->from_count; j++)
            if (sink->from[j].stage == of->stage && sink->from[j].late == of->late)
                most = sink->groups > most ? sink->groups : most;
    }
    return most;
}

static uint32_t members_of(const struct rml_group_of *group)
{
    uint32_t count = 0;
    for (uint32_t m = 0; m < RML_ROSTER_MEMBERS_MAX; m++)
        count += group->members[m].used;
    return count;
}

static void clear(struct rml_group_of *group)
{
    rml_segment_close(&group->memory);
    rml_segment_close(&group->roster);
    *group = (struct rml_group_of){.memory = RML_SEGMENT_CLOSED, .roster = RML_SEGMENT_CLOSED};
}

void rml_groups_open(struct rml_groups *groups, struct rml_subscribers *subscribers,
                     struct rml_keeping *keeping)
{
    groups->subscribers = subscribers;
    groups->keeping = keeping;
    for (uint32_t i = 0; i < RML_GROUPS_MAX; i++)
        groups->list[i] =
            (struct rml_group_of){.memory = RML_SEGMENT_CLOSED, .roster = RML_SEGMENT_CLOSED};
}

/* Making and going on */

static int open_roster(struct rml_groups *groups, uint32_t number, bool *ret_again,
                       struct rml_err *err)
{
    const struct rml_keeping_segment wanted = {.id = RML_KEPT_ID(RML_KEPT_ROSTER, number),
                                               .name = "ringmill-roster",
                                               .bytes =
                                                   rml_roster_bytes(rings_of(groups)->partitions),
                                               .mark_at = RML_KEEPER_DEATHMARK_NONE};
    return rml_keeping_segment(groups->keeping, &wanted, &groups->list[number].roster, ret_again,
                               err);
}

static void begin(struct rml_groups *groups, uint32_t number, bool from_oldest)
{
    const struct rml_group_of *group = &groups->list[number];
    const struct rml_ring *ring = &rings_of(groups)->ring[group->output];
    const unsigned char *memory = ring->segment.memory;
    for (uint32_t p = 0; p < rings_of(groups)->partitions; p++) {
        struct rml_broadcast_in in;
        rml_broadcast_attach_in(&in, memory + p * rml_broadcast_bytes(ring->shape), ring->shape,
                                from_oldest);
        rml_roster_begin(group->roster.memory, p, in.next);
    }
}

static int make(struct rml_groups *groups, uint32_t number, bool from_oldest, struct rml_err *err)
{
    struct rml_group_of *group = &groups->list[number];
    bool again = false;
    int rc = open_roster(groups, number, &again, err);
    if (rc < 0)
        return rc;
    begin(groups, number, from_oldest);
    rc = rml_segment_open_theirs(&group->memory, "ringmill-group",
                                 rml_group_bytes(shape_of(groups, group->output)), err);
    if (rc < 0)
        return rc;
    struct kept_group what = {.output = group->output, .uid = group->uid};
    memcpy(what.name, group->name, sizeof what.name);
    const struct rml_keep keep = {.id = RML_KEPT_ID(RML_KEPT_GROUP, number),
                                  .fds = &group->memory.fd,
                                  .fd_count = 1,
                                  .blob = &what,
                                  .blob_bytes = sizeof what};
    return rml_keeping_put(groups->keeping, &keep, err);
}

static void remove_group(struct rml_groups *groups, uint32_t number)
{
    if (groups->keeping != NULL) {
        rml_keeping_drop(groups->keeping, RML_KEPT_ID(RML_KEPT_GROUP, number));
        rml_keeping_drop(groups->keeping, RML_KEPT_ID(RML_KEPT_ROSTER, number));
    }
    clear(&groups->list[number]);
}

static bool go_on(struct rml_groups *groups, uint32_t number, const struct rml_kept *kept)
{
    struct rml_group_of *group = &groups->list[number];
    struct kept_group what;
    RML_CHECK(kept->blob_bytes == sizeof what && kept->fd_count == 1);
    memcpy(&what, kept->blob, sizeof what);
    RML_CHECK(what.output < rings_of(groups)->output_count);
    group->output = what.output;
    group->uid = what.uid;
    memcpy(group->name, what.name, sizeof group->name);
    struct rml_err err = {0};
    bool again = false;
    size_t bytes = rml_group_bytes(shape_of(groups, group->output));
    if (rml_segment_again_theirs(&group->memory, kept->fds[0], bytes, &err) < 0) {
        close(kept->fds[0]);
        return false;
    }
    group->used = open_roster(groups, number, &again, &err) == 0 && again;
    return group->used;
}

void rml_groups_again(struct rml_groups *groups)
{
    for (uint32_t i = 0; i < RML_GROUPS_MAX; i++) {
        uint64_t id = RML_KEPT_ID(RML_KEPT_GROUP, i);
        const struct rml_kept *kept = rml_keeping_take(groups->keeping, id);
        if (kept != NULL && !go_on(groups, i, kept))
            remove_group(groups, i);
    }
}

/* Members */

static uint32_t find(const struct rml_groups *groups, uint32_t output, const char *name)
{
    uint32_t i = 0;
    while (i < RML_GROUPS_MAX
           && (!groups->list[i].used || groups->list[i].output != output
               || strcmp(groups->list[i].name, name) != 0))
        i++;
    return i;
}

// A place for one more of this output: a free one, or that of the group that has been left for longest.
static int find_place(struct rml_groups *groups, uint32_t output, uint32_t *ret_number,
                      struct rml_err *err)
{
    uint32_t most = groups_wanted(groups, output), of_output = 0, free = RML_GROUPS_MAX,
             left = RML_GROUPS_MAX;
    for (uint32_t i = 0; i < RML_GROUPS_MAX; i++)
        of_output += groups->list[i].used && groups->list[i].output == output;
    bool is_full = of_output >= most;
    for (uint32_t i = RML_GROUPS_MAX; i-- > 0;) {
        const struct rml_group_of *group = &groups->list[i];
        if (!group->used)
            free = i;
        else if (members_of(group) == 0 && (!is_full || group->output == output)
                 && (left == RML_GROUPS_MAX || group->turn < groups->list[left].turn))
            left = i;
    }
    if (most == 0)
        return RML_FAIL(err, -EMFILE, "the ring of %s has no groups: its sink says groups: 0",
                        stage_of(groups, output));
    *ret_number = !is_full && free < RML_GROUPS_MAX ? free : left;
    if (*ret_number == RML_GROUPS_MAX)
        return RML_FAIL(err, -EMFILE,
                        "%u groups with members share the rows of %s, as many as there can be",
                        of_output, stage_of(groups, output));
    return 0;
}

static int make_new(struct rml_groups *groups, uint32_t output, uint32_t uid, const char *name,
                    bool from_oldest, uint32_t *ret_number, struct rml_err *err)
{
    int rc = find_place(groups, output, ret_number, err);
    if (rc < 0)
        return rc;
    if (groups->list[*ret_number].used)
        remove_group(groups, *ret_number);
    struct rml_group_of *group = &groups->list[*ret_number];
    clear(group);
    group->output = output;
    group->uid = uid;
    snprintf(group->name, sizeof group->name, "%s", name);
    rc = make(groups, *ret_number, from_oldest, err);
    if (rc < 0)
        remove_group(groups, *ret_number);
    else
        group->used = true;
    return rc;
}

static void settle(struct rml_group_member *member, const struct rml_groups_peer *peer)
{
    *member = (struct rml_group_member){
        .used = true, .subscription = peer->subscription, .pid = peer->pid, .uid = peer->uid};
    snprintf(member->program, sizeof member->program, "%s", peer->program);
}

int rml_groups_join(struct rml_groups *groups, const struct rml_groups_peer *peer, const char *name,
                    bool from_oldest, uint32_t *ret_group, uint32_t *ret_member,
                    struct rml_err *err)
{
    uint32_t output = rml_subscribers_output(groups->subscribers, peer->subscription);
    uint32_t number = find(groups, output, name);
    int rc = 0;
    if (number == RML_GROUPS_MAX)
        rc = make_new(groups, output, peer->uid, name, from_oldest, &number, err);
    if (rc < 0)
        return rc;
    struct rml_group_of *group = &groups->list[number];
    if (group->uid != peer->uid && !peer->is_ours)
        return RML_FAIL(
            err, -EACCES,
            "group %s of %s belongs to user %u, and you are user %u: members of a group "
            "trust each other; take another name",
            name, stage_of(groups, output), group->uid, peer->uid);
    uint64_t before[RML_ROSTER_MEMBERS_MAX], turn;
    for (uint32_t m = 0; m < RML_ROSTER_MEMBERS_MAX; m++) {
        struct rml_group_counts counts;
        rml_group_count_member(shape_of(groups, output), group->memory.memory, m, &counts);
        before[m] = counts.taken;
    }
    if (rml_roster_admit(group->roster.memory, before, ret_member, &turn) < 0)
        return RML_FAIL(err, -EMFILE, "group %s has %u members, as many as there can be", name,
                        RML_ROSTER_MEMBERS_MAX);
    settle(&group->members[*ret_member], peer);
    *ret_group = number;
    return 0;
}

bool rml_groups_join_again(struct rml_groups *groups, const struct rml_groups_peer *peer,
                           uint32_t group, uint32_t member)
{
    if (group >= RML_GROUPS_MAX || member >= RML_ROSTER_MEMBERS_MAX || !groups->list[group].used
        || !rml_roster_is_member(groups->list[group].roster.memory, member))
        return false;
    settle(&groups->list[group].members[member], peer);
    return true;
}

static void knock_at_all(const struct rml_groups *groups, const struct rml_group_of *group)
{
    for (uint32_t m = 0; m < RML_ROSTER_MEMBERS_MAX; m++)
        if (group->members[m].used && !group->members[m].is_lost)
            rml_subscribers_knock(groups->subscribers, group->members[m].subscription);
}

void rml_groups_rest(struct rml_groups *groups)
{
    for (uint32_t i = 0; i < RML_GROUPS_MAX; i++) {
        const struct rml_group_of *group = &groups->list[i];
        for (uint32_t m = 0; group->used && m < RML_ROSTER_MEMBERS_MAX; m++)
            if (!group->members[m].used && rml_roster_is_member(group->roster.memory, m))
                rml_roster_bury(group->roster.memory, m);
        if (group->used) {
            rml_roster_tell(group->roster.memory);
            knock_at_all(groups, group);
        }
    }
}

int rml_groups_offer(const struct rml_groups *groups, uint32_t number, uint32_t member, int socket)
{
    const struct rml_group_of *group = &groups->list[number];
    int fds[4] = {-1, -1, group->memory.fd, group->roster.fd};
    const struct rml_wire_membership membership = {
        .results =
            rml_subscribers_results(groups->subscribers, group->members[member].subscription, fds),
        .turn = rml_roster_turn(group->roster.memory, member),
        .member = member};
    return rml_wire_send_membership(socket, membership, fds);
}

void rml_groups_lose(struct rml_groups *groups, uint32_t group, uint32_t member)
{
    groups->list[group].members[member].is_lost = true;
}

void rml_groups_leave(struct rml_groups *groups, uint32_t number, uint32_t member)
{
    struct rml_group_of *group = &groups->list[number];
    group->members[member] = (struct rml_group_member){.used = false};
    group->turn = ++groups->turn;
    rml_roster_bury(group->roster.memory, member);
    knock_at_all(groups, group);
}

/* Showing */

static uint64_t less(uint64_t from, uint64_t by)
{
    return from > by ? from - by : 0;  // members may have written anything
}

static void show(const struct rml_groups *groups, uint32_t number, struct rml_board *board)
{
    const struct rml_group_of *group = &groups->list[number];
    const struct rml_group_shape shape = shape_of(groups, group->output);
    const struct rml_output *output = &rings_of(groups)->outputs[group->output];
    struct rml_group_counts counts;
    rml_group_count(shape, group->memory.memory, &counts);
    struct rml_board_group row = {.is_there = 1,
                                  .output = output->stage * 2 + output->late,
                                  .uid = group->uid,
                                  .members = members_of(group),
                                  .taken = counts.taken,
                                  .again = counts.again,
                                  .done = counts.done,
                                  .missed = counts.missed,
                                  .expired = counts.expired};
    row.in_hand = less(counts.taken, counts.again + counts.done + counts.expired);
    for (uint32_t p = 0; p < shape.partitions; p++)
        row.waiting += rml_group_waiting(shape, group->memory.memory, group->roster.memory,
                                         rings_of(groups)->ring[group->output].segment.memory, p);
    snprintf(row.name, sizeof row.name, "%s", group->name);
    for (uint32_t m = 0; m < RML_ROSTER_MEMBERS_MAX; m++) {
        const struct rml_group_member *member = &group->members[m];
        row.lost += member->used && member->is_lost;
        if (!member->used || member->is_lost)
            continue;
        rml_group_count_member(shape, group->memory.memory, m, &counts);
        struct rml_board_member one = {
            .is_there = 1,
            .group = number,
            .pid = member->pid,
            .uid = member->uid,
            .taken = less(counts.taken, rml_roster_taken_before(group->roster.memory, m))};
        snprintf(one.program, sizeof one.program, "%s", member->program);
        rml_board_member_write(board, member->subscription, &one);
    }
    rml_board_group_write(board, number, &row);
}

void rml_groups_show(const struct rml_groups *groups, struct rml_board *board)
{
    _Static_assert(RML_BOARD_MEMBERS_MAX >= RML_LISTENERS_MAX, "a row for each subscription");
    const struct rml_board_member nobody = {.is_there = 0};
    const struct rml_board_group none = {.is_there = 0};
    for (uint32_t i = 0; i < RML_LISTENERS_MAX; i++) {
        struct rml_board_member row;
        rml_board_member_read(board, i, &row);
        if (row.is_there != 0)
            rml_board_member_write(board, i, &nobody);
    }
    for (uint32_t i = 0; i < RML_GROUPS_MAX; i++) {
        struct rml_board_group row;
        rml_board_group_read(board, i, &row);
        if (groups->list[i].used)
            show(groups, i, board);
        else if (row.is_there != 0)
            rml_board_group_write(board, i, &none);
    }
}

void rml_groups_close(struct rml_groups *groups)
{
    for (uint32_t i = 0; i < RML_GROUPS_MAX; i++)
        if (groups->list[i].used)
            clear(&groups->list[i]);
}
