#include "tools/llm/tally.h"

#include <stddef.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>

int llm_tally_window(const struct llm_tally *tally, int64_t end_ns)
{
    int64_t after = end_ns - tally->first_end_ns;
    if (after < 0 || after % tally->window_ns != 0 || after / tally->window_ns >= LLM_WINDOWS_MAX)
        return -1;
    return (int)(after / tally->window_ns);
}

struct llm_tally *llm_tally_attach(const char *word)
{
    char *end;
    long fd = strtol(word, &end, 10);
    struct stat found;
    if (*word == '\0' || *end != '\0' || fstat((int)fd, &found) < 0
        || (size_t)found.st_size != sizeof(struct llm_tally))
        return NULL;
    void *memory =
        mmap(NULL, sizeof(struct llm_tally), PROT_READ | PROT_WRITE, MAP_SHARED, (int)fd, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

int64_t llm_monotonic_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}
