/*
 * THE KEY TABLE
 *
 *     hash (mixed once more, so that the bits that chose the partition say nothing here)
 *       first `depth` bits  -> directory -> page
 *       low 32 bits         -> home bucket in the page
 *       high 32 bits        -> tag
 *
 * A page is 256 lines of 64 bytes: line 0 its header, the other 255 a bucket each:
 *
 *     tag[7]  slot[7]  far[7]  passed
 *
 * tag 0 is an empty place. A key whose home bucket is full goes to the next one with room; `far` says
 * how many buckets it went, and each bucket it went over counts it in `passed`. So a search ends at
 * the first bucket that nobody passed, a removed key leaves no tombstone, and when a page splits
 * the counts can be mended from the entries that leave, without reading any key.
 */
#include "runtime/state/keys.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>

#include "runtime/base/check.h"
#include "runtime/base/err.h"
#include "runtime/base/hash.h"

#ifdef __AVX2__
# include <immintrin.h>
#endif

#define BUCKET_KEYS    7u
#define PAGE_BUCKETS   255u
#define PAGE_KEYS_FULL (PAGE_BUCKETS * BUCKET_KEYS * 3 / 4)
#define FAR_MAX        200u
#define DEPTH_MAX      22u
#define SLOTS_END      UINT32_MAX

struct bucket {
    uint32_t tag[BUCKET_KEYS];
    uint32_t slot[BUCKET_KEYS];
    uint8_t far[BUCKET_KEYS];
    uint8_t passed;
};

struct page {
    uint32_t depth;  // leading hash bits that all its keys share
    uint32_t count;
    uint32_t unused[14];
    struct bucket buckets[PAGE_BUCKETS];
};

_Static_assert(sizeof(struct bucket) == 64, "a bucket is a cache line");
_Static_assert(sizeof(struct page) == RML_PAGE_BYTES, "a page is a page");

static uint64_t mix(uint64_t hash)
{
    hash *= UINT64_C(0x9e3779b97f4a7c15);  // 2^64 / golden ratio: spreads neighbours apart
    return hash ^ (hash >> 32);
}

static uint32_t tag_of(uint64_t mixed)
{
    uint32_t tag = (uint32_t)(mixed >> 32);
    return tag != 0 ? tag : 1;
}

static uint32_t home_of(uint64_t mixed)
{
    return (uint32_t)(((mixed & UINT32_MAX) * PAGE_BUCKETS) >> 32);
}

static uint32_t next_bucket(uint32_t bucket)
{
    return bucket + 1 < PAGE_BUCKETS ? bucket + 1 : 0;
}

static uint32_t directory_index(const struct rml_keys *keys, uint64_t mixed)
{
    return (uint32_t)((uint64_t)tag_of(mixed) >> (32 - keys->depth));
}

static struct page *page_of(const struct rml_keys *keys, uint64_t mixed)
{
    return rml_page(keys->pages, keys->directory[directory_index(keys, mixed)]);
}

// A bit for each place of the bucket whose tag is `tag`.
static unsigned match(const struct bucket *bucket, uint32_t tag)
{
#ifdef __AVX2__
    // Eight words from the bucket's start are the seven tags and the first slot, which the mask cuts.
    __m256i words = _mm256_loadu_si256((const void *)bucket);
    __m256i equal = _mm256_cmpeq_epi32(words, _mm256_set1_epi32((int)tag));
    return (unsigned)_mm256_movemask_ps(_mm256_castsi256_ps(equal)) & 0x7f;
#else
    unsigned found = 0;
    for (unsigned i = 0; i < BUCKET_KEYS; i++)
        found |= (unsigned)(bucket->tag[i] == tag) << i;
    return found;
#endif
}

static bool same_key(const struct rml_keys *keys, uint32_t slot, const void *key)
{
    const struct rml_key_row *row = rml_keys_row(keys, slot);
    if (keys->key_bytes == 8)  // the commonest size, without a call
        return memcmp(row->key, key, 8) == 0;
    return memcmp(row->key, key, keys->key_bytes) == 0;
}

static uint32_t find(const struct rml_keys *keys, const struct page *page, uint64_t mixed,
                     const void *key)
{
    uint32_t at = home_of(mixed), tag = tag_of(mixed);
    for (uint32_t far = 0; far <= FAR_MAX; far++, at = next_bucket(at)) {
        const struct bucket *bucket = &page->buckets[at];
        for (unsigned found = match(bucket, tag); found != 0; found &= found - 1) {
            uint32_t slot = bucket->slot[__builtin_ctz(found)];
            if (same_key(keys, slot, key))
                return slot;
        }
        if (bucket->passed == 0)
            return RML_NO_SLOT;
    }
    return RML_NO_SLOT;
}

uint32_t rml_keys_find(const struct rml_keys *keys, uint64_t hash, const void *key)
{
    uint64_t mixed = mix(hash);
    return find(keys, page_of(keys, mixed), mixed, key);
}

