#include "runtime/record/expr_parse.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/check.h"
#include "runtime/base/suggest.h"
#include "runtime/record/expr_lex.h"

struct parser {
    struct rml_expr_lexer lexer;
    struct rml_expr_token token;  // the one looked at
    uint32_t last_end;            // where the one before it ended
    const uint64_t *visible;
    struct rml_expr_tree *tree;
    uint32_t nesting;
};

static uint32_t parse_or(struct parser *parser);

static void advance(struct parser *parser)
{
    parser->last_end = parser->token.offset + parser->token.length;
    parser->token = rml_expr_lex(&parser->lexer, parser->tree->error);
}

static bool at(const struct parser *parser, enum rml_expr_token_kind kind, const char *text)
{
    return parser->token.kind == kind && parser->token.length == strlen(text)
           && memcmp(parser->lexer.text + parser->token.offset, text, parser->token.length) == 0;
}

static bool at_sign(const struct parser *parser, const char *sign)
{
    return at(parser, RML_EXPR_TOKEN_SIGN, sign);
}

static bool at_word(const struct parser *parser, const char *word)
{
    return at(parser, RML_EXPR_TOKEN_NAME, word);
}

// From `offset` to the end of what was read last.
static struct rml_expr_span span_from(const struct parser *parser, uint32_t offset)
{
    return (struct rml_expr_span){offset, parser->last_end - offset};
}

static uint32_t fail(struct parser *parser, const char *hint, const char *what)
{
    const struct rml_expr_token *token = &parser->token;
    if (token->kind == RML_EXPR_TOKEN_BAD)
        return RML_EXPR_NO_NODE;  // the lexer has said it already
    if (token->kind == RML_EXPR_TOKEN_END) {
        rml_expr_fail(parser->tree->error, token->offset, 0, hint, "%s, but the expression ends",
                      what);
    } else {
        rml_expr_fail(parser->tree->error, token->offset, token->length, hint, "%s, got %.*s", what,
                      (int)(token->length < 60 ? token->length : 60),
                      parser->lexer.text + token->offset);
    }
    return RML_EXPR_NO_NODE;
}

// Every way for the parser to call itself passes here, so that no text can exhaust the stack.
static bool descend(struct parser *parser)
{
    if (parser->nesting < RML_EXPR_NESTING_MAX) {
        parser->nesting++;
        return true;
    }
    rml_expr_fail(parser->tree->error, parser->token.offset, parser->token.length, NULL,
                  "nested more than %d deep", RML_EXPR_NESTING_MAX);
    return false;
}

static bool is_visible(const struct parser *parser, uint32_t column)
{
    return parser->visible == NULL || (parser->visible[column / 64] >> (column % 64) & 1) != 0;
}

static uint32_t find_column(const struct parser *parser, const char *name, uint32_t length)
{
    const struct rml_frame *frame = parser->tree->frame;
    for (uint32_t i = 0; i < frame->column_count; i++) {
        if (is_visible(parser, i) && strlen(frame->columns[i].name) == length
            && memcmp(frame->columns[i].name, name, length) == 0)
            return i;
    }
    return RML_FIELD_ABSENT;
}

static uint32_t fail_unknown_name(struct parser *parser, struct rml_expr_span span)
{
    static const char *const words[] = {"not", "true", "false", "null"};
    const char *names[RML_COLUMNS_MAX + sizeof words / sizeof words[0]];
    const struct rml_frame *frame = parser->tree->frame;
    uint32_t count = 0;
    for (uint32_t i = 0; i < frame->column_count; i++) {
        if (is_visible(parser, i))
            names[count++] = frame->columns[i].name;
    }
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        names[count++] = words[i];

    const char *name = parser->lexer.text + span.offset;
    rml_expr_fail(parser->tree->error, span.offset, span.length, NULL, "no column is named %.*s",
                  (int)(span.length < 100 ? span.length : 100), name);
    const char *near = rml_suggest(name, span.length, names, count);
    if (near != NULL)
        rml_expr_hint_near(parser->tree->error, near);
    return RML_EXPR_NO_NODE;
}

