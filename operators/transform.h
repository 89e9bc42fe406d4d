/*
 * transform - stages without memory: a filter narrows the selection, a map adds columns.
 */
#ifndef RML_OPERATORS_TRANSFORM_H
#define RML_OPERATORS_TRANSFORM_H

struct rml_operator_kind;

extern const struct rml_operator_kind rml_operator_filter, rml_operator_map;

#endif
