#include "operators/fold_sketch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "operators/fold_kept.h"
#include "operators/fold_plugin.h"
#include "runtime/base/check.h"
#include "runtime/base/err.h"
#include "runtime/state/chunks.h"
#include "runtime/stats/distinct.h"
#include "runtime/stats/quantile.h"
#include "runtime/stats/top.h"

#define ROW_BYTES 64u         // of a sketch in its row
#define GATHERED  UINT32_MAX  // no chunk has this number

_Static_assert(ROW_BYTES == RML_QUANTILE_BYTES_MIN, "this sketch begins in its row");
_Static_assert(ROW_BYTES == RML_DISTINCT_BYTES_MIN, "and so does this one");

/* One value may take a chunk of each larger size, each from a page of its own, on the way to the
 * largest, and the notes on these pages two pages more. */
#define PAGES_PER_VALUE (RML_CHUNK_SIZES - 1 + 2)

/* A record may need a key, a row, and what lists them: each a new leaf in a new directory. */
#define PAGES_PER_RECORD 12u

struct slot {
    uint64_t values;
    uint32_t chunk;     // where the sketch is; RML_NO_CHUNK: here; GATHERED: in the fold's own room
    uint32_t capacity;  // bytes there; 0: there is no sketch yet
    uint64_t row[];
};

struct rml_sketches {
    struct rml_chunks chunks;
    uint32_t fold_count;                 // with sketches
    void *gathered[RML_AGGREGATES_MAX];  // room for the largest form, by fold
    // The list that the parts of a top are read from, one after another.
    const struct rml_top_entry *top[RML_TOP_COUNTERS_MAX];
    uint32_t top_count;
};

/* What each kind of sketch does in a region of memory. */
struct kind {
    uint32_t row_bytes;    // of the region in the row; 0: none, or, of a plug-in's, what it says
    uint32_t chunk_bytes;  // of the least region outside
    void (*init)(const struct rml_fold *fold, void *region, uint32_t capacity);
    uint32_t (*bytes_max)(const struct rml_fold *fold);
    // Into a larger region.
    void (*move)(const struct rml_fold *fold, void *region, uint32_t capacity, const void *from,
                 uint32_t from_capacity);
    int (*merge)(const struct rml_fold *fold, void *region, uint32_t capacity, const void *from,
                 uint32_t from_capacity);
};

/* Quantiles: parameter 0 is the accuracy. */

static void quantile_init(const struct rml_fold *fold, void *region, uint32_t capacity)
{
    (void)capacity;
    rml_quantile_init(region, rml_quantile_bits(fold->parameters[0]));
}

static uint32_t quantile_bytes_max(const struct rml_fold *fold)
{
    return rml_quantile_bytes_max(rml_quantile_bits(fold->parameters[0]));
}

static void quantile_move(const struct rml_fold *fold, void *region, uint32_t capacity,
                          const void *from, uint32_t from_capacity)
{
    (void)from_capacity;
    (void)fold;
    (void)capacity;
    memcpy(region, from, rml_quantile_bytes(from));
}

static int quantile_merge(const struct rml_fold *fold, void *region, uint32_t capacity,
                          const void *from, uint32_t from_capacity)
{
    (void)fold;
    (void)from_capacity;
    return rml_quantile_merge(region, capacity, from);
}

/* Distinct values */

static void distinct_init(const struct rml_fold *fold, void *region, uint32_t capacity)
{
    (void)fold;
    rml_distinct_init(region, capacity);
}

static uint32_t distinct_bytes_max(const struct rml_fold *fold)
{
    (void)fold;
    return RML_DISTINCT_BYTES_MAX;
}

static void distinct_move(const struct rml_fold *fold, void *region, uint32_t capacity,
                          const void *from, uint32_t from_capacity)
{
    (void)from_capacity;
    (void)fold;
    rml_distinct_init(region, capacity);
    RML_CHECK(rml_distinct_merge(region, from) == 0);
}

static int distinct_merge(const struct rml_fold *fold, void *region, uint32_t capacity,
                          const void *from, uint32_t from_capacity)
{
    (void)fold;
    (void)from_capacity;
    (void)capacity;
    return rml_distinct_merge(region, from);
}

/* The most frequent values: parameter 0 is how many are wanted. */

// Ten counters for each wanted value: then even one of a tenth of an even share's weight is told.
static uint32_t top_counters(const struct rml_fold *fold)
{
    uint32_t counters = 10 * (uint32_t)fold->parameters[0];
    counters = counters < 64 ? 64 : counters;
    while (rml_top_bytes_max(counters, fold->cell_bytes) > RML_CHUNK_BYTES_MAX)
        counters--;
    return counters;
}