// What YAML leaves of a call with several arguments.
#define NEEDS_QUOTES "between braces, what has a comma in it needs quotes"

static uint32_t parse_call(struct parser *parser, struct rml_expr_span name)
{
    uint32_t args[RML_EXPR_CALL_ARGS_MAX];
    uint32_t count = 0;
    advance(parser);  // the parenthesis
    while (!at_sign(parser, ")")) {
        bool at_end = parser->token.kind == RML_EXPR_TOKEN_END;
        if (count > 0 && !at_sign(parser, ","))
            return fail(parser, count == 1 && at_end ? NEEDS_QUOTES : NULL, "expected , or )");
        if (count > 0)
            advance(parser);
        if (count == RML_EXPR_CALL_ARGS_MAX)
            return fail(parser, NULL, "too many arguments");
        args[count] = parse_or(parser);
        if (args[count++] == RML_EXPR_NO_NODE)
            return RML_EXPR_NO_NODE;
    }
    advance(parser);
    return rml_expr_call(parser->tree, name, span_from(parser, name.offset),
                         parser->lexer.text + name.offset, name.length, args, count);
}

static uint32_t parse_name(struct parser *parser)
{
    struct rml_expr_span span = {parser->token.offset, parser->token.length};
    static const union rml_expr_cell truth[] = {{.b = 0}, {.b = 1}};
    bool is_true = at_word(parser, "true");
    if (is_true || at_word(parser, "false")) {
        advance(parser);
        return rml_expr_const(parser->tree, span, RML_BOOL, truth[is_true]);
    }
    if (at_word(parser, "null")) {
        advance(parser);
        return rml_expr_null(parser->tree, span);
    }
    if (at_word(parser, "and") || at_word(parser, "or") || at_word(parser, "not"))
        return fail(parser, NULL, "expected a value");
    advance(parser);
    if (at_sign(parser, "("))
        return parse_call(parser, span);
    uint32_t column = find_column(parser, parser->lexer.text + span.offset, span.length);
    if (column == RML_FIELD_ABSENT)
        return fail_unknown_name(parser, span);
    return rml_expr_column(parser->tree, span, column);
}

static uint32_t parse_number(struct parser *parser)
{
    struct rml_expr_token token = parser->token;
    struct rml_expr_span span = {token.offset, token.length};
    advance(parser);
    if (token.kind == RML_EXPR_TOKEN_FLOAT)
        return rml_expr_const(parser->tree, span, RML_F64,
                              (union rml_expr_cell){.f = token.number});
    enum rml_type type = token.integer <= INT64_MAX ? RML_I64 : RML_U64;
    return rml_expr_const(parser->tree, span, type, (union rml_expr_cell){.u = token.integer});
}

static uint32_t parse_string(struct parser *parser)
{
    struct rml_expr_token token = parser->token;
    struct rml_expr_span span = {token.offset, token.length};
    union rml_expr_cell cell = {.words = {0}};
    uint32_t length = token.length - 2;
    if (length > sizeof cell.string) {
        rml_expr_fail(parser->tree->error, token.offset, token.length, NULL,
                      "a string of %u bytes: the longest type, str64, has 64", length);
        return RML_EXPR_NO_NODE;
    }
    memcpy(cell.string, parser->lexer.text + token.offset + 1, length);
    advance(parser);
    enum rml_type type = length <= 8    ? RML_STR8
                         : length <= 16 ? RML_STR16
                         : length <= 32 ? RML_STR32
                                        : RML_STR64;
    return rml_expr_const(parser->tree, span, type, cell);
}

