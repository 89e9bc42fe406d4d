/*
 * explain - what a plan comes to: figures that the file does not state but decides.
 *
 * Shared by the two faces of `ringmill explain`, text and JSON.
 */
#ifndef RML_TOOLS_EXPLAIN_H
#define RML_TOOLS_EXPLAIN_H

#include <stdint.h>
#include <stdio.h>

#include "runtime/plan/plan.h"

/* Bytes of one producer's rings, over all partitions. */
uint64_t rml_explain_lane_bytes(const struct rml_plan *plan, const struct rml_plan_source *source);

/* Panes of a key that can be open at once. */
uint64_t rml_explain_panes(const struct rml_plan *plan, const struct rml_plan_stage *stage);

/* The argument of an aggregate as the file means it: a column's name or an expression; may be "". */
void rml_explain_argument(const struct rml_plan *plan, const struct rml_plan_stage *stage,
                          const struct rml_plan_aggregate *aggregate, char *text, size_t bytes);

/* "per_second" or "per_second.late" */
void rml_explain_output(const struct rml_plan *plan, struct rml_plan_output output, char *text,
                        size_t bytes);

extern const char *const rml_explain_stage_kinds[];   // by enum rml_stage_kind
extern const char *const rml_explain_window_kinds[];  // by enum rml_window_kind
extern const char *const rml_explain_sink_kinds[];
extern const char *const rml_explain_when_full[];  // by enum rml_sink_kind

void rml_explain_text(const struct rml_plan *plan, FILE *out);
void rml_explain_json(const struct rml_plan *plan, FILE *out);

#endif
