/*
 * window - keyed tumbling and sliding windows over event time, cut into panes, and the global one.
 */
#ifndef RML_OPERATORS_WINDOW_H
#define RML_OPERATORS_WINDOW_H

struct rml_operator_kind;

extern const struct rml_operator_kind rml_operator_window;
extern const struct rml_operator_kind rml_operator_global_window;

#endif
