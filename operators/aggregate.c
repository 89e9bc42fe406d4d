#include "operators/aggregate.h"

#include <math.h>
#include <string.h>

#include "operators/fold_own.h"
#include "operators/fold_plugin.h"
#include "operators/fold_sketch.h"
#include "runtime/base/check.h"
#include "runtime/base/int128.h"
#include "runtime/state/roots.h"
#include "runtime/stats/decay.h"
#include "runtime/stats/ends.h"
#include "runtime/stats/moments.h"

#define FOLD_TRUE      RML_FOLD_TRUE
#define FOLD_SUM       RML_FOLD_SUM
#define FOLD_MIN       RML_FOLD_MIN
#define FOLD_MAX       RML_FOLD_MAX
#define FOLD_MOMENTS   RML_FOLD_MOMENTS
#define FOLD_FIRST     RML_FOLD_FIRST
#define FOLD_LAST      RML_FOLD_LAST
#define FOLD_DECAY     RML_FOLD_DECAY
#define FOLD_HISTOGRAM RML_FOLD_HISTOGRAM
#define FOLD_QUANTILE  RML_FOLD_QUANTILE
#define FOLD_DISTINCT  RML_FOLD_DISTINCT
#define FOLD_TOP       RML_FOLD_TOP

enum function {

#define RML_AGGREGATE(NAME, name, argument, parameters, type, needs, nullable, sentence) \
 FUNCTION_##NAME,
#include "operators/aggregate.def"
#undef RML_AGGREGATE
    FUNCTIONS
};

static enum rml_type type_count(enum rml_type argument)
{
    (void)argument;
    return RML_U64;
}

static enum rml_type type_float(enum rml_type argument)
{
    (void)argument;
    return RML_F64;
}

static enum rml_type type_argument(enum rml_type argument)
{
    return argument;
}

static enum rml_type type_sum(enum rml_type argument)
{
    switch (rml_type_info[argument].kind) {
    case RML_KIND_FLOAT:
        return RML_F64;
    case RML_KIND_UINT:
        return RML_U64;
    case RML_KIND_INT:
    case RML_KIND_BOOL:
    case RML_KIND_STR:
    case RML_KINDS:
        break;
    }
    return RML_I64;
}

// A range of integers is never negative, and can be twice what their type holds.
static enum rml_type type_range(enum rml_type argument)
{
    return rml_type_info[argument].kind == RML_KIND_FLOAT ? RML_F64 : RML_U64;
}

// By itself; what aggregates share is not seen here.
#define HOLDS_VALUE(needs) (((needs) & (FOLD_FIRST | FOLD_LAST)) != 0)
#define STATE_BYTES(needs)         \
 ((needs) == 0               ? 0u  \
  : (needs) >= FOLD_QUANTILE ? 80u \
  : HOLDS_VALUE(needs)       ? 16u \
  : (needs) >= FOLD_MOMENTS  ? 32u \
  : (needs)&FOLD_SUM         ? 24u \
                             : 16u)

