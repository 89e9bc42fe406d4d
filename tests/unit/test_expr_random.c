/*
 * Random expressions over random columns, against an interpreter that shares nothing with what it
 * judges: it takes one row at a time, integers are 128 bits wide, and types come from the sentences
 * of expr.h. RML_SEED=n runs another sequence; a failure prints the seed and the expression.
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/int128.h"
#include "runtime/record/expr.h"
#include "tests/support/test.h"

#define EXPRESSIONS 4000
#define ROWS_MAX    70

static uint64_t random_state;

static uint64_t draw(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state * 0x2545f4914f6cdd1du >> 8;
}

static uint32_t below(uint32_t limit)
{
    return (uint32_t)(draw() % limit);
}

/* Columns */

static const struct {
    const char *name;
    enum rml_type type;
    bool nullable;
} column_specs[] = {
    {"a", RML_I64, true},  {"b", RML_I64, false},  {"i", RML_I32, false}, {"s", RML_U16, false},
    {"u", RML_U64, false}, {"v", RML_U64, true},   {"x", RML_F64, false}, {"y", RML_F64, true},
    {"z", RML_F32, false}, {"p", RML_BOOL, false}, {"q", RML_BOOL, true}, {"t", RML_TIME, false},
    {"w", RML_TIME, true}, {"k", RML_STR8, false}, {"l", RML_STR8, true}, {"m", RML_STR16, false},
};

#define COLUMNS (sizeof column_specs / sizeof column_specs[0])

static _Alignas(64) unsigned char column_cells[COLUMNS][RML_BATCH_ROWS * 16];
static uint8_t column_nulls[COLUMNS][RML_BATCH_ROWS];
static struct rml_column columns[COLUMNS];
static struct rml_frame frame;

static int64_t any_int64(void)
{
    switch (below(5)) {
    case 0:
        return INT64_MIN + below(3);
    case 1:
        return INT64_MAX - below(3);
    case 2:
        return (int64_t)(draw() << 8);
    default:
        return (int64_t)below(41) - 20;
    }
}

static double any_double(void)
{
    static const double special[] = {0.0,   -0.0,   0.5,    -2.5,
                                     1e308, -1e308, 1e-308, 9007199254740993.0};
    switch (below(6)) {
    case 0:
        return (double)NAN;
    case 1:
        return below(2) != 0 ? (double)INFINITY : (double)-INFINITY;
    case 2:
        return (double)any_int64();
    case 3:
        return special[below(8)];
    default:
        return ((double)below(2001) - 1000) / 8;
    }
}

static void fill_cell(uint32_t column, uint32_t row)
{
    unsigned char *cells = column_cells[column];
    int64_t i = any_int64();
    double f = any_double();
    enum rml_type type = column_specs[column].type;
    if (type == RML_I32 || type == RML_U16)
        i = type == RML_I32 ? (int32_t)i : (uint16_t)i;
    if (type == RML_F32)
        f = (double)(float)f;
    switch (rml_type_info[column_specs[column].type].kind) {
    case RML_KIND_INT:
    case RML_KIND_UINT:
        memcpy(cells + row * 8, &i, 8);
        break;
    case RML_KIND_FLOAT:
        memcpy(cells + row * 8, &f, 8);
        break;
    case RML_KIND_BOOL:
        cells[row] = (unsigned char)below(2);
        break;
    case RML_KIND_STR: {
        uint32_t bytes = rml_type_info[column_specs[column].type].bytes;
        uint32_t length = below(3) == 0 ? bytes : below(4);
        memset(cells + row * bytes, 0, bytes);
        for (uint32_t c = 0; c < length; c++)
            cells[row * bytes + c] = (unsigned char)(below(8) == 0 ? 0xfe : 'a' + below(2));
        break;
    }
    case RML_KINDS:
        fail();
    }
}

static void fill_columns(uint32_t rows)
{
    for (uint32_t c = 0; c < COLUMNS; c++) {
        for (uint32_t row = 0; row < rows; row++) {
            fill_cell(c, row);
            column_nulls[c][row] = below(4) == 0;
        }
        columns[c] = (struct rml_column){column_specs[c].type, column_cells[c],
                                         column_specs[c].nullable ? column_nulls[c] : NULL};
    }
}

