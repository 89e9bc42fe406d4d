#include "runtime/stats/top.h"

#include <errno.h>
#include <string.h>

#include "runtime/base/check.h"
#include "runtime/base/hash.h"

#define SLOTS_PER_ENTRY 2u  // of the index
#define NOWHERE         UINT32_MAX

/* The region */

static uint32_t stride_of(uint32_t key_bytes)
{
    return (uint32_t)sizeof(struct rml_top_entry) + (key_bytes + 7) / 8 * 8;
}

static uint32_t bytes_per_entry(uint32_t key_bytes)
{
    return stride_of(key_bytes) + SLOTS_PER_ENTRY * (uint32_t)sizeof(uint16_t);
}

uint32_t rml_top_bytes_max(uint32_t counters, uint32_t key_bytes)
{
    uint32_t bytes = (uint32_t)sizeof(struct rml_top) + counters * bytes_per_entry(key_bytes);
    return bytes > RML_TOP_BYTES_MIN ? bytes : RML_TOP_BYTES_MIN;
}

void rml_top_init(struct rml_top *sketch, uint32_t capacity, uint32_t counters, uint32_t key_bytes)
{
    RML_CHECK(capacity >= RML_TOP_BYTES_MIN);
    RML_CHECK(counters > 0 && counters <= RML_TOP_COUNTERS_MAX);
    RML_CHECK(key_bytes > 0 && key_bytes <= RML_TOP_KEY_MAX);
    uint32_t fits = (capacity - (uint32_t)sizeof *sketch) / bytes_per_entry(key_bytes);
    fits = fits < counters ? fits : counters;
    memset(sketch, 0, sizeof *sketch + (size_t)fits * bytes_per_entry(key_bytes));
    sketch->counters = (uint16_t)counters;
    sketch->fits = (uint16_t)fits;
    sketch->key_bytes = (uint16_t)key_bytes;
}

static const struct rml_top_entry *entry_at(const struct rml_top *sketch, uint32_t at)
{
    const unsigned char *entries = (const void *)(sketch + 1);
    return (const void *)(entries + (size_t)at * stride_of(sketch->key_bytes));
}

static struct rml_top_entry *entry_to_change(struct rml_top *sketch, uint32_t at)
{
    unsigned char *entries = (void *)(sketch + 1);
    return (void *)(entries + (size_t)at * stride_of(sketch->key_bytes));
}

/* The index: places of entries and one more, linear probing from the hash's home; 0 is empty. */

static const uint16_t *index_of(const struct rml_top *sketch)
{
    return (const void *)entry_at(sketch, sketch->fits);
}

static uint16_t *index_to_change(struct rml_top *sketch)
{
    return (void *)entry_to_change(sketch, sketch->fits);
}

static uint32_t slot_count(const struct rml_top *sketch)
{
    return SLOTS_PER_ENTRY * sketch->fits;
}

static uint32_t home_of(const struct rml_top *sketch, uint32_t hash)
{
    return (uint32_t)(((uint64_t)hash * slot_count(sketch)) >> 32);
}

static uint32_t after(const struct rml_top *sketch, uint32_t slot)
{
    return slot + 1 < slot_count(sketch) ? slot + 1 : 0;
}

static uint32_t find(const struct rml_top *sketch, uint32_t hash, const void *key)
{
    const uint16_t *index = index_of(sketch);
    for (uint32_t slot = home_of(sketch, hash); index[slot] != 0; slot = after(sketch, slot)) {
        const struct rml_top_entry *entry = entry_at(sketch, index[slot] - 1u);
        if (entry->hash == hash && memcmp(entry->key, key, sketch->key_bytes) == 0)
            return index[slot] - 1u;
    }
    return NOWHERE;
}

static void enter(struct rml_top *sketch, uint32_t at)
{
    uint16_t *index = index_to_change(sketch);
    uint32_t slot = home_of(sketch, entry_at(sketch, at)->hash);
    while (index[slot] != 0)
        slot = after(sketch, slot);
    index[slot] = (uint16_t)(at + 1);
}

// How many steps it is from one slot on to another, past the end of the index if need be.
static uint32_t distance(uint32_t from, uint32_t to, uint32_t slots)
{
    return from <= to ? to - from : to + slots - from;
}