static const struct rml_function functions[FUNCTIONS] = {
#define RML_AGGREGATE(NAME, name, argument, parameters, type, needs, nullable, sentence) \
 {#name,                                                                                 \
  RML_ARGUMENT_##argument,                                                               \
  RML_PARAMETERS_##parameters,                                                           \
  nullable,                                                                              \
  STATE_BYTES(needs),                                                                    \
  HOLDS_VALUE(needs),                                                                    \
  sentence,                                                                              \
  type_##type,                                                                           \
  NULL,                                                                                  \
  FUNCTION_##NAME == FUNCTION_RATE},
#include "operators/aggregate.def"
#undef RML_AGGREGATE
};

static const unsigned function_needs[FUNCTIONS] = {
#define RML_AGGREGATE(NAME, name, argument, parameters, type, needs, nullable, sentence) needs,
#include "operators/aggregate.def"
#undef RML_AGGREGATE
};

const struct rml_functions rml_aggregate_functions = {FUNCTIONS, functions, true};

/* Where a group's words lie, known when compiling wherever `needs` is. */
#define WORD           ((uint32_t)sizeof(uint64_t))
#define AT_SUM         WORD
#define AT_LEAST(n)    (AT_SUM + ((n)&FOLD_SUM ? 2 * WORD : 0))
#define AT_GREATEST(n) (AT_LEAST(n) + ((n)&FOLD_MIN ? WORD : 0))
#define FOLD_BYTES(n)  (AT_GREATEST(n) + ((n)&FOLD_MAX ? WORD : 0))

static bool is_own(const struct rml_fold *fold)
{
    return fold->needs > FOLD_TRUE;
}

static uint32_t fold_bytes(const struct rml_fold *fold)
{
    if (rml_fold_is_sketch(fold))
        return rml_fold_sketch_bytes(fold);
    if (is_own(fold))
        return rml_fold_own_bytes(fold);
    return fold->needs & FOLD_TRUE ? 2 * WORD : FOLD_BYTES(fold->needs);
}

// Can one fold serve two aggregates?
static bool share(const struct rml_fold *a, const struct rml_fold *b)
{
    if (a->column != b->column || (!is_own(a) != !is_own(b)) || !rml_fold_plugin_same(a, b))
        return false;
    return !is_own(a)
           || (a->needs == b->needs && a->parameter_count == b->parameter_count
               && (a->parameter_count == 0
                   || memcmp(a->parameters, b->parameters,
                             a->parameter_count * sizeof a->parameters[0])
                          == 0));
}

static uint32_t fold_of(struct rml_aggregator *aggregator, const struct rml_fold *wanted)
{
    for (uint32_t i = 0; i < aggregator->fold_count; i++) {
        if (share(&aggregator->folds[i], wanted)) {
            aggregator->folds[i].needs |= wanted->needs;
            return i;
        }
    }
    aggregator->folds[aggregator->fold_count] = *wanted;
    return aggregator->fold_count++;
}

// median(x) is quantile(x, 0.5) at the standard accuracy.
static const double median_parameters[] = {0.5, RML_QUANTILE_ACCURACY};

static void set_result(struct rml_aggregator *aggregator, uint32_t index,
                       const struct rml_plan_aggregate *aggregate, const struct rml_frame *frame)
{
    RML_CHECK(aggregate->function < FUNCTIONS || aggregate->call != NULL);
    aggregator->results[index].function = aggregate->function;
    aggregator->results[index].part = aggregate->part;
    aggregator->results[index].type = aggregate->type;
    aggregator->results[index].fold = UINT32_MAX;
    if (aggregate->column == RML_FIELD_ABSENT)
        return;
    const struct rml_type_info *info = &rml_type_info[frame->columns[aggregate->column].type];
    struct rml_fold wanted = {
        .index = aggregator->fold_count,
        .column = aggregate->column,
        .kind = info->kind,
        .cell_bytes = info->cell_bytes,
        .needs = aggregate->call == NULL                ? function_needs[aggregate->function]
                 : aggregate->call->state_bytes_max > 0 ? RML_FOLD_GROWING
                                                        : RML_FOLD_PLUGIN,
        .parameter_count = aggregate->parameter_count,
        .parameters = aggregate->parameters,
        .call = aggregate->call,
    };
    if (wanted.needs == FOLD_QUANTILE) {
        const double *given =
            aggregate->parameter_count > 0 ? wanted.parameters : median_parameters;
        aggregator->results[index].q = given[0];
        wanted.parameters = &given[1];  // quantiles of one accuracy share a sketch
        wanted.parameter_count = 1;
        wanted.needs = given[1] > 0 ? FOLD_QUANTILE : RML_FOLD_KEPT;
    }
    aggregator->results[index].fold = fold_of(aggregator, &wanted);
}

int rml_aggregator_open(struct rml_aggregator *aggregator, const struct rml_plan_stage *stage,
                        const struct rml_plan_source *source, struct rml_pages *pages,
                        struct rml_err *err)
{
    *aggregator = (struct rml_aggregator){.result_count = stage->aggregate_count,
                                          .time_column = source->time_field};
    for (uint32_t i = 0; i < stage->aggregate_count; i++)
        set_result(aggregator, i, &stage->aggregates[i], &source->frame);
    bool has_sketch = false;
    for (uint32_t i = 0; i < aggregator->fold_count; i++) {
        aggregator->folds[i].offset = aggregator->state_bytes;
        aggregator->state_bytes += fold_bytes(&aggregator->folds[i]);
        has_sketch = has_sketch || rml_fold_is_sketch(&aggregator->folds[i]);
    }
    return has_sketch ? rml_sketches_open(&aggregator->sketches, aggregator, pages, err) : 0;
}

void rml_aggregator_close(struct rml_aggregator *aggregator)
{
    rml_sketches_close(aggregator->sketches);
    aggregator->sketches = NULL;
}

bool rml_aggregator_has_room(const struct rml_aggregator *aggregator, uint32_t count)
{
    return aggregator->sketches == NULL || rml_sketches_have_room(aggregator->sketches, count);
}

/* A word of a state. Every word is aligned; memcpy says that any type may lie there, and so do these. */
typedef double __attribute__((may_alias)) word_float;
typedef int64_t __attribute__((may_alias)) word_int;
typedef uint64_t __attribute__((may_alias)) word_uint;

#define GET(type, name, at) \
 type name;                 \
 memcpy(&name, (const unsigned char *)(at), sizeof name)
#define SET(at, value) memcpy((unsigned char *)(at), &(value), sizeof(value))

static void reset_fold(const struct rml_fold *fold, unsigned char *at)
{
    unsigned needs = fold->needs;
    memset(at, 0, fold_bytes(fold));
    if (needs == RML_FOLD_PLUGIN)
        rml_fold_plugin_init(fold, at + WORD, fold->call->state_bytes);
    if (needs >= FOLD_TRUE)
        return;
    const int64_t int_ends[2] = {INT64_MAX, INT64_MIN};
    const uint64_t uint_ends[2] = {UINT64_MAX, 0};
    const double float_ends[2] = {(double)INFINITY, -(double)INFINITY};
    const void *ends = fold->kind == RML_KIND_FLOAT  ? (const void *)float_ends
                       : fold->kind == RML_KIND_UINT ? (const void *)uint_ends
                                                     : (const void *)int_ends;
    if (needs & FOLD_MIN)
        memcpy(at + AT_LEAST(needs), ends, WORD);
    if (needs & FOLD_MAX)
        memcpy(at + AT_GREATEST(needs), (const unsigned char *)ends + WORD, WORD);
}

static void reset(const struct rml_aggregator *aggregator, bool gathers, unsigned char *at)
{
    for (uint32_t i = 0; i < aggregator->fold_count; i++) {
        const struct rml_fold *fold = &aggregator->folds[i];
        if (rml_fold_is_sketch(fold))
            rml_fold_sketch_reset(fold, aggregator->sketches, gathers, at + fold->offset);
        else
            reset_fold(fold, at + fold->offset);
    }
}

void rml_aggregator_reset(const struct rml_aggregator *aggregator, void *state)
{
    reset(aggregator, false, state);
}

void rml_aggregator_roots(const struct rml_aggregator *aggregator, struct rml_roots *roots)
{
    rml_roots_same(roots, aggregator->state_bytes);
    if (aggregator->sketches != NULL)
        rml_sketches_roots(aggregator->sketches, roots);
}

void rml_aggregator_gather(const struct rml_aggregator *aggregator, void *state)
{
    reset(aggregator, true, state);
}

void rml_aggregator_release(const struct rml_aggregator *aggregator, const void *state)
{
    const unsigned char *at = state;
    for (uint32_t i = 0; aggregator->sketches != NULL && i < aggregator->fold_count; i++) {
        if (rml_fold_is_sketch(&aggregator->folds[i]))
            rml_fold_sketch_release(&aggregator->folds[i], aggregator->sketches,
                                    at + aggregator->folds[i].offset);
    }
}

/* What one fold walks. */
struct walk {
    const void *data;
    const uint8_t *null;
    void *const *states;
    const uint16_t *rows;
    uint32_t count;
    uint32_t offset;
};

/*
 * What the sum loses by rounding is found without asking which of the two is the smaller, for a branch
 * on that goes wrong too often (D. Knuth, "The Art of Computer Programming", vol. 2, 4.2.2, theorem B).
 */
static inline void add_float(unsigned char *at, double x)
{
    word_float *words = (void *)at;
    double sum = words[0];
    double total = sum + x;
    double added = total - sum;
    words[0] = total;
    words[1] += (sum - (total - added)) + (x - added);
}

static inline void add_int(unsigned char *at, rml_int128 x)
{
    GET(rml_int128, sum, at);
    sum += x;
    SET(at, sum);
}

/*
 * The loop of every kind and set of needs: `needs` is a constant in each copy, so what is not needed
 * is not there. It walks a copy of its own, which no store to a state can change.
 */
#define DEFINE_FOLD(kind, cell_type, is_value, add)                                         \
 __attribute__((always_inline)) static inline uint64_t fold_##kind(const struct walk *from, \
                                                                   unsigned needs)          \
 {                                                                                          \
  const struct walk walk = *from;                                                           \
  const cell_type *cells = walk.data;                                                       \
  uint64_t skipped = 0;                                                                     \
  for (uint32_t i = 0; i < walk.count; i++) {                                               \
   uint32_t row = walk.rows[i];                                                             \
   cell_type x = cells[row];                                                                \
   if (!(is_value) || (walk.null != NULL && walk.null[row])) {                              \
    skipped++;                                                                              \
    continue;                                                                               \
   }                                                                                        \
   unsigned char *at = (unsigned char *)walk.states[i] + walk.offset;                       \
   ++*(word_uint *)(void *)at;                                                              \
   if (needs & FOLD_SUM)                                                                    \
    add(at + AT_SUM, x);                                                                    \
   if (needs & FOLD_MIN) {                                                                  \
    word_##kind *least = (void *)(at + AT_LEAST(needs));                                    \
    *least = x < *least ? x : *least;                                                       \
   }                                                                                        \
   if (needs & FOLD_MAX) {                                                                  \
    word_##kind *greatest = (void *)(at + AT_GREATEST(needs));                              \
    *greatest = x > *greatest ? x : *greatest;                                              \
   }                                                                                        \
  }                                                                                         \
  return skipped;                                                                           \
 }                                                                                          \
 static uint64_t fold_##kind##_1(const struct walk *walk)                                   \
 {                                                                                          \
  return fold_##kind(walk, 1);                                                              \
 }                                                                                          \
 static uint64_t fold_##kind##_2(const struct walk *walk)                                   \
 {                                                                                          \
  return fold_##kind(walk, 2);                                                              \
 }                                                                                          \
 static uint64_t fold_##kind##_3(const struct walk *walk)                                   \
 {                                                                                          \
  return fold_##kind(walk, 3);                                                              \
 }                                                                                          \
 static uint64_t fold_##kind##_4(const struct walk *walk)                                   \
 {                                                                                          \
  return fold_##kind(walk, 4);                                                              \
 }                                                                                          \
 static uint64_t fold_##kind##_5(const struct walk *walk)                                   \
 {                                                                                          \
  return fold_##kind(walk, 5);                                                              \
 }                                                                                          \
 static uint64_t fold_##kind##_6(const struct walk *walk)                                   \
 {                                                                                          \
  return fold_##kind(walk, 6);                                                              \
 }                                                                                          \
 static uint64_t fold_##kind##_7(const struct walk *walk)                                   \
 {                                                                                          \
  return fold_##kind(walk, 7);                                                              \
 }

