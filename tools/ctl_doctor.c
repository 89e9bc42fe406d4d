#include <libgen.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "tools/commands.h"
#include "tools/ctl.h"
#include "tools/doctor.h"
#include "tools/exit.h"
#include "tools/json.h"
#include "tools/load.h"
#include "tools/table.h"

static struct rml_doctor doctor;

static const char *const levels[] = {
    [RML_DOCTOR_OK] = "ok", [RML_DOCTOR_WARN] = "warn", [RML_DOCTOR_BAD] = "bad"};

static int look_at_file(const char *path)
{
    int code;
    struct rml_plan *plan = rml_load_plan(path, &code);
    if (plan == NULL)
        return code;
    rml_doctor_host(&doctor, plan);
    if (plan->state != NULL) {
        char file[4096], folder[4096 + 256];
        snprintf(file, sizeof file, "%s", path);
        if (plan->state[0] == '/')
            snprintf(folder, sizeof folder, "%s", plan->state);
        else
            snprintf(folder, sizeof folder, "%s/%s", dirname(file), plan->state);
        rml_doctor_folder(&doctor, folder);
    }
    rml_plan_close(plan);
    return RML_EXIT_OK;
}

static int look_at_pipeline(const struct rml_ctl *ctl)
{
    struct rml_view view;
    int code = rml_ctl_open(ctl, &view);
    if (code != RML_EXIT_OK)
        return code;
    rml_doctor_host(&doctor, NULL);
    rml_doctor_board(&doctor, &view.board);
    if (view.board.head->state_folder[0] != '\0')
        rml_doctor_folder(&doctor, view.board.head->state_folder);
    rml_view_close(&view);
    return RML_EXIT_OK;
}

static int look(const struct rml_ctl *ctl)
{
    struct stat about;
    const char *word = ctl->pipeline;
    if (word == NULL) {
        rml_doctor_host(&doctor, NULL);
        return RML_EXIT_OK;
    }
    const char *dot = strrchr(word, '.');
    if (dot != NULL && (strcmp(dot, ".yaml") == 0 || strcmp(dot, ".yml") == 0))
        return look_at_file(word);
    if (strchr(word, '/') == NULL)
        return look_at_pipeline(ctl);
    if (stat(word, &about) == 0 && S_ISREG(about.st_mode))
        return look_at_file(word);
    rml_doctor_host(&doctor, NULL);
    rml_doctor_folder(&doctor, word);
    return RML_EXIT_OK;
}

static void print_json(void)
{
    struct rml_json json = {.out = stdout};
    rml_json_open(&json, NULL, '{');
    rml_json_text(&json, "schema", "ringctl.doctor/1");
    rml_json_text(&json, "worst", levels[rml_doctor_worst(&doctor)]);
    rml_json_open(&json, "findings", '[');
    for (uint32_t i = 0; i < doctor.count; i++) {
        const struct rml_doctor_finding *f = &doctor.findings[i];
        rml_json_open(&json, NULL, '{');
        rml_json_text(&json, "level", levels[f->level]);
        rml_json_text(&json, "about", f->about);
        rml_json_text(&json, "what", f->what);
        rml_json_text(&json, "advice", f->advice[0] != '\0' ? f->advice : NULL);
        rml_json_close(&json, '}');
    }
    rml_json_close(&json, ']');
    rml_json_close(&json, '}');
    printf("\n");
}

static void print_text(void)
{
    for (uint32_t i = 0; i < doctor.count; i++) {
        const struct rml_doctor_finding *f = &doctor.findings[i];
        printf("%-4s  %-16s %s\n", levels[f->level], f->about, f->what);
        if (f->advice[0] != '\0')
            printf("      %-16s = %s\n", "", f->advice);
    }
}

int rml_ctl_cmd_doctor(int argc, char **argv)
{
    const struct rml_args args = {
        .usage = "ringctl doctor [PIPELINE|FILE|FOLDER] [--json] [--timeout DURATION]",
        .sentence =
            "Look at this host: kernel, io_uring, limits, memory, processors, clock, the run "
            "directory and what dead pipelines left there. With a pipeline that runs, a pipeline "
            "file (.yaml) or the folder of a state (with a slash in it) look at that too, and at how "
            "its checkpoints are written. Each line is ok, warn or bad, with what to do; one that "
            "is bad exits 1.",
        .words_most = 1,
    };
    struct rml_ctl ctl = {0};
    int code;
    if (!rml_ctl_read(&ctl, &args, argc, argv, &code))
        return code;
    code = look(&ctl);
    if (code != RML_EXIT_OK)
        return code;
    if (ctl.as_json)
        print_json();
    else
        print_text();
    return rml_doctor_worst(&doctor) == RML_DOCTOR_BAD ? RML_EXIT_FAILED : RML_EXIT_OK;
}
