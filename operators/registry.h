/*
 * registry - the operators there are, as tables.
 *
 * The runtime has never heard of an operator: programs hand these tables to whoever reads pipeline
 * files (the functions) and to whoever sets partitions up (the operators).
 */
#ifndef RML_OPERATORS_REGISTRY_H
#define RML_OPERATORS_REGISTRY_H

struct rml_functions;
struct rml_operators;

/* The aggregate functions of pipeline files. */
const struct rml_functions *rml_operators_functions(void);

/* One operator for each kind of stage. */
const struct rml_operators *rml_operators_table(void);

#endif
