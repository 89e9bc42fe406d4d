/*
 * groups - readers in other processes that share the rows of an output, as the server knows them.
 *
 * A group has a name of its own for each output, and belongs to one user. Its members write one segment, of
 * which the engine believes nothing, and map another, in which the engine says who is a member and who
 * is proved gone (runtime/ring/group.h, runtime/ring/roster.h). A group outlives its members and engines; it ends
 * with the pipeline, or when another needs its place and it has no member.
 */
#ifndef RML_CONTROL_GROUPS_H
#define RML_CONTROL_GROUPS_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/control/board.h"
#include "runtime/control/subscribers.h"
#include "runtime/ring/roster.h"

struct rml_err;
struct rml_keeping;

#define RML_GROUPS_MAX RML_BOARD_GROUPS_MAX

struct rml_groups {
    struct rml_subscribers *subscribers;
    struct rml_keeping *keeping;  // NULL: there is no keeper

    struct rml_group_of {
        bool used;
        uint32_t output, uid;
        char name[RML_WIRE_NAME];
        struct rml_segment memory;  // members write
        struct rml_segment roster;  // we do
        uint64_t turn;              // when it was last left, counted over all groups

        struct rml_group_member {
            bool used;
            bool is_lost;           // it hung up, and lives
            uint32_t subscription;  // its number, while it is not lost
            uint32_t pid, uid;
            char program[RML_WIRE_NAME];
        } members[RML_ROSTER_MEMBERS_MAX];
    } list[RML_GROUPS_MAX];

    uint64_t turn;
};

/* Who joins: one whose subscription is there. */
struct rml_groups_peer {
    uint32_t subscription;
    uint32_t pid, uid;
    bool is_ours;  // the engine's user, or root
    const char *program;
};

/* There are none yet. Both outlive the groups. */
void rml_groups_open(struct rml_groups *groups, struct rml_subscribers *subscribers,
                     struct rml_keeping *keeping);

/* Of an engine that follows one that died: go on with the groups that are kept. One that cannot be is let go of,
 * and its members with it. */
void rml_groups_again(struct rml_groups *groups);

/*
 * Take somebody into the group of that name, which is made if need be, and then begins with the oldest row that is
 * there or with the next one. 0, the group's number and the member's; -EACCES: it is another user's; -EMFILE: there
 * are as many groups, or members, as there can be; others; with a sentence.
 */
int rml_groups_join(struct rml_groups *groups, const struct rml_groups_peer *peer, const char *name,
                    bool from_oldest, uint32_t *ret_group, uint32_t *ret_member,
                    struct rml_err *err);

/* Likewise one that an engine had taken in which died. False: there is no such member. */
bool rml_groups_join_again(struct rml_groups *groups, const struct rml_groups_peer *peer,
                           uint32_t group, uint32_t member);

/* All that were to come again have: who has not is gone. */
void rml_groups_rest(struct rml_groups *groups);

/* Send MEMBERSHIP over `socket`. As rml_wire_send. */
int rml_groups_offer(const struct rml_groups *groups, uint32_t number, uint32_t member, int socket);

/* The member has hung up, and it is not known that it is gone: it keeps what it has. */
void rml_groups_lose(struct rml_groups *groups, uint32_t group, uint32_t member);

/* It is gone, for sure: what it has goes to the others, who are told. */
void rml_groups_leave(struct rml_groups *groups, uint32_t number, uint32_t member);

/* Bring the board's rows up to date. */
void rml_groups_show(const struct rml_groups *groups, struct rml_board *board);

/* Close what this process has of them. Accepts those of zeros. */
void rml_groups_close(struct rml_groups *groups);

#endif
