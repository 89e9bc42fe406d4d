/*
 * plan - pipeline files for tests: a short head to write stages behind, and good files' plans.
 */
#ifndef RML_TESTS_PLAN_H
#define RML_TESTS_PLAN_H

#include <string.h>

#include "runtime/plan/plan.h"
#include "tests/support/functions.h"
#include "tests/support/test.h"

#define PLAN_HEAD                                                                           \
 "version: 1\n"                                                                             \
 "pipeline: llm\n"                                                                          \
 "schema: {call: {ts: time_ns, model: str16, status: u16, latency_ms: f32, tokens: u32}}\n" \
 "sources: {calls: {schema: call, event_time: ts, out_of_order: 200ms}}\n"

/* The plan of a file that is good. */
static inline struct rml_plan *plan_of(const char *text)
{
    struct rml_plan *plan = NULL;
    struct rml_plan_errors errors;
    int rc =
        rml_plan_parse(text, strlen(text), "test.yaml", plan_functions(), &plan, &errors, NULL);
    for (uint32_t i = 0; i < errors.count; i++)
        print_error("%u:%u: %s (%s)\n", errors.list[i].line, errors.list[i].column,
                    errors.list[i].text, errors.list[i].hint);
    assert_int_equal(rc, 0);
    return plan;
}

#endif
