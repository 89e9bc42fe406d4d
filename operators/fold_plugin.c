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

void rml_fold_plugin_init(const struct rml_fold *fold, void *state, uint32_t bytes)
{
    if (fold->call->plugin->init != NULL)
        fold->call->plugin->init(&fold->call->call, state, bytes);
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

void rml_fold_plugin_choose(const struct rml_fold *fold, const struct rml_column *columns,
                            const struct rml_fold_walk *walk, struct rml_fold_plugin_rows *rows)
{
    const struct rml_plan_call *call = fold->call;
    RML_CHECK(walk->count <= RML_BATCH_ROWS);
    rows->count = 0;
    for (uint32_t i = 0; i < walk->count; i++) {
        rows->rows[rows->count] = walk->rows[i];
        rows->from[rows->count] = (uint16_t)i;
        rows->count += is_value(fold, columns, walk->rows[i]);
    }
    for (uint32_t a = 0; a < call->call.argument_count; a++) {
        const struct rml_column *column = &columns[call->columns[a]];
        rows->columns[a] = column->data;
        if (!is_as_double(fold, column, a))
            continue;
        copy_doubles(column, walk, rows->doubles[a]);
        rows->columns[a] = rows->doubles[a];
    }
}

uint32_t rml_fold_plugin_give(const struct rml_fold *fold, const struct rml_fold_walk *walk,
                              const struct rml_fold_plugin_rows *rows, uint32_t from,
                              void *const *states, const uint32_t *bytes)
{
    struct rml_plugin_block block = {.count = rows->count - from,
                                     .rows = rows->rows + from,
                                     .states = states + from,
                                     .bytes = bytes != NULL ? bytes + from : NULL,
                                     .time = walk->time};
    memcpy(block.columns, rows->columns, sizeof block.columns);
    uint32_t taken = fold->call->plugin->add(&fold->call->call, &block);
    return taken < block.count ? taken : block.count;
}

uint64_t rml_fold_plugin_add(const struct rml_fold *fold, const struct rml_column *columns,
                             const struct rml_fold_walk *walk)
{
    struct rml_fold_plugin_rows rows;
    void *states[RML_BATCH_ROWS];
    rml_fold_plugin_choose(fold, columns, walk, &rows);
    for (uint32_t i = 0; i < rows.count; i++)
        states[i] = (unsigned char *)walk->states[rows.from[i]] + fold->offset + WORD;
    uint64_t skipped = walk->count - rows.count;
    for (uint32_t done = 0; done < rows.count;) {
        uint32_t taken = rml_fold_plugin_give(fold, walk, &rows, done, states, NULL);
        for (uint32_t i = done; i < done + taken; i++) {
            uint64_t values;
            unsigned char *at = (unsigned char *)states[i] - WORD;
            memcpy(&values, at, sizeof values);
            values++;
            memcpy(at, &values, sizeof values);
        }
        done += taken;
        if (done < rows.count) {  // a row that it does not take
            skipped++;
            done++;
        }
    }
    return skipped;
}

void rml_fold_plugin_merge(const struct rml_fold *fold, unsigned char *into,
                           const unsigned char *from)
{
    uint64_t values;
    uint32_t bytes = fold->call->state_bytes;
    memcpy(&values, into, sizeof values);
    if (values == 0)
        memcpy(into + WORD, from + WORD, rml_fold_plugin_bytes(fold));
    else
        (void)fold->call->plugin->merge(&fold->call->call, into + WORD, bytes, from + WORD, bytes);
}

/* Results */

// Only NULs behind the first, as everything that compares strings expects.
static void end_text(unsigned char *text, size_t bytes)
{
    size_t length = strnlen((const char *)text, bytes);
    memset(text + length, 0, bytes - length);
}

bool rml_fold_plugin_result(const struct rml_fold *fold, const void *state,
                            const struct rml_plugin_window *window, enum rml_type type, void *cell)
{
    const struct rml_plan_call *call = fold->call;
    const struct rml_type_info *info = &rml_type_info[type];
    memset(cell, 0, info->cell_bytes);
    if (call->plugin->finish(&call->call, state, window, cell) == 0)
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
