/*
 * window - keyed tumbling and sliding windows over event time, cut into panes.
 */
#ifndef RML_OPERATORS_WINDOW_H
#define RML_OPERATORS_WINDOW_H

struct rml_operator_kind;

extern const struct rml_operator_kind rml_operator_window;

#endif
