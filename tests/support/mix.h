/*
 * mix - functions of a plug-in for tests, without a plug-in's file. mix(n, x, by) is `by` times the sum of n,
 * plus how far apart the times are, over the records whose x is a number; with a fourth argument of 1 it
 * holds the engine to its word that panes are merged in the order of time. bag(n) is how many different
 * values there are, in a state that grows.
 */
#ifndef TESTS_SUPPORT_MIX_H
#define TESTS_SUPPORT_MIX_H

#include <string.h>

#include "operators/registry.h"
#include "runtime/plan/functions.h"
#include "runtime/plugin/plugin.h"
#include "tests/support/test.h"

struct mix {
    int64_t sum, first, last;
    bool any;
    char unaligned[3];  // what follows is aligned all the same
};

static inline void mix_value(struct mix *mix, int64_t time, int64_t n)
{
    mix->first = !mix->any || time < mix->first ? time : mix->first;
    mix->last = !mix->any || time > mix->last ? time : mix->last;
    mix->sum += n;
    mix->any = true;
}

static inline int64_t mix_result(const struct mix *mix, int64_t by)
{
    return mix->any ? by * mix->sum + (mix->last - mix->first) : 0;
}

static inline uint32_t mix_size(const struct rml_plugin_call *call, char *error, size_t error_bytes)
{
    if (call->parameters[0] == 0) {
        snprintf(error, error_bytes, "nothing comes of times 0");
        return 0;
    }
    return (uint32_t)(offsetof(struct mix, unaligned) + 1);
}

static inline uint32_t mix_add(const struct rml_plugin_call *call,
                               const struct rml_plugin_block *block)
{
    const int64_t *n = block->columns[0];
    const double *x = block->columns[1];
    assert_int_equal(call->argument_count, 2);
    assert_int_equal(call->argument_kinds[0], RML_PLUGIN_INT);
    assert_int_equal(call->argument_kinds[1], RML_PLUGIN_FLOAT);
    assert_true(block->count > 0);
    for (uint32_t i = 0; i < block->count; i++) {
        assert_true(x[block->rows[i]] == x[block->rows[i]]);
        assert_true(i == 0 || block->rows[i] > block->rows[i - 1]);
        mix_value(block->states[i], block->time[block->rows[i]], n[block->rows[i]]);
    }
    return block->count;
}

static inline int mix_merge(const struct rml_plugin_call *call, void *into, uint32_t into_bytes,
                            const void *from, uint32_t from_bytes)
{
    (void)into_bytes;
    (void)from_bytes;
    struct mix *a = into;
    const struct mix *b = from;
    assert_true(a->any && b->any);
    assert_true(call->parameter_count == 1 || a->last < b->first);
    a->sum += b->sum;
    a->first = b->first < a->first ? b->first : a->first;
    a->last = b->last > a->last ? b->last : a->last;
    return 1;
}

static inline int mix_finish(const struct rml_plugin_call *call, const void *state,
                             const struct rml_plugin_window *window, void *cell)
{
    const struct mix *mix = state;
    assert_true(mix->any && window->values > 0 && window->length_ns > mix->last - mix->first);
    int64_t result = mix_result(mix, (int64_t)call->parameters[0]);
    memcpy(cell, &result, sizeof result);
    return 1;
}

/* The different values, ascending, and how many there are in front. */
struct bag {
    uint64_t count;
    int64_t values[];
};

// False: there is no room for it.
static inline bool bag_put(struct bag *bag, uint32_t bytes, int64_t value)
{
    uint64_t at = 0;
    while (at < bag->count && bag->values[at] < value)
        at++;
    if (at < bag->count && bag->values[at] == value)
        return true;
    if ((bag->count + 2) * sizeof value > bytes)
        return false;
    memmove(&bag->values[at + 1], &bag->values[at], (bag->count - at) * sizeof value);
    bag->values[at] = value;
    bag->count++;
    return true;
}

static inline void bag_init(const struct rml_plugin_call *call, void *state, uint32_t bytes)
{
    const struct bag *bag = state;
    assert_int_equal(call->parameter_count, 0);
    assert_true(bytes >= RML_PLUGIN_GROWS_MIN && bag->count == 0);
}

static inline uint32_t bag_add(const struct rml_plugin_call *call,
                               const struct rml_plugin_block *block)
{
    const int64_t *n = block->columns[0];
    (void)call;
    for (uint32_t i = 0; i < block->count; i++)
        if (!bag_put(block->states[i], block->bytes[i], n[block->rows[i]]))
            return i;
    return block->count;
}

static inline int bag_merge(const struct rml_plugin_call *call, void *into, uint32_t into_bytes,
                            const void *from, uint32_t from_bytes)
{
    const struct bag *bag = from;
    (void)call;
    assert_true(bag->count > 0 && (bag->count + 1) * sizeof bag->count <= from_bytes);
    for (uint64_t i = 0; i < bag->count; i++)
        if (!bag_put(into, into_bytes, bag->values[i]))
            return 0;  // what is in it already will be found there
    return 1;
}

static inline int bag_finish(const struct rml_plugin_call *call, const void *state,
                             const struct rml_plugin_window *window, void *cell)
{
    const struct bag *bag = state;
    (void)call;
    assert_true(bag->count > 0 && bag->count <= window->values);
    assert_true((bag->count + 1) * sizeof bag->count <= window->state_bytes);
    memcpy(cell, &bag->count, sizeof bag->count);
    return 1;
}

/* The engine's functions, mix and bag. */
static inline const struct rml_functions *mix_functions(void)
{
    static const struct rml_plugin_aggregate aggregates[] = {
        {.name = "mix",
         .sentence = "By so much the sum, and the times.",
         .argument_count = 2,
         .takes = {RML_PLUGIN_INT, RML_PLUGIN_FLOAT},
         .parameters_least = 1,
         .parameters_most = 2,
         .gives = RML_PLUGIN_GIVES_I64,
         .size = mix_size,
         .add = mix_add,
         .merge = mix_merge,
         .finish = mix_finish},
        {.name = "bag",
         .sentence = "How many different values.",
         .argument_count = 1,
         .takes = {RML_PLUGIN_INT},
         .gives = RML_PLUGIN_GIVES_U64,
         .state_bytes = RML_PLUGIN_GROWS_MIN,
         .state_bytes_max = RML_PLUGIN_GROWN_MAX,
         .init = bag_init,
         .add = bag_add,
         .merge = bag_merge,
         .finish = bag_finish},
    };
    static struct rml_function list[RML_FUNCTIONS_MAX];
    static struct rml_functions functions = {.list = list};
    if (functions.count == 0) {
        functions.count = rml_operators_functions()->count;
        memcpy(list, rml_operators_functions()->list, functions.count * sizeof list[0]);
        for (int i = 0; i < 2; i++)
            list[functions.count++] = (struct rml_function){.name = aggregates[i].name,
                                                            .sentence = aggregates[i].sentence,
                                                            .plugin = &aggregates[i]};
    }
    return &functions;
}

#endif
