/*
 * fitting - whether a changed pipeline file can go on with a state, and with which stages of it.
 *
 * State is kept by stage. A stage that is as it was goes on; one that is new begins empty; one that was
 * changed or is not there any more would lose what it holds, so that has to be asked for by its name.
 */
#ifndef RML_CONTROL_FITTING_H
#define RML_CONTROL_FITTING_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/plan/plan.h"

struct rml_err;
struct rml_manifest;
struct rml_vault;

#define RML_FITTING_NAMES_MAX 64u

/* What may be given up, and by whom. */
struct rml_fitting_options {
    const struct rml_plan *plan;
    const char *folder;        // of the state, for sentences
    const char *const *names;  // stages whose state is given up, of the plan or of the state
    uint32_t name_count;
    /* By bit, of names: those that need not be found in the plan or the state. An engine of this life has found them,
     * or a table of that name was given up. */
    uint64_t known;
    /* Which life asks. What was given up is given up once: a state that this life has written fits as it
     * is, whatever the names say. */
    uint64_t life;
    /* Told which stages begin empty and which are given up; may be NULL. */
    void (*say)(void *context, const char *sentence);
    void *say_context;
};

/*
 * Compare. 0, and by bit which stages of the plan begin empty though the state has one of their name; or
 * -EINVAL and a sentence: which stage does not fit, and why, and what to type.
 */
int rml_fit(const struct rml_fitting_options *options, const struct rml_manifest *manifest,
            uint64_t *ret_renewed, struct rml_err *err);

/* Note in the checkpoint under way what it must fit later. 0, or as rml_vault_note. */
int rml_fit_note(const struct rml_plan *plan, uint64_t life, struct rml_vault *vault,
                 struct rml_err *err);

#endif
