/*
 * doctor - what a host can do for a pipeline, what it cannot, and what can be done about that.
 *
 * Each look is one finding; nothing is changed, but for a file that is made and removed in a state
 * folder, to see how it would be written.
 */
#ifndef RML_TOOLS_DOCTOR_H
#define RML_TOOLS_DOCTOR_H

#include <stdint.h>

#include "runtime/control/board.h"
#include "runtime/plan/plan.h"

#define RML_DOCTOR_FINDINGS_MAX 64u

enum rml_doctor_level {
    RML_DOCTOR_OK,
    RML_DOCTOR_WARN,  // it runs, and could run better, or not for long
    RML_DOCTOR_BAD,   // it does not run, or not as promised
};

struct rml_doctor_finding {
    enum rml_doctor_level level;
    const char *about;  // "io_uring"
    char what[256];
    char advice[256];  // empty where nothing need be done
};

struct rml_doctor {
    uint32_t count;
    struct rml_doctor_finding findings[RML_DOCTOR_FINDINGS_MAX];
};

/* The machine: kernel, shared memory, limits, processors, clock, run directory. `plan` says how much of
 * that is needed; NULL: nobody knows. */
void rml_doctor_host(struct rml_doctor *doctor, const struct rml_plan *plan);

/* The folder of a state, that need not be there yet. */
void rml_doctor_folder(struct rml_doctor *doctor, const char *folder);

/* A pipeline that runs. */
void rml_doctor_board(struct rml_doctor *doctor, const struct rml_board *board);

enum rml_doctor_level rml_doctor_worst(const struct rml_doctor *doctor);

#endif
