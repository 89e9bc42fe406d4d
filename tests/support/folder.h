/*
 * folder - a folder of a test's own, in `where`, removed with what is in it.
 */
#ifndef RML_TESTS_FOLDER_H
#define RML_TESTS_FOLDER_H

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/test.h"

struct folder {
    char path[64];
};

static inline struct folder folder_make(const char *where)
{
    struct folder folder;
    snprintf(folder.path, sizeof folder.path, "%s/unit-test-XXXXXX", where);
    assert_non_null(mkdtemp(folder.path));
    return folder;
}

/* The path of a file in it; valid until the fourth call after. */
static inline const char *folder_file(const struct folder *folder, const char *name)
{
    static char paths[4][128];
    static unsigned turn;
    char *path = paths[turn++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", folder->path, name);
    return path;
}

/* Remove the files in it. */
static inline void folder_empty(const struct folder *folder)
{
    DIR *files = opendir(folder->path);
    if (files == NULL)
        return;
    for (struct dirent *file; (file = readdir(files)) != NULL;)
        unlinkat(dirfd(files), file->d_name, 0);
    closedir(files);
}

static inline void folder_remove(const struct folder *folder)
{
    folder_empty(folder);
    rmdir(folder->path);
}

#endif
