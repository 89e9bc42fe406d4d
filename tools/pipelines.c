#include "tools/pipelines.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/err.h"
#include "runtime/base/rundir.h"
#include "runtime/base/suggest.h"

static int by_name(const void *a, const void *b)
{
    const struct rml_pipeline *first = a, *second = b;
    return strcmp(first->name, second->name);
}

static int add(struct rml_pipelines *pipelines, const char *name, struct rml_err *err)
{
    struct rml_pipeline one = {.rc = 0};
    memcpy(one.name, name, strlen(name));
    one.rc = rml_claim_look(name, &one.claim, &one.pid);
    if (one.rc == 0 && one.claim == RML_CLAIM_FREE)
        return 0;
    struct rml_pipeline *list =
        realloc(pipelines->list, (pipelines->count + 1) * sizeof *pipelines->list);
    if (list == NULL)
        return RML_FAIL(err, -ENOMEM, "no memory for a list of pipelines");
    pipelines->list = list;
    list[pipelines->count++] = one;
    return 0;
}

int rml_pipelines_open(struct rml_pipelines *pipelines, struct rml_err *err)
{
    *pipelines = (struct rml_pipelines){.count = 0};
    char path[4096];
    int rc = rml_rundir(path, sizeof path);
    if (rc < 0)
        return RML_FAIL(err, rc, "the run directory's path is too long");
    DIR *dir = opendir(path);
    if (dir == NULL) {
        rc = -errno;
        if (rc == -EACCES)
            return RML_FAIL(err, rc,
                            "only its owner may list %.100s; a pipeline whose file lets you look "
                            "at it is found by its name: ringctl status NAME",
                            path);
        return rc == -ENOENT ? 0 : RML_FAIL(err, rc, "%s: %s", path, strerrordesc_np(-rc));
    }
    rc = 0;
    const struct dirent *entry;
    // NOLINTNEXTLINE(concurrency-mt-unsafe): nobody else reads this stream
    while (rc == 0 && (entry = readdir(dir)) != NULL) {
        if (rml_wire_is_name(entry->d_name, RML_WIRE_NAME))
            rc = add(pipelines, entry->d_name, err);
    }
    closedir(dir);
    if (rc < 0)
        rml_pipelines_close(pipelines);
    else if (pipelines->count > 1)
        qsort(pipelines->list, pipelines->count, sizeof *pipelines->list, by_name);
    return rc;
}

void rml_pipelines_close(struct rml_pipelines *pipelines)
{
    free(pipelines->list);
    *pipelines = (struct rml_pipelines){.count = 0};
}

const char *rml_pipelines_near(const struct rml_pipelines *pipelines, const char *word)
{
    const char **names = calloc(pipelines->count + 1, sizeof *names);
    if (names == NULL)
        return NULL;
    uint32_t count = 0;
    for (uint32_t i = 0; i < pipelines->count; i++) {
        if (pipelines->list[i].rc == 0 && rml_claim_is_held(pipelines->list[i].claim))
            names[count++] = pipelines->list[i].name;
    }
    const char *near = rml_suggest(word, strlen(word), names, count);
    free(names);
    return near;
}