static void top_init(const struct rml_fold *fold, void *region, uint32_t capacity)
{
    rml_top_init(region, capacity, top_counters(fold), fold->cell_bytes);
}

static uint32_t top_bytes_max(const struct rml_fold *fold)
{
    uint32_t need = rml_top_bytes_max(top_counters(fold), fold->cell_bytes);
    uint32_t bytes = RML_TOP_BYTES_MIN;
    while (bytes < need)
        bytes *= 2;
    return bytes;
}

static void top_move(const struct rml_fold *fold, void *region, uint32_t capacity, const void *from,
                     uint32_t from_capacity)
{
    (void)from_capacity;
    (void)fold;
    rml_top_copy(region, capacity, from);
}

static int top_merge(const struct rml_fold *fold, void *region, uint32_t capacity, const void *from,
                     uint32_t from_capacity)
{
    (void)fold;
    (void)from_capacity;
    (void)capacity;
    return rml_top_merge(region, from);
}

static const struct kind quantile_kind = {ROW_BYTES,          2 * ROW_BYTES, quantile_init,
                                          quantile_bytes_max, quantile_move, quantile_merge};
static const struct kind distinct_kind = {ROW_BYTES,          2 * ROW_BYTES, distinct_init,
                                          distinct_bytes_max, distinct_move, distinct_merge};
static const struct kind top_kind = {0,        RML_TOP_BYTES_MIN, top_init, top_bytes_max,
                                     top_move, top_merge};

/* States of plug-ins that grow */

static void growing_init(const struct rml_fold *fold, void *region, uint32_t capacity)
{
    memset(region, 0, capacity);
    rml_fold_plugin_init(fold, region, capacity);
}

static uint32_t growing_bytes_max(const struct rml_fold *fold)
{
    return fold->call->state_bytes_max;
}

static void growing_move(const struct rml_fold *fold, void *region, uint32_t capacity,
                         const void *from, uint32_t from_capacity)
{
    const struct rml_plan_call *call = fold->call;
    memset(region, 0, capacity);
    if (call->plugin->move != NULL)
        call->plugin->move(&call->call, region, capacity, from, from_capacity);
    else
        memcpy(region, from, from_capacity);
}

// With all the room that there is it must do, whatever it says.
static int growing_merge(const struct rml_fold *fold, void *region, uint32_t capacity,
                         const void *from, uint32_t from_capacity)
{
    const struct rml_plan_call *call = fold->call;
    bool done = call->plugin->merge(&call->call, region, capacity, from, from_capacity) != 0;
    return done || capacity == call->state_bytes_max ? 0 : -ENOSPC;
}

static const struct kind growing_kind = {
    0, 0, growing_init, growing_bytes_max, growing_move, growing_merge};

static const struct kind *kind_of(const struct rml_fold *fold)
{
    if (fold->needs == RML_FOLD_GROWING)
        return &growing_kind;
    if (fold->needs == RML_FOLD_QUANTILE)
        return &quantile_kind;
    return fold->needs == RML_FOLD_DISTINCT ? &distinct_kind : &top_kind;
}

// Of the region in the row.
static uint32_t row_bytes(const struct rml_fold *fold)
{
    return fold->needs == RML_FOLD_GROWING ? fold->call->state_bytes : kind_of(fold)->row_bytes;
}

// Values that are kept have slots of their own kind (operators/fold_kept.h).
static bool is_kept(const struct rml_fold *fold)
{
    return fold->needs == RML_FOLD_KEPT;
}

/* Slots and their regions */

int rml_sketches_open(struct rml_sketches **ret_sketches, const struct rml_aggregator *aggregator,
                      struct rml_pages *pages, struct rml_err *err)
{
    struct rml_sketches *sketches = calloc(1, sizeof *sketches);
    if (sketches == NULL)
        return RML_FAIL(err, -ENOMEM, "no memory for sketches");
    rml_chunks_init(&sketches->chunks, pages);
    for (uint32_t i = 0; i < aggregator->fold_count; i++) {
        const struct rml_fold *fold = &aggregator->folds[i];
        if (!rml_fold_is_sketch(fold))
            continue;
        sketches->fold_count++;
        sketches->gathered[fold->index] =
            malloc(is_kept(fold) ? sizeof(struct rml_kept_list) : kind_of(fold)->bytes_max(fold));
        if (sketches->gathered[fold->index] == NULL) {
            rml_sketches_close(sketches);
            return RML_FAIL(err, -ENOMEM, "no memory for sketches");
        }
    }
    *ret_sketches = sketches;
    return 0;
}

