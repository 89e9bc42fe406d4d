#include "runtime/record/expr_lex.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/check.h"
#include "runtime/time/time.h"

#define NUMBER_MAX 400  // characters of a number; no double needs more to be told apart

int rml_expr_fail(struct rml_expr_error *error, uint32_t offset, uint32_t length, const char *hint,
                  const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    vsnprintf(error->text, sizeof error->text, fmt, args);
    va_end(args);
    snprintf(error->hint, sizeof error->hint, "%s", hint != NULL ? hint : "");
    error->offset = offset;
    error->length = length;
    return -EINVAL;
}

void rml_expr_hint_near(struct rml_expr_error *error, const char *name)
{
    snprintf(error->hint, sizeof error->hint, "did you mean %s?", name);
}

void rml_expr_hint_form(struct rml_expr_error *error, const char *form)
{
    snprintf(error->hint, sizeof error->hint, "write %s", form);
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

// Bytes beyond ASCII count as letters, so that "30µs" is one word and a stray umlaut one error.
static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (c & 0x80) != 0;
}

static char peek(const struct rml_expr_lexer *lexer, uint32_t ahead)
{
    if (lexer->length - lexer->at <= ahead)
        return '\0';
    return lexer->text[lexer->at + ahead];
}

static struct rml_expr_token token_until_here(enum rml_expr_token_kind kind,
                                              const struct rml_expr_lexer *lexer, uint32_t start)
{
    return (struct rml_expr_token){.kind = kind, .offset = start, .length = lexer->at - start};
}

static void skip_digits(struct rml_expr_lexer *lexer)
{
    while (is_digit(peek(lexer, 0)))
        lexer->at++;
}

static struct rml_expr_token lex_duration(const struct rml_expr_lexer *lexer, uint32_t start,
                                          struct rml_expr_error *error)
{
    struct rml_expr_token token = token_until_here(RML_EXPR_TOKEN_INTEGER, lexer, start);
    int64_t ns;
    int rc = rml_duration_parse(lexer->text + start, token.length, &ns);
    if (rc < 0) {
        token.kind = RML_EXPR_TOKEN_BAD;
        if (rc == -ERANGE)
            rml_expr_fail(error, start, token.length, NULL, "a duration of more than 292 years");
        else
            rml_expr_fail(error, start, token.length, "a duration ends in ns, us, ms, s, m, h or d",
                          "neither a number nor a duration");
        return token;
    }
    token.integer = (uint64_t)ns;
    return token;
}

static void read_number(const struct rml_expr_lexer *lexer, bool is_float,
                        struct rml_expr_token *token, struct rml_expr_error *error)
{
    char copy[NUMBER_MAX + 1];
    if (token->length > NUMBER_MAX) {
        rml_expr_fail(error, token->offset, token->length, NULL, "a number of more than %d digits",
                      NUMBER_MAX);
        token->kind = RML_EXPR_TOKEN_BAD;
        return;
    }
    memcpy(copy, lexer->text + token->offset, token->length);
    copy[token->length] = '\0';
    errno = 0;
    if (is_float)
        token->number = strtod(copy, NULL);
    else
        token->integer = strtoull(copy, NULL, 10);
    // a float too small to be told from zero is zero, one too large is nothing
    bool too_large = is_float ? isinf(token->number) : errno == ERANGE;
    if (too_large) {
        rml_expr_fail(error, token->offset, token->length,
                      is_float ? NULL : "write it with a decimal point to make it a float",
                      "a number too large for %s", is_float ? "f64" : "u64");
        token->kind = RML_EXPR_TOKEN_BAD;
    }
}

static struct rml_expr_token lex_number(struct rml_expr_lexer *lexer, struct rml_expr_error *error)
{
    uint32_t start = lexer->at;
    bool is_float = false;
    skip_digits(lexer);
    if (peek(lexer, 0) == '.' && is_digit(peek(lexer, 1))) {
        is_float = true;
        lexer->at++;
        skip_digits(lexer);
    }
    if (peek(lexer, 0) == 'e' || peek(lexer, 0) == 'E') {
        bool sign = peek(lexer, 1) == '-' || peek(lexer, 1) == '+';
        if (is_digit(peek(lexer, sign ? 2 : 1))) {
            is_float = true;
            lexer->at += sign ? 2 : 1;
            skip_digits(lexer);
        }
    }
    if (is_letter(peek(lexer, 0)) || peek(lexer, 0) == '.') {
        while (is_letter(peek(lexer, 0)) || is_digit(peek(lexer, 0)) || peek(lexer, 0) == '.')
            lexer->at++;
        return lex_duration(lexer, start, error);
    }
    struct rml_expr_token token =
        token_until_here(is_float ? RML_EXPR_TOKEN_FLOAT : RML_EXPR_TOKEN_INTEGER, lexer, start);
    read_number(lexer, is_float, &token, error);
    return token;
}