DEFINE_FOLD(float, double, x == x, add_float)
DEFINE_FOLD(int, int64_t, 1, add_int)
DEFINE_FOLD(uint, uint64_t, 1, add_int)

static uint64_t fold_true(const struct walk *walk)
{
    const uint8_t *cells = walk->data;
    uint64_t skipped = 0;
    for (uint32_t i = 0; i < walk->count; i++) {
        uint32_t row = walk->rows[i];
        if (walk->null != NULL && walk->null[row]) {
            skipped++;
            continue;
        }
        unsigned char *at = (unsigned char *)walk->states[i] + walk->offset;
        GET(uint64_t, values, at);
        GET(uint64_t, trues, at + WORD);
        values++;
        trues += cells[row];
        SET(at, values);
        SET(at + WORD, trues);
    }
    return skipped;
}

typedef uint64_t fold_loop(const struct walk *walk);

#define FOLD_LOOPS(kind)                                                                     \
 {                                                                                           \
  NULL, fold_##kind##_1, fold_##kind##_2, fold_##kind##_3, fold_##kind##_4, fold_##kind##_5, \
      fold_##kind##_6, fold_##kind##_7                                                       \
 }

static fold_loop *const float_loops[] = FOLD_LOOPS(float);
static fold_loop *const int_loops[] = FOLD_LOOPS(int);
static fold_loop *const uint_loops[] = FOLD_LOOPS(uint);