void rml_sketches_close(struct rml_sketches *sketches)
{
    if (sketches == NULL)
        return;
    for (uint32_t i = 0; i < RML_AGGREGATES_MAX; i++)
        free(sketches->gathered[i]);
    free(sketches);
}

void rml_sketches_roots(struct rml_sketches *sketches, struct rml_roots *roots)
{
    rml_chunks_roots(&sketches->chunks, roots);
}

bool rml_sketches_have_room(const struct rml_sketches *sketches, uint32_t count)
{
    const struct rml_pages *pages = sketches->chunks.pages;
    uint64_t need = (uint64_t)count * (sketches->fold_count * PAGES_PER_VALUE + PAGES_PER_RECORD);
    return pages->limit - 1 - pages->in_use >= need;
}

uint32_t rml_fold_sketch_bytes(const struct rml_fold *fold)
{
    return is_kept(fold) ? (uint32_t)sizeof(struct rml_kept_slot)
                         : (uint32_t)sizeof(struct slot) + row_bytes(fold);
}

static const void *region_of(const struct rml_fold *fold, const struct rml_sketches *sketches,
                             const struct slot *slot)
{
    if (slot->chunk == RML_NO_CHUNK)
        return slot->row;
    return slot->chunk == GATHERED ? sketches->gathered[fold->index]
                                   : rml_chunk(sketches->chunks.pages, slot->chunk);
}

static void *region_to_change(const struct rml_fold *fold, struct rml_sketches *sketches,
                              struct slot *slot)
{
    if (slot->chunk == RML_NO_CHUNK)
        return slot->row;
    return slot->chunk == GATHERED
               ? sketches->gathered[fold->index]
               : rml_chunk_change(sketches->chunks.pages, slot->chunk, slot->capacity);
}

void rml_fold_sketch_reset(const struct rml_fold *fold, struct rml_sketches *sketches, bool gathers,
                           unsigned char *at)
{
    if (is_kept(fold)) {
        struct rml_kept_list *list = sketches->gathered[fold->index];
        *(struct rml_kept_slot *)(void *)at =
            (struct rml_kept_slot){.chunk = gathers ? GATHERED : RML_NO_CHUNK};
        if (gathers)
            list->count = 0;
        return;
    }
    struct slot *slot = (void *)at;
    slot->values = 0;
    slot->chunk = gathers ? GATHERED : RML_NO_CHUNK;
    slot->capacity = gathers ? kind_of(fold)->bytes_max(fold) : row_bytes(fold);
    if (slot->capacity > 0)
        kind_of(fold)->init(fold, region_to_change(fold, sketches, slot), slot->capacity);
}

static void release(struct rml_sketches *sketches, const struct slot *slot)
{
    if (slot->chunk != RML_NO_CHUNK && slot->chunk != GATHERED)
        rml_chunks_give(&sketches->chunks, slot->chunk);
}

void rml_fold_sketch_release(const struct rml_fold *fold, struct rml_sketches *sketches,
                             const unsigned char *at)
{
    if (is_kept(fold))
        rml_fold_kept_release(&sketches->chunks, (const void *)at);
    else
        release(sketches, (const void *)at);
}

// Move the sketch to a region of twice the size. Whoever adds has seen to it that there is room.
static void grow(const struct rml_fold *fold, struct rml_sketches *sketches, struct slot *slot)
{
    const struct kind *kind = kind_of(fold);
    uint32_t capacity = slot->capacity > 0 ? slot->capacity * 2 : kind->chunk_bytes;
    RML_CHECK(capacity <= kind->bytes_max(fold));
    uint32_t chunk = rml_chunks_take(&sketches->chunks, capacity);
    RML_CHECK(chunk != RML_NO_CHUNK);
    void *region = rml_chunk_change(sketches->chunks.pages, chunk, capacity);
    if (slot->capacity > 0)
        kind->move(fold, region, capacity, region_of(fold, sketches, slot), slot->capacity);
    else
        kind->init(fold, region, capacity);
    release(sketches, slot);
    slot->chunk = chunk;
    slot->capacity = capacity;
}

static inline struct slot *slot_at(const struct rml_fold *fold, const struct rml_fold_walk *walk,
                                   uint32_t i)
{
    return (void *)((unsigned char *)walk->states[i] + fold->offset);
}

