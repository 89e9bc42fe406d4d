#include "operators/fold_plugin.h"

#include <math.h>
#include <string.h>

#include "runtime/base/check.h"

#define WORD ((uint32_t)sizeof(uint64_t))

static bool is_as_double(const struct rml_fold *fold, const struct rml_column *column, uint32_t a)
{
    return fold->call->call.argument_kinds[a] == RML_PLUGIN_FLOAT
           && rml_type_info[column->type].kind != RML_KIND_FLOAT;
}

bool rml_fold_plugin_same(const struct rml_fold *a, const struct rml_fold *b)
{
    if (a->call == NULL || b->call == NULL)
        return a->call == b->call;
    const struct rml_plugin_call *x = &a->call->call, *y = &b->call->call;
    return a->call->plugin == b->call->plugin && x->parameter_count == y->parameter_count
           && memcmp(a->call->columns, b->call->columns, sizeof a->call->columns) == 0
           && memcmp(x->parameters, y->parameters, x->parameter_count * sizeof x->parameters[0])
                  == 0;
}

uint32_t rml_fold_plugin_bytes(const struct rml_fold *fold)
{
    return (fold->call->state_bytes + WORD - 1) / WORD * WORD;
}

void rml_fold_plugin_init(const struct rml_fold *fold, unsigned char *at)
{
    if (fold->call->plugin->init != NULL)
        fold->call->plugin->init(&fold->call->call, at + WORD);
}

/* Adding */

// A column's cells of the chosen rows as doubles, each at its row.
static void copy_doubles(const struct rml_column *column, const struct rml_fold_walk *walk,
                         double *doubles)
{
    const int64_t *ints = column->data;
    const uint64_t *uints = column->data;
    if (rml_type_info[column->type].kind == RML_KIND_UINT) {
        for (uint32_t i = 0; i < walk->count; i++)
            doubles[walk->rows[i]] = (double)uints[walk->rows[i]];
        return;
    }
    for (uint32_t i = 0; i < walk->count; i++)
        doubles[walk->rows[i]] = (double)ints[walk->rows[i]];
}

static bool is_value(const struct rml_fold *fold, const struct rml_column *columns, uint32_t row)
{
    const struct rml_plan_call *call = fold->call;
    for (uint32_t a = 0; a < call->call.argument_count; a++) {
        const struct rml_column *column = &columns[call->columns[a]];
        if (column->null != NULL && column->null[row])
            return false;
        const double *floats = column->data;
        if (rml_type_info[column->type].kind == RML_KIND_FLOAT && isnan(floats[row]))
            return false;
    }
    return true;
}

uint64_t rml_fold_plugin_add(const struct rml_fold *fold, const struct rml_column *columns,
                             const struct rml_fold_walk *walk)
{
    const struct rml_plan_call *call = fold->call;
    uint16_t rows[RML_BATCH_ROWS];
    void *states[RML_BATCH_ROWS];
    uint32_t count = 0;
    RML_CHECK(walk->count <= RML_BATCH_ROWS);
    for (uint32_t i = 0; i < walk->count; i++) {
        if (!is_value(fold, columns, walk->rows[i]))
            continue;
        unsigned char *at = (unsigned char *)walk->states[i] + fold->offset;
        uint64_t values;
        memcpy(&values, at, sizeof values);
        values++;
        memcpy(at, &values, sizeof values);
        rows[count] = walk->rows[i];
        states[count++] = at + WORD;
    }
    if (count == 0)
        return walk->count;
    struct rml_plugin_block block = {
        .count = count, .rows = rows, .states = states, .time = walk->time};
    double doubles[RML_PLUGIN_ARGUMENTS_MAX][RML_BATCH_ROWS];
    for (uint32_t a = 0; a < call->call.argument_count; a++) {
        const struct rml_column *column = &columns[call->columns[a]];
        block.columns[a] = column->data;
        if (!is_as_double(fold, column, a))
            continue;
        copy_doubles(column, walk, doubles[a]);
        block.columns[a] = doubles[a];
    }
    call->plugin->add(&call->call, &block);
    return walk->count - count;
}

void rml_fold_plugin_merge(const struct rml_fold *fold, unsigned char *into,
                           const unsigned char *from)
{
    uint64_t values;
    memcpy(&values, into, sizeof values);
    if (values == 0)
        memcpy(into + WORD, from + WORD, rml_fold_plugin_bytes(fold));
    else
        fold->call->plugin->merge(&fold->call->call, into + WORD, from + WORD);
}

/* Results */

// Only NULs behind the first, as everything that compares strings expects.
static void end_text(unsigned char *text, size_t bytes)
{
    size_t length = strnlen((const char *)text, bytes);
    memset(text + length, 0, bytes - length);
}

bool rml_fold_plugin_result(const struct rml_fold *fold, const unsigned char *at, uint64_t values,
                            int64_t length_ns, enum rml_type type, void *cell)
{
    const struct rml_plan_call *call = fold->call;
    const struct rml_plugin_window window = {.values = values, .length_ns = length_ns};
    const struct rml_type_info *info = &rml_type_info[type];
    memset(cell, 0, info->cell_bytes);
    if (call->plugin->finish(&call->call, at + WORD, &window, cell) == 0)
        return false;
    double number;
    switch (info->kind) {
    case RML_KIND_FLOAT:
        memcpy(&number, cell, sizeof number);
        return !isnan(number);
    case RML_KIND_BOOL:
        *(uint8_t *)cell = *(const uint8_t *)cell != 0;
        return true;
    case RML_KIND_STR:
        end_text(cell, info->cell_bytes);
        return true;
    case RML_KIND_INT:
    case RML_KIND_UINT:
    case RML_KINDS:
        break;
    }
    return true;
}