/* Trees */

enum op {
    COLUMN,
    LITERAL,
    NOTHING,
    UNARY,
    BINARY,
    COMPARE,
    AND_OR,
    NOT,
    IF,
    COALESCE,
    IS_NULL,
    EXTREME,
    CLAMP
};

struct value {
    bool null, no_answer;
    rml_int128 i;  // integers, times, booleans
    double f;
    char s[65];
};

struct node {
    enum op op;
    const char *sign;  // as written
    enum rml_type type;
    bool constant;     // computed from literals alone
    bool is_negative;  // of a constant integer
    uint32_t column;
    struct value literal;
    struct node *kids[4];
    uint32_t kid_count;
};

static struct node nodes[2000];
static uint32_t node_count;

static struct value value_of(const struct node *node, uint32_t row);

static bool is_float(const struct node *node)
{
    return node->type == RML_F64 || node->type == RML_F32;
}

static bool is_unsigned(const struct node *node)
{
    if (node->constant)
        return !node->is_negative;
    return node->type == RML_U64 || node->type == RML_U16;
}

static bool is_exact(enum rml_type type)
{
    return rml_type_info[type].kind == RML_KIND_INT || rml_type_info[type].kind == RML_KIND_UINT;
}

static struct node *new_node(enum op op, const char *sign, enum rml_type type)
{
    assert_true(node_count < sizeof nodes / sizeof nodes[0]);
    struct node *node = &nodes[node_count++];
    *node = (struct node){.op = op, .sign = sign, .type = type};
    return node;
}

// Whether the node is now a constant: its kids are, and it has a value that can be written.
static struct node *finish(struct node *node)
{
    for (uint32_t k = 0; k < node->kid_count; k++) {
        if (!node->kids[k]->constant)
            return node;
    }
    struct value value = value_of(node, 0);
    node->constant = !value.null && (!is_float(node) || isfinite(value.f));
    node->is_negative = value.i < 0;
    return node;
}

static enum rml_type arithmetic_type(const struct node *a, const struct node *b)
{
    if (is_float(a) || is_float(b))
        return RML_F64;
    if (a->type == RML_U64 || b->type == RML_U64)
        return is_unsigned(a) && is_unsigned(b) ? RML_U64 : RML_I64;
    return RML_I64;
}

static enum rml_type common_type(struct node *const *kids, uint32_t count)
{
    const struct node *so_far[4] = {kids[0]};
    uint32_t there = 0;
    for (uint32_t k = 0; k < count; k++) {
        if (kids[k]->op != NOTHING)
            so_far[there++] = kids[k];
    }
    bool same = true, floats = false, wide = false, all_unsigned = true;
    enum rml_type widest = so_far[0]->type;
    for (uint32_t k = 0; k < there; k++) {
        same = same && so_far[k]->type == so_far[0]->type;
        floats = floats || is_float(so_far[k]);
        wide = wide || so_far[k]->type == RML_U64;
        all_unsigned = all_unsigned && is_unsigned(so_far[k]);
        widest = so_far[k]->type > widest ? so_far[k]->type : widest;
    }
    if (same || widest >= RML_STR8)
        return widest;
    if (widest == RML_TIME)
        return RML_TIME;
    return floats ? RML_F64 : wide && all_unsigned ? RML_U64 : RML_I64;
}

/* The interpreter */

static struct value nothing(bool no_answer)
{
    return (struct value){.null = true, .no_answer = no_answer};
}

static struct value of_int(rml_int128 i, enum rml_type type)
{
    rml_int128 low = type == RML_U64 ? 0 : INT64_MIN;
    rml_int128 high = type == RML_U64 ? (rml_int128)UINT64_MAX : INT64_MAX;
    return i < low || i > high ? nothing(true) : (struct value){.i = i};
}

static struct value of_float(double f)
{
    return isnan(f) ? nothing(true) : (struct value){.f = f};
}

static double to_float(const struct node *node, const struct value *value)
{
    if (is_float(node))
        return value->f;
    return value->i < 0 ? (double)(int64_t)value->i : (double)(uint64_t)value->i;
}