static uint64_t add_quantile(const struct rml_fold *fold, struct rml_sketches *sketches,
                             const struct rml_fold_walk *walk)
{
    uint64_t skipped = 0;
    for (uint32_t i = 0; i < walk->count; i++) {
        double x;
        if (!rml_fold_number(fold, walk, walk->rows[i], &x)) {
            skipped++;
            continue;
        }
        struct slot *slot = slot_at(fold, walk, i);
        slot->values++;
        while (rml_quantile_add(region_to_change(fold, sketches, slot), slot->capacity, x)
               == -ENOSPC)
            grow(fold, sketches, slot);
    }
    return skipped;
}

// The cell, or NULL: it is null or no number.
static const void *cell_at(const struct rml_fold *fold, const struct rml_fold_walk *walk,
                           uint32_t row, double *room)
{
    if (fold->kind == RML_KIND_FLOAT) {
        if (!rml_fold_number(fold, walk, row, room))
            return NULL;
        *room += 0.0;  // the two zeros are one value
        return room;
    }
    const unsigned char *cells = walk->data;
    return walk->null != NULL && walk->null[row] ? NULL : cells + (size_t)row * fold->cell_bytes;
}

static uint64_t add_distinct(const struct rml_fold *fold, struct rml_sketches *sketches,
                             const struct rml_fold_walk *walk)
{
    uint64_t skipped = 0;
    for (uint32_t i = 0; i < walk->count; i++) {
        double room;
        const void *cell = cell_at(fold, walk, walk->rows[i], &room);
        if (cell == NULL) {
            skipped++;
            continue;
        }
        struct slot *slot = slot_at(fold, walk, i);
        slot->values++;
        uint64_t hash = rml_distinct_hash(cell, fold->cell_bytes);
        while (rml_distinct_add(region_to_change(fold, sketches, slot), hash) == -ENOSPC)
            grow(fold, sketches, slot);
    }
    return skipped;
}

static uint64_t add_top(const struct rml_fold *fold, struct rml_sketches *sketches,
                        const struct rml_fold_walk *walk)
{
    uint64_t skipped = 0;
    for (uint32_t i = 0; i < walk->count; i++) {
        double room;
        const void *cell = cell_at(fold, walk, walk->rows[i], &room);
        if (cell == NULL) {
            skipped++;
            continue;
        }
        struct slot *slot = slot_at(fold, walk, i);
        slot->values++;
        if (slot->capacity == 0)
            grow(fold, sketches, slot);
        while (rml_top_add(region_to_change(fold, sketches, slot), cell) == -ENOSPC)
            grow(fold, sketches, slot);
    }
    return skipped;
}

uint64_t rml_fold_sketch_add(const struct rml_fold *fold, struct rml_sketches *sketches,
                             const struct rml_fold_walk *walk)
{
    if (is_kept(fold))
        return rml_fold_kept_add(fold, &sketches->chunks, walk);
    if (fold->needs == RML_FOLD_QUANTILE)
        return add_quantile(fold, sketches, walk);
    return fold->needs == RML_FOLD_DISTINCT ? add_distinct(fold, sketches, walk)
                                            : add_top(fold, sketches, walk);
}

uint64_t rml_fold_growing_add(const struct rml_fold *fold, struct rml_sketches *sketches,
                              const struct rml_column *columns, const struct rml_fold_walk *walk)
{
    struct rml_fold_plugin_rows rows;
    void *states[RML_BATCH_ROWS];
    uint32_t bytes[RML_BATCH_ROWS];
    rml_fold_plugin_choose(fold, columns, walk, &rows);
    uint64_t skipped = walk->count - rows.count;
    for (uint32_t done = 0; done < rows.count;) {
        for (uint32_t i = done; i < rows.count; i++) {
            struct slot *slot = slot_at(fold, walk, rows.from[i]);
            states[i] = region_to_change(fold, sketches, slot);
            bytes[i] = slot->capacity;
        }
        uint32_t end = done + rml_fold_plugin_give(fold, walk, &rows, done, states, bytes);
        for (; done < end; done++)
            slot_at(fold, walk, rows.from[done])->values++;
        if (done == rows.count)
            break;
        struct slot *full = slot_at(fold, walk, rows.from[done]);
        if (full->capacity < fold->call->state_bytes_max) {
            grow(fold, sketches, full);
        } else {
            skipped++;
            done++;
        }
    }
    return skipped;
}

