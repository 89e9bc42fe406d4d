/*
 * session - windows that last as long as a key's records go on, and end with a silence.
 */
#ifndef RML_OPERATORS_SESSION_H
#define RML_OPERATORS_SESSION_H

struct rml_operator_kind;

extern const struct rml_operator_kind rml_operator_session;

#endif
