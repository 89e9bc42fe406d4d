#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/err.h"
#include "runtime/control/claim.h"
#include "tools/commands.h"
#include "tools/ctl.h"
#include "tools/exit.h"
#include "tools/json.h"
#include "tools/pipelines.h"

/* What was done with one. */
struct cleaned {
    const char *name;
    uint32_t pid;
};

// Whoever takes the name may clear away what a dead one left under it: so take it, and give it back.
static int clean(const char *name, struct rml_err *err)
{
    struct rml_claim claim;
    int rc = rml_claim_open(&claim, name, err);
    if (rc == 0)
        rml_claim_close(&claim);
    return rc == -EBUSY ? 1 : rc;  // it came to life again
}

static void print(const struct rml_ctl *ctl, const struct cleaned *cleaned, uint32_t count)
{
    if (!ctl->as_json) {
        for (uint32_t i = 0; i < count; i++)
            printf("removed what pipeline %s left, whose process %u is dead\n", cleaned[i].name,
                   cleaned[i].pid);
        if (count == 0)
            printf("no dead pipeline left anything here\n");
        return;
    }
    struct rml_json json = {.out = stdout};
    rml_json_open(&json, NULL, '{');
    rml_json_text(&json, "schema", "ringctl.clean/1");
    rml_json_open(&json, "removed", '[');
    for (uint32_t i = 0; i < count; i++) {
        rml_json_open(&json, NULL, '{');
        rml_json_text(&json, "name", cleaned[i].name);
        rml_json_unsigned(&json, "pid", cleaned[i].pid);
        rml_json_close(&json, '}');
    }
    rml_json_close(&json, ']');
    rml_json_close(&json, '}');
    printf("\n");
}

#define CLEANED_MAX 256u

static int clean_all(const struct rml_ctl *ctl, const struct rml_pipelines *pipelines)
{
    struct cleaned cleaned[CLEANED_MAX];
    uint32_t count = 0;
    int code = RML_EXIT_OK;
    bool is_known = ctl->pipeline == NULL;
    for (uint32_t i = 0; i < pipelines->count && count < CLEANED_MAX; i++) {
        const struct rml_pipeline *one = &pipelines->list[i];
        bool is_meant = ctl->pipeline == NULL || strcmp(ctl->pipeline, one->name) == 0;
        is_known |= is_meant;
        if (is_meant && ctl->pipeline != NULL && one->rc == 0 && rml_claim_is_held(one->claim)) {
            fprintf(stderr, "ringctl: pipeline %s runs, as process %u\n", one->name, one->pid);
            code = RML_EXIT_FAILED;
        }
        if (!is_meant || one->rc != 0 || one->claim != RML_CLAIM_LEFT)
            continue;
        struct rml_err err = {0};
        int rc = clean(one->name, &err);
        if (rc < 0) {
            fprintf(stderr, "ringctl: pipeline %s: %s\n", one->name, err.text);
            code = RML_EXIT_FAILED;
        } else if (rc == 0) {
            cleaned[count++] = (struct cleaned){one->name, one->pid};
        }
    }
    if (!is_known) {
        fprintf(stderr, "ringctl: nothing is known here of a pipeline %s\n", ctl->pipeline);
        return RML_EXIT_NOT_RUNNING;
    }
    print(ctl, cleaned, count);
    return code;
}

int rml_ctl_cmd_clean(int argc, char **argv)
{
    const struct rml_args args = {
        .usage = "ringctl clean [PIPELINE] [--json] [--timeout DURATION]",
        .sentence =
            "Remove what pipelines whose processes are dead left in the run directory: socket, lock "
            "and folder. Checkpoints and files of sinks stay, and what runs is not touched. The next "
            "`ringmill run` of such a pipeline does the same by itself.",
        .words_most = 1,
    };
    struct rml_ctl ctl = {0};
    struct rml_pipelines pipelines;
    struct rml_err err = {0};
    int code;
    if (!rml_ctl_read(&ctl, &args, argc, argv, &code))
        return code;
    int rc = rml_pipelines_open(&pipelines, &err);
    if (rc < 0)
        return rml_ctl_fail(rc, err.text);
    code = clean_all(&ctl, &pipelines);
    rml_pipelines_close(&pipelines);
    return code;
}