static uint32_t parse_primary(struct parser *parser)
{
    switch (parser->token.kind) {
    case RML_EXPR_TOKEN_NAME:
        return parse_name(parser);
    case RML_EXPR_TOKEN_INTEGER:
    case RML_EXPR_TOKEN_FLOAT:
        return parse_number(parser);
    case RML_EXPR_TOKEN_STRING:
        return parse_string(parser);
    case RML_EXPR_TOKEN_SIGN:
    case RML_EXPR_TOKEN_END:
    case RML_EXPR_TOKEN_BAD:
        break;
    }
    if (!at_sign(parser, "("))
        return fail(parser, NULL, "expected a value");
    advance(parser);
    uint32_t inner = parse_or(parser);
    if (inner == RML_EXPR_NO_NODE)
        return inner;
    if (!at_sign(parser, ")"))
        return fail(parser, NULL, "expected )");
    advance(parser);
    return inner;
}

static uint32_t parse_unary(struct parser *parser)
{
    if (!at_sign(parser, "-"))
        return parse_primary(parser);
    uint32_t start = parser->token.offset;
    if (!descend(parser))
        return RML_EXPR_NO_NODE;
    advance(parser);
    uint32_t inner = parse_unary(parser);
    parser->nesting--;
    if (inner == RML_EXPR_NO_NODE)
        return inner;
    return rml_expr_negate(parser->tree, span_from(parser, start), inner);
}

static uint32_t parse_product(struct parser *parser)
{
    uint32_t start = parser->token.offset;
    uint32_t left = parse_unary(parser);
    while (left != RML_EXPR_NO_NODE) {
        bool divide = at_sign(parser, "/"), times = at_sign(parser, "*");
        if (!divide && !times && !at_sign(parser, "%"))
            break;
        advance(parser);
        uint32_t right = parse_unary(parser);
        if (right == RML_EXPR_NO_NODE)
            return right;
        struct rml_expr_span span = span_from(parser, start);
        left = divide ? rml_expr_divide(parser->tree, span, left, right)
                      : rml_expr_arithmetic(parser->tree, span, times ? RML_EXPR_MUL : RML_EXPR_MOD,
                                            left, right);
    }
    return left;
}

static uint32_t parse_sum(struct parser *parser)
{
    uint32_t start = parser->token.offset;
    uint32_t left = parse_product(parser);
    while (left != RML_EXPR_NO_NODE && (at_sign(parser, "+") || at_sign(parser, "-"))) {
        enum rml_expr_arithmetic what = at_sign(parser, "+") ? RML_EXPR_ADD : RML_EXPR_SUB;
        advance(parser);
        uint32_t right = parse_product(parser);
        if (right == RML_EXPR_NO_NODE)
            return right;
        left = rml_expr_arithmetic(parser->tree, span_from(parser, start), what, left, right);
    }
    return left;
}

static bool at_comparison(const struct parser *parser, enum rml_expr_comparison *ret_what)
{
    static const char *const comparisons[] = {
        [RML_EXPR_EQ] = "==", [RML_EXPR_NE] = "!=", [RML_EXPR_LT] = "<",
        [RML_EXPR_LE] = "<=", [RML_EXPR_GT] = ">",  [RML_EXPR_GE] = ">=",
    };
    for (unsigned int i = 0; i < sizeof comparisons / sizeof comparisons[0]; i++) {
        if (at_sign(parser, comparisons[i])) {
            *ret_what = (enum rml_expr_comparison)i;
            return true;
        }
    }
    return false;
}

static uint32_t parse_comparison(struct parser *parser)
{
    uint32_t start = parser->token.offset;
    uint32_t left = parse_sum(parser);
    enum rml_expr_comparison what, again;
    if (left == RML_EXPR_NO_NODE || !at_comparison(parser, &what))
        return left;
    advance(parser);
    uint32_t right = parse_sum(parser);
    if (right == RML_EXPR_NO_NODE)
        return right;
    if (at_comparison(parser, &again))
        return fail(parser, "write a < b and b < c", "comparisons do not chain");
    return rml_expr_compare(parser->tree, span_from(parser, start), what, left, right);
}

