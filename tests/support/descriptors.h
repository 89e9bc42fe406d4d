/*
 * descriptors - how many this process has open, for claims that none is left behind.
 */
#ifndef RML_TESTS_DESCRIPTORS_H
#define RML_TESTS_DESCRIPTORS_H

#include <dirent.h>
#include <stdint.h>

#include "runtime/base/check.h"

/* With what it takes to count them: for comparing with another such number. */
static inline uint32_t descriptors_open(void)
{
    uint32_t count = 0;
    DIR *folder = opendir("/proc/self/fd");
    RML_CHECK(folder != NULL);
    while (readdir(folder) != NULL)
        count++;
    closedir(folder);
    return count;
}

#endif
