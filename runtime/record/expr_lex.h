/*
 * expr_lex - an expression's text as tokens.
 */
#ifndef RML_RECORD_EXPR_LEX_H
#define RML_RECORD_EXPR_LEX_H

#include "runtime/record/expr.h"

enum rml_expr_token_kind {
    RML_EXPR_TOKEN_END,
    RML_EXPR_TOKEN_NAME,
    RML_EXPR_TOKEN_INTEGER,  // also a duration, as nanoseconds
    RML_EXPR_TOKEN_FLOAT,
    RML_EXPR_TOKEN_STRING,
    RML_EXPR_TOKEN_SIGN,  // an operator, a parenthesis or a comma: its text says which
    RML_EXPR_TOKEN_BAD,   // the error is filled
};

struct rml_expr_token {
    enum rml_expr_token_kind kind;
    uint32_t offset, length;  // in the text; of a STRING with its quotes
    uint64_t integer;         // INTEGER
    double number;            // FLOAT
};

struct rml_expr_lexer {
    const char *text;
    uint32_t length;
    uint32_t at;  // where the next token is looked for
};

/* The next token. END is returned again and again; after BAD, `error` says what is wrong. */
struct rml_expr_token rml_expr_lex(struct rml_expr_lexer *lexer, struct rml_expr_error *error);

/* Fill an error; the hint may be NULL. Returns -EINVAL. */
__attribute__((format(printf, 5, 6))) int rml_expr_fail(struct rml_expr_error *error,
                                                        uint32_t offset, uint32_t length,
                                                        const char *hint, const char *fmt, ...);

/* Make the error's hint "did you mean NAME?", or "write FORM". */
void rml_expr_hint_near(struct rml_expr_error *error, const char *name);
void rml_expr_hint_form(struct rml_expr_error *error, const char *form);

#endif