// How far from its home bucket the next free place is; FAR_MAX + 1 when all near ones are taken.
static uint32_t distance_to_room(const struct page *page, uint32_t home)
{
    uint32_t at = home, far = 0;
    while (far <= FAR_MAX
           && (match(&page->buckets[at], 0) == 0 || page->buckets[at].passed == UINT8_MAX)) {
        if (page->buckets[at].passed == UINT8_MAX)
            return FAR_MAX + 1;
        at = next_bucket(at);
        far++;
    }
    return far;
}

static void put(struct page *page, uint32_t home, uint32_t far, uint32_t tag, uint32_t slot)
{
    uint32_t at = home;
    for (uint32_t i = 0; i < far; i++, at = next_bucket(at))
        page->buckets[at].passed++;
    struct bucket *bucket = &page->buckets[at];
    unsigned place = (unsigned)__builtin_ctz(match(bucket, 0));
    bucket->tag[place] = tag;
    bucket->slot[place] = slot;
    bucket->far[place] = (uint8_t)far;
    page->count++;
}

static void take_out(struct page *page, uint32_t at, unsigned place)
{
    struct bucket *bucket = &page->buckets[at];
    uint32_t over = at;
    for (uint32_t i = bucket->far[place]; i > 0; i--) {
        over = over > 0 ? over - 1 : PAGE_BUCKETS - 1;
        page->buckets[over].passed--;
    }
    bucket->tag[place] = 0;
    page->count--;
}

// Remove the keys whose first differing hash bit is not `side`.
static void keep_side(struct page *page, uint32_t bit, uint32_t side)
{
    for (uint32_t at = 0; at < PAGE_BUCKETS; at++) {
        for (unsigned place = 0; place < BUCKET_KEYS; place++) {
            uint32_t tag = page->buckets[at].tag[place];
            if (tag != 0 && (tag >> bit & 1) != side)
                take_out(page, at, place);
        }
    }
}

static bool double_directory(struct rml_keys *keys)
{
    if (keys->depth == DEPTH_MAX)
        return false;
    for (uint32_t i = 1u << keys->depth; i-- > 0;) {
        keys->directory[2 * i] = keys->directory[i];
        keys->directory[2 * i + 1] = keys->directory[i];
    }
    keys->depth++;
    return true;
}

static bool split(struct rml_keys *keys, uint64_t mixed)
{
    struct page *low = page_of(keys, mixed);
    if (low->depth == keys->depth && !double_directory(keys))
        return false;
    uint32_t twin = rml_pages_take(keys->pages);
    if (twin == RML_NO_PAGE)
        return false;
    struct page *high = rml_page(keys->pages, twin);
    low->depth++;
    memcpy(high, low, sizeof *high);
    uint32_t bit = 32 - low->depth;
    keep_side(low, bit, 0);
    keep_side(high, bit, 1);

    // Of the directory entries that named the old page, the upper half names the new one.
    uint32_t span = 1u << (keys->depth - low->depth);
    uint32_t first = directory_index(keys, mixed) / span | 1;
    for (uint32_t i = 0; i < span; i++)
        keys->directory[first * span + i] = twin;
    return true;
}

static uint32_t take_slot(struct rml_keys *keys, const void *key)
{
    if (keys->count >= keys->keys_max)
        return RML_NO_SLOT;
    uint32_t slot = keys->free_slot != SLOTS_END ? keys->free_slot : keys->slots_used;
    struct rml_key_row *row = rml_rows_reach(&keys->rows, keys->pages, keys->row_shape, slot);
    if (row == NULL)
        return RML_NO_SLOT;
    if (slot == keys->free_slot)
        keys->free_slot = row->next_free;
    else
        keys->slots_used++;
    row->uses = 0;
    memcpy(row->key, key, keys->key_bytes);
    keys->count++;
    return slot;
}

static uint32_t insert(struct rml_keys *keys, uint64_t mixed, const void *key)
{
    struct page *page = page_of(keys, mixed);
    uint32_t home = home_of(mixed);
    uint32_t far = distance_to_room(page, home);
    while (page->count >= PAGE_KEYS_FULL || far > FAR_MAX) {
        if (!split(keys, mixed))
            return RML_NO_SLOT;
        page = page_of(keys, mixed);
        far = distance_to_room(page, home);
    }
    uint32_t slot = take_slot(keys, key);
    if (slot != RML_NO_SLOT)
        put(page, home, far, tag_of(mixed), slot);
    return slot;
}

// One look-up of a block on its way: its bucket, then the row of the key that has its tag.
struct search {
    uint64_t mixed;
    const struct bucket *home;
    const struct rml_key_row *row;  // NULL: the home bucket has no such tag
};

