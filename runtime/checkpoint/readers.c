#include "runtime/checkpoint/readers.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct looking {
    uint32_t self;
    struct rml_readers readers;
};

/*
 * A line of LMDB's: process and thread, then the commit whose state is held, or "-" where none is. The first line is
 * a heading.
 */
static int take_line(const char *line, void *context)
{
    struct looking *looking = context;
    struct rml_readers *readers = &looking->readers;
    char *behind_pid, *behind_state;
    uint32_t pid = (uint32_t)strtoul(line, &behind_pid, 10);
    const char *third = strrchr(line, ' ');
    if (behind_pid == line || third == NULL || pid == looking->self)
        return 0;
    uint64_t state = strtoull(third + 1, &behind_state, 10);
    if (behind_state == third + 1)
        return 0;
    readers->count++;
    if (readers->pid == 0 || state < readers->state) {
        readers->pid = pid;
        readers->state = state;
    }
    return 0;
}

int rml_readers_look(MDB_env *env, struct rml_readers *ret_readers)
{
    MDB_envinfo about;
    struct looking looking = {.self = (uint32_t)getpid()};
    int rc = mdb_env_info(env, &about);
    if (rc == 0 && mdb_reader_list(env, take_line, &looking) < 0)
        rc = MDB_INVALID;
    if (rc != 0)
        return rc;
    *ret_readers = looking.readers;
    if (ret_readers->pid != 0 && ret_readers->state < about.me_last_txnid)
        ret_readers->behind = about.me_last_txnid - ret_readers->state;
    return 0;
}