// A kid's value as the type that it and its siblings have in common.
static struct value common_value(const struct node *kid, uint32_t row, enum rml_type type)
{
    struct value value = value_of(kid, row);
    if (value.null)
        return value;
    if (type == RML_F64 || type == RML_F32)
        return (struct value){.f = to_float(kid, &value)};
    return is_exact(type) ? of_int(value.i, type) : value;
}

static struct value column_value(const struct node *node, uint32_t row)
{
    const struct rml_column *column = &columns[node->column];
    const unsigned char *cells = column->data;
    struct value value = {.null = column->null != NULL && column->null[row] != 0};
    uint32_t bytes = rml_type_info[column->type].cell_bytes;
    int64_t i = 0;
    uint64_t u;
    memcpy(&u, cells + row * bytes, bytes == 1 ? 1 : 8);
    memcpy(&i, cells + row * bytes, bytes == 1 ? 1 : 8);
    value.i = column->type == RML_U64 ? (rml_int128)u : i;
    if (rml_type_info[column->type].kind == RML_KIND_FLOAT) {
        memcpy(&value.f, cells + row * 8, 8);
        value.i = 0;
        value.null = value.null || isnan(value.f);
    }
    if (rml_type_info[column->type].kind == RML_KIND_STR)
        memcpy(value.s, cells + row * bytes, bytes);
    return value;
}

static struct value float_binary(char sign, double a, double b)
{
    switch (sign) {
    case '+':
        return of_float(a + b);
    case '-':
        return of_float(a - b);
    case '*':
        return of_float(a * b);
    case '/':
        return b == 0 ? nothing(true) : of_float(a / b);
    default:
        return a == 0 && b < 0 ? nothing(true) : of_float(pow(a, b));
    }
}

static struct value binary_value(const struct node *node, uint32_t row)
{
    const struct node *left = node->kids[0], *right = node->kids[1];
    struct value a = value_of(left, row), b = value_of(right, row);
    if (a.null || b.null)
        return nothing(a.no_answer || b.no_answer);
    if (node->type == RML_F64)
        return float_binary(node->sign[0], to_float(left, &a), to_float(right, &b));
    switch (node->sign[0]) {
    case '+':
        return of_int(a.i + b.i, node->type);
    case '-':
        return of_int(a.i - b.i, node->type);
    case '*':
        return of_int(a.i * b.i, node->type);
    default:
        return b.i == 0 ? nothing(true) : of_int(a.i % b.i, node->type);
    }
}

static struct value unary_float(const char *sign, double a)
{
    if (strcmp(sign, "-") == 0)
        return of_float(-a);
    if (strcmp(sign, "abs") == 0)
        return of_float(a < 0 || signbit(a) ? -a : a);
    if (strcmp(sign, "floor") == 0)
        return of_float(floor(a));
    if (strcmp(sign, "ceil") == 0)
        return of_float(ceil(a));
    if (strcmp(sign, "round") == 0)
        return of_float(round(a));
    if (strcmp(sign, "sqrt") == 0)
        return of_float(sqrt(a));
    if (strcmp(sign, "log") == 0)
        return a == 0 ? nothing(true) : of_float(log(a));
    return of_float(exp(a));
}

static struct value unary_value(const struct node *node, uint32_t row)
{
    const struct node *kid = node->kids[0];
    struct value a = value_of(kid, row);
    if (a.null)
        return a;
    if (node->type == RML_F64)
        return unary_float(node->sign, to_float(kid, &a));
    if (strcmp(node->sign, "-") == 0)
        return of_int(-a.i, node->type);
    return of_int(strcmp(node->sign, "abs") == 0 && a.i < 0 ? -a.i : a.i, node->type);
}

static int order_of(const struct node *left, const struct value *a, const struct node *right,
                    const struct value *b)
{
    if (left->type >= RML_STR8)
        return memcmp(a->s, b->s, sizeof a->s);
    if (is_float(left) || is_float(right)) {
        double x = to_float(left, a), y = to_float(right, b);
        return (x > y) - (x < y);
    }
    return (a->i > b->i) - (a->i < b->i);
}