static fold_loop *loop_of(const struct rml_fold *fold)
{
    if (fold->needs & FOLD_TRUE)
        return fold_true;
    if (fold->kind == RML_KIND_FLOAT)
        return float_loops[fold->needs];
    return fold->kind == RML_KIND_UINT ? uint_loops[fold->needs] : int_loops[fold->needs];
}

static uint64_t add_own(const struct rml_aggregator *aggregator, const struct rml_fold *fold,
                        const struct rml_column *columns, void *const *states, const uint16_t *rows,
                        uint32_t count)
{
    const struct rml_fold_walk walk = {.data = columns[fold->column].data,
                                       .null = columns[fold->column].null,
                                       .time = columns[aggregator->time_column].data,
                                       .states = states,
                                       .rows = rows,
                                       .count = count};
    if (fold->needs == RML_FOLD_PLUGIN)
        return rml_fold_plugin_add(fold, columns, &walk);
    if (fold->needs == RML_FOLD_GROWING)
        return rml_fold_growing_add(fold, aggregator->sketches, columns, &walk);
    return rml_fold_is_sketch(fold) ? rml_fold_sketch_add(fold, aggregator->sketches, &walk)
                                    : rml_fold_own_add(fold, &walk);
}

uint64_t rml_aggregator_fold(const struct rml_aggregator *aggregator,
                             const struct rml_column *columns, void *const *states,
                             const uint16_t *rows, uint32_t count)
{
    uint64_t skipped = 0;
    for (uint32_t i = 0; i < aggregator->fold_count; i++) {
        const struct rml_fold *fold = &aggregator->folds[i];
        if (is_own(fold)) {
            skipped += add_own(aggregator, fold, columns, states, rows, count);
            continue;
        }
        const struct walk walk = {columns[fold->column].data,
                                  columns[fold->column].null,
                                  states,
                                  rows,
                                  count,
                                  fold->offset};
        skipped += loop_of(fold)(&walk);
    }
    return skipped;
}

