#include "runtime/control/reach.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/err.h"
#include "runtime/base/rundir.h"
#include "runtime/control/claim.h"
#include "runtime/plan/plan.h"

/* What all lists of a plan come to. */
struct lists {
    uint32_t users, groups;  // how many there are; groups that differ
    uint32_t group;          // the first
};

static void add(struct lists *lists, const struct rml_allow *allow)
{
    lists->users += allow->user_count;
    for (uint32_t i = 0; i < allow->group_count; i++) {
        if (lists->groups > 0 && allow->groups[i] == lists->group)
            continue;
        if (lists->groups++ == 0)
            lists->group = allow->groups[i];
    }
}

struct rml_reach rml_reach_of(const struct rml_plan *plan)
{
    struct lists lists = {0};
    add(&lists, &plan->view);
    add(&lists, &plan->control);
    for (uint32_t i = 0; i < plan->source_count; i++)
        add(&lists, &plan->sources[i].allow);
    for (uint32_t i = 0; i < plan->sink_count; i++)
        add(&lists, &plan->sinks[i].allow);
    return (struct rml_reach){.is_open = lists.users + lists.groups > 0,
                              .to_group = lists.users == 0 && lists.groups == 1,
                              .group = lists.group};
}

// Who may not give a file to a group that he is not in opens it to all: the gate asks everybody.
static int let_through(const struct rml_reach *reach, const char *path, mode_t group_mode,
                       mode_t all_mode, struct rml_err *err)
{
    bool is_given = reach->to_group && chown(path, (uid_t)-1, reach->group) == 0;
    if (chmod(path, is_given ? group_mode : all_mode) == 0)
        return 0;
    int rc = -errno;
    return RML_FAIL(err, rc, "cannot let others through to %s: %s", path, strerrordesc_np(-rc));
}

// The run directory is all pipelines': it is only ever opened, and only to be passed through.
static int open_rundir(const char *path, struct rml_err *err)
{
    struct stat is;
    if (stat(path, &is) == 0
        && ((is.st_mode & S_IXOTH) != 0 || chmod(path, (is.st_mode & 07777) | 0011) == 0))
        return 0;
    int rc = -errno;
    return RML_FAIL(err, rc,
                    "others are let in and cannot pass through %s (%s): make it searchable for "
                    "them, or set RINGMILL_RUNDIR",
                    path, strerrordesc_np(-rc));
}

// The folders above belong to others: say which of them keeps everybody out.
static void look_above(const char *rundir, char *ret_note, uint32_t note_bytes)
{
    char path[4096];
    snprintf(path, sizeof path, "%s", rundir);
    for (char *slash = strrchr(path, '/'); slash != NULL && slash != path;
         slash = strrchr(path, '/')) {
        *slash = '\0';
        struct stat is;
        if (stat(path, &is) < 0 || (is.st_mode & S_IXOTH) != 0)
            continue;
        snprintf(
            ret_note, note_bytes,
            "others are let in, and cannot come to the socket: only its owner may pass through "
            "%.200s; set RINGMILL_RUNDIR, here and for them, to a folder that they may pass "
            "through",
            path);
        return;
    }
}

int rml_reach_open(const struct rml_reach *reach, const struct rml_claim *claim, char *ret_note,
                   uint32_t note_bytes, struct rml_err *err)
{
    char rundir[4096];
    ret_note[0] = '\0';
    if (!reach->is_open)
        return 0;
    if (rml_rundir(rundir, sizeof rundir) < 0)
        return RML_FAIL(err, -ENAMETOOLONG, "the run directory's path is too long");
    int rc = let_through(reach, claim->socket, 0660, 0666, err);
    if (rc == 0)
        rc = let_through(reach, claim->lock, 0640, 0644, err);  // says whether it runs, and as what
    if (rc == 0)
        rc = let_through(reach, claim->folder, 0710, 0711, err);
    if (rc == 0)
        rc = open_rundir(rundir, err);
    if (rc == 0)
        look_above(rundir, ret_note, note_bytes);
    return rc;
}