static struct value compare_value(const struct node *node, uint32_t row)
{
    struct value a = value_of(node->kids[0], row), b = value_of(node->kids[1], row);
    if (a.null || b.null)
        return nothing(a.no_answer || b.no_answer);
    int order = order_of(node->kids[0], &a, node->kids[1], &b);
    const char *sign = node->sign;
    bool equal = sign[0] == '=' || (sign[1] == '=' && sign[0] != '!');
    if (order == 0)
        return (struct value){.i = equal};
    return (struct value){.i = sign[0] == '!' || sign[0] == (order < 0 ? '<' : '>')};
}

static struct value and_or_value(const struct node *node, uint32_t row)
{
    int deciding = node->sign[0] == 'o';
    struct value a = value_of(node->kids[0], row), b = value_of(node->kids[1], row);
    if ((!a.null && a.i == deciding) || (!b.null && b.i == deciding))
        return (struct value){.i = deciding};
    if (a.null || b.null)
        return nothing(a.no_answer || b.no_answer);
    return (struct value){.i = !deciding};
}

static struct value coalesce_value(const struct node *node, uint32_t row)
{
    struct value last = nothing(false);
    for (uint32_t k = 0; k < node->kid_count; k++) {
        struct value value = common_value(node->kids[k], row, node->type);
        if (!value.null)
            return value;
        last.no_answer = last.no_answer || value.no_answer;
    }
    return last;
}

static struct value extreme_value(const struct node *node, uint32_t row)
{
    struct value best = common_value(node->kids[0], row, node->type);
    bool null = best.null, no_answer = best.no_answer;
    for (uint32_t k = 1; k < node->kid_count; k++) {
        struct value value = common_value(node->kids[k], row, node->type);
        // clamp raises to its second argument, then lowers to its third
        bool least = node->op == CLAMP ? k == 2 : strcmp(node->sign, "min") == 0;
        int order = is_float(node) ? (value.f > best.f) - (value.f < best.f)
                                   : (value.i > best.i) - (value.i < best.i);
        if (least ? order < 0 : order > 0)
            best = value;
        null = null || value.null;
        no_answer = no_answer || value.no_answer;
    }
    return null ? nothing(no_answer) : best;
}

static struct value value_of(const struct node *node, uint32_t row)
{
    struct value value;
    switch (node->op) {
    case COLUMN:
        return column_value(node, row);
    case LITERAL:
        return node->literal;
    case NOTHING:
        return nothing(false);
    case UNARY:
        return unary_value(node, row);
    case BINARY:
        return binary_value(node, row);
    case COMPARE:
        return compare_value(node, row);
    case AND_OR:
        return and_or_value(node, row);
    case NOT:
        value = value_of(node->kids[0], row);
        value.i = !value.i;
        return value;
    case IF:
        value = value_of(node->kids[0], row);
        return common_value(node->kids[!value.null && value.i != 0 ? 1 : 2], row, node->type);
    case COALESCE:
        return coalesce_value(node, row);
    case IS_NULL:
        return (struct value){.i = value_of(node->kids[0], row).null};
    case EXTREME:
    case CLAMP:
        break;
    }
    return extreme_value(node, row);
}

/* Drawing trees */

enum sort { NUMBER, INTEGER, TRUTH, MOMENT, TEXT };

static struct node *draw_node(enum sort sort, int depth);

static struct node *draw_column(enum sort sort)
{
    static const char *const choices[] = {[NUMBER] = "abisuvxyz",
                                          [INTEGER] = "abisuv",
                                          [TRUTH] = "pq",
                                          [MOMENT] = "tw",
                                          [TEXT] = "klm"};
    char name = choices[sort][below((uint32_t)strlen(choices[sort]))];
    uint32_t column = 0;
    while (column_specs[column].name[0] != name)
        column++;
    struct node *node = new_node(COLUMN, column_specs[column].name, column_specs[column].type);
    node->column = column;
    return node;
}