#define MERGE_ENDS(cell_type, into, from, needs)   \
 do {                                              \
  if ((needs)&FOLD_MIN) {                          \
   GET(cell_type, a, (into) + AT_LEAST(needs));    \
   GET(cell_type, b, (from) + AT_LEAST(needs));    \
   a = b < a ? b : a;                              \
   SET((into) + AT_LEAST(needs), a);               \
  }                                                \
  if ((needs)&FOLD_MAX) {                          \
   GET(cell_type, a, (into) + AT_GREATEST(needs)); \
   GET(cell_type, b, (from) + AT_GREATEST(needs)); \
   a = b > a ? b : a;                              \
   SET((into) + AT_GREATEST(needs), a);            \
  }                                                \
 } while (0)

static void merge_sum(enum rml_kind kind, unsigned char *into, const unsigned char *from)
{
    if (kind != RML_KIND_FLOAT) {
        GET(rml_int128, sum, from);
        add_int(into, sum);
        return;
    }
    GET(double, sum, from);
    GET(double, lost, from + WORD);
    add_float(into, sum);
    GET(double, lost_here, into + WORD);
    lost_here += lost;
    SET(into + WORD, lost_here);
}

static void merge_fold(const struct rml_fold *fold, unsigned char *into, const unsigned char *from)
{
    if (is_own(fold)) {
        rml_fold_own_merge(fold, into, from);
        return;
    }
    GET(uint64_t, values, into);
    GET(uint64_t, more, from);
    values += more;
    SET(into, values);
    if (fold->needs & FOLD_TRUE) {
        GET(uint64_t, trues, into + WORD);
        GET(uint64_t, more_trues, from + WORD);
        trues += more_trues;
        SET(into + WORD, trues);
        return;
    }
    if (fold->needs & FOLD_SUM)
        merge_sum(fold->kind, into + AT_SUM, from + AT_SUM);
    if (fold->kind == RML_KIND_FLOAT)
        MERGE_ENDS(double, into, from, fold->needs);
    else if (fold->kind == RML_KIND_UINT)
        MERGE_ENDS(uint64_t, into, from, fold->needs);
    else
        MERGE_ENDS(int64_t, into, from, fold->needs);
}

