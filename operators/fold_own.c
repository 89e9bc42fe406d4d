#include "operators/fold_own.h"

#include <string.h>

#include "operators/fold_plugin.h"
#include "runtime/base/check.h"
#include "runtime/stats/decay.h"
#include "runtime/stats/ends.h"
#include "runtime/stats/histogram.h"
#include "runtime/stats/moments.h"

#define WORD ((uint32_t)sizeof(uint64_t))

uint32_t rml_fold_own_bytes(const struct rml_fold *fold)
{
    switch (fold->needs) {
    case RML_FOLD_MOMENTS:
        return WORD + (uint32_t)sizeof(struct rml_moments);
    case RML_FOLD_FIRST:
    case RML_FOLD_LAST:
        return WORD + rml_end_bytes(fold->cell_bytes);
    case RML_FOLD_DECAY:
        return WORD + (uint32_t)sizeof(struct rml_decay);
    case RML_FOLD_HISTOGRAM:
        return WORD + (fold->parameter_count + 1) * WORD;
    case RML_FOLD_PLUGIN:
        return WORD + rml_fold_plugin_bytes(fold);
    default:
        RML_UNREACHABLE("every fold of its own has a size");
    }
}

/* Count one value more in a state; returns how many it had. */
static inline uint64_t count_value(unsigned char *at)
{
    uint64_t values;
    memcpy(&values, at, sizeof values);
    uint64_t more = values + 1;
    memcpy(at, &more, sizeof more);
    return values;
}

static inline unsigned char *state_at(const struct rml_fold *fold, const struct rml_fold_walk *walk,
                                      uint32_t i)
{
    return (unsigned char *)walk->states[i] + fold->offset;
}

static uint64_t add_moments(const struct rml_fold *fold, const struct rml_fold_walk *walk)
{
    uint64_t skipped = 0;
    for (uint32_t i = 0; i < walk->count; i++) {
        double x;
        if (!rml_fold_number(fold, walk, walk->rows[i], &x)) {
            skipped++;
            continue;
        }
        unsigned char *at = state_at(fold, walk, i);
        (void)count_value(at);
        rml_moments_add((void *)(at + WORD), x);
    }
    return skipped;
}

static uint64_t add_decay(const struct rml_fold *fold, const struct rml_fold_walk *walk)
{
    const int64_t span = (int64_t)fold->parameters[0];
    uint64_t skipped = 0;
    for (uint32_t i = 0; i < walk->count; i++) {
        double x;
        uint32_t row = walk->rows[i];
        if (!rml_fold_number(fold, walk, row, &x)) {
            skipped++;
            continue;
        }
        unsigned char *at = state_at(fold, walk, i);
        (void)count_value(at);
        rml_decay_add((void *)(at + WORD), span, walk->time[row], x);
    }
    return skipped;
}

static uint64_t add_histogram(const struct rml_fold *fold, const struct rml_fold_walk *walk)
{
    uint64_t skipped = 0;
    for (uint32_t i = 0; i < walk->count; i++) {
        double x;
        if (!rml_fold_number(fold, walk, walk->rows[i], &x)) {
            skipped++;
            continue;
        }
        unsigned char *at = state_at(fold, walk, i);
        (void)count_value(at);
        uint32_t bucket = rml_histogram_bucket(fold->parameters, fold->parameter_count, x);
        (void)count_value(at + WORD + bucket * WORD);
    }
    return skipped;
}

// Cells have `bytes` bytes, which the compiler knows where it matters.
__attribute__((always_inline)) static inline uint64_t
add_ends(const struct rml_fold *fold, const struct rml_fold_walk *walk, uint32_t bytes)
{
    const unsigned char *cells = walk->data;
    uint64_t skipped = 0;
    for (uint32_t i = 0; i < walk->count; i++) {
        uint32_t row = walk->rows[i];
        double x;
        bool is_null = walk->null != NULL && walk->null[row];
        if (is_null || (fold->kind == RML_KIND_FLOAT && !rml_fold_number(fold, walk, row, &x))) {
            skipped++;
            continue;
        }
        unsigned char *at = state_at(fold, walk, i);
        bool any = count_value(at) > 0;
        const unsigned char *cell = cells + (size_t)row * bytes;
        if (fold->needs == RML_FOLD_FIRST)
            rml_end_first((void *)(at + WORD), any, walk->time[row], cell, bytes);
        else
            rml_end_last((void *)(at + WORD), any, walk->time[row], cell, bytes);
    }
    return skipped;
}

static uint64_t add_end(const struct rml_fold *fold, const struct rml_fold_walk *walk)
{
    return fold->cell_bytes == WORD ? add_ends(fold, walk, WORD)
                                    : add_ends(fold, walk, fold->cell_bytes);
}

uint64_t rml_fold_own_add(const struct rml_fold *fold, const struct rml_fold_walk *walk)
{
    switch (fold->needs) {
    case RML_FOLD_MOMENTS:
        return add_moments(fold, walk);
    case RML_FOLD_FIRST:
    case RML_FOLD_LAST:
        return add_end(fold, walk);
    case RML_FOLD_DECAY:
        return add_decay(fold, walk);
    case RML_FOLD_HISTOGRAM:
        return add_histogram(fold, walk);
    default:
        RML_UNREACHABLE("every fold of its own adds values");
    }
}

static void add_word(unsigned char *into, const unsigned char *from)
{
    uint64_t a, b;
    memcpy(&a, into, sizeof a);
    memcpy(&b, from, sizeof b);
    a += b;
    memcpy(into, &a, sizeof a);
}

static void merge_end(const struct rml_fold *fold, unsigned char *into, const unsigned char *from)
{
    uint64_t values;
    memcpy(&values, into, sizeof values);
    const struct rml_end *end = rml_fold_own_words(from);
    if (fold->needs == RML_FOLD_FIRST)
        rml_end_first((void *)(into + WORD), values > 0, end->time, end->value, fold->cell_bytes);
    else
        rml_end_last((void *)(into + WORD), values > 0, end->time, end->value, fold->cell_bytes);
}

void rml_fold_own_merge(const struct rml_fold *fold, unsigned char *into, const unsigned char *from)
{
    uint64_t values;
    memcpy(&values, from, sizeof values);
    if (values == 0)
        return;
    switch (fold->needs) {
    case RML_FOLD_MOMENTS:
        rml_moments_merge((void *)(into + WORD), rml_fold_own_words(from));
        break;
    case RML_FOLD_FIRST:
    case RML_FOLD_LAST:
        merge_end(fold, into, from);
        break;
    case RML_FOLD_DECAY:
        rml_decay_merge((void *)(into + WORD), (int64_t)fold->parameters[0],
                        rml_fold_own_words(from));
        break;
    case RML_FOLD_HISTOGRAM:
        for (uint32_t i = 0; i <= fold->parameter_count; i++)
            add_word(into + WORD + i * WORD, from + WORD + i * WORD);
        break;
    case RML_FOLD_PLUGIN:
        rml_fold_plugin_merge(fold, into, from);
        break;
    default:
        RML_UNREACHABLE("every fold of its own merges");
    }
    add_word(into, from);
}