static struct node *draw_literal(enum sort sort)
{
    static const double floats[] = {0.0, 0.5, 2.0, 1e300, 3.25};
    struct node *node = new_node(LITERAL, "", RML_I64);
    node->constant = true;
    if (sort == TRUTH) {
        node->type = RML_BOOL;
        node->literal.i = below(2);
    } else if (sort == TEXT) {
        static const char *const texts[] = {"", "a", "ab", "aaaaaaaa", "b\xfe"};
        node->type = RML_STR8;
        strcpy(node->literal.s, texts[below(5)]);
    } else if (sort == NUMBER && below(3) == 0) {
        node->type = RML_F64;
        node->literal.f = floats[below(5)];
    } else if (below(6) == 0) {
        node->literal.i = (rml_int128)INT64_MAX + below(3);
        node->type = node->literal.i > INT64_MAX ? RML_U64 : RML_I64;
    } else {
        node->literal.i = below(7);
    }
    return node;
}

static struct node *with_kids(struct node *node, struct node *a, struct node *b, struct node *c)
{
    struct node *kids[] = {a, b, c};
    for (uint32_t k = 0; k < 3 && kids[k] != NULL; k++)
        node->kids[node->kid_count++] = kids[k];
    return node;
}

static struct node *draw_arithmetic(enum sort sort, int depth)
{
    static const char *const signs[] = {"+", "-", "*", "%", "/", "pow"};
    struct node *a = draw_node(sort, depth - 1), *b = draw_node(sort, depth - 1);
    uint32_t which = below(sort == NUMBER ? 6 : 4);
    enum rml_type type = arithmetic_type(a, b);
    if (which == 3 && type == RML_F64)
        which = 0;
    if (which >= 4)
        type = RML_F64;
    return finish(with_kids(new_node(BINARY, signs[which], type), a, b, NULL));
}

static struct node *draw_unary(enum sort sort, int depth)
{
    static const char *const signs[] = {"-", "abs", "floor", "ceil", "round", "sqrt", "log", "exp"};
    struct node *a = draw_node(sort, depth - 1);
    uint32_t which = below(sort == NUMBER ? 8 : 5);
    enum rml_type type = RML_F64;
    if (!is_float(a) && which < 5) {
        bool kept = which >= 2 || (which == 1 && (a->type == RML_U64 || a->type == RML_U16));
        type = kept ? a->type : RML_I64;
    }
    return finish(with_kids(new_node(UNARY, signs[which], type), a, NULL, NULL));
}

static struct node *draw_branches(enum sort sort, int depth)
{
    bool choice = below(2) != 0;
    struct node *node = new_node(choice ? IF : COALESCE, choice ? "if" : "coalesce", RML_I64);
    uint32_t first = choice;
    if (choice)
        node->kids[node->kid_count++] = draw_node(TRUTH, depth - 1);
    node->kids[node->kid_count++] = draw_node(sort, depth - 1);
    node->kids[node->kid_count++] =
        below(5) == 0 ? new_node(NOTHING, "null", RML_I64) : draw_node(sort, depth - 1);
    node->type = common_type(node->kids + first, node->kid_count - first);
    return node;
}

static struct node *draw_extreme(enum sort sort, int depth)
{
    bool clamp = below(3) == 0;
    struct node *node = new_node(clamp ? CLAMP : EXTREME,
                                 clamp           ? "clamp"
                                 : below(2) != 0 ? "min"
                                                 : "max",
                                 RML_I64);
    uint32_t count = clamp ? 3 : 1 + below(3);
    for (uint32_t k = 0; k < count; k++)
        node->kids[node->kid_count++] = draw_node(sort, depth - 1);
    node->type = common_type(node->kids, node->kid_count);
    return finish(node);
}

static struct node *draw_moment(int depth)
{
    if (below(2) != 0)
        return draw_extreme(MOMENT, depth);
    struct node *time = draw_node(MOMENT, depth - 1), *ns = draw_node(INTEGER, depth - 1);
    bool minus = below(2) != 0;
    if (minus || below(2) != 0)
        return with_kids(new_node(BINARY, minus ? "-" : "+", RML_TIME), time, ns, NULL);
    return with_kids(new_node(BINARY, "+", RML_TIME), ns, time, NULL);
}

static struct node *draw_of_times(int depth)
{
    bool minus = below(2) != 0;
    struct node *time = draw_node(MOMENT, depth - 1);
    struct node *other = draw_node(minus ? MOMENT : INTEGER, depth - 1);
    return with_kids(new_node(BINARY, minus ? "-" : "%", RML_I64), time, other, NULL);
}

