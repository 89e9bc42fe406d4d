/*
 * count_window - windows of so many records of a key, in the order in which they arrive.
 */
#ifndef RML_OPERATORS_COUNT_WINDOW_H
#define RML_OPERATORS_COUNT_WINDOW_H

struct rml_operator_kind;

extern const struct rml_operator_kind rml_operator_count_window;

#endif