static uint32_t parse_not(struct parser *parser)
{
    if (!at_word(parser, "not"))
        return parse_comparison(parser);
    uint32_t start = parser->token.offset;
    if (!descend(parser))
        return RML_EXPR_NO_NODE;
    advance(parser);
    uint32_t inner = parse_not(parser);
    parser->nesting--;
    if (inner == RML_EXPR_NO_NODE)
        return inner;
    return rml_expr_not(parser->tree, span_from(parser, start), inner);
}

static uint32_t parse_and(struct parser *parser)
{
    uint32_t start = parser->token.offset;
    uint32_t left = parse_not(parser);
    while (left != RML_EXPR_NO_NODE && at_word(parser, "and")) {
        advance(parser);
        uint32_t right = parse_not(parser);
        if (right == RML_EXPR_NO_NODE)
            return right;
        left = rml_expr_logic(parser->tree, span_from(parser, start), RML_EXPR_AND, left, right);
    }
    return left;
}

static uint32_t parse_or(struct parser *parser)
{
    uint32_t start = parser->token.offset;
    if (!descend(parser))
        return RML_EXPR_NO_NODE;
    uint32_t left = parse_and(parser);
    while (left != RML_EXPR_NO_NODE && at_word(parser, "or")) {
        advance(parser);
        uint32_t right = parse_and(parser);
        if (right == RML_EXPR_NO_NODE)
            return right;
        left = rml_expr_logic(parser->tree, span_from(parser, start), RML_EXPR_OR, left, right);
    }
    parser->nesting--;
    return left;
}

// Words that other languages put between values.
static const struct {
    const char *word, *hint;
} foreign_words[] = {
    {"is", "write is_null(x) or not is_null(x)"},
    {"in", "write x == a or x == b"},
    {"between", "write x >= a and x <= b"},
    {"mod", "write %"},
    {"AND", "write and"},
    {"OR", "write or"},
    {"xor", "write a != b"},
};

static int fail_rest(struct parser *parser)
{
    const char *hint = NULL;
    for (size_t i = 0; i < sizeof foreign_words / sizeof foreign_words[0]; i++) {
        if (at_word(parser, foreign_words[i].word))
            hint = foreign_words[i].hint;
    }
    fail(parser, hint, "expected an operator or the end");
    return -EINVAL;
}

int rml_expr_parse(struct rml_expr_tree *tree, const char *text, size_t length,
                   const uint64_t *visible, uint32_t *ret_root)
{
    if (length > RML_EXPR_LENGTH_MAX)
        return rml_expr_fail(tree->error, RML_EXPR_LENGTH_MAX, 0, "compute parts of it in a map",
                             "an expression has at most %d bytes", RML_EXPR_LENGTH_MAX);
    // A token makes at most one node of its own, one or two conversions of its operands, and one
    // step of a chain of min, max or coalesce.
    tree->capacity = 4 * ((uint32_t)length + 1);
    tree->nodes = calloc(tree->capacity, sizeof *tree->nodes);
    if (tree->nodes == NULL)
        return -ENOMEM;

    struct parser parser = {.lexer = {text, (uint32_t)length, 0}, .visible = visible, .tree = tree};
    advance(&parser);
    if (parser.token.kind == RML_EXPR_TOKEN_END)
        return rml_expr_fail(tree->error, 0, 0, NULL, "the expression is empty");
    uint32_t root = parse_or(&parser);
    if (root == RML_EXPR_NO_NODE)
        return -EINVAL;
    if (parser.token.kind != RML_EXPR_TOKEN_END)
        return fail_rest(&parser);
    if (tree->nodes[root].type == RML_TYPES)
        return rml_expr_fail(tree->error, 0, (uint32_t)length, NULL, "null alone has no type");
    *ret_root = root;
    return 0;
}