static struct node *draw_comparison(int depth)
{
    static const char *const signs[] = {"==", "!=", "<", "<=", ">", ">="};

    static const enum sort sorts[] = {NUMBER, NUMBER, INTEGER, INTEGER, TRUTH, MOMENT, TEXT};
    enum sort sort = sorts[below(7)];
    struct node *a = draw_node(sort, depth - 1);
    struct node *b = draw_node(sort == MOMENT && below(2) != 0 ? INTEGER : sort, depth - 1);
    const char *sign = signs[below(sort == TRUTH ? 2 : 6)];
    struct node *node = with_kids(new_node(COMPARE, sign, RML_BOOL), a, b, NULL);
    return sort == TEXT ? node : finish(node);
}

static struct node *draw_truth(int depth)
{
    switch (below(5)) {
    case 0:
        return with_kids(new_node(IS_NULL, "is_null", RML_BOOL),
                         draw_node((enum sort)below(5), depth - 1), NULL, NULL);
    case 1:
        return finish(
            with_kids(new_node(NOT, "not", RML_BOOL), draw_node(TRUTH, depth - 1), NULL, NULL));
    case 2:
        return with_kids(new_node(AND_OR, below(2) != 0 ? "and" : "or", RML_BOOL),
                         draw_node(TRUTH, depth - 1), draw_node(TRUTH, depth - 1), NULL);
    default:
        return draw_comparison(depth);
    }
}

static struct node *draw_node(enum sort sort, int depth)
{
    if (depth == 0 || below(6) == 0)
        return sort != MOMENT && below(3) == 0 ? draw_literal(sort) : draw_column(sort);
    if (below(5) == 0)
        return draw_branches(sort, depth);
    switch (sort) {
    case TRUTH:
        return draw_truth(depth);
    case MOMENT:
        return draw_moment(depth);
    case TEXT:
        return draw_column(TEXT);
    case INTEGER:
        if (below(8) == 0)
            return draw_of_times(depth);
        break;
    case NUMBER:
        break;
    }
    switch (below(4)) {
    case 0:
        return draw_extreme(sort, depth);
    case 1:
        return draw_unary(sort, depth);
    default:
        return draw_arithmetic(sort, depth);
    }
}

/* Text */

static char text[8192];
static size_t text_length;

static void put(const char *piece)
{
    size_t length = strlen(piece);
    if (text_length + length < sizeof text) {
        memcpy(text + text_length, piece, length + 1);
        text_length += length;
    }
}

static void write_literal(const struct node *node)
{
    char piece[100];
    if (node->type == RML_BOOL)
        snprintf(piece, sizeof piece, "%s", node->literal.i != 0 ? "true" : "false");
    else if (node->type == RML_STR8)
        snprintf(piece, sizeof piece, "'%s'", node->literal.s);
    else if (node->type == RML_F64)
        snprintf(piece, sizeof piece, "%.17e", node->literal.f);
    else
        snprintf(piece, sizeof piece, "%" PRIu64, (uint64_t)node->literal.i);
    put(piece);
}

static void write_node(const struct node *node)
{
    if (node->op == LITERAL) {
        write_literal(node);
        return;
    }
    bool infix = strpbrk(node->sign, "+-*/%=<>") != NULL || node->op == AND_OR || node->op == NOT;
    if (!infix)
        put(node->sign);
    if (node->kid_count == 0)
        return;
    put("(");
    if (infix && node->kid_count == 1) {
        put(node->sign);
        put(" ");
    }
    for (uint32_t k = 0; k < node->kid_count; k++) {
        if (k > 0)
            put(infix ? node->sign : ",");
        if (k > 0 || node->op == AND_OR)
            put(" ");
        write_node(node->kids[k]);
        put(" ");
    }
    put(")");
}

/* The claim */

static _Alignas(64) unsigned char result[RML_BATCH_ROWS * 64];
static uint8_t result_null[RML_BATCH_ROWS];