// Take an entry out, and close the gap: whoever lies behind it and may lie there moves up.
static void leave(struct rml_top *sketch, uint32_t at)
{
    uint16_t *index = index_to_change(sketch);
    uint32_t gap = home_of(sketch, entry_at(sketch, at)->hash), slots = slot_count(sketch);
    while (index[gap] != at + 1)
        gap = after(sketch, gap);
    for (uint32_t slot = after(sketch, gap); index[slot] != 0; slot = after(sketch, slot)) {
        uint32_t home = home_of(sketch, entry_at(sketch, index[slot] - 1u)->hash);
        if (distance(home, slot, slots) >= distance(gap, slot, slots)) {
            index[gap] = index[slot];
            gap = slot;
        }
    }
    index[gap] = 0;
}

static void fill(struct rml_top *sketch, uint32_t at, uint32_t hash, const void *key)
{
    struct rml_top_entry *entry = entry_to_change(sketch, at);
    entry->hash = hash;
    memcpy(entry->key, key, sketch->key_bytes);
    enter(sketch, at);
}

/* Adding */

// An entry whose count is the least. Each is met once for every value of `least`, in order.
static uint32_t find_least(struct rml_top *sketch)
{
    while (sketch->cursor < sketch->used
           && entry_at(sketch, sketch->cursor)->count != sketch->least)
        sketch->cursor++;
    if (sketch->cursor < sketch->used)
        return sketch->cursor;
    sketch->least = UINT64_MAX;
    for (uint32_t i = sketch->used; i-- > 0;) {
        uint64_t count = entry_at(sketch, i)->count;
        if (count <= sketch->least) {
            sketch->least = count;
            sketch->cursor = (uint16_t)i;
        }
    }
    return sketch->cursor;
}

static uint32_t hash_of(const struct rml_top *sketch, const void *key)
{
    return (uint32_t)rml_key_hash_bytes(key, sketch->key_bytes);
}

int rml_top_add(struct rml_top *sketch, const void *key)
{
    uint32_t hash = hash_of(sketch, key), at = find(sketch, hash, key);
    if (at == NOWHERE && sketch->used == sketch->fits) {
        if (sketch->fits < sketch->counters)
            return -ENOSPC;
        at = find_least(sketch);
        sketch->lossy = 1;
        leave(sketch, at);
        fill(sketch, at, hash, key);
        entry_to_change(sketch, at)->error = sketch->least;
    } else if (at == NOWHERE) {
        at = sketch->used++;
        fill(sketch, at, hash, key);
    }
    entry_to_change(sketch, at)->count++;
    sketch->total++;
    return 0;
}

void rml_top_copy(struct rml_top *into, uint32_t capacity, const struct rml_top *from)
{
    rml_top_init(into, capacity, from->counters, from->key_bytes);
    RML_CHECK(into->fits >= from->used);
    into->total = from->total;
    into->least = from->least;
    into->used = from->used;
    into->cursor = from->cursor;
    into->lossy = from->lossy;
    memcpy(into + 1, from + 1, (size_t)from->used * stride_of(from->key_bytes));
    for (uint32_t i = 0; i < into->used; i++)
        enter(into, i);
}

/* Merging */

// The larger count comes first, equal ones by their bytes.
static bool comes_before(const struct rml_top *sketch, const struct rml_top_entry *a,
                         const struct rml_top_entry *b)
{
    if (a->count != b->count)
        return a->count > b->count;
    return memcmp(a->key, b->key, sketch->key_bytes) < 0;
}

/* Places of entries as a heap: each comes after the two below it, so the first is the last of all. */
struct heap {
    uint16_t places[RML_TOP_COUNTERS_MAX];
    uint32_t count;
};

static void sink(const struct rml_top *sketch, struct heap *heap, uint32_t at)
{
    uint16_t place = heap->places[at];
    for (uint32_t child; (child = 2 * at + 1) < heap->count; at = child) {
        if (child + 1 < heap->count
            && comes_before(sketch, entry_at(sketch, heap->places[child]),
                            entry_at(sketch, heap->places[child + 1])))
            child++;
        if (comes_before(sketch, entry_at(sketch, heap->places[child]), entry_at(sketch, place)))
            break;
        heap->places[at] = heap->places[child];
    }
    heap->places[at] = place;
}

