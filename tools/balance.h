/*
 * balance - does every record that came leave by exactly one door?
 *
 *     source    published = taken + left in lanes,  taken = delivered + malformed + ahead
 *     stage     in = what the stage or source before it let out,  in = sum of its doors
 *
 * What a stage, or the one that it reads, counts of before the other began stands apart (fitting.h in
 * runtime/control): in + missed = let out + inherited.
 *
 * The figures come from the counters of an engine, in this process or in another.
 */
#ifndef RML_TOOLS_BALANCE_H
#define RML_TOOLS_BALANCE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "runtime/observe/counters.h"
#include "runtime/plan/plan.h"

struct rml_board;
struct rml_board_totals;
struct rml_json;

struct rml_balance_source {
    const char *name;
    bool from_file;            // then the next two say what the file held
    uint64_t lines;            // that were read
    uint64_t malformed_lines;  // of them; never seen by the engine
    uint64_t published;        // by producers, into lanes
    uint64_t dropped;          // by producers, because there was no room
    bool may_leave;  // it was stopped or runs: lanes may hold what is published, not taken
    uint64_t counts[RML_SOURCE_COUNTERS];
};

struct rml_balance_stage {
    const char *name;
    uint32_t source, from;  // indices; from is RML_NO_STAGE for a child of the source
    bool from_late;
    uint64_t counts[RML_STAGE_COUNTERS];
};

struct rml_balance {
    bool moving;  // an engine that runs: what does not add up may be on its way
    uint32_t source_count, stage_count;
    struct rml_balance_source sources[RML_SOURCES_MAX];
    struct rml_balance_stage stages[RML_STAGES_MAX];
};

/* Names and relations from the plan, which must outlive the balance; all counts zero. */
void rml_balance_init(struct rml_balance *balance, const struct rml_plan *plan);

/* The same from the board of an engine that may be another process; the board must outlive it. */
void rml_balance_init_board(struct rml_balance *balance, const struct rml_board *board);

/* Take an engine's counts. */
void rml_balance_fill(struct rml_balance *balance, const struct rml_board_totals *totals);

bool rml_balance_holds(const struct rml_balance *balance);

/* A line for each source and stage, and whether all adds up; the JSON as members of an object that the
 * caller has opened. */
void rml_balance_print(const struct rml_balance *balance, FILE *out);
void rml_balance_json(const struct rml_balance *balance, struct rml_json *json);

#endif