static bool same_cell(const struct node *root, const struct value *expected, uint32_t row)
{
    uint32_t bytes = rml_type_info[root->type].cell_bytes;
    const unsigned char *cell = result + (size_t)row * bytes;
    int64_t i = (int64_t)expected->i;
    if (is_float(root))
        return memcmp(cell, &expected->f, 8) == 0;
    if (root->type == RML_BOOL)
        return *cell == (unsigned char)i;
    if (root->type >= RML_STR8)
        return memcmp(cell, expected->s, bytes) == 0;
    return memcmp(cell, &i, 8) == 0;
}

static void judge(const struct node *root, const struct rml_expr *expr,
                  const struct rml_batch *batch, struct rml_expr_scratch *scratch)
{
    struct rml_column out = {.data = result};
    uint32_t no_answer = rml_expr_eval(expr, batch, scratch, &out, result_null);
    for (uint32_t k = 0; k < batch->selected; k++) {
        uint32_t row = batch->select[k];
        struct value expected = value_of(root, row);
        bool null = out.null != NULL && out.null[row] != 0;
        if (null != expected.null || (!null && !same_cell(root, &expected, row)))
            fail_msg("row %u of: %s", row, text);
        no_answer -= expected.null && expected.no_answer;
    }
    if (no_answer != 0)
        fail_msg("counts %d more without an answer: %s", (int)no_answer, text);

    if (root->type != RML_BOOL)
        return;
    uint16_t pass[RML_BATCH_ROWS];
    uint32_t count = rml_expr_filter(expr, batch, scratch, pass, &no_answer);
    uint32_t at = 0;
    for (uint32_t k = 0; k < batch->selected; k++) {
        struct value expected = value_of(root, batch->select[k]);
        if (expected.null || expected.i == 0)
            continue;
        if (at >= count || pass[at] != batch->select[k])
            fail_msg("row %u does not pass: %s", batch->select[k], text);
        at++;
    }
    assert_int_equal(at, count);
}

static void one_expression(void)
{
    uint32_t rows = 1 + below(ROWS_MAX);
    fill_columns(rows);
    node_count = 0;
    text_length = 0;
    const struct node *root = draw_node((enum sort)below(5), (int)below(5));
    write_node(root);
    if (text_length > 4000)
        return;

    struct rml_expr *expr;
    struct rml_expr_error error;
    if (rml_expr_compile(text, text_length, &frame, NULL, &expr, &error) < 0)
        fail_msg("%s at %u of: %s", error.text, error.offset, text);
    if (rml_expr_type(expr) != root->type)
        fail_msg("is %s, not %s: %s", rml_type_info[rml_expr_type(expr)].name,
                 rml_type_info[root->type].name, text);

    uint16_t select[RML_BATCH_ROWS];
    struct rml_batch batch = {.rows = rows, .select = select, .columns = columns};
    for (uint32_t row = 0; row < rows; row++) {
        if (below(4) != 0)
            select[batch.selected++] = (uint16_t)row;
    }
    const struct rml_expr *const list[] = {expr};
    struct rml_expr_scratch *scratch;
    assert_int_equal(rml_expr_scratch_open(&scratch, list, 1), 0);
    judge(root, expr, &batch, scratch);
    rml_expr_scratch_close(scratch);
    rml_expr_free(expr);
}

static void a_column_at_a_time_comes_out_as_a_row_at_a_time(void **state)
{
    (void)state;
    const char *asked = getenv("RML_SEED");
    uint64_t seed = asked != NULL ? strtoull(asked, NULL, 10) : 1;
    for (uint32_t c = 0; c < COLUMNS; c++) {
        struct rml_frame_column *column = &frame.columns[frame.column_count++];
        snprintf(column->name, sizeof column->name, "%s", column_specs[c].name);
        column->type = column_specs[c].type;
        column->nullable = column_specs[c].nullable;
        column->field = c;
    }
    printf("seed %" PRIu64 "\n", seed);
    for (uint64_t i = 0; i < EXPRESSIONS; i++) {
        random_state = (seed * EXPRESSIONS + i) * 0x9e3779b97f4a7c15u | 1;
        draw();
        one_expression();
    }
}

TEST_MAIN(CLAIM(a_column_at_a_time_comes_out_as_a_row_at_a_time))
