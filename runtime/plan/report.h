/*
 * report - the errors of one pipeline file, collected while it is read.
 *
 * An error knows its place as a stretch of the file's bytes; lines and columns are counted once, at
 * the end, for the errors that are kept. Kept are the RML_PLAN_ERRORS_MAX that stand first in the
 * file, so a hostile file with a million errors costs no more than one with fifty.
 */
#ifndef RML_PLAN_REPORT_H
#define RML_PLAN_REPORT_H

#include "runtime/plan/plan.h"

struct rml_place {
    uint32_t offset;  // bytes from the start of the file
    uint32_t length;  // bytes; 0 counts as 1
};

struct rml_report_entry {
    struct rml_place place;
    char text[sizeof((struct rml_plan_error *)0)->text];
    char hint[sizeof((struct rml_plan_error *)0)->hint];
};

struct rml_report {
    uint32_t count, more;
    struct rml_report_entry list[RML_PLAN_ERRORS_MAX];
};

/* Add an error; `hint` may be NULL. Of two at one place the first added stands first. */
__attribute__((format(printf, 4, 5))) void rml_report_add(struct rml_report *report,
                                                          struct rml_place place, const char *hint,
                                                          const char *format, ...);

/* Turn what was collected into what a caller gets, with a copy of the file's text. -ENOMEM. */
int rml_report_finish(const struct rml_report *report, const char *source, size_t source_length,
                      struct rml_plan_errors *errors);

/* The place of a line and column, both from 1 and in characters; the end of the line beyond it. */
struct rml_place rml_report_place(const char *source, size_t source_length, uint32_t line,
                                  uint32_t column);

#endif