// No escapes: a string that holds one kind of quote is written with the other.
static struct rml_expr_token lex_string(struct rml_expr_lexer *lexer, struct rml_expr_error *error)
{
    uint32_t start = lexer->at;
    char quote = peek(lexer, 0);
    for (lexer->at++; lexer->at < lexer->length; lexer->at++) {
        char c = peek(lexer, 0);
        if (c == quote) {
            lexer->at++;
            return token_until_here(RML_EXPR_TOKEN_STRING, lexer, start);
        }
        if (c == '\0') {
            rml_expr_fail(error, lexer->at, 1, NULL, "a string cannot hold a NUL");
            return token_until_here(RML_EXPR_TOKEN_BAD, lexer, start);
        }
    }
    rml_expr_fail(error, start, lexer->length - start, NULL,
                  "the string does not end: %c is missing", quote);
    return token_until_here(RML_EXPR_TOKEN_BAD, lexer, start);
}

static bool starts_with(const struct rml_expr_lexer *lexer, const char *sign)
{
    size_t length = strlen(sign);
    return lexer->length - lexer->at >= length
           && memcmp(lexer->text + lexer->at, sign, length) == 0;
}

// Two-character signs stand before those that begin them.
static const char *const signs[] = {"==", "!=", "<=", ">=", "<", ">", "+",
                                    "-",  "*",  "/",  "%",  "(", ")", ","};

// What people write who come from other languages. Longer ones first, likewise.
static const struct {
    const char *sign, *hint;
} foreign[] = {
    {"&&", "write and"}, {"||", "write or"},
    {"&", "write and"},  {"|", "write or"},
    {"=", "write =="},   {"?", "write if(a, b, c)"},
    {"!", "write not"},  {"^", "write pow(a, b)"},
    {":", NULL},         {"`", "names need no quotes"},
    {"~", NULL},
};

static struct rml_expr_token lex_foreign(struct rml_expr_lexer *lexer, struct rml_expr_error *error)
{
    for (size_t i = 0; i < sizeof foreign / sizeof foreign[0]; i++) {
        if (!starts_with(lexer, foreign[i].sign))
            continue;
        uint32_t length = (uint32_t)strlen(foreign[i].sign);
        rml_expr_fail(error, lexer->at, length, foreign[i].hint, "%s is no operator here",
                      foreign[i].sign);
        return token_until_here(RML_EXPR_TOKEN_BAD, lexer, lexer->at);
    }
    unsigned char c = (unsigned char)lexer->text[lexer->at];
    if (c > ' ' && c < 0x7f)
        rml_expr_fail(error, lexer->at, 1, NULL, "%c means nothing here", c);
    else
        rml_expr_fail(error, lexer->at, 1, NULL, "a byte 0x%02x means nothing here", c);
    return token_until_here(RML_EXPR_TOKEN_BAD, lexer, lexer->at);
}

// "!x" is best answered with what to write for x.
static void hint_at_not(const struct rml_expr_lexer *lexer, struct rml_expr_error *error)
{
    uint32_t start = lexer->at + 1, end = start;
    while (end < lexer->length && (is_letter(lexer->text[end]) || is_digit(lexer->text[end])))
        end++;
    if (end > start && end - start <= RML_NAME_MAX)
        snprintf(error->hint, sizeof error->hint, "write not %.*s", (int)(end - start),
                 lexer->text + start);
}

struct rml_expr_token rml_expr_lex(struct rml_expr_lexer *lexer, struct rml_expr_error *error)
{
    while (lexer->at < lexer->length && strchr(" \t\r\n", lexer->text[lexer->at]) != NULL
           && lexer->text[lexer->at] != '\0')
        lexer->at++;
    uint32_t start = lexer->at;
    if (start == lexer->length)
        return token_until_here(RML_EXPR_TOKEN_END, lexer, start);

    char c = peek(lexer, 0);
    if (is_digit(c))
        return lex_number(lexer, error);
    if (c == '\'' || c == '"')
        return lex_string(lexer, error);
    if (is_letter(c)) {
        while (is_letter(peek(lexer, 0)) || is_digit(peek(lexer, 0)))
            lexer->at++;
        return token_until_here(RML_EXPR_TOKEN_NAME, lexer, start);
    }
    for (size_t i = 0; i < sizeof signs / sizeof signs[0]; i++) {
        if (starts_with(lexer, signs[i])) {
            lexer->at += (uint32_t)strlen(signs[i]);
            return token_until_here(RML_EXPR_TOKEN_SIGN, lexer, start);
        }
    }
    struct rml_expr_token token = lex_foreign(lexer, error);
    if (c == '!')
        hint_at_not(lexer, error);
    return token;
}
