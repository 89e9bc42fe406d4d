#include "runtime/plan/plan.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/check.h"
#include "runtime/base/err.h"
#include "runtime/plan/reader.h"

#define LOG_CELLS 4096u  // enough for two steps of a worker

/* A plan and the memory that it and all it points at lie in. */
struct whole {
    struct rml_plan plan;
    struct rml_arena arena;
};

static struct rml_plan *plan_open(void)
{
    struct rml_arena arena;
    if (rml_arena_open(&arena) < 0)
        return NULL;
    struct whole *whole = rml_arena_give(&arena, 1, sizeof *whole);
    struct rml_plan *plan = &whole->plan;
    plan->sources = rml_arena_give(&arena, RML_SOURCES_MAX, sizeof *plan->sources);
    plan->stages = rml_arena_give(&arena, RML_STAGES_MAX, sizeof *plan->stages);
    plan->sinks = rml_arena_give(&arena, RML_SINKS_MAX, sizeof *plan->sinks);
    plan->defaults = rml_arena_give(&arena, RML_DEFAULTS_MAX, sizeof *plan->defaults);
    whole->arena = arena;
    return plan;
}

static struct rml_arena *plan_arena(struct rml_plan *plan)
{
    return &((struct whole *)plan)->arena;
}

void rml_plan_close(struct rml_plan *plan)
{
    if (plan == NULL)
        return;
    for (uint32_t i = 0; i < plan->stage_count; i++) {
        rml_expr_free(plan->stages[i].filter);
        for (uint32_t m = 0; m < plan->stages[i].mapped_count; m++)
            rml_expr_free(plan->stages[i].mapped[m].expr);
    }
    for (uint32_t i = 0; i < plan->plugin_count; i++)
        rml_library_close(&plan->plugins[i].library);
    struct rml_arena arena = *plan_arena(plan);  // the plan lies in what it closes
    rml_arena_close(&arena);
}

static void read_header(struct rml_reader *reader, const struct rml_values *file)
{
    int64_t version = 0;
    rml_reader_number(reader, file, RML_SET_FILE_VERSION, &version);
    const struct rml_yaml_node *name = rml_reader_scalar(reader, file, RML_SET_FILE_PIPELINE);
    if (name != NULL && rml_reader_name(reader, name, "pipeline"))
        snprintf(reader->plan->name, sizeof reader->plan->name, "%s", name->text);
}

static void read_file(struct rml_reader *reader, const struct rml_yaml_node *root,
                      struct rml_arena *scratch)
{
    reader->schemas = rml_arena_give(scratch, RML_SCHEMAS_MAX, sizeof *reader->schemas);
    reader->sources = rml_arena_give(scratch, RML_SOURCES_MAX, sizeof *reader->sources);
    reader->stages = rml_arena_give(scratch, RML_STAGES_MAX, sizeof *reader->stages);
    reader->lost = rml_arena_give(scratch, RML_LOST_MAX, sizeof *reader->lost);
    struct rml_values file;
    if (!rml_reader_section(reader, RML_SECTION_FILE, root, root->place, NULL, &file))
        return;
    read_header(reader, &file);
    rml_read_runtime(reader, &file);
    rml_read_plugins(reader, &file);
    rml_read_schemas(reader, &file);
    rml_read_sources(reader, &file);
    rml_read_stages(reader, &file);
    rml_read_sinks(reader, &file);
    rml_read_tests(reader, &file);
    rml_resolve_readers(reader);
    rml_resolve_partition_keys(reader);
}

int rml_plan_parse(const char *text, size_t length, const char *path,
                   const struct rml_functions *functions, struct rml_plan **ret_plan,
                   struct rml_plan_errors *errors, struct rml_err *err)
{
    *errors = (struct rml_plan_errors){0};
    if (length > RML_YAML_BYTES_MAX)
        return RML_FAIL(err, -EFBIG, "%s: a pipeline file has at most 1 MiB", path);

    int rc = -ENOMEM;
    struct rml_arena scratch = {0};
    struct rml_report *report = calloc(1, sizeof *report);
    struct rml_plan *plan = plan_open();
    if (report == NULL || plan == NULL || rml_arena_open(&scratch) < 0)
        goto done;
    plan->path = rml_arena_text(plan_arena(plan), path, strlen(path));

    plan->functions = *functions;
    struct rml_reader reader = {.report = report, .arena = plan_arena(plan), .plan = plan};
    const struct rml_yaml_node *root = rml_yaml_read(text, length, &scratch, report);
    if (root != NULL)
        read_file(&reader, root, &scratch);
    if (report->count > 0) {
        rc = rml_report_finish(report, text, length, errors);
        if (rc == 0)
            rc = RML_FAIL(err, -EINVAL, "%s: %u errors", path, report->count + report->more);
        goto done;
    }
    rml_resolve_grids(plan);
    *ret_plan = plan;
    plan = NULL;
    rc = 0;

done:
    if (rc == -ENOMEM)
        rml_err_set(err, rc, "%s: no memory to read it", path);
    rml_arena_close(&scratch);
    rml_plan_close(plan);
    free(report);
    return rc;
}

static int read_all(int fd, char *text, size_t bytes, size_t *ret_length)
{
    size_t length = 0;
    while (length < bytes) {
        ssize_t got = read(fd, text + length, bytes - length);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -errno;
        if (got == 0)
            break;
        length += (size_t)got;
    }
    *ret_length = length;
    return 0;
}

int rml_plan_load(const char *path, const struct rml_functions *functions,
                  struct rml_plan **ret_plan, struct rml_plan_errors *errors, struct rml_err *err)
{
    *errors = (struct rml_plan_errors){0};
    bool standard_input = strcmp(path, "-") == 0;
    int fd = standard_input ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return RML_FAIL(err, -errno, "%s: %s", path, strerrordesc_np(errno));

    size_t room = RML_YAML_BYTES_MAX + 1, length = 0;  // one more, to see that it is too large
    char *text = malloc(room);
    int rc = text != NULL ? read_all(fd, text, room, &length) : -ENOMEM;
    if (rc < 0)
        rml_err_set(err, rc, "%s: %s", path, strerrordesc_np(-rc));
    else
        rc = rml_plan_parse(text, length, standard_input ? "standard input" : path, functions,
                            ret_plan, errors, err);
    free(text);
    if (!standard_input)
        close(fd);
    return rc;
}

void rml_plan_errors_fini(struct rml_plan_errors *errors)
{
    free(errors->list);
    free(errors->source);
    *errors = (struct rml_plan_errors){0};
}

uint64_t rml_plan_pane_bytes(const struct rml_plan_stage *stage)
{
    uint64_t bytes = 16;  // the pane's own two words
    for (uint32_t a = 0; a < stage->aggregate_count; a++)
        bytes += stage->aggregates[a].state_bytes;
    return bytes;
}

uint32_t rml_plan_log_cells(const struct rml_plan *plan, const struct rml_plan_source *source)
{
    return plan->state != NULL || source->cells < LOG_CELLS ? source->cells : LOG_CELLS;
}

uint32_t rml_plan_source_find(const struct rml_plan *plan, const char *name)
{
    for (uint32_t i = 0; i < plan->source_count; i++)
        if (strcmp(plan->sources[i].name, name) == 0)
            return i;
    return UINT32_MAX;
}

uint32_t rml_plan_stage_find(const struct rml_plan *plan, const char *name)
{
    for (uint32_t i = 0; i < plan->stage_count; i++)
        if (strcmp(plan->stages[i].name, name) == 0)
            return i;
    return UINT32_MAX;
}