// Only a state that gathers has values of others merged into it; a session absorbs.
static void list_kept(const struct rml_fold *fold, struct rml_sketches *sketches,
                      const struct rml_kept_slot *into, const struct rml_kept_slot *from)
{
    struct rml_kept_list *list = sketches->gathered[fold->index];
    RML_CHECK(into->chunk == GATHERED && list->count < RML_PANES_MAX);
    list->slots[list->count++] = from;
}

void rml_fold_sketch_absorb(const struct rml_fold *fold, struct rml_sketches *sketches,
                            unsigned char *into, unsigned char *from)
{
    if (is_kept(fold))
        rml_fold_kept_absorb(&sketches->chunks, (void *)into, (void *)from);
    else
        rml_fold_sketch_merge(fold, sketches, into, from);
}

// A plug-in is not asked to merge states without values: one takes what the other has.
static void begin_growing(const struct rml_fold *fold, struct rml_sketches *sketches,
                          struct slot *slot, const struct slot *other)
{
    if (other->values == 0)
        return;
    const void *from = region_of(fold, sketches, other);
    while (slot->capacity < other->capacity)
        grow(fold, sketches, slot);
    void *region = region_to_change(fold, sketches, slot);
    if (slot->capacity == other->capacity)
        memcpy(region, from, slot->capacity);
    else
        growing_move(fold, region, slot->capacity, from, other->capacity);
    slot->values = other->values;
}

void rml_fold_sketch_merge(const struct rml_fold *fold, struct rml_sketches *sketches,
                           unsigned char *into, const unsigned char *from)
{
    if (is_kept(fold)) {
        list_kept(fold, sketches, (const void *)into, (const void *)from);
        return;
    }
    struct slot *slot = (void *)into;
    const struct slot *other = (const void *)from;
    if (other->capacity == 0)
        return;
    if (slot->capacity == 0)
        grow(fold, sketches, slot);
    if (fold->needs == RML_FOLD_GROWING && (slot->values == 0 || other->values == 0)) {
        begin_growing(fold, sketches, slot, other);
        return;
    }
    slot->values += other->values;
    const void *region = region_of(fold, sketches, other);
    while (kind_of(fold)->merge(fold, region_to_change(fold, sketches, slot), slot->capacity,
                                region, other->capacity)
           == -ENOSPC)
        grow(fold, sketches, slot);
}

/* Results */

bool rml_fold_growing_result(const struct rml_fold *fold, const struct rml_sketches *sketches,
                             const unsigned char *at, int64_t length_ns, enum rml_type type,
                             void *cell)
{
    const struct slot *slot = (const void *)at;
    const struct rml_plugin_window window = {
        .values = slot->values, .length_ns = length_ns, .state_bytes = slot->capacity};
    return slot->values > 0
           && rml_fold_plugin_result(fold, region_of(fold, sketches, slot), &window, type, cell);
}

bool rml_fold_sketch_quantile(const struct rml_fold *fold, const struct rml_sketches *sketches,
                              const unsigned char *at, double q, double *ret_value)
{
    if (is_kept(fold)) {
        const struct rml_kept_slot *slot = (const void *)at;
        struct rml_kept_list *list = sketches->gathered[fold->index];
        // A result of one slot alone is a list of one.
        if (slot->chunk != GATHERED) {
            list->count = 1;
            list->slots[0] = slot;
        }
        return rml_fold_kept_quantile(&sketches->chunks, list, q, ret_value);
    }
    return rml_quantile_at(region_of(fold, sketches, (const void *)at), q, ret_value);
}

uint64_t rml_fold_sketch_distinct(const struct rml_fold *fold, const struct rml_sketches *sketches,
                                  const unsigned char *at)
{
    return rml_distinct_count(region_of(fold, sketches, (const void *)at));
}

bool rml_fold_sketch_top(const struct rml_fold *fold, struct rml_sketches *sketches,
                         const unsigned char *at, uint32_t part, void *cell)
{
    const struct slot *slot = (const void *)at;
    if (part == 0)
        sketches->top_count = slot->capacity > 0
                                  ? rml_top_list(region_of(fold, sketches, slot),
                                                 (uint32_t)fold->parameters[0], sketches->top)
                                  : 0;
    if (part / RML_TOP_PARTS >= sketches->top_count)
        return false;
    const struct rml_top_entry *entry = sketches->top[part / RML_TOP_PARTS];
    if (part % RML_TOP_PARTS == 0)
        memcpy(cell, entry->key, fold->cell_bytes);
    else
        memcpy(cell, part % RML_TOP_PARTS == 1 ? &entry->count : &entry->error,
               sizeof entry->count);
    return true;
}
