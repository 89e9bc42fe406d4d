#include "runtime/base/rundir.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static int fitted(int length, size_t bytes)
{
    return length < 0 || (size_t)length >= bytes ? -ENAMETOOLONG : length;
}

int rml_rundir(char *path, size_t bytes)
{
    const char *set = getenv("RINGMILL_RUNDIR");
    if (set != NULL && set[0] != '\0')
        return fitted(snprintf(path, bytes, "%s", set), bytes);
    if (geteuid() == 0)
        return fitted(snprintf(path, bytes, "/run/ringmill"), bytes);
    const char *session = getenv("XDG_RUNTIME_DIR");
    if (session != NULL && session[0] != '\0')
        return fitted(snprintf(path, bytes, "%s/ringmill", session), bytes);
    return fitted(snprintf(path, bytes, "/tmp/ringmill-%u", (unsigned)geteuid()), bytes);
}

int rml_rundir_file(char *path, size_t bytes, const char *pipeline, const char *file)
{
    char dir[4096];
    int rc = rml_rundir(dir, sizeof dir);
    if (rc < 0)
        return rc;
    return fitted(snprintf(path, bytes, "%s/%s/%s", dir, pipeline, file), bytes);
}
