/*
 * expectation - rows that a test expects of a stage, against those that came.
 *
 * An expected row names some fields, and the others do not matter; order does not matter either.
 * Each row that comes must meet an expected one of its own. Which one is a matching in a bipartite
 * graph (augmenting paths: H. W. Kuhn, "The Hungarian method for the assignment problem", 1955),
 * because an expected row that says little could otherwise take the row that another one needs.
 */
#ifndef RML_TOOLS_EXPECTATION_H
#define RML_TOOLS_EXPECTATION_H

#include <stdint.h>
#include <stdio.h>

struct rml_err;
struct rml_plan_test_list;
struct rml_plan_test_row;
struct rml_schema;

/* One row as the file says it: the fields that it names, read as the schema's types. */
struct rml_said_row {
    uint32_t line;
    uint64_t named;         // bit i: field i is named
    uint64_t null;          // likewise: and is null
    unsigned char *record;  // the values; what is not named is zero
};

/* Read a row of the file; -EINVAL with "LINE:COLUMN: field: what is wrong", -ENOMEM. Free its record. */
int rml_said_row_read(const struct rml_plan_test_row *row, const struct rml_schema *schema,
                      struct rml_said_row *ret_said, struct rml_err *err);

/*
 * Pair `said_count` expected rows with `came_count` rows of the schema: partner[i] becomes the index of
 * the row that meets said[i], or UINT32_MAX. As many as possible are paired; returns how many. Floats
 * meet when they differ by no more than one part in 10^9, since a file seldom has all their digits.
 * -ENOMEM.
 */
int64_t rml_expectation_match(const struct rml_schema *schema, const struct rml_said_row *said,
                              uint32_t said_count, const void *const *came, uint32_t came_count,
                              uint32_t *partner);

/* Print a row the way a test's file has it, those fields whose bit is in `named` alone. `null` has the
 * bits of the fields that are null. */
void rml_expectation_print(const struct rml_schema *schema, const void *record, uint64_t named,
                           uint64_t null, FILE *out);

/* The null bits of a row. */
uint64_t rml_expectation_nulls(const struct rml_schema *schema, const void *record);

#endif
