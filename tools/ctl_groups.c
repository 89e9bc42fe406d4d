#include <stdio.h>

#include "tools/commands.h"
#include "tools/ctl.h"
#include "tools/exit.h"
#include "tools/json.h"
#include "tools/table.h"

static void place_of(const struct rml_board *board, const struct rml_board_group *group, char *text,
                     size_t bytes)
{
    uint32_t stage = group->output / 2;
    snprintf(text, bytes, "%s%s", stage < board->head->stages ? board->stages[stage].name : "?",
             group->output % 2 != 0 ? ".late" : "");
}

/* As JSON */

static void json_members(struct rml_json *json, const struct rml_board *board, uint32_t group)
{
    rml_json_open(json, "members", '[');
    for (uint32_t i = 0; i < RML_BOARD_MEMBERS_MAX; i++) {
        struct rml_board_member member;
        rml_board_member_read(board, i, &member);
        if (member.is_there == 0 || member.group != group)
            continue;
        rml_json_open(json, NULL, '{');
        rml_json_unsigned(json, "pid", member.pid);
        rml_json_unsigned(json, "uid", member.uid);
        rml_json_text(json, "program", member.program);
        rml_json_unsigned(json, "taken", member.taken);
        rml_json_close(json, '}');
    }
    rml_json_close(json, ']');
}

static void json_one(struct rml_json *json, const struct rml_board *board, uint32_t index,
                     const struct rml_board_group *group)
{
    char place[RML_BOARD_NAME + 8];
    place_of(board, group, place, sizeof place);
    rml_json_open(json, NULL, '{');
    rml_json_text(json, "group", group->name);
    rml_json_text(json, "stage", place);
    rml_json_unsigned(json, "uid", group->uid);
    rml_json_unsigned(json, "waiting", group->waiting);
    rml_json_unsigned(json, "in_hand", group->in_hand);
    rml_json_unsigned(json, "taken", group->taken);
    rml_json_unsigned(json, "again", group->again);
    rml_json_unsigned(json, "acknowledged", group->done);
    rml_json_unsigned(json, "missed", group->missed);
    rml_json_unsigned(json, "expired", group->expired);
    rml_json_unsigned(json, "lost", group->lost);
    json_members(json, board, index);
    rml_json_close(json, '}');
}

static void print_json(const struct rml_view *view)
{
    struct rml_json json = {.out = stdout};
    rml_json_open(&json, NULL, '{');
    rml_json_text(&json, "schema", "ringctl.groups/1");
    rml_json_text(&json, "pipeline", view->pipeline);
    rml_json_open(&json, "groups", '[');
    for (uint32_t i = 0; i < RML_BOARD_GROUPS_MAX; i++) {
        struct rml_board_group group;
        rml_board_group_read(&view->board, i, &group);
        if (group.is_there != 0)
            json_one(&json, &view->board, i, &group);
    }
    rml_json_close(&json, ']');
    rml_json_close(&json, '}');
    printf("\n");
}

/* As text */

static void group_row(struct rml_table *table, const struct rml_board *board,
                      const struct rml_board_group *group)
{
    char place[RML_BOARD_NAME + 8];
    place_of(board, group, place, sizeof place);
    rml_table_row(table);
    rml_table_cell(table, "%s", group->name);
    rml_table_cell(table, "%s", place);
    if (group->lost > 0)
        rml_table_cell(table, "%u members, %u lost", group->members, group->lost);
    else
        rml_table_cell(table, "%u %s", group->members, group->members == 1 ? "member" : "members");
    rml_table_cell(table, "%s", "");
    rml_table_number(table, group->waiting);
    rml_table_number(table, group->in_hand);
    rml_table_number(table, group->taken);
    rml_table_number(table, group->again);
    rml_table_number(table, group->missed);
    rml_table_number(table, group->expired);
}

static void member_rows(struct rml_table *table, const struct rml_board *board, uint32_t group)
{
    for (uint32_t i = 0; i < RML_BOARD_MEMBERS_MAX; i++) {
        struct rml_board_member member;
        rml_board_member_read(board, i, &member);
        if (member.is_there == 0 || member.group != group)
            continue;
        rml_table_row(table);
        rml_table_cell(table, "%s", "");
        rml_table_cell(table, "%s", "");
        rml_table_cell(table, "%s", member.program);
        rml_table_number(table, member.pid);
        rml_table_cell(table, "%s", "");
        rml_table_cell(table, "%s", "");
        rml_table_number(table, member.taken);
    }
}

static int print_text(const struct rml_view *view)
{
    static const char *const columns[] = {"GROUP",    "STAGE",  "WHO",    ">PID",    ">WAITING",
                                          ">IN_HAND", ">TAKEN", ">AGAIN", ">MISSED", ">EXPIRED"};
    struct rml_table table;
    rml_table_begin(&table, columns, sizeof columns / sizeof columns[0]);
    uint32_t count = 0;
    for (uint32_t i = 0; i < RML_BOARD_GROUPS_MAX; i++) {
        struct rml_board_group group;
        rml_board_group_read(&view->board, i, &group);
        if (group.is_there == 0)
            continue;
        group_row(&table, &view->board, &group);
        member_rows(&table, &view->board, i);
        count++;
    }
    int rc = rml_table_end(&table, stdout);
    if (count == 0)
        printf("no group of subscribers shares rows of %s\n", view->pipeline);
    return rc < 0 ? RML_EXIT_FAILED : RML_EXIT_OK;
}

static int show(const struct rml_ctl *ctl, struct rml_view *view)
{
    if (!ctl->as_json)
        return print_text(view);
    print_json(view);
    return RML_EXIT_OK;
}

int rml_ctl_cmd_groups(int argc, char **argv)
{
    const struct rml_args args = {
        .usage = "ringctl groups [PIPELINE] [--json] [--timeout DURATION]",
        .sentence =
            "Show the groups of subscribers that share the rows of a ring, and the members of each: "
            "rows that nobody has taken yet (waiting), taken and not acknowledged (in hand), taken "
            "in all, and of these again, from a member that had died; rows that the ring overwrote "
            "before anybody took them (missed), and before they were acknowledged (expired). A "
            "member that is lost has hung up and lives: what it has stays its own.",
    };
    struct rml_ctl ctl = {0};
    return rml_ctl_run(&ctl, &args, argc, argv, show);
}