static void fetch_buckets(const struct rml_keys *keys, const uint64_t *hashes, uint32_t count,
                          struct search *searches)
{
    for (uint32_t i = 0; i < count; i++) {
        uint64_t mixed = mix(hashes[i]);
        searches[i].mixed = mixed;
        searches[i].home = &page_of(keys, mixed)->buckets[home_of(mixed)];
        __builtin_prefetch(searches[i].home);
    }
}

static void fetch_rows(const struct rml_keys *keys, uint32_t count, struct search *searches,
                       uint32_t *slots)
{
    for (uint32_t i = 0; i < count; i++) {
        const struct bucket *home = searches[i].home;
        unsigned found = match(home, tag_of(searches[i].mixed));
        searches[i].row = NULL;
        if (found != 0) {
            slots[i] = home->slot[__builtin_ctz(found)];
            searches[i].row = rml_keys_row(keys, slots[i]);
            __builtin_prefetch(searches[i].row);
        }
    }
}

// What the tag promised is nearly always so; the rest goes the long way, where it also sees keys that
// this very block has inserted.
__attribute__((always_inline)) static inline void
settle(struct rml_keys *keys, const unsigned char *cells, uint32_t key_bytes, uint32_t count,
       const struct search *searches, uint32_t *slots)
{
    for (uint32_t i = 0; i < count; i++) {
        const unsigned char *key = cells + (size_t)i * key_bytes;
        if (searches[i].row != NULL && memcmp(searches[i].row->key, key, key_bytes) == 0)
            continue;
        uint64_t mixed = searches[i].mixed;
        slots[i] = find(keys, page_of(keys, mixed), mixed, key);
        if (slots[i] == RML_NO_SLOT)
            slots[i] = insert(keys, mixed, key);
    }
}

void rml_keys_reach(struct rml_keys *keys, const uint64_t *hashes, const void *key_cells,
                    uint32_t count, uint32_t *slots)
{
    RML_CHECK(count <= RML_KEYS_BLOCK);
    struct search searches[RML_KEYS_BLOCK];
    fetch_buckets(keys, hashes, count, searches);
    fetch_rows(keys, count, searches, slots);
    // the commonest sizes as constants, compared without a call
    if (keys->key_bytes == 8)
        settle(keys, key_cells, 8, count, searches, slots);
    else if (keys->key_bytes == 16)
        settle(keys, key_cells, 16, count, searches, slots);
    else
        settle(keys, key_cells, keys->key_bytes, count, searches, slots);
}

void rml_keys_drop(struct rml_keys *keys, uint32_t slot)
{
    struct rml_key_row *row = rml_keys_row(keys, slot);
    RML_CHECK(row->uses == 0);
    uint64_t mixed = mix(rml_key_hash_bytes(row->key, keys->key_bytes));
    struct page *page = page_of(keys, mixed);
    uint32_t at = home_of(mixed);
    for (uint32_t far = 0; far <= FAR_MAX; far++, at = next_bucket(at)) {
        struct bucket *bucket = &page->buckets[at];
        for (unsigned found = match(bucket, tag_of(mixed)); found != 0; found &= found - 1) {
            unsigned place = (unsigned)__builtin_ctz(found);
            if (bucket->slot[place] != slot)
                continue;
            take_out(page, at, place);
            row->next_free = keys->free_slot;
            keys->free_slot = slot;
            keys->count--;
            return;
        }
    }
    RML_UNREACHABLE("a slot with a key stands in its page");
}

int rml_keys_open(struct rml_keys *keys, struct rml_pages *pages, uint32_t key_bytes,
                  uint32_t keys_max, struct rml_err *err)
{
    *keys = (struct rml_keys){.pages = pages,
                              .key_bytes = key_bytes,
                              .keys_max = keys_max,
                              .free_slot = SLOTS_END,
                              .row_shape =
                                  rml_rows_shape((uint32_t)sizeof(struct rml_key_row) + key_bytes)};
    if (keys_max > rml_rows_max(keys->row_shape))
        return RML_FAIL(err, -EINVAL, "max_keys %u: keys of %u bytes allow %llu", keys_max,
                        key_bytes, (unsigned long long)rml_rows_max(keys->row_shape));

    // Reserved for the deepest directory, touched as it doubles.
    void *directory = mmap(NULL, sizeof(uint32_t) << DEPTH_MAX, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (directory == MAP_FAILED)
        return RML_FAIL(err, -ENOMEM, "no address space for a key directory: %s", strerror(errno));
    keys->directory = directory;
    keys->directory[0] = rml_pages_take(pages);
    if (keys->directory[0] == RML_NO_PAGE) {
        rml_keys_close(keys);
        return RML_FAIL(err, -ENOMEM, "state_limit leaves no page for keys");
    }
    return 0;
}

void rml_keys_close(struct rml_keys *keys)
{
    if (keys->directory != NULL)
        munmap(keys->directory, sizeof(uint32_t) << DEPTH_MAX);
    *keys = (struct rml_keys){0};
}
