#include "runtime/control/fitting.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/err.h"
#include "runtime/base/suggest.h"
#include "runtime/checkpoint/vault.h"
#include "runtime/plan/identity.h"

#define LIFE_NOTE    "life"
#define STAGE_NOTE   "stage "
#define NAME_NOTE    "name"
#define THING_BYTES  120  // of one thing in which a part differs
#define CHANGE_BYTES (2 * THING_BYTES + 20)

/* What is found wrong, as one sentence: the list of stages to be given up is what is to be typed. */
struct fit {
    const struct rml_fitting_options *options;
    const struct rml_manifest *manifest;
    bool is_same_life;
    uint64_t renewed;
    char wrong[200];  // "stage a was changed, stage b is gone"
    char names[120];  // "a,b"
    char was[CHANGE_BYTES + RML_NAME_MAX + 4];
    struct rml_identity part;
};

static void put(char *text, size_t bytes, const char *between, const char *before, const char *name,
                const char *behind)
{
    size_t used = strlen(text);
    snprintf(text + used, bytes - used, "%s%s%s%s", used > 0 ? between : "", before, name, behind);
}

__attribute__((format(printf, 2, 3))) static void say(const struct fit *fit, const char *format,
                                                      ...)
{
    char sentence[300];
    va_list args;
    va_start(args, format);
    vsnprintf(sentence, sizeof sentence, format, args);
    va_end(args);
    if (fit->options->say != NULL && !fit->is_same_life)
        fit->options->say(fit->options->say_context, sentence);
}

static bool is_named(const struct fit *fit, const char *stage)
{
    for (uint32_t i = 0; !fit->is_same_life && i < fit->options->name_count; i++) {
        if (strcmp(fit->options->names[i], stage) == 0)
            return true;
    }
    return false;
}

static bool is_text(const struct rml_manifest_note *note, const char *text)
{
    return note->bytes == strlen(text) && memcmp(note->data, text, note->bytes) == 0;
}

// Of an identity, up to the comma: the thing that differs.
static int thing_bytes(const char *text, size_t bytes)
{
    size_t used = 0;
    while (used < bytes && used < THING_BYTES
           && !(text[used] == ',' && used + 1 < bytes && text[used + 1] == ' '))
        used++;
    return (int)used;
}

/* What of a part was changed first, as its identity has it: durations are in nanoseconds. */
static void say_change(const struct rml_manifest_note *note, const char *text, char *ret_change)
{
    const char *was = note->data;
    size_t was_bytes = note->bytes, bytes = strlen(text), same = 0, thing = 0;
    for (; same < was_bytes && same < bytes && was[same] == text[same]; same++) {
        if (same > 0 && was[same] == ' ' && was[same - 1] == ',')
            thing = same + 1;
    }
    if (same == was_bytes && same + 2 < bytes && text[same] == ',')
        snprintf(ret_change, CHANGE_BYTES, "has %.*s now",
                 thing_bytes(text + same + 2, bytes - same - 2), text + same + 2);
    else if (same == bytes && same + 2 < was_bytes && was[same] == ',')
        snprintf(ret_change, CHANGE_BYTES, "has no %.*s any more",
                 thing_bytes(was + same + 2, was_bytes - same - 2), was + same + 2);
    else
        snprintf(ret_change, CHANGE_BYTES, "had %.*s, and has %.*s",
                 thing_bytes(was + thing, was_bytes - thing), was + thing,
                 thing_bytes(text + thing, bytes - thing), text + thing);
}

/* Parts that are no stages: all or nothing. */

static int fit_whole(struct fit *fit, struct rml_err *err)
{
    const struct rml_plan *plan = fit->options->plan;
    for (uint32_t i = 0; i < 1 + plan->source_count; i++) {
        rml_identity_part(plan, i, &fit->part);
        const struct rml_manifest_note *note =
            rml_manifest_find_note(fit->manifest, fit->part.name);
        if (note == NULL && i > 0) {
            say(fit, "%s is new", fit->part.name);
            continue;
        }
        if (note != NULL && is_text(note, fit->part.text))
            continue;
        char change[CHANGE_BYTES] = "was of another version";
        if (note != NULL)
            say_change(note, fit->part.text, change);
        return RML_FAIL(err, -EINVAL,
                        "%s was changed and cannot use the state in %.100s: `ringmill run --fresh "
                        "%.100s` begins anew; it %s",
                        fit->part.name, fit->options->folder, plan->path, change);
    }
    return 0;
}

/* Stages of the file. */

static void refuse(struct fit *fit, const char *stage, const char *why)
{
    put(fit->wrong, sizeof fit->wrong, ", ", STAGE_NOTE, stage, why);
    put(fit->names, sizeof fit->names, ",", "", stage, "");
}

static void fit_stage(struct fit *fit, uint32_t stage)
{
    const struct rml_plan *plan = fit->options->plan;
    const char *name = plan->stages[stage].name;
    rml_identity_part(plan, 1 + plan->source_count + stage, &fit->part);
    const struct rml_manifest_note *note = rml_manifest_find_note(fit->manifest, fit->part.name);
    bool is_asked = is_named(fit, name);
    if (note == NULL) {
        say(fit, "stage %s is new: it begins empty", name);
    } else if (is_asked || !is_text(note, fit->part.text)) {
        if (!is_asked && rml_identity_holds_state(note->data, note->bytes)) {
            refuse(fit, name, " was changed");
            char change[CHANGE_BYTES];
            say_change(note, fit->part.text, change);
            if (fit->was[0] == '\0')
                snprintf(fit->was, sizeof fit->was, "; %s %s", name, change);
            return;
        }
        fit->renewed |= UINT64_C(1) << stage;
        say(fit, "stage %s begins empty", name);
    }
}