void rml_aggregator_merge(const struct rml_aggregator *aggregator, void *into, const void *from)
{
    unsigned char *a = into;
    const unsigned char *b = from;
    for (uint32_t i = 0; i < aggregator->fold_count; i++) {
        const struct rml_fold *fold = &aggregator->folds[i];
        if (rml_fold_is_sketch(fold))
            rml_fold_sketch_merge(fold, aggregator->sketches, a + fold->offset, b + fold->offset);
        else
            merge_fold(fold, a + fold->offset, b + fold->offset);
    }
}

void rml_aggregator_absorb(const struct rml_aggregator *aggregator, void *into, void *from)
{
    unsigned char *a = into, *b = from;
    for (uint32_t i = 0; i < aggregator->fold_count; i++) {
        const struct rml_fold *fold = &aggregator->folds[i];
        if (rml_fold_is_sketch(fold))
            rml_fold_sketch_absorb(fold, aggregator->sketches, a + fold->offset, b + fold->offset);
        else
            merge_fold(fold, a + fold->offset, b + fold->offset);
    }
}

static double float_sum(const unsigned char *at)
{
    GET(double, sum, at);
    GET(double, lost, at + WORD);
    // Once an infinity went in, what was "lost" is no number, and the sum says all there is to say.
    return isfinite(sum) ? sum + lost : sum;
}

static bool sum_result(const struct rml_fold *fold, const unsigned char *at, void *cell)
{
    if (fold->kind == RML_KIND_FLOAT) {
        double sum = float_sum(at);
        memcpy(cell, &sum, sizeof sum);
        return !isnan(sum);
    }
    GET(rml_int128, sum, at);
    if (fold->kind == RML_KIND_UINT ? sum > UINT64_MAX : sum > INT64_MAX || sum < INT64_MIN)
        return false;
    int64_t low = (int64_t)sum;
    memcpy(cell, &low, sizeof low);
    return true;
}

static double sum_as_double(const struct rml_fold *fold, const unsigned char *at)
{
    if (fold->kind == RML_KIND_FLOAT)
        return float_sum(at);
    GET(rml_int128, exact, at);
    return (double)exact;
}

static bool store_number(double value, void *cell)
{
    memcpy(cell, &value, sizeof value);
    return !isnan(value);
}

static bool range_result(const struct rml_fold *fold, const unsigned char *at, void *cell)
{
    const unsigned char *least_at = at + AT_LEAST(fold->needs);
    const unsigned char *greatest_at = at + AT_GREATEST(fold->needs);
    if (fold->kind == RML_KIND_FLOAT) {
        GET(double, least, least_at);
        GET(double, greatest, greatest_at);
        return store_number(greatest - least, cell);
    }
    GET(uint64_t, least, least_at);
    GET(uint64_t, greatest, greatest_at);
    uint64_t range = greatest - least;
    memcpy(cell, &range, sizeof range);
    return true;
}

static bool end_result(const struct rml_fold *fold, const unsigned char *at, void *cell)
{
    const struct rml_end *end = rml_fold_own_words(at);
    memcpy(cell, end->value, fold->cell_bytes);
    return true;
}

static bool rate_result(const struct rml_fold *fold, const unsigned char *at, int64_t length_ns,
                        void *cell)
{
    return length_ns > 0 && store_number(sum_as_double(fold, at) / ((double)length_ns / 1e9), cell);
}

