/*
 * mapped - fill the columns that a stage's expressions make, in the order written.
 */
#ifndef RML_OPERATORS_MAPPED_H
#define RML_OPERATORS_MAPPED_H

struct rml_batch;
struct rml_operator_env;

/* Evaluate the stage's mapped expressions over the batch into its frame, counting null answers. */
void rml_mapped_fill(const struct rml_operator_env *env, const struct rml_batch *batch);

#endif