/* And those that are not in it any more. */

static void fit_old_stages(struct fit *fit)
{
    for (uint32_t i = 0; i < fit->manifest->note_count; i++) {
        const struct rml_manifest_note *note = &fit->manifest->notes[i];
        if (strncmp(note->name, STAGE_NOTE, strlen(STAGE_NOTE)) != 0)
            continue;
        const char *name = note->name + strlen(STAGE_NOTE);
        if (rml_plan_stage_find(fit->options->plan, name) != UINT32_MAX)
            continue;
        if (is_named(fit, name))
            say(fit, "stage %s is not in the file: its state is given up", name);
        else if (rml_identity_holds_state(note->data, note->bytes))
            refuse(fit, name, " is not in the file any more");
    }
}

static bool is_known(const struct fit *fit, const char *name)
{
    char note[RML_IDENTITY_NAME_BYTES];
    snprintf(note, sizeof note, STAGE_NOTE "%s", name);
    return rml_plan_stage_find(fit->options->plan, name) != UINT32_MAX
           || rml_manifest_find_note(fit->manifest, note) != NULL;
}

static int check_names(const struct fit *fit, struct rml_err *err)
{
    const struct rml_plan *plan = fit->options->plan;
    for (uint32_t i = 0; i < fit->options->name_count; i++) {
        const char *name = fit->options->names[i], *names[RML_STAGES_MAX];
        if (is_known(fit, name) || (fit->options->known >> i & 1) != 0)
            continue;
        for (uint32_t s = 0; s < plan->stage_count; s++)
            names[s] = plan->stages[s].name;
        const char *near = rml_suggest(name, strlen(name), names, plan->stage_count);
        return RML_FAIL(
            err, -EINVAL,
            "--fresh %s: there is no such stage, neither in the file nor in the state%s%s%s", name,
            near != NULL ? "; did you mean " : "", near != NULL ? near : "",
            near != NULL ? "?" : "");
    }
    return 0;
}

static bool is_of_life(const struct rml_manifest *manifest, uint64_t life)
{
    const struct rml_manifest_note *note = rml_manifest_find_note(manifest, LIFE_NOTE);
    return note != NULL && note->bytes == sizeof life
           && memcmp(note->data, &life, sizeof life) == 0;
}

// A pipeline may be renamed; but a file that was copied may have the other's folder by mistake.
static void say_name(const struct fit *fit)
{
    const struct rml_manifest_note *note = rml_manifest_find_note(fit->manifest, NAME_NOTE);
    if (note != NULL && !is_text(note, fit->options->plan->name))
        say(fit, "goes on with the state of pipeline %.*s, which was not drained",
            (int)(note->bytes < RML_NAME_MAX ? note->bytes : RML_NAME_MAX),
            (const char *)note->data);
}

static int fit_all(struct fit *fit, struct rml_err *err)
{
    const struct rml_plan *plan = fit->options->plan;
    int rc = check_names(fit, err);
    if (rc == 0)
        rc = fit_whole(fit, err);
    if (rc < 0)
        return rc;
    say_name(fit);
    for (uint32_t s = 0; s < plan->stage_count; s++)
        fit_stage(fit, s);
    fit_old_stages(fit);
    if (fit->wrong[0] == '\0')
        return 0;
    return RML_FAIL(
        err, -EINVAL,
        "%s, and the state in %.60s is of it: `ringmill run --fresh %s %.80s` gives that "
        "up and goes on with all else%s",
        fit->wrong, fit->options->folder, fit->names, plan->path, fit->was);
}

int rml_fit(const struct rml_fitting_options *options, const struct rml_manifest *manifest,
            uint64_t *ret_renewed, struct rml_err *err)
{
    struct fit *fit = calloc(1, sizeof *fit);
    if (fit == NULL)
        return RML_FAIL(err, -ENOMEM, "no memory");
    fit->options = options;
    fit->manifest = manifest;
    fit->is_same_life = is_of_life(manifest, options->life);
    int rc = fit_all(fit, err);
    *ret_renewed = fit->renewed;
    free(fit);
    return rc;
}

int rml_fit_note(const struct rml_plan *plan, uint64_t life, struct rml_vault *vault,
                 struct rml_err *err)
{
    struct rml_identity *part = malloc(sizeof *part);
    int rc = part != NULL ? 0 : RML_FAIL(err, -ENOMEM, "no memory");
    for (uint32_t i = 0; rc == 0 && i < rml_identity_count(plan); i++) {
        rml_identity_part(plan, i, part);
        rc = rml_vault_note(vault, part->name, part->text, (uint32_t)strlen(part->text), err);
    }
    free(part);
    if (rc == 0)
        rc = rml_vault_note(vault, NAME_NOTE, plan->name, (uint32_t)strlen(plan->name), err);
    return rc == 0 ? rml_vault_note(vault, LIFE_NOTE, &life, sizeof life, err) : rc;
}