static void make_heap(const struct rml_top *sketch, struct heap *heap)
{
    heap->count = sketch->used;
    for (uint32_t i = 0; i < heap->count; i++)
        heap->places[i] = (uint16_t)i;
    for (uint32_t i = heap->count / 2; i-- > 0;)
        sink(sketch, heap, i);
}

/* An entry on its way, with room for its key. */
union candidate {
    struct rml_top_entry entry;
    unsigned char bytes[sizeof(struct rml_top_entry) + RML_TOP_KEY_MAX];
};

static void store(struct rml_top *sketch, uint32_t at, const struct rml_top_entry *entry)
{
    fill(sketch, at, entry->hash, entry->key);
    entry_to_change(sketch, at)->count = entry->count;
    entry_to_change(sketch, at)->error = entry->error;
}

// All counters are taken: the last of them, or the newcomer, goes.
static void compete(struct rml_top *sketch, struct heap *heap, const struct rml_top_entry *entry)
{
    sketch->lossy = 1;
    uint32_t last = heap->places[0];
    if (!comes_before(sketch, entry, entry_at(sketch, last)))
        return;
    leave(sketch, last);
    store(sketch, last, entry);
    sink(sketch, heap, 0);
}

static uint64_t bound_of_others(struct rml_top *sketch)
{
    if (!sketch->lossy)
        return 0;
    (void)find_least(sketch);
    return sketch->least;
}

static uint64_t bound_of_others_there(const struct rml_top *sketch)
{
    uint64_t least = sketch->lossy ? UINT64_MAX : 0;
    for (uint32_t i = 0; i < sketch->used; i++)
        least = entry_at(sketch, i)->count < least ? entry_at(sketch, i)->count : least;
    return least;
}

int rml_top_merge(struct rml_top *into, const struct rml_top *from)
{
    RML_CHECK(into->counters == from->counters && into->key_bytes == from->key_bytes);
    if (into->fits < into->counters)
        return -ENOSPC;
    uint64_t others_here = bound_of_others(into), others_there = bound_of_others_there(from);
    uint32_t used = into->used;
    bool shared[RML_TOP_COUNTERS_MAX] = {false};
    for (uint32_t i = 0; i < used; i++) {
        struct rml_top_entry *entry = entry_to_change(into, i);
        uint32_t at = find(from, entry->hash, entry->key);
        entry->count += at != NOWHERE ? entry_at(from, at)->count : others_there;
        entry->error += at != NOWHERE ? entry_at(from, at)->error : others_there;
        if (at != NOWHERE)
            shared[at] = true;
    }
    struct heap heap = {.count = 0};
    for (uint32_t i = 0; i < from->used; i++) {
        if (shared[i])
            continue;
        union candidate candidate;
        memcpy(candidate.bytes, entry_at(from, i), stride_of(from->key_bytes));
        candidate.entry.count += others_here;
        candidate.entry.error += others_here;
        if (into->used < into->counters) {
            store(into, into->used++, &candidate.entry);
            continue;
        }
        if (heap.count == 0)
            make_heap(into, &heap);
        compete(into, &heap, &candidate.entry);
    }
    into->total += from->total;
    into->lossy |= from->lossy;
    into->cursor = into->used;  // counts have changed: look for the least anew
    return 0;
}

/* Asking */

uint32_t rml_top_list(const struct rml_top *sketch, uint32_t want,
                      const struct rml_top_entry **ret_entries)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < sketch->used; i++) {
        const struct rml_top_entry *entry = entry_at(sketch, i);
        uint32_t at = count;
        while (at > 0 && comes_before(sketch, entry, ret_entries[at - 1]))
            at--;
        if (at == want)
            continue;
        count += count < want;
        memmove(&ret_entries[at + 1], &ret_entries[at],
                (count - 1 - at) * sizeof(const struct rml_top_entry *));
        ret_entries[at] = entry;
    }
    return count;
}