// Of a state in which there is a value.
static bool result_of_some(enum function function, const struct rml_fold *fold,
                           const unsigned char *at, uint64_t values, int64_t length_ns, void *cell)
{
    double number;
    switch (function) {
    case FUNCTION_SUM:
        return sum_result(fold, at + AT_SUM, cell);
    case FUNCTION_AVG:
        return store_number(sum_as_double(fold, at + AT_SUM) / (double)values, cell);
    case FUNCTION_RATE:
        return rate_result(fold, at + AT_SUM, length_ns, cell);
    case FUNCTION_MIN:
        memcpy(cell, at + AT_LEAST(fold->needs), WORD);
        return true;
    case FUNCTION_MAX:
        memcpy(cell, at + AT_GREATEST(fold->needs), WORD);
        return true;
    case FUNCTION_RANGE:
        return range_result(fold, at, cell);
    case FUNCTION_VAR_POP:
        return rml_moments_var_pop(rml_fold_own_words(at), &number) && store_number(number, cell);
    case FUNCTION_VAR_SAMP:
        return rml_moments_var_samp(rml_fold_own_words(at), &number) && store_number(number, cell);
    case FUNCTION_STDDEV_POP:
        return rml_moments_stddev_pop(rml_fold_own_words(at), &number)
               && store_number(number, cell);
    case FUNCTION_STDDEV_SAMP:
        return rml_moments_stddev_samp(rml_fold_own_words(at), &number)
               && store_number(number, cell);
    case FUNCTION_FIRST:
    case FUNCTION_LAST:
        return end_result(fold, at, cell);
    case FUNCTION_EWMA:
        return rml_decay_mean(rml_fold_own_words(at), &number) && store_number(number, cell);
    case FUNCTION_COUNT:
    case FUNCTION_COUNT_IF:
    case FUNCTION_HISTOGRAM:
    case FUNCTION_QUANTILE:
    case FUNCTION_MEDIAN:
    case FUNCTION_DISTINCT:
    case FUNCTION_TOP:
    case FUNCTIONS:
        break;
    }
    RML_UNREACHABLE("every function has a result");
}

static bool sketch_result(const struct rml_aggregator *aggregator, uint32_t index,
                          const unsigned char *at, int64_t length_ns, void *cell)
{
    const struct rml_fold *fold = &aggregator->folds[aggregator->results[index].fold];
    if (fold->needs == RML_FOLD_GROWING)
        return rml_fold_growing_result(fold, aggregator->sketches, at, length_ns,
                                       aggregator->results[index].type, cell);
    if (fold->needs == FOLD_DISTINCT) {
        uint64_t count = rml_fold_sketch_distinct(fold, aggregator->sketches, at);
        memcpy(cell, &count, sizeof count);
        return true;
    }
    if (fold->needs == FOLD_TOP)
        return rml_fold_sketch_top(fold, aggregator->sketches, at, aggregator->results[index].part,
                                   cell);
    double value;
    return rml_fold_sketch_quantile(fold, aggregator->sketches, at, aggregator->results[index].q,
                                    &value)
           && store_number(value, cell);
}

bool rml_aggregator_result(const struct rml_aggregator *aggregator, uint32_t index,
                           const void *state, uint64_t records, int64_t length_ns, void *cell)
{
    enum function function = (enum function)aggregator->results[index].function;
    if (function == FUNCTION_COUNT) {
        memcpy(cell, &records, sizeof records);
        return true;
    }
    const struct rml_fold *fold = &aggregator->folds[aggregator->results[index].fold];
    const unsigned char *at = (const unsigned char *)state + fold->offset;
    if (function == FUNCTION_COUNT_IF || function == FUNCTION_HISTOGRAM) {
        memcpy(cell, at + WORD + (size_t)aggregator->results[index].part * WORD, WORD);
        return true;
    }
    if (rml_fold_is_sketch(fold))
        return sketch_result(aggregator, index, at, length_ns, cell);
    GET(uint64_t, values, at);
    if (values == 0)
        return false;
    if (fold->needs != RML_FOLD_PLUGIN)
        return result_of_some(function, fold, at, values, length_ns, cell);
    const struct rml_plugin_window window = {
        .values = values, .length_ns = length_ns, .state_bytes = fold->call->state_bytes};
    return rml_fold_plugin_result(fold, at + WORD, &window, aggregator->results[index].type, cell);
}
